"""
Keys, names, extensions and certificates, with any field as it is asked for.
"""

from __future__ import annotations

import base64
import functools
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
