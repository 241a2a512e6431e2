"""
Which way to the next certificate works, told from the certificate that we hold.

step-ca renews only what is good for TLS client authentication, keeps names and lifetime, and (`/renew`) the key. Who
finds that out when the certificate is about to end is too late, so it is decided when it is issued. Pure: the time is
an argument.
"""

from __future__ import annotations

import enum
import itertools
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cftpki_connectors.stepca.options import Renewal
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Order, PrivateKey

# step-ca backdates by a minute, and renews for the old lifetime less that.
_LIFETIME_SLACK = timedelta(minutes=5)
# What cryptography raises for extensions and keys that it cannot parse.
_UNREADABLE = (
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
# ub-common-name of RFC 5280.
MAX_COMMON_NAME = 64
_CANNOT_BE_READ = "the certificate has something in it that cannot be read"


class Way(enum.StrEnum):
    """
    A request to step-ca that ends in a certificate.
    """

    SIGN = "sign"  # by a token of the provisioner
    RENEW = "renew"  # by TLS with the certificate, same key
    RENEW_BY_TOKEN = "renew-by-token"  # noqa: S105  # by a token that shows the certificate, same key
    REKEY = "rekey"  # by TLS with the certificate, new key


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    The way, and in one clause why.
    """

    way: Way
    why: str


def plan(order: Order, *, roots: tuple[bytes, ...], renewal: Renewal, now: datetime) -> Plan:
    """
    The way for an order.

    Everything that would make the CA refuse a renewal, or issue something else than what is ordered, leads to
    a fresh signature: it always works where the provisioner's credentials do. Whether the CA has revoked the
    certificate, or renewals are disabled, is *not* known here.
    """
    if order.current is None:
        return Plan(way=Way.SIGN, why="there is no certificate yet")
    if order.revoked:
        return Plan(way=Way.SIGN, why="the certificate in use is revoked")
    chain = order.current.chain
    try:
        leaf = x509.load_der_x509_certificate(chain[0])
        obstacle = _obstacle(leaf, chain, roots=roots, renewal=renewal, now=now) or _difference(leaf, order)
        same = same_key(order.key, leaf)
    except _UNREADABLE:
        return Plan(way=Way.SIGN, why=_CANNOT_BE_READ)
    if obstacle is not None:
        return Plan(way=Way.SIGN, why=obstacle)
    if same:
        way = Way.RENEW_BY_TOKEN if renewal is Renewal.TOKEN else Way.RENEW
        return Plan(way=way, why="the certificate has clientAuth and keeps its key")
    if renewal is Renewal.TOKEN:
        return Plan(way=Way.SIGN, why="there is a new key, and step-ca takes one by TLS only")
    return Plan(way=Way.REKEY, why="the certificate has clientAuth and gets a new key")


def outlook(chain: tuple[bytes, ...], *, roots: tuple[bytes, ...], renewal: Renewal, now: datetime) -> str:
    """
    How the certificate just issued will be renewed, for the operator.
    """
    try:
        leaf = x509.load_der_x509_certificate(chain[0])
        obstacle = _obstacle(leaf, chain, roots=roots, renewal=renewal, now=now)
    except _UNREADABLE:
        obstacle = _CANNOT_BE_READ
    if obstacle is not None:
        return f"renewal by a new token of the provisioner: {obstacle}"
    if renewal is Renewal.TOKEN:
        return "renewal by a token that shows this certificate (same key), else by one of the provisioner"
    return "renewal by TLS with this certificate: it has clientAuth"


def has_client_auth(leaf: x509.Certificate) -> bool:
    """
    Whether the certificate may authenticate a TLS client (absent EKU: any use, RFC 5280 4.2.1.12).
    """
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return bool({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usages))


def same_key(key: PrivateKey, leaf: x509.Certificate) -> bool:
    """
    Whether `key` is the certificate's.
    """
    ours = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return ours == leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _obstacle(
    leaf: x509.Certificate,
    chain: tuple[bytes, ...],
    *,
    roots: tuple[bytes, ...],
    renewal: Renewal,
    now: datetime,
) -> str | None:
    if renewal is Renewal.SIGN:
        return "so it is configured"
    if not has_client_auth(leaf):
        return "the certificate has no clientAuth, and step-ca renews only those that have"
    if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
        return "the certificate is not valid now"
    if not _leads_to(chain, roots):
        return "the certificate is another CA's"
    return None


def _difference(leaf: x509.Certificate, order: Order) -> str | None:
    """
    A renewal keeps names and lifetime: an order for others needs a fresh signature.
    """
    names = order.names
    if _alternatives(leaf) != {*names.dns, *names.addresses} or (
        names.common_name is not None and names.common_name != common_name(leaf.subject)
    ):
        return "other names are wanted than the certificate has"
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    if order.lifetime_s is not None and abs(lifetime - timedelta(seconds=order.lifetime_s)) > _LIFETIME_SLACK:
        return "another lifetime is wanted than the certificate has"
    return None


def common_name(name: x509.Name) -> str:
    """
    The first common name; empty where there is none.
    """
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _alternatives(leaf: x509.Certificate) -> frozenset[str | IPv4Address | IPv6Address]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = names.get_values_for_type(x509.IPAddress)
    return frozenset(names.get_values_for_type(x509.DNSName)) | frozenset(
        address for address in addresses if isinstance(address, (IPv4Address, IPv6Address))
    )


def subject(order: Order) -> str:
    """
    The subject of a token: the request's common name where it has one, for the CA compares them.

    Else the first name that can be a common name, because by its default template the CA makes one of the subject;
    where all names are longer than that, the identity's.
    """
    wanted = common_name(x509.load_der_x509_csr(order.csr).subject)
    fit = (name for name in (*alternatives(order), order.identity) if len(name) <= MAX_COMMON_NAME)
    return wanted or next(fit, order.identity[:MAX_COMMON_NAME])


def alternatives(order: Order) -> tuple[str, ...]:
    """
    The subject alternative names of an order, as a token writes them.
    """
    return (*order.names.dns, *map(str, order.names.addresses))


def _leads_to(chain: tuple[bytes, ...], roots: tuple[bytes, ...]) -> bool:
    """
    Whether each certificate is issued by the next, and the last by a root (or is one).
    """
    certificates = [x509.load_der_x509_certificate(der) for der in chain if der not in roots]
    if not certificates:
        return False
    try:
        for issued, issuer in itertools.pairwise(certificates):
            issued.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return any(_issued_by(certificates[-1], x509.load_der_x509_certificate(root)) for root in roots)


def _issued_by(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
