#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes the Docker image of a lab node from Debian's packages.
# Usage: build.sh IMAGE SUITE MIRROR|'' COMMA,SEPARATED,PACKAGES
set -euo pipefail

image=$1 suite=$2 mirror=$3 packages=$4
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Whoever checked the files out: in the node they are root's, and no directory changes its owner.
find "$here/node" -type f -printf '%P\0' |
    tar -C "$here/node" --null --files-from=- --owner=0 --group=0 --mode='u=rwX,go=rX' -cf "$work/node.tar"

options=(
    --variant=apt --include="$packages" --format=tar
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*'
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*'
    --dpkgopt=force-unsafe-io
    --customize-hook="tar-in $work/node.tar /"
    --customize-hook="chroot \"\$1\" sh -eu <'$here/finish.sh'"
)

# Tagged only when it is complete.
if imported=$(mmdebstrap "${options[@]}" "$suite" - ${mirror:+"$mirror"} |
    docker import --change "LABEL org.fog-migration.lab-image=$image" --change 'CMD ["/usr/local/sbin/lab-init"]' -); then
    docker tag "$imported" "$image"
else
    docker image rm --force "$imported" >/dev/null 2>&1 || true
    exit 1
fi
