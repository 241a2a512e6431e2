"""
What we send to a CMP server (RFC 9810 section 5, RFC 4211), in DER.

Pure but for the signature's nonce. Owns the writing; `protection` owns MACs and signatures of messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from cftpki_connectors.cmp.values import Kind
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import PrivateKey
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.der import DerError

NULL = b"\x05\x00"
# The Name without any part: of a sender that has no certificate and no name yet.
NO_NAME = b"\x30\x00"

_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_OLD_CERT_ID = "1.3.6.1.5.5.7.5.1.5"
_IMPLICIT_CONFIRM = "1.3.6.1.5.5.7.4.13"
_CERT_PROFILE = "1.3.6.1.5.5.7.4.21"
_CA_CERTS = "1.3.6.1.5.5.7.4.17"
_ROOT_CA_CERT = "1.3.6.1.5.5.7.4.20"
_REASON_CODE = "2.5.29.21"
_RSA_SHA256 = "1.2.840.113549.1.1.11"
_ECDSA = {256: "1.2.840.10045.4.3.2", 384: "1.2.840.10045.4.3.3", 521: "1.2.840.10045.4.3.4"}
_HASHES: dict[int, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    256: hashes.SHA256,
    384: hashes.SHA384,
    521: hashes.SHA512,
}
_ATTRIBUTES = 0xA0
_EXPLICIT = 0xA0
# From 2050 on a Time is a GeneralizedTime (RFC 5280 4.1.2.5).
_UTC_TIME_ENDS = 2050

REASONS = {
    "unspecified": 0,
    "keyCompromise": 1,
    "cACompromise": 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "certificateHold": 6,
    "removeFromCRL": 8,
    "privilegeWithdrawn": 9,
    "aACompromise": 10,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """
    What a PKCS#10 request asks for (RFC 2986), each as it is encoded there; `extensions` may be missing.
    """

    csr: bytes
    subject: bytes
    spki: bytes
    extensions: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """
    What goes into a PKIHeader. Names are DER, `algorithm` an AlgorithmIdentifier (none without protection), `infos` whole InfoTypeAndValues.
    """

    sender: bytes
    recipient: bytes
    time: datetime
    algorithm: bytes | None
    key_id: bytes | None
    transaction: bytes
    nonce: bytes
    answered: bytes | None = None  # the nonce of the message that this one answers
    infos: tuple[bytes, ...] = ()
    version: int = 2


def read_request(csr: bytes) -> Requested:
    """
    Take a request of ours apart. Its signature is not checked.

    Args:
        csr: DER.

    Returns:
        Its parts.

    Raises:
        InputError: it is no PKCS#10 request.

    """
    try:
        info = der.expect(der.children(csr, der.whole(csr))[0], der.SEQUENCE, "CertificationRequestInfo")
        fields = der.children(csr, info)
        subject, spki = (der.encoded(csr, fields[index]) for index in (1, 2))
        extensions = None
        for attribute in der.children(csr, fields[3]) if fields[3:] and fields[3].tag == _ATTRIBUTES else ():
            kind, values = der.children(csr, attribute)
            if der.oid(csr, kind) == _EXTENSION_REQUEST:
                extensions = der.encoded(csr, der.children(csr, values)[0])
    except (DerError, IndexError, ValueError) as error:
        msg = "the order's request is no PKCS#10"
        raise InputError(msg) from error
    return Requested(csr=csr, subject=subject, spki=spki, extensions=extensions)


def header(fields: Fields) -> bytes:
    """
    PKIHeader (RFC 9810 5.1.1).
    """
    optional = [
        (0, der.encode(der.GENERALIZED_TIME, f"{fields.time:%Y%m%d%H%M%S}Z".encode())),
        (1, fields.algorithm),
        (2, _octets(fields.key_id)),
        (4, _octets(fields.transaction)),
        (5, _octets(fields.nonce)),
        (6, _octets(fields.answered)),
        (8, der.encode(der.SEQUENCE, *fields.infos) if fields.infos else None),
    ]
    return der.encode(
        der.SEQUENCE,
        integer(fields.version),
        directory_name(fields.sender),
        directory_name(fields.recipient),
        *(tagged(number, value) for number, value in optional if value is not None),
    )


def message(head: bytes, body: bytes, protection: bytes, extra: Sequence[bytes]) -> bytes:
    """
    PKIMessage (RFC 9810 5.1), protected.
    """
    parts = [head, body, tagged(0, bits(protection))]
    if extra:
        parts.append(tagged(1, der.encode(der.SEQUENCE, *extra)))
    return der.encode(der.SEQUENCE, *parts)


def certificate_request(
    kind: Kind,
    requested: Requested,
    key: PrivateKey,
    *,
    old: Certificate | None = None,
    issuer: bytes | None = None,
    not_after: datetime | None = None,
) -> bytes:
    """
    The body of ir, cr, kur (RFC 4211, with proof of possession by signature) or p10cr.

    Args:
        kind: which of them.
        requested: what is wanted.
        key: its private key.
        old: with kur, the certificate that is renewed.
        issuer: the Name of the CA, where it is to be named (DER).
        not_after: the end that is asked for; p10cr has no place for it.

    Returns:
        The PKIBody.

    """
    if kind is Kind.P10CR:
        return tagged(kind, requested.csr)
    template = [] if issuer is None else [tagged(3, issuer)]
    if not_after is not None:
        template.append(tagged(4, tagged(1, _time(not_after))))
    template += [tagged(5, requested.subject), _retagged(requested.spki, 6)]
    if requested.extensions is not None:
        template.append(_retagged(requested.extensions, 9))
    parts = [integer(0), der.encode(der.SEQUENCE, *template)]
    if old is not None:
        known = der.encode(der.SEQUENCE, directory_name(old.issuer.der), integer(old.serial))
        parts.append(der.encode(der.SEQUENCE, attribute(_OLD_CERT_ID, known)))
    request = der.encode(der.SEQUENCE, *parts)
    # POPOSigningKey, tagged implicitly: over the whole CertRequest, since that names subject and key.
    popo = der.encode(_EXPLICIT + 1, signature_algorithm(key), bits(sign(key, request)))
    return tagged(kind, der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, request, popo)))


def confirmation(
    digest: bytes, request: int, *, refusal: str | None = None, algorithm: bytes | None = None
) -> bytes:
    """
    The body of certConf (RFC 9810 5.3.18).

    Args:
        digest: of the certificate.
        request: the number of the response that it came in.
        refusal: why the certificate is not taken; by default it is.
        algorithm: the digest's AlgorithmIdentifier, where the certificate's signature does not say it.

    Returns:
        The PKIBody.

    """
    parts = [der.encode(der.OCTET_STRING, digest), integer(request)]
    if refusal is not None:
        text = der.encode(der.SEQUENCE, der.encode(der.UTF8_STRING, refusal.encode()[:500]))
        parts.append(der.encode(der.SEQUENCE, integer(2), text))
    if algorithm is not None:
        parts.append(tagged(0, algorithm))
    return tagged(Kind.CERTCONF, der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, *parts)))


def poll_request(request: int) -> bytes:
    """
    The body of pollReq (RFC 9810 5.3.22).
    """
    return tagged(Kind.POLLREQ, der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, integer(request))))


def revocation_request(certificate: Certificate, reason: str) -> bytes:
    """
    The body of rr (RFC 9810 5.3.9).

    Args:
        certificate: to be revoked.
        reason: a name of RFC 5280 5.3.1.

    Raises:
        InputError: there is no such reason.

    """
    number = REASONS.get(reason)
    if number is None:
        msg = f"{reason!r} is no reason for a revocation (RFC 5280 5.3.1)"
        raise InputError(msg)
    template = der.encode(
        der.SEQUENCE,
        der.encode(0x81, der.content(serial := integer(certificate.serial), der.whole(serial, der.INTEGER))),
        tagged(3, certificate.issuer.der),
    )
    code = der.encode(der.OCTET_STRING, der.encode(der.ENUMERATED, bytes((number,))))
    entry = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, der.encode_oid(_REASON_CODE), code))
    return tagged(Kind.RR, der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, template, entry)))


def general_message(info: bytes) -> bytes:
    """
    The body of genm (RFC 9810 5.3.19) with one InfoTypeAndValue.
    """
    return tagged(Kind.GENM, der.encode(der.SEQUENCE, info))


def wants_ca_certificates() -> bytes:
    """
    The question for the CA's certificates (RFC 9483 4.3.1).
    """
    return attribute(_CA_CERTS, None)


def wants_root_update(root: bytes) -> bytes:
    """
    The question for the successor of a root (RFC 9483 4.3.2).
    """
    return attribute(_ROOT_CA_CERT, root)


def implicit_confirm() -> bytes:
    """
    The wish that the server waits for no confirmation (RFC 9810 5.1.1.1).
    """
    return attribute(_IMPLICIT_CONFIRM, NULL)


def cert_profile(name: str) -> bytes:
    """
    The profile by which the CA is to issue (RFC 9810 5.1.1.4).
    """
    return attribute(_CERT_PROFILE, der.encode(der.SEQUENCE, der.encode(der.UTF8_STRING, name.encode())))


def signature_algorithm(key: PrivateKey) -> bytes:
    """
    The AlgorithmIdentifier of what `sign` makes.
    """
    if isinstance(key, rsa.RSAPrivateKey):
        return attribute(_RSA_SHA256, NULL)
    return attribute(_ECDSA.get(key.curve.key_size, _ECDSA[256]), None)


def sign(key: PrivateKey, data: bytes) -> bytes:
    """
    A signature with the digest that fits the key.
    """
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(data, ec.ECDSA(_HASHES.get(key.curve.key_size, hashes.SHA256)()))


def sequence(*parts: bytes) -> bytes:
    """
    A SEQUENCE.
    """
    return der.encode(der.SEQUENCE, *parts)


def attribute(oid: str, value: bytes | None) -> bytes:
    """
    A SEQUENCE of an object identifier and what belongs to it: AlgorithmIdentifier, InfoTypeAndValue, AttributeTypeAndValue.
    """
    return der.encode(der.SEQUENCE, der.encode_oid(oid), value or b"")


def tagged(number: int, value: bytes) -> bytes:
    """
    A value inside an explicit context tag.
    """
    return der.encode(_EXPLICIT + number, value)


def integer(value: int) -> bytes:
    """
    An INTEGER.
    """
    octets = value.bit_length() // 8 + 1
    return der.encode(der.INTEGER, value.to_bytes(octets, "big", signed=True))


def bits(octets: bytes) -> bytes:
    """
    A BIT STRING of whole octets.
    """
    return der.encode(der.BIT_STRING, b"\0", octets)


def directory_name(name: bytes) -> bytes:
    """
    A GeneralName of the form directoryName.
    """
    return tagged(4, name)


def _octets(value: bytes | None) -> bytes | None:
    return None if value is None else der.encode(der.OCTET_STRING, value)


def _retagged(value: bytes, number: int) -> bytes:
    """
    A SEQUENCE under an implicit context tag.
    """
    return der.encode(_EXPLICIT + number, der.content(value, der.whole(value)))


def _time(at: datetime) -> bytes:
    if at.year < _UTC_TIME_ENDS:
        return der.encode(der.UTC_TIME, f"{at:%y%m%d%H%M%S}Z".encode())
    return der.encode(der.GENERALIZED_TIME, f"{at:%Y%m%d%H%M%S}Z".encode())
