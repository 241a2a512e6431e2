"""
The guarded LDAP client: what a CA has published in a directory, and what one says of a partner (RFC 4511, 4516, 4523).

Owns one question at one server after the other: permission, the wall clock, and who is told who we are. What is said
is `link`'s business, connections and gates are those of `fetch`. Judges no content.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import httpcore

from cftpki_connectors.fetch.attempts import Progress, mapped, repeated, visited
from cftpki_connectors.fetch.gate import Gates
from cftpki_connectors.fetch.guard import Guard
from cftpki_connectors.fetch.ldap_url import LdapUrl, Published, parse_ldap_url, parse_search, parse_server
from cftpki_connectors.fetch.network import GuardedBackend
from cftpki_connectors.fetch.resolve import Resolver, SystemResolver
from cftpki_connectors.fetch.url import ForbiddenUrlError, Target
from cftpki_connectors.fetch.values import FetchError
from cftpki_connectors.fetch.wire import WireBackend
from cftpki_connectors.ldap.access import Contexts, Login, UnusableFileError, is_ours, login_of
from cftpki_connectors.ldap.link import Link
from cftpki_connectors.ldap.messages import Answers
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.ldap_ber import AnswerError
from cftpki_ext.core.source_settings import LdapAccess
from cftpki_ext.core.values import dataclass

T = TypeVar("T")

# A password that a directory has refused is not offered again for so long, unless the file holds another by then: it
# counts them, and locks the account after some (often five or ten in half an hour).
REFUSED_S = 600.0
# RFC 4511 appendix A.
_INVALID_CREDENTIALS = 49


@dataclass(frozen=True, slots=True, kw_only=True)
class LdapRequest:
    """
    One thing to get from directories: where, by whose permission, how much at most and until when.

    `deadline` is in monotonic seconds and holds for all servers together. `max_bytes` bounds all values together.
    `trust` is the name of the trust set, for messages.
    """

    url: str
    trust: str
    guard: Guard
    access: LdapAccess | None
    deadline: float
    max_bytes: int
    wanted: Published = Published.LISTS


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """
    One search at the servers of `access`, one after the other: what, by whose permission, how much at most and until when.

    `url` names no host. `guard` permits the servers. The other fields are those of `LdapRequest`.
    """

    url: str
    trust: str
    guard: Guard
    access: LdapAccess
    deadline: float
    max_bytes: int
    plain: bool = False  # believe what comes without TLS


class Directory:
    """
    Gets what CAs have published in directories, and entries as they are there, or says why not.

    By default nobody says who we are, each question has a connection of its own, and of the servers for locations
    without a host each is given its share of the time that is left. Referrals are never followed, aliases not
    dereferenced, no server is looked for by DNS SRV.

    Args:
        resolver: how names become addresses; by default the system's way, for each trust set in threads of its own.
        network: what opens sockets to an address; by default TCP of this machine.
        monotonic: seconds that only ever grow, the clock of `LdapRequest.deadline`.

    """

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = resolver
        self._network = network or WireBackend()
        self._monotonic = monotonic
        self._shares: dict[Guard, _Share] = {}
        self._contexts = Contexts()
        self._refused: dict[Login, float] = {}  # when, in monotonic seconds

    async def fetch(self, request: LdapRequest) -> tuple[bytes, ...]:
        """
        Get the values of one location.

        Args:
            request: what, where, how much and until when.

        Returns:
            The values, at least one, none twice, none empty.

        Raises:
            FetchError: with the cause for the policy table.

        """
        if request.access is None or request.guard.directories is None:
            detail = f"LDAP is not allowed: a table [trust.{request.trust}.ldap] permits it"
            raise FetchError(Cause.FORBIDDEN_URL, detail, url=request.url)
        try:
            url = parse_ldap_url(request.url, request.wanted)
            targets = _targets(url, request.access, request.trust)
            for target in targets:
                request.guard.of_directories.check(target)
        except ForbiddenUrlError as error:
            raise FetchError(Cause.FORBIDDEN_URL, str(error), url=request.url) from error
        wanted = request.wanted
        return await self._at_one_of(
            targets,
            _Question(
                told=request.url,
                table=f"trust.{request.trust}.ldap",
                access=request.access,
                guard=request.guard,
                max_bytes=request.max_bytes,
                put=lambda link, seconds: link.search(url, wanted, seconds),
            ),
            request.deadline,
        )

    async def search(self, request: SearchRequest) -> bytes:
        """
        Have a search answered, by the first server that does.

        Args:
            request: what, where, how much and until when.

        Returns:
            The messages of the answer as they came: entries, references and the end. That nothing was found, that there is
            no such base, and that there is more than was asked for, are answers.

        Raises:
            FetchError: no server gave one; with the cause for the policy table.

        """
        try:
            search = parse_search(request.url)
            targets = _servers(request)
        except ForbiddenUrlError as error:
            raise FetchError(Cause.FORBIDDEN_URL, str(error), url=request.url) from error
        return await self._at_one_of(
            targets,
            _Question(
                told=request.url,
                table=f"trust.{request.trust}.directory",
                access=request.access,
                guard=request.guard,
                max_bytes=request.max_bytes,
                put=lambda link, seconds: link.entries(search, seconds),
                unread=True,
            ),
            request.deadline,
        )

    async def _at_one_of(self, targets: tuple[Target, ...], question: _Question[T], deadline: float) -> T:
        """
        What the first server has that answers; each is given its share of the time that is left.
        """
        for number, target in enumerate(targets[:-1]):
            left_s = deadline - self._monotonic()
            try:
                return await self._at(question, target, left_s / (len(targets) - number))
            except FetchError as error:
                if error.cause is Cause.TOO_LARGE:
                    raise
        return await self._at(question, targets[-1], deadline - self._monotonic())

    async def aclose(self) -> None:
        """
        Wait for no name.
        """
        while self._shares:
            await self._shares.popitem()[1].aclose()

    async def _at(self, question: _Question[T], target: Target, left_s: float) -> T:
        """
        What one server has, within its share of the time.
        """
        progress = Progress()
        until = self._monotonic() + left_s
        share = self._share(question.guard)
        try:
            if left_s <= 0:
                raise TimeoutError  # noqa: TRY301  # the same answer as when it runs out on the way
            async with asyncio.timeout(left_s):
                return await repeated(
                    lambda: visited(
                        share.gates,
                        target,
                        lambda: self._asked(question, target, share, progress, until),
                        progress=progress,
                        deadline=until,
                        monotonic=self._monotonic,
                    ),
                    left_s=left_s,
                )
        except TimeoutError:
            detail = f"{target.origin}: no whole answer within {max(left_s, 0):.1f} s, {progress}"
            raise FetchError(Cause.TIMED_OUT, detail, url=question.told) from None

    async def _asked(
        self, question: _Question[T], target: Target, share: _Share, progress: Progress, until: float
    ) -> T:
        """
        See `_ask`; a failure names the server, which the location need not do.
        """
        try:
            return await self._ask(question, target, share, progress, until)
        except FetchError as error:
            raise FetchError(
                error.cause,
                f"{target.origin}: {error.detail}",
                url=error.url or "",
                status=error.status,
                transient=error.transient,
            ) from error

    async def _ask(
        self, question: _Question[T], target: Target, share: _Share, progress: Progress, until: float
    ) -> T:
        access, table = question.access, question.table
        url = str(target)
        ours = is_ours(access, target)
        secure = target.scheme == "ldaps" or access.starttls
        try:
            login = await login_of(access, table) if ours else None
            tls = None
            if secure:
                tls = await self._contexts.of(access, question.guard.https_roots, ours=ours, table=table)
        except UnusableFileError as error:
            raise FetchError(Cause.UNREACHABLE, str(error), url=url) from error
        if login is not None and self._is_refused(login):
            detail = f"the password of {login.dn} was refused within the last {REFUSED_S:.0f} s: it is not offered again"
            raise FetchError(Cause.UNAUTHORIZED, detail, url=url)
        if login is not None and tls is None:
            detail = "who we are is told by TLS only: ldaps, or `starttls = true`"
            raise FetchError(Cause.FORBIDDEN_URL, detail, url=url)
        progress.step = f"connecting to {target.origin}"
        with mapped(url):
            stream = await share.backend.connect_tcp(target.host, target.port)
            link = Link(stream, Answers(question.max_bytes, unread=question.unread), progress, url)
            try:
                if tls is not None:
                    progress.step = f"beginning TLS with {target.origin}"
                    if target.scheme == "ldap":
                        await link.start_tls()
                    link.stream = await link.stream.start_tls(tls, target.host)
                if login is not None:
                    progress.step = "waiting for the answer to our bind"
                    await self._bound(link, login)
                progress.step = "waiting for the answer"
                return await question.put(link, max(1, math.ceil(until - self._monotonic())))
            except AnswerError as error:
                cause = Cause.TOO_LARGE if error.too_large else Cause.UNREADABLE
                detail = f"{error}, {question.max_bytes} bytes allowed" if error.too_large else str(error)
                raise FetchError(cause, detail, url=url, status=0) from error
            finally:
                await link.stream.aclose()

    async def _bound(self, link: Link, login: Login) -> None:
        """
        Say who we are, and remember a password that is refused.
        """
        try:
            await link.bind(login)
        except FetchError as error:
            if error.status == _INVALID_CREDENTIALS and login.password is not None:
                now = self._monotonic()
                self._refused = {one: at for one, at in self._refused.items() if now < at + REFUSED_S}
                self._refused[login] = now
            raise

    def _is_refused(self, login: Login) -> bool:
        at = self._refused.get(login)
        return at is not None and self._monotonic() < at + REFUSED_S

    def _share(self, guard: Guard) -> _Share:
        share = self._shares.get(guard)
        if share is None:
            own = SystemResolver() if self._resolver is None else None
            resolver = own or self._resolver or SystemResolver()
            backend = GuardedBackend(guard.of_directories, resolver, self._network)
            share = self._shares[guard] = _Share(backend, Gates(self._monotonic), own)
        return share


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question(Generic[T]):
    """
    What is asked at one server after the other: `put` does it over a link, and is told how many seconds there are.

    `table` is where the configuration says how.
    """

    told: str
    table: str
    access: LdapAccess
    guard: Guard
    max_bytes: int
    put: Callable[[Link, int], Awaitable[T]]
    unread: bool = False


@dataclass(frozen=True, slots=True)
class _Share:
    """
    What one trust set's permissions have for themselves, as for HTTP.
    """

    backend: GuardedBackend
    gates: Gates
    resolver: SystemResolver | None

    async def aclose(self) -> None:
        if self.resolver is not None:
            await self.resolver.aclose()


def _servers(request: SearchRequest) -> tuple[Target, ...]:
    """
    The servers of a search, each permitted.
    """
    targets = tuple(map(parse_server, request.access.servers))
    for target in targets:
        request.guard.of_directories.check(target)
    if not targets:
        msg = "no server is configured"
        raise ForbiddenUrlError(msg)
    if not (request.plain or request.access.starttls or all(one.scheme == "ldaps" for one in targets)):
        msg = "an answer without TLS is believed only with unsafe_plain_ldap"
        raise ForbiddenUrlError(msg)
    return targets


def _targets(url: LdapUrl, access: LdapAccess, trust: str) -> tuple[Target, ...]:
    """
    Which servers are asked, in this order.
    """
    found = (url.at,) if url.at is not None else tuple(map(parse_server, access.servers))
    if not found:
        msg = f"names no server, and none is configured: set servers in [trust.{trust}.ldap]"
        raise ForbiddenUrlError(msg)
    return found
