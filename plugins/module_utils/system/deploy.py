# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program of ours on a server: module_utils, installed as they are, with their configuration beside them.

What is installed imports nothing but the standard library and each other.

Private to the collection fog.migration.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import zipfile
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.system import procfs

PACKAGE = "ansible_collections.fog.migration.plugins.module_utils"
PROGRAM = "channel.py"
CONFIG = "config.json"
PID_FILE = "pid"
LAUNCHER = """import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from {package}.{part} import main

raise SystemExit(main())
"""


def name_of(module: ModuleType) -> str:
    """The name of one of our module_utils, as in C(transport.framing).

    Who installs a program imports it: the archive that Ansible makes of a module has only what something imports.
    """
    return module.__name__[len(PACKAGE) + 1 :]


def sources(part: str) -> dict[str, str]:
    """The source texts of one of our module_utils and of all that it imports of them, by name."""
    texts: dict[str, str] = {}
    missing = {part}
    while missing:
        name = missing.pop()
        texts[name] = _source(name)
        missing |= imported(texts[name]) - set(texts)
    return texts


def imported(text: str) -> set[str]:
    """The names of our module_utils that this source text imports, as in C(transport.framing)."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and f"{node.module}.".startswith(PACKAGE + "."):
            place = node.module[len(PACKAGE) + 1 :]
            names |= {f"{place}.{alias.name}".lstrip(".") for alias in node.names} if _is_package(place) else {place}
    return names


def _is_package(place: str) -> bool:
    return _spec(place).submodule_search_locations is not None


def _spec(place: str) -> ModuleSpec:
    """What the import system knows of one of our module_utils, without running it."""
    spec = importlib.util.find_spec(f"{PACKAGE}.{place}".rstrip("."))
    if spec is None:
        raise ImportError(f"there is no {place} among our module_utils")
    return spec


def _source(name: str) -> str:
    """The source text of one of our module_utils, whatever it was imported from: a file, or the archive of a module."""
    loader: Any = _spec(name).loader
    text = loader.get_source(f"{PACKAGE}.{name}")
    if text is None:
        raise ImportError(f"the source text of {name} is not there")
    return text


def install(directory: str, config: dict, part: str = "transport.directory_transfer") -> list[str]:
    """Puts our own source text and the configuration for it into a private directory.

    :param directory: exists, and nobody else may read it.
    :param config: what C(main) of I(part) is to do, an object for JSON.
    :returns: the arguments of the command that runs it.
    """
    install_sources(directory, part)
    program = os.path.join(directory, PROGRAM)
    _write(program, LAUNCHER.format(package=PACKAGE, part=part))
    _write(os.path.join(directory, CONFIG), json.dumps(config))
    return [sys.executable, "-I", program]


def install_sources(directory: str, part: str) -> None:
    """Puts the source texts of one of our module_utils, and of all that it imports of them, into packages."""
    for name, text in sources(part).items():
        folder = directory
        *packages, file = f"{PACKAGE}.{name}".split(".")
        for package in packages:
            folder = os.path.join(folder, package)
            if not os.path.isdir(folder):
                os.mkdir(folder, 0o700)
                # So that it wins over a package of this name that is installed on the server.
                _write(os.path.join(folder, "__init__.py"), "")
        _write(os.path.join(folder, file + ".py"), text)


def pack(path: str) -> str:
    """Makes an archive with this module_utils from its files; its path."""
    top = (_spec("").submodule_search_locations or [""])[0]
    packages = PACKAGE.split(".")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for depth in range(1, len(packages)):
            packed.writestr("/".join([*packages[:depth], "__init__.py"]), "")
        for folder, _folders, names in os.walk(top):
            inside = os.path.relpath(folder, top).split(os.sep)
            for name in sorted(one for one in names if one.endswith(".py")):
                place = "/".join([*packages, *(one for one in inside if one != "."), name])
                packed.write(os.path.join(folder, name), place)
            if "__init__.py" not in names:
                packed.writestr("/".join([*packages, *(one for one in inside if one != "."), "__init__.py"]), "")
    return path


def install_program(directory: str, name: str) -> str:
    """Puts the source text of one of our module_utils that imports none of the others under its own name; its path."""
    path = os.path.join(directory, name.rpartition(".")[2] + ".py")
    _write(path, _source(name))
    return path


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(text)


def spawn(command: list[str], log: str, environment: dict[str, str] | None = None) -> subprocess.Popen:
    """Starts a program that outlives the one that starts it; its standard error goes to the file I(log).

    :param environment: its whole environment; None for that of this program.
    """
    with open(log, "wb") as stream:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stream,
            start_new_session=True,
            env=environment,
        )


def program_directory() -> str | None:
    """Where this program was installed, or None when it runs as part of something else."""
    return os.path.dirname(os.path.abspath(sys.argv[0])) if os.path.basename(sys.argv[0]) == PROGRAM else None


def register(directory: str | None, pid: int | None = None) -> None:
    """Stores which process does the work of this directory.

    :param pid: that process; None for this one.
    """
    if directory:
        pid = pid or os.getpid()
        with open(os.path.join(directory, PID_FILE), "w", encoding="ascii") as stream:
            stream.write(f"{pid} {procfs.started(pid)}\n")


def running(directory: str) -> int | None:
    """The process that does the work of this directory, if there is one that is not this one."""
    try:
        with open(os.path.join(directory, PID_FILE), encoding="ascii") as stream:
            pid, began = stream.read().split()
    except (OSError, ValueError):
        return None
    return int(pid) if int(pid) != os.getpid() and began == str(procfs.started(int(pid))) else None


def stop(directory: str | None, number: int = signal.SIGTERM) -> None:
    """Ends the program of this directory, if it runs."""
    pid = running(directory) if directory else None
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
