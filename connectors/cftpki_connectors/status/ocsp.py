"""
The OCSP status source: one question to one responder over HTTP (RFC 6960 appendix A, RFC 5019 section 5).

Owns GET or POST, the nonce, and which answers are worth a second try. Judges nothing: what was signed by whom
is `cftpki_ext.revocation`'s business.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Hashable
from types import MappingProxyType
from urllib.parse import quote

from cftpki_connectors.fetch.guard import guard_of
from cftpki_connectors.fetch.values import FetchError, FetchRequest
from cftpki_connectors.status import encoding
from cftpki_connectors.status.source import Answer, FetchingSource
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import NonceMode
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.ports import Clock, StatusQuestion, StatusSource
from cftpki_ext.revocation.ocsp_request import build_request

# RFC 5019 section 5: the whole URL, scheme and host included, for a GET that caches may answer.
GET_BYTES = 255
# RFC 9654 2.1: a client sends at least 32 octets; responders of RFC 8954's time take no more than 32.
NONCE_BYTES = 32

_REQUEST_TYPE = "application/ocsp-request"
_RESPONSE_TYPE = "application/ocsp-response"
_GET_HEADERS = MappingProxyType({"Accept": _RESPONSE_TYPE})
_POST_HEADERS = MappingProxyType({"Accept": _RESPONSE_TYPE, "Content-Type": _REQUEST_TYPE})


class OcspSource(FetchingSource):
    """
    Asks OCSP responders.

    By default a nonce is sent (`trust.nonce`), and such a request is a POST, since no cache may answer it.
    Without a nonce it is a GET where the URL stays within 255 bytes. A GET that is answered by an HTTP error,
    by something malformed or by an unsigned error is repeated once as POST within the same deadline: caches
    and gateways between us and the responder spoil GETs, and responders without GET exist.
    """

    kind = SourceKind.OCSP

    def _sameness(self, question: StatusQuestion) -> Hashable:
        return (
            question.lookup.url,
            question.certificate.digest,
            question.issuer.digest,
            guard_of(question.trust),
            question.trust.nonce,
            question.limits.ocsp_bytes,
            question.limits.redirects,
        )

    async def _fetch(self, question: StatusQuestion, deadline: float) -> Answer:
        nonce = None if question.trust.nonce is NonceMode.OFF else secrets.token_bytes(NONCE_BYTES)
        encoded = build_request(question.certificate, question.issuer, nonce=nonce)
        url = get_url(question.lookup.url, encoded) if nonce is None else None
        if url is None:
            return Answer(raw=await self._post(question, encoded, deadline), nonce=nonce)
        try:
            answer = await self._get(question, url, deadline)
        except FetchError as error:
            if error.status is None or error.cause not in {Cause.UNREACHABLE, Cause.UNREADABLE}:
                raise
            return Answer(raw=await self._post(question, encoded, deadline))
        if not encoding.is_ocsp_error(answer):
            return Answer(raw=answer)
        try:
            return Answer(raw=await self._post(question, encoded, deadline))
        except FetchError:
            return Answer(raw=answer)

    async def _get(self, question: StatusQuestion, url: str, deadline: float) -> bytes:
        request = FetchRequest(
            hear_time=question.hear_time,
            url=url,
            guard=guard_of(question.trust),
            deadline=deadline,
            max_bytes=question.limits.ocsp_bytes,
            redirects=question.limits.redirects,
            headers=_GET_HEADERS,
            content_types=None,
        )
        return self._sane(url, await self._fetcher.fetch(request))

    async def _post(self, question: StatusQuestion, encoded: bytes, deadline: float) -> bytes:
        request = FetchRequest(
            hear_time=question.hear_time,
            url=question.lookup.url,
            guard=guard_of(question.trust),
            deadline=deadline,
            max_bytes=question.limits.ocsp_bytes,
            redirects=question.limits.redirects,
            method="POST",
            body=encoded,
            headers=_POST_HEADERS,
            content_types=None,
        )
        return self._sane(question.lookup.url, await self._fetcher.fetch(request))

    @staticmethod
    def _sane(url: str, raw: bytes) -> bytes:
        if not encoding.begins_sequence(raw):
            detail = f"{len(raw)} bytes that are no OCSP response"
            raise FetchError(Cause.UNREADABLE, detail, url=url, status=200)
        return raw


def get_url(location: str, encoded: bytes) -> str | None:
    """
    The URL of a GET (RFC 6960 A.1: base64, then percent-encoded, behind one slash).

    Args:
        location: the responder's URL, with or without a slash at its end.
        encoded: the DER request.

    Returns:
        The URL, or `None` where it would be longer than 255 bytes or the location has a query.

    """
    if "?" in location:
        return None
    url = location.rstrip("/") + "/" + quote(base64.b64encode(encoded).decode("ascii"), safe="")
    return url if len(url) <= GET_BYTES else None


def create(clock: Clock) -> StatusSource:
    """
    The factory behind the entry point `ocsp` of `cftpki.status_sources`.
    """
    return OcspSource(clock)
