"""
Who may be believed: the protection of CMP messages by a shared secret or by a signature (RFC 9810 5.1.3, RFC 9481 6).

Owns MACs, their parameters and bounds, and the judgement of whoever signed. Blocking: a MAC may take a second.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import field
from datetime import datetime

from cftpki_connectors.cmp import writing
from cftpki_connectors.cmp.values import Message
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Held
from cftpki_ext.identity.issuance.leads import fault_of_path
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import Certificate, MalformedCertificateError, parse_certificate
from cftpki_ext.x509.der import DerError
from cftpki_ext.x509.extensions import KeyUsage
from cftpki_ext.x509.signed import (
    AlgorithmIdentifier,
    SignatureStatus,
    Signed,
    algorithm,
    signature_name,
    verify,
)

# What a server may make us count (RFC 9810 8.4 leaves the bound to us). OpenSSL's own bound for PBM; a second of PBKDF2.
MAX_PBM_ITERATIONS = 100_000
MAX_PBKDF2_ITERATIONS = 1_000_000
# What we count ourselves: servers with OpenSSL's bound and older ones take both.
_PBM_ITERATIONS = 10_000
_PBKDF2_ITERATIONS = 100_000
_SALT_OCTETS = 16
_MAX_SALT_OCTETS = 128
# A server's parameters may not shorten the key: one octet is guessed by anybody in 256 answers.
_MIN_KEY_OCTETS, _MAX_KEY_OCTETS = 20, 64
# How many certificates may be tried for one signature.
_MAX_CANDIDATES = 8

PBM = "1.2.840.113533.7.66.13"
PBMAC1 = "1.2.840.113549.1.5.14"
_PBKDF2 = "1.2.840.113549.1.5.12"
_SHA256 = "2.16.840.1.101.3.4.2.1"
_HMAC_SHA256 = "1.2.840.113549.2.9"
_ONE_WAY = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    _SHA256: "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
# HMAC with SHA-1 is not weakened by collisions, and what OpenSSL and EJBCA use without a word.
_MACS = {
    "1.3.6.1.5.5.8.1.2": "sha1",
    "1.2.840.113549.2.7": "sha1",
    "1.2.840.113549.2.8": "sha224",
    _HMAC_SHA256: "sha256",
    "1.2.840.113549.2.10": "sha384",
    "1.2.840.113549.2.11": "sha512",
}
# Extended key usages of those who may speak for a CA (RFC 9483 section 1.4, RFC 6402 2.10).
_SPEAKERS = frozenset({"1.3.6.1.5.5.7.3.27", "1.3.6.1.5.5.7.3.28"})


class ProtectionError(CftPkiError):
    """
    A message is not to be believed.
    """


class Mac(enum.StrEnum):
    """
    How we protect with a secret: RFC 4210's way, which every server knows, or RFC 9481's PBMAC1.
    """

    PBM = "pbm"
    PBMAC1 = "pbmac1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """
    A secret that we share with the server, under a name (`key_id`). `sender` is a Name (DER), `chain` stays empty.
    """

    secret: bytes = field(repr=False)
    key_id: bytes | None
    mac: Mac
    sender: bytes = writing.NO_NAME
    chain: tuple[bytes, ...] = ()

    def begin(self) -> bytes:
        """
        The AlgorithmIdentifier of the next message's protection: parameters with a salt of their own.
        """
        salt = der.encode(der.OCTET_STRING, secrets.token_bytes(_SALT_OCTETS))
        mac = writing.attribute(_HMAC_SHA256, writing.NULL)
        if self.mac is Mac.PBM:
            owf = writing.attribute(_SHA256, writing.NULL)
            return writing.attribute(
                PBM, der.encode(der.SEQUENCE, salt, owf, writing.integer(_PBM_ITERATIONS), mac)
            )
        derived = der.encode(
            der.SEQUENCE, salt, writing.integer(_PBKDF2_ITERATIONS), writing.integer(32), mac
        )
        return writing.attribute(PBMAC1, der.encode(der.SEQUENCE, writing.attribute(_PBKDF2, derived), mac))

    def protect(self, identifier: bytes, data: bytes) -> bytes:
        """
        The MAC over a ProtectedPart whose header names `identifier`.
        """
        return mac_of(_identifier(identifier), self.secret, data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """
    A certificate of ours and its key. `sender` is its subject (DER), `chain` what goes along as extraCerts.
    """

    held: Held = field(repr=False)
    sender: bytes
    key_id: bytes | None
    chain: tuple[bytes, ...]

    def begin(self) -> bytes:
        """
        The AlgorithmIdentifier of the next message's protection: the one that fits the key.
        """
        return writing.signature_algorithm(self.held.key)

    def protect(self, identifier: bytes, data: bytes) -> bytes:
        """
        The signature over a ProtectedPart.
        """
        del identifier
        return writing.sign(self.held.key, data)


# What our messages are protected with.
Means = Secret | Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """
    Whom we believe: signers below `roots`, and of those, CAs, who has the key usage for it, or a certificate or name given.

    `pinned` are whole certificates (DER), `names` subjects (the form in which names are compared).
    """

    roots: tuple[bytes, ...]
    pinned: frozenset[bytes] = frozenset()
    names: frozenset[object] = frozenset()


def signer(held: Held) -> Signer:
    """
    Protect with a certificate that we hold.

    Raises:
        ProtectionError: it cannot be read.

    """
    try:
        leaf = parse_certificate(held.chain[0])
    except (MalformedCertificateError, IndexError) as error:
        msg = "the certificate that is to protect the request cannot be read"
        raise ProtectionError(msg) from error
    return Signer(held=held, sender=leaf.subject.der, key_id=leaf.subject_key_id, chain=held.chain)


def signer_fault(certificate: Certificate, now: datetime) -> str | None:
    """
    Why a certificate of ours cannot protect messages, `None` where it can (RFC 9810 5.1.3.3).
    """
    if not certificate.not_before <= now <= certificate.not_after:
        return f"is valid from {certificate.not_before:%Y-%m-%d %H:%M} to {certificate.not_after:%Y-%m-%d %H:%M} UTC only"
    if certificate.key_usage is not None and KeyUsage.DIGITAL_SIGNATURE not in certificate.key_usage:
        return "lacks the key usage digitalSignature"
    return None


def check(message: Message, *, secret: bytes | None, believed: Believed, now: datetime) -> None:
    """
    Make sure that a message comes from the server. Blocking.

    Args:
        message: as received.
        secret: the one that we share, where this transaction is protected by it.
        believed: whose signatures count.
        now: signers must be valid then.

    Raises:
        ProtectionError: it is not protected, or not by whom we believe.

    """
    identifier = message.header.algorithm
    if identifier is None or message.protection is None:
        msg = "it is not protected"
        raise ProtectionError(msg)
    if identifier.oid in {PBM, PBMAC1}:
        if secret is None:
            msg = "it is protected by a shared secret, although our request was signed"
            raise ProtectionError(msg)
        if not hmac.compare_digest(mac_of(identifier, secret, message.protected), message.protection):
            msg = "its MAC is not that of our secret"
            raise ProtectionError(msg)
        return
    _check_signature(message, identifier, believed, now)


def mac_of(identifier: AlgorithmIdentifier, secret: bytes, data: bytes) -> bytes:
    """
    The MAC that a message's parameters ask for: PBM (RFC 9481 6.1.1) or PBMAC1 (RFC 9481 6.1.2, RFC 8018 7.1).

    Raises:
        ProtectionError: unknown algorithms, more work than is done for anybody, or parameters that are none.

    """
    derive = {PBM: _pbm_key, PBMAC1: _pbmac1_key}.get(identifier.oid)
    if derive is None or identifier.parameters is None:
        msg = f"the MAC {identifier.oid} is not known, or without parameters"
        raise ProtectionError(msg)
    try:
        key, digest = derive(identifier.parameters, secret)
    except DerError as error:
        msg = f"the parameters of its MAC cannot be read: {error}"
        raise ProtectionError(msg) from error
    return hmac.digest(key, data, digest)


def _identifier(encoded: bytes) -> AlgorithmIdentifier:
    return algorithm(encoded, der.whole(encoded))


def _known(table: dict[str, str], identifier: AlgorithmIdentifier, what: str) -> str:
    found = table.get(identifier.oid)
    if found is None or identifier.parameters not in {None, writing.NULL}:
        msg = f"the {what} {identifier.oid} of its MAC is not known"
        raise ProtectionError(msg)
    return found


def _bounded(iterations: int, most: int) -> int:
    if not 1 <= iterations <= most:
        msg = f"its MAC asks for {str(iterations)[:20]} iterations, at most {most} are counted"
        raise ProtectionError(msg)
    return iterations


def _salt(data: bytes, element: der.Element) -> bytes:
    salt = der.content(data, der.expect(element, der.OCTET_STRING, "salt"))
    if len(salt) > _MAX_SALT_OCTETS:
        msg = f"its MAC has a salt of {len(salt)} octets, at most {_MAX_SALT_OCTETS} are taken"
        raise ProtectionError(msg)
    return salt


def _pbm_key(parameters: bytes, secret: bytes) -> tuple[bytes, str]:
    parts = der.children(parameters, der.whole(parameters), most=4)
    if len(parts) != 4:
        msg = "PBMParameter has not its four fields"
        raise DerError(msg)
    salt = _salt(parameters, parts[0])
    owf = _known(_ONE_WAY, algorithm(parameters, parts[1]), "one-way function")
    count = der.integer(parameters, der.expect(parts[2], der.INTEGER, "iterationCount"))
    digest = _known(_MACS, algorithm(parameters, parts[3]), "MAC algorithm")
    key = secret + salt
    for _ in range(_bounded(count, MAX_PBM_ITERATIONS)):
        key = hashlib.new(owf, key).digest()
    return key, digest


def _pbmac1_key(parameters: bytes, secret: bytes) -> tuple[bytes, str]:
    parts = der.children(parameters, der.whole(parameters), most=2)
    if len(parts) != 2:
        msg = "PBMAC1-params has not its two fields"
        raise DerError(msg)
    derivation, scheme = (algorithm(parameters, part) for part in parts)
    digest = _known(_MACS, scheme, "MAC algorithm")
    if derivation.oid != _PBKDF2 or derivation.parameters is None:
        msg = f"the key derivation {derivation.oid} of its MAC is not known"
        raise ProtectionError(msg)
    given = derivation.parameters
    fields = der.children(given, der.whole(given), most=4)
    if len(fields) < 2:
        msg = "PBKDF2-params without salt and iterations"
        raise DerError(msg)
    salt = _salt(given, fields[0])
    count = der.integer(given, der.expect(fields[1], der.INTEGER, "iterationCount"))
    octets, function = hashlib.new(digest).digest_size, "sha1"
    rest = fields[2:]
    if rest and rest[0].tag == der.INTEGER:
        octets = der.integer(given, rest.pop(0))
        if not _MIN_KEY_OCTETS <= octets <= _MAX_KEY_OCTETS:
            msg = "the key of its MAC has no length that is used"
            raise ProtectionError(msg)
    if rest:
        function = _known(_MACS, algorithm(given, rest[0]), "function of PBKDF2")
    return hashlib.pbkdf2_hmac(function, secret, salt, _bounded(count, MAX_PBKDF2_ITERATIONS), octets), digest


def _check_signature(
    message: Message, identifier: AlgorithmIdentifier, believed: Believed, now: datetime
) -> None:
    """
    Find whose signature it is among what came along, what is pinned, and the roots; then whether that one counts.
    """
    signed = Signed(
        digest=message.digest,
        tbs=memoryview(message.protected),
        algorithm=identifier,
        signature=message.protection or b"",
    )
    named = message.header.sender_key_id
    candidates = _readable((*message.extra, *believed.pinned, *believed.roots))
    if named is not None:
        candidates.sort(key=lambda one: one.subject_key_id != named)
    found, unusable = None, None
    # Each costs a signature; whoever signs is named by senderKID or stands first (RFC 9483 3.3).
    for candidate in candidates[:_MAX_CANDIDATES]:
        status = verify(signed, candidate.spki, remember=False)
        if status is SignatureStatus.VALID:
            found = candidate
            break
        if status in {SignatureStatus.UNSUPPORTED, SignatureStatus.WEAK}:
            unusable = unusable or status
    if found is None and unusable is not None:
        msg = f"its signature ({signature_name(identifier)}) is {unusable.value}"
        raise ProtectionError(msg)
    if found is None:
        msg = "its signature is of no certificate that came along or is configured"
        raise ProtectionError(msg)
    fault = _speaker_fault(message, found, believed, now)
    if fault is not None:
        msg = f"it is signed by {found.subject.text[:100]!r}, which {fault}"
        raise ProtectionError(msg)


def _speaker_fault(message: Message, found: Certificate, believed: Believed, now: datetime) -> str | None:
    usage = found.key_usage
    if usage is not None and not usage & {KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_CERT_SIGN}:
        return "lacks the key usage digitalSignature"
    if message.header.sender not in {None, writing.NO_NAME} and message.header.sender != found.subject.der:
        return "is not the sender that the message names"
    if found.der in believed.pinned:
        if not found.not_before <= now <= found.not_after:
            return f"was valid until {found.not_after:%Y-%m-%d %H:%M} UTC"
        return None
    fault = fault_of_path(found.der, message.extra, believed.roots, now)
    if fault is not None:
        return f"does not lead to `roots`: {fault}"
    speaks = found.is_ca or bool((found.extended_key_usage or frozenset()) & _SPEAKERS)
    if not speaks and found.subject.key not in believed.names:
        return (
            "is neither a CA nor has the extended key usage cmcCA or cmcRA: where it is the server all the same, "
            "set `server_certificate` or `server_name`"
        )
    return None


def _readable(ders: Sequence[bytes]) -> list[Certificate]:
    found = []
    for one in dict.fromkeys(ders):
        try:
            found.append(parse_certificate(one))
        except MalformedCertificateError:
            continue
    return found
