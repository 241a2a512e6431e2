"""
The REST status source: one JSON lookup at the CA's own API, as `trust.rest` describes it.

Owns the request alone. What the answer says, and whether it speaks of the certificate that was asked about, is
`cftpki_ext.revocation`'s business.
"""

from __future__ import annotations

from collections.abc import Hashable
from types import MappingProxyType

from cftpki_ext.causes import Cause
from cftpki_ext.errors import SourceError
from cftpki_ext.model import SourceKind
from cftpki_ext.ports import Clock, StatusQuestion, StatusSource
from connectors._guard import guard_of
from connectors._http import FetchError, FetchRequest
from connectors._source import Answer, FetchingSource

_HEADERS = MappingProxyType({"Accept": "application/json"})
_TYPES = frozenset({"application/json"})
_NOT_FOUND = 404


class RestSource(FetchingSource):
    """
    Asks a CA's JSON lookup by GET, without credentials.

    An answer "not found" is the cause *unknown*: the CA does not know the serial number. Anything but JSON by
    its content type is malformed.
    """

    kind = SourceKind.REST

    def _sameness(self, question: StatusQuestion) -> Hashable:
        return (
            question.lookup.url,
            guard_of(question.trust),
            question.limits.rest_bytes,
            question.limits.redirects,
        )

    async def _fetch(self, question: StatusQuestion, deadline: float) -> Answer:
        request = FetchRequest(
            url=question.lookup.url,
            guard=guard_of(question.trust),
            deadline=deadline,
            max_bytes=question.limits.rest_bytes,
            redirects=question.limits.redirects,
            headers=_HEADERS,
            content_types=_TYPES,
        )
        try:
            return Answer(raw=await self._fetcher.fetch(request))
        except FetchError as error:
            if error.status == _NOT_FOUND:
                raise SourceError(
                    Cause.UNKNOWN, "HTTP 404: the serial is not known there", url=error.url
                ) from error
            raise


def create(clock: Clock) -> StatusSource:
    """
    The factory behind the entry point `rest` of `cftpki.status_sources`.
    """
    return RestSource(clock)
