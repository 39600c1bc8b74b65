#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes the Docker image of a lab node from Debian's packages; with LIMITS=yes, its programs read limits as limits.c says, and with a
# release as DOCKER_SUITE, its apt takes Docker from there.
# Usage: build.sh IMAGE SUITE MIRROR|'' COMMA,SEPARATED,PACKAGES LIMITS DOCKER_SUITE|''
set -euo pipefail

image=$1 suite=$2 mirror=$3 packages=$4 limits=$5 docker_suite=$6
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp -R "$here/node" "$work/files"
if [ "$limits" = yes ]; then
    library=usr/local/lib/lab-limits.so
    mkdir -p "$work/files/${library%/*}"
    cc -std=c11 -O2 -Wall -Wextra -shared -fPIC -nostdlib -o "$work/files/$library" "$here/limits.c"
    echo "/$library" >"$work/files/etc/ld.so.preload"
fi

cp "$here/finish.sh" "$work/finish.sh"
if [ -n "$docker_suite" ]; then
    printf 'docker_suite=%q\n' "$docker_suite" | cat - "$here/docker-suite.sh" >>"$work/finish.sh"
fi

# Tagged only when it is complete.
if imported=$(bash "$here/rootfs.sh" "$suite" "$mirror" "$packages" "$work/files" "$work/finish.sh" |
    docker import --change "LABEL org.fog-migration.lab-image=$image" --change 'CMD ["/usr/local/sbin/lab-init"]' -); then
    docker tag "$imported" "$image"
else
    docker image rm --force "$imported" >/dev/null 2>&1 || true
    exit 1
fi
