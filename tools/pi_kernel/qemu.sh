#!/bin/bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# qemu.sh ARCHITECTURE FOLDER CARD LOG: boots the kernel in FOLDER (an unpacked archive of the role pi_kernel) with the SD card on an
# emulated Pi, and waits until it switches off.
set -euo pipefail
architecture=$1 boot=$2/boot card=$3 log=$4
# QEMU's Pi 3 starts in 64 bits only; the 32-bit kernel, which is the same for both, runs on its Pi 2.
case $architecture in
    arm64) machine=raspi3b image=kernel8.img board=bcm2837-rpi-3-b-plus ;;
    arm) machine=raspi2b image=kernel7.img board=bcm2836-rpi-2-b ;;
esac
rm -f "$log" "$log.second"
timeout "${QEMU_TIMEOUT:-1800}" qemu-system-aarch64 -M "$machine" -kernel "$boot/$image" -dtb "$boot/$board.dtb" \
    -drive "file=$card,if=sd,format=raw,snapshot=on" \
    -append "console=ttyAMA0,115200 root=/dev/mmcblk0 rootwait rw init=/init.sh panic=10" \
    -display none -monitor none -no-reboot -serial "file:$log" -serial "file:$log.second"
