#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Can this machine's kernel carry fog servers as containers? Tries what they need, in throwaway namespaces.
# Prints the first thing that is missing, in one sentence, and ends with 1.
set -u

missing() {
    echo "$1"
    exit 1
}

[ -e /proc/sys/kernel/ns_last_pid ] ||
    missing "This machine's kernel lacks CONFIG_CHECKPOINT_RESTORE, without which CRIU cannot work."
grep -q ' /sys/fs/cgroup[ /]' /proc/mounts ||
    missing "No control groups are mounted under /sys/fs/cgroup; Docker needs them."
unshare --mount --net --pid --uts --ipc --fork true 2>/dev/null ||
    missing "This machine does not let root make mount, network, PID, UTS and IPC namespaces."
unshare --mount sh -c 'mount -t tmpfs none /mnt && mkdir /mnt/l /mnt/u /mnt/w /mnt/m &&
    mount -t overlay -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w none /mnt/m' 2>/dev/null ||
    missing "This machine's kernel lacks the overlay file system (CONFIG_OVERLAY_FS), or does not let root mount it."
unshare --net sh -c 'ip link add veth0 type veth peer name veth1 && ip link add br0 type bridge' 2>/dev/null ||
    missing "This machine's kernel lacks virtual Ethernet pairs or bridges (CONFIG_VETH, CONFIG_BRIDGE)."
unshare --net iptables -t nat -A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE 2>/dev/null ||
    missing "iptables cannot make NAT rules on this machine's kernel (CONFIG_IP_NF_NAT or CONFIG_NFT_NAT)."
