#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes the image of the programs and puts it into FILE, as "docker load" takes it. Docker keeps nothing of it here.
# Usage: build.sh IMAGE SUITE MIRROR|'' FILE
set -euo pipefail

image=$1 suite=$2 mirror=$3 file=$4
here=$(dirname "$(readlink -f "$0")")
rootfs=$here/../../../roles/lab/files/image/rootfs.sh
packages=$(grep '^[^#]' "$here/packages.txt" | paste -sd ,)
imported=
trap 'docker image rm --force "$image" $imported >/dev/null 2>&1 || true; rm -f "$file.part"' EXIT

imported=$(bash "$rootfs" "$suite" "$mirror" "$packages" "$here/root" "$here/finish.sh" | docker import -)
docker tag "$imported" "$image"
docker image save --output "$file.part" "$image"
mv "$file.part" "$file"
