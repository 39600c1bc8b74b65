#!/usr/bin/env python3
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of the lab that is running: what `ansible-playbook lab.yml` wrote when it brought the lab up."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

HINT = "The lab is not up: bring it up with `ansible-playbook lab.yml`."
EMPTY = {
    "all": {"vars": {"fog_inventory_hint": HINT}},
    "fog_servers": {"hosts": []},
    "clients": {"hosts": []},
    "_meta": {"hostvars": {}},
}


def main() -> None:
    """Print the inventory, which is empty while the lab is down."""
    lab = Path(os.environ.get("FOG_LAB_DIR") or "~/.local/state/fog-migration/lab").expanduser()
    try:
        print((lab / "inventory.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        # Ansible would show this as an error, even to the playbook that brings the lab up: only for people.
        if sys.stderr.isatty():
            print(HINT, file=sys.stderr)
        print(json.dumps(EMPTY))


if __name__ == "__main__":
    main()
