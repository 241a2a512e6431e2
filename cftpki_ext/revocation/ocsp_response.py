"""
OCSP responses (RFC 6960 4.2.1) as frozen values, sliced from the bytes as received.

Owns the strict parse. cryptography's parser must agree that the whole is a response before anything is read
from it; what that parser does not show (the version, every single response's extensions, the exact signed
bytes) is sliced here. Judges nothing. Imports `x509`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import NoReturn

from cryptography.x509 import ocsp

from cftpki_ext.core.errors import InputError
from cftpki_ext.revocation.ocsp_request import NONCE_MAX_BYTES
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError
from cftpki_ext.x509.fields import in_order
from cftpki_ext.x509.name import Name, parse_name
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
# A response about more certificates than this is no answer to one question.
_MAX_SINGLES = 256
_MAX_EXTENSIONS = 32
_MAX_CERTIFICATES = 16
# Parsed responses kept, at most 64 KiB each by `Limits.ocsp_bytes`: a few MiB for real answers of 2 KiB.
_KEPT = 1024
_NO_EXTENSIONS: Mapping[str, OcspExtension] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class OcspExtension:
    """
    One extension: whether it is critical, and the content of its OCTET STRING.
    """

    critical: bool
    value: bytes


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
    What is said of one certificate.
    """

    cert_id: CertId
    status: str  # "good", "revoked" or "unknown"
    this_update: datetime
    next_update: datetime | None
    revoked_at: datetime | None
    reason: str | None
    archive_cutoff: datetime | None
    extensions: Mapping[str, OcspExtension]


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
    A BasicOCSPResponse. Exactly one of `responder_name` and `responder_key_hash` is set.
    """

    signed: Signed
    responder_name: Name | None
    responder_key_hash: bytes | None
    produced_at: datetime
    singles: tuple[SingleResponse, ...]
    extensions: Mapping[str, OcspExtension]
    nonce: bytes | None
    certificates: tuple[bytes, ...]  # as sent, unverified; only a delegate is looked for among them


def clear_responses() -> None:
    """
    Forget every parsed response (benchmarks and tests start cold with it).
    """
    parse_ocsp.cache_clear()


@lru_cache(maxsize=_KEPT)
def parse_ocsp(raw: bytes) -> OcspResponse:
    """
    Parse a response strictly.

    The memory of earlier parses is keyed by the whole bytes. Size is the caller's to cap. Signature, signer,
    times and identity are not looked at; unknown critical extensions are kept for the judge.

    Args:
        raw: DER OCSPResponse, nothing after it.

    Returns:
        The response.

    Raises:
        InputError: the bytes are not a response of RFC 6960 in strict DER.

    """
    try:
        ocsp.load_der_ocsp_response(raw)
    except (ValueError, TypeError, NotImplementedError) as exc:
        msg = f"not an OCSP response: {exc}"
        raise InputError(msg) from exc
    return _response(raw)


def _response(raw: bytes) -> OcspResponse:
    """
    OCSPResponse: the status, and under "successful" the basic response.
    """
    try:
        parts = der.children(raw, der.whole(raw))
        if not parts:
            _fail("response has no status")
        number = der.integer(raw, der.expect(parts[0], der.ENUMERATED, "response status"))
        status = RESPONSE_STATUS.get(number)
        if status is None:
            _fail(f"response status {number} is not defined")
        if number != 0:
            return OcspResponse(digest=sha256(raw).digest(), status=str(status), basic=None)
        if len(parts) != 2:
            _fail("successful response has no body")
        (body,) = der.children(raw, der.expect(parts[1], 0xA0, "response body"))
        kind, octets = der.children(raw, body)
        if der.oid(raw, kind) != BASIC:
            _fail(f"response type {der.oid(raw, kind)} is not the basic one")
        basic = der.content(raw, der.expect(octets, der.OCTET_STRING, "response body"))
        return OcspResponse(digest=sha256(raw).digest(), status="successful", basic=_basic(basic))
    except ValueError as exc:  # DerError, or a structure with another number of parts
        msg = f"not an OCSP response: {exc}"
        raise InputError(msg) from exc


def _basic(data: bytes) -> BasicResponse:
    signed, body, rest = split(data)
    certificates: tuple[bytes, ...] = ()
    if rest:
        if len(rest) != 1:
            _fail("basic response has parts after its certificates")
        (listed,) = der.children(data, der.expect(rest[0], 0xA0, "certificates"))
        found = der.children(data, der.expect(listed, der.SEQUENCE, "certificates"))
        if len(found) > _MAX_CERTIFICATES:
            _fail(f"{len(found)} certificates are over the limit of {_MAX_CERTIFICATES}")
        certificates = tuple(der.encoded(data, item) for item in found)
    parts = der.children(data, body)
    if parts and parts[0].tag == 0xA0:
        # DER leaves a default out, so that a version that is written is none that RFC 6960 defines.
        (number,) = der.children(data, parts[0])
        _fail(f"response version {der.integer(data, number) + 1} is not 1")
    if not 3 <= len(parts) <= 4:
        _fail("response data has another number of parts")
    responder, produced, listed = parts[:3]
    (identity,) = der.children(data, responder)
    name, key_hash = None, None
    if responder.tag == 0xA1:
        name = parse_name(der.encoded(data, identity))
    elif responder.tag == 0xA2:
        key_hash = der.content(data, der.expect(identity, der.OCTET_STRING, "responder key hash"))
    else:
        _fail("responder is named neither by name nor by key")
    singles = der.children(data, der.expect(listed, der.SEQUENCE, "responses"))
    if not 1 <= len(singles) <= _MAX_SINGLES:
        _fail(f"{len(singles)} single responses are outside 1 to {_MAX_SINGLES}")
    extensions = _extensions(data, parts[3], "response") if len(parts) == 4 else _NO_EXTENSIONS
    return BasicResponse(
        signed=signed,
        responder_name=name,
        responder_key_hash=key_hash,
        produced_at=_time(data, produced, "producedAt"),
        singles=tuple(_single(data, single) for single in singles),
        extensions=extensions,
        nonce=_nonce(extensions.get(NONCE)),
        certificates=certificates,
    )


def _single(data: bytes, element: der.Element) -> SingleResponse:
    parts = der.children(data, der.expect(element, der.SEQUENCE, "single response"))
    if len(parts) < 3:
        _fail("single response has fewer than three parts")
    status, revoked_at, reason = _status(data, parts[1])
    optional = in_order(parts[3:], (0xA0, 0xA1), "single response", "RFC 6960 4.2.1")
    next_update = None
    if 0xA0 in optional:
        (moment,) = der.children(data, optional[0xA0])
        next_update = _time(data, moment, "nextUpdate")
    extensions = _extensions(data, optional[0xA1], "single response") if 0xA1 in optional else _NO_EXTENSIONS
    if reason is None and CRL_REASON in extensions:
        value = extensions[CRL_REASON].value
        reason = _reason(value, der.whole(value, der.ENUMERATED))
    cutoff = extensions.get(ARCHIVE_CUTOFF)
    return SingleResponse(
        cert_id=_cert_id(data, parts[0]),
        status=status,
        this_update=_time(data, parts[2], "thisUpdate"),
        next_update=next_update,
        revoked_at=revoked_at,
        reason=reason,
        archive_cutoff=_time(cutoff.value, der.whole(cutoff.value, der.GENERALIZED_TIME), "archive cutoff")
        if cutoff
        else None,
        extensions=extensions,
    )


def _cert_id(data: bytes, element: der.Element) -> CertId:
    parts = der.children(data, der.expect(element, der.SEQUENCE, "CertID"))
    hashed, name, key, serial = parts
    identifier = algorithm(data, hashed)
    if identifier.parameters not in (None, b"\x05\x00"):
        _fail("hash of a CertID has parameters")
    return CertId(
        identifier.oid,
        der.content(data, der.expect(name, der.OCTET_STRING, "issuerNameHash")),
        der.content(data, der.expect(key, der.OCTET_STRING, "issuerKeyHash")),
        der.integer(data, der.expect(serial, der.INTEGER, "serialNumber")),
    )


def _status(data: bytes, element: der.Element) -> tuple[str, datetime | None, str | None]:
    if element.tag in (0x80, 0x82):
        if element.content != element.end:
            _fail("status good or unknown has content")
        return ("good" if element.tag == 0x80 else "unknown"), None, None
    parts = der.children(data, der.expect(element, 0xA1, "certificate status"))
    if not 1 <= len(parts) <= 2:
        _fail("status revoked has another number of parts")
    reason = None
    if len(parts) == 2:
        (code,) = der.children(data, der.expect(parts[1], 0xA0, "revocation reason"))
        reason = _reason(data, der.expect(code, der.ENUMERATED, "revocation reason"))
    return "revoked", _time(data, parts[0], "revocationTime"), reason


def _reason(data: bytes, element: der.Element) -> str:
    number = der.integer(data, element)
    if number not in REASONS:
        _fail(f"revocation reason {number} is not defined")
    return REASONS[number]


def _extensions(data: bytes, element: der.Element, where: str) -> Mapping[str, OcspExtension]:
    """
    Extensions (RFC 5280 4.1.2.9) of a response or of a single response; none doubled, not empty.
    """
    (listed,) = der.children(data, der.expect(element, 0xA1, "extensions"))
    items = der.children(data, der.expect(listed, der.SEQUENCE, "extensions"))
    if not 1 <= len(items) <= _MAX_EXTENSIONS:
        _fail(f"{len(items)} extensions of the {where} are outside 1 to {_MAX_EXTENSIONS}")
    found: dict[str, OcspExtension] = {}
    for item in items:
        parts = der.children(data, der.expect(item, der.SEQUENCE, "extension"))
        critical = len(parts) == 3
        if critical and not der.boolean(data, der.expect(parts[1], der.BOOLEAN, "critical")):
            _fail("critical FALSE is written out")
        if not 2 <= len(parts) <= 3:
            _fail("extension has another number of parts")
        name = der.oid(data, parts[0])
        if name in found:
            _fail(f"extension {name} of the {where} is doubled")
        value = der.content(data, der.expect(parts[-1], der.OCTET_STRING, "extension value"))
        found[name] = OcspExtension(critical, value)
    return MappingProxyType(found)


def _nonce(extension: OcspExtension | None) -> bytes | None:
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
    except der.DerError:
        nonce = value
    if not 1 <= len(nonce) <= NONCE_MAX_BYTES:
        _fail(f"nonce of {len(nonce)} octets is outside 1 to {NONCE_MAX_BYTES}")
    return nonce


def _time(data: bytes, element: der.Element, what: str) -> datetime:
    return der.time(data, der.expect(element, der.GENERALIZED_TIME, what))


def _fail(detail: str) -> NoReturn:
    raise DerError(detail, "RFC 6960 4.2.1")
