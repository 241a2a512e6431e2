"""
The requests of one connection, one after the other, each whole within its time.

Owns what was received and not read yet. A peer that sends its request in one piece is read in one step: no time limit is set
for what is there already.
"""

from __future__ import annotations

import asyncio

from cftpki_ext.core.errors import WireError
from cftpki_ext.protocol.codec import HEADER, Frame, Header, decode_header, decode_payload
from cftpki_ext.service.deadline import Deadline

_PIECE_BYTES = 64 * 1024


class Incoming:
    """
    The requests that a peer sends. For one reader at a time.

    Args:
        reader: of the connection.
        deadline: its limits.
        idle_s: how long the first octet of a request may be waited for.
        frame_s: how long the rest of it may take.

    """

    def __init__(
        self, reader: asyncio.StreamReader, deadline: Deadline, *, idle_s: float, frame_s: float
    ) -> None:
        self._reader = reader
        self._deadline = deadline
        self._idle_s = idle_s
        self._frame_s = frame_s
        self._received = bytearray()
        self.sequence = 0  # of the frame that is being read, once its header is there

    async def next(self) -> Frame:
        """
        The next request.

        Returns:
            It, decoded.

        Raises:
            WireError: what came is no request frame; `sequence` says of which.
            TimeoutError: nothing came, or not all of it.
            OSError: the connection is lost.
            asyncio.IncompleteReadError: the peer is gone.

        """
        self.sequence = 0
        if not self._received:
            with self._deadline.within(self._idle_s):
                await self._more()
        found = self._whole()
        if found is None:
            with self._deadline.within(self._frame_s):
                while found is None:
                    await self._more()
                    found = self._whole()
        return found

    async def _more(self) -> None:
        piece = await self._reader.read(_PIECE_BYTES)
        if not piece:
            raise asyncio.IncompleteReadError(bytes(self._received), None)
        self._received += piece

    def _whole(self) -> Frame | None:
        """
        The frame that begins what was received, once all of it is there; its header is looked at as soon as it can be.
        """
        received = self._received
        if len(received) < HEADER.size:
            return None
        header = decode_header(bytes(received[: HEADER.size]))
        self.sequence = header.sequence
        _check_request(header)
        end = HEADER.size + header.length
        if len(received) < end:
            return None
        payload = bytes(received[HEADER.size : end])
        del received[:end]
        return decode_payload(header, payload)


def _check_request(header: Header) -> None:
    if header.response:
        msg = f"{header.message.name} response where a request is expected"
        raise WireError(msg)
