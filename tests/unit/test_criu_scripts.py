# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of the role criu: what they verify before root runs it, and which lists they have apt believe."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import time
from email.utils import formatdate
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "roles/criu/files"
NOBODY = 65534
# What a CRIU has to answer to be installed; it leaves a note that it was run.
CRIU = "#!/bin/sh\necho run >>{note}\necho 'Version: 4.2'\n"


def can_build() -> bool:
    """Whether build.sh gets as far here as to look at what it is given."""
    if os.geteuid() != 0 or not shutil.which("dpkg"):
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


builds = pytest.mark.skipif(not can_build(), reason="it wants root, namespaces and Debian's or Ubuntu's dpkg")


def product(path: Path, note: Path, name: str = "criu") -> str:
    """A tarball as build.sh makes it, with a CRIU that writes into C(note) when it is run; its SHA-256."""
    with tarfile.open(path, "w:gz") as archive:
        for member, text in ((f"{name}/sbin/criu", CRIU.format(note=note)), (f"{name}/packages", "")):
            entry = tarfile.TarInfo(member)
            entry.mode, entry.size = 0o755, len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(script: str, **environment: object) -> list[str]:
    """What a script answers."""
    words = {name: str(value) for name, value in environment.items()}
    done = subprocess.run(
        ["sh", str(SCRIPTS / script)],
        env={"PATH": os.environ["PATH"], **words},
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith("fog:")]
    assert (done.returncode != 0) == any(line.startswith("fog:error:") for line in answers), done
    return answers


# install.sh


@pytest.fixture
def server(tmp_path):
    """What install.sh is told, for a product that is there."""
    archive, note = tmp_path / "criu.tar.gz", tmp_path / "note"
    return {
        "FOG_ARCHIVE": archive,
        "FOG_CHECKSUM": product(archive, note),
        "FOG_PREFIX": tmp_path / "opt" / "criu",
        "FOG_LINK": tmp_path / "sbin" / "criu",
    }


def test_what_was_built_is_installed(tmp_path, server):
    assert run("install.sh", **server) == []
    assert subprocess.run([server["FOG_LINK"]], capture_output=True, check=True).stdout == b"Version: 4.2\n"
    assert (server["FOG_PREFIX"] / ".sha256").read_text() == f"{server['FOG_CHECKSUM']}\n"
    assert not server["FOG_ARCHIVE"].exists()


def test_what_somebody_has_put_in_its_place_is_not_run(tmp_path, server):
    other = product(server["FOG_ARCHIVE"], tmp_path / "note", name="other")
    assert run("install.sh", **server) == [
        (
            f"fog:error:the archive has the SHA-256 {other} there, not {server['FOG_CHECKSUM']}, "
            "as it has on the controller"
        )
    ]
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_before_stays(tmp_path, server):
    run("install.sh", **server)
    before = (tmp_path / "note").read_text()
    product(server["FOG_ARCHIVE"], tmp_path / "note", name="other")
    assert "not " + server["FOG_CHECKSUM"] in run("install.sh", **server)[0]
    assert server["FOG_LINK"].resolve() == server["FOG_PREFIX"] / "sbin/criu"
    assert (tmp_path / "note").read_text() == before


# build.sh


@pytest.fixture
def builder(tmp_path):
    """What build.sh is told, for a tarball of something that is no CRIU."""
    return {
        "FOG_RELEASE": "bookworm",
        "FOG_ARCHITECTURE": "amd64",
        "FOG_SOURCE": tmp_path / "source.tar",
        "FOG_CHECKSUM": product(tmp_path / "source.tar", tmp_path / "note"),
        "FOG_RESULT": tmp_path / "cache" / "deep" / "criu.tar.gz",
        "FOG_IDENTITY": "mine",
        "FOG_FREE_WANTED": 1,
    }


@builds
def test_only_the_source_that_was_asked_for_is_built(builder):
    assert run("build.sh", **builder)[0].startswith("fog:error:the source is no tarball of CRIU's")
    (refusal,) = run("build.sh", **{**builder, "FOG_CHECKSUM": "0" * 64})
    assert refusal == (
        f"fog:error:the source has the SHA-256 {builder['FOG_CHECKSUM']} there, not {'0' * 64}, "
        "as criu_source_checksum says"
    )
    folder = builder["FOG_RESULT"].parent
    assert folder.stat().st_mode & 0o777 == 0o700 and folder.parent.stat().st_mode & 0o777 == 0o755


@builds
def test_what_was_built_before_is_named_by_its_checksum(tmp_path, builder):
    builder["FOG_RESULT"].parent.mkdir(parents=True)
    checksum = product(builder["FOG_RESULT"], tmp_path / "note")
    assert run("build.sh", **builder) == [f"fog:sha256:{checksum}"]


@builds
@pytest.mark.parametrize("way", ["owner", "mode", "link"])
def test_what_another_user_has_made_beforehand_is_not_taken_for_a_build(tmp_path, builder, way):
    folder = builder["FOG_RESULT"].parent
    theirs = tmp_path / "theirs" if way == "link" else folder
    theirs.mkdir(parents=True)
    product(theirs / "criu.tar.gz", tmp_path / "note")
    if way == "mode":
        theirs.chmod(0o1777)
    else:
        os.chown(theirs, NOBODY, NOBODY)
    if way == "link":
        folder.parent.mkdir()
        folder.symlink_to(theirs)
    assert run("build.sh", **builder) == [
        (
            f"fog:error:others than root can write to {folder}; make it root's with mode 0700, "
            "or name another one as criu_build_cache"
        )
    ]


# suite.sh


@pytest.mark.skipif(not shutil.which("apt-get"), reason="there is no apt")
class TestSuite:
    """A mirror of Debian in a folder, and an apt that knows nothing else."""

    @pytest.fixture
    def apt(self, tmp_path):
        """C(apt(place, days)): what suite.sh is told, for a mirror at this place whose lists are valid for so long."""
        root = tmp_path / "apt"
        for folder in ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "var/lib/apt/lists/partial", "var/lib/dpkg"):
            (root / folder).mkdir(parents=True)
        (root / "etc/apt/sources.list.d").mkdir()
        (root / "var/cache/apt/archives/partial").mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        (tmp_path / "apt.conf").write_text(
            f'Dir "{root}";\nDir::State::status "{root}/var/lib/dpkg/status";\nAPT::Sandbox::User "root";\n'
            'APT::Architecture "amd64";\nAPT::Architectures "amd64";\nAcquire::AllowInsecureRepositories "true";\n'
        )

        def apt(place: str, days: int) -> dict:
            self.mirror = tmp_path / place
            # As apt writes it.
            self.shown = f"file:{self.mirror}/"
            self.release("trixie", days=1000)
            self.release("forky", days=days)
            (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file://{self.mirror} trixie main\n")
            sources, pins = root / "etc/apt/sources.list.d", root / "etc/apt/preferences.d"
            return {
                "APT_CONFIG": tmp_path / "apt.conf",
                "FOG_SUITE": "forky",
                "FOG_LIST": sources / "fog-migration-criu.list",
                "FOG_PIN": pins / "fog-migration-criu",
            }

        return apt

    def release(self, suite: str, days: int) -> None:
        """A release with a package criu and nothing else, whose lists are valid for so many days from now on."""
        folder = self.mirror / "dists" / suite
        (folder / "main/binary-amd64").mkdir(parents=True)
        packages = (
            "Package: criu\nVersion: 4.2-1\nArchitecture: amd64\nMaintainer: A <a@example.org>\nDescription: test\n"
            f"Filename: pool/criu.deb\nSize: 1\nSHA256: {'0' * 64}\n"
        ).encode()
        (folder / "main/binary-amd64/Packages").write_bytes(packages)
        since, until = (formatdate(time.time() + 86400 * day, usegmt=True) for day in (-100, days))
        (folder / "Release").write_text(
            f"Origin: Debian\nLabel: Debian\nSuite: {suite}\nCodename: {suite}\nComponents: main\n"
            f"Architectures: amd64\nDate: {since}\nValid-Until: {until}\n"
            f"SHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-amd64/Packages\n"
        )

    def test_lists_that_are_valid(self, apt):
        told = apt("debian", days=7)
        assert run("suite.sh", **told) == ["fog:version:4.2-1"]
        assert told["FOG_LIST"].read_text().splitlines()[1] == f"deb {self.shown} forky main"

    def test_lists_that_have_expired_are_refused(self, apt):
        """They may be old ones that somebody sends again."""
        told = apt("debian", days=-1)
        (refusal,) = run("suite.sh", **told)
        assert refusal.startswith(f"fog:error:apt cannot use forky of {self.shown} (") and "expired" in refusal
        assert not told["FOG_LIST"].exists()

    def test_where_apt_is_told_to_take_them(self, apt):
        told = apt("debian", days=-1)
        with told["APT_CONFIG"].open("a") as settings:
            settings.write('Acquire::Check-Valid-Until "false";\n')
        assert run("suite.sh", **told) == ["fog:version:4.2-1"]

    def test_those_of_the_archive_have_expired_for_good(self, apt):
        told = apt("debian-archive/debian", days=-1)
        assert run("suite.sh", **told) == ["fog:version:4.2-1"]
        assert told["FOG_LIST"].read_text().splitlines()[1].startswith("deb [check-valid-until=no] ")
