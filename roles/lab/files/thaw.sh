#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Thaws what is frozen in this node, as a migration that was killed leaves it. In control groups of version 1, what is frozen
# does not end when it is killed, so that the node could not be removed. Prints each group.
set -eu

# There is none with version 2, where what is frozen ends when it is killed.
[ -d /sys/fs/cgroup/freezer ] || exit 0
find /sys/fs/cgroup/freezer -name freezer.state | while read -r state; do
    group=${state%/freezer.state}
    # It may go meanwhile. The nodes have one tree of groups, in which the processes of others are 0 here.
    [ "$(cat "$state" 2>/dev/null)" = FROZEN ] || continue
    grep -qv '^0$' "$group/cgroup.procs" || continue
    echo THAWED >"$state"
    echo "$group"
done
