#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# look.sh BOOT RELEASE: what the role must know of a Pi, as one line of JSON. BOOT may be "auto", RELEASE empty. Changes nothing.
boot=$1 release=$2
if [ "$boot" = auto ]; then
    boot=
    for candidate in /boot/firmware /boot; do
        [ -z "$boot" ] && [ -e "$candidate/config.txt" ] && boot=$candidate
    done
fi

# In quotes, without what would break them.
string() { printf '"%s"' "$(printf '%s' "$1" | tr -d '\000"\\\n')"; }
exists() { [ -e "$1" ] && printf true || printf false; }
free() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 {print $4}' | grep . || echo 0; }

# Firmware that can boot once from tryboot.txt says so in the device tree from 2022 on; it is there from the end of 2020 on.
tryboot=false
year=$(vcgencmd version 2>/dev/null | head -n 1 | awk '{print $3}')
if [ -e /proc/device-tree/chosen/bootloader/tryboot ] || [ "${year:-0}" -ge 2021 ] 2>/dev/null; then
    tryboot=true
fi

modules=/lib/modules
[ -d "$modules" ] || modules=/lib

placed=false
if [ -n "$boot" ] && [ -n "$release" ] && [ -e "$boot/fog/$release/SHA256SUMS" ] && [ -e "/lib/modules/$release/SHA256SUMS" ]; then
    (cd "$boot/fog/$release" && sha256sum --status -c SHA256SUMS) &&
        (cd "/lib/modules/$release" && sha256sum --status -c SHA256SUMS) && placed=true
fi

printf '{"model": %s, ' "$(string "$(tr -d '\000' 2>/dev/null </proc/device-tree/model)")"
printf '"running": %s, "machine": %s, ' "$(string "$(uname -r)")" "$(string "$(uname -m)")"
printf '"system": %s, ' "$(string "$(dpkg --print-architecture 2>/dev/null)")"
printf '"boot": %s, "config": %s, ' "$(string "$boot")" "$(exists "$boot/config.txt")"
printf '"mode": %s, ' "$(string "$(stat -c 0%a "$boot/config.txt" 2>/dev/null)")"
printf '"cmdline": %s, ' "$(exists "$boot/cmdline.txt")"
printf '"boot_free": %d, "modules_free": %d, ' "$(free "$boot")" "$(free "$modules")"
printf '"tryboot": %s, "placed": %s, ' "$tryboot" "$placed"
printf '"trial": %s, "systemd": %s, ' "$(exists "$boot/fog/trial")" "$(exists /run/systemd/system)"
printf '"criu": %s}\n' "$(command -v criu >/dev/null && printf true || printf false)"
