"""
Makes the lab's certificates, and signs its CRLs and OCSP responses (RFC 5280, RFC 6960) with `cryptography`.

Pure but for keys and serial numbers, which are random. Time is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    NameOID,
    ObjectIdentifier,
)

from cftpki_ext.core.values import dataclass

# An RSA key: the host's CA list speaks of RSA certificates only (RFC 2246 7.4.4).
KEY_BITS = 2048
# Old enough for the partner that expired, long enough for the one that is not valid yet.
CA_PAST = timedelta(days=3 * 365)
CA_FUTURE = timedelta(days=10 * 365)
# How long a CRL or an OCSP response of the lab counts: an hour of a stopped lab is then noticed.
STATUS_LIFE = timedelta(hours=1)
_SHA256 = hashes.SHA256()


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """
    A certificate with its key, and the certificates between it and the root.
    """

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    intermediates: tuple[x509.Certificate, ...] = ()

    def chain_pem(self) -> bytes:
        """
        The chain as it is sent: leaf first, without the root.
        """
        return b"".join(c.public_bytes(Encoding.PEM) for c in (self.certificate, *self.intermediates))

    def key_pem(self) -> bytes:
        """
        The key as unencrypted PKCS#8: these keys guard nothing.
        """
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True, slots=True, kw_only=True)
class Locations:
    """
    Where a certificate says that its status can be asked.
    """

    ocsp: str | None = None
    crl: str | None = None


def make_ca(
    common_name: str, now: datetime, *, parent: Member | None = None, at: Locations | None = None
) -> Member:
    """
    Make a CA: a root, or one below `parent` that may issue end entities only.

    Args:
        common_name: its name.
        now: the time of making.
        parent: the CA above; `None` for a root.
        at: where the new CA's own status can be asked.

    Returns:
        The CA.

    """
    key = _key()
    builder = _builder(common_name, now - CA_PAST, now + CA_FUTURE, key, parent)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=True, path_length=None if parent is None else 0), critical=True
    )
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    return _finish(builder, key, parent, at)


def make_leaf(
    common_name: str,
    validity: tuple[datetime, datetime],
    *,
    parent: Member,
    usages: Sequence[ObjectIdentifier],
    at: Locations | None = None,
) -> Member:
    """
    Make an end entity: a partner or the host.

    Args:
        common_name: its name; also its DNS name below `lab.example`, besides localhost.
        validity: from, to.
        parent: the CA that signs.
        usages: extended key usages.
        at: where its status can be asked.

    Returns:
        The end entity with its chain.

    """
    key = _key()
    builder = _builder(common_name, *validity, key, parent)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    names = [
        x509.DNSName(f"{common_name}.lab.example"),
        x509.DNSName("localhost"),
        x509.IPAddress(IPv4Address("127.0.0.1")),
    ]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _finish(builder, key, parent, at)


def make_ocsp_signer(now: datetime, *, parent: Member) -> Member:
    """
    Make a delegated OCSP signer (RFC 6960 4.2.2.2), which is itself never asked about (id-pkix-ocsp-nocheck).

    Args:
        now: the time of making.
        parent: the CA that delegates.

    Returns:
        The signer.

    """
    key = _key()
    builder = _builder("Lab OCSP signer", now - timedelta(hours=1), now + CA_FUTURE / 2, key, parent)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
    builder = builder.add_extension(x509.OCSPNoCheck(), critical=False)
    return _finish(builder, key, parent, None)


def sign_crl(issuer: Member, revoked: Mapping[int, datetime], now: datetime) -> bytes:
    """
    Sign the CRL of `issuer`, numbered by the second.

    Args:
        issuer: the CA.
        revoked: serial number → time of revocation.
        now: thisUpdate.

    Returns:
        DER.

    """
    now = now.replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now)
        .next_update(now + STATUS_LIFE)
        .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
        .add_extension(_authority_key_id(issuer), critical=False)
    )
    for serial, when in revoked.items():
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
        entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, _SHA256).public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Responder:
    """
    Answers OCSP requests about one CA's certificates.
    """

    issuer: x509.Certificate
    signer: Member

    def answer(
        self, request_der: bytes, *, known: frozenset[int], revoked: Mapping[int, datetime], now: datetime
    ) -> bytes:
        """
        Answer one request; a nonce is echoed (RFC 9654).

        Args:
            request_der: the request as received.
            known: every serial number that the CA issued; the others are "unknown".
            revoked: serial number → time of revocation.
            now: thisUpdate.

        Returns:
            DER of the response: signed, or "malformedRequest", or "unauthorized" for another CA's certificate.

        """
        try:
            request = ocsp.load_der_ocsp_request(request_der)
            algorithm = request.hash_algorithm
            nonce = next((e.value for e in request.extensions if isinstance(e.value, x509.OCSPNonce)), None)
            ours = _hashes(self.issuer, algorithm)
            theirs = (request.issuer_name_hash, request.issuer_key_hash)
            serial = request.serial_number
        except (ValueError, NotImplementedError):
            # cryptography reads requests about one certificate, which is all that RFC 5019 clients send
            return _failure(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
        if ours != theirs:
            return _failure(ocsp.OCSPResponseStatus.UNAUTHORIZED)
        when = revoked.get(serial)
        status = ocsp.OCSPCertStatus.GOOD if serial in known else ocsp.OCSPCertStatus.UNKNOWN
        now = now.replace(microsecond=0)
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response_by_hash(
                issuer_name_hash=ours[0],
                issuer_key_hash=ours[1],
                serial_number=serial,
                algorithm=algorithm,
                cert_status=status if when is None else ocsp.OCSPCertStatus.REVOKED,
                this_update=now,
                next_update=now + STATUS_LIFE,
                revocation_time=when,
                revocation_reason=None if when is None else x509.ReasonFlags.key_compromise,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self.signer.certificate)
            .certificates([self.signer.certificate])
        )
        if nonce is not None:
            builder = builder.add_extension(nonce, critical=False)
        return builder.sign(self.signer.key, _SHA256).public_bytes(Encoding.DER)


def _failure(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


def _hashes(issuer: x509.Certificate, algorithm: hashes.HashAlgorithm) -> tuple[bytes, bytes]:
    """
    The two hashes of CertID, issuerNameHash and issuerKeyHash (RFC 6960 4.1.1): the key without tag, length and unused bits.
    """
    key = issuer.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        msg = "the lab's CAs have RSA keys"
        raise TypeError(msg)
    bits = key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    digests = []
    for data in (issuer.subject.public_bytes(), bits):
        digest = hashes.Hash(algorithm)
        digest.update(data)
        digests.append(digest.finalize())
    return digests[0], digests[1]


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def _builder(
    common_name: str, not_before: datetime, not_after: datetime, key: rsa.RSAPrivateKey, parent: Member | None
) -> x509.CertificateBuilder:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "cftpki lab"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if parent is None else parent.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before.replace(microsecond=0))
        .not_valid_after(not_after.replace(microsecond=0))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _finish(
    builder: x509.CertificateBuilder, key: rsa.RSAPrivateKey, parent: Member | None, at: Locations | None
) -> Member:
    if at is not None and at.ocsp is not None:
        access = x509.AccessDescription(
            AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(at.ocsp)
        )
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    if at is not None and at.crl is not None:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(at.crl)], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    if parent is None:
        return Member(certificate=builder.sign(key, _SHA256), key=key)
    builder = builder.add_extension(_authority_key_id(parent), critical=False)
    certificate = builder.sign(parent.key, _SHA256)
    # The root is not sent; whoever trusts it has it.
    above = () if parent.certificate.issuer == parent.certificate.subject else (parent.certificate,)
    return Member(certificate=certificate, key=key, intermediates=(*above, *parent.intermediates))


def _authority_key_id(issuer: Member) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
