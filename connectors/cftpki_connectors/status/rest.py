"""
The REST status source: one JSON lookup at the CA's own API, as `trust.rest` describes it.

Owns the request, and what an HTTP status means. What the answer says, and whether it speaks of the certificate
that was asked about, is `cftpki_ext.revocation`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from types import MappingProxyType

from cftpki_connectors.fetch.client import Fetcher
from cftpki_connectors.fetch.guard import guard_of
from cftpki_connectors.fetch.values import FetchError, FetchRequest
from cftpki_connectors.status.api import ApiClient
from cftpki_connectors.status.source import Answer, FetchingSource
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import SourceError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.source_settings import RestProfile
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.sources import StatusQuestion, StatusSource

_HEADERS = MappingProxyType({"Accept": "application/json"})
_NOT_FOUND = 404
_DENIED = frozenset({401, 403})
_ERROR_BYTES = 4 * 1024
_WORDS = 160


class RestSource(FetchingSource):
    """
    Asks a CA's JSON lookup by GET, with the credentials of `trust.rest.access`.

    By default an answer "not found" is the cause *unknown*: the CA does not know the serial number. Refused
    credentials are *unauthorized*. What the content type says is not looked at: JSON is what can be read as JSON.
    """

    kind = SourceKind.REST

    def __init__(self, clock: Clock, fetcher: Fetcher | None = None) -> None:
        super().__init__(clock, fetcher)
        self._api = ApiClient(clock, self._fetcher)

    async def aclose(self) -> None:
        """
        See `FetchingSource`.
        """
        await super().aclose()
        await self._api.aclose()

    def _sameness(self, question: StatusQuestion) -> Hashable:
        return (
            question.lookup.url,
            question.trust.rest,
            guard_of(question.trust),
            question.limits.rest_bytes,
            question.limits.redirects,
        )

    async def _fetch(self, question: StatusQuestion, deadline: float) -> Answer:
        request = FetchRequest(
            hear_time=question.hear_time,
            url=question.lookup.url,
            guard=guard_of(question.trust),
            deadline=deadline,
            max_bytes=question.limits.rest_bytes,
            redirects=question.limits.redirects,
            headers=_HEADERS,
            content_types=None,
            error_bytes=_ERROR_BYTES,
        )
        try:
            return Answer(raw=await self._api.fetch(request, question.trust))
        except FetchError as error:
            if error.status is None or error.cause is not Cause.UNREACHABLE:
                raise
            raise _told(error, error.status, question.trust.rest) from error


def _told(error: FetchError, status: int, profile: RestProfile | None) -> SourceError:
    """
    What an error status of the API means.
    """
    words = _words(error.body)
    said = f": {words}" if words else ""
    absent = frozenset({_NOT_FOUND}) if profile is None else profile.absent
    if status in _DENIED:
        return SourceError(
            Cause.UNAUTHORIZED, f"HTTP {status}, our credentials do not do{said}", url=error.url
        )
    if status in absent:
        if profile is not None and profile.name == "vault" and words:
            # Vault has no words for a serial that it does not know; it has some for a wrong mount.
            return SourceError(Cause.UNREACHABLE, f"HTTP {status}{said}", url=error.url)
        return SourceError(
            Cause.UNKNOWN, f"HTTP {status}, the serial is not known there{said}", url=error.url
        )
    return SourceError(error.cause, error.detail + said, url=error.url)


def _words(body: bytes) -> str:
    """
    The first words of an error's JSON body, as Vault and EJBCA write them; empty where there are none.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    errors = document.get("errors")
    found = errors[0] if isinstance(errors, list) and errors else document.get("error_message")
    return printable(found[:_WORDS].strip()) if isinstance(found, str) else ""


def create(clock: Clock) -> StatusSource:
    """
    The factory behind the entry point `rest` of `cftpki.status_sources`.
    """
    return RestSource(clock)
