# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which CRIU a server gets, its configuration, and what it can do then."""

from __future__ import annotations

import pytest

from ansible_collections.fog.migration.plugins.filter.criu_plan import criu_plan, needed_version, numbers
from ansible_collections.fog.migration.plugins.module_utils.criu import features as _features
from ansible_collections.fog.migration.plugins.module_utils.criu import tool

NOTHING = {
    "kernel": "6.1.0-30-amd64",
    "architecture": "amd64",
    "release": "bookworm",
    "candidate": "3.17.1-2+deb12u2",
    "version": "",
    "works": "",
    "origin": "",
    "suite": "",
}
LAB_KERNEL = "6.18.44-fc-v595"


def seen(**others) -> dict:
    return {**NOTHING, **others}


def ways(plan: dict) -> list[str]:
    return [way["way"] for way in plan["ways"]]


@pytest.mark.parametrize(
    ("kernel", "wanted", "needed"),
    [
        ("4.4.0-116-generic", "", ""),
        ("6.12.48+deb13-amd64", "", ""),
        ("6.13.1", "", "4.1"),
        ("6.16.0-rc1", "", "4.2"),
        ("7.0.1", "", "4.2"),
        ("6.13.1", "4.1.1", "4.1.1"),
        ("6.18.2", "3.19", "4.2"),
        ("4.16.18-v7+", "3.10", "3.10"),
    ],
)
def test_what_a_kernel_needs(kernel, wanted, needed):
    assert needed_version(kernel, wanted) == needed


def test_numbers_of_a_package_version():
    assert numbers("3.17.1-2+deb12u2") == (3, 17, 1)
    assert numbers("4.10") > numbers("4.9.1")
    assert numbers("") == ()


def test_the_distribution_comes_first_and_the_rest_stays_as_a_way_out():
    plan = criu_plan(seen(release="trixie", candidate="4.1.1-1", kernel="6.12.48+deb13-amd64"))
    assert ways(plan) == ["distro", "suite", "source"]
    assert plan["ways"][1]["suite"] == "forky"
    assert not plan["keep"]


def test_a_new_kernel_on_debian_13_takes_it_from_the_next_release():
    plan = criu_plan(seen(release="trixie", candidate="4.1.1-1", kernel=LAB_KERNEL))
    assert ways(plan) == ["suite", "source"]
    assert plan["skipped"] == [
        "distro: CRIU 4.1.1 of trixie is older than 4.2, which is needed with kernel 6.18.44-fc-v595"
    ]


def test_a_new_kernel_on_debian_12_builds_it():
    plan = criu_plan(seen(kernel=LAB_KERNEL))
    assert ways(plan) == ["source"]
    assert "no newer release is known whose CRIU fits bookworm" in plan["skipped"][1]


def test_armhf_has_no_package():
    plan = criu_plan(seen(architecture="armhf", candidate="", release="trixie", kernel="6.12.47+rpt-rpi-v7"))
    assert ways(plan) == ["source"]
    assert plan["skipped"] == [
        "distro: trixie has no package criu for armhf",
        "suite: Debian has no package criu for armhf",
    ]


def test_the_thesis_takes_ubuntus_own():
    plan = criu_plan(seen(release="xenial", candidate="2.0-2ubuntu3", kernel="4.4.0-116-generic"))
    assert ways(plan) == ["distro", "source"]


@pytest.mark.parametrize(("source", "suite"), [("distro", ""), ("suite", "forky"), ("source", "")])
def test_what_the_user_says_is_the_only_way(source, suite):
    plan = criu_plan(seen(kernel=LAB_KERNEL), source=source, suite=suite)
    assert plan["ways"] == [{"way": source, "suite": suite}]
    assert plan["skipped"] == []


@pytest.mark.parametrize(
    ("there", "wanted", "keep"),
    [
        ({"version": "4.2.1", "works": "yes", "origin": "package", "suite": "forky"}, {}, True),
        ({"version": "4.2.1", "works": "yes", "origin": "other"}, {}, True),
        ({"version": "4.1.1", "works": "yes", "origin": "package"}, {}, False),
        ({"version": "4.2.1", "works": "no", "origin": "source"}, {}, False),
        ({"version": "4.2.1", "works": "yes", "origin": "source"}, {"version": "4.3"}, False),
        ({"version": "4.2.1", "works": "yes", "origin": "source"}, {"source": "source"}, True),
        ({"version": "4.2.1", "works": "yes", "origin": "source"}, {"source": "distro"}, False),
        ({"version": "4.2.1", "works": "yes", "origin": "package", "suite": "forky"}, {"source": "distro"}, False),
        ({"version": "4.2.1", "works": "yes", "origin": "package", "suite": "forky"}, {"source": "suite"}, True),
        (
            {"version": "4.2.1", "works": "yes", "origin": "package", "suite": "sid"},
            {"source": "suite", "suite": "forky"},
            False,
        ),
    ],
)
def test_what_is_there_stays_if_it_is_good_enough(there, wanted, keep):
    assert criu_plan(seen(release="trixie", kernel=LAB_KERNEL, **there), **wanted)["keep"] is keep


# --- /etc/criu/runc.conf

OPTIONS = {"tcp-established": "", "ext-unix-sk": "", "manage-cgroups": "ignore"}
FULL = "tcp-established\next-unix-sk\nmanage-cgroups=ignore\n"


def test_options_into_an_empty_file():
    assert tool.merge_options("", OPTIONS) == FULL


@pytest.mark.parametrize(
    "text",
    [FULL, "manage-cgroups=ignore\nleave-stopped # mine\n\n# a comment\ntcp-established\next-unix-sk\n"],
)
def test_options_that_are_there_stay_as_they_are(text):
    assert tool.merge_options(text, OPTIONS) == text


def test_options_with_another_value_are_replaced_in_their_place():
    mine = "# mine\nmanage-cgroups soft\nlog-file /tmp/x.log\ntcp-established\nmanage-cgroups=full"
    merged = tool.merge_options(mine, OPTIONS)
    assert merged == "# mine\nmanage-cgroups=ignore\nlog-file /tmp/x.log\ntcp-established\next-unix-sk\n"
    assert tool.merge_options(merged, OPTIONS) == merged


def test_a_value_that_criu_does_not_take_is_none():
    """criu 4.1.1 is content with "manage-cgroups nonsense", and refuses "manage-cgroups=nonsense"."""
    assert tool.parse_options("manage-cgroups ignore") == {"manage-cgroups": ""}
    assert tool.merge_options("manage-cgroups ignore", {"manage-cgroups": "ignore"}) == "manage-cgroups=ignore\n"


# --- Features and modes


def features(**refused) -> dict:
    """All features work, but those that are named do not."""
    return {
        name: {"works": name not in refused, "why_not": refused.get(name)} for name in (*_features.FEATURES, *refused)
    }


def possible(modes: dict) -> set[str]:
    return {mode for mode, one in modes.items() if one["possible"]}


def test_all_modes_with_all_features():
    modes = _features.migration_modes(True, None, features())
    assert possible(modes) == {"cold", "precopy", "postcopy", "hybrid"}
    assert {one["why_not"] for one in modes.values()} == {None}


def test_no_mode_without_criu():
    modes = _features.migration_modes(False, "criu is not installed", {})
    assert not possible(modes)
    assert {one["why_not"] for one in modes.values()} == {"criu is not installed"}


def test_precopy_on_arm():
    why = _features.feature_refusal("mem_dirty_track", "Warn  (criu/cr-check.c:824): Dirty", "4.2.1", "armv7l")
    assert why.endswith("(CONFIG_MEM_SOFT_DIRTY), which no ARM kernel can")
    modes = _features.migration_modes(True, None, features(mem_dirty_track=why))
    # It is told, but pre-copy finds out by itself what has changed.
    assert possible(modes) == {"cold", "precopy", "postcopy", "hybrid"}


def test_no_postcopy_without_userfaultfd_says_so_once():
    refused = {name: _features.FEATURES[name] for name in ("mem_dirty_track", "uffd", "uffd-noncoop")}
    modes = _features.migration_modes(True, None, features(**refused))
    assert possible(modes) == {"cold", "precopy"}
    assert modes["postcopy"]["why_not"] == modes["hybrid"]["why_not"] == _features.FEATURES["uffd"]


def test_an_old_criu_does_not_know_every_feature():
    said = "Error (criu/cr-check.c:1901): Unknown feature cgroupns"
    assert _features.feature_refusal("cgroupns", said, "2.0", "x86_64") == "CRIU 2.0 does not know the feature cgroupns"
    assert _features.feature_refusal("cgroupns", None, "2.0", "x86_64") is None
