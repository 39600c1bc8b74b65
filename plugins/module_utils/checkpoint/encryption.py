# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checkpoints that are kept encrypted: one file with everything in it, beside a manifest that tells how.

    manifest.json   as of any checkpoint, but its only file is the next one; and C(encryption)
    sealed.tar      all files of the checkpoint and their own manifest, as a tar archive, encrypted by C(openssl enc)

Encrypt-then-MAC. Three keys come from what the user gave, by scrypt with a salt of this checkpoint: for AES-256-CTR,
for HMAC-SHA256, and to tell a wrong key from a changed checkpoint. The HMAC is over the manifest, which has the name of
the checkpoint, of which container it is and when it was made, what scrypt costs, and the SHA-256 of the encrypted file.
That is taken of the very bytes that are decrypted, into a file without a name: the file is used only when both are
right, for where the checkpoint lies may belong to somebody who exchanges it meanwhile. The key goes to openssl through
a pipe.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest as _manifest
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.manifest import Manifest
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.validate import check_path

SEALED = "sealed.tar"
SHORTEST_KEY = 12
_CHUNK = 1 << 20
_NOTHING = "nothing was decrypted"
_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_METHOD = re.compile(r"scrypt-([0-9]{1,9})-([0-9]{1,4})-([0-9]{1,4}) aes-256-ctr hmac-sha256")


class Cost(NamedTuple):
    """What scrypt costs (RFC 7914): C(128 * n * r) bytes of memory, and time that grows with I(p) as well."""

    n: int
    r: int
    p: int

    @property
    def memory(self) -> int:
        """Bytes that it takes."""
        return 128 * self.r * (self.n + self.p + 2)

    @property
    def method(self) -> str:
        """As a manifest has it."""
        return f"scrypt-{self.n}-{self.r}-{self.p} aes-256-ctr hmac-sha256"

    @classmethod
    def of_method(cls, method: object) -> Cost | None:
        """What a manifest tells, or None where it is not known here, too little, or more than a server should give."""
        found = _METHOD.fullmatch(method) if isinstance(method, str) else None
        cost = cls(*map(int, found.groups())) if found else None
        if not cost or not cost.p or not cost.r or cost.n & (cost.n - 1):
            return None
        return cost if cost.n * cost.r * cost.p >= _LEAST and cost.memory * cost.p <= _MOST_MEMORY else None


# What earlier versions have made, and no less.
_LEAST = 32768 * 8
# What a manifest, which anybody may have written, can make this server spend before its HMAC can be looked at.
_MOST_MEMORY = 257 << 20
# Of what is encrypted now, as OWASP recommends.
COST = Cost(1 << 17, 8, 1)


@dataclasses.dataclass(frozen=True)
class Encryption:
    """How a checkpoint is encrypted.

    :param cost: of its keys.
    :param salt: of its keys, in hexadecimal.
    :param check: what a wrong key is known by, in hexadecimal.
    :param tag: the HMAC over the manifest without it, in hexadecimal.
    """

    cost: Cost
    salt: str
    check: str
    tag: str = ""

    def to_json(self) -> dict[str, Any]:
        """As an object for JSON; without the tag as long as there is none."""
        told = {"method": self.cost.method, "salt": self.salt, "check": self.check, "tag": self.tag}
        return {name: value for name, value in told.items() if value}

    @classmethod
    def from_json(cls, value: object) -> Encryption:
        """What an object of JSON says.

        :raises MigrationError: when it says something else. The text is a clause about the checkpoint.
        """
        texts = value if isinstance(value, dict) and all(_is_hex(value.get(name)) for name in _IN_HEX) else {}
        cost = Cost.of_method(texts.get("method"))
        if cost is None or set(texts) != {"method", *_IN_HEX}:
            raise MigrationError("is encrypted in a way that is not known here")
        return cls(cost, **{name: texts[name] for name in _IN_HEX})


_IN_HEX = ("salt", "check", "tag")


def _is_hex(value: object) -> bool:
    return isinstance(value, str) and bool(_HEX.fullmatch(value))


def key_refusal(key: str) -> str | None:
    """Why nothing should be encrypted with this key, or None."""
    return f"the encryption_key has fewer than {SHORTEST_KEY} characters" if len(key) < SHORTEST_KEY else None


def program() -> str:
    """The path of openssl.

    :raises MigrationError: when there is none.
    """
    found = shutil.which("openssl") or shutil.which("openssl", path="/usr/bin:/bin")
    if not found:
        raise MigrationError("openssl is not installed, which encrypts", "nothing was changed", "install openssl")
    return found


def _keys(key: str, salt: bytes, cost: Cost) -> tuple[bytes, bytes, str]:
    """For the cipher, for the HMAC, and what the manifest has of it to tell a wrong key by."""
    most = cost.memory + (1 << 20)
    made = hashlib.scrypt(key.encode("utf-8"), salt=salt, **cost._asdict(), maxmem=most, dklen=80)
    return made[:32], made[32:64], made[64:].hex()


def _tag(key: bytes, manifest: Manifest) -> str:
    """The HMAC over a manifest, but for the place of the HMAC itself."""
    encryption = {name: value for name, value in (manifest.encryption or {}).items() if name != "tag"}
    text = json.dumps(dict(manifest.to_json(), encryption=encryption), sort_keys=True).encode("ascii")
    return hmac.new(key, text, hashlib.sha256).hexdigest()


@contextlib.contextmanager
def _openssl(key: bytes, *words: str, **streams: Any) -> Iterator[subprocess.Popen]:
    """openssl at work; fails when it does.

    :param streams: its stdin and stdout, of which one is a pipe.
    """
    readable, writable = os.pipe()
    os.write(writable, key.hex().encode("ascii") + b"\n")
    os.close(writable)
    # The key is as good as random: there is nothing that iterations could make better.
    command = [program(), "enc", "-aes-256-ctr", "-pbkdf2", "-iter", "1", "-md", "sha256"]
    try:
        process = subprocess.Popen(
            [*command, "-pass", f"fd:{readable}", *words], pass_fds=[readable], stderr=subprocess.PIPE, **streams
        )
    finally:
        os.close(readable)
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        if process.stdin:
            process.stdin.close()
        said = process.stderr.read().decode("utf-8", "replace").split("\n")[0] if process.stderr else ""
    if process.returncode:
        raise OSError(f"openssl failed ({said or process.returncode})")


def seal(folder: str, manifest: Manifest, key: str, target: str) -> Manifest:
    """Makes an encrypted checkpoint of a plain one, in a new folder; its manifest.

    :raises MigrationError: when it cannot be done. The target is not there then.
    """
    salt = secrets.token_bytes(16)
    secret, signing, check = _keys(key, salt, COST)
    shutil.rmtree(target, ignore_errors=True)
    os.mkdir(target, 0o700)
    try:
        path = os.path.join(target, SEALED)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            with _openssl(secret, "-e", "-salt", stdin=subprocess.PIPE, stdout=stream) as process:
                _pack(folder, [*sorted(manifest.files), _manifest.MANIFEST], process.stdin)
            os.fsync(stream.fileno())
        encrypted = Encryption(COST, salt.hex(), check)
        outer = dataclasses.replace(manifest, files=_manifest.describe_files(target), encryption=encrypted.to_json())
        encrypted = dataclasses.replace(encrypted, tag=_tag(signing, outer))
        outer = dataclasses.replace(outer, encryption=encrypted.to_json())
        _manifest.write(target, outer)
    except (OSError, tarfile.TarError) as error:
        shutil.rmtree(target, ignore_errors=True)
        raise MigrationError(f"{folder} could not be encrypted ({error})", "it is there as before") from error
    return outer


def _pack(folder: str, names: list[str], stream: IO[bytes] | None) -> None:
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                facts = os.fstat(file.fileno())
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = facts.st_size, facts.st_mode & 0o777
                archive.addfile(entry, file)


def authenticate(folder: str, manifest: Manifest, key: str) -> None:
    """Returns when the checkpoint was encrypted with this key and is as it was.

    :raises MigrationError: when it is not.
    """
    _authenticated(folder, manifest, key)
    _manifest.require_intact(folder, manifest, _NOTHING)


def _authenticated(folder: str, manifest: Manifest, key: str) -> bytes:
    """The key for the cipher, when this is the manifest that was made with this key.

    :raises MigrationError: when it is not.
    """
    try:
        how = Encryption.from_json(manifest.encryption)
    except MigrationError as error:
        raise MigrationError(f"{folder} {error.what}", _NOTHING, "take a newer version of the collection") from error
    secret, signing, ours = _keys(key, bytes.fromhex(how.salt), how.cost)
    if not hmac.compare_digest(ours, how.check):
        raise MigrationError(f"the encryption_key is not that of {folder}", _NOTHING, "give the one it was made with")
    if not hmac.compare_digest(_tag(signing, manifest), how.tag):
        raise MigrationError(f"the manifest of {folder} was changed", _NOTHING, "take a copy that is as it was made")
    return secret


def unseal(folder: str, manifest: Manifest, key: str, target: str) -> Manifest:
    """Decrypts a checkpoint into a new private folder; the manifest that it has there.

    :raises MigrationError: when the key is a wrong one, or it is not as it was made. The target is not there then.
    """
    secret = _authenticated(folder, manifest, key)
    _manifest.require_intact(folder, manifest, _NOTHING, unread={SEALED})
    shutil.rmtree(target, ignore_errors=True)
    os.mkdir(target, 0o700)
    try:
        with tempfile.TemporaryFile(dir=target) as plain:
            _decrypt(folder, manifest, secret, plain)
            plain.seek(0)
            _unpack(plain, target)
        inner = _manifest.load(target)
        _manifest.require_intact(target, inner, _NOTHING)
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, (OSError, tarfile.TarError, ValueError)):
            raise MigrationError(f"{folder} could not be decrypted ({error})", "the checkpoint is kept") from error
        raise
    return inner


def _decrypt(folder: str, manifest: Manifest, secret: bytes, plain: IO[bytes]) -> None:
    """Decrypts into an open file. When this returns, what was read was, byte for byte, what the manifest says.

    :raises MigrationError: when it was not; nothing may be made of the file then.
    """
    checksum = hashlib.sha256()
    descriptor = os.open(os.path.join(folder, SEALED), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    decrypts = _openssl(secret, "-d", stdin=subprocess.PIPE, stdout=plain)
    with open(descriptor, "rb") as sealed, decrypts as process:
        if process.stdin is None:
            raise AssertionError("it is a pipe")
        for chunk in iter(lambda: sealed.read(_CHUNK), b""):
            checksum.update(chunk)
            process.stdin.write(chunk)
    if checksum.hexdigest() != manifest.files[SEALED].sha256:
        raise MigrationError(
            f"the checkpoint {folder} is damaged: {SEALED} has another SHA-256 than the manifest says",
            "nothing was made of it",
            "transfer it again from where it is intact, or take a new checkpoint",
        )


def _unpack(stream: IO[bytes] | None, target: str) -> None:
    """Plain files only, and only where they belong."""
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            problem = None if entry.isreg() else "something that is no file"
            problem = problem or check_path(entry.name)
            if problem:
                raise ValueError(f"it holds {problem}")
            path = os.path.join(target, entry.name)
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            content = archive.extractfile(entry)
            if content is None:
                raise ValueError(f"it holds {entry.name}, which is no file")
            with content, open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                shutil.copyfileobj(content, file, _CHUNK)
                os.fchmod(file.fileno(), entry.mode & 0o777)
