#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs inside the root file system of a lab node once its packages are there.

systemctl --quiet enable ssh.service

# What a container has no use for, or must not do to the machine that it runs on.
systemctl --quiet mask systemd-udevd.service systemd-sysctl.service systemd-remount-fs.service systemd-logind.service \
    getty.target console-getty.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer

# What every node makes for itself when it starts.
rm -f /etc/ssh/ssh_host_*
: >/etc/machine-id
