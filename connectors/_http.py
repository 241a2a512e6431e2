"""
The one guarded HTTP client of the connectors.

Owns everything between a URL and bytes: permission, resolution, connection to the checked address, redirects,
retries, caps, the wall clock, and the one mapping from third-party exceptions to causes. Judges no content.
May import ports' values, settings, causes and errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.cookiejar
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import MappingProxyType
from typing import Protocol
from urllib.parse import urljoin

import httpcore
import httpx
import tenacity

from cftpki_ext.causes import Cause
from cftpki_ext.errors import SourceError
from connectors import _threads
from connectors._gate import ClosedGateError, Gates, Visit
from connectors._guard import Address, ForbiddenUrlError, Guard, Target, parse_url

# One request and two repetitions; the deadline usually comes first.
ATTEMPTS = 3
# Between repetitions: random, at most so long, so that many handshakes do not come back in step.
RETRY_WAIT_S = 0.4
# A request that was given less time than this tells nothing about the host when it runs out.
FAIR_WAIT_S = 0.25
# A request that was cancelled (another source was faster) tells that the host is dead after this long.
DEAD_S = 2.0
# Addresses of one host that are tried; all of them are checked.
ADDRESSES = 4
# Sockets of one trust set, all hosts together: the bulkhead of each host comes first, this one is for EMFILE.
CONNECTIONS = 256
# Idle connections are kept so long: responders usually close theirs after 5 to 75 s.
KEEPALIVE_S = 4.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
_HTML = frozenset({"text/html", "application/xhtml+xml"})


class FetchError(SourceError):
    """
    Nothing usable was fetched. `status` is the HTTP status where there was one; `transient` asks for another try.
    """

    def __init__(
        self, cause: Cause, detail: str, *, url: str, status: int | None = None, transient: bool = False
    ) -> None:
        super().__init__(cause, detail, url=url)
        self.status = status
        self.transient = transient


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """
    One thing to fetch: where, by whose permission, how much at most and until when.

    `deadline` is in monotonic seconds and holds for everything together: queueing, DNS, connecting, redirects,
    repetitions, reading. `max_bytes` bounds the body. `content_types` are those that count (empty: any but HTML).
    """

    url: str
    guard: Guard
    deadline: float
    max_bytes: int
    redirects: int
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    content_types: frozenset[str] = frozenset()


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
            task = asyncio.create_task(_threads.call(lambda: _getaddrinfo(host, port)))
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


class Fetcher:
    """
    Fetches bytes from where a guard allows, or says why not.

    By default https is verified against the system's trust store, without asking for the revocation status of
    the responder's own TLS certificate (RFC 5280 section 8 warns of the circle); what is fetched is signed
    anyway. The environment's proxies and netrc are not looked at, cookies are not kept.

    Args:
        resolver: how names become addresses; by default the system's way.
        tls: for https; by default the system's trust store.
        network: what opens sockets to an address; by default httpcore's own.
        monotonic: seconds that only ever grow, the clock of `FetchRequest.deadline`.

    """

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own_resolver = SystemResolver() if resolver is None else None
        self._resolver: Resolver = resolver or self._own_resolver or SystemResolver()
        self._tls = tls
        self._network = network or httpcore.AnyIOBackend()
        self._monotonic = monotonic
        self._gates = Gates(monotonic)
        self._clients: dict[Guard, httpx.AsyncClient] = {}

    async def fetch(self, request: FetchRequest) -> bytes:
        """
        Fetch one body.

        Args:
            request: what, where, how much and until when.

        Returns:
            The body as received, at most `request.max_bytes` long.

        Raises:
            FetchError: with the cause for the policy table.

        """
        left_s = request.deadline - self._monotonic()
        progress = _Progress()
        try:
            if left_s <= 0:
                raise TimeoutError  # noqa: TRY301  # the same answer as when it runs out on the way
            async with asyncio.timeout(left_s):
                return await self._repeat(request, progress)
        except TimeoutError:
            detail = f"no whole answer within {max(left_s, 0):.1f} s, {progress}"
            raise FetchError(Cause.TIMED_OUT, detail, url=request.url) from None

    async def aclose(self) -> None:
        """
        Close all connections.
        """
        while self._clients:
            await self._clients.popitem()[1].aclose()
        if self._own_resolver is not None:
            await self._own_resolver.aclose()

    async def _repeat(self, request: FetchRequest, progress: _Progress) -> bytes:
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS)
            | tenacity.stop_before_delay(request.deadline - self._monotonic()),
            wait=tenacity.wait_random(0.01, RETRY_WAIT_S),
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, FetchError) and error.transient
            ),
            reraise=True,
        )
        return await retrying(self._follow, request, progress)

    async def _follow(self, request: FetchRequest, progress: _Progress) -> bytes:
        url, secure = request.url, False
        for hop in range(request.redirects + 1):
            target = self._permitted(request, url)
            if secure and target.scheme != "https":
                raise FetchError(Cause.FORBIDDEN_URL, "redirected from https to http", url=url)
            secure = target.scheme == "https"
            found = await self._exchange(request, target, progress, moved=hop > 0)
            if isinstance(found, bytes):
                return found
            url = found.location
        detail = f"redirected more than {request.redirects} times"
        raise FetchError(Cause.UNREACHABLE, detail, url=request.url)

    def _permitted(self, request: FetchRequest, url: str) -> Target:
        try:
            target = parse_url(url)
            request.guard.check(target)
        except ForbiddenUrlError as error:
            moved = "" if url == request.url else f"redirected to {_printable(url)}: "
            raise FetchError(Cause.FORBIDDEN_URL, moved + str(error), url=_printable(request.url)) from error
        return target

    async def _exchange(
        self, request: FetchRequest, target: Target, progress: _Progress, *, moved: bool
    ) -> bytes | _Moved:
        progress.step = f"waiting for a place at {target.origin}"
        url = str(target)
        try:
            visit = await self._gates.of(target.origin).enter()
        except ClosedGateError as error:
            raise FetchError(Cause.UNREACHABLE, f"{target.origin} is {error}", url=url) from None
        async with visit:
            started = self._monotonic()
            try:
                answer = await self._send(request, target, progress, moved=moved)
            except FetchError as error:
                self._tell(visit, error, self._monotonic() - started)
                raise
            except asyncio.CancelledError:
                # Cancelled by our deadline, or by a caller that had its answer elsewhere.
                waited_s = self._monotonic() - started
                if waited_s >= DEAD_S or (waited_s >= FAIR_WAIT_S and self._monotonic() >= request.deadline):
                    visit.failed()
                raise
            visit.succeeded()
            return answer

    @staticmethod
    def _tell(visit: Visit, error: FetchError, waited_s: float) -> None:
        if error.transient or (error.cause is Cause.TIMED_OUT and waited_s >= FAIR_WAIT_S):
            visit.failed()
        elif error.status is not None:
            visit.succeeded()

    async def _send(
        self, request: FetchRequest, target: Target, progress: _Progress, *, moved: bool
    ) -> bytes | _Moved:
        url = str(target)
        progress.step = "waiting for the head of the answer"
        left_s = max(request.deadline - self._monotonic(), 0.001)
        outgoing = httpx.Request(
            request.method,
            httpx.URL(
                scheme=target.scheme,
                host=target.host,
                port=target.port,
                raw_path=target.target.encode("ascii"),
            ),
            headers={
                "User-Agent": "cftpki",
                "Accept-Encoding": "identity",
                "Accept": "*/*",
                **request.headers,
            },
            content=request.body or None,
            extensions={"timeout": {"connect": left_s, "pool": left_s}},
        )
        with _mapped(url):
            response = await self._client(request.guard).send(outgoing, stream=True, follow_redirects=False)
            try:
                if response.status_code in _REDIRECTS:
                    return _redirect(request, response, url)
                _check_head(request, response, url, moved=moved)
                return await _read(request, response, url, progress)
            finally:
                await response.aclose()

    def _client(self, guard: Guard) -> httpx.AsyncClient:
        client = self._clients.get(guard)
        if client is None:
            if self._tls is None:
                self._tls = ssl.create_default_context()
            transport = GuardedTransport(guard, self._resolver, self._tls, self._network)
            no_cookies = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=()))
            client = httpx.AsyncClient(transport=transport, trust_env=False, timeout=None, cookies=no_cookies)  # noqa: S113  # one deadline over everything, see fetch
            self._clients[guard] = client
        return client


@dataclass(slots=True)
class _Progress:
    """
    How far a request came, for the detail of a time-out.
    """

    step: str = "not begun"
    received: int = 0

    def __str__(self) -> str:
        return f"{self.received} bytes of the body received" if self.received else self.step


@dataclass(frozen=True, slots=True)
class _Moved:
    location: str


def _redirect(request: FetchRequest, response: httpx.Response, url: str) -> _Moved:
    locations = response.headers.get_list("location")
    if len(locations) != 1:
        raise FetchError(
            Cause.UNREACHABLE, "a redirect without one location", url=url, status=response.status_code
        )
    if request.method != "GET" and response.status_code not in _SAME_METHOD:
        detail = f"HTTP {response.status_code} would turn a {request.method} into a GET"
        raise FetchError(Cause.UNREACHABLE, detail, url=url, status=response.status_code)
    try:
        return _Moved(urljoin(url, locations[0]))
    except ValueError as error:
        raise FetchError(Cause.FORBIDDEN_URL, "redirected to what is no URL", url=url) from error


def _check_head(request: FetchRequest, response: httpx.Response, url: str, *, moved: bool) -> None:
    status = response.status_code
    where = " (after a redirect)" if moved else ""
    if status != httpx.codes.OK:
        transient = status >= 500 or status == httpx.codes.TOO_MANY_REQUESTS
        raise FetchError(
            Cause.UNREACHABLE, f"HTTP {status}{where}", url=url, status=status, transient=transient
        )
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in _HTML:
        raise FetchError(
            Cause.MALFORMED,
            f"an HTML page came{where}, perhaps from a proxy or a portal",
            url=url,
            status=status,
        )
    if request.content_types and content_type and content_type not in request.content_types:
        detail = f"content type {content_type[:80]!r}{where}"
        raise FetchError(Cause.MALFORMED, detail, url=url, status=status)
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", ""}:
        detail = f"content encoding {encoding[:40]!r}, which was not asked for{where}"
        raise FetchError(Cause.MALFORMED, detail, url=url, status=status)
    announced = response.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > request.max_bytes:
        detail = f"{announced[:20]} bytes announced, {request.max_bytes} allowed{where}"
        raise FetchError(Cause.TOO_LARGE, detail, url=url, status=status)


async def _read(request: FetchRequest, response: httpx.Response, url: str, progress: _Progress) -> bytes:
    body = bytearray()
    progress.step = "waiting for the body"
    async for part in response.aiter_raw():
        if len(body) + len(part) > request.max_bytes:
            detail = f"more than {request.max_bytes} bytes"
            raise FetchError(Cause.TOO_LARGE, detail, url=url, status=response.status_code)
        body += part
        progress.received = len(body)
    return bytes(body)


@contextlib.contextmanager
def _mapped(url: str) -> Iterator[None]:
    """
    The one place where third-party exceptions become causes.
    """
    try:
        yield
    except ForbiddenUrlError as error:
        raise FetchError(Cause.FORBIDDEN_URL, str(error), url=url) from error
    except (httpcore.TimeoutException, httpx.TimeoutException) as error:
        raise FetchError(Cause.TIMED_OUT, "could not connect in time", url=url) from error
    except (httpcore.UnsupportedProtocol, httpcore.LocalProtocolError, httpx.InvalidURL) as error:
        raise FetchError(Cause.FORBIDDEN_URL, _reason(error), url=url) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError, httpx.HTTPError) as error:
        raise FetchError(Cause.UNREACHABLE, _reason(error), url=url, transient=not _is_tls(error)) from error
    except (OSError, ssl.SSLError) as error:
        raise FetchError(Cause.UNREACHABLE, _reason(error), url=url, transient=True) from error


def _is_tls(error: BaseException) -> bool:
    """
    Whether a certificate was refused: another try will not change that.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ssl.SSLCertVerificationError):
            return True
        link = link.__cause__ or link.__context__
    return False


def _reason(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return _printable(text)


def _printable(text: str) -> str:
    """
    A hostile text for logs and evidence: printable ASCII, at most 200 characters.
    """
    shown = "".join(character if " " <= character <= "~" else "?" for character in text[:200])
    return shown + ("…" if len(text) > 200 else "")
