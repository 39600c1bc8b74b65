#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# source_package.sh PACKAGE: where the tarball of an installed package of kernel sources is, and which version it is.
# "linux-source" only depends on the package that has the tarball.
set -eu
package=$1
depends=$(dpkg-query --showformat='${Depends}\n' --show "$package" | grep -o 'linux-source-[0-9.]*' | head -n 1)
for candidate in "$package" $depends; do
    tarball=$(dpkg --listfiles "$candidate" 2>/dev/null | grep -E '^/usr/src/linux-source-[^/]*\.tar\.(xz|gz|bz2)$' | head -n 1)
    if [ -n "$tarball" ]; then
        echo "$tarball"
        dpkg-query --showformat='${Package}_${Version}\n' --show "$candidate" | tr ':~' '..'
        exit 0
    fi
done
echo "the package $package brings no tarball of a kernel's source in /usr/src" >&2
exit 1
