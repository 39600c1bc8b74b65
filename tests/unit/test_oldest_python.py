# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Types that Python 3.8 cannot evaluate: C(dict[str, int]) and C(str | None) are fine in annotations only.

Vermin takes every such subscript for an annotation, so it does not report them (make lint-vermin reports the rest).
"""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"
TYPES = {name for name, value in vars(builtins).items() if isinstance(value, type)}


def annotations(tree):
    """Every annotation in a module, which is not evaluated."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.AnnAssign, ast.arg)):
            yield node.annotation
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.returns


def evaluated_types(text):
    """The lines in which a type is evaluated that Python 3.8 does not know."""
    tree = ast.parse(text)
    unevaluated = {id(part) for one in annotations(tree) if one for part in ast.walk(one)}
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "collections.abc"]
    types = TYPES | {alias.asname or alias.name for node in imports for alias in node.names}
    return [node.lineno for node in ast.walk(tree) if id(node) not in unevaluated and is_new_type(node, types)]


def is_new_type(node, types):
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Name) and node.value.id in types
    is_either = isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
    return is_either and any(is_type(side, types) for side in (node.left, node.right))


def is_type(node, types):
    is_name = isinstance(node, ast.Name) and node.id in types
    return is_name or is_new_type(node, types) or ast.unparse(node) == "None"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("x: dict[str, int] | None = None", []),
        ("def f(a: list[int], *b: str | None, c: type[str]) -> tuple[int, ...]: return a[0], 1 | 2", []),
        ("Names = dict[str, int]", [1]),
        ("def f(x):\n    return cast(list[int], x)", [2]),
        ("from collections.abc import Iterable\nclass Names(Iterable[str]): pass", [2]),
        ("from typing import Iterable\nclass Names(Iterable[str]): pass", []),
        ("Name = Other | None", [1]),
        ("Name = str | Other", [1]),
    ],
)
def test_what_is_evaluated(text, lines):
    assert evaluated_types(text) == lines


@pytest.mark.parametrize("room", ["modules", "module_utils"])
def test_the_oldest_python_can_evaluate_all_types(room):
    files = sorted((PLUGINS / room).rglob("*.py"))
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    assert {str(path.relative_to(PLUGINS)): found for path in files if (found := evaluated_types(texts[path]))} == {}
    assert all("from __future__ import annotations" in text for text in texts.values() if text)
