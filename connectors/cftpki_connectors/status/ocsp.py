"""
The OCSP status source: one question to one responder over HTTP (RFC 6960 appendix A, RFC 5019 section 5).

Owns GET or POST, the nonce, and which answers are worth a second try. Judges nothing: what was signed by whom
is `cftpki_ext.revocation`'s business.
"""

from __future__ import annotations

import base64
import enum
import secrets
from collections import OrderedDict
from collections.abc import Hashable
from types import MappingProxyType
from urllib.parse import quote

from cftpki_connectors.fetch.client import Fetcher
from cftpki_connectors.fetch.guard import guard_of
from cftpki_connectors.fetch.url import URL_BYTES
from cftpki_connectors.fetch.values import FetchError, FetchRequest
from cftpki_connectors.status import encoding
from cftpki_connectors.status.source import Answer, FetchingSource
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import NonceMode
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.sources import StatusQuestion, StatusSource
from cftpki_ext.revocation.ocsp_request import build_request

# RFC 5019 section 5: the whole URL, scheme and host included, for a GET that caches may answer.
GET_BYTES = 255
# RFC 9654 2.1: a client sends at least 32 octets; responders of RFC 8954's time take no more than 32.
NONCE_BYTES = 32

_REQUEST_TYPE = "application/ocsp-request"
_RESPONSE_TYPE = "application/ocsp-response"
_GET_HEADERS = MappingProxyType({"Accept": _RESPONSE_TYPE})
_POST_HEADERS = MappingProxyType({"Accept": _RESPONSE_TYPE, "Content-Type": _REQUEST_TYPE})


# OCSP errors by which responders refuse a nonce: malformedRequest, internalError, unauthorized (RFC 6960 4.2.1).
_NONCE_REFUSED = frozenset({1, 2, 6})
# HTTP statuses by which servers say that they take no POST; redirects, which would make a GET of it, say the same.
_POST_REFUSED = frozenset({403, 404, 405, 411, 501, *range(300, 400)})
# How long it is remembered what worked with a responder: it may learn better.
_REMEMBERED_S = 3600.0
# Responders of which it is remembered.
_RESPONDERS = 1024


class Way(enum.Enum):
    """
    How a responder is asked: the method, and whether with a nonce.
    """

    POST_NONCE = (True, True)
    POST = (True, False)
    GET_NONCE = (False, True)
    GET = (False, False)

    @property
    def post(self) -> bool:
        """
        Whether it is a POST.
        """
        return self.value[0]

    @property
    def nonce(self) -> bool:
        """
        Whether a nonce is sent.
        """
        return self.value[1]


class OcspSource(FetchingSource):
    """
    Asks OCSP responders.

    By default a nonce is sent (`trust.nonce`), and such a request is a POST, since no cache may answer it.
    Without a nonce it is a GET where the URL stays within 255 bytes. Responders have habits: some refuse nonces, some
    know no POST, and caches and gateways spoil GETs. So the same is asked in another way within the same deadline:
    without the nonce (unless the trust set requires one) where the answer is an error, by GET where POST is refused, by
    POST where a GET is answered by an HTTP error, by something unreadable or by an unsigned error. What worked is
    remembered for each responder, and asked first for an hour.
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

    def __init__(self, clock: Clock, fetcher: Fetcher | None = None) -> None:
        super().__init__(clock, fetcher)
        self._worked: OrderedDict[Hashable, tuple[Way, float]] = OrderedDict()

    async def _fetch(self, question: StatusQuestion, deadline: float) -> Answer:
        responder = question.lookup.url, guard_of(question.trust), question.trust.nonce
        usual = _usual_ways(question)
        ways = self._ways(responder, usual)
        told: Answer | None = None
        failed: dict[Way, FetchError] = {}
        for way in ways:
            if way.post and any(one.post and error.status in _POST_REFUSED for one, error in failed.items()):
                continue
            nonce = secrets.token_bytes(NONCE_BYTES) if way.nonce else None
            encoded = build_request(question.certificate, question.issuer, nonce=nonce)
            request = self._request(question, way, encoded, deadline, repeat_status=way is ways[-1])
            if request is None:
                continue
            try:
                raw = self._sane(request.url, await self._fetcher.fetch(request))
            except FetchError as error:
                if error.status is None or error.cause not in {Cause.UNREACHABLE, Cause.UNREADABLE}:
                    if told is not None:
                        break
                    raise
                failed[way] = error
                continue
            if not encoding.is_ocsp_error(raw):
                self._remember(responder, way, usual=way is usual[0])
                return Answer(raw=raw, nonce=nonce)
            told = Answer(raw=raw, nonce=nonce)
            if way.post and not (way.nonce and raw[4] in _NONCE_REFUSED):
                break
        if told is not None:
            return told
        # What a POST was answered tells more: GETs are spoilt on the way.
        raise next((error for way, error in failed.items() if way.post), list(failed.values())[-1])

    def _ways(self, responder: Hashable, usual: tuple[Way, ...]) -> tuple[Way, ...]:
        """
        The usual ways, and first the one that worked last.
        """
        way, until = self._worked.get(responder, (usual[0], 0.0))
        if self._clock.monotonic() > until or way not in usual:
            return usual
        return (way, *(other for other in usual if other is not way))

    def _remember(self, responder: Hashable, way: Way, *, usual: bool) -> None:
        way_before, until = self._worked.pop(responder, (None, 0.0))
        now = self._clock.monotonic()
        if usual:
            return
        # The hour begins when it was found out, not with each answer.
        fresh = way_before is not way or now > until
        self._worked[responder] = way, (now + _REMEMBERED_S if fresh else until)
        while len(self._worked) > _RESPONDERS:
            self._worked.popitem(last=False)

    @staticmethod
    def _request(
        question: StatusQuestion, way: Way, encoded: bytes, deadline: float, *, repeat_status: bool
    ) -> FetchRequest | None:
        """
        The request of one way; `None` where the location cannot be asked so.
        """
        url: str | None = (
            question.lookup.url if way.post else get_url(question.lookup.url, encoded, URL_BYTES)
        )
        if url is None:
            return None
        return FetchRequest(
            hear_time=question.hear_time,
            url=url,
            guard=guard_of(question.trust),
            deadline=deadline,
            max_bytes=question.limits.ocsp_bytes,
            redirects=question.limits.redirects,
            method="POST" if way.post else "GET",
            body=encoded if way.post else b"",
            headers=_POST_HEADERS if way.post else _GET_HEADERS,
            content_types=None,
            repeat_status=repeat_status,
        )

    @staticmethod
    def _sane(url: str, raw: bytes) -> bytes:
        if not encoding.begins_sequence(raw):
            detail = encoding.what_it_is(raw, "OCSP response")
            raise FetchError(Cause.UNREADABLE, detail, url=url, status=200)
        return raw


def _usual_ways(question: StatusQuestion) -> tuple[Way, ...]:
    """
    The ways to ask, in the order in which they are tried.
    """
    if question.trust.nonce is NonceMode.REQUIRE:
        return Way.POST_NONCE, Way.GET_NONCE
    if question.trust.nonce is NonceMode.SEND:
        return Way.POST_NONCE, Way.POST, Way.GET
    short = get_url(question.lookup.url, build_request(question.certificate, question.issuer, nonce=None))
    return (Way.POST, Way.GET) if short is None else (Way.GET, Way.POST)


def get_url(location: str, encoded: bytes, most: int = GET_BYTES) -> str | None:
    """
    The URL of a GET (RFC 6960 A.1: base64, then percent-encoded, behind one slash).

    Args:
        location: the responder's URL, with or without a slash at its end.
        encoded: the DER request.
        most: how long it may be; by default as long as caches answer (RFC 5019 5).

    Returns:
        The URL, or `None` where it would be longer or the location has a query.

    """
    if "?" in location:
        return None
    url = location.rstrip("/") + "/" + quote(base64.b64encode(encoded).decode("ascii"), safe="")
    return url if len(url) <= most else None


def create(clock: Clock) -> StatusSource:
    """
    The factory behind the entry point `ocsp` of `cftpki.status_sources`.
    """
    return OcspSource(clock)
