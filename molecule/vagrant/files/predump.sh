#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Dumps the memory of a running process in rounds, as pre-copy does, then the rest of it; restores it from all of them.
# Usage: predump.sh WORKER.  Prints the size of the pages of each round in bytes, and what the restored process wrote.
set -eu

dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" || true; rm -rf "$dir"' EXIT

setsid python3 "$1" </dev/null >"$dir/lines" 2>&1 &
pid=$!
until [ -s "$dir/lines" ]; do sleep 0.2; done

for round in 1 2 3; do
    mkdir "$dir/$round"
    sleep 1
    set -- --tree "$pid" --images-dir "$dir/$round" --track-mem --log-file log
    [ "$round" = 1 ] || set -- "$@" --prev-images-dir "../$((round - 1))"
    if [ "$round" = 3 ]; then set -- dump "$@"; else set -- pre-dump "$@"; fi
    criu "$@" || { tail -n 5 "$dir/$round/log" >&2; exit 1; }
    cat "$dir/$round"/pages-*.img | wc -c
done

before=$(wc -l <"$dir/lines")
criu restore --restore-detached --images-dir "$dir/3" --log-file log || { tail -n 5 "$dir/3/log" >&2; exit 1; }
until [ "$(wc -l <"$dir/lines")" -ge "$((before + 2))" ]; do sleep 0.2; done
cat "$dir/lines"
