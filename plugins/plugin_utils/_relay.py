# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller as a relay between two hosts that cannot reach each other.

It starts the channel's program on both hosts, over SSH connections of its own (paramiko) that go the way and trust the
host keys that Ansible's connections do, and passes the bytes on. It does not look into them.

Private to the collection fog.migration.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.transport import ssh_access

KeyPolicy: Any = object
try:
    import paramiko

    KeyPolicy = paramiko.MissingHostKeyPolicy
except ImportError:
    paramiko = None  # type: ignore[assignment]

CONNECT_TIMEOUT = 15
SILENCE_LIMIT = 300
READ_SIZE = 64 * 1024


class RelayError(Exception):
    """An end cannot be reached. The text is one sentence; `hopeless` says that another attempt would not help."""

    def __init__(self, message, hopeless=False):
        super().__init__(message)
        self.hopeless = hopeless


@dataclass
class End:
    """One end of the relay: an inventory host, Ansible's connection to it, and the command to start there."""

    name: str
    connection: Any
    command: str


# ---------------------------------------------------------------------------------------------------------------------
# How Ansible reaches a host, in paramiko's terms


@dataclass
class Route:
    """What it takes to connect to one host."""

    hostname: str
    port: int = 22
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    key_files: list[str] = field(default_factory=list)
    known_hosts: list[str] = field(default_factory=list)
    host_key_names: list[str] = field(default_factory=list)
    check_host_key: bool = True
    accept_new: bool = False
    proxy_command: str | None = None


def parse_client_settings(text):
    """{option: [values]} of what `ssh -G` prints."""
    settings = {}
    for line in text.splitlines():
        option, _blank, value = line.strip().partition(" ")
        if option:
            settings.setdefault(option.lower(), []).append(value)
    return settings


def is_set(value):
    return bool(value) and value.lower() != "none"


def proxy_command(settings, hostname, port, user):
    """The command whose pipes lead to the host, or None where the way is straight."""
    jumps = settings.get("proxyjump", [""])[0]
    if is_set(jumps):
        *before, last = jumps.split(",")
        command = ["ssh"] + (["-J", ",".join(before)] if before else [])
        target = last if last.startswith("ssh://") else f"ssh://{last}"
        return ssh_access.shell_line([*command, "-W", f"[{hostname}]:{port}", target])
    command = settings.get("proxycommand", [""])[0]
    if is_set(command):
        for token, value in (("%h", hostname), ("%p", str(port)), ("%r", user or ""), ("%%", "%")):
            command = command.replace(token, value)
        return command
    return None


def known_name(hostname, port):
    """A host's name as known_hosts has it."""
    return hostname if port == 22 else f"[{hostname}]:{port}"


def make_route(settings, name, password=None, host_key_checking=True):
    """A Route from what `ssh -G` says about a host."""
    hostname = settings.get("hostname", [name])[0]
    port = int(settings.get("port", ["22"])[0])
    user = settings.get("user", [None])[0]
    strict = settings.get("stricthostkeychecking", ["true"])[0]
    alias = settings.get("hostkeyalias", [""])[0]
    names = [alias] if is_set(alias) else [known_name(hostname, port), hostname]
    files = " ".join(settings.get("userknownhostsfile", []) + settings.get("globalknownhostsfile", [])).split()
    return Route(
        hostname=hostname,
        port=port,
        user=user,
        password=password,
        key_files=[os.path.expanduser(path) for path in settings.get("identityfile", []) if is_set(path)],
        known_hosts=[os.path.expanduser(path) for path in files if is_set(path)],
        host_key_names=names,
        check_host_key=host_key_checking and strict not in ("false", "no", "off"),
        accept_new=strict == "accept-new",
        proxy_command=proxy_command(settings, hostname, port, user),
    )


def client_command(get):
    """`ssh -G` with the arguments that Ansible gives ssh for this host."""
    command = [str(get("ssh_executable") or "ssh"), "-G"]
    for option in ("ssh_args", "ssh_common_args", "ssh_extra_args"):
        command += shlex.split(str(get(option) or ""))
    for flag, option in (("-p", "port"), ("-l", "remote_user"), ("-i", "private_key_file")):
        if get(option):
            command += [flag, os.path.expanduser(str(get(option)))]
    return [*command, str(get("host"))]


def route_to(end):
    """How Ansible's connection reaches its host. OpenSSH itself is asked, so that ~/.ssh/config counts too."""

    def get(option):
        try:
            return end.connection.get_option(option)
        except (KeyError, AttributeError):
            return None

    host = str(get("host") or get("remote_addr"))
    password = get("password")
    checking = get("host_key_checking")
    if get("host"):
        run = subprocess.run(client_command(get), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if run.returncode:
            said = run.stderr.strip()
            raise RelayError(f"ssh does not understand the arguments for {end.name}: {said}", hopeless=True)
        settings = parse_client_settings(run.stdout)
    else:
        settings = {
            "hostname": [host],
            "port": [str(get("port") or 22)],
            "user": [get("remote_user")],
            "identityfile": [get("private_key_file") or "none"],
            "userknownhostsfile": ["~/.ssh/known_hosts"],
            "globalknownhostsfile": ["/etc/ssh/ssh_known_hosts"],
        }
    return make_route(settings, host, str(password) if password else None, checking is None or bool(checking))


# ---------------------------------------------------------------------------------------------------------------------
# A program on a host, with three pipes


class LocalProgram:
    """On the controller itself (connection: local)."""

    def __init__(self, end):
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", end.command],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.read = lambda: self._process.stdout.read(READ_SIZE)
        self.read_error = lambda: self._process.stderr.read(READ_SIZE)

    def write(self, data):
        view = memoryview(data)
        while view:
            view = view[self._process.stdin.write(view) :]

    def close_input(self):
        self._process.stdin.close()

    def end(self):
        self._process.terminate()
        self._process.wait()


class AcceptAnyKey(KeyPolicy):
    """For hosts whose keys Ansible does not check either."""

    def missing_host_key(self, client, hostname, key):
        return


class SshProgram:
    """On a host, over a connection of its own."""

    def __init__(self, end):
        self._client = connect(end, route_to(end))
        try:
            transport = self._client.get_transport()
            transport.set_keepalive(5)
            self._channel = transport.open_session(
                window_size=4 * 1024 * 1024, max_packet_size=64 * 1024, timeout=CONNECT_TIMEOUT
            )
            self._channel.exec_command(end.command)
        except (paramiko.SSHException, OSError) as exc:
            self._client.close()
            raise RelayError(f"the controller cannot start the channel on {end.name}: {exc}") from exc
        self.read = lambda: self._channel.recv(READ_SIZE)
        self.read_error = lambda: self._channel.recv_stderr(READ_SIZE)
        self.write = self._channel.sendall
        self.close_input = self._channel.shutdown_write

    def end(self):
        self._channel.close()
        self._client.close()


def trusted_keys(route):
    """[(type, key)] that known_hosts has for this host under any of its names."""
    known = paramiko.HostKeys()
    for path in route.known_hosts:
        if os.path.isfile(path):
            known.load(path)
    return [(kind, key) for name in route.host_key_names for kind, key in (known.lookup(name) or {}).items()]


def connect(end, route):
    """A paramiko client that is connected to the host, after its key has been verified."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    if route.check_host_key:
        keys = trusted_keys(route)
        name = known_name(route.hostname, route.port)
        for kind, key in keys:
            client.get_host_keys().add(name, kind, key)
        if route.accept_new and not keys:
            client.set_missing_host_key_policy(AcceptAnyKey())
    else:
        client.set_missing_host_key_policy(AcceptAnyKey())
    where = (
        f"the controller cannot open an SSH connection of its own to {end.name} ({route.hostname} port {route.port})"
    )
    try:
        client.connect(
            route.hostname,
            port=route.port,
            username=route.user,
            password=route.password,
            key_filename=[path for path in route.key_files if os.path.isfile(path)],
            look_for_keys=False,
            timeout=CONNECT_TIMEOUT,
            banner_timeout=CONNECT_TIMEOUT,
            auth_timeout=CONNECT_TIMEOUT,
            sock=paramiko.ProxyCommand(route.proxy_command) if route.proxy_command else None,
        )
    except paramiko.BadHostKeyException as exc:
        client.close()
        raise RelayError(f"{where}: its host key is not the one in known_hosts", hopeless=True) from exc
    except paramiko.AuthenticationException as exc:
        client.close()
        raise RelayError(f"{where}: authentication failed for {route.user}", hopeless=True) from exc
    except (paramiko.SSHException, OSError, EOFError) as exc:
        client.close()
        raise RelayError(f"{where}: {exc}", hopeless="not found in known_hosts" in str(exc)) from exc
    return client


def start(end):
    """Starts the end's command where it belongs."""
    transport = getattr(end.connection, "transport", None)
    if transport == "local":
        return LocalProgram(end)
    if transport not in ("ssh", "paramiko"):
        raise RelayError(f"{end.name} is connected by {transport}, and a relay needs ssh or local", hopeless=True)
    if paramiko is None:
        raise RelayError("a relayed transfer needs paramiko on the controller (pip install paramiko)", hopeless=True)
    return SshProgram(end)


# ---------------------------------------------------------------------------------------------------------------------
# The relay


class Flow(threading.Thread):
    """Passes on what one program says to the other, and counts it.

    It never stops reading: a program that is stuck in writing could not read why the other one refuses.
    """

    def __init__(self, read, write, close):
        super().__init__(daemon=True)
        self._read, self._write, self._close = read, write, close
        self.count = 0
        self.last = time.monotonic()

    def run(self):
        broken = False
        try:
            while data := self._read():
                self.last = time.monotonic()
                if not broken:
                    try:
                        self._write(data)
                        self.count += len(data)
                        self.last = time.monotonic()
                    except (OSError, ValueError):
                        broken = True
        except (OSError, ValueError):
            pass
        finally:
            try:
                self._close()
            except (OSError, EOFError, ValueError):
                pass


class Words(threading.Thread):
    """Collects what a program says on stderr (its last part, if it is much)."""

    def __init__(self, read):
        super().__init__(daemon=True)
        self._read = read
        self.text = b""

    def run(self):
        try:
            while data := self._read():
                self.text = (self.text + data)[-READ_SIZE:]
        except (OSError, ValueError):
            pass


def read_words(text):
    """(report, complaint) of a program: the JSON object that it ended with ({} if none), and its last other words."""
    report, complaint = {}, ""
    for line in text.decode("utf-8", "replace").splitlines():
        if line.startswith("{"):
            try:
                report = json.loads(line)
            except ValueError:
                continue
        elif line.strip():
            complaint = line.strip()
    return report, complaint


def attempt(source, destination, deadline):
    """One connection through the controller. (sender's report, receiver's report, complaint, sent, received)."""
    sender = start(source)
    try:
        receiver = start(destination)
    except BaseException:
        sender.end()
        raise
    forth = Flow(sender.read, receiver.write, receiver.close_input)
    back = Flow(receiver.read, sender.write, sender.close_input)
    words = [Words(sender.read_error), Words(receiver.read_error)]
    threads = [forth, back, *words]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            now = time.monotonic()
            if now > deadline or now - max(forth.last, back.last) > SILENCE_LIMIT:
                break
            for thread in threads:
                thread.join(0.05)
    finally:
        sender.end()
        receiver.end()
    for thread in threads:
        thread.join(5)
    (sent_report, sent_words), (received_report, received_words) = (read_words(part.text) for part in words)
    complaint = next(
        (
            f"on {end.name}, {said}"
            for end, report, said in ((source, sent_report, sent_words), (destination, received_report, received_words))
            if said and not report
        ),
        "",
    )
    return sent_report, received_report, complaint, forth.count, back.count


def relay(source, destination, retries, timeout):
    """Relays one transfer, with its retries; a result like that of the module's own step `send`."""
    stats = {"bytes_sent": 0, "bytes_received": 0, "seconds": 0.0, "attempts": 0, "resumed_bytes": 0, "reached": False}
    deadline = time.monotonic() + timeout
    while True:
        started = time.monotonic()
        stats["attempts"] += 1
        problem, hopeless = None, False
        try:
            report, other, complaint, sent, received = attempt(source, destination, deadline)
            stats["bytes_sent"] += sent
            stats["bytes_received"] += received
        except RelayError as exc:
            report, other, complaint, problem, hopeless = {}, {}, "", str(exc), exc.hopeless
        stats["seconds"] = round(stats["seconds"] + time.monotonic() - started, 3)
        stats["reached"] = stats["reached"] or any(end.get("reached") for end in (report, other))
        if "verdict" in report:
            stats["resumed_bytes"] = report["verdict"].get("resumed_bytes", 0)
            return dict(stats, compression=report["compression"])
        for end in (report, other):
            if end.get("kind") == "Refused":
                return dict(stats, failed=True, interrupted=False, msg=end["error"])
        problem = problem or complaint or report.get("error") or "the connection was cut"
        late = time.monotonic() >= deadline
        if hopeless or ssh_access.is_hopeless(problem) or late or stats["attempts"] > retries:
            over = f" (the timeout of {timeout} s is over)" if late else ""
            return dict(stats, failed=True, interrupted=True, msg=f"{problem}{over}")
        time.sleep(min(2.0 ** stats["attempts"], 15, max(0.0, deadline - time.monotonic())))
