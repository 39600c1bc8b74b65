#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Waits until all services of the nodes have started. For each it prints a line: its host key, and after a semicolon the
# snapshot that it started from, when it is as it was then.
# Usage: wait.sh CONTAINER ...
set -euo pipefail

for node; do
    deadline=$((SECONDS + 60))
    # shellcheck disable=SC2016 # it is the node's shell that expands this
    until line=$(timeout 60 docker exec "$node" sh -c '
        systemctl is-system-running --wait >/dev/null
        systemctl --quiet is-active ssh.service && echo "$(cat /etc/ssh/ssh_host_ed25519_key.pub);$(cat /etc/lab-snapshot 2>/dev/null)"
    ' 2>/dev/null); do
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "The node $node did not bring up SSH within a minute; 'docker exec $node journalctl --no-pager --priority warning' says why." >&2
            exit 1
        fi
        sleep 0.3
    done
    echo "$line"
done
