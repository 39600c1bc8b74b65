#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Thaws what is frozen within the containers with the IDs $@, as a migration that was killed leaves it. In control groups of
# version 1, what is frozen does not end when it is killed, so that the container could not be removed. Prints each group.
set -eu

# There is none with version 2, where what is frozen ends when it is killed.
[ -d /sys/fs/cgroup/freezer ] || exit 0
for id; do
    find /sys/fs/cgroup/freezer -path "*/$id/*" -name freezer.state | while read -r state; do
        # It may go meanwhile.
        [ "$(cat "$state" 2>/dev/null)" = FROZEN ] || continue
        echo THAWED 2>/dev/null >"$state" || continue
        echo "${state%/freezer.state}"
    done
done
