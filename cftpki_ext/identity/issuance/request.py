"""
What is asked of a CA: names in their one form, and the certification request. Pure but for the signature's nonce.

Owns the normalisation of names (RFC 5890 A-labels, RFC 5280 4.2.1.6) and the PKCS#10 request.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

import idna
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.vocabulary import Usage
from cftpki_ext.identity.enroller_port import Names, PrivateKey
from cftpki_ext.x509.certificate import MalformedCertificateError, parse_certificate

# RFC 1035 3.1 without the closing dot; ub-common-name of RFC 5280.
MAX_DNS_NAME = 253
MAX_COMMON_NAME = 64
# More names than any host of a transfer has, and as many as public CAs take.
MAX_NAMES = 100
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?")
_EXTENDED = {Usage.SERVER: ExtendedKeyUsageOID.SERVER_AUTH, Usage.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH}


def normalise_dns(text: str) -> str:
    """
    One DNS name in the form in which names are compared and asked for.

    Args:
        text: as people write it: Unicode, any case, perhaps with a final dot or a leading `*.`.

    Returns:
        A-labels in lower case without a trailing dot.

    Raises:
        InputError: it is no host name.

    """
    name = text.strip().rstrip(".").lower()
    wildcard = name.startswith("*.")
    rest = name[2:] if wildcard else name
    if not rest.isascii():
        try:
            rest = idna.encode(rest, uts46=True).decode()
        except idna.IDNAError as error:
            msg = f"{text!r} is no host name: {error}"
            raise InputError(msg) from error
    name = f"*.{rest}" if wildcard else rest
    if len(name) > MAX_DNS_NAME or not all(_LABEL.fullmatch(label) for label in rest.split(".")):
        msg = f"{text!r} is no host name"
        raise InputError(msg)
    return name


def normalise_names(texts: Iterable[str], *, common_name: str | None = None) -> Names:
    """
    The names of a certificate: DNS names and IP addresses, each once, in the order given.

    Args:
        texts: host names and addresses.
        common_name: of the subject; by default the first DNS name that fits, as old partners look at it.

    Returns:
        The names in their one form.

    Raises:
        InputError: one of them is neither, there is none, or there are too many.

    """
    dns: dict[str, None] = {}
    addresses: dict[IPv4Address | IPv6Address, None] = {}
    for text in texts:
        try:
            address = ip_address(text.strip().strip("[]"))
        except ValueError:
            dns[normalise_dns(text)] = None
        else:
            addresses[address] = None
    if not 1 <= len(dns) + len(addresses) <= MAX_NAMES:
        msg = f"{len(dns) + len(addresses)} names: 1 to {MAX_NAMES} expected"
        raise InputError(msg)
    if common_name is None:
        common_name = next((name for name in dns if len(name) <= MAX_COMMON_NAME), None)
    elif not 1 <= len(common_name) <= MAX_COMMON_NAME or not common_name.isprintable():
        msg = f"common name {common_name!r}: 1 to {MAX_COMMON_NAME} printable characters expected"
        raise InputError(msg)
    return Names(common_name=common_name, dns=tuple(dns), addresses=tuple(addresses))


def make_request(key: PrivateKey, names: Names, usages: frozenset[Usage]) -> bytes:
    """
    The certification request (RFC 2986): subject, alternative names and the extended key usages asked for.

    Args:
        key: signs it.
        names: normalised.
        usages: asked for; CAs with a profile of their own do not look at it.

    Returns:
        DER.

    """
    subject = []
    if names.common_name is not None:
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, names.common_name))
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names.dns]
    alternatives += [x509.IPAddress(address) for address in names.addresses]
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(subject))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=not subject)
    )
    if usages:
        extended = [_EXTENDED[usage] for usage in sorted(usages)]
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def public_key_of(csr: bytes) -> bytes:
    """
    The public key (DER) that a request of ours is for.
    """
    return (
        x509.load_der_x509_csr(csr)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def serial_for(csr: bytes, answer: Iterable[bytes]) -> str | None:
    """
    The serial number (hex) of the certificate for a request, where it is among those that came.

    Args:
        csr: of ours.
        answer: DER, as received; what cannot be read is passed over.

    Returns:
        The serial number, or `None`.

    """
    try:
        wanted = public_key_of(csr)
    except (ValueError, UnsupportedAlgorithm):
        return None  # a record that was damaged
    for der in answer:
        with contextlib.suppress(MalformedCertificateError):
            certificate = parse_certificate(der)
            if certificate.spki == wanted:
                return certificate.serial_hex
    return None
