#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Prints which of libvirt's drivers can run a box on this machine: kvm, or qemu, which emulates the processor.
# Usage: driver.sh BOX.  Run as root, in workstation.sh.
#
# That /dev/kvm can be opened proves little: inside some virtual machines it is there, and what runs on it hangs.
# So the box's own kernel has to come as far as its first process.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
# shellcheck source=tools/vagrant/common.sh
. "$here/common.sh"

files=$VAGRANT_HOME/boxes/${1//\//-VAGRANTSLASH-}/0/libvirt
seconds=20

boots_with_kvm() {
    local log qemu status=1
    [ -w /dev/kvm ] || return 1
    log=$(mktemp)
    timeout "$seconds" qemu-system-x86_64 -enable-kvm -cpu host -m 512 -nodefaults -no-user-config -display none -no-reboot \
        -serial stdio -kernel "$files/vmlinuz" -initrd "$files/initrd.img" -append 'console=ttyS0 panic=-1' </dev/null >"$log" 2>&1 &
    qemu=$!
    while kill -0 "$qemu" 2>/dev/null && [ "$status" != 0 ]; do
        sleep 0.2
        if grep --quiet 'as init process' "$log"; then status=0; fi
    done
    kill "$qemu" 2>/dev/null || true
    wait "$qemu" || true
    rm "$log"
    return "$status"
}

if boots_with_kvm 2>/dev/null; then echo kvm; else echo qemu; fi
