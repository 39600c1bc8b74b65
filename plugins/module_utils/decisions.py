# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What CRIU can do here, which containers can be checkpointed, what a container at the destination is made of.

Pure functions all of them.
"""

from __future__ import annotations

import datetime
import re

from ansible_collections.fog.migration.plugins.module_utils.docker.networks import MOVABLE_DRIVERS

# Docker's own rule for the names of checkpoints and containers: at least two characters.
NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+$")
# The OCI runtime that the role runtime installs, into which live migration restores.
RUNTIME = "fog-runc"
# The runc of older ones does not hand CRIU its configuration, and knows no lazy pages.
OLDEST_LIVE = (19, 3)

# Docker's own stores of layers, which need only those of an image that they lack.
GRAPH_DRIVERS = ("overlay2", "overlay", "fuse-overlayfs", "aufs", "btrfs", "zfs", "devicemapper", "vfs")


def version_tuple(version: str) -> tuple[int, ...]:
    """V(17.09.1-ce) -> (17, 9, 1); an unknown version is taken for a new one."""
    numbers = re.match(r"^(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(number or 0) for number in numbers.groups()) if numbers else (999,)


# What CRIU is asked for one by one (C(criu check --feature)), and what the kernel lacks when it says no.
FEATURES = {
    "mem_dirty_track": "the kernel does not track dirty memory (CONFIG_MEM_SOFT_DIRTY)",
    "uffd": "the kernel has no userfaultfd (CONFIG_USERFAULTFD)",
    "uffd-noncoop": "the kernel's userfaultfd does not tell what a process does to its memory, as it does from 4.11 on",
    "seccomp_filters": "the kernel does not show the seccomp filters of a process (CONFIG_SECCOMP_FILTER)",
    "tcp_half_closed": "the kernel cannot restore a TCP connection that one side has closed",
    "network_lock_nftables": "CRIU cannot lock a network by nftables on this kernel (CONFIG_NF_TABLES)",
    "cgroupns": "the kernel has no control group namespaces (CONFIG_CGROUPS, from 4.6 on)",
}

# The modes of migration, and the features without which CRIU cannot do them.
MODES = {
    "cold": (),
    "precopy": (),
    "postcopy": ("uffd", "uffd-noncoop"),
    "hybrid": ("uffd", "uffd-noncoop"),
}


def feature_refusal(name: str, said: str | None, criu_version: str | None, machine: str) -> str | None:
    """Why this feature does not work, as a clause.

    :param said: what C(criu check) said, or None where it works.
    :param machine: the architecture as C(uname -m) names it.
    """
    if said is None:
        return None
    if "Unknown feature" in said:
        return f"CRIU {criu_version} does not know the feature {name}"
    no_hope = name == "mem_dirty_track" and re.match(r"arm|aarch64", machine)
    return FEATURES[name] + (", which no ARM kernel can" if no_hope else "")


def migration_modes(works: bool, why_not: str | None, features: dict) -> dict[str, dict]:
    """The modes of migration that this CRIU can do on its kernel.

    :param works: whether C(criu check) was content; if not, I(why_not) holds for all modes.
    :param features: C(works) and C(why_not) by name.
    :returns: C(possible) and C(why_not) by mode.
    """
    modes = {}
    for mode, needed in MODES.items():
        missing = [name for name in needed if name in features and not features[name]["works"]]
        if "uffd" in missing:
            # Without userfaultfd at all, that it tells nothing says nothing new.
            missing = [name for name in missing if name != "uffd-noncoop"]
        refusal = ("; ".join(features[name]["why_not"] for name in missing) or None) if works else why_not
        modes[mode] = {"possible": refusal is None, "why_not": refusal}
    return modes


def live_problems(source: dict, destination: dict, mode: str) -> list[dict]:
    """What a live migration needs besides, from what C(server_info) tells of both servers.

    :returns: C(check) (its name), C(problem) (a clause, or empty), C(fine) (the clause when there is none).
    """
    known = RUNTIME in destination["docker"]["runtimes"]
    found = [
        {
            "check": "runtime",
            "problem": "" if known else f"the destination's Docker does not know the OCI runtime {RUNTIME}",
            "fine": f"the destination has the OCI runtime {RUNTIME}",
        }
    ]
    for side, server in (("source", source), ("destination", destination)):
        version = server["docker"]["version"]
        old = version_tuple(version) < OLDEST_LIVE
        found.append(
            {
                "check": f"docker_{side}",
                "problem": f"Docker {version} at the {side} is older than 19.03, before which only cold mode was tried"
                if old
                else "",
                "fine": f"Docker {version} at the {side}",
            }
        )
        can = server["criu"]["modes"][mode]
        found.append(
            {
                "check": f"{mode}_{side}",
                "problem": "" if can["possible"] else f"{mode} is not possible at the {side} ({can['why_not']})",
                "fine": f"{mode} is possible at the {side}",
            }
        )
    return found


def name_refusal(what: str, name: str) -> str | None:
    """Why Docker refuses this name for a checkpoint or a container, or None."""
    if NAME.fullmatch(name):
        return None
    return (
        f"{what} name {name!r} is refused by Docker, which wants two or more of [a-zA-Z0-9_.-], "
        "the first a letter or digit"
    )


def checkpoint_refusal(
    inspect: dict, daemon: dict, criu_version: str | None, foreign_user: bool, leave_running: bool, stopped=()
) -> tuple | None:
    """Why a checkpoint of this container cannot work, and what to do about it; None where it can.

    :param inspect: the container's inspect data.
    :param daemon: see C(api.daemon_facts).
    :param foreign_user: see C(host.unreadable_limits).
    :param stopped: see C(host.stopped_below).
    :returns: a pair of clauses, or None.
    """
    name = inspect["Name"].lstrip("/")
    state = inspect["State"]
    version = daemon["version"]
    if not state.get("Running"):
        status = state.get("Status", "not running")
        return f"the container {name} is not running ({status})", f"start it first: docker start {name}"
    if state.get("Paused"):
        return f"the container {name} is paused", f"resume it first: docker unpause {name}"
    if state.get("Restarting"):
        return f"the container {name} is restarting all the time", "look at its log and mend it first"
    if not daemon["experimental"]:
        return (
            "the Docker daemon does not run in experimental mode, without which it has no checkpoints",
            'set "experimental": true in /etc/docker/daemon.json and restart Docker',
        )
    if not criu_version:
        return "criu is not installed, and Docker makes checkpoints with it", "install criu on this host"
    if inspect["Config"].get("Tty") and version_tuple(version) < (19, 3):
        return (
            f"the container {name} has a terminal (TTY), which Docker {version} cannot checkpoint and restore",
            "run it without --tty, or with Docker 19.03 or newer",
        )
    if foreign_user:
        return (
            (
                f"the container {name} has processes of other users than root, whose limits CRIU cannot read here "
                "because root lacks the capability CAP_SYS_RESOURCE on this host"
            ),
            "give this host, probably a container itself, that capability",
        )
    if stopped:
        # The kernel has CRIU wait for them until they are thawed, which nobody does before CRIU has ended.
        return (
            (
                f"the container {name} has processes that were stopped by a signal ({', '.join(stopped)}), and CRIU "
                "waits for those for ever while the container is frozen"
            ),
            "continue them with SIGCONT, or end them",
        )
    if leave_running:
        return None
    if inspect["HostConfig"].get("AutoRemove"):
        return (
            (
                f"the container {name} was started with --rm, so Docker deletes it the instant that it is frozen "
                "and nothing could be undone"
            ),
            "run it without --rm, or use leave_running",
        )
    if (17, 12) <= version_tuple(version) < (18, 9):
        return (
            (
                f"Docker {version} leaves a container running after a checkpoint that should end it, "
                "so what it does after the checkpoint would be lost"
            ),
            "use another version of Docker, or leave_running",
        )
    return None


def checkpoints_paused(version: str) -> bool:
    """Whether this Docker was seen making a checkpoint of a container that is paused."""
    return version_tuple(version) >= (18, 9)


def restart_policy_to_hold(inspect: dict, leave_running: bool) -> dict | None:
    """The restart policy that would bring a frozen container back to life, or None.

    A checkpoint that ends the container ends it with 137: to Docker, a crash.
    """
    policy = inspect["HostConfig"].get("RestartPolicy") or {}
    revives = policy.get("Name") in ("always", "unless-stopped", "on-failure")
    return policy if revives and not leave_running else None


def revives(policy: dict, exit_code: int) -> bool:
    """Whether Docker would start a container with this restart policy anew that has ended with this code."""
    name = policy.get("Name", "no")
    return name in ("always", "unless-stopped") or (name == "on-failure" and exit_code != 0)


def image_reference(inspect: dict, image_id_by_tag: dict) -> str:
    """How the new container names its image: by the same tag where that means the same image, else by its id.

    :param image_id_by_tag: what the tags mean at the destination.
    """
    tag = inspect["Config"].get("Image", "")
    return tag if tag and image_id_by_tag.get(tag) == inspect["Image"] else inspect["Image"]


def _links(links: list | None) -> list:
    """C(/db:/web/alias), as inspect shows a link, in the form that C(create) wants: C(db:alias)."""
    pairs = (link.split(":", 1) for link in links or [])
    return [f"{target.lstrip('/')}:{alias.rsplit('/', 1)[-1]}" for target, alias in pairs]


_SHORT_ID = 12


def _endpoint(endpoint: dict, container_id: str, driver: str | None) -> dict:
    """One network's settings as C(create) and C(connect) want them: what was configured, not what came of it.

    :param driver: the network's, where the container moves, so that it may have what it alone had.
    """
    aliases = [alias for alias in endpoint.get("Aliases") or [] if not container_id.startswith(alias)]
    wanted = {
        "IPAMConfig": _same_addresses(endpoint) if driver in MOVABLE_DRIVERS else endpoint.get("IPAMConfig"),
        "Links": endpoint.get("Links"),
        "Aliases": aliases,
        "DriverOpts": endpoint.get("DriverOpts"),
        "MacAddress": _same_mac(endpoint, driver),
        "GwPriority": endpoint.get("GwPriority"),
    }
    return {key: value for key, value in wanted.items() if value}


def _same_mac(endpoint: dict, driver: str | None) -> str | None:
    """The MAC to give it again: peers know it, or somebody gave it, which inspect does not tell of every network.

    On an ipvlan it is the server's. Docker before 28 makes that of a bridge from its address, which may be another one.
    """
    mac, address = endpoint.get("MacAddress"), endpoint.get("IPAddress")
    if not mac or driver is None or driver == "ipvlan":
        return None
    made = address and "02:42:" + ":".join(f"{int(part):02x}" for part in address.split("."))
    return None if driver != "macvlan" and mac == made else mac


def _same_addresses(endpoint: dict) -> dict:
    """What was configured of an endpoint's addresses, with those that Docker chose."""
    chosen = {"IPv4Address": endpoint.get("IPAddress"), "IPv6Address": endpoint.get("GlobalIPv6Address")}
    return {**(endpoint.get("IPAMConfig") or {}), **{key: value for key, value in chosen.items() if value}}


def creation_body(
    inspect: dict, image: str, armed: bool = False, drivers: dict[str, str] | None = None
) -> tuple[dict, dict]:
    """The body of C(POST /containers/create) that makes this container again, from everything that inspect tells.

    The restart policy is left at V(no), so that no daemon starts the container anew before it was restored.

    :param inspect: the inspect data of the container while it ran.
    :param image: see C(image_reference).
    :param armed: whether it is to be restored by our OCI runtime; otherwise it does not stay with it.
    :param drivers: where it moves, the drivers of its networks, by name: on some it has the same address.
    :returns: the body, and the endpoints of further networks, which older daemons take one by one after creation.
    """
    host = {key: value for key, value in inspect["HostConfig"].items() if value is not None}
    host["RestartPolicy"] = {"Name": "no"}
    host["Links"] = _links(host.get("Links"))
    host.pop("ContainerIDFile", None)
    if armed or host.get("Runtime") == RUNTIME:
        host["Runtime"] = RUNTIME if armed else ""
    config = {key: value for key, value in inspect["Config"].items() if value is not None}
    networks = _endpoints(inspect)
    mode = host.get("NetworkMode", "default")
    main = _main_network(mode, networks)
    endpoints = {
        name: _endpoint(endpoint, inspect["Id"], (drivers or {}).get(name)) for name, endpoint in networks.items()
    }
    more = {name: endpoint for name, endpoint in endpoints.items() if name != main}
    body = dict(config, Image=image, HostConfig=host)
    if main in endpoints and mode != "default":
        host["NetworkMode"] = main
        body["NetworkingConfig"] = {"EndpointsConfig": {main: endpoints[main]}}
    if endpoints.get(main, {}).get("MacAddress"):
        # Where Docker before 25 looks for it.
        body["MacAddress"] = endpoints[main]["MacAddress"]
    return body, more


def _main_network(mode: str, networks: dict) -> str:
    """The name of the network that the container was started in. It may have been called by its ID, or not at all."""
    for name, endpoint in networks.items():
        if len(mode) >= _SHORT_ID and endpoint.get("NetworkID", "").startswith(mode):
            return name
    return "bridge" if mode == "default" else mode


def _endpoints(inspect: dict) -> dict:
    return (inspect.get("NetworkSettings") or {}).get("Networks") or {}


def addresses(inspect: dict) -> dict[str, list[str]]:
    """The container's addresses, by network."""
    keys = ("IPAddress", "GlobalIPv6Address")
    return {
        name: [endpoint[key] for key in keys if endpoint.get(key)] for name, endpoint in _endpoints(inspect).items()
    }


def fixed_addresses(inspect: dict) -> dict[str, list[str]]:
    """The addresses that the container was given by its creator, so that it gets them again, by network."""
    given = {name: endpoint.get("IPAMConfig") or {} for name, endpoint in _endpoints(inspect).items()}
    keys = ("IPv4Address", "IPv6Address")
    return {name: [one[key] for key in keys if one.get(key)] for name, one in given.items()}


def keeps_shared_memory(inspect: dict) -> bool:
    """Whether CRIU takes the content of /dev/shm along: not where others may share it, since it is the server's then.

    Docker before 20.10 makes it so that they may, where nobody says anything.
    """
    return inspect["HostConfig"].get("IpcMode") in ("private", "none")


def health_command(inspect: dict) -> list[str]:
    """The last words of the command that checks the container's health; none where there is no such check."""
    kind, *words = (inspect["Config"].get("Healthcheck") or {}).get("Test") or ["NONE"]
    return words if kind in ("CMD", "CMD-SHELL") else []


_NAMESPACES = {"NetworkMode": "network", "PidMode": "PID", "IpcMode": "IPC"}


def shared_namespaces(inspect: dict, others: list[dict]) -> list[str]:
    """The namespaces that a container shares with others, as clauses such as C(the network namespace of web).

    :param others: the inspect data of all other containers of its server.
    """
    names = {one["Id"]: one["Name"].lstrip("/") for one in others}
    found = []
    for key, kind in _NAMESPACES.items():
        owner = _joined(inspect, key)
        if owner:
            found.append(f"the {kind} namespace of {names.get(owner, owner[:12])}")
        guests = sorted(names[one["Id"]] for one in others if _joined(one, key) == inspect["Id"])
        if guests:
            found.append(f"its {kind} namespace with {', '.join(guests)}")
    return found


def _joined(inspect: dict, key: str) -> str:
    """The ID of the container whose namespace this one has joined; empty where it has not."""
    kind, _colon, owner = (inspect["HostConfig"].get(key) or "").partition(":")
    return owner if kind == "container" else ""


def published_ports(inspect: dict) -> list[str]:
    """Host ports that the container asks for by number, e.g. C(["8080/tcp"])."""
    bindings = inspect["HostConfig"].get("PortBindings") or {}
    return sorted(
        f"{binding['HostPort']}/{port.rsplit('/', 1)[-1]}"
        for port, hosts in bindings.items()
        for binding in hosts or []
        if binding.get("HostPort")
    )


def under_way(entry: dict, alive: bool | None) -> tuple[str, str]:
    """A migration whose journal is open, and that is in the way of another: what it is, and what to do about it.

    :param entry: see C(journal).
    :param alive: whether the controller of it still runs; None when that cannot be known here.
    """
    begun = datetime.datetime.fromtimestamp(entry["begun"], datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    what = f"a migration of {entry['name']} from {entry['source']} to {entry['destination']}, begun at {begun},"
    settle = "settle it with ansible-playbook recover.yml"
    if alive is False:
        return f"{what} was interrupted in the stage {entry['stage']}", settle
    return f"{what} is under way (stage {entry['stage']})", f"wait for its end; if it was interrupted, {settle}"
