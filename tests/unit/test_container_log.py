# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's log is read on from where it was left, through the files that Docker makes of it."""

from __future__ import annotations

import gzip
import os

from ansible_collections.fog.migration.plugins.module_utils.filesystem import container_log


def write(path, text: str) -> None:
    with open(path, "a", encoding="ascii") as stream:
        stream.write(text)


def turn(path, compress: bool = False) -> None:
    """The current file becomes an older one, as with Docker."""
    for number in range(8, 0, -1):
        for end in ("", ".gz"):
            if os.path.exists(f"{path}.{number}{end}"):
                os.rename(f"{path}.{number}{end}", f"{path}.{number + 1}{end}")
    os.rename(path, f"{path}.1")
    if compress:
        with open(f"{path}.1", "rb") as plain, gzip.open(f"{path}.1.gz", "wb") as packed:
            packed.write(plain.read())
        os.unlink(f"{path}.1")


def rest(reader: container_log.Reader) -> str:
    return b"".join(reader.rest()).decode()


def test_it_is_read_on(tmp_path):
    path = tmp_path / "c-json.log"
    reader = container_log.Reader(str(path))
    assert rest(reader) == ""
    write(path, "one\n")
    assert rest(reader) == "one\n"
    assert rest(reader) == ""
    write(path, "two\n")
    write(tmp_path / "c-json.log.other", "no log")
    assert rest(reader) == "two\n"


def test_from_file_to_file(tmp_path):
    path = tmp_path / "c-json.log"
    reader = container_log.Reader(str(path))
    for number in range(12):
        write(path, f"{number}\n")
        if number in (1, 3, 4):
            turn(path, compress=number != 4)
    assert rest(reader) == "".join(f"{number}\n" for number in range(12))
    write(path, "12\n")
    turn(path)
    write(path, "13\n")
    turn(path)
    write(path, "14\n")
    assert rest(reader) == "12\n13\n14\n"


def test_the_last_file_is_gone(tmp_path):
    path = tmp_path / "c-json.log"
    reader = container_log.Reader(str(path))
    write(path, "one\n")
    assert rest(reader) == "one\n"
    os.rename(path, tmp_path / "gone")
    write(path, "two\n")
    assert rest(reader) == "two\n"


def test_more_than_nine_files_are_in_order(tmp_path):
    path = tmp_path / "c-json.log"
    for number in range(12, 0, -1):
        write(f"{path}.{number}", f"{number}\n")
    write(path, "0\n")
    assert rest(container_log.Reader(str(path))) == "".join(f"{number}\n" for number in range(12, -1, -1))


def test_which_logs_can_be_read(tmp_path):
    inspect = {"LogPath": "/x", "HostConfig": {"LogConfig": {"Type": "json-file"}}}
    assert container_log.path_of(inspect) == "/x"
    assert container_log.path_of({**inspect, "LogPath": ""}) is None
    assert container_log.path_of({**inspect, "HostConfig": {"LogConfig": {"Type": "journald"}}}) is None
    target = tmp_path / "saved"
    assert not container_log.save({}, str(target))
    write(tmp_path / "log", "said\n")
    assert container_log.save({**inspect, "LogPath": str(tmp_path / "log")}, str(target))
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("said\n", 0o600)
