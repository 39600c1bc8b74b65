# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of a container that moves: only what the destination lacks travels, or the destination pulls it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator

import pytest

from support import policy
from support.lab import IMAGE, wait_for

pytestmark = pytest.mark.lab

COUNTER = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done"
TAG = "fog-test/layered:1.0"
ARCHIVE = "/root/image-test.tar"


def image_of(lab, node: str, image: str) -> tuple[str, str]:
    """The image's ID, tags and layers, and its history, without what depends on the server."""
    what = lab.docker(node, "image", "inspect", "--format", "{{.Id}} {{.RepoTags}} {{.RootFS.Layers}}", image)
    return what, lab.docker(node, "history", "--no-trunc", "--format", "{{.CreatedBy}} {{.Size}} {{.Comment}}", image)


@pytest.fixture
def layered(lab) -> Iterator[Callable[[str], str]]:
    """C(layered(TAG)) makes an image of the lab's and two small layers on fog1; fog2 has the former only. Its ID."""
    lab.copy_image()
    base = lab.docker("fog1", "image", "inspect", "--format", "{{.Id}}", IMAGE)
    made = []

    def layered(tag: str = "") -> str:
        lines = f"FROM {IMAGE}\nRUN head -c 300000 /dev/urandom >/more\nRUN echo hello >/hello\nENV GREETING=hello"
        words = f"docker build --quiet {f'--tag {tag}' if tag else ''} -"
        image = lab.sh("fog1", f"DOCKER_BUILDKIT=0 {words} <<'END'\n{lines}\nEND").split()[-1]
        made.append(image)
        assert image not in lab.docker("fog2", "images", "-q", "--no-trunc")
        return image

    yield layered
    for node in lab.servers():
        lab.sh(node, f"docker ps -aq | xargs -r docker rm -f; rm -f {ARCHIVE}*")
        lab.sh(node, f"docker rmi -f {' '.join(made)}; docker image prune -f", check=False)
        assert lab.docker(node, "image", "inspect", "--format", "{{.Id}}", IMAGE) == base


def start(lab, image: str) -> None:
    """Starts the container that is to move."""
    lab.docker("fog1", "run", "-d", "--name", "mover", image, "sh", "-c", f"cat /hello; {COUNTER}")
    wait_for(lambda: len(lab.lines("fog1", "mover")) > 5, "the first lines")


@pytest.mark.parametrize("tag", [TAG, ""])
def test_only_missing_layers_travel(lab, layered, tag):
    image = layered(tag)
    before = image_of(lab, "fog1", image)
    start(lab, tag or image)
    done = lab.migrate("mover")
    assert lab.running_on("mover") == ["fog2"]
    assert image_of(lab, "fog2", image) == before
    config = lab.inspect("fog2", "mover")["Config"]
    assert config["Image"] == (tag or image) and "GREETING=hello" in config["Env"]
    assert lab.docker("fog2", "exec", "mover", "cat", "/hello") == "hello"
    # The layers with 300 kB that cannot be compressed, and another one, but not what fog2 has.
    told = re.search(r"image: ([0-9.]+) KiB sent, 1 of 3 layers were there", done.stdout)
    assert told, done.stdout
    assert 293 < float(told.group(1)) < 330


def test_the_archive(lab, layered):
    """What is in it and what is not; a second one is not written."""
    image = layered(TAG)
    there = lab.module("fog2", "server_info", directory="/root")["layers"]
    made = lab.module("fog1", "image_export", image=TAG, path=ARCHIVE, layers=there)
    assert (made["changed"], made["layers"], made["layers_left_out"]) == (True, 3, 1)
    assert made["image"] == {"id": image, "tags": [TAG]}
    sizes = {line.split()[5]: int(line.split()[2]) for line in lab.sh("fog1", f"tar -tvf {ARCHIVE}").splitlines()}
    assert "manifest.json" in sizes
    assert 300_000 < sum(sizes.values()) < 330_000
    assert made["size"] == int(lab.sh("fog1", f"stat -c %s {ARCHIVE}")) < 350_000
    again = lab.module("fog1", "image_export", image=image, path=ARCHIVE, layers=there)
    assert (again["changed"], again["size"]) == (False, made["size"])
    whole = lab.module("fog1", "image_export", image=image, path=ARCHIVE)
    assert (whole["changed"], whole["layers_left_out"]) == (True, 0)
    assert whole["size"] > made["size"] + 1_000_000
    check = lab.module("fog1", "image_export", check_mode=True, image=image, path=ARCHIVE, layers=there)
    assert (check["changed"], check["layers_left_out"]) == (True, 1)
    assert int(lab.sh("fog1", f"stat -c %s {ARCHIVE}")) == whole["size"]
    assert lab.sh("fog1", f"ls {ARCHIVE}*").split() == [ARCHIVE]
    missing = lab.module("fog1", "image_export", image="fog-test/none", path=ARCHIVE)
    assert missing["failed"] and "there is no image fog-test/none" in missing["msg"]


@pytest.fixture
def taken(lab, layered) -> Iterator[Callable[[str], str]]:
    """C(taken(TAG)) gives fog2's own image a name by which the container's image is known on fog1; the ID of fog2's."""
    names = []

    def taken(tag: str) -> str:
        lab.docker("fog2", "tag", IMAGE, tag)
        names.append(tag)
        return lab.docker("fog2", "image", "inspect", "--format", "{{.Id}}", tag)

    yield taken
    for tag in names:
        lab.docker("fog2", "rmi", tag)


def require_kept(lab, tag: str, image: str, before: str, told: str) -> None:
    """The container runs from its image, and the name means at the destination what it meant before."""
    assert lab.running_on("mover") == ["fog2"]
    assert lab.inspect("fog2", "mover")["Image"] == image
    assert lab.docker("fog2", "exec", "mover", "cat", "/hello") == "hello"
    assert lab.docker("fog2", "image", "inspect", "--format", "{{.Id}}", tag) == before
    assert f"{tag} is another image there, and was left so" in told


def test_a_name_that_another_image_has_is_kept(lab, layered, taken):
    """Whoever starts a container by it at the destination gets what he has got before."""
    image, before = layered(TAG), taken(TAG)
    lab.docker("fog1", "tag", image, f"{TAG}-free")
    start(lab, TAG)
    done = lab.migrate("mover")
    require_kept(lab, TAG, image, before, done.stdout)
    # It is not the name that the container has for it.
    assert f"{TAG}-free" not in lab.docker("fog2", "images", "--format", "{{.Repository}}:{{.Tag}}")


@pytest.mark.parametrize("mode", ["cold", "precopy"])
def test_a_name_that_may_not_arrive(lab, layered, mode):
    """It runs from its image all the same, which has no name."""
    image = layered(TAG)
    start(lab, TAG)
    with policy.allowed(lab, "fog2", image_names=["registry.example.org/*"]):
        done = lab.migrate("mover", migration_mode=mode)
    assert f"by the policy there, it did not get the name {TAG}" in done.stdout
    assert lab.running_on("mover") == ["fog2"] and lab.inspect("fog2", "mover")["Image"] == image
    assert TAG not in lab.docker("fog2", "images", "--format", "{{.Repository}}:{{.Tag}}")


def test_an_archive_with_names_is_not_loaded(lab, layered):
    """One that docker save has made by a name is refused, one of the image alone is loaded, in either image store."""
    image = layered(TAG)
    lab.docker("fog1", "save", "--output", f"{ARCHIVE}.named", TAG)
    lab.module("fog1", "image_export", image=TAG, path=ARCHIVE)
    lab.docker("fog1", "rmi", TAG)
    refused = lab.module("fog1", "image_load", image=image, path=f"{ARCHIVE}.named")
    assert refused["failed"] and "it would give the image the names" in refused["msg"]
    assert image not in lab.docker("fog1", "images", "-q", "--no-trunc")
    strange = lab.module("fog1", "image_load", image=f"sha256:{'1' * 64}", path=ARCHIVE)
    assert strange["failed"] and "it holds the image" in strange["msg"]
    done = lab.module("fog1", "image_load", image=image, path=ARCHIVE, tags=[TAG, IMAGE])
    assert (done["changed"], done["tagged"], done["kept"]) == (True, [TAG], [IMAGE])
    assert lab.docker("fog1", "run", "--rm", TAG, "cat", "/hello") == "hello"
    again = lab.module("fog1", "image_load", image=image, path=ARCHIVE, tags=[TAG, IMAGE])
    assert (again["changed"], again["kept"]) == (False, [IMAGE])


def test_layers_that_are_gone(lab, layered):
    """The destination loses what it was seen to have: then the whole image is sent."""
    image = layered()
    start(lab, image)
    begun = 'test -n "$(ls -A /var/lib/fog-migration/images 2>/dev/null)"'
    # It ends in any case: whoever waits for it would wait for ever for a migration that has not begun.
    watch = f"for _look in $(seq 3000); do {begun} && exit; sleep 0.02; done; exit 1"
    forget = [*lab.exec_command("fog2"), "sh", "-c", "docker rmi -f $(docker images -q)"]
    words = [*lab.exec_command("fog1"), "sh", "-c", watch]
    with subprocess.Popen(["sh", "-c", f"{shlex.join(words)} && exec {shlex.join(forget)}"]) as forgetting:
        done = lab.migrate("mover")
        assert forgetting.wait(60) == 0
    assert lab.running_on("mover") == ["fog2"]
    told = re.search(r"image: ([0-9.]+) MiB sent, 0 of 3 layers were there", done.stdout)
    # Both attempts count.
    assert told and float(told.group(1)) > 1, done.stdout
    lab.docker("fog2", "rm", "-f", "mover")
    lab.require_no_traces()
    lab.copy_image()


REGISTRY = """
apt-get install -qq --no-install-recommends docker-registry </dev/null >/dev/null 2>&1 || {
    apt-get update -qq && apt-get install -qq --no-install-recommends docker-registry </dev/null >/dev/null; }
sed -i '/^auth:/,/htpasswd$/d' /etc/docker/registry/config.yml
systemctl restart docker-registry
"""
ANSWERS = """
until python3 -c 'import socket; socket.create_connection(("127.0.0.1", 5000))' 2>/dev/null; do sleep 0.1; done
"""
NO_REGISTRY = "apt-get purge -qq docker-registry >/dev/null 2>&1; rm -rf /etc/docker /var/lib/docker-registry"


def trusting(places: list[str]) -> str:
    """A script that has the daemon reach these registries without TLS, and waits until it does so."""
    known = "docker info --format '{{json .RegistryConfig.IndexConfigs}}' | grep -q :5000"
    return f"""sed -i '1s/{{/{{"insecure-registries": {json.dumps(places)},/' /etc/docker/daemon.json
        systemctl reload docker; until {"" if places else "! "}{known}; do sleep 0.1; done"""


@pytest.fixture
def registry(lab, layered) -> Iterator[str]:
    """A registry on the client, with the image; the image's name there."""
    place = f"{lab.hostvars['client']['ansible_host']}:5000"
    lab.sh("client", REGISTRY + ANSWERS)
    for node in lab.servers():
        lab.sh(node, f"cp /etc/docker/daemon.json /root/; {trusting([place])}")
    name = f"{place}/{TAG}"
    layered(name)
    lab.docker("fog1", "push", name)
    with policy.allowed(lab, "fog2", image_pulls=[f"{place}/*"]):
        yield name
    for node in lab.servers():
        # What is not in the file any more, the daemon would keep.
        lab.sh(node, f"cp /root/daemon.json /etc/docker/; {trusting([])}; mv /root/daemon.json /etc/docker/")
    lab.sh("client", NO_REGISTRY)


def test_pull(lab, registry):
    before, digests = image_of(lab, "fog1", registry), "{{.RepoDigests}}"
    names = lab.docker("fog1", "image", "inspect", "--format", digests, registry)
    start(lab, registry)
    done = lab.migrate("mover", migration_image="pull")
    assert lab.running_on("mover") == ["fog2"]
    assert "image: pulled from its registry" in done.stdout
    assert image_of(lab, "fog2", registry) == before
    assert lab.docker("fog2", "image", "inspect", "--format", digests, registry) == names
    assert lab.docker("fog2", "exec", "mover", "cat", "/hello") == "hello"
    assert lab.inspect("fog2", "mover")["Config"]["Image"] == registry


@pytest.mark.slow
def test_a_name_that_another_image_has_is_kept_in_a_pull(lab, registry, taken):
    image = lab.docker("fog1", "image", "inspect", "--format", "{{.Id}}", registry)
    before = taken(registry)
    start(lab, registry)
    done = lab.migrate("mover", migration_image="pull")
    assert "image: pulled from its registry" in done.stdout
    require_kept(lab, registry, image, before, done.stdout)


def test_pull_that_the_policy_does_not_allow(lab, registry):
    """Nobody asks that registry; the source sends the image."""
    before, place = image_of(lab, "fog1", registry), registry.partition("/")[0]
    start(lab, registry)
    heard = "journalctl -u docker-registry -o cat | grep -c 'GET /v2' || true"
    asked = lab.sh("client", heard)
    with policy.allowed(lab, "fog2", image_pulls=["docker.io/*"]):
        done = lab.migrate("mover", migration_image="pull")
    told = re.search(r"KiB sent, 1 of 3 layers were there; not pulled: (.*)", done.stdout)
    assert told and f"the policy there does not let {registry.rpartition(':')[0]} be pulled" in told.group(1), (
        done.stdout
    )
    assert lab.sh("client", heard) == asked and place in registry
    assert lab.running_on("mover") == ["fog2"] and image_of(lab, "fog2", registry) == before


@pytest.mark.slow
def test_pull_that_fails(lab, registry):
    """It is sent then, and the report says why."""
    before = image_of(lab, "fog1", registry)
    lab.sh("client", "systemctl stop docker-registry")
    start(lab, registry)
    done = lab.migrate("mover", migration_image="pull")
    assert lab.running_on("mover") == ["fog2"]
    assert re.search(r"KiB sent, 1 of 3 layers were there; not pulled: .*connection refused", done.stdout), done.stdout
    assert image_of(lab, "fog2", registry) == before


@pytest.mark.slow
def test_pull_of_what_no_registry_has(lab, layered):
    start(lab, layered())
    done = lab.migrate("mover", migration_image="pull")
    assert "1 of 3 layers were there; not pulled: it has no digest of a registry" in done.stdout
