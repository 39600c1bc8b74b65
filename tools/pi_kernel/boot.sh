#!/bin/bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# boot.sh [arm64|arm ...]: builds the Pi's kernels with the role pi_kernel, boots each on an emulated Pi with Debian on its SD card, and has CRIU
# dump and restore a process there, post-copy included. Runs as root. About an hour the first time on two cores, some minutes when nothing has changed.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${FOG_PI_DIR:-$HOME/.cache/fog-migration/pi-kernel-boot}
architectures=("$@")
[ $# -gt 0 ] || architectures=(arm64 arm)
if [ "$(id -u)" != 0 ]; then
    echo 'Root is needed: Debian is unpacked onto an SD card here.' >&2
    exit 1
fi
mkdir -p "$folder"
say() { printf '==> %s %s\n' "$(date +%T)" "$*"; }

say "Kernels for ${architectures[*]}"
(cd playbooks && ansible-playbook ../tools/pi_kernel/build.yml -e "folder=$folder"     -e "{\"architectures\": [$(printf '"%s",' "${architectures[@]}" | sed 's/,$//')]}")

failed=0
for architecture in "${architectures[@]}"; do
    card=$folder/$architecture.img log=$folder/$architecture.log
    say "SD card for $architecture"
    if [ "$architecture" = arm64 ]; then
        tools/pi_kernel/card.sh arm64 "$card"
    else
        criu=$folder/criu-armhf.tar.gz
        # Debian has no CRIU for armhf: the role criu's way of making one.
        FOG_RELEASE=trixie FOG_ARCHITECTURE=armhf FOG_SOURCE=suite:forky FOG_IDENTITY=trixie-armhf-forky FOG_FREE_WANTED=2048 FOG_RESULT=$criu             sh roles/criu/files/build.sh
        tools/pi_kernel/card.sh armhf "$card" "$criu"
    fi
    say "Booting $architecture ($log)"
    began=$SECONDS
    tools/pi_kernel/qemu.sh "$architecture" "$folder/$architecture" "$card" "$log" || echo "QEMU ended with $?"
    say "$architecture: $((SECONDS - began)) s in QEMU"
    tr -d '\r' <"$log" | grep -a '^fog:' | sed 's/^fog:/    /' || tail -n 20 "$log"
    for wanted in 'check plain yes' 'check uffd yes' 'test cold passed' 'test lazy passed' end; do
        if ! grep -qa "^fog:$wanted" "$log"; then
            echo "    MISSING: $wanted"
            failed=1
        fi
    done
done
[ $failed = 0 ] || { say 'Not everything works.'; exit 1; }
say "CRIU dumps and restores on ${architectures[*]}, and post-copy works."
