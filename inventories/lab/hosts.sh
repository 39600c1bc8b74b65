#!/bin/sh
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The inventory of the lab that is up: what `ansible-playbook lab.yml` wrote. An empty one while the lab is down.
set -eu

inventory=${FOG_LAB_DIR:-$HOME/.local/state/fog-migration/lab}/inventory.json
hint='The lab is not up: bring it up with ansible-playbook lab.yml'

if [ -f "$inventory" ]; then
    exec cat "$inventory"
fi
# Ansible would show this as an error, even to the playbook that brings the lab up: only for people.
if [ -t 2 ]; then
    echo "$hint" >&2
fi
cat <<END
{
  "all": {"vars": {"fog_inventory_hint": "$hint"}},
  "fog_servers": {"hosts": []},
  "clients": {"hosts": []},
  "_meta": {"hostvars": {}}
}
END
