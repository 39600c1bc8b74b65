#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# An apt repository in /srv/www with docker-ce, made of the programs in /srv/docker, in these versions, signed with a key made here.
# Usage: docker-repository.sh VERSION...
set -eu
apt-get -qq --no-install-recommends install gpg gpg-agent >/dev/null
mkdir -p /srv/www/dists/trial/stable/binary-all /srv/www/pool && cd /srv/www
make() {  # NAME VERSION
    mkdir -p /srv/work/DEBIAN
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: test\n' "$1" "$2" >/srv/work/DEBIAN/control
    if [ "$1" = docker-ce ]; then
        printf 'Depends: iptables\nConflicts: docker.io\n' >>/srv/work/DEBIAN/control
        mkdir -p /srv/work/usr/bin /srv/work/usr/lib/systemd/system
        cp -l /srv/docker/* /srv/work/usr/bin
        cat >/srv/work/usr/lib/systemd/system/docker.service <<'END'
[Unit]
Requires=docker.socket
[Service]
Type=notify
ExecStart=/usr/bin/dockerd -H fd://
ExecReload=/bin/kill -s HUP $MAINPID
KillMode=process
Delegate=yes
[Install]
WantedBy=multi-user.target
END
        printf '[Socket]\nListenStream=/run/docker.sock\n[Install]\nWantedBy=sockets.target\n' \
            >/srv/work/usr/lib/systemd/system/docker.socket
        printf '#!/bin/sh\nsystemctl daemon-reload\nif [ ! -e /usr/sbin/policy-rc.d ]; then systemctl restart docker; fi\n' >/srv/work/DEBIAN/postinst
        chmod 755 /srv/work/DEBIAN/postinst
    fi
    file=pool/$1_$(echo "$2" | tr ':' '-').deb
    dpkg-deb --build -Znone /srv/work "$file" >/dev/null
    { dpkg-deb --field "$file"
      printf 'Filename: %s\nSize: %s\nSHA256: %s\n\n' "$file" "$(stat -c %s "$file")" "$(sha256sum "$file" | cut -d' ' -f1)"
    } >>dists/trial/stable/binary-all/Packages
    rm -r /srv/work
}
for version in "$@"; do
    make docker-ce "$version"
    make docker-ce-cli "$version"
done
make containerd.io 1.7
export GNUPGHOME=/srv/gnupg && mkdir -m 700 $GNUPGHOME
sign() {  # USER: the key becomes the one that the repository is signed with
    gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-generate-key "$1" rsa2048 sign never
    gpg --batch --quiet --armor --output "$1" --export "$1"
    gpg --batch --with-colons --fingerprint "$1" | awk -F: '$1 == "fpr" {print $10; exit}' >"$1.fingerprint"
    gpg --batch --yes --quiet --local-user "$1" --clear-sign --output dists/trial/InRelease dists/trial/Release
}
packages=stable/binary-all/Packages
printf 'Origin: Trial\nSuite: trial\nCodename: trial\nComponents: stable\nArchitectures: all amd64 arm64\nDate: %s\nSHA256:\n %s %s %s\n' "$(date -Ru)" \
    "$(sha256sum "dists/trial/$packages" | cut -d' ' -f1)" "$(stat -c %s "dists/trial/$packages")" "$packages" >dists/trial/Release
sign someone
mv dists/trial/InRelease someone.InRelease
sign gpg
