# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role docker on a bare server: the distribution's Docker, a static build, and a signed apt repository.

The repository's packages and the static build are made on the server from the distribution's own Docker, so that a real
daemon runs from them. With FOG_DOCKER_STATIC=FOLDER, they have the programs of that folder instead, as Docker's static
build of 17.09.1-ce has them.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from support import lab as lab_module
from support.role_on_server import RoleOnServer

pytestmark = pytest.mark.lab

PROGRAMS = os.environ.get("FOG_DOCKER_STATIC", "")

# What an interrupted run may leave: a socket whose service is not there.
INTERRUPTED = r"""
cd /usr/lib/systemd/system
printf '[Socket]\nListenStream=/run/docker.sock\n' >docker.socket
printf '[Service]\nExecStart=/bin/false\n' >docker.service
systemctl daemon-reload; systemctl start docker.socket
rm docker.socket docker.service; systemctl daemon-reload
systemctl is-active docker.socket
"""


class DockerOnServer(RoleOnServer):
    """The role docker on one server."""

    PLAY = """
- name: Docker
  hosts: {node}
  roles:
    - role: fog.migration.docker
"""
    VARIABLES = "docker_"
    STATE = r"""
dpkg-query -W -f '${Package} ${Version} ${Status}\n' 'docker*' 'containerd*'; apt-mark showhold
find /etc/systemd/system/docker.service /usr/local/bin /etc/apt -printf '%p %l\n' 2>&1 | sort
cat /etc/apt/sources.list.d/*docker* /etc/apt/preferences.d/*docker*
cat /etc/docker/daemon.json; docker version --format '{{.Server.Version}}'
systemctl is-active docker.socket docker.service
docker ps -a --format '{{.Names}} {{.State}}'; true
"""

    def old_control_groups(self) -> bool:
        """Whether Docker 17.09 could run here."""
        return not self.sh("ls /sys/fs/cgroup/cgroup.controllers 2>/dev/null || :")

    def start(self) -> str:
        """A container that runs; what it is known by."""
        self.sh(
            "mkdir -p /srv/image/bin; cp /usr/bin/busybox /srv/image/bin; ln -sf busybox /srv/image/bin/sh;"
            "tar -C /srv/image -c . | docker import - busybox:lab;"
            "docker run -d --name looper busybox:lab sh -c 'while :; do sleep 1; done'"
        )
        return self.started()

    def started(self) -> str:
        """The process of the container and since when it runs."""
        return self.sh("docker inspect --format '{{.State.Status}} {{.State.Pid}} {{.State.StartedAt}}' looper")

    def unpack_docker(self) -> str:
        """The programs of a Docker in /srv/docker; their version."""
        if PROGRAMS:
            self.sh("mkdir -p /srv")
            target = f"{lab_module.NAME}-{self.node}:/srv/docker"
            subprocess.run(["docker", "cp", PROGRAMS, target], check=True, capture_output=True)
        else:
            self.script("docker-programs.sh")
        self.script("docker-static.sh")
        return self.sh("cat /srv/version").replace("-ce", "~ce")


@pytest.fixture
def server(lab, bare) -> DockerOnServer:
    """A new bare server."""
    node = bare()
    lab.read_inventory()
    return DockerOnServer(lab, node)


@pytest.mark.slow
def test_distribution_and_static_build(server):
    # A check on a bare server.
    files = "find /etc /opt /usr /var/lib -newer /srv/now"
    server.sh("touch /srv/now")
    assert server.change("--check", channel="distro") > 0
    assert server.sh(files) == ""

    # The distribution's, experimental. The second time nothing changes.
    server.sh(INTERRUPTED)
    assert server.change(channel="distro") > 0
    assert server.sh("docker version --format '{{.Server.Experimental}}'") == "true"
    container = server.start()
    assert server.change(channel="distro") == 0

    # Settings: one that no Docker knows, a restart through which the container lives, and one that dockerd dies of.
    assert server.change(channel="distro", daemon_extra={"icc": True, "nonsense": 1}) > 0
    assert "icc" in server.refusal(channel="distro", daemon_extra={"icc": "perhaps"})
    assert server.started() == container

    # Nothing replaces a Docker under a container that runs.
    version = server.unpack_docker()
    file_version = version.replace("~", "-")
    static = {
        "channel": "static",
        "version": version,
        "static_url": "http://127.0.0.1:8000/docker-VERSION.tgz",
        "static_checksums": {file_version: {"x86_64": server.sh("sha256sum /srv/www/docker-*.tgz")[:64]}},
    }
    broken = {**static, "static_url": "http://127.0.0.1:8000/broken.tgz"}
    broken["static_checksums"] = {file_version: {"x86_64": server.sh("sha256sum /srv/www/broken.tgz")[:64]}}
    assert "would be replaced while its containers run (looper)" in server.refusal(**static)
    assert server.started() == container

    # With leave: whatever fails, the old one runs again, and so does the container.
    static["stop_running"] = broken["stop_running"] = True
    wrong = {file_version: {"x86_64": "0" * 64}}
    assert f"and not {'0' * 64}" in server.refusal(**{**static, "static_checksums": wrong})
    assert "could not be downloaded" in server.refusal(**{**static, "static_url": "http://127.0.0.1:9/docker.tgz"})
    assert server.started() == container
    assert "this dockerd does not like the moon" in server.refusal(**broken)

    # The static build takes over; the package goes, and the next run changes nothing under the container. A Docker
    # before 18.09 cannot start what a newer one has made.
    if PROGRAMS:
        assert "cannot start what ran before" in server.refusal(**static)
        server.sh("docker rm -f looper")
    assert server.change(**static) > 0
    assert server.sh("docker version --format '{{.Server.Version}}'; readlink -f $(which dockerd)").split() == [
        file_version,
        f"/opt/docker/{file_version}/dockerd",
    ]
    assert " install ok" not in server.sh("dpkg-query -W -f '${Package} ${Status}\n' docker.io")
    container = server.start() if PROGRAMS else server.started()
    assert server.change(**static) == 0
    assert server.started() == container


@pytest.mark.slow
def test_pinned_by_apt(server):
    server.unpack_docker()
    if server.old_control_groups():
        old, newer, wanted = "17.09.1~ce-0~debian", "18.06.3~ce~3-0~debian", "17.09.1~ce"
    else:
        old, newer, wanted = "5:20.10.9~3-0~debian", "5:20.10.24~3-0~debian", "5:20.10.9~3"
        assert "systemd.unified_cgroup_hierarchy=0" in server.refusal(channel="static")
    server.script("docker-repository.sh", old, newer)
    apt = {
        "channel": "apt",
        "version": wanted,
        "apt_repository": "http://127.0.0.1:8000",
        "apt_suite": "trial",
        "apt_key_fingerprint": server.sh("cat /srv/www/gpg.fingerprint"),
    }

    # Another key than the one that is expected, and a repository that is signed with another key, though that comes
    # with the right one, where some programs look for keys and others do not.
    server.sh("cd /srv/www; sed 's/PGP PUBLIC KEY BLOCK/X/' someone >>gpg")
    refused = lab_module.failure(server.run(check=False, **{**apt, "apt_key_fingerprint": "0" * 40}))
    assert f"has the fingerprint {apt['apt_key_fingerprint']} and not {'0' * 40}" in refused
    server.sh("cd /srv/www; mv dists/trial/InRelease right; cp someone.InRelease dists/trial/InRelease")
    refused = lab_module.failure(server.run(check=False, **apt))
    assert "signature is wrong" in refused and "There is no Docker, as before" in refused
    assert server.sh("find /etc/apt -name '*docker*'; which docker || :") == ""
    server.sh("mv /srv/www/right /srv/www/dists/trial/InRelease")

    # The newer one first, as somebody may have it; the pinned one takes its place.
    newer_one = {**apt, "version": newer}
    assert server.change(**newer_one) > 0
    assert server.sh("dpkg-query -W -f '${Version}' docker-ce") == newer
    container = server.start()
    assert "would be replaced while its containers run (looper)" in server.refusal(**apt)
    assert "apt knows no version 17.03" in server.refusal(**{**apt, "version": "17.03.0~ce", "stop_running": True})
    assert server.started() == container
    server.sh("sed -i /docker-ce/d /etc/fog-migration/held-packages")
    assert "docker-ce is on hold there" in server.refusal(**apt, stop_running=True)
    server.sh("apt-mark unhold docker-ce")
    assert server.change(**apt, stop_running=True) > 0
    assert server.sh("dpkg-query -W -f '${Version}' docker-ce") == old

    # It stays, with the container that runs on it, after every upgrade, and when somebody releases it.
    container = server.started()
    assert server.change(**apt) == 0
    upgrade = "apt-get -qq update; apt-get -qq --yes upgrade >/dev/null; dpkg-query -W -f '${Version}' docker-ce"
    assert server.sh(upgrade) == old
    server.sh("apt-mark unhold docker-ce")
    assert server.sh(upgrade) == old
    assert server.started() == container
