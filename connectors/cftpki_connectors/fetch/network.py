"""
From an allowed host to a connection with a checked address: resolution, sockets, proxy, pool.

Owns httpcore's lower half, and an answer as httpcore gives it. What is sent, and what came of it, is `fetch`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from ipaddress import ip_address
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import httpcore

from cftpki_connectors.fetch.fields import Fields
from cftpki_connectors.fetch.guard import Guard
from cftpki_connectors.fetch.resolve import Resolver
from cftpki_connectors.fetch.url import Address, ForbiddenUrlError, Target
from cftpki_ext.support.failures import reason_of

if TYPE_CHECKING:
    import httpx

# Addresses of one host that are tried; all of them are checked.
ADDRESSES = 4
# Sockets of one trust set, all hosts together: the bulkhead of each host comes first, this one is for EMFILE.
CONNECTIONS = 256
# Idle connections are kept so long: responders usually close theirs after 5 to 75 s.
KEEPALIVE_S = 4.0
# The next address is tried when one has not answered for so long (RFC 8305 section 5).
CONNECTION_ATTEMPT_DELAY_S = 0.25
# The head of an answer, as far as it is looked at; a connection whose heads are longer is used once.
HEAD_BYTES = 16 * 1024

_HEAD_END = b"\r\n\r\n"


class _Stream(httpcore.AsyncNetworkStream):
    """
    A connection that knows whether an answer was all that came (RFC 9112 6.3, 9.3).

    It is also closed when its TLS handshake is cancelled, which httpcore 1.0 forgets.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._head = b""
        self._received = 0
        self._spoilt = False
        self._answered = False
        self._left_over = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's signature
        if self._left_over:
            msg = "octets were left of an earlier answer"
            raise httpcore.ReadError(msg)
        piece = await self._inner.read(max_bytes, timeout)
        self._received += len(piece)
        if len(self._head) < HEAD_BYTES and _HEAD_END not in self._head:
            self._head += piece[: HEAD_BYTES - len(self._head)]
        return piece

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # httpcore's signature
        # What came after the answer and before this question is no answer to it.
        self._left_over |= self._answered and bool(self._inner.get_extra_info("is_readable"))
        self._answered = False
        self._head, self._received = b"", 0
        await self._inner.write(buffer, timeout)

    def answered(self, body: int | None) -> None:
        """
        Note that an answer is complete; unless it was all that came, nothing else is asked here.

        Args:
            body: the octets of its body; `None` where its length was not announced.

        """
        head = self._head.find(_HEAD_END)
        whole = None if body is None or head < 0 else head + len(_HEAD_END) + body
        self._spoilt |= whole != self._received
        self._answered = True

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        try:
            return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))
        except BaseException:
            await self._inner.aclose()
            raise

    def get_extra_info(self, info: str) -> object:
        # httpcore drops a connection that is readable although nothing was asked.
        if info == "is_readable" and self._spoilt:
            return True
        return self._inner.get_extra_info(info)


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """
    Connects to checked addresses only: resolves once, checks all, and connects to one of those very addresses.

    Behind a proxy it connects to the proxy alone, which is the administrator's own word.
    """

    def __init__(self, guard: Guard, resolver: Resolver, inner: httpcore.AsyncNetworkBackend) -> None:
        self._guard = guard
        self._resolver = resolver
        self._inner = inner
        proxy = _proxy_of(guard)
        self._proxy = None if proxy is None else (proxy.host, _proxy_port(proxy))

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """
        Connect to a host, at one of its addresses.
        """
        addresses = await self._addresses(host.strip("[]"), port)
        options = (local_address, None if socket_options is None else tuple(socket_options))

        async def connect(address: Address) -> httpcore.AsyncNetworkStream:
            return _Stream(await self._inner.connect_tcp(str(address), port, None, *options))

        try:
            async with asyncio.timeout(timeout):
                # One alone has nobody to race with.
                return await (connect(addresses[0]) if len(addresses) == 1 else _first(connect, addresses))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error

    async def _addresses(self, host: str, port: int) -> tuple[Address, ...]:
        addresses = await self._lookup(host, port)
        if self._proxy is not None:
            if (host, port) != self._proxy:
                msg = f"only the proxy may be connected to, not {host!r}"
                raise ForbiddenUrlError(msg)
        else:
            for address in addresses:
                self._guard.check_address(host, port, address)
        return _in_turn(addresses)[:ADDRESSES]

    async def _lookup(self, host: str, port: int) -> tuple[Address, ...]:
        with contextlib.suppress(ValueError):
            return (ip_address(host),)
        try:
            found = await self._resolver.resolve(host, port)
        except (OSError, UnicodeError) as error:
            msg = f"{host} cannot be resolved: {reason_of(error)}"
            raise httpcore.ConnectError(msg) from error
        try:
            return tuple(ip_address(text) for text in found)
        except ValueError as error:  # an address with a zone is of this machine's links only
            msg = f"{host} has an address that only this machine's own links know"
            raise ForbiddenUrlError(msg) from error

    async def sleep(self, seconds: float) -> None:
        """
        Wait.
        """
        await asyncio.sleep(seconds)


def _in_turn(addresses: tuple[Address, ...]) -> tuple[Address, ...]:
    """
    The families in turn, beginning with that of the first address (RFC 8305 section 4).
    """
    if not addresses:
        return ()
    same = [address for address in addresses if address.version == addresses[0].version]
    other = [address for address in addresses if address.version != addresses[0].version]
    pairs = zip_longest(same, other)
    return tuple(address for pair in pairs for address in pair if address is not None)


async def _first(
    connect: Callable[[Address], Coroutine[Any, Any, httpcore.AsyncNetworkStream]],
    addresses: tuple[Address, ...],
) -> httpcore.AsyncNetworkStream:
    """
    The first connection that comes about: the next address is tried when one fails or is slow (RFC 8305 section 5).

    Raises:
        httpcore.ConnectError: none does.

    """
    waiting = list(addresses)
    running: set[asyncio.Task[httpcore.AsyncNetworkStream]] = set()
    last: BaseException = httpcore.ConnectError("no address")
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(connect(waiting.pop(0))))
            done, running = await asyncio.wait(
                running,
                timeout=CONNECTION_ATTEMPT_DELAY_S if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None:
                    running |= done - {task}
                    return task.result()
                if not isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout):
                    raise error
                last = error
        raise last
    finally:
        await _give_up(running)


async def _give_up(running: set[asyncio.Task[httpcore.AsyncNetworkStream]]) -> None:
    """
    End attempts that came too late, and close what they had connected already.
    """
    for task in running:
        task.cancel()
    for outcome in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(outcome, httpcore.AsyncNetworkStream):
            await outcome.aclose()


def _proxy_of(guard: Guard) -> httpx.URL | None:
    """
    The proxy's URL, which is the administrator's and may hold a login; `None` where there is none.
    """
    if guard.proxy is None:
        return None
    import httpx  # noqa: PLC0415 - 30 ms that most never need (ADR 0030)

    return httpx.URL(guard.proxy)


def _proxy_port(proxy: httpx.URL) -> int:
    return proxy.port or (443 if proxy.scheme == "https" else 80)


class Answer:
    """
    An answer whose head has come. Its connection is asked something else only where nothing is left of it.
    """

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response
        self._octets = 0
        self._closed = False
        self.status_code = response.status
        self.headers = Fields(response.headers)

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        """
        The body as it comes over the wire, undecoded.
        """
        async for part in self._response.stream.__aiter__():  # type: ignore[union-attr]  # async pool, async stream
            self._octets += len(part)
            yield part

    async def aclose(self) -> None:
        """
        Be done with it; may be called again.
        """
        if self._closed:
            return
        self._closed = True
        stream = self._response.extensions.get("network_stream")
        if isinstance(stream, _Stream):
            stream.answered(self._announced())
        await self._response.aclose()

    def _announced(self) -> int | None:
        """
        The length by the head, where that is what was read.
        """
        if self.headers.get_list("transfer-encoding"):
            return None
        return self._octets if self.headers.get_list("content-length") == [str(self._octets)] else None


class GuardedPool:
    """
    httpcore's pool, with our backend below. One per guard: no connection is shared between them.
    """

    def __init__(
        self,
        guard: Guard,
        resolver: Resolver,
        tls: ssl.SSLContext,
        inner: httpcore.AsyncNetworkBackend,
    ) -> None:
        backend = GuardedBackend(guard, resolver, inner)
        proxy = _proxy_of(guard)
        if proxy is None:
            self._pool = httpcore.AsyncConnectionPool(
                ssl_context=tls,
                max_connections=CONNECTIONS,
                keepalive_expiry=KEEPALIVE_S,
                network_backend=backend,
            )
            return
        login = (proxy.username, proxy.password) if proxy.username else None
        self._pool = httpcore.AsyncHTTPProxy(
            proxy_url=httpcore.URL(
                scheme=proxy.raw_scheme, host=proxy.raw_host, port=_proxy_port(proxy), target=b"/"
            ),
            proxy_auth=login,
            ssl_context=tls,
            max_connections=CONNECTIONS,
            keepalive_expiry=KEEPALIVE_S,
            network_backend=backend,
        )

    async def send(
        self,
        method: str,
        target: Target,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        connect_s: float,
    ) -> Answer:
        """
        Send one request, without following anything.

        Args:
            method: in upper case.
            target: where.
            headers: all but Content-Length; Host where it is another one than that of the URL.
            body: empty: none.
            connect_s: how long may be waited for a connection.

        Returns:
            The answer; whoever has it closes it.

        """
        # An administrator may name the host himself (a CA's API behind an address); two are refused everywhere (RFC 9112 3.2).
        is_named = any(name.lower() == "host" for name, _ in headers)
        own = [] if is_named else [(b"Host", target.authority.encode("ascii"))]
        if body or method == "POST":
            own.append((b"Content-Length", b"%d" % len(body)))
        own += ((name.encode("ascii"), value.encode("ascii")) for name, value in headers)
        request = httpcore.Request(
            method=method,
            url=httpcore.URL(
                scheme=target.scheme.encode("ascii"),
                host=target.host.encode("ascii"),
                port=target.port,
                target=target.target.encode("ascii"),
            ),
            headers=own,
            content=body,
            extensions={"timeout": {"connect": connect_s, "pool": connect_s}},
        )
        return Answer(await self._pool.handle_async_request(request))

    async def aclose(self) -> None:
        """
        Close all connections.
        """
        await self._pool.aclose()
