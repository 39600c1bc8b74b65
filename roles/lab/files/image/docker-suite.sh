#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs inside the root file system of a lab node, after finish.sh, with the release $docker_suite of Debian: apt takes Docker and what
# that runs containers with from there, by the mirror and the key of the node's own release, and nothing else that its own release has.

# shellcheck disable=SC2016  # apt's own variables
target=$(apt-get indextargets --format '$(REPO_URI)|$(SIGNED_BY)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
mirror=${target%%|*} key=${target#*|}
case $key in /*) options="[signed-by=$key] " ;; *) options='' ;; esac
if [ -z "$mirror" ]; then
    echo 'there is no mirror of Debian among the sources of apt in the node' >&2
    exit 1
fi
# shellcheck disable=SC2154  # it is written before this script
echo "deb $options$mirror $docker_suite main" >/etc/apt/sources.list.d/lab-docker.list
cat >/etc/apt/preferences.d/lab-docker <<END
Package: *
Pin: release n=$docker_suite
Pin-Priority: 100

Package: containerd docker-cli docker.io runc
Pin: release n=$docker_suite
Pin-Priority: 990
END
