"""
The OCSP request (RFC 6960 4.1) for one certificate.

Written from what was read of the certificates, so that one which no other parser takes can be asked about too.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from cftpki_ext.core.errors import InputError
from cftpki_ext.x509 import der
from cftpki_ext.x509.outline import AskedAbout

_HASHES = {
    "sha1": ("1.3.14.3.2.26", hashlib.sha1),
    "sha256": ("2.16.840.1.101.3.4.2.1", hashlib.sha256),
}
_NULL = b"\x05\x00"
_NONCE = "1.3.6.1.5.5.7.48.1.2"
# RFC 9654 2.1: 1 to 128 octets; a request of ours never carries less than 32 there.
NONCE_MAX_BYTES = 128


def build_request(
    certificate: AskedAbout,
    issuer: AskedAbout,
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
        InputError: the nonce has another length.

    """
    if nonce is not None and not 1 <= len(nonce) <= NONCE_MAX_BYTES:
        msg = f"nonce of {len(nonce)} octets is outside 1 to {NONCE_MAX_BYTES} (RFC 9654 2.1)"
        raise InputError(msg)
    oid, make = _HASHES[hash_name]
    name_hash = make(certificate.issuer.der, usedforsecurity=False).digest()
    key_hash = make(issuer.key_bits, usedforsecurity=False).digest()
    serial = der.encode(der.INTEGER, _octets(certificate.serial))
    hashed = der.encode(der.SEQUENCE, der.encode_oid(oid), _NULL)
    cert_id = der.encode(
        der.SEQUENCE,
        hashed,
        der.encode(der.OCTET_STRING, name_hash),
        der.encode(der.OCTET_STRING, key_hash),
        serial,
    )
    requests = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, cert_id))
    extensions = b""
    if nonce is not None:
        value = der.encode(der.OCTET_STRING, der.encode(der.OCTET_STRING, nonce))
        extension = der.encode(der.SEQUENCE, der.encode_oid(_NONCE), value)
        extensions = der.encode(0xA2, der.encode(der.SEQUENCE, extension))
    return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, requests, extensions))


def _octets(number: int) -> bytes:
    """
    The content of an INTEGER (X.690 8.3).
    """
    size = (number if number >= 0 else ~number).bit_length() // 8 + 1
    return number.to_bytes(size, "big", signed=True)
