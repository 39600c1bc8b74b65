#!/usr/bin/python
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_repair
short_description: Undo what a dump has left in a container that runs on
version_added: 0.2.0
description:
  - A CRIU that is killed while it dumps a container leaves the lock that it has made of the container's network, so
    that no packet passes it, and its TCP connections in repair mode, in which none can be used.
  - This looks at a container that runs, from outside, and undoes that. So does the rollback of a migration; this is for
    what was left by something else.
  - A program that has used such a connection before that has got an error, which cannot be undone.
author:
  - fog.migration contributors (@fog-migration)
extends_documentation_fragment:
  - fog.migration.docker
  - fog.migration.docker.actiongroup
attributes:
  check_mode:
    support: full
    description: Tells whether there is something to undo, and leaves it.
  diff_mode:
    support: none
    description: C(note) tells what was undone.
  idempotent:
    support: full
    description: A container in which nothing is left is not touched.
options:
  container:
    description:
      - Name or ID of the container. On a server that does not have it, or where it does not run, nothing is done.
      - It must not be migrated at the moment. What is left by a migration that was interrupted, C(recover.yml) undoes.
    type: str
    required: true
seealso:
  - module: fog.migration.migration_journal
"""

EXAMPLES = r"""
- name: No packet reaches the container since a checkpoint of it has failed
  fog.migration.container_repair:
    container: looper100
"""

RETURN = r"""
runs:
  description: Whether the container is here and runs.
  returned: success
  type: bool
  sample: true
said:
  description: How it is, in words that follow its name.
  returned: success
  type: str
  sample: runs on
note:
  description: What was undone, and what could not be looked at, as clauses. Empty if there is nothing to say.
  returned: success
  type: str
  sample: "what a dump had left was undone: CRIU's network lock in the nftables table CRIU-4711"
"""

from ansible_collections.fog.migration.plugins.module_utils.docker import api, connection_options
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.leftovers import repair
from ansible_collections.fog.migration.plugins.module_utils.leftovers.found import problems
from ansible_collections.fog.migration.plugins.module_utils.leftovers.look import look

NOTHING_CHANGED = "nothing was changed"


def run(client: api.CheckpointClient, called: str, check_mode: bool) -> dict:
    """Undoes what is left in a container, or tells that something is.

    :raises MigrationError: when it is being migrated, or something is left still.
    """
    inspect = client.find_container(called)
    if not inspect:
        return _not_running("is not here")
    identity = inspect["Id"]
    # One that is being migrated may be paused.
    for entry in journal.entries():
        if identity in (entry.container, entry.made.get("container")):
            what, remedy = journal.under_way(entry, None)
            raise MigrationError(what, NOTHING_CHANGED, remedy)
    if inspect["State"].get("Status") != "running":
        return _not_running(f"is {inspect['State'].get('Status')}")
    if check_mode:
        found = problems(look(identity), paused=False)
        return {"changed": bool(found), "runs": True, "said": "runs", "note": ", ".join(found)}
    outcome = repair.bring_back(identity)
    if outcome.left:
        raise MigrationError(f"{called} {outcome.told()}", "it stays so", "undo what is left and try again")
    return {"changed": bool(outcome.undone), "runs": True, "said": outcome.said(), "note": outcome.note}


def _not_running(said: str) -> dict:
    return {"changed": False, "runs": False, "said": said, "note": ""}


def main() -> None:
    module = connection_options.new_module({"container": {"type": "str", "required": True}}, supports_check_mode=True)
    try:
        module.exit_json(**run(api.connect(module.params), module.params["container"], module.check_mode))
    except MigrationError as error:
        module.fail_json(**error.result("Repair"))
    except api.FAILURES as error:
        module.fail_json(msg=MigrationError(api.api_message(error)).sentence("Repair"))


if __name__ == "__main__":
    main()
