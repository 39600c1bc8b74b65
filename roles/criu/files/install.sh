#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Puts a CRIU that was built (FOG_ARCHIVE, the tarball of build.sh, whose SHA-256 is FOG_CHECKSUM) in its place: FOG_PREFIX, with FOG_LINK
# as a link to it. It is verified before anything of it is run, and seen working first; if it does not, everything is as it was, and
# "fog:error:" stands before the reason. Only root may be able to write where the archive lies.
set -u
umask 022
export LC_ALL=C
work=$FOG_PREFIX.new
old=$FOG_PREFIX.old

give_up() {
    rm -rf "$work"
    rmdir "$(dirname "$FOG_PREFIX")" 2>/dev/null
    echo "fog:error:$1"
    exit 1
}

why() { printf '%s\n' "$said" | grep -v RLIMIT_NOFILE | grep -E 'Error|error|cannot' | sed 's/^.*Error *//; s/[[:space:]][[:space:]]*/ /g; s/[. ]*$//' | head -n 1; }

trap 'rm -f "$FOG_ARCHIVE"' EXIT
sum=$(sha256sum <"$FOG_ARCHIVE" | cut -d ' ' -f 1)
[ "$sum" = "$FOG_CHECKSUM" ] || give_up "the archive has the SHA-256 $sum there, not $FOG_CHECKSUM, as it has on the controller"
rm -rf "$work" "$old"
said=$(mkdir -p "$work" 2>&1 && tar -C "$work" --strip-components 1 -xzf "$FOG_ARCHIVE" 2>&1 &&
    echo "$FOG_CHECKSUM" >"$work/.sha256") || give_up "it cannot be unpacked in $work ($said)"
said=$("$work/sbin/criu" --version 2>&1) || give_up "it does not run there ($(why))"
said=$(timeout 60 "$work/sbin/criu" check 2>&1) || give_up "it does not work on this kernel ($(why))"
[ ! -e "$FOG_PREFIX" ] || mv -T "$FOG_PREFIX" "$old" || give_up "$FOG_PREFIX cannot be renamed"
if mv -T "$work" "$FOG_PREFIX" && mkdir -p "$(dirname "$FOG_LINK")" && ln -sfn "$FOG_PREFIX/sbin/criu" "$FOG_LINK"; then
    rm -rf "$old"
    exit 0
fi
rm -rf "$FOG_PREFIX"
[ ! -e "$old" ] || mv -T "$old" "$FOG_PREFIX"
give_up "$FOG_PREFIX or $FOG_LINK cannot be written"
