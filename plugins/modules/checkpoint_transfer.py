#!/usr/bin/python
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: checkpoint_transfer
short_description: Move a checkpoint's directory from one host to another
version_added: 0.1.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Copies a directory from the host that the task runs on (the source) to another host of the inventory
    (the destination), verifies every checksum there, and then puts it under its final name in one step. Under that
    name there is never half a checkpoint.
  - The bytes travel directly between the two hosts over SSH, with a key that is made for this transfer on the source,
    never leaves it, may only run the receiver of this transfer, and is removed at the end. The destination's host keys
    are read over Ansible's own connection to it and handed to the source, which accepts no others.
  - Where the source cannot reach the destination, the controller relays the bytes over two SSH connections of its own
    (with paramiko).
  - An interrupted transfer resumes where it stopped, by itself (O(retries)) or when the task runs again.
  - The directory may be any that holds plain files and directories only. Permissions are kept, owners and times are
    not. When it has a C(manifest.json) with sizes and checksums of all its files, as
    M(fog.migration.container_checkpoint) writes it, these are what is verified on arrival.
options:
  path:
    description:
      - The directory on the source, as an absolute path.
    type: path
    required: true
  destination:
    description:
      - Name of the destination in the inventory. Ansible's variables of that host (C(ansible_host), C(ansible_user),
        C(ansible_become) and so on) say how it is reached; they may come from the inventory or the command line, not
        from the C(vars) of a play.
    type: str
    required: true
  dest_path:
    description:
      - The directory's name on the destination, as an absolute path. The default is O(path).
    type: path
  dest_address:
    description:
      - Address at which the source reaches the destination. The default is the destination's variable
        C(fog_address), else C(ansible_host), else its name.
    type: str
  dest_port:
    description:
      - Port of the destination's sshd, as the source sees it. The default is the destination's variable C(fog_port);
        else C(ansible_port), if the address is not from C(fog_address); else 22.
    type: int
  mode:
    description:
      - V(direct) sends from host to host, V(relay) through the controller.
      - V(auto) sends directly where the source can open a TCP connection to the destination's SSH port and the
        destination's sshd reads C(~/.ssh/authorized_keys), and relays otherwise. It also relays, with a warning, when
        a direct transfer then fails before it has met the receiver.
      - Where Ansible logs in as an ordinary user and becomes root, both need C(sudo) without a password for
        that user (V(direct) on the destination, V(relay) on both hosts).
    type: str
    choices: [auto, direct, relay]
    default: auto
  compression:
    description:
      - V(zstd) compresses with the C(zstd) program, which both hosts must have then; V(none) does not.
      - V(auto) is V(zstd) if both hosts have the program, and V(none) otherwise.
      - With O(live), pages of memory are compressed by zlib unless this is V(none), as long as that pays with the link
        and the processor that are there, which is measured again and again.
    type: str
    choices: [auto, zstd, none]
    default: auto
  compression_level:
    description:
      - zstd's level, from 1 (fastest) to 19.
    type: int
    default: 1
  rate_limit:
    description:
      - Send at most so many MiB per second, counted after compression. 0 sends as fast as it goes.
      - With O(live), what is sent while the container stands still is sent as fast as it goes.
    type: float
    default: 0.0
  retries:
    description:
      - How often an interrupted transfer is taken up again within the task.
    type: int
    default: 2
  timeout:
    description:
      - Seconds after which the transfer is given up, and (with some minutes added) after which the key expires on the
        destination, should nobody be left to remove it.
    type: int
    default: 3600
  force:
    description:
      - Replace what the destination has under the final name, if it differs. Without this the task fails then.
    type: bool
    default: false
  migration:
    description:
      - Name of the migration in whose journal this is noted on both hosts, see M(fog.migration.migration_journal).
    type: str
  live:
    description:
      - Opens a channel for a live migration instead, and sends nothing. It stays open after the task, for
        M(fog.migration.container_checkpoint), and ends with the migration, or when nobody has used it for O(timeout)
        seconds. O(path) has to be the prepared checkpoint that the destination has been armed with.
      - The source has to reach the destination's SSH port. The key is gone as soon as the channel is open.
    type: dict
    suboptions:
      container:
        description: ID of the container at the source.
        type: str
        required: true
      armed:
        description: ID of the container at the destination, as M(fog.migration.container_restore) made it.
        type: str
        required: true
      docker_socket:
        description: Docker's socket, on both hosts.
        type: str
        default: /var/run/docker.sock
      restore_timeout:
        description: Seconds that the restore may take.
        type: int
        default: 600
      mode:
        description:
          - How the memory is to travel, see the option of this name of M(fog.migration.container_checkpoint).
          - With V(precopy) and V(hybrid), this copies the memory over the channel while the container runs on, and
            then, round by round, what has changed meanwhile, until a further round would not pay. The task ends then.
        type: str
        choices: [stop-and-copy, precopy, postcopy, hybrid]
        default: stop-and-copy
      lazily:
        description:
          - Whether both hosts can restore a container before its memory is in place (userfaultfd). V(precopy) is faster
            then, V(postcopy) and V(hybrid) are not possible otherwise.
        type: bool
        default: true
      mounts:
        description: Where in the container those volumes, folders and files are mounted whose content moves.
        type: list
        elements: str
        default: []
      log:
        description: Whether the container's log so far moves, see O(live.mounts); for the log driver json-file.
        type: bool
        default: false
      together:
        description:
          - Names of the migrations of all containers that move together, this one's among them. What was restored waits
            at the destination until M(fog.migration.container_checkpoint) says that all were.
        type: list
        elements: str
        default: []
      memory:
        description: Bytes of memory that the container has, by which room is made on both hosts.
        type: int
        default: 0
      staging_limit:
        description: The most MiB of memory that staging may take on a host, 0 for as much as is free.
        type: int
        default: 0
      staging_directory:
        description: Folder on disk for staging, on hosts on which memory is short.
        type: str
        default: /var/lib/fog-migration/staging
      max_rounds:
        description: The most rounds of pre-copy.
        type: int
        default: 10
      threshold:
        description: A round that sent no more than so many MiB is the last one.
        type: float
        default: 1.0
      shrink:
        description: A round that sent more than this part of what the one before had sent is the last one.
        type: float
        default: 0.9
  step:
    description:
      - Internal. The action plugin of the same name runs this module once per step, on the source and on the
        destination, and says here which step it is. A task that sets this is refused.
    type: str
    choices: [open_source, open_destination, fingerprint, send, open_channel, close_door, progress, close]
  step_options:
    description:
      - Internal. What the action plugin hands to the step. A task that sets this is refused.
    type: dict
attributes:
  action:
    description: Indicates this has a corresponding action plugin, so some parts of it run on the controller.
    support: full
  async:
    description: Supports being used with the C(async) keyword.
    support: none
  check_mode:
    description: Can run in check mode and say whether it would send, without changing anything.
    support: full
  delegation:
    description: Can be used with C(delegate_to). The delegated host is the source then.
    support: full
  diff_mode:
    description: Returns what has changed, or would change in check mode.
    support: none
  idempotent:
    description: An identical directory (paths, sizes, checksums, permissions) at the destination is not sent again.
    support: full
  platform:
    description: The hosts that this runs on.
    platforms: posix
    support: full
requirements:
  - Python 3.8 or later on both hosts
  - an OpenSSH server on the destination; for a direct transfer also an OpenSSH client on the source
  - paramiko on the controller, for a relayed transfer
  - zstd on both hosts, for compression
notes:
  - A direct transfer adds one line to C(~/.ssh/authorized_keys) of the user that Ansible logs in as there, and
    takes it out again. An sshd with another C(AuthorizedKeysFile) cannot be served like this;
    O(mode=auto) relays then.
  - With OpenSSH 7.7 or later on the destination the line expires by itself; with older ones it stays if both the
    controller and the source die during the transfer, until the next transfer to that host removes it. Without
    the private key it opens nothing.
seealso:
  - module: fog.migration.container_checkpoint
  - module: fog.migration.container_restore
"""

EXAMPLES = r"""
- name: Send a checkpoint to the other fog server
  fog.migration.checkpoint_transfer:
    path: /var/lib/fog-migration/checkpoints/looper100
    destination: fog2

- name: Send it through the controller, slowly, under another name
  fog.migration.checkpoint_transfer:
    path: /var/lib/fog-migration/checkpoints/looper100
    destination: fog2
    dest_path: /var/lib/fog-migration/checkpoints/looper100-copy
    mode: relay
    rate_limit: 5

- name: Open a channel for a live migration
  fog.migration.checkpoint_transfer:
    path: /var/lib/fog-migration/checkpoints/looper100
    destination: fog2
    live:
      container: "{{ running.container.id }}"
      armed: "{{ armed.container.id }}"
      mode: precopy
  register: opened

- name: Replace an older checkpoint of the same name, uncompressed
  fog.migration.checkpoint_transfer:
    path: /var/lib/fog-migration/checkpoints/looper100
    destination: fog2
    compression: none
    force: true
"""

RETURN = r"""
path:
  description: The directory on the source.
  returned: when the options are valid
  type: str
  sample: /var/lib/fog-migration/checkpoints/looper100
dest_path:
  description: The directory on the destination.
  returned: when the options are valid
  type: str
  sample: /var/lib/fog-migration/checkpoints/looper100
staging_path:
  description: Where the destination keeps what has arrived until all of it has. Gone after a success; kept for the
    next attempt after an interruption.
  returned: when the options are valid
  type: str
  sample: /var/lib/fog-migration/checkpoints/.looper100.incoming
channel:
  description: Path of the socket on the source by which the open channel is used.
  returned: when O(live) was given
  type: str
  sample: /run/fog-migration/transfer-4f6c54c0a7c10b6f-source-1795270000/agent.sock
rounds:
  description: The rounds of pre-copy, each with the memory that was looked at and what of it was sent.
  returned: when O(live) was given
  type: list
  elements: dict
  contains:
    bytes_memory:
      description: Bytes of memory that the container had.
      type: int
      sample: 268435456
    bytes_sent:
      description: Bytes of pages that were new or had changed.
      type: int
      sample: 1048576
    seconds:
      description: From the begin of the round until the destination had all of it.
      type: float
      sample: 0.31
staging:
  description:
    - Where the memory is kept on its way, on both hosts. C(kind) is V(memory) or V(disk), C(why_not_memory) tells why
      it is on disk.
  returned: when O(live) was given
  type: dict
  sample:
    source: {kind: memory, why_not_memory: null}
    destination: {kind: memory, why_not_memory: null}
tracked:
  description:
    - Whether the source's kernel told which pages had been written (CONFIG_MEM_SOFT_DIRTY), so that only those were
      read. Otherwise all pages were compared with a copy.
  returned: when O(live) was given with V(precopy) or V(hybrid)
  type: bool
  sample: false
rounds_ended:
  description: Why there was no further round.
  returned: when O(live) was given with V(precopy) or V(hybrid)
  type: str
  sample: the last round sent no more than 1 MiB
mode:
  description: V(direct) or V(relay), whichever was used (or, in check mode, would be).
  returned: success
  type: str
  sample: direct
compression:
  description: V(zstd) or V(none), whichever was used (or, in check mode, would be). With O(live), V(zlib) if it paid.
  returned: success
  type: str
  sample: zstd
bytes_checkpoint:
  description: Size of the directory's files in bytes, uncompressed.
  returned: success
  type: int
  sample: 3402118
bytes_sent:
  description: Bytes that the source sent, over all attempts. In a direct transfer what SSH put on the wire (as
    C(scp -v) tells it), or the channel's own bytes of an attempt that was cut off; in a relayed transfer the channel's
    bytes without SSH's share. 0 if nothing had to be sent.
  returned: success
  type: int
  sample: 35780
bytes_received:
  description: Bytes that the source received back, counted in the same way.
  returned: success
  type: int
  sample: 2608
seconds:
  description: Time that the sending took, over all attempts, from the first connection to the last answer.
  returned: success
  type: float
  sample: 0.42
rate:
  description: O(ignore:bytes_sent) per second.
  returned: success
  type: float
  sample: 85190.5
resumed_bytes:
  description: Bytes (uncompressed) that an earlier attempt had brought to the destination, so that the last attempt
    did not send them again.
  returned: success
  type: int
  sample: 0
attempts:
  description: How many connections it took.
  returned: success
  type: int
  sample: 1
files:
  description: Number of files in the directory.
  returned: success
  type: int
  sample: 14
"""

import os
import shutil
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fog.migration.plugins.module_utils import journal
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest as _manifest
from ansible_collections.fog.migration.plugins.module_utils.docker import mounts
from ansible_collections.fog.migration.plugins.module_utils.errors import (
    ChannelError,
    CollectionError,
    MigrationError,
    Refused,
)
from ansible_collections.fog.migration.plugins.module_utils.filesystem import container_log
from ansible_collections.fog.migration.plugins.module_utils.filesystem import snapshot as _snapshot
from ansible_collections.fog.migration.plugins.module_utils.migration import destination, source
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, host
from ansible_collections.fog.migration.plugins.module_utils.transport import (
    compression,
    framing,
    listing,
    ssh_access,
    ssh_connection,
    transfer,
    work_dir,
)
from ansible_collections.fog.migration.plugins.module_utils.transport import staging as _staging

EXPIRY_MARGIN = 300
OPEN_SECONDS = 30
PROGRESS_SECONDS = 2
MIB = 1024 * 1024


class Failure(CollectionError):
    """A step failed. The text is one sentence."""


# ---------------------------------------------------------------------------------------------------------------------
# The steps


def open_source(module, orders):
    """What there is to send, whether the destination can be reached, and (unless relayed) a key."""
    path = module.params["path"]
    if os.path.islink(path) or not os.path.isdir(path):
        raise Failure(f"{path} is not a directory")
    entries = listing.scan(path)
    login, current = ssh_access.login_user(orders.get("user")), ssh_access.current_user()
    facts = {
        "bytes": listing.total_size(entries),
        "files": len(listing.files_of(entries)),
        "has_ssh": bool(shutil.which("ssh") and shutil.which("ssh-keygen")),
        "has_zstd": bool(compression.zstd_program()),
        "reachable": False,
    }
    if orders["mode"] != "relay":
        problem = host.unreachable(orders["address"], orders["port"]) if orders["mode"] == "auto" else None
        facts.update(reachable=problem is None, unreachable_reason=problem)
    if module.check_mode:
        return facts
    expires = int(time.time()) + module.params["timeout"] + EXPIRY_MARGIN
    if orders["mode"] == "relay":
        problem = ssh_access.sudo_problem(login, current)
        if problem:
            raise Failure(problem)
        facts["directory"] = make_directory(module, orders, "source", expires, login)
        order = {
            "role": "send",
            "path": path,
            "compression": module.params["compression"],
            "compression_level": module.params["compression_level"],
            "rate_limit": int(module.params["rate_limit"] * 1024 * 1024),
            "idle_limit": module.params["timeout"],
        }
        program = deploy.lay_down(facts["directory"], order)
        facts["command"] = ssh_access.shell_line(ssh_access.as_login_user(login, current) + program)
    elif facts["reachable"] and facts["has_ssh"]:
        facts["directory"] = make_directory(module, orders, "source", expires, login)
        facts["public_key"] = ssh_access.make_key(facts["directory"])
    return facts


def make_directory(module, orders, role, expires, login):
    """The private directory of this transfer. It is in the journal before it is made, so that it can be cleaned up."""
    directory = work_dir.path_of(orders["id"], role, expires)
    note = {"id": orders["id"], "directory": directory, "user": login}
    journal.note(module.params["migration"], transfers=[note])
    work_dir.make(directory)
    return directory


def open_destination(module, orders):
    """What the destination has already; its receiver, and (unless relayed) the line that admits the source."""
    final = orders["final"]
    login, current = ssh_access.login_user(orders.get("user")), ssh_access.current_user()
    settings = ssh_access.read_sshd_settings(login)
    host_keys = ssh_access.read_host_keys(settings)
    facts = {
        "user": login,
        "host_keys": host_keys,
        "has_zstd": bool(compression.zstd_program()),
        "exists": os.path.lexists(final),
        "sudo_problem": ssh_access.sudo_problem(login, current),
        "door_problem": ssh_access.door_problem(settings, ssh_access.home_of(login)),
    }
    if not host_keys:
        facts["door_problem"] = facts["door_problem"] or "no SSH host keys can be read in /etc/ssh"
    live = module.params["live"]
    if facts["exists"] and not orders["replace"] and not live:
        facts["fingerprint"] = fingerprint_of(final, trust_manifest=False)
        return facts
    if module.check_mode or facts["sudo_problem"]:
        return facts
    expires = int(time.time()) + module.params["timeout"] + EXPIRY_MARGIN
    facts["directory"] = make_directory(module, orders, "destination", expires, login)
    if live:
        facts["staging"] = make_staging(facts["directory"], module.params, *transfer.copies_there(live["mode"]))
    program = lay_down_receiver(facts["directory"], orders, module.params)
    command = ssh_access.shell_line(ssh_access.as_login_user(login, current) + program)
    facts["command"] = command
    if orders.get("public_key") and not facts["door_problem"]:
        version, now = ssh_access.installed_ssh_version(), time.time()
        line = ssh_access.authorized_line(orders["public_key"], command, orders["id"], expires, version)
        try:
            ssh_access.edit_authorized_keys(
                login,
                lambda old: ssh_access.with_line(ssh_access.without_transfer(old, None, now), line.encode("ascii")),
            )
        except ssh_access.DoorError as exc:
            facts["door_problem"] = str(exc)
    return facts


def lay_down_receiver(directory, orders, params):
    """What the source's key may run: the receiver of a directory, or the destination's end of a live migration."""
    live = params["live"]
    if not live:
        order = {
            "role": "receive",
            "final": orders["final"],
            "host": orders["host"],
            "replace": orders["replace"],
            "idle_limit": framing.IDLE_LIMIT,
        }
        return deploy.lay_down(directory, order)
    order = {
        "container": live["armed"],
        "mounts": live["mounts"],
        "log": live["log"],
        "together": live["together"],
        "migration": params["migration"],
        "staging": os.path.join(directory, work_dir.STAGING),
        "docker_socket": live["docker_socket"],
        "patience": destination.PATIENCE,
        "restore_limit": live["restore_timeout"],
        "host": orders["host"],
    }
    return deploy.lay_down(directory, order, "migration.destination")


def make_staging(directory, params, most, expected):
    """Room for the memory on its way."""
    live, migration = params["live"], params["migration"]
    path, limit = os.path.join(directory, work_dir.STAGING), live["staging_limit"] * MIB
    made = _staging.make(path, live["staging_directory"], live["memory"], most, expected, limit)
    if made["kind"] == "disk":
        # What is below /run, a restart of the server removes; this it does not.
        journal.note(migration, made={"scratch": [os.path.realpath(path)]})
    return made


def open_channel(module, orders):
    """Starts the source's end of a live migration, which holds the channel open behind this task."""
    directory, live = orders["directory"], module.params["live"]
    key, hosts_file = os.path.join(directory, "key"), os.path.join(directory, "known_hosts")
    with open(hosts_file, "w", encoding="ascii") as stream:
        stream.write(ssh_access.known_hosts(orders["host_keys"]))
    ssh = {"key": key, "hosts_file": hosts_file, **{name: orders[name] for name in ("user", "address", "port")}}
    order = {
        "container": live["container"],
        "staging": os.path.join(directory, work_dir.STAGING),
        "docker_socket": live["docker_socket"],
        "options": ["--tcp-established", "--ext-unix-sk", "--file-locks"],
        "lazily": live["lazily"],
        "compression": "none" if module.params["compression"] == "none" else "auto",
        "rate_limit": int(module.params["rate_limit"] * MIB),
        "migration": module.params["migration"],
        "together": live["together"],
        "patience": module.params["timeout"],
        "lifetime": module.params["timeout"] * 2,
        "ssh": ssh,
    }
    staging = make_staging(directory, module.params, *transfer.copies_here(live["mode"], live["lazily"]))
    order["trees"], order["log"] = prepared_files(module.params["path"], live["log"])
    words = deploy.lay_down(directory, order, "migration.source")
    log = os.path.join(directory, "log")
    program = deploy.spawn(words, log)
    channel = os.path.join(directory, source.SOCKET)
    deadline = time.monotonic() + OPEN_SECONDS
    while not os.path.exists(channel):
        if program.poll() is not None or time.monotonic() > deadline:
            program.kill()
            with open(log, encoding="utf-8", errors="replace") as stream:
                said = stream.read().strip().splitlines()
            raise Failure(f"the channel could not be opened ({said[-1] if said else 'no answer'})")
        time.sleep(0.02)
    # It has done what it was for.
    for path in (key, key + ".pub"):
        os.unlink(path)
    memory = live["mode"] in transfer.PRECOPY_MODES
    if transfer.copies_beforehand(live):
        limits = {"rounds": live["max_rounds"], "threshold": int(live["threshold"] * MIB), "shrink": live["shrink"]}
        ask(channel, {"do": "copy", "memory": memory, "limits": limits})
    return {"channel": channel, "staging": staging}


def ask(channel, wish):
    """What the source's end of a live migration answers."""
    try:
        answer = source.ask(channel, wish)
    except (OSError, ValueError) as exc:
        raise Failure(f"the source's end of the channel does not answer ({exc})") from exc
    if "error" in answer:
        raise Failure(answer["error"])
    return answer["result"]


def progress(module, orders):
    """How far pre-copy is; as soon as it has ended, or after a moment."""
    deadline = time.monotonic() + PROGRESS_SECONDS
    while True:
        told = ask(orders["channel"], {"do": "progress"})
        if told["ended"] or time.monotonic() > deadline:
            return {"progress": told}
        time.sleep(0.1)


def prepared_files(path, log):
    """What is kept equal, of a prepared checkpoint: its root file system, the mounts that move, and its log if wanted.

    :returns: the trees of files, and the file of the log or None.
    """
    manifest = _manifest.load(path)
    if not manifest.get("prepared"):
        raise Failure(f"{path} is no prepared checkpoint")
    inspect = _manifest.inspected(path, "nothing was sent")
    snapshot = os.path.join(path, _snapshot.SNAPSHOT)
    trees = [{"place": "", "snapshot": snapshot}] if os.path.exists(snapshot) else []
    sources = mounts.sources(inspect)
    trees += [{"place": place, "root": sources[place]} for place in manifest.get("mounts", {})]
    return trees, container_log.path_of(inspect) if log else None


def close_door(module, orders):
    """Takes the source's key out again, and leaves what has come through the door alone."""
    ssh_access.edit_authorized_keys(
        ssh_access.login_user(orders.get("user")),
        lambda old: ssh_access.without_transfer(old, orders["id"], time.time()),
    )
    return {}


def fingerprint_of(path, trust_manifest):
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


def fingerprint(module, orders):
    return {"fingerprint": fingerprint_of(module.params["path"], trust_manifest=True)}


def send(module, orders):
    """Sends directly; the key is gone afterwards, whatever happened."""
    directory = orders["directory"]
    try:
        orders["key"] = os.path.join(directory, "key")
        orders["hosts_file"] = os.path.join(directory, "known_hosts")
        with open(orders["hosts_file"], "w", encoding="ascii") as stream:
            stream.write(ssh_access.known_hosts(orders["host_keys"]))
        return ssh_connection.DirectSending(module.params, orders).run()
    finally:
        work_dir.remove(directory)


def close(module, orders):
    """Leaves nothing of this transfer on this host but what has arrived."""
    for directory in work_dir.find(orders["id"], orders["role"]):
        deploy.dismiss(directory)
        work_dir.remove(directory)
    if orders["role"] == "destination":
        ssh_access.edit_authorized_keys(
            ssh_access.login_user(orders.get("user")),
            lambda old: ssh_access.without_transfer(old, orders["id"], time.time()),
        )
    return {}


def main():
    module = AnsibleModule(argument_spec=transfer.argument_spec(), supports_check_mode=True)
    step = module.params["step"]
    steps = {
        "open_source": open_source,
        "open_destination": open_destination,
        "fingerprint": fingerprint,
        "send": send,
        "open_channel": open_channel,
        "close_door": close_door,
        "progress": progress,
        "close": close,
    }
    if not step:
        module.fail_json(msg="checkpoint_transfer needs its action plugin on the controller; nothing was done.")
    try:
        module.exit_json(changed=False, **steps[step](module, module.params["step_options"] or {}))
    except ssh_connection.SendingFailed as exc:
        module.fail_json(msg=str(exc), **exc.books)
    except (Failure, ChannelError, ssh_access.DoorError, MigrationError) as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        module.fail_json(msg="{}: {}".format(exc.strerror or exc, exc.filename or module.params["path"]))


if __name__ == "__main__":
    main()
