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
extends_documentation_fragment:
  - fog.migration.agents
  - fog.migration.agents.run
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
      - Required without O(migrations).
    type: path
  destination:
    description:
      - Name of the destination in the inventory. Ansible's variables of that host (C(ansible_host), C(ansible_user),
        C(ansible_become) and so on) say how it is reached; they may come from the inventory or the command line, not
        from the C(vars) of a play.
      - Required without O(migrations).
    type: str
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
          - With V(postcopy), so does only what processes share (O(live.shared)), which CRIU cannot fetch later.
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
      shared:
        description: How many of them its processes share.
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
    choices: [open_source, open_destination, fingerprint, send, open_channel, revoke_key, progress, close]
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
  - With OpenSSH 7.7 or later on the destination the line expires by itself. With older ones, the program that it runs
    refuses whoever comes after that time, by the clock of the destination. The line itself stays if both the
    controller and the source die during the transfer, until the next transfer to that host removes it.
  - Only a line whose comment and whose command are ours is ever removed.
seealso:
  - module: fog.migration.container_checkpoint
  - module: fog.migration.container_restore
"""

EXAMPLES = r"""
- name: Copy memory and files of the containers of a run while they run
  fog.migration.checkpoint_transfer:
    agents: "{{ started.agents }}"
    migrations: "{{ armed.migrations }}"
  register: copied

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
migrations:
  description:
    - The migrations, with what is known of each by now. Of one that has failed, C(failure) tells the C(stage), the
      C(host), and why (C(msg)).
  returned: with O(migrations)
  type: list
  elements: dict
  sample: [{id: looper100-20261128a, container: looper100, source: fog1, destination: fog2, failure: null}]
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

from ansible_collections.fog.migration.plugins.module_utils.operations import checkpoint_transfer
from ansible_collections.fog.migration.plugins.module_utils.operations.as_module import run_as_module


def main() -> None:
    run_as_module(checkpoint_transfer.OPERATION)


if __name__ == "__main__":
    main()
