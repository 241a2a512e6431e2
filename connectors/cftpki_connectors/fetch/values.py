"""
What a status source and the HTTP client say to each other: a request, and why nothing was fetched.

Owns these values. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from cftpki_connectors.fetch.guard import Guard
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import SourceError
from cftpki_ext.core.large_lists import Spool
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.validators import Validators
from cftpki_ext.core.values import dataclass

if TYPE_CHECKING:
    from cftpki_ext.ports.sources import KnownVersion


class FetchError(SourceError):
    """
    Nothing usable was fetched. `status` is the HTTP status where there was one; `transient` asks for another try.

    `body` is the beginning of what came with an error status: a stranger's words.
    """

    def __init__(
        self, cause: Cause, detail: str, *, url: str, status: int | None = None, transient: bool = False
    ) -> None:
        super().__init__(cause, detail, url=url)
        self.status = status
        self.transient = transient
        self.body = b""  # of an error status, where the request asked for it


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """
    One thing to fetch: where, by whose permission, how much at most and until when.

    `deadline` is in monotonic seconds and holds for everything together: queueing, DNS, connecting, redirects,
    repetitions, reading. `head_by` bounds the wait for the head of an answer alone, so that a long body may take
    longer than a dead host. `max_bytes` bounds the body. `content_types` are those that count (empty: any but
    HTML; `None`: the headers say nothing of a body that is signed). `secret_headers` go to the origin of `url` only, never where a redirect leads. Of the body of an error
    status the first `error_bytes` are kept. With `repeat_status` a status 5xx or 429 is asked again, as a broken connection is. `hear_time` is told the origin of each server that answers, and its time. A large body
    goes to `spool`, for those who ask by `Fetcher.fetch_large`. The location that sent `known`, and no other, is asked whether it
    has another version, for those who ask by `Fetcher.fetch_version`.
    """

    url: str
    guard: Guard
    deadline: float
    max_bytes: int
    redirects: int
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    content_types: frozenset[str] | None = frozenset()
    secret_headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    error_bytes: int = 0
    head_by: float | None = None
    hear_time: Callable[[str, datetime], None] | None = None
    repeat_status: bool = True
    spool: Spool | None = None
    known: KnownVersion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """
    A body, and what was said of its version.

    `confirmed` where it is the known one, of which there is no other (HTTP 304): then nothing new was said.
    """

    raw: bytes | LargeOctets
    validators: Validators | None
    confirmed: bool = False
