#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Of the programs in /srv/docker: a static build as Docker ships them, and one whose dockerd ends at once, served on port 8000.
set -eu
cd /srv
docker/dockerd --version | sed 's/^Docker version \([^ ,]*\).*/\1/' >version
mkdir -p www broken/docker
tar -czf "www/docker-$(cat version).tgz" docker
cat >broken/docker/dockerd <<'END'
#!/bin/sh
case $* in
    --version) echo "Docker version $(cat /srv/version), build 1" ;;
    *--help*) exit 0 ;;
    *--config-file*) echo 'specified both as a flag and in the configuration file: debug'; exit 1 ;;
    *) echo 'this dockerd does not like the moon' >&2; exit 1 ;;
esac
END
cp docker/docker broken/docker/docker
chmod 755 broken/docker/*
tar -C broken -czf www/broken.tgz docker
systemd-run --quiet --unit www python3 -m http.server --directory /srv/www --bind 127.0.0.1 8000
