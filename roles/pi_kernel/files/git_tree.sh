#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# git_tree.sh URL REF COMMIT DIRECTORY: the files of one commit, without the history.
set -eu
url=$1 ref=$2 commit=$3 tree=$4.new.$$
export GIT_TERMINAL_PROMPT=0
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"
cd "$tree"
git init --quiet .
fetch() { git -c http.lowSpeedLimit=1000 -c http.lowSpeedTime=60 fetch --quiet "$@" 2>&1; }
# A server that gives no single commit away gives the branch.
if ! reason=$(fetch --depth 1 "$url" "$commit") && ! reason=$(fetch "$url" "$ref"); then
    reason=$(printf '%s\n' "$reason" | tr -d '\000' | sed -n 's/^\(remote: \)\?fatal: //p' | sed 's/ *$//;q')
    echo "commit $commit cannot be fetched from the git repository $url ($reason)" >&2
    exit 1
fi
git -c advice.detachedHead=false checkout --quiet "$commit" 2>/dev/null ||
    { echo "the git repository $url has no commit $commit on $ref" >&2; exit 1; }
# Without .git, the release of the kernel does not depend on the state of a work tree.
# Some trees carry the traces of a build, with which none can be made outside of them.
rm -rf .git .config include/config include/generated arch/*/include/generated
mv --no-target-directory "$tree" "$4"
