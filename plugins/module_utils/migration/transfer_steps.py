# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a transfer of a directory, each on one of its two hosts. The action plugin calls them in order.

Every step takes the options of the task (I(params)) and what the controller adds for this step (I(step_options)).

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
import shutil
import time

from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError, Refused
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, host
from ansible_collections.fog.migration.plugins.module_utils.transport import (
    compression,
    framing,
    listing,
    ssh_access,
    ssh_connection,
    work_dir,
)

# Seconds that a key may be used after the time that the transfer itself has.
EXPIRY_MARGIN = 300


class StepFailed(CollectionError):
    """A step failed. The text is one sentence."""


def expiry(params: dict) -> int:
    """When the key of this transfer expires, should nobody be left to remove it."""
    return int(time.time()) + params["timeout"] + EXPIRY_MARGIN


def make_directory(params: dict, step_options: dict, role: str, login: str) -> str:
    """The private directory of this transfer. It is in the journal before it is made, so that it can be cleaned up."""
    directory = work_dir.path_of(step_options["id"], role, expiry(params))
    journal.note(params["migration"], transfers=[{"id": step_options["id"], "directory": directory, "user": login}])
    work_dir.make(directory)
    return directory


def open_source(params: dict, step_options: dict, check_mode: bool) -> dict:
    """What there is to send, whether the destination can be reached, and (unless relayed) a key."""
    path = params["path"]
    if os.path.islink(path) or not os.path.isdir(path):
        raise StepFailed(f"{path} is not a directory")
    entries = listing.scan(path)
    facts: dict = {
        "bytes": listing.total_size(entries),
        "files": len(listing.files_of(entries)),
        "has_ssh": bool(shutil.which("ssh") and shutil.which("ssh-keygen")),
        "has_zstd": bool(compression.zstd_program()),
        "reachable": False,
    }
    if step_options["mode"] != "relay":
        problem = (
            host.unreachable(step_options["address"], step_options["port"]) if step_options["mode"] == "auto" else None
        )
        facts.update(reachable=problem is None, unreachable_reason=problem)
    if check_mode:
        return facts
    if step_options["mode"] == "relay":
        facts.update(_relayed_sender(params, step_options))
    elif facts["reachable"] and facts["has_ssh"]:
        directory = make_directory(params, step_options, "source", ssh_access.login_user(step_options.get("user")))
        facts.update(directory=directory, public_key=ssh_access.make_key(directory))
    return facts


def _relayed_sender(params: dict, step_options: dict) -> dict:
    """Installs the sender that the controller starts over its own connection; the command that runs it."""
    login, current = ssh_access.login_user(step_options.get("user")), ssh_access.current_user()
    problem = ssh_access.sudo_problem(login, current)
    if problem:
        raise StepFailed(problem)
    directory = make_directory(params, step_options, "source", login)
    settings = {
        "role": "send",
        "path": params["path"],
        "compression": params["compression"],
        "compression_level": params["compression_level"],
        "rate_limit": int(params["rate_limit"] * 1024 * 1024),
        "idle_limit": params["timeout"],
    }
    words = ssh_access.as_login_user(login, current) + deploy.install(directory, settings)
    return {"directory": directory, "command": ssh_access.shell_line(words)}


def open_destination(params: dict, step_options: dict, check_mode: bool) -> dict:
    """What the destination has already; its receiver, and (unless relayed) the line that admits the source."""
    facts = look_at_destination(step_options)
    if facts["exists"] and not step_options["replace"]:
        facts["fingerprint"] = fingerprint_of(step_options["final"], trust_manifest=False)
        return facts
    if check_mode or facts["sudo_problem"]:
        return facts
    directory = make_directory(params, step_options, "destination", facts["user"])
    settings = {
        "role": "receive",
        "final": step_options["final"],
        "host": step_options["host"],
        "replace": step_options["replace"],
        "idle_limit": framing.IDLE_LIMIT,
        # By then the source has given up, and its key does not open anything any more.
        "lifetime": params["timeout"] + EXPIRY_MARGIN,
    }
    facts["directory"] = directory
    return admit_source(params, step_options, facts, deploy.install(directory, settings))


def look_at_destination(step_options: dict) -> dict:
    """What the destination has, and how its sshd can be reached."""
    login, current = ssh_access.login_user(step_options.get("user")), ssh_access.current_user()
    settings = ssh_access.read_sshd_settings(login)
    host_keys = ssh_access.read_host_keys(settings)
    facts = {
        "user": login,
        "host_keys": host_keys,
        "has_zstd": bool(compression.zstd_program()),
        "exists": os.path.lexists(step_options["final"]),
        "sudo_problem": ssh_access.sudo_problem(login, current),
        "access_problem": ssh_access.access_problem(settings, ssh_access.home_of(login)),
    }
    if not host_keys:
        facts["access_problem"] = facts["access_problem"] or "no SSH host keys can be read in /etc/ssh"
    return facts


def admit_source(params: dict, step_options: dict, facts: dict, program: list[str]) -> dict:
    """Lets the source's key run one program here, if the source has a key.

    :param facts: see C(look_at_destination).
    :param program: the words of its command.
    :returns: the facts with the C(command), and with C(access_problem) when the key could not be admitted.
    """
    login = facts["user"]
    command = ssh_access.forced_command(login, ssh_access.current_user(), program)
    facts = dict(facts, command=command)
    if not step_options.get("public_key") or facts["access_problem"]:
        return facts
    version, now = ssh_access.installed_ssh_version(), time.time()
    line = ssh_access.authorized_line(step_options["public_key"], command, step_options["id"], expiry(params), version)
    try:
        ssh_access.edit_authorized_keys(
            login,
            lambda old: ssh_access.with_line(ssh_access.without_transfer(old, None, now), line.encode("ascii")),
        )
    except ssh_access.SshAccessError as exc:
        facts["access_problem"] = str(exc)
    return facts


def revoke_key(_params: dict, step_options: dict, _check_mode: bool) -> dict:
    """Revokes the source's key. Connections that were made with it are left alone."""
    ssh_access.edit_authorized_keys(
        ssh_access.login_user(step_options.get("user")),
        lambda old: ssh_access.without_transfer(old, step_options["id"], time.time()),
    )
    return {}


def fingerprint_of(path: str, trust_manifest: bool) -> dict:
    """Checksum and size of a whole directory; None for its checksum when it is not one that can be compared."""
    try:
        entries = listing.listing(path, trust_manifest)
    except Refused as exc:
        if trust_manifest:
            raise
        return {"digest": None, "files": 0, "bytes": 0, "problem": str(exc)}
    except NotADirectoryError:
        return {"digest": None, "files": 0, "bytes": 0, "problem": f"{path} is not a directory"}
    return {
        "digest": listing.digest(entries),
        "files": len(listing.files_of(entries)),
        "bytes": listing.total_size(entries),
    }


def fingerprint(params: dict, _step_options: dict, _check_mode: bool) -> dict:
    """Checksum and size of the directory at the source."""
    return {"fingerprint": fingerprint_of(params["path"], trust_manifest=True)}


def write_known_hosts(directory: str, host_keys: list) -> str:
    """Writes the destination's host keys for ssh; the path of the file."""
    path = os.path.join(directory, "known_hosts")
    with open(path, "w", encoding="ascii") as stream:
        stream.write(ssh_access.known_hosts(host_keys))
    return path


def send(params: dict, step_options: dict, _check_mode: bool) -> dict:
    """Sends directly; the key is gone afterwards, whatever happened."""
    directory = step_options["directory"]
    try:
        hosts_file = write_known_hosts(directory, step_options["host_keys"])
        ssh = dict(step_options, key=os.path.join(directory, "key"), hosts_file=hosts_file)
        return ssh_connection.DirectSending(params, ssh).run()
    finally:
        work_dir.remove(directory)


def close(params: dict, step_options: dict, check_mode: bool) -> dict:
    """Leaves nothing of this transfer on this host but what has arrived."""
    for directory in work_dir.find(step_options["id"], step_options["role"]):
        deploy.stop(directory)
        work_dir.remove(directory)
    return revoke_key(params, step_options, check_mode) if step_options["role"] == "destination" else {}
