"""
The end of a listener of ours, without a connection that hangs between the kernel and us.
"""

from __future__ import annotations

import asyncio

__all__ = ["stop_listening"]


async def stop_listening(server: asyncio.Server) -> None:
    """
    Accept nobody any more.

    By default those who are connected stay so: whoever serves them lets them go. `Server.close` by itself loses a
    connection that was accepted a moment ago and has no transport yet (CPython 3.11): its socket stays open until
    it is collected as garbage, and its peer waits.

    Args:
        server: of this event loop.

    """
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    try:
        # Who was accepted gets a transport now.
        await asyncio.sleep(0)
    finally:
        server.close()
