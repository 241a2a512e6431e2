"""
An answer that brings a descriptor with it (SCM_RIGHTS, unix(7)), over a connection of asyncio, which has no call for that.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket

# A peer that reads nothing has its answers in the way of this one.
_PAUSE_S = 0.01


async def send_with(writer: asyncio.StreamWriter, raw: bytes, descriptor: int) -> bytes:
    """
    Send the beginning of some octets, with a descriptor at the first of them.

    Args:
        writer: of a unix socket; what was written to it before goes first.
        raw: not empty.
        descriptor: what the peer is given; it stays the caller's.

    Returns:
        The octets that are left to be written.

    Raises:
        OSError: the peer is gone.

    """
    while writer.transport.get_write_buffer_size():  # noqa: ASYNC110 - asyncio tells nobody that it is empty
        await asyncio.sleep(_PAUSE_S)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as peer:
        peer.settimeout(0)
        while True:
            try:
                return raw[peer.sendmsg([raw], rights) :]
            except BlockingIOError:
                await asyncio.sleep(_PAUSE_S)
