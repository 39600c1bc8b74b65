# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH access for one transfer: a key on the source, a line with a forced command in authorized_keys on the destination.

The key is made on the source and never leaves it. The line allows that key to run one program with a fixed
configuration, expires by itself where sshd knows that (OpenSSH 7.7), and is removed again at the end. The program looks
at the time by itself, see C(expiry.require_in_time). The texts are made and read by pure functions; what touches the
system is below them.

Private to the collection fog.migration.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import glob
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Mapping

from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError
from ansible_collections.fog.migration.plugins.module_utils.system import host

HOST_ALIAS = "fog-migration-destination"
# The first part of the names of control sockets.
CONNECTION = "ssh-"
MARK = b"fog-migration:"
LEGACY_RESTRICTIONS = "no-port-forwarding,no-agent-forwarding,no-X11-forwarding,no-pty,no-user-rc"
# What sshd takes over from the client (AcceptEnv) must not get at the program that a key runs.
CLEAN = ("env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
# What ssh needs of the environment of who starts it. The key is in a file: it speaks to no agent.
SSH_NEEDS = ("PATH", "HOME", "LANG", "LC_ALL")
TRAFFIC = re.compile(r"Transferred: sent (\d+), received (\d+) bytes, in ([0-9.]+) seconds")
VERSION = re.compile(r"OpenSSH_(\d+)\.(\d+)")
# A line of ours: what it allows, its command as sshd's quoting has it, the key, and our mark.
_OWN_LINE = re.compile(
    rb"(?:restrict|" + LEGACY_RESTRICTIONS.encode("ascii") + rb')(?:,expiry-time="[0-9]+Z?")?'
    rb',command="((?:[^"\\]|\\.)*)" \S+ \S+ ' + MARK + rb"([^\s:]+):([0-9]{1,15})\s*"
)
# The programs that such a line runs, wherever the folders of transfers and agents are.
_OWN_PROGRAM = re.compile(r"(?:|.*/)\.?fog-migration/(?:transfer|agent)-[^/]+/(?:channel|connect)\.py")


class SshAccessError(CollectionError):
    """SSH access cannot be given or used here. The text is one sentence for people."""


# ---------------------------------------------------------------------------------------------------------------------
# Texts


def ssh_version(text: str) -> tuple[int, int] | None:
    """(major, minor) of OpenSSH from what `ssh -V` says, or None."""
    found = VERSION.search(text)
    return (int(found.group(1)), int(found.group(2))) if found else None


def sshd_settings(text: str) -> dict[str, list[str]]:
    """{option: [values]} of what `sshd -T` prints (it prints its options in lower case)."""
    settings: dict[str, list[str]] = {}
    for line in text.splitlines():
        option, _blank, value = line.strip().partition(" ")
        if value:
            settings.setdefault(option.lower(), []).append(value.strip())
    return settings


def access_problem(settings: dict[str, list[str]], home: str) -> str | None:
    """Why a line in ~/.ssh/authorized_keys would not be read by this sshd, or None. Unknown settings are good ones."""
    if settings.get("pubkeyauthentication", ["yes"])[0] == "no":
        return "its sshd does not accept public keys"
    default = os.path.join(home, ".ssh/authorized_keys")
    files = " ".join(settings.get("authorizedkeysfile", [".ssh/authorized_keys"])).split()
    if not any(os.path.join(home, name.replace("%h", home).replace("%%", "%")) == default for name in files):
        return "its sshd does not read ~/.ssh/authorized_keys (AuthorizedKeysFile is {})".format(" ".join(files))
    return None


def host_key_files(settings: dict[str, list[str]]) -> list[str]:
    return [name + ".pub" for name in settings.get("hostkey", [])]


def check_public_key(text: str) -> str:
    """`type base64` of a public key, without its comment. Raises SshAccessError when it is none."""
    words = text.split()
    if len(words) < 2 or not re.match(r"^[a-z0-9@.-]+$", words[0]):
        raise SshAccessError(f"this is not a public key: {text[:80]!r}")
    try:
        blob = base64.b64decode(words[1].encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise SshAccessError(f"this is not a public key: {text[:80]!r}") from exc
    length = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + length] != words[0].encode("ascii"):
        raise SshAccessError(f"this is not a public key: {text[:80]!r}")
    return f"{words[0]} {words[1]}"


def known_hosts(host_keys: list[str], alias: str = HOST_ALIAS) -> str:
    """A known_hosts file for the one host that is to be met, whatever address it is met at."""
    return "".join(f"{alias} {check_public_key(key)}\n" for key in host_keys)


def authorized_line(
    public_key: str, command: str, transfer_id: str, expires: int, version: tuple[int, int] | None
) -> str:
    """One line of authorized_keys: this key may run this command until then, and nothing else."""
    restrictions = "restrict" if version and version >= (7, 2) else LEGACY_RESTRICTIONS
    if version and version >= (7, 7):
        restrictions += f',expiry-time="{_until(expires, version)}"'
    quoted = command.replace("\\", "\\\\").replace('"', '\\"')
    comment = f"{MARK.decode('ascii')}{transfer_id}:{expires}"
    return f'{restrictions},command="{quoted}" {check_public_key(public_key)} {comment}\n'


def _until(expires: int, version: tuple[int, int]) -> str:
    """A time as this sshd reads it: before 9.1, only in the time zone of its own environment."""
    if version >= (9, 1):
        return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(expires))
    return time.strftime("%Y%m%d%H%M%S", time.localtime(expires))


def forced_command(login: str, current: str, program: list[str]) -> str:
    """The line of the shell that a key runs: this program, as the user that Ansible became, in a clean environment."""
    return shell_line([*CLEAN, *as_login_user(login, current), *program])


def with_line(content: bytes, line: bytes) -> bytes:
    """The bytes of authorized_keys with one more line."""
    if content and not content.endswith(b"\n"):
        content += b"\n"
    return content + line


def without_transfer(content: bytes, transfer_id: str | None, now: float | None = None) -> bytes:
    """The bytes of authorized_keys without this transfer's line, and without lines of ours that have expired."""
    kept = []
    for line in content.splitlines(True):
        found = _own(line)
        if found:
            name, expires = found
            expired = now is not None and expires < now
            if expired or (transfer_id is not None and name == transfer_id.encode("ascii")):
                continue
        kept.append(line)
    return b"".join(kept)


def _own(line: bytes) -> tuple[bytes, int] | None:
    """The transfer of a line of ours, and when it expires; None where a user has written the line, whatever its comment
    is."""
    found = _OWN_LINE.fullmatch(line)
    if not found:
        return None
    command = re.sub(rb"\\(.)", rb"\1", found.group(1)).decode("utf-8", "replace")
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    return (found.group(2), int(found.group(3))) if any(map(_OWN_PROGRAM.fullmatch, words)) else None


def ciphers(features: Collection[str]) -> str:
    """OpenSSH's ciphers that authenticate what they encrypt, the fastest first on this processor.

    AES in Galois counter mode is two to five times as fast as ChaCha20 where the processor has instructions for it, and
    slower where it has not, as a Raspberry Pi up to the 4.

    :param features: those of the processor, see C(host.cpu_features).
    """
    aes, chacha = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"], ["chacha20-poly1305@openssh.com"]
    return ",".join([*(aes + chacha if "aes" in features else chacha + aes), "aes128-ctr", "aes256-ctr"])


def ssh_command(key: str, hosts_file: str, user: str, address: str, port: int, connect_timeout: int = 10) -> list[str]:
    """The client's command line. It reads no configuration but this, and speaks to no agent."""
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "PreferredAuthentications": "publickey",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": hosts_file,
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": HOST_ALIAS,
        "CheckHostIP": "no",
        "ConnectTimeout": str(connect_timeout),
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "4",
        "TCPKeepAlive": "yes",
        "ClearAllForwardings": "yes",
        "ForwardAgent": "no",
        "Compression": "no",
        "Ciphers": ciphers(host.cpu_features()),
    }
    command = ["ssh", "-F", "/dev/null", "-T", "-v", "-i", key]
    for name in sorted(options):
        command += ["-o", f"{name}={options[name]}"]
    return [*command, "-p", str(port), "-l", user, address, "transfer"]


def ssh_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What ssh gets of the environment of who starts it: nothing there may change what it does, or be sent along."""
    return {name: environment[name] for name in SSH_NEEDS if name in environment}


def ssh_traffic(lines: list[str]) -> tuple[int, int] | None:
    """(sent, received) in bytes on the wire, from what `ssh -v` said at its end, or None."""
    for line in reversed(lines):
        found = TRAFFIC.search(line)
        if found:
            return int(found.group(1)), int(found.group(2))
    return None


def ssh_complaint(lines: list[str]) -> str:
    """What `ssh -v` said that is not its diary: the last such line, or ''."""
    diary = ("debug", "OpenSSH_", "Transferred:", "Bytes per second:", "Authenticated ", '{"')
    said = [line.strip() for line in lines if line.strip() and not line.startswith(diary)]
    return said[-1] if said else ""


def is_hopeless(complaint: str) -> bool:
    """Whether ssh's complaint is one that another attempt cannot cure."""
    return any(
        words in complaint
        for words in (
            "Permission denied",
            "Host key verification failed",
            "Could not resolve hostname",
            "a password is required",
            "No supported authentication",
            "no matching ",
            "Bad configuration option",
            "is not in the sudoers",
        )
    )


def as_login_user(login: str, current: str) -> list[str]:
    """What turns a command of the login user into one of the user that Ansible became."""
    if login == current:
        return []
    return ["sudo", "-n"] if current == "root" else ["sudo", "-n", "-u", current]


def shell_line(words: list[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)


# ---------------------------------------------------------------------------------------------------------------------
# On the source


def make_key(directory: str) -> str:
    """Makes a key pair in a directory of its own; the text of the public key."""
    path = os.path.join(directory, "key")
    run = subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if run.returncode:
        raise SshAccessError("ssh-keygen failed: {}".format(run.stdout.decode("utf-8", "replace").strip()))
    with open(path + ".pub", encoding="ascii") as stream:
        return check_public_key(stream.read())


# ---------------------------------------------------------------------------------------------------------------------
# On the destination


def read_sshd_settings(user: str) -> dict[str, list[str]]:
    """What this host's sshd would apply to this user; {} when it does not tell (only root may ask)."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/bin")
    if not program or os.geteuid() != 0:
        return {}
    for arguments in (["-T", "-C", f"user={user},host=localhost,addr=127.0.0.1"], ["-T"]):
        run = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if run.returncode == 0:
            return sshd_settings(run.stdout.decode("utf-8", "replace"))
    return {}


def read_host_keys(settings: dict[str, list[str]]) -> list[str]:
    """This host's public SSH keys."""
    names = host_key_files(settings)
    if not names and os.path.isdir("/etc/ssh"):
        names = [
            os.path.join("/etc/ssh", name)
            for name in sorted(os.listdir("/etc/ssh"))
            if name.startswith("ssh_host_") and name.endswith("_key.pub")
        ]
    keys = []
    for name in names:
        try:
            with open(name, encoding="ascii") as stream:
                keys.append(check_public_key(stream.read()))
        except (OSError, ValueError, SshAccessError):
            continue
    return keys


def installed_ssh_version() -> tuple[int, int] | None:
    for command in (["ssh", "-V"], ["/usr/sbin/sshd", "-V"]):
        try:
            run = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        version = ssh_version(run.stdout.decode("utf-8", "replace"))
        if version:
            return version
    return None


def login_user(told: str | None) -> str:
    """The user that Ansible logs in as (who may have become root since)."""
    return told or os.environ.get("SUDO_USER") or os.environ.get("DOAS_USER") or current_user()


def home_of(user: str) -> str:
    return pwd.getpwnam(user).pw_dir


def current_user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def sudo_problem(login: str, current: str) -> str | None:
    """Why the login user's `sudo -n` would not do, or None. Only root can try it; nobody else needs it here."""
    if login == current or os.geteuid() != 0 or not shutil.which("runuser"):
        return None
    run = subprocess.run(
        ["runuser", "-u", login, "--", *as_login_user(login, current), "true"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if run.returncode:
        return f"sudo does not let {login} become {current} without a password"
    return None


def edit_authorized_keys(user: str, change: Callable[[bytes], bytes]) -> None:
    """Rewrites the user's authorized_keys as the user: what root does in a home, its owner could redirect.

    `change` takes the old bytes and returns the new ones. An empty file that this left behind is removed again.
    """
    account = pwd.getpwnam(user)
    if os.geteuid() == account.pw_uid:
        _edit_as_self(account.pw_dir, change)
        return
    if os.geteuid() != 0:
        raise SshAccessError(f"only root and {user} may edit {user}'s authorized_keys")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(reader)
            os.initgroups(user, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            _edit_as_self(account.pw_dir, change)
            status = 0
        except BaseException as exc:
            os.write(writer, str(exc).encode("utf-8", "replace")[:4000])
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        problem = stream.read().decode("utf-8", "replace")
    if os.waitpid(child, 0)[1]:
        raise SshAccessError(problem or "editing authorized_keys failed")


def _edit_as_self(home: str, change: Callable[[bytes], bytes]) -> None:
    folder = os.path.join(home, ".ssh")
    path = os.path.realpath(os.path.join(folder, "authorized_keys"))
    if not os.path.isdir(folder):
        if not change(b""):
            return
        os.mkdir(folder, 0o700)
    lock = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            with open(path, "rb") as stream:
                info = os.fstat(stream.fileno())
                old = stream.read()
        except FileNotFoundError:
            info, old = None, b""
        if info is not None and info.st_uid != os.geteuid():
            raise SshAccessError(f"{path} belongs to another user than the one it is for")
        new = change(old)
        if info is not None and not new:
            os.unlink(path)
        elif new != old:
            _replace(path, new, info)
    finally:
        os.close(lock)


def _replace(path: str, content: bytes, info: os.stat_result | None) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".authorized_keys.", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if info is None:
            os.chmod(temporary, 0o600)
        else:
            shutil.copystat(path, temporary)
            os.utime(temporary)
            if os.stat(temporary).st_gid != info.st_gid:
                os.chown(temporary, -1, info.st_gid)
            os.chmod(temporary, stat.S_IMODE(info.st_mode))
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def close_connections(folder: str) -> None:
    """Closes the connections whose control sockets are in this folder: those that others start sessions in."""
    for control in glob.glob(os.path.join(glob.escape(folder), CONNECTION + "*")):
        if not control.endswith(".log"):
            command = ["ssh", "-F", "/dev/null", "-S", control, "-O", "exit", "destination"]
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=10,
                env=ssh_environment(os.environ),
            )
