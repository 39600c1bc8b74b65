# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""checkpoint_transfer between the lab's fog servers: what arrives, what it costs, what it leaves, what it refuses."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator

import pytest
import yaml

from support import lab as lab_module
from support.transfers import BASE, MIB, Nodes, result_of

pytestmark = pytest.mark.lab

COLUMNS = ("bytes_checkpoint", "bytes_sent", "bytes_received", "seconds", "rate")
KEYS = "cat ~/.ssh/authorized_keys; stat -c '%a %U %G' ~/.ssh/authorized_keys"


@pytest.fixture
def nodes(_lab_is_up) -> Iterator[Nodes]:
    the_nodes = Nodes()
    before = {node: the_nodes.sh(node, KEYS) for node in the_nodes.servers()}
    yield the_nodes
    for node in the_nodes.servers():
        the_nodes.sh(node, f"rm -rf {BASE} {BASE}-*")
        assert the_nodes.sh(node, KEYS) == before[node]


@pytest.fixture
def checkpoint(nodes) -> str:
    path = f"{BASE}/looper100"
    nodes.fill("fog1", path)
    return path


def assert_nothing_left(nodes):
    assert nodes.left("fog1") == ["0"]
    assert nodes.left("fog2") == ["0"]


# What arrives and what it costs


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("mode", ["direct", "relay"])
def test_a_checkpoint_arrives_and_is_not_sent_twice(nodes, checkpoint, mode, compression):
    result = nodes.send(checkpoint, mode=mode, compression=compression)
    assert result["changed"], result
    assert (result["mode"], result["compression"], result["attempts"]) == (mode, compression, 1)
    assert result["files"] == 4
    assert result["bytes_checkpoint"] == 5 * MIB + 1847
    if compression == "none":
        assert 5 * MIB < result["bytes_sent"] < 5.1 * MIB
    else:
        assert 4 * MIB < result["bytes_sent"] < 4.1 * MIB
    assert 0 < result["bytes_received"] < 100_000
    assert result["rate"] == pytest.approx(result["bytes_sent"] / result["seconds"], rel=0.01)
    assert nodes.look("fog2", checkpoint) == nodes.look("fog1", checkpoint)
    assert_nothing_left(nodes)

    again = nodes.send(checkpoint, mode=mode, compression=compression)
    assert not again["changed"]
    assert [again[column] for column in COLUMNS] == [5 * MIB + 1847, 0, 0, 0, 0]
    assert_nothing_left(nodes)


def test_check_mode_says_what_would_be_sent(nodes, checkpoint):
    would = nodes.task("fog1", "checkpoint_transfer", "--check", path=checkpoint, destination="fog2")
    assert would["changed"]
    assert (would["mode"], would["compression"], would["bytes_sent"]) == ("direct", "zstd", 0)
    assert nodes.sh("fog2", f"ls {BASE}", check=False) == ""
    assert_nothing_left(nodes)
    nodes.send(checkpoint)
    assert not nodes.task("fog1", "checkpoint_transfer", "--check", path=checkpoint, destination="fog2")["changed"]


def test_the_controller_relays_where_the_source_cannot_reach_the_destination(nodes, checkpoint):
    """Nobody listens on port 2 of the destination."""
    result = nodes.send(checkpoint, dest_port=2, dest_path=f"{BASE}/elsewhere/looper100")
    assert result["mode"] == "relay", result
    assert nodes.look("fog2", f"{BASE}/elsewhere/looper100") == nodes.look("fog1", checkpoint)
    assert_nothing_left(nodes)


def test_a_checkpoint_of_the_thesis_size_costs_what_scp_did(nodes, checkpoint):
    """Table 4.1: 21-33 KB of tarball, 23440-35780 bytes sent, 2572-2608 received."""
    nodes.sh("fog1", f"rm -r {checkpoint}/*; head -c 30000 /dev/urandom > {checkpoint}/pages-1.img")
    result = nodes.send(checkpoint)
    assert 30_000 < result["bytes_sent"] < 45_000
    assert result["bytes_received"] < 15_000


# Interruption


@pytest.mark.parametrize("mode", ["direct", "relay"])
def test_a_transfer_that_is_cut_off_resumes_by_itself(nodes, checkpoint, mode):
    nodes.fill("fog1", checkpoint, 12)
    running = nodes.begin(checkpoint, mode=mode, rate_limit=3, retries=2, compression="none")
    lab_module.wait_for(lambda: nodes.arrived(checkpoint) > 3 * MIB, "the first 3 MiB")
    cut(nodes, mode)
    result = result_of(running)
    assert result["changed"], result
    assert result["attempts"] == 2
    assert result["resumed_bytes"] >= 3 * MIB
    assert result["bytes_sent"] < 14.5 * MIB  # 13 and a little, not 13 and 3
    assert nodes.look("fog2", checkpoint) == nodes.look("fog1", checkpoint)
    assert_nothing_left(nodes)


def cut(nodes, mode):
    """Kills the source's end of this one transfer: its ssh, or the program that the controller started there."""
    what = "HostKeyAlias=fog-migration" if mode == "direct" else "channel.py"
    pids = nodes.sh("fog1", f"pgrep -f '[/]run/fog-migration/.*{what}|{what}.*[/]run/fog-migration' || true").split()
    assert pids
    nodes.sh("fog1", f"kill -9 {' '.join(pids)}", check=False)


@pytest.mark.parametrize("mode", ["direct", "relay"])
def test_a_transfer_that_failed_resumes_when_the_task_runs_again(nodes, checkpoint, mode):
    nodes.fill("fog1", checkpoint, 12)
    running = nodes.begin(checkpoint, mode=mode, rate_limit=3, retries=0, compression="none")
    lab_module.wait_for(lambda: nodes.arrived(checkpoint) > 3 * MIB, "the first 3 MiB")
    cut(nodes, mode)
    failed = result_of(running)
    assert failed["failed"]
    assert f"what arrived is kept on fog2 in {BASE}/.looper100.incoming: run the task again" in failed["msg"]
    assert failed["bytes_sent"] > 3 * MIB
    assert nodes.sh("fog2", f"ls {checkpoint} 2>&1", check=False).strip().endswith("No such file or directory")
    assert nodes.sh("fog2", f"stat -c '%a %U' {BASE}/.looper100.incoming").strip() == "700 root"
    assert nodes.left("fog1") == ["0"]
    assert nodes.left("fog2") == ["0", ".looper100.incoming"]
    result = nodes.send(checkpoint, mode=mode)
    assert result["changed"], result
    assert result["resumed_bytes"] >= 3 * MIB
    assert nodes.look("fog2", checkpoint) == nodes.look("fog1", checkpoint)
    assert_nothing_left(nodes)


# Refusals


def test_something_else_under_the_final_name_is_left_alone_unless_forced(nodes, checkpoint):
    nodes.sh("fog2", f"mkdir -p {checkpoint}; echo precious > {checkpoint}/file")
    before = nodes.look("fog2", checkpoint)
    refused = nodes.send(checkpoint)
    assert refused["failed"]
    assert (
        f"fog2 has something else under {checkpoint} already (1 files, 9 bytes; the source has 4 files, "
        f"{5 * MIB + 1847} bytes)"
    ) in refused["msg"]
    assert "set force to replace it" in refused["msg"]
    assert nodes.look("fog2", checkpoint) == before
    forced = nodes.send(checkpoint, force=True)
    assert forced["changed"], forced
    assert nodes.look("fog2", checkpoint) == nodes.look("fog1", checkpoint)
    assert nodes.sh("fog2", f"ls -A {BASE}").split() == ["looper100"]
    assert_nothing_left(nodes)


@pytest.mark.parametrize("mode", ["direct", "relay"])
def test_a_full_disk_is_a_clear_refusal(nodes, checkpoint, mode):
    small = f"{BASE}-small"
    nodes.sh("fog2", f"mkdir -p {small} && mount -t tmpfs -o size=2m,mode=700 tmpfs {small}")
    try:
        refused = nodes.send(checkpoint, mode=mode, dest_path=f"{small}/looper100")
        assert refused["failed"]
        assert f"No space left on device at fog2:{small}" in refused["msg"]
        assert refused["bytes_sent"] < 20_000
        assert nodes.sh("fog2", f"ls -A {small}") == ""
    finally:
        nodes.sh("fog2", f"umount {small}")
    assert_nothing_left(nodes)


def test_a_damaged_checkpoint_is_not_sent(nodes, checkpoint):
    manifest = {"files": {"criu/pages-1.img": {"size": 7, "sha256": "0" * 64}}}
    nodes.sh("fog1", f"echo '{json.dumps(manifest)}' > {checkpoint}/manifest.json")
    refused = nodes.send(checkpoint)
    assert "is damaged and was not sent: criu/pages-1.img has 4194304 bytes, the manifest says 7" in refused["msg"]
    assert nodes.sh("fog2", f"ls {BASE}", check=False) == ""
    assert_nothing_left(nodes)


def test_a_flipped_bit_does_not_arrive(nodes, checkpoint):
    files = {
        line.split("  ./")[1]: line.split()[0]
        for line in nodes.sh("fog1", f"cd {checkpoint} && find . -type f -exec sha256sum {{}} +").splitlines()
    }
    sizes = {name: int(nodes.sh("fog1", f"stat -c %s {checkpoint}/{name}")) for name in files}
    manifest = {"files": {name: {"size": sizes[name], "sha256": files[name]} for name in files}}
    nodes.sh("fog1", f"echo '{json.dumps(manifest)}' > {checkpoint}/manifest.json")
    nodes.sh("fog1", f"printf X | dd of={checkpoint}/criu/pages-2.img bs=1 seek=1000 conv=notrunc status=none")
    refused = nodes.send(checkpoint)
    assert "criu/pages-2.img arrived with another checksum than the one listed for it" in refused["msg"]
    assert nodes.sh("fog2", f"ls {checkpoint} 2>&1", check=False).strip().endswith("No such file or directory")


def test_another_host_at_the_destinations_address_gets_nothing(nodes, checkpoint):
    """The client answers there, and has not the host keys of fog2."""
    refused = nodes.send(checkpoint, mode="direct", dest_address=nodes.hostvars["client"]["ansible_host"])
    assert "Host key verification failed" in refused["msg"]
    assert refused["attempts"] == 1
    assert refused["bytes_sent"] < 10_000
    assert_nothing_left(nodes)


def test_what_cannot_be_sent_directly_is_relayed_with_a_warning(nodes, checkpoint):
    """At the given address there is an sshd, but not the destination's."""
    result = nodes.send(checkpoint, dest_address=nodes.hostvars["client"]["ansible_host"])
    assert result["changed"], result
    assert (result["mode"], result["attempts"]) == ("relay", 2)
    assert "did not get to fog2's receiver: Host key verification failed" in " ".join(result["output"].split())
    assert nodes.look("fog2", checkpoint) == nodes.look("fog1", checkpoint)
    assert_nothing_left(nodes)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"path": "/nonexistent"}, "on fog1, /nonexistent is not a directory"),
        ({"path": "relative"}, "path is relative, but it must be absolute"),
        ({"destination": "fog9"}, "fog9 is not in the inventory"),
        ({"destination": "fog1"}, "the destination is the source itself"),
        ({"mode": "direct", "dest_port": 2, "retries": 0}, "Connection refused"),
        ({"step": "send"}, "step and step_options are internal"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(nodes, checkpoint, options, problem):
    refused = nodes.send(**{"path": checkpoint, **options})
    assert refused["failed"]
    assert problem in refused["msg"]
    assert_nothing_left(nodes)


# SSH access


def test_the_key_can_do_nothing_else(nodes, checkpoint):
    nodes.fill("fog1", checkpoint, 12)
    running = nodes.begin(checkpoint, mode="direct", rate_limit=0.7, compression="none")
    lab_module.wait_for(lambda: nodes.arrived(checkpoint) > MIB, "the first MiB")
    folder = nodes.sh("fog1", "echo /run/fog-migration/transfer-*-source-*").strip()
    assert nodes.sh("fog1", f"stat -c '%a %U' {folder} {folder}/key").split() == ["700", "root", "600", "root"]
    assert "expiry-time=" in nodes.sh("fog2", "grep fog-migration: ~/.ssh/authorized_keys")
    address = nodes.hostvars["fog2"]["ansible_host"]
    options = (
        f"-F /dev/null -i {folder}/key -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=10 "
        f"-o UserKnownHostsFile={folder}/known_hosts -o HostKeyAlias=fog-migration-destination"
    )
    attempts = {
        "a command": f"ssh {options} root@{address} id",
        "a shell": f"ssh -tt {options} root@{address}",
        "a file": f"sftp -b /dev/null {options} root@{address}",
        "a forwarding": f"ssh {options} -W localhost:22 root@{address}",
    }
    for what, command in attempts.items():
        said = nodes.sh("fog1", f"timeout 20 {command} </dev/null 2>&1 | tr -d '\\0'", check=False)
        assert "uid=" not in said, what
        assert "SSH-2.0" not in said, what
        assert "fog2:~#" not in said, what
        answers = ('"protocol":"fog.migration"', "prohibited", "PTY allocation request failed", "message too long")
        assert any(answer in said for answer in answers), (what, said)
    result = result_of(running)
    assert result["changed"], result
    assert result["attempts"] == 1
    assert_nothing_left(nodes)


def test_transfers_side_by_side_keep_their_keys_apart(nodes, checkpoint):
    nodes.fill("fog1", f"{BASE}/other")
    first, second = nodes.begin(checkpoint), nodes.begin(f"{BASE}/other")
    assert result_of(first)["changed"]
    assert result_of(second)["changed"]
    assert nodes.look("fog2", checkpoint) == nodes.look("fog1", checkpoint)
    assert_nothing_left(nodes)


# Other ways to reach the hosts


def playbook(nodes, tmp_path, inventory, tasks, hosts="fog1", **keywords):
    """Runs tasks with more hosts in the inventory; (registered `sent`, or None if the play failed, the output)."""
    (tmp_path / "more.yml").write_text(yaml.safe_dump({"lab": {"hosts": inventory}}))
    play = {
        "hosts": hosts,
        "gather_facts": False,
        **keywords,
        "tasks": [*tasks, {"ansible.builtin.debug": {"msg": "SENT{{ sent | to_json | b64encode }}TNES"}}],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        ["ansible-playbook", "-i", "../inventories/lab", "-i", tmp_path / "more.yml", tmp_path / "play.yml"],
        cwd=lab_module.PLAYBOOKS,
        env=lab_module.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def sent_in(output):
    """The result that a play registered."""
    return json.loads(base64.b64decode(output.partition("SENT")[2].partition("TNES")[0]))


def test_an_unreachable_destination_can_be_rescued(nodes, checkpoint, tmp_path):
    task = {"fog.migration.checkpoint_transfer": {"path": checkpoint, "destination": "fog9"}, "register": "sent"}
    output = playbook(
        nodes,
        tmp_path,
        {"fog9": {"ansible_host": "127.0.0.1", "ansible_port": 2}},
        [{"block": [task], "rescue": [{"ansible.builtin.debug": {"msg": "rescued"}}]}],
    )
    assert "rescued" in output
    assert "unreachable=0" in output
    sent = sent_in(output)
    assert sent["failed"]
    assert "unreachable" not in sent
    assert "fog9 cannot be used" in sent["msg"]
    assert "Connection refused" in sent["msg"]
    assert_nothing_left(nodes)


@pytest.fixture
def ordinary_user(nodes) -> Iterator[str]:
    """A user on both fog servers that may become root, as on a Raspberry Pi."""
    for node in nodes.servers():
        install = "apt-get install -qq sudo"
        nodes.sh(node, f"command -v sudo || {install} || {{ apt-get update -qq && {install}; }}", check=False)
        if not nodes.sh(node, "command -v sudo", check=False):
            pytest.skip(f"needs sudo on {node}")
        nodes.sh(
            node,
            "id fogpi >/dev/null 2>&1 || useradd -m -s /bin/bash fogpi; usermod -p '*' fogpi; "
            "install -d -o fogpi -g fogpi -m 700 ~fogpi/.ssh; "
            "install -o fogpi -g fogpi -m 600 ~/.ssh/authorized_keys ~fogpi/.ssh/authorized_keys; "
            "echo 'fogpi ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/fogpi",
        )
    yield "fogpi"
    for node in nodes.servers():
        nodes.sh(node, "rm -f /etc/sudoers.d/fogpi; userdel -rf fogpi 2>/dev/null", check=False)


@pytest.mark.parametrize("mode", ["direct", "relay"])
def test_an_ordinary_user_with_sudo_is_enough(nodes, checkpoint, ordinary_user, tmp_path, mode):
    inventory = {
        f"{node}pi": {
            "ansible_host": nodes.hostvars[node]["ansible_host"],
            "ansible_user": ordinary_user,
            "ansible_become": True,
        }
        for node in nodes.servers()
    }
    look = "cat ~fogpi/.ssh/authorized_keys; stat -c '%a %U %G' ~fogpi/.ssh/authorized_keys"
    keys = {node: nodes.sh(node, look) for node in nodes.servers()}
    output = playbook(
        nodes,
        tmp_path,
        inventory,
        [
            {
                "fog.migration.checkpoint_transfer": {"path": checkpoint, "destination": "fog2pi", "mode": mode},
                "register": "sent",
            }
        ],
        hosts="fog1pi",
    )
    sent = sent_in(output)
    assert sent["changed"], output
    assert sent["mode"] == mode
    assert nodes.look("fog2", checkpoint) == nodes.look("fog1", checkpoint)
    assert nodes.sh("fog2", f"stat -c %U {checkpoint}/criu").strip() == "root"
    assert {node: nodes.sh(node, look) for node in nodes.servers()} == keys
    assert_nothing_left(nodes)


def test_sudo_that_asks_for_a_password_is_told_beforehand(nodes, checkpoint, ordinary_user, tmp_path):
    """Ansible has the password; the channel, which nobody attends, has not."""
    nodes.sh("fog2", "echo 'fogpi:secret' | chpasswd; echo 'fogpi ALL=(ALL) ALL' > /etc/sudoers.d/fogpi")
    inventory = {
        "fog2pi": {
            "ansible_host": nodes.hostvars["fog2"]["ansible_host"],
            "ansible_user": ordinary_user,
            "ansible_become": True,
            "ansible_become_password": "secret",
        }
    }
    output = playbook(
        nodes,
        tmp_path,
        inventory,
        [
            {
                "fog.migration.checkpoint_transfer": {"path": checkpoint, "destination": "fog2pi"},
                "register": "sent",
                "ignore_errors": True,
            }
        ],
    )
    assert "on fog2pi, sudo does not let fogpi become root without a password" in sent_in(output)["msg"]
    assert_nothing_left(nodes)


@pytest.mark.parametrize("mode", ["direct", "relay"])
def test_the_controller_itself_can_be_the_source(nodes, tmp_path, mode):
    """In a play with connection local, the destination is still another host."""
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "layer.tar").write_bytes(bytes(range(256)) * 4096)
    target = f"{BASE}/image"
    output = playbook(
        nodes,
        tmp_path,
        {"here": {}},
        [
            {
                "fog.migration.checkpoint_transfer": {
                    "path": str(tmp_path / "image"),
                    "destination": "fog2",
                    "mode": mode,
                    "dest_path": target,
                },
                "register": "sent",
            }
        ],
        hosts="here",
        connection="local",
    )
    sent = sent_in(output)
    assert sent["changed"], output
    assert sent["mode"] == mode
    assert nodes.sh("fog2", f"stat -c %s {target}/layer.tar").strip() == str(MIB)
    assert_nothing_left(nodes)


def test_the_controller_itself_can_be_the_destination(nodes, checkpoint, tmp_path):
    """A destination with connection local gets the bytes by relay."""
    output = playbook(
        nodes,
        tmp_path,
        {"here": {"ansible_connection": "local"}},
        [
            {
                "fog.migration.checkpoint_transfer": {
                    "path": checkpoint,
                    "destination": "here",
                    "mode": "relay",
                    "dest_path": str(tmp_path / "arrived"),
                },
                "register": "sent",
            }
        ],
    )
    sent = sent_in(output)
    assert sent["changed"], output
    assert (tmp_path / "arrived" / "criu" / "pages-1.img").stat().st_size == 4 * MIB


def test_a_relay_trusts_no_host_that_ansible_does_not(nodes, tmp_path):
    paramiko = pytest.importorskip("paramiko")
    from ansible_collections.fog.migration.plugins.plugin_utils import _relay

    assert paramiko
    address = nodes.hostvars["fog2"]["ansible_host"]
    key = str(lab_module.STATE / "id_ed25519")
    unknown = _relay.Route(address, user="root", key_files=[key], known_hosts=[], host_key_names=[address])
    other = tmp_path / "known_hosts"
    other.write_text(f"{address} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN5aFSJix5saS1GqeYzgRNrI3ubAnOkDIidDgPM62pCa\n")
    changed = _relay.Route(address, user="root", key_files=[key], known_hosts=[str(other)], host_key_names=[address])
    end = _relay.End("fog2", None, "true")
    for route, problem in ((unknown, "not found in known_hosts"), (changed, "host key is not the one in known_hosts")):
        with pytest.raises(_relay.RelayError, match=problem) as error:
            _relay.connect(end, route)
        assert error.value.hopeless
    known = str(lab_module.STATE / "known_hosts")
    _relay.connect(
        end, _relay.Route(address, user="root", key_files=[key], known_hosts=[known], host_key_names=[address])
    ).close()


def test_a_stopped_controller_leaves_a_door_that_shuts_itself(nodes, checkpoint):
    """The controller is killed in the middle: no key is left, and the line that is left is bound to expire."""
    nodes.fill("fog1", checkpoint, 12)
    running = nodes.begin(checkpoint, mode="direct", rate_limit=3, compression="none", timeout=30)
    lab_module.wait_for(lambda: nodes.arrived(checkpoint) > MIB, "the first MiB")
    running.kill()
    running.wait()
    lab_module.wait_for(lambda: nodes.left("fog1")[:1] == ["0"], "the key's end", 60)
    line = nodes.sh("fog2", "grep fog-migration: ~/.ssh/authorized_keys", check=False)
    if line:
        assert int(line.split(":")[-1]) < time.time() + 30 + 300 + 60
        transfer_id = line.split("fog-migration:")[-1].split(":")[0]
        nodes.sh(
            "fog2",
            f"sed -i '/fog-migration:{transfer_id}:/d' ~/.ssh/authorized_keys; "
            f"rm -rf /run/fog-migration/transfer-{transfer_id}-*",
        )
