# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A place with things that no attack may touch, and real programs of a destination in it."""

from __future__ import annotations

import functools

import pytest
from destinations import Channel, Directory, Docker, Place, Program


@pytest.fixture
def place(tmp_path):
    """Where an attack happens; its canaries are looked at when the test has ended."""
    with Place(tmp_path) as place:
        yield place


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """C(program(part)): a program of ours that is ready to be installed."""

    @functools.cache
    def program(part):
        return Program(tmp_path_factory.mktemp("program"), part)

    return program


@pytest.fixture
def directory(place, program):
    """What receives a directory."""
    return Directory(place, program("transport.directory_transfer"))


@pytest.fixture
def docker(place):
    """The stand-in for Docker."""
    with Docker(place.there) as docker:
        yield docker


@pytest.fixture
def channel(place, docker, program):
    """The destination's end of a live migration."""
    return Channel(place, docker, program("migration.channel.destination"))
