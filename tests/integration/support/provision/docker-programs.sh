#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Puts the programs of the distribution's Docker into /srv/docker, without installing them.
set -eu
mkdir -p /srv/unpacked /srv/docker && cd /srv/unpacked
chown _apt .
apt-get -qq update
apt-get -qq download docker.io docker-cli containerd runc
for package in *.deb; do dpkg-deb --extract "$package" .; done
# Where each of them is differs by release.
for program in docker dockerd docker-proxy containerd containerd-shim-runc-v2 runc; do
    find usr -type f -name "$program" -perm /111 -exec mv {} /srv/docker \;
done
