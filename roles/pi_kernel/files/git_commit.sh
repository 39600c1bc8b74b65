#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# git_commit.sh URL REF: the commit that a branch or tag of a repository points at now.
set -eu
export GIT_TERMINAL_PROMPT=0
if ! refs=$(timeout 120 git ls-remote "$1" "refs/heads/$2" "refs/tags/$2" "refs/tags/$2^{}" 2>&1); then
    reason=$(printf '%s\n' "$refs" | grep -i '^fatal:' | head -n 1 | sed 's/^fatal: //')
    echo "the git repository $1 cannot be read (${reason:-no answer within 120 s})" >&2
    exit 1
fi
# Of an annotated tag, the last line is the commit.
commit=$(printf '%s\n' "$refs" | grep -E '^[0-9a-f]{40}' | tail -n 1 | cut -f 1)
if [ -z "$commit" ]; then
    echo "the git repository $1 has no branch or tag $2" >&2
    exit 1
fi
echo "$commit"
