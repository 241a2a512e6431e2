"""
A small PKI for tests: keys, certificates with any extension, CRLs and OCSP responses with any field bent.

How to use it::

    root = make_root("Root")                                  # a CA: .certificate, .key, .der, .pem, .name
    inter = issue(root, "Issuing CA", ca=True)                # another CA
    leaf = issue(inter, "partner", san=["dns:partner.example"], eku=["clientAuth"])
    crl = make_crl(inter, [Revoked(leaf.serial)])             # DER
    answer = make_ocsp_response(inter, leaf)                  # DER
    forged = mutate_tbs(leaf.der, b"partner", b"parfner")     # bytes changed, signature kept
    chain = pem(leaf.der, inter.der)

Everything is valid from a day before `NOW` for ten years unless said otherwise, so that tests pass `NOW` as
the time and never read a clock. Keys are made once per session and kind (`key("rsa", 3)` is always the same
key). Nothing here checks anything: what is asked for is built, however wrong.

More than 400 lines: certificates, CRLs and OCSP responses are built from the same parts.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import ipaddress
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    NameOID,
    ObjectIdentifier,
)

from cftpki_ext.x509 import der

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
YEARS = timedelta(days=3650)

EKUS = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "OCSPSigning": ExtendedKeyUsageOID.OCSP_SIGNING,
    "codeSigning": ExtendedKeyUsageOID.CODE_SIGNING,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
}

_serials = itertools.count(0x1000)
# Far from every index that a test names: two keys that a test takes for different ones must never be the same.
_tags = itertools.count(1_000_000)


@functools.cache
def key(kind: str = "ec", index: int = 0) -> Any:
    """
    A private key, the same for the same arguments.

    Kinds: `ec` (P-256), `p384`, `p521`, `rsa` (2048), `rsa1024`, `rsa3072`, `ed25519`, `ed448`, `dsa`, `p224`,
    `secp256k1`.
    """
    del index
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:] or 2048))
    if kind == "dsa":
        return dsa.generate_private_key(2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "ed448":
        return ed448.Ed448PrivateKey.generate()
    curves = {
        "ec": ec.SECP256R1,
        "p384": ec.SECP384R1,
        "p521": ec.SECP521R1,
        "p224": ec.SECP224R1,
        "secp256k1": ec.SECP256K1,
    }
    return ec.generate_private_key(curves[kind]())


def name(text: str | x509.Name, **attributes: str) -> x509.Name:
    """
    `"CN"` or `"CN=…,O=…"` (RFC 4514) as a name; a name as itself; the empty string as the empty name.
    """
    if isinstance(text, x509.Name):
        return text
    if "=" in text:
        return x509.Name.from_rfc4514_string(text)
    rdns = [x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else []
    return x509.Name(rdns)


def general_name(text: str) -> x509.GeneralName:
    """
    `"dns:…"`, `"email:…"`, `"uri:…"`, `"ip:…"` (address or network), `"dir:CN=…"`, `"rid:1.2.3"`, `"other:1.2.3"`.
    """
    kind, _, value = text.partition(":")
    if kind == "ip":
        network = ipaddress.ip_network(value) if "/" in value else ipaddress.ip_address(value)
        return x509.IPAddress(network)
    if kind == "dir":
        return x509.DirectoryName(name(value))
    if kind == "rid":
        return x509.RegisteredID(ObjectIdentifier(value))
    if kind == "other":
        return x509.OtherName(ObjectIdentifier(value), b"\x0c\x01x")
    kinds: dict[str, Any] = {
        "dns": x509.DNSName,
        "email": x509.RFC822Name,
        "uri": x509.UniformResourceIdentifier,
    }
    return kinds[kind]._init_without_validation(value)  # wrong names must be buildable


def key_usage(*bits: str) -> x509.KeyUsage:
    """
    A keyUsage value from the names of RFC 5280: `key_usage("keyCertSign", "cRLSign")`.
    """
    return x509.KeyUsage(
        digital_signature="digitalSignature" in bits,
        content_commitment="contentCommitment" in bits,
        key_encipherment="keyEncipherment" in bits,
        data_encipherment="dataEncipherment" in bits,
        key_agreement="keyAgreement" in bits,
        key_cert_sign="keyCertSign" in bits,
        crl_sign="cRLSign" in bits,
        encipher_only="encipherOnly" in bits,
        decipher_only="decipherOnly" in bits,
    )


def name_constraints(permitted: Sequence[str] = (), excluded: Sequence[str] = ()) -> x509.NameConstraints:
    """
    A nameConstraints value from texts as `general_name` takes.
    """
    return x509.NameConstraints(
        [general_name(n) for n in permitted] or None, [general_name(n) for n in excluded] or None
    )


def policies(*oids: str) -> x509.CertificatePolicies:
    """
    A certificatePolicies value.
    """
    return x509.CertificatePolicies([x509.PolicyInformation(ObjectIdentifier(o), None) for o in oids])


def raw_extension(oid: str, value: bytes) -> x509.UnrecognizedExtension:
    """
    Any extension with any content, well-formed or not.
    """
    return x509.UnrecognizedExtension(ObjectIdentifier(oid), value)


@dataclass(frozen=True)
class Entity:
    """
    A certificate with its private key, and (for a CA) what is needed to issue under it.
    """

    certificate: x509.Certificate
    key: Any
    der: bytes = field(repr=False)

    @property
    def pem(self) -> bytes:
        return pem(self.der)

    @property
    def serial(self) -> int:
        return self.certificate.serial_number

    @property
    def name(self) -> x509.Name:
        return self.certificate.subject

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)


def pem(*ders: bytes, label: str = "CERTIFICATE") -> bytes:
    """
    PEM blocks, one after the other.
    """
    out = b""
    for one in ders:
        text = base64.encodebytes(one).replace(b"\n", b"")
        lines = b"\n".join(text[i : i + 64] for i in range(0, len(text), 64))
        out += b"-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label.encode(), lines, label.encode())
    return out


def key_pem(private: Any, password: bytes | None = None) -> bytes:
    """
    A private key as PKCS#8 PEM, encrypted where a password is given.
    """
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        protection = serialization.BestAvailableEncryption(password)
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def default_hash(private: Any) -> hashes.HashAlgorithm | None:
    """
    SHA-256, or nothing for the Edwards curves.
    """
    return (
        None if isinstance(private, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)) else hashes.SHA256()
    )


def sign(private: Any, data: bytes, digest: hashes.HashAlgorithm | None = None) -> bytes:
    """
    A raw signature: PKCS #1 v1.5, ECDSA or EdDSA by the key; SHA-256 by default.
    """
    digest = digest or default_hash(private)
    if isinstance(private, rsa.RSAPrivateKey):
        return private.sign(data, padding.PKCS1v15(), digest)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return private.sign(data, ec.ECDSA(digest))
    if isinstance(private, dsa.DSAPrivateKey):
        return private.sign(data, digest)
    return private.sign(data)


def issue(
    issuer: Entity | None,
    subject: str | x509.Name,
    *,
    ca: bool = False,
    path_length: int | None = None,
    private: Any = None,
    kind: str = "ec",
    serial: int | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    issuer_name: str | x509.Name | None = None,
    signing_key: Any = None,
    digest: hashes.HashAlgorithm | None = None,
    rsa_padding: Any = None,
    san: Sequence[str] = (),
    san_critical: bool = False,
    usage: Sequence[str] | None = None,
    eku: Sequence[str] | None = None,
    nocheck: bool = False,
    must_staple: bool = False,
    crl_urls: Sequence[str] = (),
    ocsp_urls: Sequence[str] = (),
    issuer_urls: Sequence[str] = (),
    key_ids: bool = True,
    basic_constraints: x509.BasicConstraints | bool | None = True,
    basic_constraints_critical: bool = True,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
) -> Entity:
    """
    Issue a certificate under `issuer` (`None`: self-signed).

    By default a CA gets critical basic constraints and keyCertSign with cRLSign, a leaf gets digitalSignature,
    both get key identifiers, a fresh serial number, and a fresh key of `kind` (`private` gives one).

    Args:
        issuer: the CA.
        subject: common name, RFC 4514 text, or a name.
        ca: make it a CA.
        path_length: its path length constraint.
        private: its private key.
        kind: what key to make where `private` is not given; see `key`.
        serial: its serial number (positive; `reserial` bends it further).
        not_before: default a day before `NOW`.
        not_after: default ten years after that.
        issuer_name: another issuer name than the CA's.
        signing_key: another signing key than the CA's.
        digest: default SHA-256.
        rsa_padding: `padding.PSS(…)` for an RSASSA-PSS signature.
        san: names as `general_name` takes.
        san_critical: whether that extension is critical.
        usage: key usage bits; the empty list leaves the extension out.
        eku: names of `EKUS` or dotted identifiers; `None` leaves the extension out.
        nocheck: add id-pkix-ocsp-nocheck.
        must_staple: add the TLS feature status_request.
        crl_urls: CRL distribution points, one point each.
        ocsp_urls: OCSP locations.
        issuer_urls: locations of the issuer's certificate.
        key_ids: add subject and authority key identifiers.
        basic_constraints: `True` as `ca` says (none for a leaf), `None` left out, or the value.
        basic_constraints_critical: whether that extension is critical.
        extensions: any others, with their criticality.

    Returns:
        The certificate and its key.

    """
    private = private if private is not None else key(kind, next(_tags))
    signer = signing_key if signing_key is not None else (issuer.key if issuer else private)
    own = private.public_key()
    subject_name = name(subject)
    start = not_before or NOW - DAY
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject_name)
        .issuer_name(
            name(issuer_name) if issuer_name is not None else (issuer.name if issuer else subject_name)
        )
        .public_key(own)
        .serial_number(serial if serial is not None else next(_serials))
        .not_valid_before(start)
        .not_valid_after(not_after or start + YEARS)
    )
    added: list[tuple[x509.ExtensionType, bool]] = []
    if basic_constraints is True:
        if ca:
            added.append(
                (x509.BasicConstraints(ca=True, path_length=path_length), basic_constraints_critical)
            )
    elif isinstance(basic_constraints, x509.BasicConstraints):
        added.append((basic_constraints, basic_constraints_critical))
    bits = usage if usage is not None else (["keyCertSign", "cRLSign"] if ca else ["digitalSignature"])
    if bits:
        added.append((key_usage(*bits), True))
    if key_ids:
        added.append((x509.SubjectKeyIdentifier.from_public_key(own), False))
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            issuer.key.public_key() if issuer else own
        )
        added.append((identifier, False))
    if eku is not None:
        added.append((x509.ExtendedKeyUsage([EKUS.get(e) or ObjectIdentifier(e) for e in eku]), False))
    if san:
        added.append((x509.SubjectAlternativeName([general_name(n) for n in san]), san_critical))
    if nocheck:
        added.append((x509.OCSPNoCheck(), False))
    if must_staple:
        added.append((x509.TLSFeature([x509.TLSFeatureType.status_request]), False))
    if crl_urls:
        points = [
            x509.DistributionPoint([x509.UniformResourceIdentifier(u)], None, None, None) for u in crl_urls
        ]
        added.append((x509.CRLDistributionPoints(points), False))
    access = [(AuthorityInformationAccessOID.OCSP, u) for u in ocsp_urls]
    access += [(AuthorityInformationAccessOID.CA_ISSUERS, u) for u in issuer_urls]
    if access:
        descriptions = [x509.AccessDescription(o, x509.UniformResourceIdentifier(u)) for o, u in access]
        added.append((x509.AuthorityInformationAccess(descriptions), False))
    added += extensions
    for value, critical in added:
        builder = builder.add_extension(value, critical)
    certificate = builder.sign(
        signer, digest or default_hash(signer), **({"rsa_padding": rsa_padding} if rsa_padding else {})
    )
    return Entity(certificate, private, certificate.public_bytes(serialization.Encoding.DER))


def make_root(subject: str | x509.Name = "Test Root", **options: Any) -> Entity:
    """
    A self-signed CA; options as for `issue`.
    """
    return issue(None, subject, ca=True, **options)


# -- bending what was built ----------------------------------------------------------------------------------


def resign(encoded: bytes, tbs: bytes, private: Any, digest: hashes.HashAlgorithm | None = None) -> bytes:
    """
    The signed object `encoded` with another signed part, signed again with `private` under the same algorithm.
    """
    parts = der.children(encoded, der.whole(encoded))
    rest = b"".join(der.encoded(encoded, p) for p in parts[3:])
    signature = der.encode(der.BIT_STRING, b"\0", sign(private, tbs, digest))
    return der.encode(der.SEQUENCE, tbs, der.encoded(encoded, parts[1]), signature, rest)


def tbs_of(encoded: bytes) -> bytes:
    """
    The signed part of a signed object.
    """
    return der.encoded(encoded, der.children(encoded, der.whole(encoded))[0])


def tbs_fields(encoded: bytes) -> list[bytes]:
    """
    The encoded fields of a signed object's signed part (certificate: version, serial, algorithm, …).
    """
    tbs = tbs_of(encoded)
    return [der.encoded(tbs, part) for part in der.children(tbs, der.whole(tbs))]


def rebuild(encoded: bytes, fields: Sequence[bytes], private: Any) -> bytes:
    """
    The signed object with other fields in its signed part, properly signed.
    """
    return resign(encoded, der.encode(der.SEQUENCE, *fields), private)


def with_field(encoded: bytes, index: int, value: bytes, private: Any) -> bytes:
    """
    The signed object with one field of its signed part replaced, properly signed.
    """
    fields = tbs_fields(encoded)
    fields[index] = value
    return rebuild(encoded, fields, private)


def reserial(entity: Entity, content: bytes, private: Any) -> bytes:
    """
    The certificate with any octets as its serial number, properly signed by `private`.
    """
    return with_field(entity.der, 1, der.encode(der.INTEGER, content), private)


def mutate_tbs(encoded: bytes, old: bytes, new: bytes) -> bytes:
    """
    The object with `old` replaced by `new` (of the same length), the signature left as it was.
    """
    if len(old) != len(new) or old not in encoded:
        msg = "old must be there, and new as long as old"
        raise ValueError(msg)
    return encoded.replace(old, new)


def break_signature(encoded: bytes) -> bytes:
    """
    The object with the last octet of its signature changed.
    """
    parts = der.children(encoded, der.whole(encoded))
    last = parts[2].end - 1
    return encoded[:last] + bytes((encoded[last] ^ 1,)) + encoded[last + 1 :]


# -- CRLs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Revoked:
    """
    An entry of a CRL. `reason` is an `x509.ReasonFlags` member; `issuer` makes it indirect.
    """

    serial: int
    at: datetime = NOW - timedelta(hours=2)
    reason: x509.ReasonFlags | None = None
    issuer: str | x509.Name | None = None
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = ()


def make_crl(
    issuer: Entity,
    revoked: Iterable[Revoked | int] = (),
    *,
    number: int | None = 1,
    delta_base: int | None = None,
    this_update: datetime | None = None,
    next_update: datetime | bool | None = True,
    idp: x509.IssuingDistributionPoint | None = None,
    freshest: Sequence[str] = (),
    issuer_name: str | x509.Name | None = None,
    signing_key: Any = None,
    digest: hashes.HashAlgorithm | None = None,
    key_ids: bool = True,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """
    A CRL signed by `issuer`, DER. By default complete, number 1, from an hour before `NOW` for a day.

    Args:
        issuer: who signs.
        revoked: entries, or plain serial numbers.
        number: the CRL number; `None` leaves it out.
        delta_base: makes it a delta CRL with that base number.
        this_update: default an hour before `NOW`.
        next_update: `True` a day after `this_update`, `None` left out (RFC 5280 forbids that), or the time.
        idp: an issuing distribution point (critical).
        freshest: locations of delta CRLs.
        issuer_name: another name than the signer's.
        signing_key: another key than the signer's.
        digest: default SHA-256.
        key_ids: add the authority key identifier.
        extensions: any others, with their criticality.

    Returns:
        The DER.

    """
    start = this_update or NOW - timedelta(hours=1)
    signer = signing_key or issuer.key
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer_name) if issuer_name is not None else issuer.name)
        .last_update(start)
        .next_update(next_update if isinstance(next_update, datetime) else start + DAY)
    )
    for one in revoked:
        entry = one if isinstance(one, Revoked) else Revoked(one)
        item = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(entry.at)
        if entry.reason is not None:
            item = item.add_extension(x509.CRLReason(entry.reason), critical=False)
        if entry.issuer is not None:
            names = [x509.DirectoryName(name(entry.issuer))]
            item = item.add_extension(x509.CertificateIssuer(names), critical=True)
        for value, critical in entry.extensions:
            item = item.add_extension(value, critical)
        builder = builder.add_revoked_certificate(item.build())
    added: list[tuple[x509.ExtensionType, bool]] = []
    if key_ids:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        added.append((identifier, False))
    if number is not None:
        added.append((x509.CRLNumber(number), False))
    if delta_base is not None:
        added.append((x509.DeltaCRLIndicator(delta_base), True))
    if idp is not None:
        added.append((idp, True))
    if freshest:
        points = [
            x509.DistributionPoint([x509.UniformResourceIdentifier(u)], None, None, None) for u in freshest
        ]
        added.append((x509.FreshestCRL(points), False))
    added += extensions
    for value, critical in added:
        builder = builder.add_extension(value, critical)
    encoded = builder.sign(signer, digest or default_hash(signer)).public_bytes(serialization.Encoding.DER)
    if next_update is None:
        fields = tbs_fields(encoded)
        encoded = rebuild(encoded, fields[:4] + fields[5:], signer)
    return encoded


def idp(
    *,
    urls: Sequence[str] = (),
    users_only: bool = False,
    cas_only: bool = False,
    attributes_only: bool = False,
    reasons: Iterable[x509.ReasonFlags] = (),
    indirect: bool = False,
) -> x509.IssuingDistributionPoint:
    """
    An issuing distribution point.
    """
    return x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier(u) for u in urls] or None,
        relative_name=None,
        only_contains_user_certs=users_only,
        only_contains_ca_certs=cas_only,
        only_some_reasons=frozenset(reasons) or None,
        indirect_crl=indirect,
        only_contains_attribute_certs=attributes_only,
    )


# -- OCSP ----------------------------------------------------------------------------------------------------

_HASH_OIDS = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
_NULL = b"\x05\x00"
_OCSP_BASIC = "1.3.6.1.5.5.7.48.1.1"
_OCSP_NONCE = "1.3.6.1.5.5.7.48.1.2"


def oid(dotted: str) -> bytes:
    """
    The DER of an object identifier.
    """
    first, second, *rest = (int(a) for a in dotted.split("."))
    out = b""
    for arc in (40 * first + second, *rest):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(0x80 | arc & 0x7F)
        out += bytes(reversed(septets))
    return der.encode(der.OBJECT_IDENTIFIER, out)


def integer(value: int) -> bytes:
    """
    The DER of an integer.
    """
    length = (value.bit_length() if value >= 0 else (value + 1).bit_length()) // 8 + 1
    return der.encode(der.INTEGER, value.to_bytes(length, "big", signed=True))


def generalized_time(at: datetime) -> bytes:
    """
    The DER of a GeneralizedTime.
    """
    return der.encode(der.GENERALIZED_TIME, at.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode())


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    """
    The DER of one Extension.
    """
    return der.encode(
        der.SEQUENCE, oid(dotted), b"\x01\x01\xff" if critical else b"", der.encode(der.OCTET_STRING, value)
    )


def _extensions(tag: int, items: Sequence[bytes]) -> bytes:
    return der.encode(tag, der.encode(der.SEQUENCE, *items)) if items else b""


def signature_algorithm(private: Any, digest: str = "sha256") -> bytes:
    """
    The DER of the AlgorithmIdentifier that `sign` uses for this key and digest.
    """
    if isinstance(private, rsa.RSAPrivateKey):
        arc = {"md5": 4, "sha1": 5, "sha256": 11, "sha384": 12, "sha512": 13}[digest]
        return der.encode(der.SEQUENCE, oid(f"1.2.840.113549.1.1.{arc}"), _NULL)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        last = {"sha1": "1", "sha256": "3.2", "sha384": "3.3", "sha512": "3.4"}[digest]
        return der.encode(der.SEQUENCE, oid(f"1.2.840.10045.4.{last}"))
    ed = "1.3.101.112" if isinstance(private, ed25519.Ed25519PrivateKey) else "1.3.101.113"
    return der.encode(der.SEQUENCE, oid(ed))


def public_key_bits(entity: Entity) -> bytes:
    """
    The content of the subjectPublicKey BIT STRING (what the issuerKeyHash of OCSP is made of).
    """
    spki = entity.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    parts = der.children(spki, der.whole(spki))
    return der.bit_string(spki, parts[1])[0]


def name_der(value: x509.Name) -> bytes:
    """
    The DER of a name.
    """
    return value.public_bytes()


@dataclass(frozen=True)
class Single:
    """
    One SingleResponse. What is `None` is computed from the certificate and its issuer.

    `status` is `good`, `revoked` or `unknown`. `next_update` `None` leaves it out. `algorithm_parameters` are
    those of the CertID's hash (`b""` leaves them out).
    """

    issuer: Entity
    certificate: Entity
    status: str = "good"
    this_update: datetime = NOW - timedelta(hours=1)
    next_update: datetime | None = NOW + timedelta(hours=23)
    revoked_at: datetime = NOW - timedelta(hours=2)
    reason: int | None = None
    hash_name: str = "sha1"
    hash_oid: str | None = None
    algorithm_parameters: bytes = _NULL
    name_hash: bytes | None = None
    key_hash: bytes | None = None
    serial: int | None = None
    extensions: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """
        The DER of the SingleResponse.
        """

        def digest(data: bytes) -> bytes:
            return hashlib.new(self.hash_name, data).digest()

        name_hash = self.name_hash if self.name_hash is not None else digest(name_der(self.issuer.name))
        key_hash = self.key_hash if self.key_hash is not None else digest(public_key_bits(self.issuer))
        serial = self.serial if self.serial is not None else self.certificate.serial
        algorithm = oid(self.hash_oid or _HASH_OIDS[self.hash_name])
        cert_id = der.encode(
            der.SEQUENCE,
            der.encode(der.SEQUENCE, algorithm, self.algorithm_parameters),
            der.encode(der.OCTET_STRING, name_hash),
            der.encode(der.OCTET_STRING, key_hash),
            integer(serial),
        )
        if self.status == "revoked":
            why = b""
            if self.reason is not None:
                why = der.encode(0xA0, der.encode(der.ENUMERATED, bytes((self.reason,))))
            status = der.encode(0xA1, generalized_time(self.revoked_at), why)
        else:
            status = der.encode(0x80 if self.status == "good" else 0x82)
        until = der.encode(0xA0, generalized_time(self.next_update)) if self.next_update else b""
        return der.encode(
            der.SEQUENCE,
            cert_id,
            status,
            generalized_time(self.this_update),
            until,
            _extensions(0xA1, self.extensions),
        )


def make_ocsp_response(
    issuer: Entity,
    certificate: Entity,
    status: str = "good",
    *,
    signer: Entity | None = None,
    signing_key: Any = None,
    digest: str = "sha256",
    certificates: Sequence[bytes] | None = None,
    by_key: bool = False,
    responder_id: bytes | None = None,
    produced_at: datetime = NOW - timedelta(hours=1),
    singles: Sequence[Single] | None = None,
    nonce: bytes | None = None,
    extensions: Sequence[bytes] = (),
    version: int | None = None,
    response_status: int = 0,
    response_type: str = _OCSP_BASIC,
    outer_algorithm: bytes | None = None,
    **single: Any,
) -> bytes:
    """
    An OCSP response, DER, built octet by octet so that any field may be wrong.

    By default it is signed by the CA itself, says `status` about `certificate`, was made an hour before `NOW`
    and is good for a day. With `signer` (a delegate) the delegate's certificate is enclosed.

    Args:
        issuer: the CA of `certificate`, for the CertID.
        certificate: what is asked about.
        status: `good`, `revoked` or `unknown`.
        signer: who signs, and whose name or key is the responder ID.
        signing_key: another key than the signer's.
        digest: of the signature.
        certificates: DER certificates to enclose; default the delegate's, or none.
        by_key: name the responder by key hash.
        responder_id: the DER of the whole ResponderID choice, tag included.
        produced_at: producedAt.
        singles: all single responses, instead of the one that the other arguments describe.
        nonce: the nonce's octets.
        extensions: further response extensions, from `extension`.
        version: write out this version number (0 is v1, and DER leaves it out).
        response_status: the outer status; when it is not 0 there is no body.
        response_type: the identifier of the body's type.
        outer_algorithm: another AlgorithmIdentifier than the one used, DER.
        **single: fields of `Single`.

    Returns:
        The DER.

    """
    outer = der.encode(der.ENUMERATED, bytes((response_status,)))
    if response_status != 0:
        return der.encode(der.SEQUENCE, outer)
    by = signer or issuer
    private = signing_key or by.key
    if responder_id is None:
        if by_key:
            key_hash = hashlib.sha1(public_key_bits(by)).digest()  # noqa: S324  # RFC 6960 4.2.1 fixes SHA-1
            responder_id = der.encode(0xA2, der.encode(der.OCTET_STRING, key_hash))
        else:
            responder_id = der.encode(0xA1, name_der(by.name))
    if singles is None:
        singles = [Single(issuer, certificate, status, **single)]
    items = list(extensions)
    if nonce is not None:
        items.append(extension(_OCSP_NONCE, der.encode(der.OCTET_STRING, nonce)))
    data = der.encode(
        der.SEQUENCE,
        der.encode(0xA0, integer(version)) if version is not None else b"",
        responder_id,
        generalized_time(produced_at),
        der.encode(der.SEQUENCE, *(s.encode() for s in singles)),
        _extensions(0xA1, items),
    )
    hash_algorithm = {
        "md5": hashes.MD5,
        "sha1": hashes.SHA1,
        "sha256": hashes.SHA256,
        "sha384": hashes.SHA384,
        "sha512": hashes.SHA512,
    }[digest]()  # the weak ones are here to be refused
    if certificates is None:
        certificates = [signer.der] if signer is not None else []
    basic = der.encode(
        der.SEQUENCE,
        data,
        outer_algorithm or signature_algorithm(private, digest),
        der.encode(der.BIT_STRING, b"\0", sign(private, data, hash_algorithm)),
        der.encode(0xA0, der.encode(der.SEQUENCE, *certificates)) if certificates else b"",
    )
    body = der.encode(der.SEQUENCE, oid(response_type), der.encode(der.OCTET_STRING, basic))
    return der.encode(der.SEQUENCE, outer, der.encode(0xA0, body))
