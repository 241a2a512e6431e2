"""
The one guarded HTTP client of the connectors.

Owns everything between a URL and bytes but the connection itself (`network`): permission, redirects, retries, caps,
the wall clock, and the one mapping from third-party exceptions to causes. Judges no content.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urljoin

import httpcore
import httpx
import tenacity

from cftpki_connectors.fetch.gate import ClosedGateError, Gates, Visit
from cftpki_connectors.fetch.guard import ForbiddenUrlError, Guard, Target, parse_url
from cftpki_connectors.fetch.network import GuardedTransport
from cftpki_connectors.fetch.resolve import Resolver, SystemResolver
from cftpki_connectors.fetch.values import FetchError, FetchRequest
from cftpki_connectors.fetch.wire import WireBackend
from cftpki_connectors.support.httpx_client import (
    DETAIL_CHARACTERS,
    HEADERS,
    REDIRECTS,
    body_within,
    load_system_trust,
    no_cookies,
    objection,
    private_tls,
    server_time,
    system_tls,
    tls_errors,
)
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.escape import excerpt
from cftpki_ext.support.failures import reason_of

# One request and two repetitions; the deadline usually comes first.
ATTEMPTS = 3
# Between repetitions: random, at most so long, so that many handshakes do not come back in step.
RETRY_WAIT_S = 0.4
# A request that was given less time than this tells nothing about the host when it runs out.
FAIR_WAIT_S = 0.25
# A request that was cancelled (another source was faster) tells that the host is dead after this long.
DEAD_S = 2.0
# Whoever asks stops waiting a little before the deadline that it gave: an answer at the last moment is still read.
ENDS_EARLY_S = 0.15
# A deadline that is noticed so late was noticed by a process that did not run.
LATE_S = 0.5

_SAME_METHOD = frozenset({307, 308})


class Fetcher:
    """
    Fetches bytes from where a guard allows, or says why not.

    By default https is verified against the guard's `https_roots`, or else the system's trust store, without asking for the revocation status of
    the responder's own TLS certificate (RFC 5280 section 8 warns of the circle); what is fetched is signed
    anyway. The environment's proxies and netrc are not looked at, cookies are not kept.

    Args:
        resolver: how names become addresses; by default the system's way, for each trust set in threads of its own.
        tls: for https, whatever the guards say.
        network: what opens sockets to an address; by default TCP of this machine.
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
        self._resolver = resolver
        self._tls = tls
        self._network = network or WireBackend()
        self._monotonic = monotonic
        self._reaches: dict[Guard, _Reach] = {}

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
        while self._reaches:
            await self._reaches.popitem()[1].aclose()

    async def _repeat(self, request: FetchRequest, progress: _Progress) -> bytes:
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS)
            | tenacity.stop_before_delay(request.deadline - self._monotonic()),
            wait=tenacity.wait_random(0.01, RETRY_WAIT_S),
            retry=tenacity.retry_if_exception(
                lambda error: (
                    isinstance(error, FetchError)
                    and error.transient
                    and (request.repeat_status or error.status is None)
                )
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
            moved = "" if url == request.url else f"redirected to {excerpt(url, DETAIL_CHARACTERS)}: "
            raise FetchError(
                Cause.FORBIDDEN_URL, moved + str(error), url=excerpt(request.url, DETAIL_CHARACTERS)
            ) from error
        return target

    async def _exchange(
        self, request: FetchRequest, target: Target, progress: _Progress, *, moved: bool
    ) -> bytes | _Moved:
        progress.step = f"waiting for a place at {target.origin}"
        url = str(target)
        try:
            visit = await self._reach(request.guard).gates.of(target.origin).enter()
        except ClosedGateError as error:
            before = "" if progress.failure is None else f", lately {progress.failure.detail}"
            status = None if progress.failure is None else progress.failure.status
            raise FetchError(
                Cause.UNREACHABLE, f"{target.origin} is {error}{before}", url=url, status=status
            ) from progress.failure
        async with visit:
            started = self._monotonic()
            try:
                answer = await self._send(request, target, progress, moved=moved)
            except FetchError as error:
                self._tell(visit, error, progress, self._monotonic() - started)
                raise
            except asyncio.CancelledError:
                # Cancelled by our deadline, or by a caller that had its answer elsewhere.
                waited_s = self._monotonic() - started
                left_s = request.deadline - self._monotonic()
                # A timer that is so late says that we did not run, and nothing about the host.
                over = -LATE_S < left_s <= ENDS_EARLY_S
                if waited_s >= DEAD_S or (waited_s >= FAIR_WAIT_S and over):
                    visit.failed()
                raise
            visit.succeeded()
            return answer

    @staticmethod
    def _tell(visit: Visit, error: FetchError, progress: _Progress, waited_s: float) -> None:
        if error.transient or (error.cause is Cause.TIMED_OUT and waited_s >= FAIR_WAIT_S):
            if progress.failure is None:  # one request counts once, however often it is repeated
                visit.failed()
            progress.failure = error
        elif error.status is not None:
            visit.succeeded()

    async def _send(
        self, request: FetchRequest, target: Target, progress: _Progress, *, moved: bool
    ) -> bytes | _Moved:
        url = str(target)
        progress.step = "waiting for the head of the answer"
        head_by = request.deadline if request.head_by is None else min(request.head_by, request.deadline)
        left_s = max(head_by - self._monotonic(), 0.001)
        secret = request.secret_headers if target.origin == parse_url(request.url).origin else {}
        outgoing = httpx.Request(
            request.method,
            httpx.URL(
                scheme=target.scheme,
                host=target.host,
                port=target.port,
                raw_path=target.target.encode("ascii"),
            ),
            headers={**HEADERS, **request.headers, **secret},
            content=request.body or None,
            extensions={"timeout": {"connect": left_s, "pool": left_s}},
        )
        if target.scheme == "https" and self._reach(request.guard).tls is system_tls():
            load_system_trust()
        with _mapped(url):
            sending = self._reach(request.guard).client.send(outgoing, stream=True, follow_redirects=False)
            if request.head_by is None:
                response = await sending
            else:
                response = await _within(sending, left_s, url)
            try:
                said = server_time(response.headers)
                if said is not None and request.hear_time is not None:
                    request.hear_time(target.origin, said)
                if response.status_code in REDIRECTS:
                    return _redirect(request, response, url)
                try:
                    _check_head(request, response, url, moved=moved)
                except FetchError as error:
                    if error.status != httpx.codes.OK:
                        error.body = await _beginning(response, request.error_bytes)
                    raise
                return await _read(request, response, url, progress)
            finally:
                await response.aclose()

    def _reach(self, guard: Guard) -> _Reach:
        reach = self._reaches.get(guard)
        if reach is None:
            own = SystemResolver() if self._resolver is None else None
            tls = self._tls or (private_tls(guard.https_roots) if guard.https_roots else system_tls())
            transport = GuardedTransport(guard, own or self._resolver or SystemResolver(), tls, self._network)
            client = httpx.AsyncClient(
                transport=transport,
                trust_env=False,
                timeout=None,  # noqa: S113  # one deadline over everything, see fetch
                cookies=no_cookies(),
            )
            reach = self._reaches[guard] = _Reach(client, Gates(self._monotonic), own, tls)
        return reach


@dataclass(frozen=True, slots=True)
class _Reach:
    """
    What one trust set's permissions have for themselves: connections, the gates of hosts, threads for names.

    So the hosts, the names and the failures of one CA are its own trouble, also where another names the same host.
    """

    client: httpx.AsyncClient
    gates: Gates
    resolver: SystemResolver | None
    tls: ssl.SSLContext

    async def aclose(self) -> None:
        """
        Close all connections, and wait for no name.
        """
        await self.client.aclose()
        if self.resolver is not None:
            await self.resolver.aclose()


@dataclass(slots=True)
class _Progress:
    """
    How far a request came, and what its last try failed with.
    """

    step: str = "not begun"
    received: int = 0
    failure: FetchError | None = None

    def receive(self, octets: int) -> None:
        """
        Note how much of the body there is.
        """
        self.received = octets

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
    wrong = objection(
        response.headers, success=True, accepts=request.content_types, max_bytes=request.max_bytes
    )
    if wrong is not None:
        cause = Cause.TOO_LARGE if wrong.too_large else Cause.MALFORMED
        raise FetchError(cause, wrong.detail + where, url=url, status=status)


async def _read(request: FetchRequest, response: httpx.Response, url: str, progress: _Progress) -> bytes:
    progress.step = "waiting for the body"
    body = await body_within(response, request.max_bytes, progress.receive)
    if body is None:
        detail = f"more than {request.max_bytes} bytes"
        raise FetchError(Cause.TOO_LARGE, detail, url=url, status=response.status_code)
    return body


async def _within(sending: Awaitable[httpx.Response], left_s: float, url: str) -> httpx.Response:
    """
    The head of an answer within its own time, which is a part of the whole.
    """
    try:
        async with asyncio.timeout(left_s):
            return await sending
    except TimeoutError:
        raise FetchError(Cause.TIMED_OUT, f"no head of an answer within {left_s:.1f} s", url=url) from None


async def _beginning(response: httpx.Response, most: int) -> bytes:
    """
    What an error status brought along, as far as it came.
    """
    body = bytearray()
    with contextlib.suppress(httpx.HTTPError, httpcore.NetworkError, httpcore.ProtocolError, OSError):
        if most > 0:
            async for part in response.aiter_raw():
                body += part
                if len(body) >= most:
                    break
    return bytes(body[:most])


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
        # Where a certificate was refused another try will not change that.
        refused = any(isinstance(link, ssl.SSLCertVerificationError) for link in tls_errors(error))
        raise FetchError(Cause.UNREACHABLE, _reason(error), url=url, transient=not refused) from error
    except (OSError, ssl.SSLError) as error:
        raise FetchError(Cause.UNREACHABLE, _reason(error), url=url, transient=True) from error


def _reason(error: BaseException) -> str:
    return excerpt(reason_of(error), DETAIL_CHARACTERS)
