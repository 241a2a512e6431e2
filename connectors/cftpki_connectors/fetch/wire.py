"""
TCP connections whose every octet we see: httpcore's network on asyncio's transports.

Owns the buffer between a socket and HTTP. httpcore's own networks keep octets where nobody can look for them; here it
can be told whether something is left when an answer is complete, so that it is never taken for the next answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any, TypeVar

import httpcore

T = TypeVar("T")

# Octets that wait to be read before the peer is held up.
_HIGH_WATER = 256 * 1024
# Closing is not waited for longer: nothing of it matters to anybody.
_CLOSING_S = 1.0


class _Wire(asyncio.Protocol):
    """
    One connection: what came and was not read yet, and how it ended.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        self.ended = False
        self.error: Exception | None = None
        self.closed: asyncio.Future[None] = loop.create_future()
        self._came = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # TCP is read and written

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if len(self.buffer) > _HIGH_WATER and self.transport is not None and not self._held:
            self._held = True
            self.transport.pause_reading()
        self._came.set()

    def eof_received(self) -> bool:
        self.ended = True
        self._came.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.error = self.error or exc
        self._came.set()
        self._writable.set()
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def read(self, most: int) -> bytes:
        while not self.buffer and not self.ended:
            self._came.clear()
            await self._came.wait()
        if not self.buffer and self.error is not None:
            raise self.error
        piece = bytes(self.buffer[:most])
        del self.buffer[:most]
        if self._held and len(self.buffer) < _HIGH_WATER and self.transport is not None:
            self._held = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
        return piece

    async def write(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise self.error or ConnectionResetError("the connection is closed")
        self.transport.write(data)
        await self._writable.wait()


@contextlib.contextmanager
def _as(timeout: type[Exception], broken: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise timeout(str(error)) from error
    except (OSError, ssl.SSLError) as error:
        raise broken(str(error) or type(error).__name__) from error


async def _within(timeout_s: float | None, work: Coroutine[Any, Any, T]) -> T:
    """
    What comes of some work; where no time is set for it by itself, no timer is made.
    """
    if timeout_s is None:
        return await work
    async with asyncio.timeout(timeout_s):
        return await work


class WireStream(httpcore.AsyncNetworkStream):
    """
    One connection as httpcore uses it.
    """

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's signature
        """
        The next octets; none at the end.
        """
        with _as(httpcore.ReadTimeout, httpcore.ReadError):
            return await _within(timeout, self._wire.read(max_bytes))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # httpcore's signature
        """
        Send octets.
        """
        with _as(httpcore.WriteTimeout, httpcore.WriteError):
            await _within(timeout, self._wire.write(buffer))

    async def aclose(self) -> None:
        """
        End the connection at once.
        """
        wire = self._wire
        if wire.transport is not None and not wire.closed.done():
            wire.transport.abort()
            await asyncio.wait((wire.closed,), timeout=_CLOSING_S)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        """
        Go on in TLS, over this very connection.
        """
        wire = self._wire
        loop = asyncio.get_running_loop()
        try:
            with _as(httpcore.ConnectTimeout, httpcore.ConnectError):
                if wire.buffer or wire.transport is None:
                    msg = "octets came before TLS began"
                    raise ConnectionAbortedError(msg)  # noqa: TRY301  # mapped as all others
                async with asyncio.timeout(timeout):
                    upgraded = await loop.start_tls(
                        wire.transport, wire, ssl_context, server_hostname=server_hostname
                    )
                if upgraded is None:
                    msg = "the connection was closed while TLS began"
                    raise ConnectionAbortedError(msg)  # noqa: TRY301
                wire.transport = upgraded
        except BaseException:
            # asyncio tells the protocol nothing of a handshake that failed.
            if wire.transport is not None:
                wire.transport.abort()
            if not wire.closed.done():
                wire.closed.set_result(None)
            raise
        return WireStream(wire)

    def get_extra_info(self, info: str) -> object:
        """
        What httpcore asks for; `is_readable` is also true where something is left, or the peer has closed.
        """
        wire = self._wire
        if info == "is_readable":
            return bool(wire.buffer) or wire.ended
        if wire.transport is None:
            return None
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return wire.transport.get_extra_info(names.get(info, info))


class WireBackend(httpcore.AsyncNetworkBackend):
    """
    Opens TCP connections to addresses. Resolves nothing.
    """

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """
        Connect to one address.
        """
        loop = asyncio.get_running_loop()
        local = None if local_address is None else (local_address, 0)
        with _as(httpcore.ConnectTimeout, httpcore.ConnectError):
            connecting = loop.create_connection(_Wire, host, port, local_addr=local)
            transport, wire = await _within(timeout, connecting)
        sock = transport.get_extra_info("socket")
        for option in socket_options or ():
            sock.setsockopt(*option)
        return WireStream(wire)

    async def sleep(self, seconds: float) -> None:
        """
        Wait.
        """
        await asyncio.sleep(seconds)
