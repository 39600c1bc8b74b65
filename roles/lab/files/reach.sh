#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Fails with what ssh says when one of the nodes cannot be reached.
# Usage: reach.sh 'ADDRESS ...' OPTION_OF_SSH ...
set -eu

nodes=$1
shift
for node in $nodes; do
    ssh "$@" "root@$node" true </dev/null
done
