"""
How this package uses httpx: what both HTTP clients, of responders (`fetch`) and of CAs (`ca`), do alike.

Owns TLS as a client, the headers that say who asks, what may be wrong with an answer's head, and bounded bodies. Maps
nothing to causes or faults, and raises nothing of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.cookiejar
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Protocol, Self

from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.large_lists import Spool, Spooling
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.values import dataclass

REDIRECTS = frozenset({301, 302, 303, 307, 308})
HEADERS: Mapping[str, str] = MappingProxyType(
    {"User-Agent": "cftpki", "Accept-Encoding": "identity", "Accept": "*/*"}
)
# More of a body than this is put together outside Python's memory.
_MANY_OCTETS = 1024 * 1024
# What of a foreign text goes into a detail.
DETAIL_CHARACTERS = 200

# What servers write that encode nothing: identity (RFC 9110 8.4), and words of MIME.
_IDENTITY = frozenset({"", "identity", "none", "binary", "8bit", "7bit"})
_HTML = frozenset({"text/html", "application/xhtml+xml"})
# Names of media types and encodings have less.
_NAME_CHARACTERS = 80


class Head(Protocol):
    """
    The fields of an answer's head (`httpx.Headers`, `fetch.fields.Fields`).
    """

    def get(self, name: str, default: str) -> str:
        """
        What a field says, its name in lower case.
        """


class Body(Protocol):
    """
    An answer whose body is still to come (`httpx.Response`, `fetch.network.Answer`).
    """

    def aiter_raw(self) -> AsyncIterator[bytes]:
        """
        The body as it comes over the wire, undecoded.
        """


@dataclass(frozen=True, slots=True)
class Objection:
    """
    Why the body of an answer is not looked at; `too_large` where it is for its announced length alone.
    """

    detail: str
    too_large: bool = False


def client_tls() -> ssl.SSLContext:
    """
    TLS 1.2 or newer that trusts nobody yet, the same with every version of Python.

    Any certificate that will be trusted is an anchor, self-signed or not, and OpenSSL's optional strictness about
    the form of CA certificates is off: many private roots lack key identifiers.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    # Apache with SSLVerifyClient in a Location asks for a client certificate after the handshake (RFC 8446 4.6.2), and
    # only of who said before that he can be asked.
    context.post_handshake_auth = True
    return context


def unverified_tls() -> ssl.SSLContext:
    """
    TLS towards whoever answers: only for what carries its own proof, and for requests without secrets.
    """
    context = client_tls()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def private_tls(roots: tuple[bytes, ...]) -> ssl.SSLContext:
    """
    TLS that trusts some roots (DER) and nobody else; nobody at all where OpenSSL cannot use them.
    """
    context = client_tls()
    with contextlib.suppress(ssl.SSLError):
        context.load_verify_locations(cadata=b"".join(roots))
    return context


@functools.cache
def system_tls() -> ssl.SSLContext:
    """
    TLS by the system's trust store, one for this process; trusts nobody before `load_system_trust`.
    """
    return client_tls()


@functools.cache
def load_system_trust() -> None:
    """
    Read the system's trust store, once: it takes some 50 ms, and many processes never ask by https.
    """
    system_tls().load_default_certs()


def no_cookies() -> http.cookiejar.CookieJar:
    """
    A jar that keeps nothing.
    """
    return http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=()))


def content_type(headers: Head) -> str:
    """
    Lower case, without parameters; empty when there is none.
    """
    return str(headers.get("content-type", "")).partition(";")[0].strip().lower()


def server_time(headers: Head) -> datetime | None:
    """
    What time a server says it is, to the second: its Date, and how long caches on the way have had the answer.

    RFC 9110 6.6.1, RFC 9111 5.1. Anybody's word, good for a hint only.

    Args:
        headers: as they came.

    Returns:
        Aware, in UTC; `None` where it does not say.

    """
    age = headers.get("age", "0").strip()
    try:
        said = parsedate_to_datetime(headers.get("date", "")[:64])
        said += timedelta(seconds=int(age[:9]) if age.isascii() and age.isdigit() else 0)
        return said.replace(tzinfo=UTC) if said.tzinfo is None else said.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def objection(
    headers: Head, *, success: bool, accepts: frozenset[str] | None, max_bytes: int
) -> Objection | None:
    """
    Judge the head of an answer.

    Args:
        headers: as they came.
        success: whether the status promises what was asked for; an error's content type is anything.
        accepts: the content types of a success (lower case, without parameters); empty for any but HTML, `None` where
            neither type nor encoding say anything, because the body proves itself.
        max_bytes: how many octets of body are read at the most.

    Returns:
        What is wrong, or `None`.

    """
    kind = content_type(headers)
    signed = success and accepts is None
    if success and not signed and kind in _HTML:
        return Objection("an HTML page, perhaps of a proxy or a portal")
    if success and accepts and kind and kind not in accepts:
        return Objection(f"content type {excerpt(kind, _NAME_CHARACTERS)!r}")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in _IDENTITY and not signed:
        return Objection(f"content encoding {excerpt(encoding, _NAME_CHARACTERS)!r}, which was not asked for")
    announced = headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > max_bytes:
        return Objection(f"{announced[:20]} bytes announced, {max_bytes} allowed", too_large=True)
    return None


async def body_within(
    response: Body, max_bytes: int, progress: Callable[[int], None] | None = None
) -> bytes | None:
    """
    The body as it comes over the wire, undecoded.

    Args:
        response: whose head was read.
        max_bytes: how long the body may be.
        progress: is told how many octets there are, after each piece.

    Returns:
        The whole body, or `None` as soon as it is longer.

    """
    with _Body() as body:
        async for part in response.aiter_raw():
            if body.octets + len(part) > max_bytes:
                return None
            body.add(part)
            if progress is not None:
                progress(body.octets)
        return await body.whole()


async def spooled_within(
    response: Body, max_bytes: int, progress: Callable[[int], None], spool: Spool
) -> bytes | LargeOctets | None:
    """
    The body as it comes over the wire; a large one is written to where large octets are put, and hashed, while it comes.

    Args:
        response: whose head was read.
        max_bytes: how long the body may be.
        progress: is told how many octets there are, after each piece.
        spool: where large octets are put.

    Returns:
        The body, or `None` as soon as it is longer.

    Raises:
        OSError: nothing takes it.

    """
    octets, waiting = 0, bytearray()
    spooling: Spooling | None = None
    try:
        async for part in response.aiter_raw():
            octets += len(part)
            if octets > max_bytes:
                return None
            waiting += part
            if len(waiting) > _MANY_OCTETS:
                if spooling is None:
                    spooling = await asyncio.to_thread(spool.begin)
                piece, waiting = waiting, bytearray()
                await asyncio.to_thread(spooling.write, piece)
            progress(octets)
        if spooling is None:
            return bytes(waiting)
        await asyncio.to_thread(spooling.write, waiting)
        return await asyncio.to_thread(spooling.finish)
    finally:
        if spooling is not None:
            spooling.close()


class _Body:
    """
    Octets as they come: a few in memory, many in a file of memory (memfd_create(2)).

    What is read from a file is copied without Python's lock; putting fifty megabytes together would stop everybody else.
    """

    def __init__(self) -> None:
        self.octets = 0
        self._parts = bytearray()
        self._file: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def add(self, part: bytes) -> None:
        self.octets += len(part)
        if self._file is None and self.octets <= _MANY_OCTETS:
            self._parts += part
            return
        if self._file is None:
            self._file = os.memfd_create("cftpki-body", os.MFD_CLOEXEC)
            self._write(self._parts)
        self._write(part)

    async def whole(self) -> bytes:
        """
        All of them.
        """
        if self._file is None:
            return bytes(self._parts)
        return await asyncio.to_thread(os.pread, self._file, self.octets, 0)

    def _write(self, part: bytes | bytearray) -> None:
        rest = memoryview(part)
        while rest and self._file is not None:
            rest = rest[os.write(self._file, rest) :]


def tls_errors(error: BaseException) -> tuple[ssl.SSLError, ...]:
    """
    What OpenSSL said below an exception of httpx or httpcore, outermost first.
    """
    found = []
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ssl.SSLError):
            found.append(link)
        link = link.__cause__ or link.__context__
    return tuple(found)
