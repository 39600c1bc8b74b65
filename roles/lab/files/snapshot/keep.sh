#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Keeps what was made of a node: as an image from which nodes can be made, and in a file, together with the image that the
# node was made from.
# Usage: keep.sh NODE IMAGE SNAPSHOT FILE HOW_MANY_FILES
set -euo pipefail

node=$1 image=$2 snapshot=$3 file=$4 count=$5
here=$(dirname "$(readlink -f "$0")")
trap 'docker exec -i "$node" sh -s <"$here/after.sh"; rm -f "$file.part"' EXIT

docker exec -i "$node" sh -s "$snapshot" <"$here/before.sh"
docker commit --change "LABEL org.fog-migration.lab-image=$image org.fog-migration.lab=" \
    --change 'ENV LAB_AUTHORIZED_KEY=' "$node" "$snapshot" >/dev/null
docker image save --output "$file.part" "$image" "$snapshot"
mv "$file.part" "$file"

# The newest ones are enough.
find "$(dirname "$file")" -maxdepth 1 -name '*.tar' -printf '%T@ %p\0' | sort -z -n -r | tail -z -n "+$((count + 1))" |
    cut -z -d ' ' -f 2- | xargs -0 -r rm -f
