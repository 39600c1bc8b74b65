# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of operations without Ansible: defaults are filled in, and what a module would refuse is refused.

Numbers and truth values that come as text are converted, as Ansible hands on some that were templated.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import copy
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError


def complete(spec: dict[str, Any], params: dict[str, Any], rules: dict[str, Any] | None = None) -> dict[str, Any]:
    """The parameters with defaults for all options that were not given, also within options.

    :param spec: as an AnsibleModule wants it.
    :param rules: C(required_if) and C(mutually_exclusive), as an AnsibleModule wants them.
    :raises MigrationError: when an option is unknown, is missing, has a value that is none of its choices, or does
        not go together with another one.
    """
    given = {name: value for name, value in params.items() if value is not None}
    for names in (rules or {}).get("mutually_exclusive", []):
        _refuse(len(given.keys() & set(names)) > 1, f"parameters are mutually exclusive: {'|'.join(names)}")
    filled = with_defaults(spec, given)
    for name, value, required in (rules or {}).get("required_if", []):
        missing = [one for one in required if filled[one] is None]
        _refuse(filled[name] == value and bool(missing), f"{name} is {value} but {', '.join(missing)} is missing")
    return filled


def with_defaults(spec: dict[str, Any], params: dict[str, Any], within: str = "") -> dict[str, Any]:
    """The same for one level of options.

    :param within: the option of which these are suboptions.
    """
    unknown = sorted(set(params) - set(spec))
    _refuse(bool(unknown), f"there is no option {', '.join(unknown)}{within}")
    return {name: _value(name, option, params.get(name), within) for name, option in spec.items()}


def _value(name: str, option: dict[str, Any], value: Any, within: str) -> Any:
    if value is None:
        _refuse(option.get("required", False), f"the option {name}{within} is missing")
        return copy.deepcopy(option.get("default"))
    value = _converted(option.get("type"), value)
    choices = option.get("choices", [value])
    _refuse(value not in choices, f"{name}{within} is {value!r}, which is none of {choices}")
    if "options" not in option:
        return value
    if option["type"] == "list":
        return [with_defaults(option["options"], one, f" of {name}") for one in value]
    return with_defaults(option["options"], value, f" of {name}")


_TRUTH = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


def _converted(kind: str | None, value: Any) -> Any:
    """A value of the type that the option has, from text; as it is where the text is of no such type."""
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return value
    if kind == "bool":
        return _TRUTH.get(value.lower(), value)
    if kind in ("int", "float"):
        try:
            return int(value) if kind == "int" else float(value)
        except ValueError:
            return value
    return value


def _refuse(refused: bool, what: str) -> None:
    if refused:
        raise MigrationError(what)
