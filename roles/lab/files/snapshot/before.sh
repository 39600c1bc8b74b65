#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs on a node before its root file system becomes the snapshot $1: what every node makes for itself is put aside, and what
# is not worth keeping is removed.
set -eu

systemctl stop docker.socket docker.service containerd.service 2>/dev/null || true
mkdir -m 700 /run/lab-snapshot
mv /etc/ssh/ssh_host_* /etc/machine-id /run/lab-snapshot/
# On the volume, it is no part of the root file system.
mountpoint --quiet /var/lib/containerd || mv /var/lib/containerd /run/lab-snapshot/
: >/etc/machine-id
# The Docker of Debian 12 has its identity there, others in /var/lib/docker, which is a volume.
if [ -e /etc/docker/key.json ]; then
    mv /etc/docker/key.json /run/lab-snapshot/
fi
apt-get clean
rm -rf /root/.ansible /var/lib/systemd/random-seed /var/log/journal/*
echo "$1" >/etc/lab-snapshot
