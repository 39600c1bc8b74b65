#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Says what there is of CRIU and what there could be: lines "fog:KEY:VALUE". FOG_PREFIX is where the role installs a CRIU of its own,
# FOG_LIST is the file with the role's own source for apt. FOG_UPDATE=yes: where no CRIU works and apt knows none, its lists are renewed.
set -u
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say() { printf 'fog:%s:%s\n' "$1" "$2"; }

release() { sed -n "s/^$1=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" /etc/os-release 2>/dev/null | head -n 1; }

# The newest version that apt would install, without the epoch that it has not got.
candidate() { apt-cache policy criu 2>/dev/null | sed -n 's/^ *Candidate: *//p' | grep -v '^(none)$'; }

# CRIU's first error is the reason, the later ones are consequences.
why_not() { printf '%s\n' "$1" | grep -E 'Error|Warn' | grep -v RLIMIT_NOFILE | sed 's/^.*Error *//; s/[[:space:]][[:space:]]*/ /g; s/[. ]*$//' | head -n 1; }

origin() {
    case $(readlink -f "$1") in "$FOG_PREFIX"/*) echo 'source'; return ;; esac
    if dpkg-query --search "$1" >/dev/null 2>&1; then echo package; else echo other; fi
}

path=$(command -v criu)
works=''
say kernel "$(uname -r)"
say user "$(id -u)"
say apt "$(command -v apt-get)"
say architecture "$(dpkg --print-architecture 2>/dev/null)"
say distribution "$(release ID)"
say release "$(release VERSION_CODENAME)"
# There since CONFIG_CHECKPOINT_RESTORE is.
say checkpoint "$([ -e /proc/sys/kernel/ns_last_pid ] || [ -e /proc/self/timers ] && echo yes)"
say path "$path"
say version "$([ -z "$path" ] || "$path" --version 2>/dev/null | sed -n 's/^Version: *v\{0,1\}//p')"
if [ -n "$path" ]; then
    said=$(timeout 60 "$path" check 2>&1) && works=yes || works=no
    say works "$works"
    [ "$works" = yes ] || say why "$(why_not "$said")"
    say origin "$(origin "$path")"
fi
# The release in the role's own source for apt, of which CRIU may have come.
say suite "$(sed -n 's/^deb .* \([^ ]*\) main$/\1/p' "$FOG_LIST" 2>/dev/null)"
say identity "$(cat "$FOG_PREFIX/.fog-migration" 2>/dev/null)"
if [ "$FOG_UPDATE" = yes ] && [ "$works" != yes ] && [ -z "$(candidate)" ]; then apt-get -qq update >/dev/null 2>&1; fi
say candidate "$(candidate)"
