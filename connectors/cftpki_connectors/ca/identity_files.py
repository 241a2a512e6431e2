"""
Files that the operator names for talking to a CA: its roots, and a certificate of the connector's own with its key.

Owns the reading and what may be wrong with them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from cftpki_connectors.ca.values import CaError, printable
from cftpki_connectors.support.secret_files import MAX_PASSWORD_BYTES, secret_bytes
from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.enroller_port import Fault, Held
from cftpki_ext.support import pem
from cftpki_ext.support.files import MAX_PEM_BYTES
from cftpki_ext.support.guarded import read_guarded
from cftpki_ext.x509.certificate import Certificate, MalformedCertificateError, parse_certificate
from cftpki_ext.x509.extensions import KeyUsage

_CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
_ANY_USAGE = "2.5.29.37.0"
# An RSA-4096 key in PEM has 3.3 KB.
MAX_KEY_BYTES = 64 * 1024


def roots_in(path: Path, what: str) -> tuple[bytes, ...]:
    """
    The certificates of a file of roots. Blocking.

    Args:
        path: PEM or DER.
        what: the option that names it, for the message.

    Returns:
        DER, at least one.

    Raises:
        CaError: MISCONFIGURED: unreadable, or holds none.

    """
    try:
        return certificates_in(path, what)
    except InputError as error:
        raise CaError(Fault.MISCONFIGURED, printable(str(error))) from error


def certificates_in(path: Path, what: str) -> tuple[bytes, ...]:
    """
    The certificates of a file. Blocking.

    Args:
        path: PEM or DER.
        what: the option that names it, for the message.

    Returns:
        DER, at least one.

    Raises:
        InputError: unreadable, somebody else could have written it, or it holds none.

    """
    found = pem.certificates(read_guarded(path, cap=MAX_PEM_BYTES, what=what).data, what=what)
    if not found:
        msg = f"{what} {path} holds no certificate"
        raise InputError(msg)
    return found


def identity_in(
    chain_file: Path,
    key_file: Path,
    password_file: Path | None,
    *,
    prefix: str = "",
    fault_of: Callable[[Certificate], str | None],
) -> Held:
    """
    A certificate of our own with its key. Blocking.

    Args:
        chain_file: PEM or DER, leaf first.
        key_file: PEM or DER, for nobody else to read.
        password_file: of the key.
        prefix: of the options' names, for messages: `identity_`.
        fault_of: why a certificate that goes with the key cannot be used, `None` where it can.

    Returns:
        Chain and key, which fit each other.

    Raises:
        InputError: one cannot be read, the two do not fit, or the certificate cannot be used.

    """
    chain = certificates_in(chain_file, f"{prefix}chain_file")
    password = None
    if password_file is not None:
        password = secret_bytes(password_file, f"{prefix}password_file", MAX_PASSWORD_BYTES).rstrip(b"\r\n")
    data = secret_bytes(key_file, f"{prefix}key_file", MAX_KEY_BYTES)
    load_key = load_pem_private_key if data.lstrip().startswith(b"-----") else load_der_private_key
    try:
        key = load_key(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        msg = f"{prefix}key_file {key_file} is no private key, or its password is missing or wrong"
        raise InputError(msg) from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        msg = f"{prefix}key_file {key_file} is neither RSA nor ECDSA"
        raise InputError(msg)
    try:
        leaf = parse_certificate(chain[0])
    except MalformedCertificateError as error:
        msg = f"{prefix}chain_file {chain_file}: {error}"
        raise InputError(msg) from error
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    fault = f"is not that of the key in {key_file}" if leaf.spki != spki else fault_of(leaf)
    if fault is not None:
        msg = f"{prefix}chain_file {chain_file}: its first certificate {fault}"
        raise InputError(msg)
    return Held(chain=chain, key=key)


def client_identity_in(
    chain_file: Path, key_file: Path, password_file: Path | None, *, prefix: str = "", now: datetime
) -> Held:
    """
    A certificate of our own with its key, to authenticate a TLS client with. Blocking.

    Args:
        chain_file: see `identity_in`.
        key_file: see `identity_in`.
        password_file: see `identity_in`.
        prefix: see `identity_in`.
        now: it must be valid then.

    Returns:
        Chain and key, which fit each other.

    Raises:
        InputError: see `identity_in`.

    """

    def fault_of(leaf: Certificate) -> str | None:
        if not leaf.not_before <= now <= leaf.not_after:
            return f"is valid from {leaf.not_before} to {leaf.not_after} only"
        return client_fault(leaf)

    return identity_in(chain_file, key_file, password_file, prefix=prefix, fault_of=fault_of)


def client_fault(certificate: Certificate) -> str | None:
    """
    Why a certificate cannot authenticate a TLS client (RFC 5280 4.2.1.3, 4.2.1.12), `None` where it can.
    """
    usages = certificate.extended_key_usage
    if usages is not None and not usages & {_CLIENT_AUTH, _ANY_USAGE}:
        return "lacks the extended key usage clientAuth"
    bits = certificate.key_usage
    if bits is not None and KeyUsage.DIGITAL_SIGNATURE not in bits:
        return "lacks the key usage digitalSignature"
    return None
