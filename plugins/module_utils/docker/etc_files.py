# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files F(/etc/hosts), F(/etc/resolv.conf) and F(/etc/hostname) of a container, which Docker makes itself.

They are no part of its root file system: Docker writes them when the container starts, and has them mounted from its
own folder. What programs in the container have written there moves with it, but not what each server knows better:

    hosts         the container's own addresses, and those of C(host-gateway) and of links. In the server's own network
                  it is a copy of the server's file; then only what differs from that
    resolv.conf   all of it, where it is not as Docker has made it; otherwise as Docker makes it at the destination
    hostname      all of it

Docker writes all of them anew at each start of a container, as it always does.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils import validate
from ansible_collections.fog.migration.plugins.module_utils.docker import container_facts
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused

# The name of what is told of them, beside a checkpoint's other files.
FILE = "etc.json"
HOSTS, RESOLV, HOSTNAME = "hosts", "resolv.conf", "hostname"
# By the key of inspect that tells where Docker has it.
_KEYS = {HOSTS: "HostsPath", RESOLV: "ResolvConfPath", HOSTNAME: "HostnamePath"}
# Bytes of each; a list of hosts that are to be blocked may be long. All together have a limit as well.
LONGEST = 1 << 20
# Which files Docker copies for a container in the server's network, see C(resolvconf.Path) in moby's libnetwork.
_OF_SERVER = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
_GATEWAY = "host-gateway"
# The time of a file that was not written since: Docker may write the same into it.
_HELD = 1_000_000_000
# Whatever bytes they hold, each is a character.
_CODE = "latin-1"


@dataclass(frozen=True)
class EtcFiles:
    """What a container has in these files at the source."""

    # What is to be in each, by its name, and its mode.
    texts: dict[str, str] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    # Its own addresses there, its hostname, and the first names of lines that each server has otherwise.
    addresses: list[str] = field(default_factory=list)
    name: str = ""
    of_server: list[str] = field(default_factory=list)
    # What the server's own file of hosts has, where the container is in its network.
    base: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As an object for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> EtcFiles:
        """What a source has sent.

        :raises Refused: when it is none of these.
        """
        if not isinstance(value, dict) or set(value) != {one.name for one in fields(cls)}:
            raise Refused("what arrived of the files in its /etc lacks something, or has too much")
        texts, modes = value["texts"], value["modes"]
        named = isinstance(texts, dict) and isinstance(modes, dict) and {*texts, *modes} <= set(_KEYS)
        lists = (value["addresses"], value["of_server"])
        if not named or not all(isinstance(one, list) and all(isinstance(s, str) for s in one) for one in lists):
            raise Refused("what arrived of the files in its /etc has parts of the wrong type")
        written = [*texts.values(), value["name"], "" if value["base"] is None else value["base"]]
        if not all(isinstance(one, str) and len(one) <= LONGEST for one in written):
            raise Refused("what arrived of the files in its /etc is no text, or too long")
        if not all(isinstance(one, int) and not isinstance(one, bool) for one in modes.values()):
            raise Refused("what arrived of the files in its /etc has a mode that is no number")
        return cls(**value)


# ---------------------------------------------------------------------------------------------------------------------
# Decisions


def merged_hosts(here: EtcFiles, there: str, name: str = "") -> str:
    """What a container is to have in its F(/etc/hosts) at the destination.

    :param there: what Docker has made there.
    :param name: how Docker calls it there, where it has no hostname of its own.
    """
    if here.base is not None:
        return _with_changes(here.base, here.texts[HOSTS], there)
    own = _own_addresses(here, there, {here.name, name})
    addresses, of_server = set(here.addresses), set(here.of_server)
    known = {names[0]: line for line in there.split("\n") for names in [_parsed(line)[1]] if names}
    found = []
    for line in here.texts[HOSTS].split("\n"):
        address, names = _parsed(line)
        if address in addresses:
            found += [line.replace(address, own[address], 1)] if address in own else []
        elif names and names[0] in of_server:
            found.append(known.get(names[0], line))
        else:
            found.append(line)
    return "\n".join(found)


def _parsed(line: str) -> tuple[str, tuple[str, ...]]:
    """The address and the names in a line; nothing where it has none."""
    words = line.partition("#")[0].split()
    return (words[0], tuple(words[1:])) if len(words) > 1 else ("", ())


def _own_addresses(here: EtcFiles, there: str, called: set[str]) -> dict[str, str]:
    """For the container's own addresses at the source those at the destination, as Docker has written them there.

    One that has none there is in none of its networks any more, and is left out.
    """
    lines = (_parsed(line) for line in there.split("\n"))
    new = [address for address, names in lines if called & {*names} and not _is_loopback(address)]
    same = {address: address for address in here.addresses if address in new}
    for version in (4, 6):
        old = [one for one in here.addresses if _family(one) == version and one not in same]
        rest = [one for one in new if _family(one) == version and one not in same]
        same.update(zip(old, rest))
    return same


def _family(address: str) -> int:
    """4 or 6, or 0 where this is no address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(address).version
    return 0


def _is_loopback(address: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(address).is_loopback
    return False


def _with_changes(base: str, here: str, there: str) -> str:
    """I(there) with what was added to I(base) and without what was removed from it, to become I(here)."""
    before, now, then = (text.rstrip("\n").split("\n") for text in (base, here, there))
    removed = set(before) - set(now)
    kept = [line for line in then if line not in removed]
    known = {*before, *kept}
    found = [*kept, *(line for line in now if line not in known)]
    return "".join(f"{line}\n" for line in found)


def is_as_docker_made_it(text: bytes, digest: str | None, of_server: Collection[bytes]) -> bool:
    """Whether nobody has changed F(/etc/resolv.conf) since Docker has made it.

    :param digest: the checksum that Docker keeps of it; None where it keeps none, since it has copied the server's.
    :param of_server: what the server's own files have.
    """
    if digest is None:
        return text in of_server
    return digest.strip().rpartition(":")[2] == hashlib.sha256(text).hexdigest()


def names_of_server(inspect: Mapping[str, Any]) -> list[str]:
    """The first names of those lines in a container's F(/etc/hosts) that each server has otherwise."""
    host = inspect["HostConfig"]
    extra = (one.replace("=", ":", 1).partition(":") for one in host.get("ExtraHosts") or [])
    links = [*(host.get("Links") or [])]
    for endpoint in container_facts.endpoints(dict(inspect)).values():
        links += endpoint.get("Links") or []
    found = {name for name, _colon, address in extra if address == _GATEWAY}
    return sorted(found | {link.rpartition("/")[2].rpartition(":")[2] for link in links})


# ---------------------------------------------------------------------------------------------------------------------
# At the source


def read(inspect: Mapping[str, Any]) -> EtcFiles:
    """What a container that runs, or stands still, has in these files.

    :raises MigrationError: when one of them cannot be read, or is too long.
    """
    mounted = {one["Destination"] for one in inspect.get("Mounts") or []}
    texts, modes = {}, {}
    host = inspect["HostConfig"].get("NetworkMode") == "host"
    for name, key in _KEYS.items():
        path = inspect.get(key)
        # One that somebody has mounted there is a mount as any other.
        if not path or f"/etc/{name}" in mounted:
            continue
        text, mode = _content(path)
        if name == RESOLV and is_as_docker_made_it(text, _digest(path), [*map(_bytes, _OF_SERVER)]):
            continue
        texts[name], modes[name] = text.decode(_CODE), mode
    addresses = [one for several in container_facts.addresses(dict(inspect)).values() for one in several]
    base = _bytes("/etc/hosts").decode(_CODE) if host else None
    name = inspect["Config"].get("Hostname") or ""
    found = EtcFiles(texts, modes, addresses, name, names_of_server(inspect), base)
    if len(json.dumps(found.to_json())) > validate.LONGEST:
        raise MigrationError("its /etc/hosts, /etc/resolv.conf and /etc/hostname together are too long to move")
    return found


def _content(path: str) -> tuple[bytes, int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            text = stream.read(LONGEST + 1)
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
    except OSError as exc:
        raise MigrationError(f"its /etc/{os.path.basename(path)} cannot be read ({exc.strerror or exc})") from exc
    if len(text) > LONGEST:
        raise MigrationError(f"its /etc/{os.path.basename(path)} is longer than {LONGEST >> 20} MiB")
    return text, mode


def _bytes(path: str) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb") as stream:
        return stream.read(LONGEST)
    return b""


def _digest(path: str) -> str | None:
    try:
        with open(f"{path}.hash", encoding="ascii", errors="replace") as stream:
            return stream.read(200) or None
    except OSError:
        return None


# ---------------------------------------------------------------------------------------------------------------------
# At the destination


class Placing:
    """Puts them where Docker has its own, which may be mounted already. Files that Docker has not made are left out.

    :param folder: the container's folder of Docker's.
    """

    def __init__(self, folder: str, files: EtcFiles) -> None:
        self.folder = folder
        self.files = files
        # What Docker has made of the file of hosts, before the source's took its place.
        self._made = ""

    def hold(self) -> None:
        """Writes what the source has: CRIU opens a file again only where it is as long as it was.

        :raises Refused: when one cannot be written.
        """
        self._place(settled=False)

    def settle(self) -> None:
        """Writes what the container is to have, when nothing opens or makes them any more, and nothing runs yet.

        :raises Refused: when one cannot be written.
        """
        self._place(settled=True)

    def _place(self, settled: bool) -> None:
        for name in sorted(self.files.texts):
            path = os.path.join(self.folder, name)
            try:
                with contextlib.suppress(FileNotFoundError):
                    self._write(name, path, settled)
            except OSError as exc:
                raise Refused(f"its /etc/{name} cannot be written ({exc.strerror or exc})") from exc

    def _write(self, name: str, path: str, settled: bool) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        text = self.files.texts[name]
        with os.fdopen(descriptor, "r+b") as stream:
            if name == HOSTS and os.fstat(descriptor).st_mtime_ns != _HELD:
                self._note(stream.read(LONGEST).decode(_CODE))
            if name == HOSTS and settled:
                text = merged_hosts(self.files, self._made, os.path.basename(self.folder)[:12])
            stream.seek(0)
            stream.write(text.encode(_CODE, "replace"))
            stream.truncate()
            stream.flush()
            os.fchmod(descriptor, self.files.modes.get(name, 0o644) & 0o777)
            if not settled:
                os.utime(descriptor, ns=(_HELD, _HELD))

    def _note(self, there: str) -> None:
        """What Docker has made of the file of hosts; or what it has added to the source's, as it came to know more."""
        held = self.files.texts[HOSTS]
        added = len(there) > len(held) and there.startswith(held)
        self._made = self._made + there[len(held) :] if added else there
