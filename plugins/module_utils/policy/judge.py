# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a policy lets a container come: by what Docker at the source tells of it, in the form that makes it again.

Pure functions all of them. What is not known is refused: a key that a later Docker has may mean anything.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.policy import known
from ansible_collections.fog.migration.plugins.module_utils.policy.refusal import (
    Refusal,
    in_one_line,
    matches,
    printable,
    short,
)
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import Policy

# What every Docker hides of the kernel from a container (DefaultLinuxSpec in moby's oci/defaults.go, at 17.09).
_MASKED = frozenset(("/proc/kcore", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware"))
# And what none can write: by F(/proc/sys), root of a container would have the server's kernel run a program.
_READ_ONLY = frozenset(("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"))
_KERNEL_PATHS = {"MaskedPaths": _MASKED, "ReadonlyPaths": _READ_ONLY}
_MOUNTS = ("bind", "volume", "tmpfs")
_NAMESPACES = {
    "NetworkMode": "network",
    "PidMode": "pid",
    "IpcMode": "ipc",
    "UTSMode": "uts",
    "UsernsMode": "user",
}
# A runtime takes these as orders (potentiallyUnsafeConfigAnnotations in runc's features.go); no policy allows them.
_ORDERS = ("bundle", "org.systemd.property.*", "org.criu.config")
_STRENGTHENING = ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true")
_UNCONFINED_PATHS = "security_options: [systempaths=unconfined]"
_WEAKENING = ("label=disable", "label:disable")
# By these, the server keeps a container's log for itself.
_LOCAL_LOGS = ("", "json-file", "local", "journald", "none", "syslog")
_USUAL_RUNTIMES = ("", "runc", "io.containerd.runc.v2", "fog-runc")


def refusals(policy: Policy, inspect: dict, volumes: Iterable[dict], sockets: Iterable[str] = ()) -> list[Refusal]:
    """All that a policy does not allow of a container.

    :param inspect: its inspect data.
    :param volumes: the inspect data of its named volumes.
    :param sockets: those of its bind mounts that are sockets, by their paths at the destination.
    """
    # Docker reads something else in what is misread than what would be judged.
    found = list(_misread(inspect)) or list(_judged(policy, inspect, volumes, frozenset(sockets)))
    return in_one_line(found)


def _judged(policy: Policy, inspect: dict, volumes: Iterable[dict], sockets: frozenset[str]) -> Iterator[Refusal]:
    host = {key: value for key, value in inspect["HostConfig"].items() if value is not None}
    found = [_unknown(policy, inspect), _annotations(policy, host), _other_volumes(host, inspect.get("Mounts") or [])]
    if host.get("Privileged"):
        # It can do whatever the rest would forbid.
        found.append(_privileged(policy))
    else:
        found += [
            _namespaces(policy, host),
            _binds(policy, bind_sources(inspect), sockets),
            _mounts(policy, host),
            _volumes(policy, [*volumes, *_volumes_on_the_way(host)]),
            _devices(policy, host),
            _capabilities(policy, host),
            _security(policy, host),
            _rest(policy, host),
            _host_at_risk(policy, host),
        ]
    return itertools.chain.from_iterable(found)


def asks(inspect: dict, volumes: Iterable[dict], sockets: Iterable[str]) -> dict:
    """What C(refusals) needs of a container, without what is nobody's business, such as its environment."""

    def part(name: str, untold: frozenset[str]) -> dict:
        # That nothing is masked means something, and so does nothing by a name that Docker takes for another one.
        said = {
            key: value
            for key, value in inspect[name].items()
            if value or (key in _KERNEL_PATHS and value == []) or _taken_for(key, known.FORMS[name], _FOLDED[name])
        }
        return {key: value for key, value in said.items() if key not in untold}

    host = part("HostConfig", known.NOT_COMPARED)
    if "LogConfig" in host:
        # Some of the values are secrets, such as what a log is sent with.
        host["LogConfig"] = {**host["LogConfig"], "Config": sorted(host["LogConfig"].get("Config") or ())}
    binds = [{"Type": "bind", "Source": one} for one in bind_sources(inspect)]
    volumes_in_it = [one for one in inspect.get("Mounts") or [] if one.get("Type") == "volume"]
    its_volumes = [{key: one.get(key) for key in ("Type", "Name", "Destination")} for one in volumes_in_it]
    return {
        "inspect": {
            "HostConfig": host,
            "Config": part("Config", known.CONFIG),
            "Mounts": [*binds, *its_volumes],
        },
        "volumes": [{key: one.get(key) for key in ("Name", "Driver", "Options")} for one in volumes],
        "sockets": sorted(sockets),
    }


def refuses_source(policy: Policy, name: str) -> Refusal | None:
    """Whether a server may not send, by its name in the inventory."""
    if matches(name, policy.sources):
        return None
    return Refusal(f"{printable(name)} may not send", f"sources: [{printable(name)}]")


def _privileged(policy: Policy) -> Iterator[Refusal]:
    if not policy.privileged:
        yield Refusal("it is privileged", "privileged: true")


def _namespaces(policy: Policy, host: dict) -> Iterator[Refusal]:
    for key, name in _NAMESPACES.items():
        if host.get(key) == "host" and name not in policy.host_namespaces:
            yield Refusal(f"it shares the server's {name} namespace", f"host_namespaces: [{name}]")
        elif ":" in (host.get(key) or ""):
            # A container of this name is another one here, or has nothing to do with it.
            yield Refusal(f"it joins the {name} namespace of {host[key]}", "")


def bind_sources(inspect: dict) -> list[str]:
    """The paths of the server that are mounted into a container: that were asked for, or lent by another container."""
    host = inspect["HostConfig"]
    binds = [one.split(":", 1)[0] for one in host.get("Binds") or []]
    mounts = [*(host.get("Mounts") or []), *(inspect.get("Mounts") or [])]
    mounted = [one.get("Source", "") for one in mounts if one.get("Type") == "bind"]
    # What is no path is a volume's name.
    return list(dict.fromkeys(path for path in [*binds, *mounted] if path.startswith("/")))


def _binds(policy: Policy, paths: Iterable[str], sockets: frozenset[str]) -> Iterator[Refusal]:
    for path in paths:
        if path in sockets:
            if not matches(path, policy.sockets):
                yield Refusal(f"it mounts the socket {path}", f"sockets: [{path}]")
        elif not is_below(path, policy.bind_folders):
            yield Refusal(f"it mounts {path} of the server", f"bind_folders: [{path}]")


def is_below(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of these folders, or in it. One with C(..) is not as it looks."""
    plain = posixpath.normpath(path) == path.rstrip("/") or path == "/"
    return plain and any(path == one or path.startswith(one.rstrip("/") + "/") for one in folders)


def _mounts(policy: Policy, host: dict) -> Iterator[Refusal]:
    for kind in sorted({str(one.get("Type")) for one in host.get("Mounts") or []} - set(_MOUNTS)):
        if not matches(f"Mounts.{kind}", policy.options):
            yield Refusal(f"it has a mount of the type {kind}, which nobody knows here", f"options: [Mounts.{kind}]")


def _volumes_on_the_way(host: dict) -> Iterator[dict]:
    """The volumes that Docker makes beside a container where they are not there, as their inspect data would be."""
    for mount in host.get("Mounts") or []:
        driver = (mount.get("VolumeOptions") or {}).get("DriverConfig")
        if driver:
            name = mount.get("Source") or f"at {mount.get('Target')}"
            yield {"Name": name, "Driver": driver.get("Name"), "Options": driver.get("Options")}


def mounted_paths(inspect: dict, volumes: Iterable[dict]) -> list[str]:
    """The paths of the server that are mounted into a container, by itself or by what its volumes are mounts of.

    Where it may do everything on its server, none of them matters.
    """
    host = inspect["HostConfig"]
    if host.get("Privileged"):
        return []
    options = [_mount_of(one) for one in [*volumes, *_volumes_on_the_way(host)]]
    bound = [one.get("device", "") for one in options if one and _is_bind(one)]
    return list(dict.fromkeys([*bind_sources(inspect), *(path for path in bound if path.startswith("/"))]))


def _mount_of(volume: dict) -> dict[str, str]:
    """What a volume is a mount of, by its options: only of Docker's own driver, which needs no name."""
    options = volume.get("Options") or {}
    own = (volume.get("Driver") or "local") == "local"
    return options if own and (options.get("type") or options.get("device") or options.get("o")) else {}


def _is_bind(options: dict[str, str]) -> bool:
    """Whether a volume with these options is a folder of the server."""
    return options.get("type", "") in ("", "none") or bool({"bind", "rbind"} & set(options.get("o", "").split(",")))


def _volumes(policy: Policy, volumes: Iterable[dict]) -> Iterator[Refusal]:
    """Docker's own driver mounts anything that the options of a volume say."""
    for volume in volumes:
        options = _mount_of(volume)
        if not options:
            continue
        kind, device = options.get("type", ""), options.get("device", "")
        name = f"its volume {volume.get('Name')}"
        if _is_bind(options):
            if not is_below(device, policy.bind_folders):
                yield Refusal(f"{name} is {device} of the server", f"bind_folders: [{device}]")
        elif not matches(kind, policy.volume_types):
            yield Refusal(f"{name} is a mount of {device} as {kind}", f"volume_types: [{kind}]")


def _other_volumes(host: dict, mounted: Iterable[dict]) -> Iterator[Refusal]:
    """The volumes that Docker would mount, and of which what is said of its mounts does not tell.

    A volume of that name at the destination would be another container's.
    """
    told = {(_place(one.get("Destination") or ""), one.get("Name")) for one in mounted if one.get("Type") == "volume"}
    binds = (one.split(":") for one in host.get("Binds") or [] if ":" in one and not one.startswith("/"))
    wanted = [(place, name) for name, place, *_options in binds]
    volumes = (one for one in host.get("Mounts") or [] if one.get("Type") == "volume" and one.get("Source"))
    wanted += [(one.get("Target") or "", one["Source"]) for one in volumes]
    for place, name in wanted:
        if (_place(place), name) not in told:
            yield Refusal(f"it mounts the volume {short(name)} at {short(place)}, which it does not have there", "")


def _place(path: str) -> str:
    """A path in a container, as Docker writes it."""
    return posixpath.normpath("/" + path.strip("/"))


def _devices(policy: Policy, host: dict) -> Iterator[Refusal]:
    wanted = [one.get("PathOnHost", "") for one in host.get("Devices") or []]
    wanted += [f"rule:{one}" for one in host.get("DeviceCgroupRules") or []]
    wanted += [f"request:{one.get('Driver') or 'any'}" for one in host.get("DeviceRequests") or []]
    for one in wanted:
        if not matches(one, policy.devices):
            yield Refusal(f"it has the device {one}", f"devices: ['{one}']")


def _capabilities(policy: Policy, host: dict) -> Iterator[Refusal]:
    wanted = [*(host.get("CapAdd") or []), *(host.get("Capabilities") or [])]
    for one in sorted({name.upper()[4:] if name.upper().startswith("CAP_") else name.upper() for name in wanted}):
        if one not in known.CAPABILITIES and not matches(one, policy.capabilities):
            yield Refusal(f"it has the capability {one}", f"capabilities: [{one}]")


def _security(policy: Policy, host: dict) -> Iterator[Refusal]:
    allowed = (*_STRENGTHENING, *policy.security_options)
    for one in host.get("SecurityOpt") or []:
        # A profile is a whole file, of which nobody can say whether it weakens something.
        called = short(one)
        weakens = one in _WEAKENING and one not in policy.security_options
        if weakens or not matches(one, allowed):
            yield Refusal(f"it has the security option {called}", f"security_options: ['{called}']")
    open_paths = [key for key, usual in _KERNEL_PATHS.items() if not set(host.get(key, usual)) >= usual]
    if open_paths and not matches("systempaths=unconfined", allowed):
        may = "sees" if "MaskedPaths" in open_paths else "can write"
        yield Refusal(f"it {may} paths of the kernel that Docker keeps from it", _UNCONFINED_PATHS)


def _rest(policy: Policy, host: dict) -> Iterator[Refusal]:
    parent = host.get("CgroupParent", "")
    if parent and not matches(parent, policy.cgroup_parents):
        yield Refusal(f"its control group is below {parent}", f"cgroup_parents: ['{parent}']")
    runtime = host.get("Runtime", "")
    if not matches(runtime, (*_USUAL_RUNTIMES, *policy.runtimes)):
        yield Refusal(f"it runs by the OCI runtime {runtime}", f"runtimes: [{runtime}]")


def _host_at_risk(policy: Policy, host: dict) -> Iterator[Refusal]:
    """What has the server's other programs killed first, or has the server send something."""
    if (host.get("OomScoreAdj") or 0) < 0 and not matches("OomScoreAdj", policy.options):
        yield Refusal("it is killed later than others when the server's memory runs out", "options: [OomScoreAdj]")
    if host.get("OomKillDisable") and not matches("OomKillDisable", policy.options):
        yield Refusal("it is not killed when memory runs out", "options: [OomKillDisable]")
    log = host.get("LogConfig") or {}
    kind = log.get("Type") or ""
    sends = kind not in _LOCAL_LOGS or (kind == "syslog" and "syslog-address" in (log.get("Config") or ()))
    if sends and not matches(f"LogConfig.{kind}", policy.options):
        yield Refusal(f"it has the server write its log by {short(kind)}", f"options: [LogConfig.{short(kind)}]")


def _annotations(policy: Policy, host: dict) -> Iterator[Refusal]:
    for name in host.get("Annotations") or {}:
        if matches(name, _ORDERS):
            yield Refusal(f"it has the annotation {name}, by which the OCI runtime is told what to do", "")
        elif not matches(name, policy.annotations):
            yield Refusal(f"it has the annotation {name}", f"annotations: ['{name}']")


def _unknown(policy: Policy, inspect: dict) -> Iterator[Refusal]:
    for part, form in known.FORMS.items():
        for path, value, names in _objects(inspect[part], form, part):
            # As it is called in the policy, which has only one such part.
            inside = path[len("HostConfig.") :] + "." if path != part else ""
            for key, one in (value or {}).items():
                called = inside + short(key)
                if key not in names and one not in (None, "", 0, False, [], {}) and not matches(called, policy.options):
                    yield Refusal(f"it has the option {part}.{called}, which nobody knows here", f"options: [{called}]")


def _misread(inspect: dict) -> Iterator[Refusal]:
    """What Docker takes for something else than it looks like: Go finds keys without regard to their case."""
    for part, form in known.FORMS.items():
        for path, value, names in _objects(inspect[part], form, part):
            if value is None:
                yield Refusal(f"its {path} is not of the form that Docker gives it", "")
                continue
            folded = _FOLDED.get(path) or _folded(names)
            for key in value:
                other = _taken_for(key, names, folded)
                if other:
                    yield Refusal(f"it has the option {path}.{short(key)}, which Docker takes for {other}", "")


def _objects(value: Any, form: known.Form, path: str) -> Iterator[tuple[str, Mapping | None, dict]]:
    """Each object in a value, as far as its form is known: its path, itself, and the names that it may have.

    None is in the place of what has another form.
    """
    if value is None or form is None:
        return
    if isinstance(form, list) and isinstance(value, (list, tuple)):
        for one in value:
            yield from _objects(one, form[0], path)
    elif isinstance(form, dict) and isinstance(value, Mapping):
        each = form.get("*")
        if not each:
            yield path, value, form
        for key, one in value.items():
            yield from _objects(one, form.get(key, each), path if each else f"{path}.{key}")
    else:
        yield path, None, {}


def _folded(names: Iterable[str]) -> dict[str, str]:
    """Names by what they are without regard to case."""
    return {one.casefold(): one for one in names}


# At the top, see C(known.BESIDE_CONFIG).
_FOLDED = {
    "HostConfig": _folded(known.FORMS["HostConfig"]),
    "Config": _folded({*known.FORMS["Config"], *known.BESIDE_CONFIG}),
}


def _taken_for(key: str, names: Mapping[str, Any], folded: Mapping[str, str]) -> str:
    """The name that Docker takes a key for which is not one of these names, or nothing."""
    return "" if key in names else folded.get(key.casefold(), "")
