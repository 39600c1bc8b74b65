# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes and bind mounts move with their content, of which only what changed travels at the freeze."""

from __future__ import annotations

import json
import re

import pytest

from support.lab import CHECKPOINTS, RUNTIME, failure, wait_for

pytestmark = pytest.mark.lab

# A number is said when it is on every disk. The large file is written to in its midst all the time.
WRITER = """
dd if=/dev/urandom of=/named/large bs=1M count=24 2>/dev/null
cp /named/large /named/first
mkdir /named/sub; ln -s sub /named/link; ln /named/first /named/sub/second; echo gone >/named/gone; echo x >/tmpfs/kept
n=0
while :; do
    for folder in /named /anonymous /bind /alone /; do echo $n >>$folder/log; done
    printf '%08d' $n | dd of=/named/large bs=8 seek=$((n % 3000000)) conv=notrunc 2>/dev/null
    [ $n != 20 ] || rm /named/gone
    echo $n
    n=$((n + 1))
    sleep 0.05
done
"""
MOUNTS = ["-v", "named:/named", "-v", "/anonymous", "-v", "/srv/bind:/bind", "-v", "/srv/alone:/alone/log"]
MOUNTS += ["--tmpfs", "/tmpfs:size=1m"]
FOLDERS = ("/named", "/anonymous", "/bind", "/alone", "")
SHOW = "cd /{}; find . | sort | xargs stat -c '%n %F %a %u %g %s %h'; find . -type f | sort | xargs md5sum"


@pytest.fixture
def writer(lab):
    """A container that writes into mounts of each kind on fog1."""

    def clear() -> None:
        for node in lab.servers():
            lab.sh(node, "docker ps -aq | xargs -r docker rm -fv; docker volume ls -q | xargs -r docker volume rm")
            lab.sh(node, "rm -rf /srv/bind /srv/alone")

    clear()
    lab.docker("fog1", "volume", "create", "--label", "kept=yes", "named")
    lab.sh("fog1", "mkdir -p /srv/bind && chmod 751 /srv/bind && chown 1000:1001 /srv/bind")
    lab.sh("fog1", "touch /srv/alone && chmod 640 /srv/alone && chown 1002 /srv/alone")
    lab.start("fog1", "mover", WRITER, *MOUNTS, "--restart", "always")
    wait_for(lambda: len(lab.lines("fog1", "mover")) > 25, "the first numbers")
    yield
    clear()


def written(lab, node: str) -> list[list[int]]:
    """The numbers in each folder, of a container that stands still."""
    return [lab.numbers(node, "mover", f"{folder}/log") for folder in FOLDERS]


def lives_on(lab, node: str, followed) -> None:
    """Every number that was said before is in every file, and none is missing or there twice."""
    assert lab.running_on("mover") == [node]
    wait_for(lambda: len(lab.lines(node, "mover")) > 10, "more numbers")
    before, after = ([int(line) for line in lines if line] for lines in (followed.lines(), lab.lines(node, "mover")))
    said = before + after
    assert said == list(range(said[0], said[0] + len(said)))
    lab.docker(node, "pause", "mover")
    for numbers in written(lab, node):
        assert numbers == list(range(len(numbers)))
        assert numbers[-1] >= said[-1]
    lab.docker(node, "unpause", "mover")


@pytest.mark.parametrize("mode", ["precopy", "cold"])
def test_there_and_back(lab, writer, mode):
    volume = json.loads(lab.docker("fog1", "volume", "inspect", "named"))[0]
    for source, destination in (("fog1", "fog2"), ("fog2", "fog1")):
        followed = lab.follow(source, "mover")
        extra = {"migration_mode": mode, "migration_binds": "all"}
        if source == "fog2":
            # The source keeps the folders of its host, and the destination's own are not written over.
            message = failure(lab.migrate("mover", check=False, **extra))
            for path in ("/srv/bind", "/srv/alone"):
                assert f"the destination has something in {path} already" in message
            lab.sh("fog1", "rm -r /srv/bind /srv/alone")
        done = lab.migrate("mover", **extra)
        lives_on(lab, destination, followed)
        there = json.loads(lab.docker(destination, "volume", "inspect", "named"))[0]
        assert (there["Labels"], there["Options"]) == (volume["Labels"], volume["Options"])
        assert lab.docker(source, "volume", "ls", "-q") == ""
        assert lab.sh(destination, "stat -c '%a %u %g' /srv/bind").strip() == "751 1000 1001"
        assert lab.sh(destination, "stat -c '%a %u %F' /srv/alone").strip() == "640 1002 regular file"
        inside = lab.docker(
            destination, "exec", "mover", "sh", "-c", "ls /named; readlink /named/link; cat /tmpfs/kept"
        )
        assert inside.split() == ["first", "large", "link", "log", "sub", "sub", "x"]
        links = "stat -c '%h %i' /named/first /named/sub/second"
        first, second = lab.docker(destination, "exec", "mover", "sh", "-c", links).split("\n")
        assert first == second and first.startswith("2 ")
        if mode == "precopy":
            # Of the file of 24 MiB that changes all the time, whole only once.
            sizes = re.search(r"/named \d+ differences: ([^;]*);", done.stdout).group(1).split(", ")
            assert [size.endswith("MiB") for size in sizes].count(True) == 1, sizes
        else:
            # Two files of 24 MiB, of which one changes all the time, travelled before.
            size, unit = re.search(r"checkpoint +([0-9.]+) ([KM]iB) in", done.stdout).groups()
            assert unit == "KiB" or float(size) < 12, (size, unit)
    lab.require_no_traces()


def test_what_has_changed_is_nothing_without_the_rest(lab, writer):
    """A checkpoint since another one is restored only where the volumes were filled from that."""
    before, after = (f"{CHECKPOINTS}/{name}" for name in ("before", "after"))

    def done(node: str, module: str, **arguments) -> dict:
        result = (lab.task if module == "checkpoint_transfer" else lab.module)(node, module, **arguments)
        assert not result["failed"], result
        return result

    lab.copy_image()
    mounts = {"container": "mover", "mounts": ["/named"]}
    assert done("fog1", "container_checkpoint", name="before", state="content", **mounts)["changed"]
    assert not done("fog1", "container_checkpoint", name="before", state="content", **mounts)["changed"]
    done("fog1", "container_checkpoint", name="after", since=before, **mounts)
    for path in (before, after):
        done("fog1", "checkpoint_transfer", path=path, destination="fog2")
    refused = lab.module("fog2", "container_restore", path=after)
    assert refused["failed"] and "volumes that were not filled here before" in refused["msg"]
    assert lab.docker("fog2", "volume", "ls", "-q") == ""
    assert done("fog2", "container_restore", path=before, state="filled")["changed"]
    assert not done("fog2", "container_restore", path=before, state="filled")["changed"]
    lab.sh("fog2", "mkdir -p /srv/bind; touch /srv/alone")
    done("fog2", "container_restore", path=after)
    wait_for(lambda: len(lab.lines("fog2", "mover")) > 5, "more numbers")
    lab.docker("fog2", "pause", "mover")
    numbers = lab.numbers("fog2", "mover", "/named/log")
    assert numbers == list(range(len(numbers))) and numbers[-1] >= int(lab.lines("fog1", "mover")[-1])
    lab.docker("fog2", "unpause", "mover")
    assert lab.docker("fog2", "exec", "mover", "ls", "/named").split() == ["first", "large", "link", "log", "sub"]


def test_what_is_undone_leaves_no_volume(lab, writer):
    """And the source has all of its own."""
    lab.sh("fog2", f"cp {RUNTIME} /root/; sed -i 's/restore --detach/restore --no/' {RUNTIME}")
    try:
        failure(lab.migrate("mover", check=False, migration_mode="precopy", migration_binds="all"))
    finally:
        lab.sh("fog2", f"mv /root/fog-runc {RUNTIME}")
    assert lab.running_on("mover") == ["fog1"]
    assert lab.docker("fog2", "volume", "ls", "-q") == ""
    assert lab.sh("fog2", "ls -d /srv/bind /srv/alone || true") == ""
    seen = len(lab.lines("fog1", "mover"))
    wait_for(lambda: len(lab.lines("fog1", "mover")) > seen + 5, "more numbers")
    lab.docker("fog1", "pause", "mover")
    for numbers in written(lab, "fog1"):
        assert numbers == list(range(len(numbers)))
    lab.require_no_traces()


@pytest.fixture
def lent(lab):
    """A container on fog1 with a volume of one that is gone by now; fog2 has another container of that one's name."""

    def clear() -> None:
        for node in lab.servers():
            lab.sh(node, "docker ps -aq | xargs -r docker rm -fv; docker volume ls -q | xargs -r docker volume rm")

    clear()
    lab.copy_image()
    lab.start("fog1", "lender", "sleep 1000", "-v", "named:/data")
    counter = "n=0; while :; do echo $n >>/data/log; n=$((n+1)); sleep 0.05; done"
    lab.start("fog1", "mover", counter, "--volumes-from", "lender")
    lab.docker("fog1", "rm", "-f", "lender")
    lab.start("fog2", "lender", "sleep 1000", "-v", "others:/data")
    wait_for(lambda: len(lab.numbers("fog1", "mover", "/data/log")) > 5, "the first numbers")
    yield
    clear()


@pytest.mark.parametrize("mode", ["precopy", "cold"])
def test_nobody_else_lends_it_volumes(lab, lent, mode):
    """By name, the container would have got what the destination's container of that name has."""
    lab.migrate("mover", migration_mode=mode)
    assert "mover" in lab.docker("fog2", "ps", "--format", "{{.Names}}").split()
    inspect = lab.inspect("fog2", "mover")
    assert [(one["Name"], one["Destination"]) for one in inspect["Mounts"]] == [("named", "/data")]
    assert not inspect["HostConfig"].get("VolumesFrom")
    lab.docker("fog2", "pause", "mover")
    numbers = lab.numbers("fog2", "mover", "/data/log")
    assert numbers == list(range(len(numbers))) and len(numbers) > 5
    lab.docker("fog2", "unpause", "mover")
    assert lab.docker("fog2", "exec", "lender", "ls", "/data") == ""


# The largest file that ext4 can have, and one in a folder of the host, if not larger than that.
SPARSE = """
import os, sys
for path in sys.argv[1:]:
    with open(path, "r+b" if os.path.exists(path) else "wb") as stream:
        size = next(2**bits - 4096 for bits in range(44, 30, -1) if can(stream, 2**bits - 4096))
        for place in (0, size // 3, size - 5):
            os.pwrite(stream.fileno(), b"data!", place)
"""
CAN = """
def can(stream, size):
    try:
        stream.truncate(size)
    except OSError:
        return False
    return True
"""
SPARSE_FACTS = """
import json, os, sys
found = []
for path in sys.argv[1:]:
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        held = os.fstat(stream.fileno()).st_blocks * 512
        places = (0, size // 3, size - 5)
        found.append([size, held < 2**20, [os.pread(stream.fileno(), 5, place).decode() for place in places]])
print(json.dumps(found))
"""


@pytest.mark.parametrize("mode", ["precopy", "cold"])
def test_the_largest_file_with_holes(lab, writer, mode):
    """It costs neither memory nor time by its size, and arrives with its holes; in its root file system as well."""

    def files_of(node: str) -> str:
        volume = json.loads(lab.docker(node, "volume", "inspect", "named"))[0]["Mountpoint"]
        merged = lab.inspect(node, "mover")["GraphDriver"]["Data"]["MergedDir"]
        return f"{volume}/sparse {merged}/sparse"

    lab.sh("fog1", f"cat >/root/sparse.py <<'END'\n{CAN}{SPARSE}END")
    for node in ("fog1", "fog2"):
        lab.sh(node, f"cat >/root/facts.py <<'END'\n{SPARSE_FACTS}END")
    lab.sh("fog1", f"python3 /root/sparse.py {files_of('fog1')}")
    before = json.loads(lab.sh("fog1", f"python3 /root/facts.py {files_of('fog1')}"))
    assert [facts[1:] for facts in before] == [[True, ["data!"] * 3]] * 2
    assert min(facts[0] for facts in before) > 2**40
    lab.migrate("mover", migration_mode=mode, migration_binds="all")
    assert json.loads(lab.sh("fog2", f"python3 /root/facts.py {files_of('fog2')}")) == before
    assert lab.running_on("mover") == ["fog2"]
    lab.sh("fog1", "rm /root/sparse.py /root/facts.py")
    lab.sh("fog2", "rm /root/facts.py")
