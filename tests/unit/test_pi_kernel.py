# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts of the role pi_kernel: what a kernel must have, and what the Pi's firmware is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.fog.migration.plugins.filter.kernel_proof import kernel_proof
from ansible_collections.fog.migration.plugins.filter.kernel_wishes import kernel_wishes
from ansible_collections.fog.migration.plugins.filter.pi_cmdline import pi_cmdline
from ansible_collections.fog.migration.plugins.filter.pi_config_txt import pi_config_txt

FRAGMENTS = Path(__file__).parents[2] / "roles" / "pi_kernel" / "files" / "fragments"


def wishes(text, architecture="arm", version="4.16.18"):
    return kernel_wishes([{"name": "test", "text": text}], architecture, version)


def wish(symbol, value="y", required=True, module=False):
    return {
        "symbol": symbol,
        "value": value,
        "required": required,
        "module": module,
        "reason": "why",
        "fragment": "test",
    }


# ---- kernel_wishes


def test_a_wish_has_its_reason_and_what_will_do():
    assert wishes("# required [m]: tun devices\nCONFIG_TUN=y\n") == [
        {
            "symbol": "CONFIG_TUN",
            "value": "y",
            "required": True,
            "module": True,
            "reason": "tun devices",
            "fragment": "test",
        }
    ]


def test_not_set_is_a_wish_like_any_other():
    assert [(it["symbol"], it["value"]) for it in wishes("# required: it harms\n# CONFIG_VDSO is not set\n")] == [
        ("CONFIG_VDSO", "n")
    ]


@pytest.mark.parametrize(
    ("conditions", "architecture", "version", "wanted"),
    [
        ("arm", "arm", "4.16.18", True),
        ("arm", "arm64", "4.16.18", False),
        (">=4.16", "arm", "4.16.18-v7+", True),
        (">=4.16.19", "arm", "4.16.18", False),
        (">=4.9", "arm", "4.16.0", True),
        ("<5.1", "arm", "5.1", False),
        ("m arm64 >=5.6 <6.13", "arm64", "6.12.48", True),
    ],
)
def test_conditions(conditions, architecture, version, wanted):
    assert bool(wishes(f"# wished [{conditions}]: why\nCONFIG_A=y\n", architecture, version)) is wanted


def test_the_last_fragment_wins():
    fragments = [
        {"name": "ours", "text": "# required: why\nCONFIG_A=y\n# required: why\nCONFIG_B=y\n"},
        {"name": "theirs", "text": "# wished: not here\n# CONFIG_A is not set\n"},
    ]
    result = kernel_wishes(fragments, "arm", "4.16.18")
    assert [(it["symbol"], it["value"], it["required"], it["fragment"]) for it in result] == [
        ("CONFIG_A", "n", False, "theirs"),
        ("CONFIG_B", "y", True, "ours"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CONFIG_A=y\n", "line 1: no comment before CONFIG_A"),
        ("# required: one\nCONFIG_A=y\nCONFIG_B=y\n", "line 3: no comment before CONFIG_B"),
        ("# required: one\n\nCONFIG_A=y\n", "line 3: no comment before CONFIG_A"),
        ("# required: one\nCONFIG A\n", "line 2: 'CONFIG A' is neither"),
        ("# required [sometimes]: one\nCONFIG_A=y\n", "'sometimes' is none of the conditions"),
    ],
)
def test_a_bad_fragment_is_refused(text, message):
    with pytest.raises(AnsibleFilterError, match=re.escape(message)):
        wishes(text)


def test_an_unknown_architecture_or_version_is_refused():
    with pytest.raises(AnsibleFilterError, match="'mips' is none of the architectures"):
        wishes("", "mips")
    with pytest.raises(AnsibleFilterError, match="'unknown' is no version"):
        wishes("# required [>=4.9]: why\nCONFIG_A=y\n", "arm", "unknown")


@pytest.mark.parametrize("architecture", ["arm", "arm64"])
@pytest.mark.parametrize("version", ["4.16.18", "4.19.63", "6.1.176", "6.12.48"])
def test_our_own_fragments(architecture, version):
    fragments = [{"name": path.name, "text": path.read_text()} for path in sorted(FRAGMENTS.glob("*.config"))]
    result = {it["symbol"]: it for it in kernel_wishes(fragments, architecture, version)}
    assert result["CONFIG_CHECKPOINT_RESTORE"]["required"]
    assert not result["CONFIG_MEM_SOFT_DIRTY"]["required"]
    assert ("CONFIG_COMPAT_32BIT_TIME" in result) is (version > "5")
    assert ("CONFIG_VDSO" in result) is (architecture == "arm" and version < "5")


@pytest.mark.parametrize("path", sorted(FRAGMENTS.glob("*.config")), ids=lambda path: path.name)
def test_comments_of_our_fragments_do_not_mislead_merge_config(path):
    """The kernel's merge_config.sh looks for the symbol's name as a word in the whole file."""
    comments = [
        line for line in path.read_text().splitlines() if line.startswith("#") and not line.endswith("is not set")
    ]
    assert not [line for line in comments if "CONFIG_" in line]


# ---- kernel_proof


@pytest.mark.parametrize(
    ("wanted", "module", "got", "kept", "modules"),
    [
        ("y", False, "CONFIG_A=y", True, False),
        ("y", True, "CONFIG_A=m", True, True),
        ("y", False, "CONFIG_A=m", False, False),
        ("m", False, "CONFIG_A=y", True, False),
        ("n", False, "# CONFIG_A is not set", True, False),
        ("n", False, "CONFIG_AB=y", True, False),
        ("n", False, "CONFIG_A=m", False, False),
        ("y", True, "# CONFIG_A is not set", False, False),
        ('"-v7"', False, 'CONFIG_A="-v7"', True, False),
        ("256", False, "CONFIG_A=64", False, False),
    ],
)
def test_what_became_of_a_wish(wanted, module, got, kept, modules):
    proof = kernel_proof(f"CONFIG_OTHER=y\n{got}\n", [wish("CONFIG_A", wanted, module=module)])
    assert (proof["kept"] == 1, bool(proof["modules"])) == (kept, modules)
    assert bool(proof["lost"]) is not kept


def test_lost_and_missed_say_what_was_needed_for_what():
    proof = kernel_proof("CONFIG_B=m\n", [wish("CONFIG_A"), wish("CONFIG_B", required=False)])
    assert proof == {
        "kept": 0,
        "lost": ["CONFIG_A is not set instead of y (why)"],
        "missed": ["CONFIG_B is m instead of y (why)"],
        "modules": [],
    }


# ---- pi_config_txt

RASPBIAN = "# For more options see\ndtparam=audio=on\n[pi4]\nmax_framebuffers=2"
SETTINGS = {"kernel": "fog/4.16.18-v7-fog/kernel7.img", "arm_64bit": 0}


def test_config_txt_gets_a_block_that_no_section_swallows():
    assert pi_config_txt(RASPBIAN, SETTINGS) == (
        RASPBIAN + "\n# BEGIN fog.migration kernel\n[all]\nkernel=fog/4.16.18-v7-fog/kernel7.img\narm_64bit=0\n"
        "# END fog.migration kernel\n"
    )


def test_config_txt_is_changed_once_and_taken_back():
    once = pi_config_txt(RASPBIAN + "\n", SETTINGS)
    assert pi_config_txt(once, SETTINGS) == once
    assert pi_config_txt(once, {"kernel": "other.img"}).count("kernel=") == 1
    assert pi_config_txt(once, {}) == RASPBIAN + "\n"


def test_config_txt_with_windows_line_ends():
    text = "dtparam=audio=on\n# BEGIN fog.migration kernel\n[all]\nkernel=a\n# END fog.migration kernel\narm_freq=1\n"
    assert pi_config_txt(text.replace("\n", "\r\n"), {}) == "dtparam=audio=on\r\narm_freq=1\r\n"


def test_an_empty_config_txt():
    assert pi_config_txt("", {"kernel": "a"}).startswith("# BEGIN")
    assert pi_config_txt("", {}) == ""


# ---- pi_cmdline

STRETCH = (
    "dwc_otg.lpm_enable=0 console=serial0,115200 console=tty1 root=PARTUUID=6c586e13-02 rootfstype=ext4 rootwait\n"
)
CGROUPS = ["cgroup_enable=cpuset", "cgroup_enable=memory", "cgroup_memory=1", "systemd.unified_cgroup_hierarchy=0"]


def test_cmdline_gets_what_is_missing_once():
    once = pi_cmdline(STRETCH, CGROUPS)
    assert once == STRETCH.strip() + " " + " ".join(CGROUPS) + "\n"
    assert pi_cmdline(once, CGROUPS) == once


def test_cmdline_replaces_another_value_and_a_contradiction():
    text = "root=/dev/mmcblk0p2 systemd.unified_cgroup_hierarchy=1 cgroup_disable=memory quiet"
    assert pi_cmdline(text, CGROUPS[1:]) == (
        "root=/dev/mmcblk0p2 systemd.unified_cgroup_hierarchy=0 quiet cgroup_enable=memory cgroup_memory=1\n"
    )
