"""
The messages that we send: a PKCS#10 request in an envelope, signed with SCEP's attributes (RFC 8894 3.2, 3.3).

Pure but for the random numbers. Envelopes in AES are `cryptography`'s; its builder of signatures takes no attributes of
others, so that signatures are put together here.
"""

from __future__ import annotations

import os
import string
from collections.abc import Mapping
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers import modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID

from cftpki_connectors.scep.vocabulary import (
    MESSAGE_TYPE,
    SENDER_NONCE,
    TRANSACTION_ID,
    Cipher,
    Digest,
    MessageType,
)
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import PrivateKey
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import parse_certificate

# Between request and answer somebody may have to decide; a server's clock may be a little behind.
_SIGNER_LIFE = timedelta(days=365)
_SIGNER_BACKDATE = timedelta(days=1)
# RFC 2985 5.4.1 (pkcs-9-ub-challengePassword).
MAX_CHALLENGE_CHARACTERS = 255
_PRINTABLE = frozenset(string.ascii_letters + string.digits + " '()+,-./:=?")

_SET = 0x31
_NULL = b"\x05\x00"
_CONTEXT_0 = 0xA0
_CONTEXT_0_PRIMITIVE = 0x80
_OCTET_STRING = 0x04
_PRINTABLE_STRING = 0x13
_UTF8_STRING = 0x0C

_DATA = "1.2.840.113549.1.7.1"
_SIGNED_DATA = "1.2.840.113549.1.7.2"
_ENVELOPED_DATA = "1.2.840.113549.1.7.3"
_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
_CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"  # noqa: S105  # an object identifier
_RSA = "1.2.840.113549.1.1.1"
_RSA_SHA256 = "1.2.840.113549.1.1.11"
_ECDSA_SHA256 = "1.2.840.10045.4.3.2"
_ECDSA_SHA384 = "1.2.840.10045.4.3.3"
_TRIPLE_DES = "1.2.840.113549.3.7"
_HASHES: Mapping[Digest, tuple[str, type[hashes.HashAlgorithm]]] = {
    Digest.SHA256: ("2.16.840.1.101.3.4.2.1", hashes.SHA256),
    Digest.SHA1: ("1.3.14.3.2.26", hashes.SHA1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """
    Who signs a message, and to whom its answer is encrypted: a certificate (DER) and its RSA key.
    """

    certificate: bytes
    key: rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """
    What says to which request an answer belongs.
    """

    type: MessageType
    transaction: str
    nonce: bytes


def subject_of(csr: bytes) -> bytes:
    """
    The subject of a request (RFC 2986), as it is encoded.

    Raises:
        InputError: not a PKCS#10 request.

    """
    try:
        info = der.children(csr, der.whole(csr))[0]
        return der.encoded(csr, der.children(csr, info)[1])
    except (der.DerError, IndexError) as error:
        msg = "the order's request is no PKCS#10"
        raise InputError(msg) from error


def with_challenge(csr: bytes, key: PrivateKey, challenge: str) -> bytes:
    """
    The same request with a challengePassword (RFC 2985 5.4.1), signed anew.

    Args:
        csr: DER, as the order has it.
        key: of the request.
        challenge: a PrintableString where it can be one: not every server reads another.

    Returns:
        DER.

    Raises:
        InputError: not a PKCS#10 request.

    """
    try:
        info = der.children(csr, der.whole(csr))[0]
        version, subject, spki, *rest = der.children(csr, info)
        attributes = [der.encoded(csr, one) for one in der.children(csr, rest[0])] if rest else []
    except (der.DerError, IndexError, ValueError) as error:
        msg = "the order's request is no PKCS#10"
        raise InputError(msg) from error
    tag = _PRINTABLE_STRING if _PRINTABLE.issuperset(challenge) else _UTF8_STRING
    value = der.encode(tag, challenge.encode())
    attributes.append(der.encode(der.SEQUENCE, der.encode_oid(_CHALLENGE_PASSWORD), der.encode(_SET, value)))
    parts = [der.encoded(csr, one) for one in (version, subject, spki)]
    signed = der.encode(der.SEQUENCE, *parts, der.encode(_CONTEXT_0, *sorted(attributes)))
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = der.encode(der.SEQUENCE, der.encode_oid(_RSA_SHA256), _NULL)
        signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    else:
        large = key.curve.key_size > 256
        algorithm = der.encode(der.SEQUENCE, der.encode_oid(_ECDSA_SHA384 if large else _ECDSA_SHA256))
        signature = key.sign(signed, ec.ECDSA(hashes.SHA384() if large else hashes.SHA256()))
    return der.encode(der.SEQUENCE, signed, algorithm, der.encode(der.BIT_STRING, b"\0", signature))


def self_signed(csr: bytes, name: str, key: rsa.RSAPrivateKey, now: datetime) -> bytes:
    """
    The certificate that a first request is signed with (RFC 8894 2.3), for the request's subject.

    Args:
        csr: DER.
        name: the common name where the request's subject is empty: a signer without a name is refused by many.
        key: the request's own, or another where that one cannot decrypt.
        now: aware.

    Returns:
        DER.

    Raises:
        InputError: not a PKCS#10 request.

    """
    try:
        subject = x509.load_der_x509_csr(csr).subject
    except ValueError as error:
        msg = "the order's request is no PKCS#10"
        raise InputError(msg) from error
    if not subject.rdns:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SIGNER_BACKDATE)
        .not_valid_after(now + _SIGNER_LIFE)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def issuer_and_subject(issuer: bytes, subject: bytes) -> bytes:
    """
    What a CertPoll asks about (RFC 8894 3.3.3): two names (DER).
    """
    return der.encode(der.SEQUENCE, issuer, subject)


def enveloped(data: bytes, recipient: bytes, cipher: Cipher) -> bytes:
    """
    Encrypt for one recipient (RFC 5652 6): RSA with PKCS#1 v1.5, which is what servers read.

    Args:
        data: what is told.
        recipient: the certificate (DER) of whoever may read it.
        cipher: for the content.

    Returns:
        A ContentInfo, DER.

    Raises:
        InputError: the recipient's certificate cannot be used.

    """
    try:
        certificate = x509.load_der_x509_certificate(recipient)
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        msg = "the certificate that requests are encrypted to cannot be read"
        raise InputError(msg) from error
    if not isinstance(key, rsa.RSAPublicKey):
        msg = "the certificate that requests are encrypted to has no RSA key"
        raise InputError(msg)
    if cipher is Cipher.AES:
        builder = pkcs7.PKCS7EnvelopeBuilder().set_data(data).add_recipient(certificate)
        return builder.encrypt(Encoding.DER, [pkcs7.PKCS7Options.Binary])
    content_key, iv = os.urandom(24), os.urandom(8)
    pad = PKCS7(64).padder()
    encryptor = BlockCipher(TripleDES(content_key), modes.CBC(iv)).encryptor()
    encrypted = encryptor.update(pad.update(data) + pad.finalize()) + encryptor.finalize()
    transported = der.encode(
        der.SEQUENCE,
        _integer(0),
        _issuer_and_serial(recipient),
        der.encode(der.SEQUENCE, der.encode_oid(_RSA), _NULL),
        der.encode(_OCTET_STRING, key.encrypt(content_key, padding.PKCS1v15())),
    )
    content = der.encode(
        der.SEQUENCE,
        der.encode_oid(_DATA),
        der.encode(der.SEQUENCE, der.encode_oid(_TRIPLE_DES), der.encode(_OCTET_STRING, iv)),
        der.encode(_CONTEXT_0_PRIMITIVE, encrypted),
    )
    body = der.encode(der.SEQUENCE, _integer(0), der.encode(_SET, transported), content)
    return der.encode(der.SEQUENCE, der.encode_oid(_ENVELOPED_DATA), der.encode(_CONTEXT_0, body))


def signed(content: bytes, signer: Signer, outgoing: Outgoing, digest: Digest) -> bytes:
    """
    A pkiMessage (RFC 8894 3.2): the content, and who asks for what in which transaction.

    Args:
        content: the envelope.
        signer: goes with the message.
        outgoing: type, transaction, nonce.
        digest: of content and attributes.

    Returns:
        A ContentInfo, DER.

    """
    oid, make = _HASHES[digest]
    hashed = hashes.Hash(make())
    hashed.update(content)
    attributes = sorted(
        (
            _attribute(_CONTENT_TYPE, der.encode_oid(_DATA)),
            _attribute(_MESSAGE_DIGEST, der.encode(_OCTET_STRING, hashed.finalize())),
            _attribute(MESSAGE_TYPE, der.encode(_PRINTABLE_STRING, outgoing.type.value.encode())),
            _attribute(TRANSACTION_ID, der.encode(_PRINTABLE_STRING, outgoing.transaction.encode())),
            _attribute(SENDER_NONCE, der.encode(_OCTET_STRING, outgoing.nonce)),
        )
    )
    signature = signer.key.sign(der.encode(_SET, *attributes), padding.PKCS1v15(), make())
    algorithm = der.encode(der.SEQUENCE, der.encode_oid(oid), _NULL)
    information = der.encode(
        der.SEQUENCE,
        _integer(1),
        _issuer_and_serial(signer.certificate),
        algorithm,
        der.encode(_CONTEXT_0, *attributes),
        der.encode(der.SEQUENCE, der.encode_oid(_RSA), _NULL),
        der.encode(_OCTET_STRING, signature),
    )
    encapsulated = der.encode(
        der.SEQUENCE, der.encode_oid(_DATA), der.encode(_CONTEXT_0, der.encode(_OCTET_STRING, content))
    )
    body = der.encode(
        der.SEQUENCE,
        _integer(1),
        der.encode(_SET, algorithm),
        encapsulated,
        der.encode(_CONTEXT_0, signer.certificate),
        der.encode(_SET, information),
    )
    return der.encode(der.SEQUENCE, der.encode_oid(_SIGNED_DATA), der.encode(_CONTEXT_0, body))


def _attribute(oid: str, value: bytes) -> bytes:
    return der.encode(der.SEQUENCE, der.encode_oid(oid), der.encode(_SET, value))


def _integer(value: int) -> bytes:
    return der.encode(der.INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _issuer_and_serial(certificate: bytes) -> bytes:
    parsed = parse_certificate(certificate)
    return der.encode(der.SEQUENCE, parsed.issuer.der, _integer(parsed.serial))
