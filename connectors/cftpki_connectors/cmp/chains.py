"""
The certificates of an answer: which go along with the leaf, what is missing, and what confirms it.

Pure. Nothing is verified here: the normaliser does that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cftpki_connectors.cmp import writing
from cftpki_ext.x509.certificate import Certificate, MalformedCertificateError, parse_certificate
from cftpki_ext.x509.signed import hash_of

# The normaliser takes forty with everything.
MAX_EXTRA = 24
# Longer chains of CAs are built by nobody.
_MAX_DEPTH = 10
_SHA512 = "2.16.840.1.101.3.4.2.3"


def completing(leaf: bytes, *lists: Sequence[bytes]) -> tuple[bytes, ...]:
    """
    What may complete a chain: CA certificates, each once, those that stand above the leaf first (DER).
    """
    offered = [one for one in dict.fromkeys(one for some in lists for one in some) if one != leaf]
    known = [
        (one, certificate)
        for one in offered
        if (certificate := readable(one)) is not None and certificate.is_ca
    ]
    ordered: dict[bytes, None] = {}
    below = readable(leaf)
    for _ in range(_MAX_DEPTH):
        above = [] if below is None else [pair for pair in known if pair[1].subject.key == below.issuer.key]
        fresh = [pair for pair in above if pair[0] not in ordered]
        if not fresh:
            break
        ordered |= dict.fromkeys(one for one, _ in fresh)
        below = fresh[0][1]
    ordered |= dict.fromkeys(one for one, _ in known)
    return tuple(ordered)[:MAX_EXTRA]


def lacks_issuer(issued: Sequence[bytes], roots: Sequence[bytes]) -> bool:
    """
    Whether, by their names, no chain of these certificates (leaf first) reaches a root.
    """
    below = readable(issued[0])
    if below is None:
        return False
    anchors = {certificate.subject.key for one in roots if (certificate := readable(one)) is not None}
    known = {
        certificate.subject.key: certificate
        for one in issued[1:]
        if (certificate := readable(one)) is not None
    }
    for _ in range(_MAX_DEPTH):
        if below.issuer.key in anchors:
            return False
        above = known.pop(below.issuer.key, None)
        if above is None:
            return True
        below = above
    return False


def confirmation_of(leaf: bytes, request: int, *, refusal: str | None) -> tuple[bytes, int]:
    """
    The body of certConf for a certificate, and the protocol's version that it needs.

    The digest is that of the certificate's signature; where that says none (EdDSA), it is SHA-512 and is named, which needs
    version 3 (RFC 9810 5.3.18).

    Args:
        leaf: DER, as received.
        request: the number of the response that it came in.
        refusal: why it is not taken; by default it is.

    """
    certificate = readable(leaf)
    digest = None if certificate is None else hash_of(certificate.signed.algorithm)
    if digest is None:
        algorithm = writing.attribute(_SHA512, None)
        hashed = hashlib.sha512(leaf).digest()
        return writing.confirmation(hashed, request, refusal=refusal, algorithm=algorithm), 3
    digest.update(leaf)
    return writing.confirmation(digest.finalize(), request, refusal=refusal), 2


def for_key(leaf: bytes, spki: bytes) -> bool:
    """
    Whether a certificate can be read and is for a key (SubjectPublicKeyInfo, DER).
    """
    certificate = readable(leaf)
    return certificate is not None and certificate.spki == spki


def readable(der: bytes) -> Certificate | None:
    """
    A certificate, `None` where it cannot be read.
    """
    try:
        return parse_certificate(der)
    except MalformedCertificateError:
        return None
