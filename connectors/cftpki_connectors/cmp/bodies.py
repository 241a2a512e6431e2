"""
What the body of a CMP message says (RFC 9810 5.3): certificates, waiting, errors, revocations, information.

Pure, and bounded. Whether it may be believed is *not* looked at.
"""

from __future__ import annotations

from cftpki_connectors.cmp.reading import (
    EXPLICIT,
    MAX_TEXTS,
    certificates,
    infos,
    inner,
    integer,
    reader,
    texts,
)
from cftpki_connectors.cmp.values import (
    CertReply,
    CertResponse,
    Info,
    Outcome,
    PollReply,
    RootUpdate,
    Status,
)
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element

# One request has one response; some servers repeat it.
_MAX_RESPONSES = 8
# PKIFailureInfo has 27 bits.
_FAILURE_OCTETS = 32


@reader
def parse_cert_reply(body: bytes) -> CertReply:
    """
    Read ip, cp or kup (RFC 9810 5.3.4). Certificates are not looked at.

    Raises:
        MalformedMessageError: it is none.

    """
    parts = der.children(body, der.whole(body), most=2)
    authorities: tuple[bytes, ...] = ()
    if parts and parts[0].tag == EXPLICIT + 1:
        authorities = certificates(body, inner(body, parts.pop(0)))
    if len(parts) != 1:
        msg = "CertRepMessage without responses"
        raise DerError(msg)
    listed = der.children(
        body, der.expect(parts[0], der.SEQUENCE, "CertRepMessage.response"), most=_MAX_RESPONSES
    )
    responses = tuple(_cert_response(body, one) for one in listed)
    return CertReply(authorities=authorities, responses=responses)


@reader
def parse_poll_reply(body: bytes) -> tuple[PollReply, ...]:
    """
    Read pollRep (RFC 9810 5.3.22).

    Raises:
        MalformedMessageError: it is none.

    """
    found = []
    for one in der.children(body, der.whole(body), most=_MAX_RESPONSES):
        parts = der.children(body, der.expect(one, der.SEQUENCE, "PollRepContent"), most=3)
        if len(parts) < 2:
            msg = "PollRepContent without a time"
            raise DerError(msg)
        found.append(
            PollReply(
                request=integer(body, parts[0]),
                after_s=integer(body, parts[1]),
                texts=texts(body, parts[2]) if len(parts) == 3 else (),
            )
        )
    return tuple(found)


@reader
def parse_error(body: bytes) -> Status:
    """
    Read an error message (RFC 9810 5.3.21); what it says besides its status goes behind the status' texts.

    Raises:
        MalformedMessageError: it is none.

    """
    parts = der.children(body, der.whole(body), most=3)
    if not parts:
        msg = "ErrorMsgContent is empty"
        raise DerError(msg)
    status = _status(body, parts[0])
    more: list[str] = []
    for part in parts[1:]:
        if part.tag == der.INTEGER:
            more.append(f"error code {str(integer(body, part))[:20]}")
        else:
            more.extend(texts(body, part))
    return Status(
        outcome=status.outcome,
        texts=tuple(dict.fromkeys((*status.texts, *more)))[: 2 * MAX_TEXTS],
        failures=status.failures,
    )


@reader
def parse_revocation_reply(body: bytes) -> tuple[Status, ...]:
    """
    Read the statuses of rp (RFC 9810 5.3.10).

    Raises:
        MalformedMessageError: it is none.

    """
    parts = der.children(body, der.whole(body), most=3)
    if not parts:
        msg = "RevRepContent is empty"
        raise DerError(msg)
    listed = der.children(
        body, der.expect(parts[0], der.SEQUENCE, "RevRepContent.status"), most=_MAX_RESPONSES
    )
    return tuple(_status(body, one) for one in listed)


@reader
def parse_general_reply(body: bytes) -> tuple[Info, ...]:
    """
    Read genp (RFC 9810 5.3.20). The values are not looked at.

    Raises:
        MalformedMessageError: it is none.

    """
    return infos(body, der.whole(body))


@reader
def parse_certificates(value: bytes) -> tuple[bytes, ...]:
    """
    The certificates of CaCertsValue (RFC 9810 5.3.19.14), DER.

    Raises:
        MalformedMessageError: it is none.

    """
    return certificates(value, der.whole(value))


@reader
def parse_root_update(value: bytes) -> RootUpdate:
    """
    Read RootCaKeyUpdateContent (RFC 9810 5.3.19.15).

    Raises:
        MalformedMessageError: it is none.

    """
    parts = der.children(value, der.whole(value), most=3)
    if not parts:
        msg = "RootCaKeyUpdateContent is empty"
        raise DerError(msg)
    links: dict[int, bytes] = {}
    for part in parts[1:]:
        number = part.tag - EXPLICIT
        if number not in {0, 1} or number in links:
            msg = f"RootCaKeyUpdateContent with a field {part.tag:#04x} out of place"
            raise DerError(msg)
        links[number] = der.encoded(value, inner(value, part))
    return RootUpdate(new=der.encoded(value, parts[0]), new_with_old=links.get(0), old_with_new=links.get(1))


def _status(data: bytes, element: Element) -> Status:
    parts = der.children(data, der.expect(element, der.SEQUENCE, "PKIStatusInfo"), most=3)
    if not parts:
        msg = "PKIStatusInfo is empty"
        raise DerError(msg)
    try:
        outcome = Outcome(integer(data, parts[0]))
    except ValueError:
        msg = "PKIStatus is none of those known (0 to 6)"
        raise DerError(msg) from None
    said: tuple[str, ...] = ()
    failures: frozenset[int] = frozenset()
    for part in parts[1:]:
        if part.tag == der.BIT_STRING:
            if part.end - part.content > _FAILURE_OCTETS:
                msg = "PKIFailureInfo has more bits than there are failures"
                raise DerError(msg)
            # Servers that write trailing zero bits mean the same.
            failures = der.named_bits(data, part, odd=lambda _what, _rule: None)
        else:
            said = texts(data, part)
    return Status(outcome=outcome, texts=said, failures=failures)


def _cert_response(data: bytes, element: Element) -> CertResponse:
    parts = der.children(data, der.expect(element, der.SEQUENCE, "CertResponse"), most=4)
    if len(parts) < 2:
        msg = "CertResponse without a status"
        raise DerError(msg)
    certificate, encrypted = None, False
    if len(parts) > 2 and parts[2].tag == der.SEQUENCE:
        pair = der.children(data, parts[2], most=3)
        if not pair:
            msg = "CertifiedKeyPair is empty"
            raise DerError(msg)
        encrypted = pair[0].tag == EXPLICIT + 1
        if not encrypted:
            wrapped = inner(data, der.expect(pair[0], EXPLICIT, "CertOrEncCert"))
            certificate = der.encoded(data, der.expect(wrapped, der.SEQUENCE, "certificate"))
    return CertResponse(
        request=integer(data, parts[0]),
        status=_status(data, parts[1]),
        certificate=certificate,
        encrypted=encrypted,
    )
