#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Says what there is: lines "fog:KEY:VALUE". FOG_NAMED is the interpreter that the inventory names, if any; FOG_NAMES are the names by
# which Ansible looks for one; FOG_PREFIX and FOG_LINK are where the role installs its own.
set -u
export LC_ALL=C
identity=$FOG_PREFIX/.fog-migration

say() { printf 'fog:%s:%s\n' "$1" "$2"; }

# A Python without its standard library (python3-minimal) is of no use to Ansible.
# shellcheck disable=SC2086
version() { $1 -c 'import json, sys, zipfile; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null; }

in_prefix() { [ -d "$FOG_PREFIX" ] && case $(readlink -f "$1" 2>/dev/null) in "$(readlink -f "$FOG_PREFIX")"/*) return 0 ;; *) return 1 ;; esac; }

find_interpreter() {
    [ -z "$FOG_NAMED" ] || { echo "$FOG_NAMED"; return; }
    # shellcheck disable=SC2153
    for name in $FOG_NAMES; do
        place=$(command -v "$name") && [ -x "$place" ] && echo "$place" && return
    done
}

prefix_state() {
    if [ -f "$identity" ]; then echo ours; elif [ -e "$FOG_PREFIX" ]; then echo taken; else echo free; fi
}

# Whether the link can be made without hiding an interpreter of that name.
link_state() {
    for place in "$FOG_LINK" "$(command -v "$(basename "$FOG_LINK")")"; do
        [ -L "$place" ] || [ -e "$place" ] || continue
        case $(readlink "$place") in "$FOG_PREFIX"/*) continue ;; esac
        echo "$place"
        return
    done
    if [ -L "$FOG_LINK" ]; then echo ours; else echo free; fi
}

# Bytes free where the prefix is or will be.
free() {
    place=$FOG_PREFIX
    while [ ! -d "$place" ]; do place=$(dirname "$place"); done
    df -Pk "$place" | awk 'END {printf "%.0f", $4 * 1024}'
}

interpreter=$(find_interpreter)
say machine "$(uname -m)"
say bits "$(getconf LONG_BIT 2>/dev/null)"
say glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null | sed -n 's/^glibc //p')"
say user "$(id -u)"
say interpreter "$interpreter"
say version "$([ -z "$interpreter" ] || version "$interpreter")"
say ours "$(if [ -n "$interpreter" ] && in_prefix "$interpreter"; then echo yes; fi)"
say identity "$(cat "$identity" 2>/dev/null)"
say prefix "$(prefix_state)"
say link "$(link_state)"
say free "$(free)"
