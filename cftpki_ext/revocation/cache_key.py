"""
The names under which raw responses are kept in a store.

Owns the key grammar alone. A key binds a response to what was asked: the issuer's name *and key*, the whole CertID
where one certificate was asked about, and the place that answered (a serial or a URL alone identifies nothing). Parts
are hashed with their lengths before them, so that no two questions share a key. Pure.
"""

from __future__ import annotations

import hashlib

from cftpki_ext.core.vocabulary import SourceKind


def _digest(*parts: bytes) -> str:
    # One call for all: a hash is begun in more time than so few octets are hashed in.
    return hashlib.sha256(
        b"".join([piece for part in parts for piece in (len(part).to_bytes(8, "big"), part)])
    ).hexdigest()


def certificate_key(
    kind: SourceKind, *, issuer_name: bytes, issuer_spki: bytes, serial: int, url: str
) -> str:
    """
    The key of a response that speaks of one certificate (OCSP, REST).

    Which nonce was sent is not part of it: a stored response is judged by its age.

    Args:
        kind: OCSP or REST.
        issuer_name: DER of the issuer's name, as in the certificate.
        issuer_spki: DER of the issuer's SubjectPublicKeyInfo.
        serial: the certificate's serial number, of any size and sign.
        url: where it was asked.

    Returns:
        Printable ASCII, at most 80 characters.

    """
    number = b"%x" % serial
    return f"{kind.value}:{_digest(issuer_name, issuer_spki, number, url.encode())}"


def validators_key(*, url: str, digest: str) -> str:
    """
    The key of what a server said of the version of a list (`core.validators`).

    Args:
        url: where the list was asked for.
        digest: SHA-256 of the list (hex): what is said of one is never found for another.

    Returns:
        Printable ASCII, at most 80 characters.

    """
    return f"validators:{_digest(url.encode(), digest.encode())}"


def list_key(*, issuer_name: bytes, issuer_spki: bytes, url: str) -> str:
    """
    The key of a response that speaks of many certificates of one issuer (a CRL).

    Args:
        issuer_name: DER of the name of the CA whose certificates were asked about.
        issuer_spki: DER of that CA's SubjectPublicKeyInfo.
        url: where the list was got, a `file:` URL included.

    Returns:
        Printable ASCII, at most 80 characters.

    """
    return f"{SourceKind.CRL.value}:{_digest(issuer_name, issuer_spki, url.encode())}"


def directory_key(*, access: tuple[str, ...], url: str) -> str:
    """
    The key of what a directory said of a partner.

    Args:
        access: the servers, and who we were there: others may say something else, or show something else to us.
        url: the search.

    Returns:
        Printable ASCII, at most 80 characters.

    """
    return f"{SourceKind.DIRECTORY.value}:{_digest(*(one.encode() for one in access), url.encode())}"
