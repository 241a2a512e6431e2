"""
From an allowed host to a connection with a checked address: resolution, sockets, proxy, pool.

Owns httpx's and httpcore's lower half. What is sent, and what came of it, is `_http`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from ipaddress import ip_address
from typing import Protocol

import httpcore
import httpx

from cftpki_connectors.fetch.guard import Address, ForbiddenUrlError, Guard
from cftpki_connectors.support import threads

# Addresses of one host that are tried; all of them are checked.
ADDRESSES = 4
# Sockets of one trust set, all hosts together: the bulkhead of each host comes first, this one is for EMFILE.
CONNECTIONS = 256
# Idle connections are kept so long: responders usually close theirs after 5 to 75 s.
KEEPALIVE_S = 4.0


class Resolver(Protocol):
    """
    Turns a host name into addresses.
    """

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """
        All addresses of `host` in order of preference; `OSError` where it has none.
        """


class SystemResolver:
    """
    The system's own resolution (hosts file, DNS), each question in a thread that nobody has to wait for.

    A name whose resolution is stuck holds one thread, however many ask for it.
    """

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, int], asyncio.Task[tuple[str, ...]]] = {}

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """
        See `Resolver`.
        """
        key = (host, port)
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(threads.call(lambda: _getaddrinfo(host, port)))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(task)

    def _finished(self, key: tuple[str, int], task: asyncio.Task[tuple[str, ...]]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits any more

    async def aclose(self) -> None:
        """
        Stop waiting for what is stuck.
        """
        for task in list(self._under_way.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await task


def _getaddrinfo(host: str, port: int) -> tuple[str, ...]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


class _Stream(httpcore.AsyncNetworkStream):
    """
    A connection that is also closed when its TLS handshake is cancelled, which httpcore 1.0 forgets.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's signature
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # httpcore's signature
        await self._inner.write(buffer, timeout)

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
        return self._inner.get_extra_info(info)


class _Backend(httpcore.AsyncNetworkBackend):
    """
    Connects to checked addresses only: resolves once, checks all, and connects to one of those very addresses.

    Behind a proxy it connects to the proxy alone, which is the administrator's own word.
    """

    def __init__(self, guard: Guard, resolver: Resolver, inner: httpcore.AsyncNetworkBackend) -> None:
        self._guard = guard
        self._resolver = resolver
        self._inner = inner
        proxy = None if guard.proxy is None else httpx.URL(guard.proxy)
        self._proxy = None if proxy is None else (proxy.host, _proxy_port(proxy))

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._addresses(host.strip("[]"), port)
        last: Exception | None = None
        for position, address in enumerate(addresses):
            share = None if timeout is None else timeout / (len(addresses) - position)
            started = time.monotonic()
            try:
                return _Stream(
                    await self._inner.connect_tcp(str(address), port, share, local_address, socket_options)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
                if timeout is not None:
                    timeout -= time.monotonic() - started  # what is left for the others
        msg = f"{host} has no address"
        raise last or httpcore.ConnectError(msg)

    async def _addresses(self, host: str, port: int) -> tuple[Address, ...]:
        addresses = await self._lookup(host, port)
        if self._proxy is not None:
            if (host, port) != self._proxy:
                msg = f"only the proxy may be connected to, not {host!r}"
                raise ForbiddenUrlError(msg)
        else:
            for address in addresses:
                self._guard.check_address(host, port, address)
        return addresses[:ADDRESSES]

    async def _lookup(self, host: str, port: int) -> tuple[Address, ...]:
        with contextlib.suppress(ValueError):
            return (ip_address(host),)
        try:
            found = await self._resolver.resolve(host, port)
        except (OSError, UnicodeError) as error:
            msg = f"{host} cannot be resolved: {error}"
            raise httpcore.ConnectError(msg) from error
        try:
            return tuple(ip_address(text) for text in found)
        except ValueError as error:  # an address with a zone is of this machine's links only
            raise ForbiddenUrlError(str(error)) from error

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _proxy_port(proxy: httpx.URL) -> int:
    return proxy.port or (443 if proxy.scheme == "https" else 80)


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: AsyncIterator[bytes], close: Callable[[], object]) -> None:
        self._stream = stream
        self._close = close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        closing = self._close()
        if asyncio.iscoroutine(closing):
            await closing


class GuardedTransport(httpx.AsyncBaseTransport):
    """
    httpx's way to httpcore's pool, with our backend below. One per guard: no connection is shared between them.
    """

    def __init__(
        self,
        guard: Guard,
        resolver: Resolver,
        tls: ssl.SSLContext,
        inner: httpcore.AsyncNetworkBackend,
    ) -> None:
        backend = _Backend(guard, resolver, inner)
        if guard.proxy is None:
            self._pool = httpcore.AsyncConnectionPool(
                ssl_context=tls,
                max_connections=CONNECTIONS,
                keepalive_expiry=KEEPALIVE_S,
                network_backend=backend,
            )
            return
        proxy = httpx.URL(guard.proxy)
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

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """
        Send one request, without following anything.
        """
        response = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        stream = response.stream
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(stream.__aiter__(), response.aclose),  # type: ignore[union-attr]  # async pool, async stream
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """
        Close all connections.
        """
        await self._pool.aclose()
