# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role packages on a bare server, with packages that are made there."""

from __future__ import annotations

import re
import subprocess

import pytest

from support.role_on_server import RoleOnServer

pytestmark = pytest.mark.lab


class PackagesOnServer(RoleOnServer):
    """The role packages on one server; a method's words are the names of packages."""

    PLAY = """
- name: Packages
  hosts: {node}
  gather_facts: false
  roles:
    - role: fog.migration.packages
"""
    VARIABLES = "packages_"
    STATE = "dpkg-query -W -f '${Package} ${Version} ${Status}\n'; apt-mark showhold; ls /usr/sbin/policy-rc.d || :"

    def run(self, *names: str, words: tuple[str, ...] = (), check: bool = True, **variables):
        """The role with these packages and variables."""
        return super().run(*words, check=check, names=list(names), **variables)


@pytest.fixture
def packages(lab, bare) -> PackagesOnServer:
    """The role on a new bare server with a repository."""
    node = bare()
    lab.read_inventory()
    server = PackagesOnServer(lab, node)
    server.script("packages-repository.sh")
    return server


@pytest.mark.slow
def test_packages(packages):
    lab, node = packages.lab, packages.node

    # A check changes nothing, not even apt's lists.
    before = packages.state()
    lists = lab.sh(node, "ls /var/lib/apt/lists")
    assert packages.change("fog-one=1.*", words=("--check",)) == 1
    assert (packages.state(), lab.sh(node, "ls /var/lib/apt/lists")) == (before, lists)

    # Installed, on hold; the second time apt is not even there, and stays on hold when something is upgraded.
    assert packages.change("fog-one=1.*", hold=True) == 1
    assert packages.change("fog-one=1.*", hold=True) == 0
    assert lab.sh(node, "apt-get -qq upgrade; dpkg-query -W -f '${Version}' fog-one").endswith("1.0")

    # What is asked for wins over a hold of the role, but not over one of somebody else.
    assert packages.change("fog-one=2.0", hold=True) == 1
    lab.sh(node, "sed -i /fog-one/d /etc/fog-migration/held-packages")
    assert "fog-one is on hold there (2.0)" in packages.refusal("fog-one=1.0", allow_downgrade=True)
    lab.sh(node, "apt-mark unhold fog-one")

    # What nobody has asked for.
    assert "would go back from 2.0 to 1.0" in packages.refusal("fog-one=1.0")
    assert "would have to remove fog-one" in packages.refusal("fog-two")
    assert packages.change("fog-two", may_remove=["fog-one"]) == 1
    assert packages.change("fog-two", state="absent") == 1
    assert packages.change("fog-two", state="absent") == 0
    assert "would change fog-one as well" in packages.refusal("fog-one", unwanted=["fog-one"])


@pytest.mark.slow
def test_why_not(packages):
    lab, node = packages.lab, packages.node
    assert "apt knows no package fog-none" in packages.refusal("fog-none")
    assert "no version 9.9 of fog-one, only 2.0, 1.0" in packages.refusal("fog-one=9.9")
    assert "has an entry that is neither NAME nor NAME=VERSION" in packages.refusal("fog one")
    assert re.search(r"needs \d+ MB in /usr and \d+ MB are free", packages.refusal("fog-large"))

    lock = "file = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(file, fcntl.LOCK_EX)"
    # Until its standard input is closed.
    holder = f"import fcntl, sys; {lock}; sys.stdin.read()"
    with subprocess.Popen([*lab.exec_command(node), "python3", "-c", holder], stdin=subprocess.PIPE):
        assert "has kept dpkg's lock for 3 s" in packages.refusal("fog-one", lock_timeout=3)

    lab.sh(node, "touch /var/lib/dpkg/updates/0001")
    assert "an earlier run of dpkg was interrupted" in packages.refusal("fog-one")
    lab.sh(node, "rm /var/lib/dpkg/updates/0001")

    lab.sh(node, "echo 'deb [trusted=yes] http://127.0.0.1:9/ ./' >/etc/apt/sources.list.d/away.list")
    assert "a package mirror cannot be reached" in packages.refusal("fog-none")
    # What the other sources have can be had all the same.
    assert packages.change("fog-one") == 1
