"""
Listeners of ours for challenges: how many may be connected, and an end without a connection that hangs.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from ipaddress import IPv6Address, ip_address

__all__ = ["MAX_CONNECTIONS", "Door", "listening_socket", "stop_listening"]

# Validation comes from a handful of places at once.
MAX_CONNECTIONS = 64


class Door:
    """
    The connections of one listener. When it is full, whoever holds most of them lets the oldest of them go.

    A CA that has just connected says at once what it wants; who holds a connection in silence loses it to those who come.
    Sixty-four silent strangers keep nobody out, and a single address takes its own connections only.
    """

    def __init__(self, limit: int = MAX_CONNECTIONS) -> None:
        self._limit = limit
        self._open: dict[asyncio.StreamWriter, str] = {}  # the oldest first, with who holds it

    def __len__(self) -> int:
        """
        How many are connected.
        """
        return len(self._open)

    def enter(self, writer: asyncio.StreamWriter) -> None:
        """
        Let a connection in; another is aborted for it where there is no room.
        """
        if len(self._open) >= self._limit:
            held = Counter(self._open.values())
            most = max(held.values())
            oldest = next(one for one, holder in self._open.items() if held[holder] == most)
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = _holder(writer)

    def leave(self, writer: asyncio.StreamWriter) -> None:
        """
        Its connection is over.
        """
        self._open.pop(writer, None)


def _holder(writer: asyncio.StreamWriter) -> str:
    """
    Who holds a connection: its address, of which IPv6 gives everybody a whole /64.
    """
    peer = writer.get_extra_info("peername")
    if not peer:
        return ""  # it is gone again already
    address = ip_address(peer[0].partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return address.packed[:8].hex()
    return str(address)


def listening_socket(host: str, port: int) -> socket.socket:
    """
    A listening socket. `::` takes IPv4 as well, as operators expect and a CA may come by either.

    Args:
        host: an address.
        port: 0 for any.

    Returns:
        The socket, which its server closes.

    Raises:
        OSError: it cannot be bound.

    """
    if ":" not in host:
        return socket.create_server((host, port), backlog=MAX_CONNECTIONS)
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(
        (host, port), family=socket.AF_INET6, backlog=MAX_CONNECTIONS, dualstack_ipv6=both
    )


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
