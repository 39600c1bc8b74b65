# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder in which runc knows a container for one dump."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.runtime import dump_root

NAME = "org.criu.config"


@pytest.mark.parametrize(
    ("labels", "changed", "before"),
    [
        pytest.param(None, [f"{NAME}=new"], [], id="none"),
        pytest.param(["bundle=/b"], ["bundle=/b", f"{NAME}=new"], [], id="of others"),
        pytest.param([f"{NAME}=/own", "bundle=/b"], ["bundle=/b", f"{NAME}=new"], ["/own"], id="the same"),
        pytest.param([f"{NAME}.more=x"], [f"{NAME}.more=x", f"{NAME}=new"], [], id="a longer name"),
    ],
)
def test_annotations(labels, changed, before):
    state = {"id": "c1", "config": {"labels": labels, "rootfs": "/"}}
    assert dump_root.with_annotation(state, NAME, "new") == (
        {"id": "c1", "config": {"labels": changed, "rootfs": "/"}},
        before,
    )
    assert state["config"]["labels"] == labels


@pytest.fixture
def root(tmp_path, monkeypatch):
    """C(root(version, labels)): that of a container c1, where CRIU is of this version."""

    def make(version="4.2.1", labels=()):
        monkeypatch.setattr(tool, "version", lambda: version)
        monkeypatch.setattr(tool, "configuration", lambda path="its own": f"network-lock=nftables\nlog-file={path}\n")
        monkeypatch.setattr(runc, "runtime_state", lambda _container: {"config": {"labels": list(labels)}})
        return dump_root.DumpRoot("c1", str(tmp_path / "runc"))

    return make


# With what CRIU takes deleted files along.
DELETED = {"link-remap": "", "ghost-limit": str(32 << 20)}


def configuration(root):
    """What CRIU reads: the file that the state names."""
    labels = json.loads(Path(root.folder, "c1", "state.json").read_text())["config"]["labels"]
    return tool.parse_options(Path(labels[-1].partition("=")[2]).read_text())


@pytest.mark.parametrize(
    ("version", "without_lock", "lock"),
    [
        ("4.2.1", True, "skip"),
        ("4.2", True, "skip"),
        ("4.1.1", True, "nftables"),
        (None, True, "nftables"),
        ("4.2.1", False, "nftables"),
    ],
)
def test_the_network_lock(root, version, without_lock, lock):
    made = root(version)
    made.configure(without_lock)
    assert configuration(made) == {"network-lock": lock, "log-file": "its own", **DELETED}


def test_the_configuration_of_a_container_stays_but_for_the_lock(root):
    made = root(labels=[f"{NAME}=/etc/criu/mine.conf"])
    made.configure(without_lock=True)
    assert configuration(made) == {"network-lock": "skip", "log-file": "/etc/criu/mine.conf", **DELETED}


def test_a_second_dump_is_not_taken_for_complete(root):
    made = root()
    made.configure(without_lock=True)
    assert not made.is_complete
    Path(made.folder, "c1", "checkpoint").touch()
    assert made.is_complete
    made.configure(without_lock=False)
    assert not made.is_complete
    assert configuration(made)["network-lock"] == "nftables"


def test_nobody_else_reads_it(root):
    made = root()
    made.configure(without_lock=False)
    assert Path(made.folder, "c1").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in Path(made.folder).rglob("*"))
