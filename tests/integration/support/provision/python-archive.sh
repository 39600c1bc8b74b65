#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes /srv/python.tar.gz: a CPython in the layout of python-build-standalone, from the distribution's packages. Then removes the
# distribution's own Python, but for the libraries that this one needs as well.
set -eu
rm -rf /srv/unpacked /srv/python && mkdir -p /srv/unpacked /srv/python/bin /srv/python/lib/python3/dist-packages && cd /srv/unpacked
chown _apt .
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
apt-get -qq update
apt-get -qq download "python$version-minimal" "libpython$version-minimal" "libpython$version-stdlib" python3-pip-whl
for package in *.deb; do dpkg-deb --extract "$package" .; done
cp "usr/bin/python$version" /srv/python/bin
ln -s "python$version" /srv/python/bin/python3
cp -a "usr/lib/python$version" /srv/python/lib
rm -f "/srv/python/lib/python$version/EXTERNALLY-MANAGED"
python3 -m zipfile -e usr/share/python-wheels/pip-*.whl /srv/python/lib/python3/dist-packages
# Its links into /etc.
find /srv/python -xtype l -delete
tar -C /srv -czf /srv/python.tar.gz python
/srv/python/bin/python3 -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])'
rm -rf /srv/unpacked /srv/python
apt-get -qq --yes purge 'python3*' >/dev/null
