"""
The OCSP request (RFC 6960 4.1) for one certificate.

Imports `x509` and cryptography's builder.
"""

from __future__ import annotations

from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from cftpki_ext.core.errors import InputError
from cftpki_ext.x509.certificate import Certificate

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {"sha1": hashes.SHA1, "sha256": hashes.SHA256}
# RFC 9654 2.1: 1 to 128 octets; a request of ours never carries less than 32 there.
NONCE_MAX_BYTES = 128


def build_request(
    certificate: Certificate,
    issuer: Certificate,
    *,
    nonce: bytes | None,
    hash_name: Literal["sha1", "sha256"] = "sha1",
) -> bytes:
    """
    Ask for the status of one certificate.

    By default the CertID is built with SHA-1, the one hash that every responder knows (RFC 5019 2.1.1); it
    identifies and does not sign, so that its weakness helps no forger: the answer's CertID is compared
    whole, and the answer is signed. The request itself is not signed.

    Args:
        certificate: the one asked about.
        issuer: the CA that issued it.
        nonce: 1 to 128 random octets (RFC 9654), or `None` for a request that caches may answer.
        hash_name: hash of the CertID.

    Returns:
        The DER OCSPRequest.

    Raises:
        InputError: the nonce has another length, or a certificate cannot be stated in a request.

    """
    if nonce is not None and not 1 <= len(nonce) <= NONCE_MAX_BYTES:
        msg = f"nonce of {len(nonce)} octets is outside 1 to {NONCE_MAX_BYTES} (RFC 9654 2.1)"
        raise InputError(msg)
    try:
        builder = ocsp.OCSPRequestBuilder().add_certificate(
            x509.load_der_x509_certificate(certificate.der),
            x509.load_der_x509_certificate(issuer.der),
            _HASHES[hash_name](),
        )
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
        return builder.build().public_bytes(Encoding.DER)
    except (ValueError, TypeError) as exc:
        msg = f"certificate {certificate.serial_hex} cannot be asked about: {exc}"
        raise InputError(msg) from exc
