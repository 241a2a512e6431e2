"""
The messages that a server sends: the signature, then SCEP's attributes (RFC 8894 3.2).

Pure; every input is bounded. Nothing of a message is taken for an answer before its signature is known to be that of
somebody who may sign; who may is the caller's to say.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asn1crypto import cms  # type: ignore[import-untyped]  # it has no stubs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from cftpki_connectors.ca.certs_only import MAX_BER_BYTES
from cftpki_connectors.ca.values import MAX_CERTIFICATES
from cftpki_connectors.scep.vocabulary import (
    FAIL_INFO,
    FAIL_INFO_TEXT,
    MESSAGE_TYPE,
    MICROSOFT_ERROR,
    PKI_STATUS,
    RECIPIENT_NONCE,
    TRANSACTION_ID,
    FailInfo,
    Legacy,
    MessageType,
    PkiStatus,
)
from cftpki_connectors.scep.writing import Outgoing
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.values import dataclass
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import Certificate

# One message: an envelope around some certificates, signed. Servers send 1 to 5 KB.
MAX_MESSAGE_BYTES = MAX_BER_BYTES
# What of a server's own words is told.
_TEXT_CHARACTERS = 200
# SCEP has six attributes, CMS three, NDES one; more than this is a way to keep us busy.
_MAX_ATTRIBUTES = 32

_SIGNED_DATA = "1.2.840.113549.1.7.2"
_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
_RSASSA_PSS = "1.2.840.113549.1.1.10"
_SHA1 = "1.3.14.3.2.26"
# What an answer may be signed with; SHA-1 where the configuration says so.
HASHES: Mapping[str, type[hashes.HashAlgorithm]] = {
    "2.16.840.1.101.3.4.2.1": hashes.SHA256,
    "2.16.840.1.101.3.4.2.2": hashes.SHA384,
    "2.16.840.1.101.3.4.2.3": hashes.SHA512,
    _SHA1: hashes.SHA1,
}
_WEAK_DIGESTS = {"1.2.840.113549.2.5": "MD5"}
_TEXT_TAGS = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii"}


class MessageError(CftPkiError):
    """
    What came is no answer to what was asked, or cannot be believed to be one.
    """


class AlgorithmError(CftPkiError):
    """
    An answer uses an algorithm that is not allowed, or that nobody here knows.
    """


Signers = Callable[[tuple[bytes, ...]], Sequence[Certificate]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedContent:
    """
    The content of a SignedData whose signature holds, and its signed attributes by identifier (DER values).
    """

    content: bytes
    attributes: Mapping[str, bytes]
    signer: Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """
    A CertRep (RFC 8894 3.3.2) that is the answer to our request.

    `failure` is what the server says of a FAILURE, for people. `content` is the envelope of a SUCCESS.
    """

    status: PkiStatus
    reason: FailInfo | None = None
    failure: str = ""
    content: bytes = b""


def read_reply(data: bytes, signers: Signers, outgoing: Outgoing, legacy: frozenset[Legacy]) -> Reply:
    """
    Read the answer to a request.

    Args:
        data: as received.
        signers: of the certificates that are in the message (DER) and of those known before, who may sign.
        outgoing: the request that this must answer.
        legacy: older algorithms that are allowed.

    Returns:
        What it says.

    Raises:
        MessageError: no CertRep, signed by nobody who may, or the answer to something else.
        AlgorithmError: signed with a digest that is not allowed.

    """
    message = read_signed(data, signers, legacy)
    kind = _text(message, MESSAGE_TYPE, "messageType")
    if kind != MessageType.CERT_REP.value:
        msg = f"the message is of type {kind!r}, not 3 (CertRep)"
        raise MessageError(msg)
    transaction = _text(message, TRANSACTION_ID, "transactionID")
    if transaction != outgoing.transaction:
        msg = f"the answer is of transaction {transaction!r}, not of {outgoing.transaction!r}"
        raise MessageError(msg)
    nonce = _value(message, RECIPIENT_NONCE, "recipientNonce", der.OCTET_STRING)
    if not hmac.compare_digest(nonce, outgoing.nonce):
        msg = "the answer's recipientNonce is not the nonce that was sent: it is an old answer, or another's"
        raise MessageError(msg)
    said = _text(message, PKI_STATUS, "pkiStatus")
    try:
        status = PkiStatus(said)
    except ValueError:
        msg = f"the answer has the pkiStatus {said!r}, which nobody knows"
        raise MessageError(msg) from None
    if status is not PkiStatus.FAILURE:
        return Reply(status=status, content=message.content)
    reason, failure = _failure(message)
    return Reply(status=status, reason=reason, failure=failure)


def _failure(message: SignedContent) -> tuple[FailInfo | None, str]:
    """
    Why a server says no; servers leave out half of it.
    """
    reason, parts = None, []
    if FAIL_INFO in message.attributes:
        said = _text(message, FAIL_INFO, "failInfo")
        if said in set(FailInfo):
            reason = FailInfo(said)
            parts.append(reason.text)
        else:
            parts.append(f"failInfo {said!r}")
    if FAIL_INFO_TEXT in message.attributes:
        parts.append(repr(_text(message, FAIL_INFO_TEXT, "failInfoText")))
    if MICROSOFT_ERROR in message.attributes:
        number = _text(message, MICROSOFT_ERROR, "the error of NDES")
        digits = number.removeprefix("-")
        known = digits.isascii() and digits.isdigit() and len(digits) <= 10
        parts.append(f"NDES error 0x{int(number) & 0xFFFFFFFF:08x}" if known else f"NDES error {number!r}")
    return reason, ", ".join(parts) or "no reason given"


def read_signed(data: bytes, signers: Signers, legacy: frozenset[Legacy]) -> SignedContent:
    """
    Verify a SignedData (RFC 5652 5) with one signer.

    Without signed attributes, which GetNextCACert can do without, the signature is that of the content.

    Args:
        data: DER or BER.
        signers: of the certificates in it (DER) and of those known before, who may sign; others are nobody.
        legacy: older algorithms that are allowed.

    Returns:
        Content and attributes.

    Raises:
        MessageError: no such thing, or the signature is nobody's who may sign.
        AlgorithmError: a digest that is not allowed.

    """
    if len(data) > MAX_MESSAGE_BYTES:
        msg = f"the message has {len(data)} bytes, {MAX_MESSAGE_BYTES} are read"
        raise MessageError(msg)
    try:
        content, information, included = _parsed(data)
        listed = information["signed_attrs"]
        raw = listed.contents if isinstance(listed, cms.CMSAttributes) else None
        digest = information["digest_algorithm"]["algorithm"].dotted
        scheme = information["signature_algorithm"]["algorithm"].dotted
        signature = information["signature"].native
        sid = information["sid"]
        named = named_by(sid)
    except MessageError:
        raise
    except Exception as error:  # asn1crypto raises whatever a damaged structure leads it to
        msg = "the message is no CMS SignedData that can be read"
        raise MessageError(msg) from error
    make = HASHES.get(digest)
    if make is None:
        msg = f"the answer is signed with {_WEAK_DIGESTS.get(digest, f'the digest {digest}')}, which is not taken"
        raise AlgorithmError(msg)
    if make is hashes.SHA1 and Legacy.SHA1 not in legacy:
        msg = 'the answer is signed with SHA-1, which is taken only with legacy = ["sha1"]'
        raise AlgorithmError(msg)
    if scheme == _RSASSA_PSS:
        msg = "the answer is signed with RSASSA-PSS, which is not supported"
        raise AlgorithmError(msg)
    if raw is None and content[:1] == b"\x31":
        # Signed attributes of another message, handed in as content: the signature over both is the same (RFC 5652 5.4).
        msg = "the message's content is a SET, as are the signed attributes of another one"
        raise MessageError(msg)
    attributes = {} if raw is None else _attributes(raw)
    if raw is not None:
        _check_digest(content, attributes, make)
    signed = content if raw is None else der.encode(der.SET, raw)
    candidates = [one for one in signers(included) if named(one)]
    if not candidates:
        msg = f"the message is signed by {_signer_text(sid)}, who is neither a CA that is believed nor an RA of one"
        raise MessageError(msg)
    for signer in candidates:
        if _verified(signer, signature, signed, make()):
            return SignedContent(content=content, attributes=attributes, signer=signer)
    msg = "the message's signature is wrong"
    raise MessageError(msg)


def _parsed(data: bytes) -> tuple[bytes, Any, tuple[bytes, ...]]:
    information = cms.ContentInfo.load(data, strict=True)
    if information["content_type"].dotted != _SIGNED_DATA:
        msg = "the message is not signed"
        raise MessageError(msg)
    body = information["content"]
    signer_infos = body["signer_infos"]
    if len(signer_infos) != 1:
        msg = f"the message has {len(signer_infos)} signatures, one is expected"
        raise MessageError(msg)
    octets = body["encap_content_info"]["content"].native
    included: tuple[bytes, ...] = ()
    certificates = body["certificates"]
    if isinstance(certificates, cms.CertificateSet):
        if len(certificates) > MAX_CERTIFICATES:
            msg = f"the message holds {len(certificates)} certificates, {MAX_CERTIFICATES} are read"
            raise MessageError(msg)
        included = tuple(one.chosen.dump() for one in certificates if one.name == "certificate")
    return octets if isinstance(octets, bytes) else b"", signer_infos[0], included


def named_by(sid: Any) -> Callable[[Certificate], bool]:
    """
    Whether a certificate is the one that a SignerIdentifier or RecipientIdentifier names (RFC 5652 5.3, 6.2.1).
    """
    if sid.name == "subject_key_identifier":
        wanted = sid.chosen.native
        return lambda one: one.subject_key_id == wanted
    issuer, serial = sid.chosen["issuer"].dump(), sid.chosen["serial_number"].native
    return lambda one: (one.issuer.der, one.serial) == (issuer, serial)


def _signer_text(sid: Any) -> str:
    if sid.name == "subject_key_identifier":
        return f"the key {sid.chosen.native.hex()[:40]}"
    return f"the certificate {sid.chosen['serial_number'].native:x}"[:80]


def _attributes(raw: bytes) -> dict[str, bytes]:
    """
    The signed attributes, each with its one value.
    """
    whole = der.encode(der.SET, raw)
    found: dict[str, bytes] = {}
    try:
        for attribute in der.children(whole, der.whole(whole, der.SET), most=_MAX_ATTRIBUTES):
            kind, values = der.children(whole, attribute)
            (value,) = der.children(whole, values)
            name = der.oid(whole, kind)
            if name in found:
                msg = f"the message has the signed attribute {name} twice"
                raise MessageError(msg)
            found[name] = der.encoded(whole, value)
    except (der.DerError, ValueError) as error:
        msg = "the message's signed attributes cannot be read"
        raise MessageError(msg) from error
    return found


def _check_digest(content: bytes, attributes: Mapping[str, bytes], make: Callable[[], Any]) -> None:
    hashed = hashes.Hash(make())
    hashed.update(content)
    wanted = der.encode(der.OCTET_STRING, hashed.finalize())
    if _CONTENT_TYPE not in attributes or not hmac.compare_digest(
        attributes.get(_MESSAGE_DIGEST, b""), wanted
    ):
        msg = "the message's digest is not that of its content"
        raise MessageError(msg)


def _verified(signer: Certificate, signature: bytes, signed: bytes, digest: hashes.HashAlgorithm) -> bool:
    key = signer.key.handle
    if not signer.key.strong:
        return False
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(digest))
        else:
            return False
    except (InvalidSignature, ValueError):
        return False
    return True


def _value(message: SignedContent, name: str, what: str, tag: int) -> bytes:
    data = message.attributes.get(name)
    if data is None:
        msg = f"the answer has no {what}"
        raise MessageError(msg)
    try:
        return der.content(data, der.whole(data, tag))
    except der.DerError as error:
        msg = f"the answer's {what} cannot be read"
        raise MessageError(msg) from error


def _text(message: SignedContent, name: str, what: str) -> str:
    data = message.attributes.get(name, b"\0")
    encoding = _TEXT_TAGS.get(data[0])
    if name in message.attributes and encoding is None:
        msg = f"the answer's {what} is no text"
        raise MessageError(msg)
    return excerpt(
        _value(message, name, what, data[0]).decode(encoding or "ascii", "replace"), _TEXT_CHARACTERS
    )
