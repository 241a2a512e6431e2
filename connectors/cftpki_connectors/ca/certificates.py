"""
What a certificate is that a CA has sent, where it can be read at all.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_connectors.ca.values import MAX_CERTIFICATES, CaError
from cftpki_ext.identity.enroller_port import Fault
from cftpki_ext.x509.certificate import MalformedCertificateError, parse_certificate


def certificates_in_pem(texts: Sequence[object]) -> tuple[bytes, ...]:
    """
    The certificates of an answer that lists them in PEM, one or several in each text.

    Args:
        texts: as received.

    Returns:
        DER, 1 to `MAX_CERTIFICATES`.

    Raises:
        CaError: UNREACHABLE: something else is among them, or there are none or too many.

    """
    try:
        ders = tuple(
            one.public_bytes(Encoding.DER)
            for text in texts[: MAX_CERTIFICATES + 1]
            for one in x509.load_pem_x509_certificates(str(text).encode("utf-8", "replace"))
        )
    except (ValueError, x509.InvalidVersion) as error:
        msg = "the answer has something in it that is no certificate"
        raise CaError(Fault.UNREACHABLE, msg, sent=True) from error
    if not 0 < len(ders) <= MAX_CERTIFICATES:
        msg = f"the answer has {len(ders)} certificates, 1 to {MAX_CERTIFICATES} are expected"
        raise CaError(Fault.UNREACHABLE, msg, sent=True)
    return ders


def spki_of(der: bytes) -> bytes | None:
    """
    The SubjectPublicKeyInfo of a certificate, `None` where it cannot be read.
    """
    try:
        return parse_certificate(der).spki
    except MalformedCertificateError:
        return None


def is_root(der: bytes) -> bool:
    """
    Whether a certificate has issued itself: the same name twice, and its own key's signature.
    """
    try:
        one = x509.load_der_x509_certificate(der)
        one.verify_directly_issued_by(one)
    except Exception:  # noqa: BLE001  # whatever cannot be verified is no root
        return False
    return True
