#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# place.sh ARCHIVE BOOT RELEASE: puts a kernel beside those that are there: BOOT/fog/RELEASE and /lib/modules/RELEASE. What was
# there stays until the new files are whole; when something fails, only they go.
set -eu
sums=$(mktemp)
archive=$1 release=$3
boot=$2/fog/$release modules=/lib/modules/$release
trap 'rm -rf "$boot.new" "$modules.new" "$sums"' EXIT
rm -rf "$boot.new" "$modules.new"
mkdir -p "$boot.new" "$modules.new"
# The boot partition is FAT, which knows no owner.
tar -xzf "$archive" -C "$boot.new" --no-same-owner --no-same-permissions --strip-components=1 boot
tar -xzf "$archive" -C "$modules.new" --no-same-owner --strip-components=3 "lib/modules/$release"
(cd "$boot.new" && find . -type f -exec sha256sum {} + >"$sums")
cp "$sums" "$boot.new/SHA256SUMS"
# Without the lists that depmod may write anew.
(cd "$modules.new" && find . -type f ! -name 'modules.*' -exec sha256sum {} + >"$sums")
cp "$sums" "$modules.new/SHA256SUMS"
tar -xzOf "$archive" manifest.json >"$boot.new/manifest.json"
sync
rm -rf "$boot" "$modules"
mv "$modules.new" "$modules"
mv "$boot.new" "$boot"
sync
