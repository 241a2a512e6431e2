"""
Certificates for the benchmarks: root, intermediate, leaf (RSA-2048), a CRL for one of them and OCSP for the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """
    DER throughout; `root_crl` speaks of the intermediate, `leaf_ocsp` of the leaf, signed by a delegate.
    """

    root: bytes
    intermediate: bytes
    leaf: bytes
    root_crl: bytes
    leaf_crl: bytes
    leaf_ocsp: bytes


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(
    subject: str,
    key: rsa.RSAPrivateKey,
    issuer: str,
    issuer_key: rsa.RSAPrivateKey,
    *extensions: tuple[x509.ExtensionType, bool],
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=30))
        .not_valid_after(NOW + timedelta(days=300))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _usage(*names: str) -> tuple[x509.KeyUsage, bool]:
    bits = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{bit: bit in names for bit in bits}), True


def _crl(issuer: str, key: rsa.RSAPrivateKey, entries: int) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(_name(issuer))
        .last_update(NOW - timedelta(hours=1))
        .next_update(NOW + timedelta(days=7))
        .add_extension(x509.CRLNumber(7), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    for number in range(entries):
        revoked = x509.RevokedCertificateBuilder(number + 1, NOW - timedelta(days=2)).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def make(crl_entries: int = 50) -> Material:
    """
    Fresh keys, certificates and statements; everything is good now.
    """
    keys = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(4)]
    root_key, ca_key, leaf_key, responder_key = keys
    ca_usage = _usage("key_cert_sign", "crl_sign")
    root = _certificate(
        "Bench Root",
        root_key,
        "Bench Root",
        root_key,
        (x509.BasicConstraints(ca=True, path_length=None), True),
        ca_usage,
    )
    ca = _certificate(
        "Bench CA",
        ca_key,
        "Bench Root",
        root_key,
        (x509.BasicConstraints(ca=True, path_length=0), True),
        ca_usage,
        (_points("http://crl.bench.example/root.crl"), False),
    )
    leaf = _certificate(
        "partner.bench.example",
        leaf_key,
        "Bench CA",
        ca_key,
        (x509.BasicConstraints(ca=False, path_length=None), True),
        _usage("digital_signature", "key_encipherment"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (x509.SubjectAlternativeName([x509.DNSName("partner.bench.example")]), False),
        (_points("http://crl.bench.example/ca.crl"), False),
        (
            x509.AuthorityInformationAccess(
                [
                    x509.AccessDescription(
                        AuthorityInformationAccessOID.OCSP,
                        x509.UniformResourceIdentifier("http://ocsp.bench.example/"),
                    )
                ]
            ),
            False,
        ),
    )
    responder = _certificate(
        "Bench Responder",
        responder_key,
        "Bench CA",
        ca_key,
        _usage("digital_signature"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False),
        (x509.OCSPNoCheck(), False),
    )
    answer = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=leaf,
            issuer=ca,
            algorithm=hashes.SHA1(),  # noqa: S303 (the CertID that responders know, RFC 5019)
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=NOW - timedelta(minutes=5),
            next_update=NOW + timedelta(days=1),
            revocation_time=None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, responder)
        .certificates([responder])
        .sign(responder_key, hashes.SHA256())
    )
    der = serialization.Encoding.DER
    return Material(
        root=root.public_bytes(der),
        intermediate=ca.public_bytes(der),
        leaf=leaf.public_bytes(der),
        root_crl=_crl("Bench Root", root_key, crl_entries),
        leaf_crl=_crl("Bench CA", ca_key, crl_entries),
        leaf_ocsp=answer.public_bytes(der),
    )


def _points(url: str) -> x509.CRLDistributionPoints:
    return x509.CRLDistributionPoints(
        [
            x509.DistributionPoint(
                full_name=[x509.UniformResourceIdentifier(url)],
                relative_name=None,
                reasons=None,
                crl_issuer=None,
            )
        ]
    )
