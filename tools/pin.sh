#!/usr/bin/env bash
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Writes constraints.txt anew: the newest versions that fit together with the oldest Python that is supported.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3.11 -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip -qq --disable-pip-version-check)
"${pip[@]}" install -r requirements-dev.txt
"${pip[@]}" download --no-deps -d "$work" ansible
wheel=$(basename "$work"/ansible-*.whl)
{
    echo '# The exact versions that fog.migration is tested with. Written by: make pins'
    echo '# ansible is never installed: tools/install_collections.py takes collections out of its wheel.'
    { echo "ansible==$(cut -d- -f2 <<<"$wheel")" && "$work/venv/bin/python" -m pip freeze; } | LC_ALL=C sort --ignore-case
} >"$work/constraints.txt"
mv "$work/constraints.txt" constraints.txt
git --no-pager diff --stat constraints.txt
