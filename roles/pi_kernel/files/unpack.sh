#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# unpack.sh TARBALL DIRECTORY: a kernel's source tree, without the folder that the tarball puts around it.
set -eu
tree=$2.new.$$
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"
tar --extract --file "$1" --directory "$tree" --strip-components=1 --no-same-owner
if [ ! -e "$tree/scripts/kconfig/merge_config.sh" ]; then
    echo "$1 is not the source of a Linux kernel" >&2
    exit 1
fi
mv --no-target-directory "$tree" "$2"
