# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRIU's image of a thread, C(core-TID.img): what is changed in it before it is restored.

CRIU has a sleep, a poll or a wait for a futex with a time limit end with EINTR when it is restored, where the kernel
would have it go on (C(ERESTART_RESTARTBLOCK), get_task_regs() in compel/arch/x86/src/lib/infect.c): what the kernel
knows of the rest of the time cannot be dumped. A program that does not expect that takes its time for over. So the call
is made once more, as CRIU does it with all other calls that were interrupted. A sleep whose caller wants the rest of
its time where it has the time itself, as C(sleep) of the C library and most others, sleeps on for the rest: the kernel
has written it there when the process was stopped. All others begin anew.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import glob
import os
import struct
from collections.abc import Callable, Mapping

from ansible_collections.fog.migration.plugins.module_utils.criu import protobuf
from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError

# IMG_COMMON_MAGIC and CORE_MAGIC in criu/include/magic.h.
HEAD = struct.pack("<II", 0x54564319, 0x55053847)
# Fields of core_entry, task_core_entry, thread_core_entry, thread_info_x86 and task_rlimits_entry (images/*.proto).
_MACHINE, _THREAD_X86, _TASK, _THREAD = 1, 2, 3, 5
_REGISTERS = 2
_LIMITS, _SHARED_SIGNALS, _OWN_SIGNALS, _SIGNALS = 8, 10, 9, 1
_LIMIT, _SOFT, _HARD = 1, 1, 2
_X86_64 = 1
# Fields of user_x86_regs_entry.
_AX, _CALL, _AT, _MODE = 11, 16, 17, 28
_NATIVE = 1
_EINTR = (1 << 64) - 4
# The length of the instruction that makes a system call.
_INSTRUCTION = 2
# The calls of x86_64 that the kernel goes on with after an interruption for which no handler ran: poll, futex,
# nanosleep, clock_nanosleep.
_AGAIN = {7, 202, 35, 230}


class CoreImageError(CollectionError):
    """An image is not what CRIU writes. The text is a clause."""


def again(registers: Mapping[int, int]) -> dict[int, int]:
    """The registers of a thread with which a call that CRIU has ended is made once more; those that change.

    :param registers: by the number of their field.
    """
    call = registers[_CALL]
    if registers.get(_MODE, _NATIVE) != _NATIVE or registers[_AX] != _EINTR or call not in _AGAIN:
        return {}
    return {_AX: call, _AT: registers[_AT] - _INSTRUCTION}


def _replaced(data: int | bytes, field: int, change: Callable[[int | bytes], bytes]) -> bytes:
    """A message with this field of it changed, which is a message itself."""
    return b"".join(
        protobuf.message(number, change(value)) if number == field else raw
        for number, value, raw in protobuf.fields(data)
    )


def _first(data: int | bytes, *path: int) -> int | bytes | None:
    """A field in a message, in the message that is the field before it, and so on; None where there is none."""
    found: int | bytes | None = data
    for field in path:
        found = next((value for number, value, _raw in protobuf.fields(found or b"") if number == field), None)
        if found is None:
            return None
    return found


def _with_numbers(data: int | bytes, changed: Mapping[int, int]) -> bytes:
    return b"".join(
        protobuf.number(number, changed[number]) if number in changed else raw
        for number, _value, raw in protobuf.fields(data)
    )


def with_calls_again(entry: bytes) -> bytes:
    """A core_entry with which an interrupted call is made once more; as it was where there is none.

    A thread for which a signal waits is left as it is: the signal would have interrupted it.
    """
    registers = _first(entry, _THREAD_X86, _REGISTERS)
    if _first(entry, _MACHINE) != _X86_64 or registers is None:
        return entry
    if _first(entry, _TASK, _SHARED_SIGNALS, _SIGNALS) or _first(entry, _THREAD, _OWN_SIGNALS, _SIGNALS):
        return entry
    changed = again({number: int(value) for number, value, _raw in protobuf.fields(registers)})
    if not changed:
        return entry

    def change(thread: int | bytes) -> bytes:
        return _replaced(thread, _REGISTERS, lambda value: _with_numbers(value, changed))

    return _replaced(entry, _THREAD_X86, change)


def with_limit(entry: bytes, resource: int, soft: int, hard: int) -> bytes:
    """A core_entry with this limit of the process.

    :param resource: its number.
    """

    def change(task: int | bytes) -> bytes:
        return _replaced(task, _LIMITS, change_limits)

    def change_limits(limits: int | bytes) -> bytes:
        fields = [raw for number, _value, raw in protobuf.fields(limits) if number == _LIMIT]
        if resource >= len(fields):
            raise CoreImageError("it has fewer limits than CRIU writes")
        fields[resource] = protobuf.message(_LIMIT, protobuf.number(_SOFT, soft) + protobuf.number(_HARD, hard))
        return b"".join(fields)

    return _replaced(entry, _TASK, change)


def change(images: str, changes: Mapping[int, Callable[[bytes], bytes]]) -> None:
    """Has interrupted calls made once more, in the images in a folder, and changes what else is to be changed.

    :param changes: for some threads what returns their core_entry changed, by the TID in the container.
    :raises CoreImageError: when one of them is no such image.
    """
    for path in glob.glob(os.path.join(glob.escape(images), "core-*.img")):
        with open(path, "rb") as stream:
            image = stream.read()
        try:
            new = changed_image(image, changes.get(_thread(path)))
        except (protobuf.ProtobufError, KeyError, TypeError, ValueError) as error:
            raise CoreImageError(f"the image {os.path.basename(path)} of CRIU is malformed ({error})") from error
        if new != image:
            with open(path, "wb") as stream:
                stream.write(new)


def _thread(path: str) -> int:
    return int(os.path.basename(path)[len("core-") : -len(".img")])


def changed_image(image: bytes, change_more: Callable[[bytes], bytes] | None = None) -> bytes:
    """The bytes of an image with its interrupted call made once more.

    :param change_more: what changes its core_entry further.
    :raises CoreImageError: when it is no image.
    """
    if image[: len(HEAD)] != HEAD or len(image) < len(HEAD) + 4:
        raise CoreImageError("it is no image of a thread")
    (length,) = struct.unpack_from("<I", image, len(HEAD))
    entry = image[len(HEAD) + 4 :]
    if len(entry) != length:
        raise CoreImageError("it is cut off")
    new = with_calls_again(entry)
    new = change_more(new) if change_more else new
    return HEAD + struct.pack("<I", len(new)) + new
