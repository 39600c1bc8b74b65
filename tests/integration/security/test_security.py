# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nobody may do or see but who is meant to: the key of a transfer, what arrives, folders, secrets."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import struct
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from ansible_collections.fog.migration.plugins.module_utils.transport import framing
from support.checkpoints import forge_manifest
from support.lab import CHECKPOINTS, failure, wait_for
from support.sequences import NATURALS, counted
from support.transfers import BASE, MIB, Nodes, result_of

# ---------------------------------------------------------------------------------------------------------------------
# The key of a transfer


@pytest.fixture
def nodes(lab) -> Iterator[Nodes]:
    the_nodes = Nodes()
    yield the_nodes
    for node in the_nodes.servers():
        the_nodes.sh(node, f"rm -rf {BASE} {BASE}-*")


def said(*frames: tuple[bytes, object]) -> str:
    """Frames as the shell's printf takes them."""
    data = b"".join(
        framing.HEADER.pack(kind, len(text)) + text
        for kind, text in ((kind, json.dumps(value).encode("ascii")) for kind, value in frames)
    )
    return base64.b64encode(data).decode("ascii")


def test_the_key_feeds_one_folder_and_stays_where_it_was_made(nodes):
    path = f"{BASE}/looper100"
    nodes.fill("fog1", path, 20)
    running = nodes.begin(path, mode="direct", rate_limit=0.7, compression="none")
    wait_for(lambda: nodes.arrived(path) > MIB, "the first MiB")
    folder = nodes.sh("fog1", "echo /run/fog-migration/transfer-*-source-*").strip()
    address = nodes.hostvars["fog2"]["ansible_host"]
    options = (
        f"-F /dev/null -i {folder}/key -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=10 "
        f"-o UserKnownHostsFile={folder}/known_hosts -o HostKeyAlias=fog-migration-destination"
    )
    # What is asked for has no meaning: whatever it is, one folder's receiver answers, and hears of no other.
    entries = [
        {"path": ".", "dir": True, "mode": 448},
        {"path": f"../../..{BASE}/elsewhere", "size": 1, "mode": 384, "sha256": hashlib.sha256(b"x").hexdigest()},
    ]
    lies = said(
        (framing.HELLO, framing.greeting("sender", compression="none")),
        (framing.LISTING, entries),
        (framing.LISTING, []),
    )
    order = f"python3 /run/fog-migration/channel.py {BASE}/elsewhere"
    answer = nodes.sh(
        "fog1",
        f"echo {lies} | base64 -d | timeout 20 ssh {options} root@{address} '{order}' 2>&1 | tr -cd '[:print:]'",
        False,
    )
    assert "which leaves the directory" in answer
    for command in (
        # It waits for the program that it has asked for, which is another one.
        f"scp -q {options} /etc/hostname root@{address}:{BASE}/elsewhere",
        f"scp -q -O {options} /etc/hostname root@{address}:{BASE}/elsewhere",
        f"ssh {options} -o ExitOnForwardFailure=yes -N -R 2222:localhost:22 root@{address}",
        f"ssh {options} -o ExitOnForwardFailure=yes -N -R {BASE}/socket:localhost:22 root@{address}",
        f"ssh {options} -s root@{address} sftp",
    ):
        done = nodes.sh("fog1", f"timeout 4 {command} </dev/null >/dev/null 2>&1; echo $?", check=False)
        assert done.strip() not in (("0",) if command.startswith("scp") else ("0", "124")), command
    assert nodes.sh("fog2", f"ls -A {BASE}").split() == [".looper100.incoming"]
    assert "2222" not in nodes.sh("fog2", "ss -Hltn")

    assert running.poll() is None
    private = nodes.sh("fog1", f"sed -n 2p {folder}/key").strip()
    assert nodes.sh("fog2", f"grep -rlaF {private} /run /root /tmp /var/lib/fog-migration* || true") == ""
    result = result_of(running)
    assert result["changed"], result
    assert private not in result["output"] and "PRIVATE KEY" not in result["output"]
    for node in nodes.servers():
        assert nodes.left(node) == ["0"]
        assert nodes.sh(node, f"grep -rlaF {private} /run /root /tmp || true") == ""


JOURNAL = "/var/lib/fog-migration/journal"


@pytest.mark.parametrize("mode", [pytest.param("cold", marks=pytest.mark.slow), "precopy"])
def test_no_key_is_left_when_a_migration_fails(lab, mode):
    """Nobody takes the bytes: a tmpfs without any room."""
    lab.start("fog1", "looper100", NATURALS)
    counted(lab, "fog1", "looper100", 5)
    # In live mode nothing is written to the disk but the journal.
    full = CHECKPOINTS if mode == "cold" else JOURNAL
    lab.sh("fog2", f"mkdir -p {full} && mount -t tmpfs -o size=4k,mode=700 tmpfs {full}")
    try:
        done = lab.migrate("looper100", check=False, migration_mode=mode, migration_ignore=["space_destination"])
        assert "No space left on device" in failure(done)
    finally:
        lab.sh("fog2", f"umount {full}")
    assert lab.running_on("looper100") == ["fog1"]
    for node in lab.servers():
        assert lab.sh(node, "grep -c fog-migration /root/.ssh/authorized_keys || true").strip() == "0"
        assert lab.sh(node, "find /run/fog-migration* -name 'key*' 2>/dev/null || true") == ""


# ---------------------------------------------------------------------------------------------------------------------
# What arrives

FACTS = {"owner": [0, 0], "times": [1, 1], "attributes": {}}
FOLDER, LINK, FILE = (kind | 0o777 for kind in (stat.S_IFDIR, stat.S_IFLNK, stat.S_IFREG))


def record(content: bytes = b"", **head) -> bytes:
    """One record of a root file system diff."""
    text = json.dumps({**FACTS, **head}).encode("ascii")
    return struct.pack(">I", len(text)) + text + content


def file(name: str) -> bytes:
    return record(b"owned", name=name, mode=FILE, size=5, extents=[[0, 5]])


HOSTILE = {
    "a name above": file("../../../../../../root/canary/file"),
    "an absolute name": file("/root/canary/file"),
    "through a link": record(name="a", mode=LINK, target="/root/canary") + file("a/file"),
    "a hard link": record(name="a", link="../../../../../../root/canary/kept"),
    "removing above": record(remove="../../../../../../root/canary"),
    "removing through a link": record(name="a", mode=LINK, target="/root") + record(remove="a/canary"),
    "a folder that becomes a link": record(name="a", mode=FOLDER) + record(name="a", mode=LINK, target="/root/canary"),
}
# These do nothing that cannot be; they must only not come to what the link names.
ALLOWED = ("a folder that becomes a link", "removing through a link")
CANARY = "find /root/canary -printf '%p %m %u %n %l\\n' | sort; cat /root/canary/kept"


@pytest.fixture
def copy(lab) -> Iterator[str]:
    """The path of a checkpoint of which one may do anything with, and a canary beside."""
    lab.start("fog1", "frozen", "echo x >/file; " + NATURALS)
    counted(lab, "fog1", "frozen", 5)
    lab.module("fog1", "container_checkpoint", container="frozen", name="copy", leave_running=True)
    lab.sh("fog1", "mkdir -m 700 /root/canary && echo sings >/root/canary/kept && chmod 600 /root/canary/kept")
    yield f"{CHECKPOINTS}/copy"
    lab.sh("fog1", "rm -rf /root/canary")


@pytest.mark.parametrize("what", sorted(HOSTILE))
def test_files_of_a_checkpoint_that_belong_elsewhere(lab, copy, what):
    before = lab.sh("fog1", CANARY)
    stream = base64.b64encode(HOSTILE[what] + bytes(4)).decode("ascii")
    lab.sh("fog1", f"echo {stream} | base64 -d >{copy}/rootfs.diff")
    forge_manifest(lab, "fog1", copy)
    result = lab.module("fog1", "container_restore", path=copy, name="clone")
    assert lab.sh("fog1", CANARY) == before
    if what not in ALLOWED:
        assert result["failed"] and "root file system cannot be made" in result["msg"], result
        assert lab.docker("fog1", "ps", "-aq", "--filter", "name=^clone$") == ""


LIES = {
    "a name that leads elsewhere": ("m['name'] = '../../../../../../../root/canary'", "gives no name of a checkpoint"),
    "an id that leads elsewhere": ("m['id'] = '../../root/canary/x'", "gives no id"),
    "a file above": ("m['files']['../../../root/canary/kept'] = next(iter(m['files'].values()))", "leaves the"),
    "a size": ("m['files']['container.json']['size'] += 1", "bytes instead of"),
    "a checksum": ("m['files']['container.json']['sha256'] = '0' * 64", "another SHA-256"),
    "a missing file": ("m['files']['criu/more.img'] = m['files']['container.json']", "more.img is missing"),
    "a file too many": ("del m['files']['rootfs.diff']", "rootfs.diff is not listed"),
    "no container": ("m['container'] = {}", "of which container"),
    "a depth": ("m['files']['a/' * 300 + 'a'] = m['files']['container.json']", "levels deep"),
}


@pytest.mark.parametrize("what", sorted(LIES))
def test_a_manifest_that_lies(lab, copy, what):
    lie, problem = LIES[what]
    before = lab.sh("fog1", CANARY)
    script = f"import json\np = '{copy}/manifest.json'\nm = json.load(open(p))\n{lie}\njson.dump(m, open(p, 'w'))"
    lab.sh("fog1", f"python3 - <<'END'\n{script}\nEND")
    result = lab.module("fog1", "container_restore", path=copy, name="clone")
    assert result["failed"] and problem in result["msg"] and "Traceback" not in json.dumps(result), result
    assert lab.sh("fog1", CANARY) == before
    assert lab.docker("fog1", "ps", "-aq", "--filter", "name=^clone$") == ""


@pytest.mark.slow
@pytest.mark.parametrize("text", ["{}", "[]", "{", "[[[[" * 5000, '{"Config": {}, "HostConfig": {}}', '{"Config": 1}'])
def test_a_configuration_that_is_none(lab, copy, text):
    lab.sh("fog1", f"cat >{copy}/container.json <<'END'\n{text}\nEND")
    forge_manifest(lab, "fog1", copy)
    result = lab.module("fog1", "container_restore", path=copy, name="clone")
    assert result["failed"] and "\n" not in result["msg"] and "could not be restored" in result["msg"], result
    assert lab.docker("fog1", "ps", "-aq", "--filter", "name=^clone$") == ""


# ---------------------------------------------------------------------------------------------------------------------
# Folders and secrets

PLACES = "/var/lib/fog-migration /run/fog-migration*"
NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"
# What is in these is private, not that there are such folders.
NAMES = {
    f"{place}/{name}"
    for place in ("/var/lib/fog-migration", "/run/fog-migration")
    for name in ("checkpoints", "images", "journal", "restored", "staging", "transfers", "runtime")
}
# All that others than root can see there, and folders that are not private; as often as it can be looked.
WATCH = f"""
while [ -e /root/watching ]; do
    {NOBODY} find {PLACES} -mindepth 1 2>/dev/null
    find {PLACES} -mindepth 1 -maxdepth 2 -type d -perm /077 -printf '%m %p\\n' 2>/dev/null
    find {PLACES} -mindepth 1 2>/dev/null | sed 's/^/root sees /'
    sleep 0.1
done | sort -u
"""


@pytest.fixture
def watched(lab):
    """C(watched()) ends the watch of both servers; what was seen."""
    for node in lab.servers():
        lab.sh(node, "touch /root/watching")
    watches = [
        subprocess.Popen([*lab.exec_command(node), "sh", "-c", WATCH], stdout=subprocess.PIPE, text=True)
        for node in lab.servers()
    ]

    def watched() -> list[str]:
        for node in lab.servers():
            lab.sh(node, "rm -f /root/watching")
        return [line for watch in watches for line in watch.communicate(timeout=60)[0].splitlines()]

    yield watched
    watched_nothing = [watch.poll() for watch in watches]
    if None in watched_nothing:
        watched()


@pytest.mark.parametrize(
    "mode", [pytest.param("cold", marks=pytest.mark.slow), "precopy", pytest.param("postcopy", marks=pytest.mark.slow)]
)
def test_nobody_else_sees_anything_at_any_time(lab, watched, mode):
    lab.start("fog1", "looper100", "echo x >/file; " + NATURALS)
    counted(lab, "fog1", "looper100", 5)
    lab.migrate("looper100", migration_mode=mode, migration_keep_checkpoint=mode == "cold")
    seen = watched()
    assert lab.running_on("looper100") == ["fog2"]
    others = [line for line in seen if not line.startswith("root sees ")]
    assert [line for line in others if line not in NAMES] == [], "\n".join(others)
    # There was something to see.
    written = ("/checkpoints/", "manifest.json") if mode == "cold" else ("/run/fog-migration/agent-",)
    for part in (*written, "/run/fog-migration/transfer-"):
        assert any(part in line for line in seen), part


@pytest.mark.parametrize("node", ["fog1", "fog2"])
def test_nothing_is_written_where_others_can_write(lab, node):
    """Not even in a folder like /tmp: the names are known beforehand. The container is not touched for that."""
    lab.start("fog1", "looper100", NATURALS)
    counted(lab, "fog1", "looper100", 5)
    for one in lab.servers():
        lab.sh(one, f"mkdir -m {'1777' if one == node else '700'} /srv/shared")
    try:
        done = lab.migrate("looper100", check=False, migration_mode="cold", migrate_directory="/srv/shared")
        assert "since /srv/shared can be written by others than root" in failure(done)
        assert lab.running_on("looper100") == ["fog1"]
        for one in lab.servers():
            assert lab.sh(one, "ls -A /srv/shared") == ""
    finally:
        for one in lab.servers():
            lab.sh(one, "rm -rf /srv/shared")


class Secret:
    """Two secrets of a container: in its environment, and one that only its memory has in one piece."""

    def __init__(self, lab):
        self.lab = lab
        self.given, half, other = (f"secret-{uuid.uuid4().hex}" for _each in range(3))
        self.made = f"{half}{other}"
        script = f"held={half}; held=${{held}}{other}; i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"
        lab.start("fog1", "looper100", script, "--env", f"PASSWORD={self.given}")
        counted(lab, "fog1", "looper100", 5)

    def require_kept(self, output: str) -> None:
        """Neither was said to anybody, nor can it be found by others than root, nor is it left anywhere."""
        pattern = f"{self.given}|{self.made}"
        assert self.given not in output and self.made not in output
        for node in self.lab.servers():
            assert self.lab.sh(node, f"journalctl --no-pager -o cat | grep -aE '{pattern}' || true") == ""
            own = f"grep -rlaE '{pattern}' /tmp /var/tmp /var/log {PLACES} 2>/dev/null || true"
            assert self.lab.sh(node, own) == ""
            everywhere = "/tmp /var/tmp /var/log /run /var/lib /root"
            theirs = f"{NOBODY} grep -rlasE -D skip '{pattern}' {everywhere} 2>/dev/null || true"
            assert self.lab.sh(node, theirs) == ""


@pytest.fixture
def secret(lab) -> Secret:
    return Secret(lab)


def test_what_looks_for_secrets_finds_them(lab, secret):
    lab.module("fog1", "container_checkpoint", container="looper100", name="c1", leave_running=True)
    for text in (secret.given, secret.made):
        assert "/c1/" in lab.sh("fog1", f"grep -rlaE '{text}' {PLACES} || true")
    lab.sh("fog1", f"cp -r {CHECKPOINTS}/c1 /tmp/c1 && chmod -R o+rX /tmp/c1")
    try:
        with pytest.raises(AssertionError):
            secret.require_kept("")
    finally:
        lab.sh("fog1", f"rm -rf /tmp/c1 {CHECKPOINTS}/c1")
    secret.require_kept("")
    with pytest.raises(AssertionError):
        secret.require_kept(f"it is {secret.given}")


@pytest.mark.parametrize("mode", ["cold", pytest.param("precopy", marks=pytest.mark.slow)])
def test_secrets_are_kept(lab, secret, mode):
    done = lab.migrate("looper100", "-vvv", "--diff", migration_mode=mode)
    assert lab.running_on("looper100") == ["fog2"]
    assert lab.docker("fog2", "exec", "looper100", "sh", "-c", "echo $PASSWORD") == secret.given
    secret.require_kept(done.stdout + done.stderr)


@pytest.mark.parametrize("mode", [pytest.param("cold", marks=pytest.mark.slow), "precopy"])
def test_secrets_are_kept_when_it_fails(lab, secret, mode):
    """The restore itself fails at the destination, which says why."""
    broken = "/usr/local/sbin/runc"
    lab.sh(
        "fog2",
        f'printf \'#!/bin/sh\\ncase " $* " in *" restore "*) exit 1;; esac\\nexec /usr/sbin/runc "$@"\' >{broken}',
    )
    lab.sh("fog2", f"chmod +x {broken}")
    try:
        done = lab.migrate("looper100", "-vvv", "--diff", check=False, migration_mode=mode)
    finally:
        lab.sh("fog2", f"rm {broken}")
    failure(done)
    assert lab.running_on("looper100") == ["fog1"]
    secret.require_kept(done.stdout + done.stderr)
