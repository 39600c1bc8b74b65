# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a source says of a network or of an image: it is judged in one line, and what is refused is not made."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fog.migration.plugins.module_utils.docker import image_names, networks
from ansible_collections.fog.migration.plugins.module_utils.policy import judge_networks
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import Policy
from fuzz.made_up import like, values

NETWORK = networks.settings(
    {
        "Driver": "bridge",
        "Options": {"parent": "eth0", "com.docker.network.bridge.name": "br7"},
        "IPAM": {"Driver": "default", "Config": [{"Subnet": "192.0.2.0/24", "AuxiliaryAddresses": {"a": "192.0.2.1"}}]},
    }
)
SERVER = networks.Server({"front": NETWORK}, ["bridge"], ["eth0"], [{"subnet": "10.0.0.0/8", "interface": "eth0"}])


@given(st.one_of(like(NETWORK), values))
def test_a_network(value):
    problem = networks.hindrance("front", value, SERVER)
    assert isinstance(problem, str)
    if not networks.are_settings(value):
        assert problem == "the network front is not described as Docker describes one"
        return
    for refusal in judge_networks.refusals(Policy(), {"front": value}):
        assert str(refusal).isprintable()
    assert judge_networks.refusals(Policy(networks=("*",)), {"front": value}) == []
    assert networks.creation_body("front", value)["Name"] == "front"


PARTS = st.sampled_from(
    ["a", "docker.io", "index.docker.io", "library", "x.y", "localhost", "A", ":", "/", "@", "5000"]
)


@given(st.one_of(st.text(max_size=300), st.lists(PARTS, max_size=9).map("".join)))
def test_a_name_of_an_image(text):
    for name in (image_names.tagged(text), image_names.digested(text)):
        if name:
            assert str(name).isprintable() and " " not in str(name)
            again = image_names.tagged(str(name)) or image_names.digested(str(name))
            assert again == name
    assert image_names.own([text], text) == ([text] if image_names.tagged(text) else [])
