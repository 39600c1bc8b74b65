# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names that Docker's API knows: keys of a container's description, and capabilities.

Docker 17.09 to 28.5 have no others. What a later one adds is unknown here until somebody has looked at what it does.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

# Of C(HostConfig): what changes nothing of what a container may do to its server. Limits, names, ports, logs; to share
# the server's control group namespace is the default where control groups are of version 1, and only shows paths.
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
        "LogConfig",
        "Memory",
        "MemoryReservation",
        "MemorySwap",
        "MemorySwappiness",
        "NanoCpus",
        "OomKillDisable",
        "OomScoreAdj",
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
        "MaskedPaths",
        "Mounts",
        "NetworkMode",
        "PidMode",
        "Privileged",
        "ReadonlyPaths",
        "Runtime",
        "SecurityOpt",
        "UTSMode",
        "UsernsMode",
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
