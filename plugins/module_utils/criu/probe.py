# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks CRIU whether it works on this server, and with which features.

C(criu check) tells of one feature in each run, so that there are nine runs of CRIU. The answers depend on the kernel
and on CRIU alone: they are kept in a file until the server starts anew or CRIU changes, as CRIU keeps what it knows of
the kernel (C(/run/criu.kdat)). An answer that may be another one next time is not kept.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import time
from typing import Any, NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.criu import features as _features
from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

CACHE = "/run/fog-migration-criu.json"
# Whose file is trusted: root's.
OWNER = 0
FORMAT = "fog.migration/criu-facts"
# Where CRIU reads options for every run, C(criu check) included.
CONFIGURATION = "/etc/criu/default.conf"
# No cache of ours is larger.
LARGEST = 1 << 16
# Seconds that CRIU may take for all answers together.
LIMIT = 30
# What is not an exit code of CRIU's own: it could not be run, or did not end in time.
_NOT_RUN = 127


class Answers(NamedTuple):
    """What CRIU said, before it is judged."""

    version: str | None
    # Why C(criu check) is not content, or None.
    why_not: str | None
    # What C(criu check --feature) said of each feature that does not work, None of the others.
    features: dict[str, str | None]


def probe() -> dict[str, Any]:
    """CRIU here: C(path), C(version), C(options) for runc, whether it C(works) on this kernel, else C(why_not).

    And its C(features), and the C(modes) of migration that are possible with them.
    """
    path = tool.find_criu()
    answers = _known(path) if path else Answers(None, "criu is not installed", {})
    works, machine = answers.why_not is None, os.uname().machine
    features = {
        name: {"works": said is None, "why_not": _features.feature_refusal(name, said, answers.version, machine)}
        for name, said in answers.features.items()
    }
    return {
        "path": path,
        "version": answers.version,
        "options": tool.parse_options(tool.configuration()),
        "works": works,
        "why_not": answers.why_not,
        "features": features,
        "modes": _features.migration_modes(works, answers.why_not, features),
    }


def _known(path: str) -> Answers:
    """The answers that were kept, or else fresh ones."""
    key = key_of(path) if os.geteuid() == OWNER else None
    answers = read_cache(CACHE, key) if key else None
    if answers is None:
        answers, lasting = ask(path)
        # What changed while CRIU was asked is not what it was asked of.
        if key and lasting and key == key_of(path):
            write_cache(CACHE, key, answers)
    return answers


def key_of(path: str) -> dict[str, Any] | None:
    """What the answers of the CRIU at this path depend on, as an object for JSON; None where it cannot be told."""
    try:
        return {
            "boot": procfs.boot(),
            "kernel": [os.uname().release, os.uname().version],
            "capabilities": procfs.status(os.getpid()).get("CapEff", ""),
            "criu": _file_key(path),
            "configuration": _file_key(CONFIGURATION) if os.path.exists(CONFIGURATION) else None,
        }
    except OSError:
        return None


def _file_key(path: str) -> list[Any]:
    status = os.stat(path)
    return [os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ino]


def ask(path: str) -> tuple[Answers, bool]:
    """Runs CRIU for each answer; the answers, and whether they are the same as long as kernel and CRIU are.

    The first C(criu check) runs alone, since it looks at the kernel for the others too. They run side by side.
    """
    (checked,) = _run_all([[path, "check"]])
    names = list(_features.FEATURES)
    told, *said = _run_all([[path, "--version"], *([path, "check", "--feature", name] for name in names)])
    answers = Answers(
        tool.parse_version(told[1]), _complaint(*checked), {name: _complaint(*one) for name, one in zip(names, said)}
    )
    clear = all(code in (0, 1) for code, _output in said)
    return answers, bool(clear and answers.why_not is None and answers.version)


def _complaint(code: int, output: str) -> str | None:
    """Why C(criu check) says no, or None."""
    return None if code == 0 else " / ".join(tool.log_tail(output, 2)) or f"criu check ended with {code}"


def _run_all(commands: list[list[str]]) -> list[tuple[int, str]]:
    """Runs all of them at the same time; exit code and output of each."""
    deadline = time.monotonic() + LIMIT
    started = [_start(command) for command in commands]
    return [_finish(one, deadline - time.monotonic()) for one in started]


def _start(command: list[str]) -> subprocess.Popen[bytes] | OSError:
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, close_fds=True
        )
    except OSError as error:
        return error


def _finish(started: subprocess.Popen[bytes] | OSError, seconds: float) -> tuple[int, str]:
    if isinstance(started, OSError):
        return _NOT_RUN, str(started)
    try:
        output = started.communicate(timeout=max(seconds, 0.01))[0]
    except subprocess.TimeoutExpired:
        started.kill()
        started.communicate()
        return _NOT_RUN, f"criu did not end within {LIMIT} seconds"
    return started.returncode, output.decode("utf-8", "replace")


def read_cache(place: str, key: dict[str, Any]) -> Answers | None:
    """The answers in the file at I(place), if it is root's own and private, and these are the answers for I(key)."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            status = os.fstat(stream.fileno())
            private = stat.S_ISREG(status.st_mode) and status.st_uid == OWNER and not status.st_mode & 0o077
            text = stream.read(LARGEST) if private else b""
        return parse_cache(text, key)
    except OSError:
        return None


def parse_cache(text: bytes, key: dict[str, Any]) -> Answers | None:
    """The answers in the text of a cache, if these are all of the answers for I(key)."""
    try:
        found = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("format") != FORMAT or found.get("key") != key:
        return None
    version, features = found.get("version"), found.get("features")
    if not isinstance(version, str) or not isinstance(features, dict) or set(features) != set(_features.FEATURES):
        return None
    if not all(said is None or isinstance(said, str) for said in features.values()):
        return None
    # In the order in which they are asked for.
    return Answers(version, None, {name: features[name] for name in _features.FEATURES})


def write_cache(place: str, key: dict[str, Any], answers: Answers) -> None:
    """Keeps answers, of a CRIU that works: complete or not at all. If it cannot be written, CRIU is asked next time."""
    found = {"format": FORMAT, "key": key, "version": answers.version, "features": answers.features}
    folder, name = os.path.split(place)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as stream:
                json.dump(found, stream)
            os.rename(temporary, place)
        except OSError:
            os.unlink(temporary)
