#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Asks a dockerd whether it takes a daemon.json, without starting it. Usage: probe.sh DOCKERD, with the file in $DOCKER_CONFIG_TEXT.
# The answer: "fog:version=...", and "fog:unknown=KEY, KEY" or "fog:refused=WHY" when it does not.
set -u
export LC_ALL=C
dockerd=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

printf '%s' "$DOCKER_CONFIG_TEXT" >"$work/daemon.json"
# Of a process that always runs: whoever goes as far as to look at it ends there.
echo 1 >"$work/pid"

version=$("$dockerd" --version 2>&1) || { echo "fog:refused=$dockerd cannot be run ($version)"; exit 0; }
echo "fog:version=$(echo "$version" | sed -n 's/^Docker version \([^ ,]*\).*/\1/p')"

# Every dockerd looks for unknown keys first, and then for what is both in the file and on the command line: "debug" always is,
# so none gets any further.
said=$(timeout 20 "$dockerd" --debug --pidfile "$work/pid" --config-file "$work/daemon.json" 2>&1)
case $said in
    *"don't match any configuration option"*)
        echo "fog:unknown=$(echo "$said" | sed -n "s/.*don't match any configuration option: *\([^\"]*\).*/\1/p" | head -n 1)" ;;
    *'both as a flag and in the configuration file'*)
        "$dockerd" --help 2>&1 | grep -q -- --validate || exit 0
        said=$(timeout 20 "$dockerd" --validate --config-file "$work/daemon.json" 2>&1) || echo "fog:refused=$(echo "$said" | tail -n 1)" ;;
    *)
        echo "fog:refused=$(echo "$said" | grep -v level=info | tail -n 1)" ;;
esac
