#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A defconfig, our wishes merged into it, and whatever follows from both. Prints "configured" when it had to be done.
# TREE, OBJECTS, ARCH, CROSS_COMPILE, DEFCONFIG, MAKE_ARGUMENTS and KEY come in the environment.
set -euo pipefail
mkdir -p "$OBJECTS"
exec 9>"$OBJECTS/lock"
flock 9
cd "$OBJECTS"
# The stamp goes with the very file, which somebody may have changed by hand.
stamp() { echo "$KEY $(sha256sum .config | cut -d ' ' -f 1)"; }
if [ -e .config ] && [ "$(cat configured 2>/dev/null)" = "$(stamp)" ]; then
    exit 0
fi

run() {
    if ! env -u KEY -u OBJECTS "$@" >configure.log 2>&1; then
        grep -E '\*\*\*|[Ee]rror' configure.log | head -n 1 >&2 || tail -n 1 configure.log >&2
        exit 1
    fi
}
arguments=()
while IFS= read -r argument; do
    [ -z "$argument" ] || arguments+=("$argument")
done <<<"$MAKE_ARGUMENTS"
make=(make -C "$TREE" O="$OBJECTS" ARCH="$ARCH" CROSS_COMPILE="$CROSS_COMPILE" "${arguments[@]}")
rm -f .config configured
run "${make[@]}" "$DEFCONFIG"
run "$TREE/scripts/kconfig/merge_config.sh" -m -O "$OBJECTS" .config wishes.config
run "${make[@]}" olddefconfig
stamp >configured
echo configured
