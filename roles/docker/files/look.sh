#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Looks at a host, and changes nothing: which Docker it has and what that is doing, and what a Docker needs of the system.
# Every line of the answer is "fog:KEY=VALUE".
set -u
export LC_ALL=C PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
unset DOCKER_HOST DOCKER_CONTEXT

say() { printf 'fog:%s=%s\n' "$1" "$2"; }

yes_no() { if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }

# --- The system

say now "$(date +%s)"
say systemd "$(yes_no test -d /run/systemd/system)"
say architecture "$(dpkg --print-architecture 2>/dev/null || uname -m)"
say apt "$(apt-get --version 2>/dev/null | sed -n '1s/^apt \([0-9.]*\).*/\1/p')"
say apparmor "$(yes_no grep -q Y /sys/module/apparmor/parameters/enabled)"
say free_mb "$(df -Pm "$(test -d /opt && echo /opt || echo /)" | awk 'NR == 2 {print $4}')"
for file in /boot/firmware/cmdline.txt /boot/cmdline.txt; do
    if [ -f "$file" ]; then say cmdline_file "$file" && break; fi
done

# Control groups: the version, and which of the controllers that Docker needs version 1 lacks.
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then say cgroup 2; else say cgroup 1; fi
missing=''
for controller in cpu cpuacct cpuset devices freezer memory; do
    awk -v name="$controller" '$1 == name && $4 == 1 {found = 1} END {exit !found}' /proc/cgroups &&
        [ -d "/sys/fs/cgroup/$controller" ] || missing="$missing $controller"
done
say cgroup_missing "${missing# }"

# What Docker's overlay2 and its bridges need: in the kernel, loaded, or at least there to be loaded.
modules=''
for module in overlay br_netfilter; do
    if modprobe --dry-run --show-depends "$module" 2>/dev/null | grep -q '^insmod'; then modules="$modules $module"; fi
done
say modules "${modules# }"
say overlay "$(case " $modules " in *' overlay '*) echo yes ;; *) yes_no grep -qw overlay /proc/filesystems ;; esac)"

# --- Which Docker is installed

for package in docker-ce docker-ce-cli containerd.io docker-engine docker.io docker-cli; do
    version=$(dpkg-query --show --showformat='${db:Status-Abbrev}${Version}\n' "$package" 2>/dev/null | sed -n 's/^[a-z]i *//p')
    [ -z "$version" ] || say "package:$package" "$version"
done
unit=$(systemctl show --property FragmentPath docker.service 2>/dev/null | cut -d= -f2)
say unit "$(ls "$unit" 2>/dev/null)"
say socket_enabled "$(yes_no systemctl --quiet is-enabled docker.socket)"
say socket_active "$(yes_no systemctl --quiet is-active docker.socket)"
say enabled "$(yes_no systemctl --quiet is-enabled docker.service)"
say ours "$(yes_no grep -q fog.migration.docker /etc/systemd/system/docker.service)"
say held "$(apt-mark showhold 2>/dev/null | sed 's/:.*//' | paste -sd ' ' -)"
# As they are now, so that they can be put back.
for file in /etc/systemd/system/docker.service /etc/docker/daemon.json \
    /etc/apt/sources.list.d/fog-migration-docker.list /etc/apt/preferences.d/fog-migration-docker; do
    [ ! -f "$file" ] || say "file:$file" "$(base64 -w 0 "$file")"
done
current=$(readlink "$DOCKER_PREFIX/current" 2>/dev/null)
say static_version "$current"
say static_sha256 "$(cat "$DOCKER_PREFIX/$current/.sha256" 2>/dev/null)"

# --- What it is doing

say active "$(yes_no systemctl --quiet is-active docker.service)"
if server=$(timeout 20 docker version --format '{{.Server.Version}} {{.Server.Experimental}}' 2>/dev/null); then
    say version "${server% *}"
    say experimental "${server#* }"
    say containers "$(timeout 20 docker ps --format '{{.Names}}' | paste -sd ' ' -)"
    info=$(timeout 20 docker info --format '{{.LiveRestoreEnabled}} {{.Swarm.LocalNodeState}} {{.Driver}}' 2>/dev/null)
    # shellcheck disable=SC2086 # three words
    set -- $info
    say live_restore "${1:-false}"
    say swarm "${2:-inactive}"
    say driver "${3:-}"
fi
exit 0
