# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the two halves of checkpoint_transfer share: its options, and the decisions that it takes.

Nothing here acts. Private to the collection fog.migration.
"""

from __future__ import annotations

STEPS = ("open_source", "open_destination", "fingerprint", "send", "open_channel", "revoke_key", "progress", "close")

# A channel for a live migration: the container at the source, and the one that is armed at the destination.
LIVE = {
    "container": {"type": "str", "required": True},
    "armed": {"type": "str", "required": True},
    "docker_socket": {"type": "str", "default": "/var/run/docker.sock"},
    "restore_timeout": {"type": "int", "default": 600},
    "mode": {"type": "str", "choices": ["stop-and-copy", "precopy", "postcopy", "hybrid"], "default": "stop-and-copy"},
    "lazily": {"type": "bool", "default": True},
    "mounts": {"type": "list", "elements": "str", "default": []},
    "log": {"type": "bool", "default": False},
    "together": {"type": "list", "elements": "str", "default": []},
    "memory": {"type": "int", "default": 0},
    "shared": {"type": "int", "default": 0},
    "staging_limit": {"type": "int", "default": 0},
    "staging_directory": {"type": "str", "default": "/var/lib/fog-migration/staging"},
    "max_rounds": {"type": "int", "default": 10},
    "threshold": {"type": "float", "default": 1.0},
    "shrink": {"type": "float", "default": 0.9},
}
PRECOPY_MODES = ("precopy", "hybrid")


def argument_spec(path_type: str = "path") -> dict:
    """The options. The controller takes paths as strings: the ~ in one would be its own, not the host's."""
    return {
        "path": {"type": path_type, "required": True},
        "destination": {"type": "str", "required": True},
        "dest_path": {"type": path_type},
        "dest_address": {"type": "str"},
        "dest_port": {"type": "int"},
        "mode": {"type": "str", "choices": ["auto", "direct", "relay"], "default": "auto"},
        "compression": {"type": "str", "choices": ["auto", "zstd", "none"], "default": "auto"},
        "compression_level": {"type": "int", "default": 1},
        "rate_limit": {"type": "float", "default": 0.0},
        "retries": {"type": "int", "default": 2},
        "timeout": {"type": "int", "default": 3600},
        "force": {"type": "bool", "default": False},
        "live": {"type": "dict", "options": LIVE},
        "migration": {"type": "str"},
        "step": {"type": "str", "choices": list(STEPS)},
        "step_options": {"type": "dict"},
    }


def copies_memory(mode: str, shared: int) -> bool:
    """Whether memory is copied in rounds while the container runs: all of it, or, before post-copy, what is shared.

    :param shared: bytes of memory that processes share.
    """
    return mode in PRECOPY_MODES or (copies_only_shared(mode) and shared > 0)


def copies_only_shared(mode: str) -> bool:
    """Whether only that memory is copied in rounds which processes share: CRIU cannot fetch it when it is needed."""
    return mode == "postcopy"


def copies_beforehand(mode: str, shared: int, mounts: list[str], log: bool) -> bool:
    """Whether something is copied while the container runs, before the task that freezes it."""
    return copies_memory(mode, shared) or bool(mounts) or log


def check_options(options: dict) -> str | None:
    """What is wrong with the options of a task, as a sentence, or None."""
    for name in ("path", "dest_path"):
        problem = options.get(name) and check_directory_name(options[name])
        if problem:
            return f"{name} is {options[name]}, but it must be {problem}"
    if not 1 <= options["compression_level"] <= 19:
        return f"compression_level is {options['compression_level']}, but it must be from 1 to 19"
    if options["rate_limit"] < 0:
        return f"rate_limit is {options['rate_limit']}, but it must not be negative"
    if options["retries"] < 0:
        return f"retries is {options['retries']}, but it must not be negative"
    if options["timeout"] < 1:
        return f"timeout is {options['timeout']}, but it must be at least 1 second"
    return None


def check_directory_name(path: str) -> str | None:
    """What a directory's name must be and this one is not, or None."""
    if not path.startswith("/"):
        return "absolute"
    if ".." in path.split("/"):
        return "without .."
    if not path.strip("/"):
        return "more than /"
    return None


def choose_mode(wanted: str, source: dict, destination: dict) -> tuple[str, str | None]:
    """(direct or relay, why not direct). The facts are what open_source and open_destination found out."""
    if wanted == "relay":
        return "relay", None
    problem = None
    if not source.get("has_ssh"):
        problem = "the source has no ssh and ssh-keygen"
    elif not source.get("reachable"):
        problem = "the source cannot reach the destination's SSH port ({})".format(source.get("unreachable_reason"))
    elif destination.get("access_problem"):
        problem = "on the destination, {}".format(destination["access_problem"])
    if wanted == "direct" or not problem:
        return "direct", problem
    return "relay", problem


def never_met(result: dict) -> bool:
    """Whether a direct sending failed before the two ends had anything to do with each other."""
    return bool(result.get("failed") and result.get("interrupted") and not result.get("reached"))


def added_up(first: dict, second: dict) -> dict:
    """The stats of a second way of sending, with what the first one had cost before it was given up."""
    sums = {
        name: first.get(name, 0) + second.get(name, 0)
        for name in ("bytes_sent", "bytes_received", "seconds", "attempts")
    }
    return dict(second, **sums)


def describe(facts: dict) -> str:
    return f"{facts['files']} files, {facts['bytes']} bytes"


def result_of(options: dict, dest_path: str, source: dict, **more: object) -> dict:
    """The part of the result that is known before anything has been sent."""
    return dict(
        {
            "path": options["path"],
            "dest_path": dest_path,
            "staging_path": staging(dest_path),
            "mode": options["mode"],
            "compression": options["compression"],
            "bytes_checkpoint": source["bytes"],
            "files": source["files"],
            "bytes_sent": 0,
            "bytes_received": 0,
            "resumed_bytes": 0,
            "seconds": 0.0,
            "rate": 0.0,
            "attempts": 0,
        },
        **more,
    )


def staging(dest_path: str) -> str:
    """Where the destination collects a directory until all of it is there."""
    parent, _slash, name = dest_path.rpartition("/")
    return f"{parent}/.{name}.incoming"


def rate(count: float, seconds: float) -> float:
    return round(count / seconds, 1) if seconds > 0 else 0.0


def progress_line(source: str, destination: str, now: dict, before: dict | None = None) -> str:
    """How far pre-copy is, for people.

    :param now: what the source's end told: C(round), its C(bytes) and how many of them are C(done), all bytes C(sent),
        and when (C(clock)).
    :param before: what it told the last time.
    """
    percent = 100 * now["done"] // now["bytes"] if now["bytes"] else 0
    seconds = now["clock"] - before["clock"] if before else 0
    speed = f", {rate(now['sent'] - before['sent'], seconds) / 1048576:.1f} MiB/s" if before and seconds else ""
    return f"  {source} -> {destination}: round {now['round']}, {percent} % of {now['bytes'] / 1048576:.1f} MiB{speed}"


def room_here(mode: str, lazily: bool, memory: int, shared: int) -> tuple[int, int]:
    """How many bytes staging at the source can hold, and how many it will.

    Pre-copy has one of what the destination has. A dump has what it cannot leave with the processes: shared memory, and
    all of it where it is not lazy.

    :param shared: bytes of I(memory) that processes share.
    """
    copied, left = _copied(mode, memory, shared), lazily and mode != "stop-and-copy"
    return copied + memory, copied + (shared if left else memory)


def room_there(mode: str, memory: int, shared: int) -> tuple[int, int]:
    """The same at the destination, into whose memory the container itself comes as well."""
    copied, dumped = _copied(mode, memory, shared), memory if mode == "stop-and-copy" else shared
    return copied + memory, max(copied, dumped) + memory


def _copied(mode: str, memory: int, shared: int) -> int:
    """Bytes of memory that are copied in rounds."""
    if not copies_memory(mode, shared):
        return 0
    return shared if copies_only_shared(mode) else memory
