#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Compiles the configured kernel and puts what the Pi needs into OBJECTS/staged. Everything comes in the environment, see
# tasks/build/compile.yml.
set -euo pipefail
cd "$OBJECTS"
exec 9>lock
flock 9
arguments=()
while IFS= read -r argument; do
    [ -z "$argument" ] || arguments+=("$argument")
done <<<"$MAKE_ARGUMENTS"
# The same user, host and time in every build: the same inputs make the same kernel.
export KBUILD_BUILD_USER=fog KBUILD_BUILD_HOST=migration KBUILD_BUILD_TIMESTAMP KBUILD_BUILD_VERSION=1
KBUILD_BUILD_TIMESTAMP=$(date --utc --date "@$(stat --format %Y "$TREE/Makefile")")
# An empty LOCALVERSION: the tree's own state is not told in the release.
make=(nice -n "$NICE" make -C "$TREE" O="$OBJECTS" ARCH="$ARCH" CROSS_COMPILE="$CROSS_COMPILE" LOCALVERSION= "${arguments[@]}")

run() {
    if ! "$@" >>compile.log 2>&1; then
        reason=$(grep -m 1 -E '(error: |undefined reference|No space left|No rule to make|\*\*\* )' compile.log || tail -n 1 compile.log)
        echo "$reason (all of it is in $OBJECTS/compile.log)" >&2
        exit 1
    fi
}
: >compile.log
run "${make[@]}" -j "$JOBS" "$IMAGE" modules dtbs

release=$(cat include/config/kernel.release)
rm -rf staged
mkdir -p staged/boot/overlays
run "${make[@]}" INSTALL_MOD_PATH="$OBJECTS/staged" INSTALL_MOD_STRIP=1 modules_install
# They point to this host's folders.
rm -f staged/lib/modules/"$release"/{build,source}
cp "arch/$ARCH/boot/$IMAGE" "staged/boot/$BOOT_IMAGE"
# Of all boards, those that this kernel runs on; in Raspberry Pi's trees there are overlays, too.
find "$DTBS" \( -name 'bcm2709*.dtb' -o -name 'bcm2710*.dtb' -o -name 'bcm2836*.dtb' -o -name 'bcm2837*.dtb' \) -exec cp -t staged/boot {} +
find "$DTBS" -path '*/overlays/*' \( -name '*.dtbo' -o -name '*.dtb' \) -exec cp -t staged/boot/overlays {} +
if [ -e "$TREE/$DTBS/overlays/README" ]; then
    cp "$TREE/$DTBS/overlays/README" staged/boot/overlays
fi
rmdir --ignore-fail-on-non-empty staged/boot/overlays
cp System.map staged/boot/System.map
cp .config staged/boot/config
echo "$release"
