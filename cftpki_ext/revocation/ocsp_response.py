"""
OCSP responses (RFC 6960 4.2.1) as frozen values, sliced from the bytes as received.

Owns the parse. Whom a single response speaks of, and what it says, is read first; whatever else is odd or cannot be
read is noted beside it, because bad news counts in any form. Judges nothing.

More than 400 lines: the structure of RFC 6960 4.2.1, field by field in its order.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from types import MappingProxyType
from typing import NoReturn

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.memo import Memo
from cftpki_ext.core.values import dataclass
from cftpki_ext.revocation.form_notes import NO_NOTES, FormNotes, Taking
from cftpki_ext.revocation.ocsp_request import NONCE_MAX_BYTES
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import parse_certificate
from cftpki_ext.x509.der import DerError
from cftpki_ext.x509.extensions import Extension, parse_extensions
from cftpki_ext.x509.fields import in_order
from cftpki_ext.x509.loose_time import loose_time
from cftpki_ext.x509.name import Name, parse_name
from cftpki_ext.x509.oddity import Odd
from cftpki_ext.x509.reasons import REASONS
from cftpki_ext.x509.signed import Signed, algorithm, split

BASIC = "1.3.6.1.5.5.7.48.1.1"
NONCE = "1.3.6.1.5.5.7.48.1.2"
CRL_REFERENCES = "1.3.6.1.5.5.7.48.1.3"
ARCHIVE_CUTOFF = "1.3.6.1.5.5.7.48.1.6"
EXTENDED_REVOKE = "1.3.6.1.5.5.7.48.1.9"
CRL_REASON = "2.5.29.21"
INVALIDITY_DATE = "2.5.29.24"

# RFC 6960 4.2.1; 4 is not used.
RESPONSE_STATUS: Mapping[int, str] = {
    0: "successful",
    1: "malformedRequest",
    2: "internalError",
    3: "tryLater",
    5: "sigRequired",
    6: "unauthorized",
}
# A response about more certificates than this is no answer to one question: nothing good is concluded from it.
_MAX_SINGLES = 256
_MAX_CERTIFICATES = 16
_RULE = "RFC 6960 4.2.1"
# Parsed responses kept: some thousand of 2 KiB, by what they take when read.
_KEPT_OCTETS = 16 * 1024 * 1024
_KEPT_TIMES = 4
_KEPT_FIXED = 4 * 1024
_ECDSA_OIDS = "1.2.840.10045.4."
_NO_EXTENSIONS: Mapping[str, Extension] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CertId:
    """
    Which certificate is spoken of. The hash is named by its OID; NULL and absent parameters are the same.
    """

    hash_oid: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleResponse:
    """
    What is said of one certificate. `this_update` is `None` where it cannot be read, as the notes tell.
    """

    cert_id: CertId
    status: str  # "good", "revoked" or "unknown"
    this_update: datetime | None
    next_update: datetime | None
    revoked_at: datetime | None
    reason: str | None
    archive_cutoff: datetime | None
    extensions: Mapping[str, Extension]
    notes: FormNotes = NO_NOTES


@dataclass(frozen=True, slots=True, kw_only=True)
class OcspResponse:
    """
    A whole response. `basic` is `None` exactly when the responder answered with an error status.
    """

    digest: bytes  # SHA-256 of the whole
    status: str
    basic: BasicResponse | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicResponse:
    """
    A BasicOCSPResponse.

    At most one of `responder_name` and `responder_key_hash` is set; none, and no `produced_at`, where they cannot be read,
    as the notes tell.
    """

    signed: Signed
    responder_name: Name | None
    responder_key_hash: bytes | None
    produced_at: datetime | None
    singles: tuple[SingleResponse, ...]
    extensions: Mapping[str, Extension]
    nonce: bytes | None
    certificates: tuple[bytes, ...]  # as sent, unverified; only a delegate is looked for among them
    notes: FormNotes = NO_NOTES


_kept: Memo[bytes, OcspResponse] = Memo(_KEPT_OCTETS)


def clear_responses() -> None:
    """
    Forget every parsed response (benchmarks and tests start cold with it).
    """
    _kept.clear()


def parse_ocsp(raw: bytes) -> OcspResponse:
    """
    Parse a response.

    What is said of whom must be readable, and the signature; everything else that is odd or cannot be read is noted
    beside it. The memory of earlier parses is keyed by the whole bytes. Size is the caller's to cap. Signature, signer,
    times and identity are not looked at; unknown critical extensions are kept for the judge.

    Args:
        raw: DER OCSPResponse.

    Returns:
        The response.

    Raises:
        InputError: nothing can be read from it.

    """
    known = _kept.get(raw)
    if known is not None:
        return known
    try:
        response = _response(raw)
    except DerError as exc:
        msg = f"not an OCSP response: {exc}"
        raise InputError(msg) from exc
    _kept.keep(raw, response, len(raw) * _KEPT_TIMES + _KEPT_FIXED)
    return response


def _response(raw: bytes) -> OcspResponse:
    """
    OCSPResponse: the status, and under "successful" the basic response.
    """
    notes = Taking()
    parts = der.children(raw, der.whole(raw, odd=notes.doubt))
    if not parts:
        _fail("response has no status")
    number = der.integer(raw, der.expect(parts[0], der.ENUMERATED, "response status"))
    status = RESPONSE_STATUS.get(number)
    if len(parts) == 1 and status is None:
        _fail(f"response status {number} is not defined")
    if number != 0 and len(parts) == 1:
        return OcspResponse(digest=sha256(raw).digest(), status=str(status), basic=None)
    if number != 0:
        notes.doubt(f"response status {status or number} with an answer", _RULE)
    if len(parts) != 2:
        _fail("successful response has no body")
    body = _one(der.children(raw, der.expect(parts[1], 0xA0, "response body")), "response body")
    if body.tag != der.SEQUENCE:
        notes.doubt("response body is no SEQUENCE", _RULE)
    inner = der.children(raw, body)
    if len(inner) != 2:
        _fail("response body is not a pair")
    kind, octets = inner
    if der.oid(raw, kind) != BASIC:
        _fail(f"response type {der.oid(raw, kind)} is not the basic one")
    basic = der.content(raw, der.expect(octets, der.OCTET_STRING, "response body"))
    return OcspResponse(digest=sha256(raw).digest(), status="successful", basic=_basic(basic, notes))


def _basic(data: bytes, notes: Taking) -> BasicResponse:
    signed, body, rest = split(data, odd=notes.doubt)
    if signed.algorithm.oid.startswith(_ECDSA_OIDS) and signed.algorithm.parameters is not None:
        notes.odd("ECDSA signature algorithm has parameters", "RFC 5758 3.2")
    parts = der.children(data, body)
    if parts and parts[0].tag == 0xA0:
        _version(data, parts.pop(0), notes)
    if len(parts) < 3:
        _fail("response data has fewer than three parts")
    responder, produced, listed = parts[:3]
    name, key_hash = _responder(data, responder, notes)
    found = der.children(data, der.expect(listed, der.SEQUENCE, "responses"))
    if len(found) > _MAX_SINGLES:
        notes.doubt(f"{len(found)} single responses are more than {_MAX_SINGLES}", _RULE)
    singles = []
    for element in found:
        try:
            singles.append(_single(data, element))
        except DerError as error:
            notes.doubt(f"a single response cannot be read: {error.detail}", error.rule)
    if not singles:
        _fail("no single response can be read" if found else "there is no single response")
    if len(parts) > 4:
        notes.doubt("response data has another number of parts", _RULE)
    extensions = _extensions(data, parts[3], notes) if len(parts) > 3 else _NO_EXTENSIONS
    return BasicResponse(
        signed=signed,
        responder_name=name,
        responder_key_hash=key_hash,
        produced_at=_time(data, produced, "producedAt", notes),
        singles=tuple(singles),
        extensions=extensions,
        nonce=_nonce(extensions.get(NONCE), notes.doubt),
        certificates=_certificates(data, rest, notes.doubt),
        notes=notes.notes(),
    )


def _version(data: bytes, element: der.Element, notes: Taking) -> None:
    """
    DER leaves a default out, and version 1 is the only one that RFC 6960 defines.
    """
    try:
        number = der.integer(data, _one(der.children(data, element), "response version"))
    except DerError as error:
        notes.doubt(error.detail, error.rule)
        return
    if number == 0:
        notes.doubt("response writes out a default version", _RULE)
    else:
        notes.doubt(f"response version {number + 1} is not 1", _RULE)


def _responder(data: bytes, element: der.Element, notes: Taking) -> tuple[Name | None, bytes | None]:
    """
    The name or the key hash of the responder; neither where it cannot be read.
    """
    try:
        if element.tag == 0xA1:
            identity = _one(der.children(data, element), "responder name")
            return parse_name(der.encoded(data, identity), odd=notes.odd), None
        if element.tag == 0xA2:
            identity = _one(der.children(data, element), "responder key hash")
            return None, der.content(data, der.expect(identity, der.OCTET_STRING, "responder key hash"))
        if element.tag == 0x82:
            notes.doubt("responder key hash is tagged implicitly", _RULE)
            return None, der.content(data, element)
        _fail("responder is named neither by name nor by key")
    except DerError as error:
        notes.doubt(error.detail, error.rule)
        return None, None


def _certificates(data: bytes, rest: tuple[der.Element, ...], doubt: Odd) -> tuple[bytes, ...]:
    if not rest:
        return ()
    try:
        listed = _one(der.children(data, der.expect(rest[0], 0xA0, "certificates")), "certificates")
        found = der.children(data, der.expect(listed, der.SEQUENCE, "certificates"))
    except DerError as error:
        doubt(error.detail, error.rule)
        return ()
    for item in found[:_MAX_CERTIFICATES]:
        try:
            parse_certificate(der.encoded(data, item))
        except InputError as error:
            doubt(f"a certificate in the answer cannot be read: {error}", _RULE)
    if len(rest) != 1:
        doubt("basic response has parts after its certificates", _RULE)
    if len(found) > _MAX_CERTIFICATES:
        doubt(f"{len(found)} certificates are over the limit of {_MAX_CERTIFICATES}", _RULE)
    return tuple(der.encoded(data, item) for item in found[:_MAX_CERTIFICATES])


def _single(data: bytes, element: der.Element) -> SingleResponse:
    """
    One single response.

    Raises:
        DerError: whom it speaks of, or what it says, cannot be read.

    """
    notes = Taking()
    parts = der.children(data, der.expect(element, der.SEQUENCE, "single response"))
    if len(parts) < 2:
        _fail("single response has fewer than three parts")
    cert_id = _cert_id(data, parts[0], notes.doubt)
    status, revoked_at, reason = _status(data, parts[1], notes)
    this_update = None
    if len(parts) > 2:
        this_update = _time(data, parts[2], "thisUpdate", notes)
    else:
        notes.doubt("single response has fewer than three parts", _RULE)
    next_update, extensions = _optional(data, parts[3:], notes)
    if CRL_REASON in extensions:
        told = _reason_extension(extensions[CRL_REASON].value, notes.doubt)
        reason = told if reason is None else reason
    cutoff = extensions.get(ARCHIVE_CUTOFF)
    return SingleResponse(
        cert_id=cert_id,
        status=status,
        this_update=this_update,
        next_update=next_update,
        revoked_at=revoked_at,
        reason=reason,
        archive_cutoff=None if cutoff is None else _cutoff(cutoff.value, notes),
        extensions=extensions,
        notes=notes.notes(),
    )


def _optional(
    data: bytes, parts: list[der.Element], notes: Taking
) -> tuple[datetime | None, Mapping[str, Extension]]:
    """
    What follows thisUpdate: nextUpdate and extensions.
    """
    next_update = None
    try:
        fields = in_order(parts, (0xA0, 0xA1), "single response", _RULE)
    except DerError as error:
        notes.doubt(error.detail, error.rule)
        fields = {part.tag: part for part in reversed(parts)}
    if 0xA0 in fields:
        try:
            moment = _one(der.children(data, fields[0xA0]), "nextUpdate")
        except DerError as error:
            notes.doubt(error.detail, error.rule)
        else:
            next_update = _time(data, moment, "nextUpdate", notes)
    extensions = _extensions(data, fields[0xA1], notes) if 0xA1 in fields else _NO_EXTENSIONS
    return next_update, extensions


def _cert_id(data: bytes, element: der.Element, doubt: Odd) -> CertId:
    parts = der.children(data, der.expect(element, der.SEQUENCE, "CertID"))
    if len(parts) != 4:
        _fail("CertID has another number of parts")
    hashed, name, key, serial = parts
    identifier = algorithm(data, hashed)
    if identifier.parameters not in (None, b"\x05\x00"):
        doubt("hash of a CertID has parameters", _RULE)
    return CertId(
        identifier.oid,
        der.content(data, der.expect(name, der.OCTET_STRING, "issuerNameHash")),
        der.content(data, der.expect(key, der.OCTET_STRING, "issuerKeyHash")),
        der.integer(data, der.expect(serial, der.INTEGER, "serialNumber")),
    )


def _status(data: bytes, element: der.Element, notes: Taking) -> tuple[str, datetime | None, str | None]:
    """
    CertStatus; of "revoked" the details where they can be read.
    """
    if element.tag in (0x80, 0x82):
        status = "good" if element.tag == 0x80 else "unknown"
        if element.content != element.end:
            notes.doubt(f"status {status} has content", _RULE)
        return status, None, None
    if element.tag not in (0xA1, 0x81):
        _fail(f"tag {element.tag:#04x} is no certificate status")
    revoked_at, reason = None, None
    try:
        parts = der.children(data, element)
        if not 1 <= len(parts) <= 2:
            notes.doubt("status revoked has another number of parts", _RULE)
        if parts:
            revoked_at = _time(data, parts[0], "revocationTime", notes)
        if len(parts) > 1:
            code = _one(
                der.children(data, der.expect(parts[1], 0xA0, "revocation reason")), "revocation reason"
            )
            reason = _reason(data, der.expect(code, der.ENUMERATED, "revocation reason"), notes.doubt)
    except DerError as error:
        notes.doubt(error.detail, error.rule)
    return "revoked", revoked_at, reason


def _reason(data: bytes, element: der.Element, doubt: Odd) -> str | None:
    """
    The name of a reason; `None`, which is as good as unspecified, for a number that has none.
    """
    number = der.integer(data, element)
    if number not in REASONS:
        doubt(f"revocation reason {number} is not defined", "RFC 5280 5.3.1")
        return None
    return REASONS[number]


def _reason_extension(value: bytes, doubt: Odd) -> str | None:
    try:
        return _reason(value, der.whole(value, der.ENUMERATED, odd=doubt), doubt)
    except DerError as error:
        doubt(error.detail, error.rule)
        return None


def _cutoff(value: bytes, notes: Taking) -> datetime | None:
    """
    The archive cutoff; `None` where it cannot be read, which says no more than its absence.
    """
    try:
        element = der.whole(value, der.GENERALIZED_TIME, odd=notes.doubt)
    except DerError as error:
        notes.doubt(f"archive cutoff: {error.detail}", error.rule)
        return None
    return _time(value, element, "archive cutoff", notes)


def _extensions(data: bytes, element: der.Element, notes: Taking) -> Mapping[str, Extension]:
    """
    Extensions (RFC 5280 4.1.2.9) of a response or of a single response; none where they cannot be read.
    """
    try:
        listed = _one(der.children(data, der.expect(element, 0xA1, "extensions")), "extensions")
        return MappingProxyType(dict(parse_extensions(data, listed, odd=notes.doubt, twice=notes.doubt)))
    except DerError as error:
        notes.doubt(f"extensions: {error.detail}", error.rule)
        return _NO_EXTENSIONS


def _nonce(extension: Extension | None, doubt: Odd) -> bytes | None:
    """
    The nonce's octets (RFC 9654 2.1): an OCTET STRING of 1 to 128 octets.

    Responders of before RFC 6960 put the bare octets there; these are taken as they are, because they are
    only ever compared with what was sent.
    """
    if extension is None:
        return None
    value = extension.value
    try:
        nonce = der.content(value, der.whole(value, der.OCTET_STRING))
    except DerError:
        nonce = value
    if not 1 <= len(nonce) <= NONCE_MAX_BYTES:
        doubt(f"nonce of {len(nonce)} octets is outside 1 to {NONCE_MAX_BYTES}", "RFC 9654 2.1")
    return nonce


def _time(data: bytes, element: der.Element, what: str, notes: Taking) -> datetime | None:
    """
    A GeneralizedTime in any form that names an instant; `None` where it names none.
    """
    try:
        if element.tag != der.GENERALIZED_TIME:
            notes.doubt(f"{what} is no GeneralizedTime", _RULE)
        return loose_time(data, element, fraction=notes.odd, other=notes.doubt)
    except DerError as error:
        notes.doubt(f"{what}: {error.detail}", error.rule)
        return None


def _one(elements: list[der.Element], what: str) -> der.Element:
    if len(elements) != 1:
        _fail(f"{what} is not one element")
    return elements[0]


def _fail(detail: str) -> NoReturn:
    raise DerError(detail, _RULE)
