# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container writes in its root file system until the very moment of its freeze is at the destination, too."""

from __future__ import annotations

import json

import pytest

from support.lab import CHECKPOINTS, RUNTIME, failure, wait_for

pytestmark = pytest.mark.lab

# Numbers into a log, each once, and whatever else can be done to files; in /var, folders of the image are concerned.
WRITER = r"""
mkdir /w; cd /w; touch log fixed; mkdir kept
i=0
while :; do
  echo $i >>log
  echo $i >new$i; mv new$i renamed$((i % 7)); echo $i >brief; rm brief
  echo $i >"$(printf 'odd \\n\377 \n-%s' $((i % 4)))"
  mkdir -p dir$((i % 3))/sub; echo $i >dir$((i % 3))/sub/f; rm -rf moved$((i % 5)); mv dir$((i % 3)) moved$((i % 5))
  echo $i >first; ln -f first second$((i % 3)); ln -f second$((i % 3)) kept/third
  dd if=/dev/urandom of=sparse bs=7 seek=$((i * 9999)) count=1 conv=notrunc 2>/dev/null
  chmod $((i % 8))$((i % 7))4 fixed; chown $((i % 9)):$i fixed; chmod 7$((i % 8))5 kept
  rm -rf turn
  case $((i % 7)) in
  0) mkdir turn; echo $i >turn/in ;;
  1) echo $i >turn ;;
  2) ln -s log turn ;;
  3) mkfifo turn ;;
  4) mknod turn c 1 $i ;;
  5) rm -rf /var; mkdir -p /var/a/b; echo $i >/var/a/b/c ;;
  6) rm -rf /var; echo $i >/var ;;
  esac
  echo $i; i=$((i + 1)); sleep 0.02
done
"""
# What it holds, as JSON: the arguments are the root, and what of it is compared with its times.
LISTING = r"""
import hashlib, json, os, stat, sys
root, timed = sys.argv[1], sys.argv[2:]
if os.path.exists(root + "/bundle"):
    bundle = open(root + "/bundle").read().split()[1]
    root = json.load(open(bundle + "/config.json"))["root"]["path"]
names = ["."]
for base, folders, files in os.walk(root):
    names += [os.path.relpath(os.path.join(base, name), root) for name in folders + files]
first, found = {}, {}
for name in sorted(names):
    path = os.path.join(root, name)
    facts = os.lstat(path)
    content = os.readlink(path) if stat.S_ISLNK(facts.st_mode) else ""
    if stat.S_ISREG(facts.st_mode):
        content = hashlib.sha256(open(path, "rb").read()).hexdigest() + " of %d" % facts.st_size
    seen = [oct(facts.st_mode), facts.st_uid, facts.st_gid, facts.st_rdev, content]
    seen.append(first.setdefault(facts.st_ino, name))
    here = [one for one in os.listxattr(path, follow_symlinks=False) if one.startswith(("user.", "trusted.mine"))]
    seen += [[one, os.getxattr(path, one, follow_symlinks=False).hex()] for one in sorted(here)]
    found[name] = seen + [facts.st_mtime_ns] if name.split("/")[0] in timed else seen
print(json.dumps(found))
"""


@pytest.fixture
def runtime(lab):
    """C(runtime(before, words)) has the shell words run on fog2 before a line of fog-runc, and puts that back."""
    lab.sh("fog2", f"cp {RUNTIME} /root/fog-runc")

    def before(line: str, words: str) -> None:
        lab.sh("fog2", f"cat >/root/before.sh <<'END'\n{words}\nEND\nsed -i '/{line}/i . /root/before.sh' {RUNTIME}")
        assert ". /root/before.sh" in lab.sh("fog2", f"cat {RUNTIME}")

    yield before
    lab.sh("fog2", f"mv /root/fog-runc {RUNTIME}; rm -f /root/before.sh /root/list.py /root/listing")


@pytest.fixture
def listing(lab, runtime):
    """Has fog2 list the root file system right before a restore; C(listing(node)) is what each had then."""
    for node in ("fog1", "fog2"):
        lab.sh(node, f"cat >/root/list.py <<'END'\n{LISTING}END")
    runtime("while read -r option", 'python3 /root/list.py "$prepared" w var >/root/listing 2>&1')

    def listing(node: str) -> dict:
        if node == "fog2":
            return json.loads(lab.sh("fog2", "cat /root/listing"))
        merged = lab.inspect("fog1", "mover")["GraphDriver"]["Data"]["MergedDir"]
        return json.loads(lab.sh("fog1", f"python3 /root/list.py {merged} w var"))

    return listing


def done(lab, node: str, module: str, arguments: dict) -> dict:
    result = (lab.task if module == "checkpoint_transfer" else lab.module)(node, module, **arguments)
    assert not result["failed"], result
    return result


def open_channel(lab, mode: str) -> str:
    """Everything before the freeze; the channel."""
    path = f"{CHECKPOINTS}/mover"
    prepared = done(lab, "fog1", "container_checkpoint", {"container": "mover", "name": "mover", "state": "prepared"})
    assert lab.sh("fog1", f"stat -c %a {path}/rootfs.json").strip() == "600"
    done(lab, "fog1", "checkpoint_transfer", {"path": path, "destination": "fog2"})
    armed = done(lab, "fog2", "container_restore", {"path": path, "state": "armed"})
    live = {"container": prepared["manifest"]["container"]["id"], "armed": armed["container"]["id"], "mode": mode}
    return done(lab, "fog1", "checkpoint_transfer", {"path": path, "destination": "fog2", "live": live})["channel"]


# Once in two dozen runs, in hybrid mode, a folder that the source had was missing at the destination, and why is not
# known. Not seen in 33 runs since then; a folder that changes while the container stands still is refused by now.
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["stop-and-copy", "precopy", "postcopy", "hybrid"])
def test_both_are_equal_when_it_is_restored(lab, start, listing, mode):
    lab.copy_image()
    start(WRITER, lines=20)
    channel = open_channel(lab, mode)
    merged = lab.inspect("fog1", "mover")["GraphDriver"]["Data"]["MergedDir"]
    for name, attribute in ("kept", "trusted.mine"), ("log", "user.a"):
        lab.sh("fog1", f"python3 -c \"import os; os.setxattr('{merged}/w/{name}', '{attribute}', b'x')\"")
    moved = done(
        lab, "fog1", "container_checkpoint", {"container": "mover", "name": "mover", "channel": channel, "mode": mode}
    )
    print(mode, moved["seconds"], moved["files_sent"])
    here, there = listing("fog1"), listing("fog2")
    assert [name for name in here if name.startswith("w/odd")]
    assert here["w/kept"][6] == ["trusted.mine", b"x".hex()] and here["w/log"][6] == ["user.a", b"x".hex()]
    other = [(name, here.get(name), there.get(name)) for name in sorted({*here, *there})]
    assert [one for one in other if one[1] != one[2]] == []
    # And it goes on with that.
    wait_for(lambda: len(lab.lines("fog2", "mover")) > 20, "further lines")
    numbers = [int(line) for line in lab.docker("fog2", "exec", "mover", "cat", "/w/log").split()]
    assert numbers == list(range(len(numbers)))
    assert lab.docker("fog1", "inspect", "-f", "{{.State.Status}}", "mover") == "paused"


def test_there_and_back(lab, start):
    """By migrate.yml; the second time, what the first one brought is there to be changed again."""
    start(WRITER, lines=20)
    for node in ("fog2", "fog1"):
        lab.migrate("mover", migration_mode="postcopy")
        wait_for(lambda node=node: len(lab.lines(node, "mover")) > 20, "further lines")
        assert lab.running_on("mover") == [node]
        numbers = [int(line) for line in lab.docker(node, "exec", "mover", "cat", "/w/log").split()]
        assert numbers == list(range(len(numbers)))
    lab.docker("fog1", "rm", "-f", "mover")
    lab.require_no_traces()


FULL = r"""
root=$(sed -n 's/.*"root":{"path":"\([^"]*\)".*/\1/p' "$(tail -n 1 "$prepared/bundle")/config.json")
mkdir -p "$root/w"; mount -t tmpfs -o size=64k none "$root/w"
"""


def test_a_destination_that_is_full(lab, start, runtime):
    """It says so, and the container runs on where it was, with its restart policy."""
    runtime("echo armed", FULL)
    start(WRITER, "--restart", "always", lines=20)
    message = failure(lab.migrate("mover", check=False, migration_mode="postcopy"))
    assert "could not be written at the destination (No space left on device)" in message
    assert "it runs on as before" in message
    assert message.endswith("mover runs on as before at fog1, nothing is left over.")
    assert lab.running_on("mover") == ["fog1"]
    seen = len(lab.lines("fog1", "mover"))
    wait_for(lambda: len(lab.lines("fog1", "mover")) > seen + 5, "further lines")
    numbers = [int(line) for line in lab.docker("fog1", "exec", "mover", "cat", "/w/log").split()]
    assert numbers == list(range(len(numbers)))
    assert lab.inspect("fog1", "mover")["HostConfig"]["RestartPolicy"]["Name"] == "always"
    lab.docker("fog1", "rm", "-f", "mover")
    lab.require_no_traces()
