#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Stops the Docker engine that start.sh started in directory $1 (its sockets and mounts are in $2), takes its rules
# and mounts away, and removes both directories.
set -eu

engine=$1
run=$2
PATH=$PATH:/usr/sbin:/sbin

# Only the process that this file names, and only if it is dockerd.
if [ -f "$engine/dockerd.pid" ]; then
    start-stop-daemon --stop --quiet --oknodo --retry 30 --pidfile "$engine/dockerd.pid" --exec "$(command -v dockerd)"
fi

if [ -f "$engine/ip_forward" ] && [ ! -f "$engine/rules_were_here" ]; then
    for table in raw mangle nat filter; do
        iptables-save -t "$table" | sed -E '/DOCKER([^_]|$)/d' | iptables-restore --table="$table"
    done
    # "-P FORWARD ACCEPT", as it was.
    # shellcheck disable=SC2046
    iptables $(cat "$engine/forward_policy")
    cat "$engine/ip_forward" >/proc/sys/net/ipv4/ip_forward
fi

awk -v a="$engine/" -v b="$run/" 'index($2, a) == 1 || index($2, b) == 1 {print $2}' /proc/mounts | sort -r |
    while read -r mount; do
        # What has just ended may hold it for a moment.
        seconds=0
        until why=$(umount "$mount" 2>&1); do
            seconds=$((seconds + 1))
            if [ "$seconds" -gt 20 ]; then
                echo "$why" >&2
                exit 1
            fi
            sleep 1
        done
    done
if [ -f "$engine/key_is_new" ]; then
    rm -f /etc/docker/key.json
    rmdir --ignore-fail-on-non-empty /etc/docker
fi
rm -rf "$engine" "$run"
find /run/docker /run/containerd -depth -type d -empty -delete 2>/dev/null || true
