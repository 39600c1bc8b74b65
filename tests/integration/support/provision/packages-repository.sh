#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A repository in a folder: two versions of a package, one that replaces it, and one that is too large.
set -eu
mkdir -p /srv/repository && cd /srv/repository
make() {  # NAME VERSION FIELDS
    mkdir -p work/DEBIAN
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: test\n%b' "$1" "$2" "$3" \
        >work/DEBIAN/control
    dpkg-deb --build work "$1_$2.deb" >/dev/null
    { dpkg-deb --field "$1_$2.deb"
      echo "Filename: ./$1_$2.deb"
      echo "Size: $(stat -c %s "$1_$2.deb")"
      echo "SHA256: $(sha256sum "$1_$2.deb" | cut -d' ' -f1)"
      echo
    } >>Packages
    rm -r work
}
make fog-one 1.0 ''
make fog-one 2.0 ''
make fog-two 1.0 'Conflicts: fog-one\n'
make fog-large 1.0 'Installed-Size: 999999999\n'
# apt reads the repository as a user of its own.
chmod -R a+rX /srv
echo 'deb [trusted=yes] file:///srv/repository ./' >/etc/apt/sources.list.d/fog.list
