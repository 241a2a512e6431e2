"""
X.509 objects as values, from the bytes as received. Owns parsing and signatures, decides nothing about trust.
"""

from cftpki_ext.x509.certificate import (
    Certificate,
    MalformedCertificateError,
    clear_parsed,
    keep_certificate,
    parse_certificate,
)
from cftpki_ext.x509.signed import SignatureStatus, clear_verified, verify

__all__ = [
    "Certificate",
    "MalformedCertificateError",
    "SignatureStatus",
    "clear_memos",
    "clear_parsed",
    "clear_verified",
    "keep_certificate",
    "parse_certificate",
    "verify",
]


def clear_memos() -> None:
    """
    Forget everything parsed and verified, so that the next decision starts cold.
    """
    clear_parsed()
    clear_verified()
