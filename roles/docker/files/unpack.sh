#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Unpacks a static build of Docker, whole or not at all. Usage: unpack.sh ARCHIVE SHA256 VERSION DIRECTORY
# The answer is "fog:error=WHY" when it could not be done.
set -u
export LC_ALL=C
archive=$1 sha256=$2 version=$3 directory=$4
new=$directory.new
trap 'rm -rf "$new"' EXIT

give_up() { echo "fog:error=$1"; exit 0; }

[ -s "$archive" ] || give_up "there is nothing in $archive"
is=$(sha256sum "$archive" | cut -d' ' -f1)
[ "$is" = "$sha256" ] || give_up "the sha256 of the static build is $is and not $sha256"

rm -rf "$new"
mkdir -p "$new" || give_up "$new cannot be made"
why=$(tar --extract --gzip --no-same-owner --strip-components=1 --directory "$new" --file "$archive" 2>&1) ||
    give_up "it cannot be unpacked ($(echo "$why" | tail -n 1))"
for program in docker dockerd; do
    [ -x "$new/$program" ] || give_up "the static build has no docker/$program in it"
done
why=$("$new/dockerd" --version 2>&1) || give_up "its dockerd does not run here ($(echo "$why" | tail -n 1))"
is=$(echo "$why" | sed -n 's/^Docker version \([^ ,]*\).*/\1/p')
[ "$is" = "$version" ] || give_up "the static build is Docker $is and not $version"

echo "$sha256" >"$new/.sha256"
# One that was there before under this name, of another build: its programs may run.
rm -rf "$directory.old"
[ ! -e "$directory" ] || mv "$directory" "$directory.old"
mv "$new" "$directory" || give_up "$directory cannot be made"
