"""
A client of the service's socket for tests, made of the codec alone: no code of the service runs in it.
"""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from types import TracebackType
from typing import Self

from cftpki_ext.protocol.codec import (
    HEADER,
    Frame,
    Message,
    Tag,
    Value,
    decode_header,
    decode_payload,
    encode,
)

_HANDSHAKE = {
    "TASK": 5,
    "MODE": 1,
    "REMOTE_ADDRESS": "192.0.2.1",
    "REMOTE_PORT": 40000,
    "LOCAL_PORT": 1762,
    "HOST_TASK": 1,
    "HOST_SESSION": 2,
}


class WireClient:
    """
    One connection.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sequence = itertools.count(1)
        self.session = 0

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_unix_connection(str(self._path))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def receive(self) -> Frame:
        header = decode_header(await self.reader.readexactly(HEADER.size))
        return decode_payload(header, await self.reader.readexactly(header.length))

    async def closed(self) -> bool:
        """
        Wait for the other side to close; false when it says something instead.
        """
        try:
            return b"" == await self.reader.read(1)
        except ConnectionResetError:
            return True

    async def ask(self, message: Message, **fields: Value) -> Frame:
        """
        One request and its response; the session's number is filled in where the message has one.
        """
        sequence = next(self._sequence)
        if self.session and Message.GET_CERTIFICATE <= message <= Message.END_SESSION:
            fields = {"SESSION": self.session, **fields}
        by_tag = {Tag[name]: value for name, value in fields.items()}
        await self.send(encode(Frame(message=message, response=False, sequence=sequence, fields=by_tag)))
        answer = await self.receive()
        assert (message, True, sequence) == (answer.message, answer.response, answer.sequence)
        return answer

    async def start(self, **changes: Value) -> Frame:
        """
        StartHandshake; remembers the session.
        """
        answer = await self.ask(Message.START_HANDSHAKE, **{**_HANDSHAKE, **changes})
        self.session = answer.number(Tag.SESSION) or 0
        return answer
