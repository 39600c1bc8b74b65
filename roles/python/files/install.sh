#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Installs what was copied into FOG_WORK as FOG_PREFIX. It is complete and was seen running before it gets that name. When this fails, the
# server is as it was, and "fog:error:" stands before the reason.
set -u
umask 022
export LC_ALL=C
new=$FOG_WORK/unpacked/python
old=$FOG_WORK/old
said=''

give_up() { echo "fog:error:$1"; exit 1; }

# Runs a command and keeps what it says.
try() { said=$("$@" 2>&1); }

# The last line of that, as a clause.
last() { printf '%s\n' "$said" | grep -Ev '^[[:space:]]*$|Exiting with failure' | tail -n 1 | sed 's/[[:space:]][[:space:]]*/ /g; s/^ERROR: //; s/[. ]*$//'; }

# Why pip reached no index: it says so in passing, and at last only that it found nothing.
broken_connection() { printf '%s\n' "$said" | sed -n "s/.*connection broken by '\(.*\)': .*/\1/p" | head -n 1 | grep .; }

check() {
    sum=$(sha256sum "$FOG_WORK/python.tar.gz" | cut -d ' ' -f 1)
    [ "$sum" = "$FOG_CHECKSUM" ] || give_up "the archive has the SHA-256 $sum, not $FOG_CHECKSUM, as python_checksums says"
}

unpack() {
    mkdir -p "$FOG_WORK/unpacked" || give_up "no folder can be made in $FOG_WORK"
    try tar -C "$FOG_WORK/unpacked" --no-same-owner -xzf "$FOG_WORK/python.tar.gz" || give_up "the archive cannot be unpacked ($(last))"
    rm -f "$FOG_WORK/python.tar.gz"
    [ -x "$new/bin/python3" ] || give_up "the archive holds no python/bin/python3, so it is none of the kind install_only"
    try "$new/bin/python3" -c 'import ctypes, hashlib, json, ssl, sys, zipfile, zlib; print("%d.%d.%d" % sys.version_info[:3])' ||
        give_up "the Python in the archive does not run there ($(last))"
    [ "$said" = "$FOG_VERSION" ] || give_up "the archive holds Python $said, not $FOG_VERSION, as python_version says"
}

# The Docker SDK, which our modules use on the server.
install_packages() {
    set -- --requirement "$FOG_WORK/requirements.txt" --require-hashes --only-binary :all:
    if [ -n "$FOG_WHEELS" ]; then
        set -- "$@" --no-index --find-links "$FOG_WORK/wheels"
    elif [ -n "$FOG_INDEX" ]; then
        set -- "$@" --index-url "$FOG_INDEX"
    fi
    try "$new/bin/python3" -m pip install --quiet --no-input --disable-pip-version-check --root-user-action ignore --no-warn-script-location "$@" ||
        give_up "its pip could not install the Docker SDK ($(broken_connection || last)); python_wheels can name a folder with the wheels instead"
    try "$new/bin/python3" -c 'import docker' || give_up "the Docker SDK does not work with it ($(last))"
}

put_in_place() {
    echo "$FOG_IDENTITY" >"$new/.fog-migration" || give_up "there is no space left"
    if [ -e "$FOG_PREFIX" ]; then
        mv -T "$FOG_PREFIX" "$old" || give_up "the old one cannot be renamed"
    fi
    if mv -T "$new" "$FOG_PREFIX" && mkdir -p "$(dirname "$FOG_LINK")" && ln -sfn "$FOG_PREFIX/bin/python3" "$FOG_LINK"; then return; fi
    rm -rf "$FOG_PREFIX"
    [ ! -e "$old" ] || mv -T "$old" "$FOG_PREFIX"
    give_up "$FOG_PREFIX or $FOG_LINK cannot be written"
}

trap 'rm -rf "$FOG_WORK"' EXIT
trap 'exit 1' HUP INT TERM
check
unpack
install_packages
put_in_place
