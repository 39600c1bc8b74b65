# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role criu on bare servers: in every way that there is, on whatever kernel this machine has."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess

import pytest

from support import lab as lab_module
from support.role_on_server import RoleOnServer

pytestmark = pytest.mark.lab


# What any user could make beforehand, when names in /var/tmp could be known.
PRE_MADE = """
setpriv --reuid nobody --clear-groups sh -c 'for file in {name} {name}.source; do echo mine >/var/tmp/$file; done'
"""
THEIRS = "find /var/tmp -user nobody -printf '%f %s %T@ ' | sort"


class CriuOnServer(RoleOnServer):
    """The role criu on one server, and what criu_info says there afterwards."""

    PLAY = """
- name: CRIU
  hosts: {node}
  gather_facts: false
  roles:
    - role: fog.migration.criu
  tasks:
    - name: Ask CRIU
      fog.migration.criu_info:
      register: asked
    - name: Show what it said
      ansible.builtin.debug:
        msg: "said={{{{ asked | combine({{'fact': criu_modes}}) | to_json | b64encode }}}}"
"""
    VARIABLES = "criu_"
    STATE = r"""
dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' | grep ' installed$'
find /etc/apt /etc/criu /usr/local/sbin /opt /var/tmp -printf '%y %m %p %l\n' 2>&1 | sort
"""

    def __init__(self, lab: lab_module.Lab, node: str, cache: str):
        super().__init__(lab, node)
        self.cache = cache

    def run(self, *words: str, check: bool = True, **variables) -> subprocess.CompletedProcess:
        """With a cache of its own on the controller."""
        return super().run(*words, check=check, cache=self.cache, **variables)

    def works(self, *words: str) -> bool:
        """What CRIU itself says."""
        return self.sh(f"criu check {' '.join(words)} >/dev/null 2>&1 && echo yes", check=False) == "yes"


def said(done: subprocess.CompletedProcess) -> dict:
    """What criu_info said after the role, and the fact criu_modes."""
    return json.loads(base64.b64decode(re.search(r"said=([A-Za-z0-9+/=]+)", done.stdout).group(1)))


@pytest.mark.slow
def test_a_bare_server_gets_a_criu_that_works(bare, tmp_path):
    node = bare()
    server = CriuOnServer(lab_module.Lab(), node, str(tmp_path))
    # What fails comes first: there is nothing on the server then that it could rest on.
    assert "distro: CRIU" in server.refusal(source="distro", version="99")
    assert "suite: apt cannot use nosuch" in server.refusal(source="suite", suite="nosuch")
    assert "without its SHA-256" in server.refusal(source="source", source_url="http://127.0.0.1:9/criu.tar.gz")
    assert "criu_build_host names" in server.refusal(source="source", build_host="nobody")

    before = server.state()
    checked = server.run("--check")
    assert "would be installed by the first of these ways that works" in checked.stdout
    assert server.state() == before

    server.sh("mkdir -p /etc/criu; printf '# mine\nmanage-cgroups soft\nlog-file /run/criu.log' >/etc/criu/runc.conf")
    done = server.run()
    assert server.works()
    assert server.sh("cat /etc/criu/runc.conf").splitlines() == [
        "# mine",
        "manage-cgroups=ignore",
        "log-file /run/criu.log",
        "network-lock=nftables",
        "tcp-established",
        "ext-unix-sk",
        "file-locks",
    ]
    assert server.change() == 0

    info = said(done)
    lazy = server.works("--feature", "uffd-noncoop")
    can = {mode: one["possible"] for mode, one in info["modes"].items()}
    assert can == {"cold": True, "precopy": True, "postcopy": lazy, "hybrid": lazy}
    assert info["fact"] == info["modes"] and info["options"]["manage-cgroups"] == "ignore"


# molecule/default builds it in every run; this one takes it further.
@pytest.mark.slow
def test_debian_12_builds_it(bare, tmp_path):
    node = bare("bookworm")
    server = CriuOnServer(lab_module.Lab(), node, str(tmp_path))
    wrong = tmp_path / "criu.tar.gz"
    wrong.write_bytes(b"none of CRIU's")
    tarball = {"source": "source", "source_archive": str(wrong)}
    assert "not 00000000" in server.refusal(source_checksum="0" * 64, **tarball)

    server.run(source="source")
    assert server.works()
    assert server.sh("readlink -f $(command -v criu)") == "/opt/fog-migration/criu/sbin/criu"
    assert server.change(source="source") == 0

    # What was built is used for the next server, as long as it is what was built. Where root's files once lay, another
    # user has made files of these names: they stay what they are.
    (product,) = tmp_path.glob("criu-bookworm-*.tar.gz")
    assert server.sh("cat /opt/fog-migration/criu/.sha256") == hashlib.sha256(product.read_bytes()).hexdigest()
    server.sh("rm -rf /opt/fog-migration /usr/local/sbin/criu /var/cache/fog-migration")
    server.sh(PRE_MADE.format(name=product.name))
    pre_made = server.sh(THEIRS)
    with product.open("ab") as file:
        file.write(b"more")
    assert "so it may not be what was built" in server.refusal(source="source")
    os.truncate(product, product.stat().st_size - len(b"more"))

    done = server.run(source="source", build_host=server.lab.servers()[0])
    assert server.works()
    assert re.search(r"Build it, which takes some minutes, on [a-z0-9]+\] \**\nskipping:", done.stdout), done.stdout
    assert f"built by {node}, SHA-256 " in done.stdout
    assert server.sh(THEIRS) == pre_made and pre_made.count(product.name) == 2
