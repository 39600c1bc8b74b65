# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash

# What the scripts in this folder have in common; they source it.

# Not below HOME: a system's libvirtd runs its machines as a user who may not look in there.
: "${FOG_VAGRANT_CACHE:=/var/cache/fog-migration/vagrant}"
export FOG_VAGRANT_CACHE
export VAGRANT_HOME=$FOG_VAGRANT_CACHE/home

say() {
    printf '==> [%4d s] %s\n' "$(($(date +%s) - ${STARTED:-$(date +%s)}))" "$*"
}

fail() {
    echo "$*" >&2
    exit 1
}

# Installs Debian packages that are missing on this machine: need COMMAND-OR-FILE PACKAGE ...
need() {
    local missing=()
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || [ -e "$1" ] || missing+=("$2")
        shift 2
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "Installing ${missing[*]}"
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends install "${missing[@]}"; } >/dev/null ||
        fail "The packages ${missing[*]} could not be installed on this machine; install them and run this again."
}

# The mirror that this machine's own Debian uses; nothing on a machine that has none: mmdebstrap knows a default.
debian_mirror() {
    # shellcheck disable=SC2016 # apt's own
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1
}

# Names what is cached after what it is made from: the words given, and the contents of the files given after --.
fingerprint() {
    local words=()
    while [ "$1" != -- ]; do words+=("$1") && shift; done
    shift
    { printf '%s\n' "${words[@]}" && cat "$@"; } | sha256sum | cut -c 1-12
}
