"""
What an enroller and the HTTPS client say to each other: request, answer, error.

Owns these values and the few header fields that every protocol reads. No I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import MappingProxyType

import httpx

from cftpki_connectors.support.httpx_client import DETAIL_CHARACTERS, content_type
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Failed, Fault

# A chain with ten RSA-4096 certificates in PEM has 30 KiB; a CA's list of roots or provisioners is no longer.
MAX_BODY_BYTES = 1024 * 1024
# A CA's list of certificates: some roots of a rollover and their intermediates. A hundred are a mistake.
MAX_CERTIFICATES = 64
# `Retry-After` beyond this is a mistake: the order is taken up again after this long.
MAX_RETRY_AFTER = timedelta(days=30)

PROXY_AUTHENTICATION = 407


class CaError(CftPkiError):
    """
    No answer of the CA was had.

    `sent` says that the CA may have acted on the request nevertheless. `alert` is OpenSSL's name of the TLS
    alert with which the CA ended the session, as in `BAD_CERTIFICATE`; it then has not acted. `untrusted` says
    that the server's certificate does not lead to the roots, or is another host's.
    """

    def __init__(
        self,
        fault: Fault,
        detail: str,
        *,
        sent: bool = False,
        alert: str | None = None,
        untrusted: bool = False,
        retry_at: datetime | None = None,
    ) -> None:
        super().__init__(detail)
        self.fault = fault
        self.detail = detail
        self.sent = sent
        self.alert = alert
        self.untrusted = untrusted
        self.retry_at = retry_at

    def failed(self, step: str) -> Failed:
        """
        The outcome of an attempt that this ended, `step` being what was tried.
        """
        return Failed(fault=self.fault, detail=f"{step}: {self.detail}", retry_at=self.retry_at)


class Channel(enum.Enum):
    """
    What a request may travel over. Its value are the URL schemes.

    `ANY` is for protocols whose messages protect themselves, and for requests that everybody may read.
    """

    TLS = frozenset({"https"})
    ANY = frozenset({"https", "http"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CaRequest:
    """
    One request.

    By default nothing is followed and any content type but HTML counts. `accepts` names the content types of
    a success (lower case, without parameters); `redirects` how many redirects of a GET are followed, over the same
    `channel`. `max_bytes` bounds the body.
    """

    url: str
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    accepts: frozenset[str] = frozenset()
    max_bytes: int = MAX_BODY_BYTES
    redirects: int = 0
    channel: Channel = Channel.TLS


@dataclass(frozen=True, slots=True, kw_only=True)
class CaAnswer:
    """
    What came, whatever its status: success is the caller's to judge, but one that is HTML never gets here.
    """

    status: int
    headers: httpx.Headers
    body: bytes
    url: str  # where it came from, after redirects

    @property
    def content_type(self) -> str:
        """
        Lower case, without parameters; empty when there is none.
        """
        return content_type(self.headers)

    @property
    def date(self) -> datetime | None:
        """
        The CA's (or its proxy's) clock, RFC 9110 6.6.1.
        """
        return http_date(self.headers.get("date", ""))

    def retry_at(self, now: datetime) -> datetime | None:
        """
        What `Retry-After` asks for, in either form (RFC 9110 10.2.3).
        """
        return retry_after(self.headers.get("retry-after", ""), now, date=self.date)


def http_date(text: str) -> datetime | None:
    """
    An HTTP date as aware UTC; `None` for what is none.
    """
    try:
        parsed = parsedate_to_datetime(text[:64])
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def retry_after(text: str, now: datetime, *, date: datetime | None = None) -> datetime | None:
    """
    When `Retry-After` lets us come back: seconds or a date, never before `now`, at most `MAX_RETRY_AFTER` on.

    A date is one of the CA's clock, which said `date` when ours said `now`; by default they agree.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return now + min(timedelta(seconds=int(text[:9])), MAX_RETRY_AFTER)
    at = http_date(text)
    return None if at is None else now + min(max(at - (date or now), timedelta(0)), MAX_RETRY_AFTER)


def status_fault(answer: CaAnswer, now: datetime) -> tuple[Fault, datetime | None]:
    """
    What an HTTP error status means where the protocol says nothing more exact.
    """
    if answer.status == httpx.codes.TOO_MANY_REQUESTS:
        return Fault.RATE_LIMITED, answer.retry_at(now)
    if answer.status >= 500 or answer.status == httpx.codes.REQUEST_TIMEOUT:
        return Fault.UNREACHABLE, answer.retry_at(now)
    if answer.status == PROXY_AUTHENTICATION:
        return Fault.MISCONFIGURED, None
    return Fault.REFUSED, None


def unknown_reason(reason: str, known: Iterable[str]) -> Failed:
    """
    The outcome of a revocation for a reason that the CA does not know.

    Args:
        reason: as the operator wrote it.
        known: those that it knows.

    """
    detail = f"no reason {printable(reason)!r}; known: {', '.join(known)}"
    return Failed(fault=Fault.MISCONFIGURED, detail=detail)


def printable(text: str) -> str:
    """
    A foreign text for logs and evidence: one printable line, at most `DETAIL_CHARACTERS` and an ellipsis.
    """
    return excerpt(text, DETAIL_CHARACTERS)
