"""
The CRL status source: lists by HTTP, from directories (RFC 5280 4.2.1.13, RFC 4523), and from the files of a trust set.

Owns where lists come from and PEM to DER. Judges nothing, keeps nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Hashable
from pathlib import Path
from types import MappingProxyType

from cftpki_connectors.fetch.client import Fetcher
from cftpki_connectors.fetch.guard import guard_of
from cftpki_connectors.fetch.ldap_url import is_ldap
from cftpki_connectors.fetch.values import Fetched, FetchError, FetchRequest
from cftpki_connectors.ldap.client import Directory, LdapRequest
from cftpki_connectors.status import encoding
from cftpki_connectors.status.api import ApiClient
from cftpki_connectors.status.source import Answer, FetchingSource
from cftpki_connectors.support.threads import MAX_THREADS, Lane
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import SourceError
from cftpki_ext.core.large_lists import Spool, Spooling
from cftpki_ext.core.memo import Memo
from cftpki_ext.core.octets import LargeOctets, UnreadableOctetsError
from cftpki_ext.core.values import replace
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.sources import StatusQuestion, StatusSource
from cftpki_ext.support.guarded import Guard

_HEADERS = MappingProxyType({"Accept": "application/pkix-crl, application/octet-stream;q=0.9, */*;q=0.1"})
_PIECE_BYTES = 1024 * 1024
# What is shown of an answer that is no list.
_HEAD_OCTETS = 64 * 1024
_NOT_MODIFIED = 304
# What a list costs in memory that is in a file of ours: its descriptors.
_HELD_OCTETS = 4 * 1024
# Files that are kept, by octets: one of the largest lists, or many usual ones. What is not kept is read again.
_KEPT_OCTETS = 80 * 1024 * 1024


class CrlSource(FetchingSource):
    """
    Gets CRLs.

    A location that is one of `trust.crl_files`, letter by letter, is read from there; `file:` URLs never are,
    whoever names them. One that `trust.rest` names is asked as a CA's API is (`_api`). Headers say
    nothing of a list, which is signed (web servers seldom know `application/pkix-crl`). A list that
    is known already is got again only where its location has another (RFC 9110 13). A host must begin
    to answer within `limits.request_ms`; its list may take as long as the handshake has. An entry of a directory may hold
    several lists (of several keys of a CA): each is a statement of its own.
    """

    kind = SourceKind.CRL
    whole_budget = True

    def __init__(
        self, clock: Clock, fetcher: Fetcher | None = None, directory: Directory | None = None
    ) -> None:
        super().__init__(clock, fetcher)
        self._api = ApiClient(clock, self._fetcher)
        self._directory = directory or Directory(monotonic=clock.monotonic)
        self._files = _Files()
        self._reading = Lane(MAX_THREADS, "reading CRL files")

    async def aclose(self) -> None:
        """
        See `FetchingSource`.
        """
        await super().aclose()
        await self._api.aclose()
        await self._directory.aclose()

    def _sameness(self, question: StatusQuestion) -> Hashable:
        return (
            question.lookup.url,
            question.trust.crl_files,
            question.trust.rest if question.trust.api_crls else None,
            question.trust.ldap,
            guard_of(question.trust),
            question.limits.crl_bytes,
            question.limits.redirects,
        )

    async def _fetch(self, question: StatusQuestion, deadline: float) -> Answer:
        url = question.lookup.url
        validators, confirmed = None, False
        path = next((path for path in question.trust.crl_files if str(path) == url), None)
        if path is not None:
            # One thread for a file, however many ask: one on a dead file server holds up no other.
            most, spool = question.limits.crl_bytes, question.spool
            raw = await self._reading.call(lambda: self._files.read(path, most, spool), (path, most))
        elif is_ldap(url):
            return await self._from_directory(question, deadline)
        else:
            request = FetchRequest(
                hear_time=question.hear_time,
                url=url,
                guard=guard_of(question.trust),
                deadline=deadline,
                max_bytes=question.limits.crl_bytes,
                redirects=question.limits.redirects,
                headers=_HEADERS,
                content_types=None,
                head_by=self._clock.monotonic() + question.limits.request_ms / 1000,
            )
            if url in question.trust.api_crls and question.trust.rest is not None:
                raw = await self._api.fetch(request, question.trust)
            else:
                fetched = await self._version(replace(request, spool=question.spool, known=question.known))
                raw, validators = fetched.raw, fetched.validators
                confirmed = fetched.confirmed
        der = raw if confirmed else await self._der(raw, url)
        if der is None:
            head = raw if isinstance(raw, bytes) else raw.read(0, _HEAD_OCTETS)
            raise SourceError(Cause.UNREADABLE, encoding.what_it_is(head, "CRL in DER or PEM"), url=url)
        if validators is not None and question.hear_validators is not None:
            question.hear_validators(validators)
        return Answer(raw=der)

    async def _version(self, request: FetchRequest) -> Fetched:
        """
        What a location has; asked for whole, once, where it confirms what it was not asked about.
        """
        if request.known is not None and len(request.known.raw) <= request.max_bytes:
            try:
                return await self._whole(request)
            except FetchError as error:
                if error.status != _NOT_MODIFIED:
                    raise
        return await self._whole(replace(request, known=None))

    async def _whole(self, request: FetchRequest) -> Fetched:
        try:
            return await self._fetcher.fetch_version(request)
        except OSError as error:
            detail = f"no place for the list: {error.strerror or error}"
            raise SourceError(Cause.UNREACHABLE, detail, url=request.url) from error

    @staticmethod
    async def _der(raw: bytes | LargeOctets, url: str) -> bytes | LargeOctets | None:
        if isinstance(raw, bytes):
            return encoding.crl_der(raw)
        try:
            return await asyncio.to_thread(encoding.large_crl, raw)
        except UnreadableOctetsError as error:
            raise SourceError(Cause.UNREACHABLE, str(error), url=url) from error

    async def _from_directory(self, question: StatusQuestion, deadline: float) -> Answer:
        url = question.lookup.url
        values = await self._directory.fetch(
            LdapRequest(
                url=url,
                trust=question.trust.name,
                guard=guard_of(question.trust),
                access=question.trust.ldap,
                deadline=deadline,
                max_bytes=question.limits.crl_bytes,
            )
        )
        # What AD CS puts there before its first list is a value, and none of a list.
        lists = tuple(dict.fromkeys(der for value in values if (der := encoding.crl_der(value)) is not None))
        if not lists:
            raise SourceError(Cause.UNREADABLE, encoding.what_it_is(values[0], "CRL in DER"), url=url)
        return Answer(raw=lists[0], also=lists[1:])


class _Files:
    """
    CRL files as they are now: one that has not changed since it was read is not read again.
    """

    def __init__(self) -> None:
        self._read: Memo[Path, tuple[tuple[int, ...], bytes | LargeOctets]] = Memo(_KEPT_OCTETS)

    def read(self, path: Path, max_bytes: int, spool: Spool | None = None) -> bytes | LargeOctets:
        """
        See `read_crl_file`; a large one is copied to where large octets are put.
        """
        before = _stamp(path)
        kept = self._read.get(path)
        if kept is not None and before == kept[0] and len(kept[1]) <= max_bytes:
            return kept[1]
        with contextlib.ExitStack() as stack:
            spooling = None
            if spool is not None and before is not None and before[2] > _PIECE_BYTES:
                spooling = spool.begin()
                stack.callback(spooling.close)
            raw: bytes | LargeOctets = read_crl_file(path, max_bytes, spooling)
            if spooling is not None:
                raw = spooling.finish()
        if before is not None and before == _stamp(path):
            self._read.keep(path, (before, raw), _HELD_OCTETS if isinstance(raw, LargeOctets) else len(raw))
        return raw


def _stamp(path: Path) -> tuple[int, ...] | None:
    """
    What changes when a file's content does, or another file takes its place.
    """
    try:
        state = path.stat()
    except OSError:
        return None
    return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def read_crl_file(path: Path, max_bytes: int, spooling: Spooling | None = None) -> bytes:
    """
    Read a CRL file as it is.

    Symbolic links are followed (administrators use them to switch lists), but only a regular file is read: a
    FIFO or a device would hang or never end.

    Args:
        path: the file.
        max_bytes: the largest size that is read.
        spooling: takes the content, and nothing is returned of it.

    Returns:
        The content, PEM or DER.

    Raises:
        SourceError: not there, not readable, not a regular file, too large, or others could have written it.

    """
    try:
        # O_NONBLOCK: opening a FIFO without a writer must not hang before it can be looked at.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(number, "rb", buffering=0) as file:  # noqa: PTH123  # pathlib opens no descriptors
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise SourceError(Cause.UNREACHABLE, "not a regular file", url=str(path))
            why = Guard().fault(path)
            if why is not None:
                raise SourceError(Cause.UNREACHABLE, why, url=str(path))
            content, octets = bytearray(), 0
            while piece := file.read(min(_PIECE_BYTES, max_bytes + 1 - octets)):
                octets += len(piece)
                if octets > max_bytes:
                    raise SourceError(Cause.TOO_LARGE, f"more than {max_bytes} bytes", url=str(path))
                if spooling is None:
                    content += piece
                else:
                    spooling.write(piece)
            return bytes(content)
    except OSError as error:
        detail = f"cannot be read: {error.strerror}"
        raise SourceError(Cause.UNREACHABLE, detail, url=str(path)) from error


def create(clock: Clock) -> StatusSource:
    """
    The factory behind the entry point `crl` of `cftpki.status_sources`.
    """
    return CrlSource(clock)
