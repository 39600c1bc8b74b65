#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes one static build of Docker the current one, and links its programs into /usr/local/bin; without VERSION, takes all links away.
# Usage: links.sh PREFIX [VERSION]. The answer: "fog:changed=yes", and "fog:error=WHY" when it could not be done.
set -u
prefix=$1 version=${2:-}
bin=/usr/local/bin
changed=''

if [ -n "$version" ]; then
    for program in "$prefix/$version"/*; do
        link=$bin/${program##*/}
        if [ -e "$link" ] && [ ! -L "$link" ]; then
            echo "fog:error=there is a $link already, which nobody put there for $prefix"
            exit 0
        fi
    done
    if [ "$(readlink "$prefix/current")" != "$version" ]; then
        ln -sfn "$version" "$prefix/current.new" && mv -T "$prefix/current.new" "$prefix/current"
        changed=yes
    fi
    for program in "$prefix/$version"/*; do
        link=$bin/${program##*/} target=$prefix/current/${program##*/}
        if [ "$(readlink "$link")" != "$target" ]; then
            ln -sfn "$target" "$link"
            changed=yes
        fi
    done
elif [ -L "$prefix/current" ]; then
    rm -f "$prefix/current"
    changed=yes
fi

# Of another version, or of none any more.
for link in "$bin"/*; do
    case $(readlink "$link") in
        "$prefix/current/"*)
            if [ ! -e "$link" ]; then
                rm -f "$link"
                changed=yes
            fi ;;
    esac
done
[ -z "$changed" ] || echo 'fog:changed=yes'
