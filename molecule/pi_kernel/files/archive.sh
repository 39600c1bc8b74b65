#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# archive.sh PACK ARCHIVE RELEASE ARCHITECTURE: an archive as the role makes it, of files that are no kernel. It shows where things
# go and what the firmware is told; whether a kernel runs is shown by "make pi-kernel-boot".
set -eu
pack=$1 archive=$2 release=$3 architecture=$4
image=kernel7.img
[ "$architecture" = arm ] || image=kernel8.img
staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
mkdir -p "$staged/boot" "$staged/lib/modules/$release/kernel"
head -c 1000000 /dev/urandom >"$staged/boot/$image"
for board in rpi-3-b rpi-3-b-plus; do
    echo "no device tree" >"$staged/boot/bcm2837-$board.dtb"
done
echo "no module" >"$staged/lib/modules/$release/kernel/none.ko"
python3 "$pack" "$staged" "$archive" "{\"release\": \"$release\", \"architecture\": \"$architecture\", \"image\": \"$image\"}"
