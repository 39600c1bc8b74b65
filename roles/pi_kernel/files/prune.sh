#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# prune.sh BOOT RELEASE: removes kernels of ours that neither config.txt nor its predecessor names. Prints what it removed.
set -eu
boot=$1
for folder in "$boot"/fog/*/; do
    release=$(basename "$folder")
    [ -e "$folder/manifest.json" ] || continue
    if [ "$release" = "$2" ] || [ "$release" = "$(uname -r)" ] ||
        grep -qsF "fog/$release/" "$boot/config.txt" "$boot/fog/config.txt.previous"; then
        continue
    fi
    rm -rf "$folder" "/lib/modules/$release"
    echo "$release"
done
