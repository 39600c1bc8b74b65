# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role docker decides: which Docker, its settings, and whose key it is."""

from __future__ import annotations

import base64
import json
import subprocess

import pytest

from ansible_collections.fog.migration.plugins.filter.docker_daemon import docker_daemon
from ansible_collections.fog.migration.plugins.filter.docker_plan import docker_plan
from ansible_collections.fog.migration.plugins.filter.openpgp_keys import openpgp_keys

# Made by GnuPG 2.2, which said the fingerprints.
ED25519 = """
-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawFQVRYJKwYBBAHaRw8BAQdAJ8HOa9A2SWq+8jS6XU2g0nYyYsYj2z3wGuH1
Nz861tC0DFRlc3QgZWQyNTUxOYiQBBMWCAA4FiEEE/gEvhPkcx5S5DPAw2Wz4nT4
SnAFAmsBUFUCGwMFCwkIBwIGFQoJCAsCBBYCAwECHgECF4AACgkQw2Wz4nT4SnCF
IwD/R655ntzFXQaZhogs/gV4ele0l5sAoT7nRMGUHfVpNYQA/RCsxdjOpuluiB0L
fzhlVNl7k8rEh5AQoEM7o6W7ndcD
=Mdr1
-----END PGP PUBLIC KEY BLOCK-----
"""
RSA = """
-----BEGIN PGP PUBLIC KEY BLOCK-----

mQENBGsBUFUBCAD5X1rnO/6XVSrikdIg/5ZB0fC9DpIfaFwk9rQpkIsSmSNXpchU
W+tKRBcm1fQQxgJPlDt+5+W9gxJaAFW4Qi0Zxz4auXJCGEwQUz1alBG1t+z95EL8
FJVO15zkHRXeC5cCETMOuzKFHGCWgoqQo+7UlbfjxhLAe86HsBm31VT8XtO8dafP
YlBccRpruF2gLfybXru7Q6WY5uIKh139j8RTdyinLmqI9zBZsZKJWj+wxEoeZnOw
tkuQr/AKxD6e8zgIgEZ4fNh1x+daDctgRvcLNGpRBAuJGI5qXXAoJrDh9mdA293D
Ontv5XrA1uiKyaZbd2t0dllxLh9Ppi3MA6k7ABEBAAG0DFRlc3QgcnNhMjA0OIkB
TgQTAQoAOBYhBIm+EZHR+5oelVR6S5VntpD3UR/fBQJrAVBVAhsDBQsJCAcCBhUK
CQgLAgQWAgMBAh4BAheAAAoJEJVntpD3UR/fAmEH+wVnmNmric6rDACj+7MuLBoO
BZSHZGkxfCFVFNvXeMiPHs7wWiWjRfUXbxvsQ3EcN10CPPg/vfKNfjOQn8OvKOsF
/6Ouh5Kl5H0UGh6Qj/zBNPQtvIaqlfNZZmCCbih3IMvET+eWl9bbeH3DIQUxoDuS
Psg9k3nQnqFIx8D9VAdjJPUAoO13eeVWVRerAAttEz4cDNv6ZKyZacMPm0564sCy
8FPAX56vTZAQjEebwAwQEPks0m0w9YGEZKaT8cx6DlomWe6SB9ldna+HhTiVnI1D
81jKVJhqpHUk3BWcd4ooIlMABE0yo/DWRxzR5HKmo9rM9X+P+4LtxTGnLc+wi4s=
=aL9k
-----END PGP PUBLIC KEY BLOCK-----
"""
ED25519_FINGERPRINT = "13F804BE13E4731E52E433C0C365B3E274F84A70"
RSA_FINGERPRINT = "89BE1191D1FB9A1E95547A4B9567B690F7511FDF"

WANTED = {
    "channel": "pinned",
    "version": "17.09.1~ce",
    "apt_repository": "",
    "apt_suite": "",
    "static_url": "https://example.org/ARCHITECTURE/docker-VERSION.tgz",
    "static_archive": "",
    "static_checksums": {"17.09.1-ce": {"x86_64": "aa", "aarch64": "bb"}},
    "static_prefix": "/opt/docker",
    "stop_running": False,
}
BARE = {
    "systemd": "yes",
    "architecture": "amd64",
    "apt": "3.0.3",
    "free_mb": "9000",
    "cgroup": "1",
    "cgroup_missing": "",
    "overlay": "yes",
    "ours": "no",
    "static_version": "",
    "static_sha256": "",
    "unit": "",
}
PACKAGED = {
    **BARE,
    "package:docker.io": "26.1.5+dfsg1-9",
    "package:docker-cli": "26.1.5+dfsg1-9",
    "unit": "/usr/lib/systemd/system/docker.service",
    "version": "26.1.5+dfsg1",
}
STATIC = {
    **BARE,
    "ours": "yes",
    "static_version": "17.09.1-ce",
    "static_sha256": "aa",
    "unit": "/etc/systemd/system/docker.service",
    "version": "17.09.1-ce",
}


def host(distribution: str, release: str, major: str, architecture: str = "x86_64") -> dict:
    return {
        "distribution": distribution,
        "distribution_release": release,
        "distribution_major_version": major,
        "architecture": architecture,
    }


TRIXIE = host("Debian", "trixie", "13")


@pytest.mark.parametrize(
    ("facts", "way", "repository"),
    [
        (host("Ubuntu", "xenial", "16"), "apt", "https://download.docker.com/linux/ubuntu xenial stable"),
        (host("Debian", "stretch", "9"), "apt", "https://download.docker.com/linux/debian stretch stable"),
        (host("Raspbian", "stretch", "9"), "apt", "https://download.docker.com/linux/raspbian stretch stable"),
        (host("Ubuntu", "noble", "24"), "static", ""),
        (TRIXIE, "static", ""),
    ],
)
def test_pinned_comes_by_apt_where_there_is_a_package(facts, way, repository):
    plan = docker_plan(BARE, WANTED, facts)
    assert (plan["error"], plan["way"], plan["repository"]) == ("", way, repository)


@pytest.mark.parametrize(
    ("version", "packages"),
    [
        ("17.09.1~ce", ["docker-ce=17.09.1~ce-*"]),
        ("17.09.1~ce-0~ubuntu", ["docker-ce=17.09.1~ce-0~ubuntu"]),
        ("5:18.09.1~3", ["docker-ce=5:18.09.1~3-*", "docker-ce-cli=5:18.09.1~3-*", "containerd.io"]),
    ],
)
def test_packages_by_apt(version, packages):
    plan = docker_plan(BARE, {**WANTED, "version": version, "channel": "apt"}, host("Ubuntu", "xenial", "16"))
    assert plan["packages"] == packages


@pytest.mark.parametrize(
    ("facts", "packages"),
    [
        (TRIXIE, ["docker.io", "docker-cli"]),
        (host("Debian", "forky", "testing"), ["docker.io", "docker-cli"]),
        (host("Raspbian", "trixie", "13"), ["docker.io", "docker-cli"]),
        (host("Debian", "bookworm", "12"), ["docker.io"]),
        (host("Ubuntu", "noble", "24"), ["docker.io"]),
    ],
)
def test_packages_of_the_distribution(facts, packages):
    plan = docker_plan(BARE, {**WANTED, "channel": "distro"}, facts)
    assert (plan["error"], plan["packages"]) == ("", packages)


@pytest.mark.parametrize(
    ("architecture", "machine", "named"),
    [
        ("amd64", "x86_64", "x86_64"),
        ("arm64", "aarch64", "aarch64"),
        ("armhf", "aarch64", "armhf"),
        ("armhf", "armv6l", "armel"),
    ],
)
def test_static_build_for_the_user_land(architecture, machine, named):
    seen = {**BARE, "architecture": architecture}
    static = docker_plan(seen, WANTED, host("Debian", "trixie", "13", machine))["static"]
    assert static["url"] == f"https://example.org/{named}/docker-17.09.1-ce.tgz"
    assert static["path"] == "/opt/docker/17.09.1-ce"


@pytest.mark.parametrize(
    ("change", "wanted", "facts", "error"),
    [
        ({"systemd": "no"}, {}, TRIXIE, "systemd does not run this host"),
        ({"apt": ""}, {"channel": "distro"}, TRIXIE, "needs apt"),
        ({}, {"channel": "apt"}, host("Fedora", "", "42"), "set docker_apt_repository"),
        ({}, {"version": "newest"}, TRIXIE, "is no version"),
        ({"architecture": "riscv64"}, {}, TRIXIE, "no static build for riscv64"),
        ({"architecture": "armhf"}, {}, TRIXIE, "give the sha256 of https://example.org/armhf/docker-17.09.1-ce.tgz"),
        ({"free_mb": "10"}, {}, TRIXIE, "there are 10 MB free"),
        ({"overlay": "no"}, {"channel": "distro"}, TRIXIE, "CONFIG_OVERLAY_FS"),
        ({"cgroup": "2"}, {}, TRIXIE, "GRUB_CMDLINE_LINUX"),
        (
            {"cgroup": "2", "cmdline_file": "/boot/firmware/cmdline.txt"},
            {},
            TRIXIE,
            "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 to the line in /boot/firmware/cmdline.txt",
        ),
        (
            {"cgroup_missing": "memory", "cmdline_file": "/boot/cmdline.txt"},
            {},
            TRIXIE,
            "cgroup_enable=memory cgroup_memory=1 to the line in /boot/cmdline.txt",
        ),
    ],
)
def test_a_host_that_cannot_have_it_is_told_why(change, wanted, facts, error):
    assert error in docker_plan({**BARE, **change}, {**WANTED, **wanted}, facts)["error"]


def test_newer_docker_runs_on_control_groups_version_2():
    version_2 = {**BARE, "cgroup": "2", "cgroup_missing": "memory"}
    assert docker_plan(version_2, {**WANTED, "channel": "distro"}, TRIXIE)["error"] == ""
    newer = {**WANTED, "version": "20.10.24", "static_checksums": {"20.10.24": {"x86_64": "aa"}}}
    assert docker_plan(version_2, newer, TRIXIE)["error"] == ""


def test_what_is_there_already():
    assert docker_plan(STATIC, WANTED, TRIXIE)["installed"]
    assert not docker_plan({**STATIC, "static_sha256": "other"}, WANTED, TRIXIE)["installed"]
    assert docker_plan(PACKAGED, {**WANTED, "channel": "distro"}, TRIXIE)["installed"]
    xenial = {**BARE, "package:docker-ce": "17.09.1~ce-0~ubuntu"}
    assert docker_plan(xenial, WANTED, host("Ubuntu", "xenial", "16"))["installed"]
    newer = {**BARE, "package:docker-ce": "18.06.3~ce~3-0~ubuntu"}
    assert docker_plan(newer, WANTED, host("Ubuntu", "xenial", "16"))["replaces"] == "docker-ce 18.06.3~ce~3-0~ubuntu"


def test_nothing_is_replaced_under_running_containers():
    busy = {**PACKAGED, "containers": "looper other"}
    plan = docker_plan(busy, WANTED, TRIXIE)
    assert plan["replaces"] == "docker.io 26.1.5+dfsg1-9"
    assert "would be replaced while its containers run (looper other)" in plan["error"]
    assert docker_plan(busy, {**WANTED, "stop_running": True}, TRIXIE)["error"] == ""
    assert docker_plan(busy, {**WANTED, "channel": "distro"}, TRIXIE)["error"] == ""
    assert (
        "Docker 17.09.1-ce (static)"
        in docker_plan({**STATIC, "containers": "looper"}, {**WANTED, "channel": "distro"}, TRIXIE)["error"]
    )


THESIS = {
    "icc": False,
    "disable-legacy-registry": True,
    "userland-proxy": False,
    "live-restore": True,
    "experimental": True,
    "debug": True,
}


def test_settings_are_merged_into_what_is_there():
    old = '{"storage-driver": "overlay2", "log-opts": {"max-size": "10m"}, "debug": false}'
    merged = docker_daemon(old, {**THESIS, "log-opts": {"max-file": "2"}}, "17.09.1-ce")
    assert json.loads(merged["text"]) == {
        "storage-driver": "overlay2",
        "log-opts": {"max-size": "10m", "max-file": "2"},
        **THESIS,
    }
    assert (merged["changed"], merged["restart"], merged["left_out"]) == (True, True, {})


def test_a_file_that_says_so_already_stays_as_it_is_written():
    old = json.dumps({**THESIS, "insecure-registries": []})
    merged = docker_daemon(old, THESIS, "17.09.1-ce")
    assert (merged["text"], merged["changed"], merged["restart"]) == (old, False, False)


@pytest.mark.parametrize(
    ("version", "swarm", "unknown", "left_out"),
    [
        ("17.09.1-ce", False, [], set()),
        ("17.12.0-ce", False, [], {"disable-legacy-registry"}),
        ("26.1.5+dfsg1", False, [], {"disable-legacy-registry"}),
        ("26.1.5+dfsg1", True, ["icc"], {"disable-legacy-registry", "live-restore", "icc"}),
        ("17.09.1-ce", False, ["of-another-file"], set()),
    ],
)
def test_what_this_docker_refuses_is_left_out(version, swarm, unknown, left_out):
    merged = docker_daemon("", THESIS, version, swarm=swarm, unknown=unknown)
    assert set(merged["left_out"]) == left_out
    assert set(merged["settings"]) == set(THESIS) - left_out


def test_what_an_older_docker_does_not_know_goes():
    merged = docker_daemon('{"features": {"buildkit": true}}', THESIS, "17.09.1-ce", unknown=["features"])
    assert "features" not in merged["settings"] and "features" in merged["left_out"]


def test_what_needs_no_restart():
    old = json.dumps(THESIS)
    assert not docker_daemon(old, {"debug": False, "runtimes": {"fog": {"path": "/x"}}}, "17.09.1-ce")["restart"]
    assert docker_daemon(old, {"debug": False, "icc": True}, "17.09.1-ce")["restart"]


@pytest.mark.parametrize("text", ['{"debug": true,}', "[]"])
def test_a_broken_file_is_named(text):
    assert docker_daemon(text, THESIS, "17.09.1-ce")["error"].startswith("it is no JSON")


# How apt-key of Debian 12 reads an armored keyring.
APT = """/^-----BEGIN/{ x = 1; }
/^$/{ if (x == 1) { x = 2; }; }
/^[^=-]/{ if (x == 2) { print $0; }; }
/^-----END/{ x = 0; }"""


def apt_reads(text: str) -> bytes:
    """The keys that apt trusts when this is the file that it is told to trust."""
    lines = subprocess.run(["awk", APT], input=text.encode(), capture_output=True, check=True)
    return subprocess.run(["base64", "-d"], input=lines.stdout, capture_output=True, check=True).stdout


def packets(block: str) -> bytes:
    """What is in an armored block, as GnuPG has made it."""
    return base64.b64decode(block.split("\n\n")[1].partition("\n=")[0])


def other_block(word: str) -> str:
    """A key under another heading."""
    return RSA.replace("PGP PUBLIC KEY BLOCK", word)


def fingerprints(text: str) -> list[str]:
    return [key["fingerprint"] for key in openpgp_keys(text)]


def test_fingerprints():
    assert fingerprints(ED25519) == [ED25519_FINGERPRINT]
    assert fingerprints(RSA.replace("\n", "\r\n")) == [RSA_FINGERPRINT]
    assert fingerprints("Here they are:\n" + RSA + ED25519) == [RSA_FINGERPRINT, ED25519_FINGERPRINT]


@pytest.mark.parametrize("block", [ED25519, RSA])
def test_a_key_is_armored_as_gnupg_does_it(block):
    commented = block.replace("BLOCK-----\n\n", "BLOCK-----\nVersion: GnuPG v2\nComment: ours\n\n", 1)
    for text in (block, commented, block.strip(), block.replace("\n", "\r\n")):
        assert [key["armored"] for key in openpgp_keys(text)] == [block.lstrip()]


@pytest.mark.parametrize(
    "text",
    [
        ED25519 + other_block("X"),
        other_block("PGP MESSAGE") + ED25519,
        ED25519 + RSA.replace("-----END PGP PUBLIC KEY BLOCK-----", ""),
        RSA.replace("-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----BEGIN-----") + ED25519,
    ],
)
def test_apt_reads_the_key_that_was_verified_and_no_other(text):
    """Of the text itself it would read another key, too."""
    assert packets(RSA) in apt_reads(text)
    (key,) = openpgp_keys(text)
    assert key["fingerprint"] == ED25519_FINGERPRINT
    assert apt_reads(key["armored"]) == packets(ED25519)


def test_each_key_of_a_block_is_apart():
    body = base64.b64encode(packets(ED25519) + packets(RSA)).decode()
    keys = openpgp_keys(f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{body}\n-----END PGP PUBLIC KEY BLOCK-----\n")
    assert [key["fingerprint"] for key in keys] == [ED25519_FINGERPRINT, RSA_FINGERPRINT]
    assert [apt_reads(key["armored"]) for key in keys] == [packets(ED25519), packets(RSA)]


def with_packets(more: bytes) -> str:
    """A block with a key and something else, without a checksum."""
    body = base64.b64encode(packets(ED25519) + more).decode()
    return f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{body}\n-----END PGP PUBLIC KEY BLOCK-----\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>not found</html>",
        ED25519.replace("mDMEawFQ", "mDMEa"),
        RSA[:300],
        ED25519.replace("=Mdr1", "=Mdr2"),
        ED25519.replace("SnAF", "SnAF-----"),
        # A secret key, something compressed, and packets that no key comes before.
        with_packets(b"\xc5\x01\x04"),
        with_packets(b"\xc8\x01\x00"),
        with_packets(b"").replace(base64.b64encode(packets(ED25519)).decode(), base64.b64encode(b"\xcd\x01a").decode()),
    ],
)
def test_what_is_no_key_has_no_fingerprint(text):
    assert openpgp_keys(text) == []


def test_a_public_key_may_have_what_belongs_to_it():
    """The other half of the test above: a user ID more is fine."""
    assert fingerprints(with_packets(b"\xcd\x01a")) == [ED25519_FINGERPRINT]
