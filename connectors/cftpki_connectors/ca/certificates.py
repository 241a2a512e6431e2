"""
What a certificate is that a CA has sent, where it can be read at all.

Pure.
"""

from __future__ import annotations

from cryptography import x509

from cftpki_ext.x509.certificate import MalformedCertificateError, parse_certificate


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
