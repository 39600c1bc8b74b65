# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts on each connection, a number every 5 ms."""

import asyncio
import itertools


async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    try:
        for number in itertools.count():
            writer.write(b"%d\n" % number)
            await writer.drain()
            await asyncio.sleep(0.005)
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serves for ever."""
    server = await asyncio.start_server(count, port=7000)
    await server.serve_forever()


asyncio.run(main())
