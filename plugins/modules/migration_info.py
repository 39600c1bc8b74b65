#!/usr/bin/python
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_info
short_description: List the migrations that have not ended on a server
version_added: 0.2.0
description:
  - Reads the journal of this server (see M(fog.migration.migration_journal)) and looks how things really are.
author:
  - fog.migration contributors (@fog-migration)
extends_documentation_fragment:
  - fog.migration.docker
  - fog.migration.docker.actiongroup
  - fog.migration.info
options:
  container:
    description: Only migrations of a container with this name.
    type: str
seealso:
  - module: fog.migration.migration_journal
"""

EXAMPLES = r"""
- name: What has not ended here?
  fog.migration.migration_info:
  register: unfinished
"""

RETURN = r"""
migrations:
  description:
    - The entries of the journal by the time of their begin, each with C(now), which tells how things really are.
      C(refused) has sentences about what was done though the journal did not allow it.
  returned: success
  type: list
  elements: dict
  sample:
    - id: looper100-20261122T041500
      role: source
      owner: in_doubt
      stage: handover
      name: looper100
      source: fog1
      destination: fog2
      mode: precopy
      now: {container: paused, id: 4f9d3c, checkpoint: false, same_boot: true, programs: false, together: []}
"""

from ansible_collections.fog.migration.plugins.module_utils import recovery
from ansible_collections.fog.migration.plugins.module_utils.docker import api, connection_options
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.journal.entry import Entry


def look(entries: list[Entry], params: dict) -> list[dict]:
    """The entries, each with how things really are."""
    client = api.connect(params)
    return [dict(entry.to_json(), now=recovery.inspect_state(entry, client)) for entry in entries]


def main() -> None:
    module = connection_options.new_module({"container": {"type": "str"}}, supports_check_mode=True)
    wanted = module.params["container"]
    try:
        entries = [entry for entry in journal.entries() if wanted in (None, entry.name)]
        module.exit_json(changed=False, migrations=look(entries, module.params) if entries else [])
    except MigrationError as error:
        module.fail_json(**error.result("Info"))
    except api.FAILURES as error:
        module.fail_json(msg=MigrationError(api.api_message(error)).sentence("Info"))


if __name__ == "__main__":
    main()
