#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Waits until Docker answers, at most so many seconds, and that it goes on running. Usage: wait.sh SECONDS SINCE
# The answer: "fog:version=...", or "fog:said=..." with the last of what dockerd wrote into the journal since (seconds of 1970).
set -u
export LC_ALL=C PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
unset DOCKER_HOST DOCKER_CONTEXT

pid() { systemctl show --property MainPID docker.service | cut -d= -f2; }

end=$(($(date +%s) + $1))
while [ "$(date +%s)" -lt "$end" ] && ! systemctl --quiet is-failed docker.service; do
    before=$(pid)
    if [ "$before" != 0 ] && version=$(timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null); then
        sleep 1
        if [ "$(pid)" = "$before" ]; then
            echo "fog:version=$version"
            exit 0
        fi
    fi
    sleep 1
done

said=$(journalctl --quiet --no-pager --output cat --since "@$2" _SYSTEMD_UNIT=docker.service 2>/dev/null |
    grep -vE 'level=(info|debug)' | awk '!seen[$0]++' | tail -n 4 | paste -sd '|' - | sed 's/|/ | /g')
[ -n "$said" ] || said=$(systemctl status --no-pager --lines 0 docker.service 2>&1 | sed -n 's/^ *Active: //p')
echo "fog:said=$said"
