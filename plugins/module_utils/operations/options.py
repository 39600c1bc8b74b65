# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of operations without Ansible: defaults are filled in, and what a module would refuse is refused.

Values are converted as a module would convert them, since what a task says may come as text. What an AnsibleModule
takes for a string or an object with some goodwill, such as a list or C(a=1 b=2), is refused.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError

_TRUE = ("y", "yes", "t", "true", "on", "1")
_FALSE = ("n", "no", "f", "false", "off", "0")


def complete(spec: dict[str, Any], params: dict[str, Any], rules: dict[str, Any] | None = None) -> dict[str, Any]:
    """The parameters with defaults for all options that were not given, also within options.

    :param spec: as an AnsibleModule wants it.
    :param params: by the names of the options or by their aliases.
    :param rules: C(required_if) and C(mutually_exclusive), as an AnsibleModule wants them.
    :raises MigrationError: when an option is unknown, is missing, has a value of another type or that is none of its
        choices, or does not go together with another one.
    """
    given = {name: value for name, value in _without_aliases(spec, params).items() if value is not None}
    for names in (rules or {}).get("mutually_exclusive", []):
        _refuse(len(given.keys() & set(names)) > 1, f"parameters are mutually exclusive: {'|'.join(names)}")
    filled = with_defaults(spec, given)
    for name, value, required in (rules or {}).get("required_if", []):
        missing = [one for one in required if filled[one] is None]
        _refuse(filled[name] == value and bool(missing), f"{name} is {value} but {', '.join(missing)} is missing")
    return filled


def _without_aliases(spec: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    names = {alias: name for name, option in spec.items() for alias in option.get("aliases", [])}
    return {names.get(name, name): value for name, value in params.items()}


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
    try:
        value = _converted(option, value)
    except (TypeError, ValueError) as error:
        raise MigrationError(f"{name}{within} is {value!r}, which is no {option['type']}") from error
    choices = option.get("choices", [value])
    _refuse(value not in choices, f"{name}{within} is {value!r}, which is none of {choices}")
    if "options" not in option:
        return value
    if option["type"] == "list":
        return [with_defaults(option["options"], one, f" of {name}") for one in value]
    return with_defaults(option["options"], value, f" of {name}")


def _converted(option: dict[str, Any], value: Any) -> Any:
    """A value of the type that the option has.

    :raises ValueError: when it has another one.
    """
    kinds: dict[str, Callable[[Any], Any]] = {
        "str": _text,
        "path": lambda one: os.path.expanduser(os.path.expandvars(_text(one))),
        "int": _whole_number,
        "float": float,
        "bool": _truth,
        "list": _list,
        "dict": _object,
    }
    converted = kinds[option["type"]](value)
    if "elements" in option:
        return [kinds[option["elements"]](one) for one in converted]
    return converted


def _text(value: Any) -> str:
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError


def _whole_number(value: Any) -> int:
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError
    return number


def _truth(value: Any) -> bool:
    text = str(int(value) if isinstance(value, (bool, float)) else value).strip().lower()
    if text not in (*_TRUE, *_FALSE):
        raise ValueError
    return text in _TRUE


def _list(value: Any) -> list[Any]:
    if isinstance(value, (str, int, float)):
        return str(value).split(",")
    if isinstance(value, list):
        return value
    raise ValueError


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, dict):
        return value
    raise ValueError


def _refuse(refused: bool, what: str) -> None:
    if refused:
        raise MigrationError(what)
