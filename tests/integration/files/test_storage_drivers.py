# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers whose Docker keeps their files otherwise than overlay2 does."""

from __future__ import annotations

import contextlib
import json
import subprocess

import pytest

from support.lab import IMAGE, wait_for

pytestmark = pytest.mark.lab

# Docker's own folder, and containerd's (which lies on an overlay in the lab's nodes), below the volume of the node.
OTHER = "/var/lib/docker/other"
OPTIONS = {
    "vfs": {"storage-driver": "vfs", "data-root": OTHER},
    "overlayfs": {"features": {"containerd-snapshotter": True}, "data-root": OTHER},
}
BEGIN = f"""
cp /etc/docker/daemon.json /root/daemon.json
python3 - <<'END'
import json
options = json.load(open("/root/daemon.json"))
options.update(json.loads('OPTIONS'))
json.dump(options, open("/etc/docker/daemon.json", "w"))
END
systemctl stop docker docker.socket containerd
mkdir -p {OTHER}/containerd && mount --bind {OTHER}/containerd /var/lib/containerd
systemctl reset-failed; systemctl start containerd docker.socket docker
"""
END = f"""
docker ps -aq | xargs -r docker rm -fv
systemctl stop docker docker.socket containerd
umount /var/lib/containerd
mv /root/daemon.json /etc/docker/daemon.json
systemctl reset-failed; systemctl start containerd docker.socket docker
rm -rf {OTHER}
"""
# Deletes, replaces and makes files of all kinds, of the image's and of its own, and goes on writing.
WRITER = r"""
rm /etc/group; rm -r /home; mkdir /home; echo new >/home/new; rm -r /var; ln -s home /var
mkdir -p /w/gone /w/kept; echo x >/w/gone/x; ln /bin/busybox /w/busybox; ln -s /etc /w/link; mkfifo -m 640 /w/pipe
echo odd >"$(printf '/w/odd\377name')"; chown 7:8 /w/kept; chmod 2751 /w/kept; echo changed >>/etc/passwd
dd if=/dev/zero of=/w/sparse bs=1 count=1 seek=10000000 2>/dev/null
n=0; while :; do echo $n; echo $n >>/w/numbers; [ $n = 40 ] && rm -r /w/gone; n=$((n+1)); sleep 0.05; done
"""
LIST = r"""
cd /proc/$(docker inspect -f '{{.State.Pid}}' mover)/root
find etc home var w bin -xdev -printf '%p|%y|%m|%U:%G|%n|%s|%l|%t\n' | grep -av 'w/numbers' |
grep -av 'etc/host\|etc/resolv\|etc/mtab' | sort | cat -v
"""


@pytest.fixture
def drivers(lab):
    """C(drivers(fog1=..., fog2=...)) has these servers use other storage drivers, with the lab's image on fog1."""
    changed = []

    def drivers(**wanted: str) -> None:
        save = [*lab.exec_command("fog1"), "docker", "save", IMAGE]
        image = subprocess.run(save, capture_output=True, check=True).stdout
        for node, driver in wanted.items():
            changed.append(node)
            lab.sh(node, BEGIN.replace("OPTIONS", json.dumps(OPTIONS[driver])))
            assert lab.docker(node, "info", "-f", "{{.Driver}}") == driver
        if "fog1" in wanted:
            load = [*lab.exec_command("fog1"), "docker", "load"]
            subprocess.run(load, input=image, capture_output=True, check=True)

    yield drivers
    with contextlib.ExitStack() as all_of_them:
        for node in changed:
            all_of_them.callback(lab.sh, node, END)


def numbers(lab, node: str) -> list[int]:
    return [int(word) for word in lab.docker(node, "exec", "mover", "cat", "/w/numbers").split()]


def goes_on(lab, node: str) -> None:
    before = len(numbers(lab, node))
    wait_for(lambda: len(numbers(lab, node)) > before + 10, "further numbers")
    found = numbers(lab, node)
    assert found == list(range(len(found)))


def moves(lab, here: str, there: str, mode: str) -> None:
    """Its files are the same, but that a whole file system knows its folders' sizes otherwise."""
    before = listed(lab, here)
    lab.migrate("mover", source=here, destination=there, migration_mode=mode)
    assert listed(lab, there) == before
    goes_on(lab, there)
    assert not lab.docker(here, "ps", "-aq", "--filter", "name=mover")


def listed(lab, node: str) -> list[list[str]]:
    """Folders without their number of links and their sizes, which depend on the file system."""
    rows = [line.split("|") for line in lab.sh(node, LIST).splitlines()]
    return [row[:4] + row[6:] if row[1] == "d" else row for row in rows]


@pytest.mark.parametrize("modes", [("precopy", "cold"), ("cold", "hybrid")])
def test_a_folder_for_each_container(lab, drivers, start, modes):
    """vfs, where Docker has to tell what differs from the image; to overlay2, and back."""
    drivers(fog1="vfs")
    start(WRITER, lines=60)
    moves(lab, "fog1", "fog2", modes[0])
    moves(lab, "fog2", "fog1", modes[1])


def test_images_kept_by_containerd(lab, drivers, start):
    """As a new Docker 29 does it: overlay, of which only containerd tells."""
    drivers(fog1="overlayfs", fog2="overlayfs")
    start(WRITER, lines=60)
    moves(lab, "fog1", "fog2", "precopy")
    moves(lab, "fog2", "fog1", "cold")
