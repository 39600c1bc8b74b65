#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Lets apt know the CRIU of another release of Debian, and nothing else of it. It comes from the mirror that the host uses anyway.
# FOG_SUITE is the release, FOG_LIST and FOG_PIN are the files. Answers "fog:version:VERSION" or "fog:error:WHY"; when it fails, apt is as it was.
set -u
export LC_ALL=C

give_up() {
    rm -f "$FOG_LIST" "$FOG_PIN"
    echo "fog:error:$1"
    exit 1
}

# The first error that apt told, or its first warning.
why() {
    { printf '%s\n' "$said" | grep -E '^E(rror)?:'; printf '%s\n' "$said" | grep -E '^W(arning)?:'; } |
        sed -E 's/^[A-Za-z]+: *//; s/[[:space:]]+/ /g; s/[. ]*$//' | head -n 1
}

# shellcheck disable=SC2016  # apt's own variables
targets() { apt-get indextargets --format '$(REPO_URI)|$(SIGNED_BY)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | head -n 1; }

version() { apt-cache madison criu 2>/dev/null | grep -F " $FOG_SUITE/" | awk -F'|' '{gsub(/ /, "", $2); print $2; exit}'; }

main() {
    target=$(targets)
    if [ -z "$target" ]; then
        # apt knows whose a mirror is only once it has its lists.
        said=$(apt-get -qq update 2>&1)
        target=$(targets)
    fi
    [ -n "$target" ] || give_up "there is no mirror of Debian among apt's sources${said:+ ($(why))}"
    mirror=${target%%|*}
    key=${target#*|}
    case $key in /*) key=" signed-by=$key" ;; *) key='' ;; esac
    # The lists of Debian's archive have expired for good. Elsewhere one that has expired may be an old one that somebody sends again, so apt
    # refuses it, but where apt is told not to on this host.
    case $mirror in
        *//archive.debian.org/* | *//snapshot.debian.org/* | */debian-archive/*) options="check-valid-until=no$key" ;;
        *) options=${key# } ;;
    esac
    list="# Only for CRIU, see $FOG_PIN.
deb ${options:+[$options] }$mirror $FOG_SUITE main"
    pin="# Nothing of $FOG_SUITE is installed by itself; CRIU came from there, with libraries that it needs.
Package: *
Pin: release n=$FOG_SUITE
Pin-Priority: 100"
    if [ "$(cat "$FOG_LIST" 2>/dev/null)" != "$list" ] || [ "$(cat "$FOG_PIN" 2>/dev/null)" != "$pin" ] || [ -z "$(version)" ]; then
        if ! { printf '%s\n' "$list" >"$FOG_LIST" && printf '%s\n' "$pin" >"$FOG_PIN"; }; then give_up "$FOG_LIST cannot be written"; fi
        said=$(apt-get update -o Dir::Etc::sourcelist="$FOG_LIST" -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 \
            -o Acquire::Retries=3 -o Acquire::Languages=none -o DPkg::Lock::Timeout=120 2>&1) || give_up "apt cannot use $FOG_SUITE of $mirror ($(why))"
    fi
    [ -n "$(version)" ] || give_up "$FOG_SUITE has no package criu for $(dpkg --print-architecture)${said:+ ($(why))}"
    echo "fog:version:$(version)"
}

said=''
main
