#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Starts a Docker engine of the lab's own in directory $1, where its configuration lies, and writes down there
# what stop.sh has to put back: once, an engine that was killed has not put it back.
set -eu

engine=$1
PATH=$PATH:/usr/sbin:/sbin

if [ ! -f "$engine/ip_forward" ]; then
    iptables -S FORWARD | head -n 1 >"$engine/forward_policy"
    # DOCKER_OUTPUT and DOCKER_POSTROUTING are not an engine's: every container with Docker's own DNS has them.
    if iptables-save | grep -Eq 'DOCKER([^_]|$)'; then
        touch "$engine/rules_were_here"
    fi
    [ -e /etc/docker/key.json ] || touch "$engine/key_is_new"
    cat /proc/sys/net/ipv4/ip_forward >"$engine/ip_forward"
fi
exec start-stop-daemon --start --background --pidfile "$engine/dockerd.pid" --output "$engine/dockerd.log" \
    --exec "$(command -v dockerd)" -- --config-file "$engine/daemon.json"
