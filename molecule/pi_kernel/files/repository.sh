#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# repository.sh TREE REPOSITORY: a git repository, with the branch rpi-test, of those files of a kernel's source that configuring reads: a whole
# one would take minutes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$1"
{
    find . -name 'Kconfig*' -o -name 'Makefile*' -o -name 'Kbuild*' -o -path './arch/arm*/configs/*'
    find scripts arch/arm/tools -type f
    find include/linux -name 'compiler*' -o -name 'kconfig.h'
} | sort -u | tar -cf - --no-recursion --files-from - | tar -xf - -C "$work"
cd "$work"
git init --quiet
git add --all --force
git -c user.name=test -c user.email=test@example.org commit --quiet --message 'A kernel'
git branch --quiet --move rpi-test
git clone --quiet --bare "$work" "$2.new"
mv "$2.new" "$2"
