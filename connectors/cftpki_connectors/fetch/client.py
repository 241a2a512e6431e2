"""
The one guarded HTTP client of the connectors.

Owns everything between a URL and bytes but the connection itself (`network`) and what every attempt has in common
(`attempts`): permission, redirects, caps, the wall clock. Judges no content.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import httpcore

from cftpki_connectors.fetch.attempts import Progress, mapped, repeated, visited
from cftpki_connectors.fetch.gate import Gates
from cftpki_connectors.fetch.guard import Guard
from cftpki_connectors.fetch.network import Answer, GuardedPool
from cftpki_connectors.fetch.resolve import Resolver, SystemResolver
from cftpki_connectors.fetch.url import ForbiddenUrlError, Target, parse_url
from cftpki_connectors.fetch.values import Fetched, FetchError, FetchRequest
from cftpki_connectors.fetch.wire import WireBackend
from cftpki_connectors.support.httpx_client import (
    DETAIL_CHARACTERS,
    HEADERS,
    REDIRECTS,
    body_within,
    load_system_trust,
    objection,
    private_tls,
    server_time,
    spooled_within,
    system_tls,
)
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.octets import LargeOctets, whole_of
from cftpki_ext.core.validators import Validators, validators_of
from cftpki_ext.core.values import dataclass, replace

if TYPE_CHECKING:
    from cftpki_ext.ports.sources import KnownVersion

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
        return whole_of(await self.fetch_large(replace(request, spool=None)))

    async def fetch_large(self, request: FetchRequest) -> bytes | LargeOctets:
        """
        The same of a body that may be large: it is where `request.spool` puts it.

        Args:
            request: see `fetch`.

        Returns:
            See `fetch`.

        Raises:
            FetchError: see `fetch`.

        """
        return (await self.fetch_version(replace(request, known=None))).raw

    async def fetch_version(self, request: FetchRequest) -> Fetched:
        """
        The same, and what was said of its version; or that there is no other version than `request.known`.

        Args:
            request: see `fetch_large`.

        Returns:
            See `Fetched`.

        Raises:
            FetchError: see `fetch`; of status 304 where an answer confirms what it was not asked about.

        """
        left_s = request.deadline - self._monotonic()
        progress = Progress()
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

    async def _repeat(self, request: FetchRequest, progress: Progress) -> Fetched:
        return await repeated(
            lambda: self._follow(request, progress),
            left_s=request.deadline - self._monotonic(),
            statuses=request.repeat_status,
        )

    async def _follow(self, request: FetchRequest, progress: Progress) -> Fetched:
        url, secure = request.url, False
        for hop in range(request.redirects + 1):
            target = self._permitted(request, url)
            if secure and target.scheme != "https":
                raise FetchError(Cause.FORBIDDEN_URL, "redirected from https to http", url=url)
            secure = target.scheme == "https"
            found = await self._exchange(request, target, progress, moved=hop > 0)
            if not isinstance(found, _Moved):
                return found
            url = found.location
        detail = f"redirected more than {request.redirects} times"
        if request.redirects == 0:
            detail = f"redirected to {excerpt(url, DETAIL_CHARACTERS)}, which is not followed"
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
        self, request: FetchRequest, target: Target, progress: Progress, *, moved: bool
    ) -> Fetched | _Moved:
        return await visited(
            self._reach(request.guard).gates,
            target,
            lambda: self._send(request, target, progress, moved=moved),
            progress=progress,
            deadline=request.deadline,
            monotonic=self._monotonic,
        )

    async def _send(
        self, request: FetchRequest, target: Target, progress: Progress, *, moved: bool
    ) -> Fetched | _Moved:
        url = str(target)
        known = request.known if request.known is not None and request.known.validators.are_of(url) else None
        conditions = {} if known is None else known.validators.conditions
        progress.step = "waiting for the head of the answer"
        head_by = request.deadline if request.head_by is None else min(request.head_by, request.deadline)
        left_s = max(head_by - self._monotonic(), 0.001)
        secret = request.secret_headers if target.origin == parse_url(request.url).origin else {}
        headers = {**HEADERS, **request.headers, **conditions, **secret}
        reach = self._reach(request.guard)
        if target.scheme == "https" and reach.tls is system_tls():
            load_system_trust()
        with mapped(url):
            sending = reach.pool.send(
                request.method, target, tuple(headers.items()), request.body, connect_s=left_s
            )
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
                if known is not None and response.status_code == HTTPStatus.NOT_MODIFIED:
                    return _confirmed(known, response, url)
                try:
                    _check_head(request, response, url, moved=moved)
                except FetchError as error:
                    if error.status != HTTPStatus.OK:
                        error.body = await _beginning(response, request.error_bytes)
                    raise
                body = await _read(request, response, url, progress)
                return Fetched(raw=body, validators=_validators(response, url))
            finally:
                await response.aclose()

    def _reach(self, guard: Guard) -> _Reach:
        reach = self._reaches.get(guard)
        if reach is None:
            own = SystemResolver() if self._resolver is None else None
            tls = self._tls or (private_tls(guard.https_roots) if guard.https_roots else system_tls())
            pool = GuardedPool(guard, own or self._resolver or SystemResolver(), tls, self._network)
            reach = self._reaches[guard] = _Reach(pool, Gates(self._monotonic), own, tls)
        return reach


@dataclass(frozen=True, slots=True)
class _Reach:
    """
    What one trust set's permissions have for themselves: connections, the gates of hosts, threads for names.

    So the hosts, the names and the failures of one CA are its own trouble, also where another names the same host.
    """

    pool: GuardedPool
    gates: Gates
    resolver: SystemResolver | None
    tls: ssl.SSLContext

    async def aclose(self) -> None:
        """
        Close all connections, and wait for no name.
        """
        await self.pool.aclose()
        if self.resolver is not None:
            await self.resolver.aclose()


@dataclass(frozen=True, slots=True)
class _Moved:
    location: str


def _redirect(request: FetchRequest, response: Answer, url: str) -> _Moved:
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


def _check_head(request: FetchRequest, response: Answer, url: str, *, moved: bool) -> None:
    status = response.status_code
    where = " (after a redirect)" if moved else ""
    if status != HTTPStatus.OK:
        transient = status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS
        raise FetchError(
            Cause.UNREACHABLE, f"HTTP {status}{where}", url=url, status=status, transient=transient
        )
    wrong = objection(
        response.headers, success=True, accepts=request.content_types, max_bytes=request.max_bytes
    )
    if wrong is not None:
        cause = Cause.TOO_LARGE if wrong.too_large else Cause.MALFORMED
        raise FetchError(cause, wrong.detail + where, url=url, status=status)


def _validators(response: Answer, url: str) -> Validators | None:
    several = response.headers.get_list
    return validators_of(url, etags=several("etag"), modified=several("last-modified"), dates=several("date"))


def _confirmed(known: KnownVersion, response: Answer, url: str) -> Fetched:
    if known.validators.are_denied_by(_validators(response, url)):
        detail = "HTTP 304 (not modified) of another version than was asked about"
        raise FetchError(Cause.UNREACHABLE, detail, url=url, status=response.status_code)
    return Fetched(raw=known.raw, validators=None, confirmed=True)


async def _read(request: FetchRequest, response: Answer, url: str, progress: Progress) -> bytes | LargeOctets:
    progress.step = "waiting for the body"
    body: bytes | LargeOctets | None
    if request.spool is None:
        body = await body_within(response, request.max_bytes, progress.receive)
    else:
        body = await spooled_within(response, request.max_bytes, progress.receive, request.spool)
    if body is None:
        detail = f"more than {request.max_bytes} bytes"
        raise FetchError(Cause.TOO_LARGE, detail, url=url, status=response.status_code)
    return body


async def _within(sending: Awaitable[Answer], left_s: float, url: str) -> Answer:
    """
    The head of an answer within its own time, which is a part of the whole.
    """
    try:
        async with asyncio.timeout(left_s):
            return await sending
    except TimeoutError:
        raise FetchError(Cause.TIMED_OUT, f"no head of an answer within {left_s:.1f} s", url=url) from None


async def _beginning(response: Answer, most: int) -> bytes:
    """
    What an error status brought along, as far as it came.
    """
    body = bytearray()
    with contextlib.suppress(
        httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError
    ):
        if most > 0:
            async for part in response.aiter_raw():
                body += part
                if len(body) >= most:
                    break
    return bytes(body[:most])
