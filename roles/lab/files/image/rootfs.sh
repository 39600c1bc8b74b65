#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Writes the root file system of an image to standard output, as tar: Debian's packages, the files in FILES, and what the
# script FINISH does inside of it when they are there.
# Usage: rootfs.sh SUITE MIRROR|'' COMMA,SEPARATED,PACKAGES FILES FINISH
set -euo pipefail

suite=$1 mirror=$2 packages=$3 files=$4 finish=$5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Whoever checked the files out: in the image they are root's, and no directory changes its owner.
find "$files" -type f -printf '%P\0' |
    tar -C "$files" --null --files-from=- --owner=0 --group=0 --mode='u=rwX,go=rX' -cf "$work/files.tar"

# What FINISH makes in /run stays: where there is no service manager, nobody else makes it. Packages of Java's want a folder
# for manuals.
mmdebstrap --variant=apt --include="$packages" --format=tar --skip=cleanup/run \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt=force-unsafe-io \
    --essential-hook="mkdir -p \"\$1/usr/share/man/man1\"" \
    --customize-hook="tar-in $work/files.tar /" \
    --customize-hook="chroot \"\$1\" sh -eu <'$finish'" \
    "$suite" - ${mirror:+"$mirror"}
