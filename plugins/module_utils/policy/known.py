# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names that Docker's API knows: keys of a container's description, and capabilities.

Docker 17.09 to 28.5 have no others. What a later one adds is unknown here until somebody has looked at what it does.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from typing import Any

# Of C(HostConfig): what changes nothing of what a container may do to its server. Limits, names, ports; to share the
# server's control group namespace is the default where control groups are of version 1, and only shows paths.
HARMLESS = frozenset(
    (
        "AutoRemove",
        "BlkioDeviceReadBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceWriteIOps",
        "BlkioWeight",
        "BlkioWeightDevice",
        "CapDrop",
        "Cgroup",
        "CgroupnsMode",
        "ConsoleSize",
        "ContainerIDFile",
        "CpuCount",
        "CpuPercent",
        "CpuPeriod",
        "CpuQuota",
        "CpuRealtimePeriod",
        "CpuRealtimeRuntime",
        "CpuShares",
        "CpusetCpus",
        "CpusetMems",
        "DiskQuota",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "ExtraHosts",
        "GroupAdd",
        "IOMaximumBandwidth",
        "IOMaximumIOps",
        "Init",
        "Isolation",
        "KernelMemory",
        "KernelMemoryTCP",
        "Links",
        "Memory",
        "MemoryReservation",
        "MemorySwap",
        "MemorySwappiness",
        "NanoCpus",
        "PidsLimit",
        "PortBindings",
        "PublishAllPorts",
        "ReadonlyRootfs",
        "RestartPolicy",
        "ShmSize",
        "StorageOpt",
        "Sysctls",
        "Tmpfs",
        "Ulimits",
        "VolumeDriver",
        "VolumesFrom",
    )
)
# Of C(HostConfig): what C(judge) looks at.
JUDGED = frozenset(
    (
        "Annotations",
        "Binds",
        "CapAdd",
        "Capabilities",
        "CgroupParent",
        "DeviceCgroupRules",
        "DeviceRequests",
        "Devices",
        "IpcMode",
        "LogConfig",
        "MaskedPaths",
        "Mounts",
        "NetworkMode",
        "OomKillDisable",
        "OomScoreAdj",
        "PidMode",
        "Privileged",
        "ReadonlyPaths",
        "Runtime",
        "SecurityOpt",
        "UTSMode",
        "UsernsMode",
    )
)
# Of C(HostConfig): what is not compared. C(docker update) changes most of it while a container runs. Docker tells of
# links in any order, of ports see C(judged.facts_of), and the file of an ID is of the source alone.
NOT_COMPARED = frozenset(
    (
        "BlkioWeight",
        "ContainerIDFile",
        "CpuPeriod",
        "CpuQuota",
        "CpuRealtimePeriod",
        "CpuRealtimeRuntime",
        "CpuShares",
        "CpusetCpus",
        "CpusetMems",
        "KernelMemory",
        "KernelMemoryTCP",
        "Links",
        "Memory",
        "MemoryReservation",
        "MemorySwap",
        "MemorySwappiness",
        "NanoCpus",
        "PidsLimit",
        "PortBindings",
        "RestartPolicy",
    )
)
# Of C(Config): all of it, which is about the container's own program.
CONFIG = frozenset(
    (
        "ArgsEscaped",
        "AttachStderr",
        "AttachStdin",
        "AttachStdout",
        "Cmd",
        "Domainname",
        "Entrypoint",
        "Env",
        "ExposedPorts",
        "Healthcheck",
        "Hostname",
        "Image",
        "Labels",
        "MacAddress",
        "NetworkDisabled",
        "OnBuild",
        "OpenStdin",
        "Shell",
        "StdinOnce",
        "StopSignal",
        "StopTimeout",
        "Tty",
        "User",
        "Volumes",
        "WorkingDir",
    )
)
# What Docker gives to every container (DefaultCapabilities in moby's oci/caps/defaults.go, the same from 17.09 to 28).
CAPABILITIES = frozenset(
    (
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
)

# Of a network, by its driver: the options that concern only the network itself, and the values that do so; of those
# without any, each. All others name something of the server (C(bridge.name), C(trusted_host_interfaces)), or change
# how it stands towards its networks (C(host_ipv4), C(nat-unprotected), C(passthru)).
_ANY: tuple[str, ...] = ()
_MTU = {"com.docker.network.driver.mtu": _ANY}
_MODES = ("bridge", "private", "vepa")
NETWORK_OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "bridge": {
        **_MTU,
        "com.docker.network.bridge.enable_icc": _ANY,
        "com.docker.network.bridge.enable_ip_masquerade": _ANY,
        "com.docker.network.bridge.gateway_mode_ipv4": ("nat", "routed", "isolated"),
        "com.docker.network.bridge.gateway_mode_ipv6": ("nat", "routed", "isolated"),
        "com.docker.network.bridge.host_binding_ipv4": _ANY,
        "com.docker.network.container_iface_prefix": _ANY,
        "com.docker.network.container_interface_prefix": _ANY,
        "com.docker.network.enable_ipv4": _ANY,
        "com.docker.network.enable_ipv6": _ANY,
    },
    "macvlan": {**_MTU, "macvlan_mode": _MODES},
    "ipvlan": {**_MTU, "ipvlan_mode": ("l2", "l3", "l3s"), "ipvlan_flag": _MODES},
}

# What a value consists of: a list of one form, an object by the names of its keys (C(*) for any), or None, which is a
# value that has no names, or whose names are free, such as labels.
Form = Any
_RATES: Form = [{"Path": None, "Rate": None}]
_MOUNT: Form = {
    **dict.fromkeys(("Type", "Source", "Target", "ReadOnly", "Consistency")),
    "BindOptions": dict.fromkeys(
        ("Propagation", "NonRecursive", "CreateMountpoint", "ReadOnlyNonRecursive", "ReadOnlyForceRecursive")
    ),
    "VolumeOptions": {
        **dict.fromkeys(("NoCopy", "Labels", "Subpath")),
        "DriverConfig": {"Name": None, "Options": None},
    },
    "TmpfsOptions": dict.fromkeys(("SizeBytes", "Mode", "Options")),
    "ImageOptions": {"Subpath": None},
    "ClusterOptions": {},
}
_NESTED: dict[str, Form] = {
    "BlkioDeviceReadBps": _RATES,
    "BlkioDeviceReadIOps": _RATES,
    "BlkioDeviceWriteBps": _RATES,
    "BlkioDeviceWriteIOps": _RATES,
    "BlkioWeightDevice": [{"Path": None, "Weight": None}],
    "DeviceRequests": [dict.fromkeys(("Driver", "Count", "DeviceIDs", "Capabilities", "Options"))],
    "Devices": [dict.fromkeys(("PathOnHost", "PathInContainer", "CgroupPermissions"))],
    "LogConfig": {"Type": None, "Config": None},
    "Mounts": [_MOUNT],
    "PortBindings": {"*": [{"HostIp": None, "HostPort": None}]},
    "RestartPolicy": {"Name": None, "MaximumRetryCount": None},
    "Ulimits": [dict.fromkeys(("Name", "Hard", "Soft"))],
}
# The two parts of a description that make a container again.
FORMS: dict[str, dict[str, Form]] = {
    "HostConfig": {**dict.fromkeys(HARMLESS | JUDGED), **_NESTED},
    "Config": dict.fromkeys(CONFIG),
}
# In the request that makes a container, these are beside the keys of C(Config). An old Docker takes all of
# C(HostConfig) there as well, instead of that (ContainerConfigWrapper in moby's runconfig).
BESIDE_CONFIG = frozenset(("HostConfig", "NetworkingConfig", "Cpuset")) | HARMLESS | JUDGED
