#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Removes the bridges with address $1 that no network of the engine has, with the engine's rules for them. An engine that
# was killed leaves them, and this machine would look for the nodes behind them. Prints the name of each.
set -eu

address=$1
PATH=$PATH:/usr/sbin:/sbin

known=$(docker network ls --quiet --filter driver=bridge)
ip -4 -oneline address show to "$address" type bridge | while read -r _ bridge _; do
    for network in $known; do
        [ "$bridge" != "br-$network" ] || continue 2
    done
    if [ -n "$(ls "/sys/class/net/$bridge/brif")" ]; then
        echo "Interface $bridge of this machine has the address $address of the lab's subnet, and is in use; set lab_subnet to another one." >&2
        exit 1
    fi
    for table in raw mangle nat filter; do
        iptables-save -t "$table" | sed "/ $bridge /d" | iptables-restore --table="$table"
    done
    ip link delete "$bridge"
    echo "$bridge"
done
