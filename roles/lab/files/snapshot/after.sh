#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs on a node after before.sh: it is what it was.
set -eu

rm -rf /etc/lab-snapshot
cd /run/lab-snapshot
mv ssh_host_* /etc/ssh/
mv machine-id /etc/
[ ! -e containerd ] || mv containerd /var/lib/
if [ -e key.json ]; then
    mv key.json /etc/docker/
fi
rmdir /run/lab-snapshot
systemctl start docker.service
