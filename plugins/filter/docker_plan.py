# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Docker a host is to have, and where it comes from."""

from __future__ import annotations

DOCUMENTATION = r"""
name: docker_plan
short_description: Decide which Docker a host gets, and from where
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - From what the role P(fog.migration.docker#role) saw on a host and what is wanted, decides the way of installation,
    or says in one sentence why the host cannot have it. Changes nothing.
options:
  _input:
    description: What was seen on the host, as C(files/look.sh) of the role says it.
    type: dict
    required: true
  wanted:
    description: >-
      The role's variables, without their prefix: C(channel), C(version), C(apt_repository), C(apt_suite),
      C(static_url), C(static_checksums), C(static_archive), C(static_prefix), C(stop_running).
    type: dict
    required: true
  facts:
    description: Ansible's facts of the host.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Decide
  ansible.builtin.set_fact:
    plan: "{{ seen | fog.migration.docker_plan(wanted={'channel': 'distro'}, facts=ansible_facts) }}"
"""

RETURN = r"""
_value:
  description:
    - C(error) (empty, or why not), C(way) (V(apt), V(static) or V(distro)), C(version), C(packages) (as NAME or
      NAME=VERSION), C(repository), C(static) (C(version), C(url), C(sha256), C(path)), C(installed) (whether the host
      has it already), C(replaces) (the Docker that it takes the place of, or empty), C(others) (the packages of other
      Dockers that are installed).
  type: dict
"""

import re
from fnmatch import fnmatchcase

# The releases that Docker's own repository has Docker 17.09 for.
_PINNED_BY_APT: dict[str, tuple[str, ...]] = {"Ubuntu": ("xenial",), "Debian": ("stretch",), "Raspbian": ("stretch",)}
_REPOSITORY = "https://download.docker.com/linux/"
# As Docker names them in its static builds.
_STATIC_NAMES = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "armhf", "armel": "armel"}
# All packages that bring a dockerd; no two of them go together.
_ENGINES = ("docker-ce", "docker-engine", "docker.io")
# The first Docker that runs on control groups version 2.
_CGROUP_2 = (20, 10)
_SPACE = 400


def numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a Docker version, without a package's epoch."""
    return tuple(int(number) for number in re.findall(r"\d+", version.split(":", 1)[-1])[:2])


def static_version(version: str) -> str:
    """A version as Docker's static builds spell it: 17.09.1-ce for the package version 17.09.1~ce."""
    return re.sub(r"~ce.*$", "-ce", version.split(":", 1)[-1])


def _channel(wanted: dict, facts: dict) -> str:
    if wanted["channel"] != "pinned":
        return wanted["channel"]
    by_apt = facts.get("distribution_release") in _PINNED_BY_APT.get(str(facts.get("distribution")), ())
    return "apt" if by_apt else "static"


def _apt_packages(version: str) -> list[str]:
    """Docker split its package in three with 18.09."""
    exact = version if "-" in version else f"{version}-*"
    if numbers(version) < (18, 9):
        return [f"docker-ce={exact}"]
    return [f"docker-ce={exact}", f"docker-ce-cli={exact}", "containerd.io"]


def _distro_packages(facts: dict) -> list[str]:
    """From Debian 13 on the client is a package of its own."""
    debian = facts.get("distribution") in ("Debian", "Raspbian")
    major = str(facts.get("distribution_major_version", "0"))
    alone = debian and (not major.isdigit() or int(major) >= 13)
    return ["docker.io", "docker-cli"] if alone else ["docker.io"]


def _repository(wanted: dict, facts: dict) -> str:
    name = str(facts.get("distribution", "")).lower()
    url = wanted["apt_repository"] or (_REPOSITORY + name if name in ("debian", "ubuntu", "raspbian") else "")
    suite = wanted["apt_suite"] or facts.get("distribution_release") or ""
    return f"{url} {suite} stable" if url and suite else ""


def _static(seen: dict, wanted: dict, facts: dict) -> dict:
    machine = _STATIC_NAMES.get(seen["architecture"], seen["architecture"])
    if machine == "armhf" and str(facts.get("architecture", "")).startswith("armv6"):
        machine = "armel"
    version = static_version(wanted["version"])
    return {
        "version": version,
        "architecture": machine,
        "url": wanted["static_url"].replace("ARCHITECTURE", machine).replace("VERSION", version),
        "sha256": wanted["static_checksums"].get(version, {}).get(machine, ""),
        "path": f"{wanted['static_prefix']}/{version}",
    }


def _packages_seen(seen: dict) -> dict[str, str]:
    return {key.split(":", 1)[1]: value for key, value in seen.items() if key.startswith("package:")}


def _fits(have: dict[str, str], package: str) -> bool:
    name, _equal, version = package.partition("=")
    return name in have and (not version or fnmatchcase(have[name], version))


def _present(seen: dict) -> str:
    """The Docker that a host has now, for a sentence; empty when it has none."""
    if _is_static(seen):
        return f"Docker {seen.get('version') or seen['static_version']} (static)"
    for name in _ENGINES:
        if f"package:{name}" in seen:
            return f"{name} {seen[f'package:{name}']}"
    if seen.get("unit") or seen.get("version"):
        return f"Docker {seen.get('version') or ''}".strip()
    return ""


def _is_static(seen: dict) -> bool:
    return bool(seen.get("static_version")) and seen["ours"] == "yes"


def _cgroup_error(seen: dict, version: str) -> str:
    where = seen.get("cmdline_file")
    where = f"the line in {where}" if where else "GRUB_CMDLINE_LINUX in /etc/default/grub (then run update-grub)"
    if seen["cgroup"] == "2":
        return (
            f"Docker {version} knows no control groups version 2, which this host has booted with; add "
            "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 to "
            f"{where} and reboot (systemd 258 and newer have no version 1 any more), or set docker_channel: distro"
        )
    if seen["cgroup_missing"]:
        return (
            f"Docker {version} needs the control groups {seen['cgroup_missing']}, which this host has not enabled; add "
            f"cgroup_enable=cpuset cgroup_enable=memory cgroup_memory=1 to {where} and reboot"
        )
    return ""


def _error(seen: dict, wanted: dict, plan: dict) -> str:
    way, static = plan["way"], plan["static"]
    old = way != "distro" and numbers(wanted["version"]) < _CGROUP_2
    if seen["systemd"] != "yes":
        return "systemd does not run this host, and the service is known to systemd only"
    if way != "distro" and len(numbers(wanted["version"])) < 2:
        return f"docker_version ({wanted['version']}) is no version, such as 17.09.1~ce"
    if way in ("apt", "distro") and not seen["apt"]:
        return f"docker_channel {way} needs apt, which this host does not have; set docker_channel: static"
    if way == "apt" and not plan["repository"]:
        return "Docker has no apt repository for this distribution; set docker_apt_repository and docker_apt_suite"
    if way == "static" and static["architecture"] not in _STATIC_NAMES.values():
        return f"Docker has no static build for {static['architecture']}; set docker_channel: distro"
    if way == "static" and not static["sha256"]:
        return (
            f"no checksum is known of Docker {static['version']} for {static['architecture']}; give the sha256 of "
            f"{wanted['static_archive'] or static['url']} in docker_static_checksums"
        )
    if way == "static" and not plan["installed"] and int(seen["free_mb"]) < _SPACE:
        return f"there are {seen['free_mb']} MB free for {wanted['static_prefix']}, and {_SPACE} MB are needed"
    if seen["overlay"] != "yes":
        return "this kernel has no overlay file system (CONFIG_OVERLAY_FS), which Docker's overlay2 needs"
    return _cgroup_error(seen, wanted["version"]) if old else ""


def _running_error(seen: dict, wanted: dict, plan: dict) -> str:
    if not plan["replaces"] or not seen.get("containers") or wanted["stop_running"]:
        return ""
    return (
        f"{plan['replaces']} would be replaced while its containers run ({seen['containers']}); migrate or stop them "
        "first, or set docker_stop_running: true, which stops them and starts them again afterwards"
    )


def docker_plan(seen: dict, wanted: dict, facts: dict) -> dict:
    """See DOCUMENTATION."""
    way = _channel(wanted, facts)
    have = _packages_seen(seen)
    static = _static(seen, wanted, facts)
    packages = {"apt": _apt_packages(wanted["version"]), "distro": _distro_packages(facts), "static": []}[way]
    if way == "static":
        installed = _is_static(seen) and (seen["static_version"], seen["static_sha256"]) == (
            static["version"],
            static["sha256"],
        )
    else:
        installed = not _is_static(seen) and all(_fits(have, package) for package in packages)
    engine = {"apt": "docker-ce", "distro": "docker.io", "static": ""}[way]
    plan = {
        "way": way,
        "version": wanted["version"] if way != "distro" else "",
        "packages": packages,
        "repository": _repository(wanted, facts) if way == "apt" else "",
        "static": static,
        "installed": installed,
        "replaces": "" if installed else _present(seen),
        "others": [name for name in _ENGINES if name in have and name != engine],
    }
    plan["error"] = _error(seen, wanted, plan) or _running_error(seen, wanted, plan)
    return plan


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"docker_plan": docker_plan}
