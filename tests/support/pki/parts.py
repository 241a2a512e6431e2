"""
DER parts that CRLs and OCSP responses are put together from.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from cftpki_ext.x509 import der
from tests.support.pki.certificates import Entity

NULL = b"\x05\x00"


def oid(dotted: str) -> bytes:
    """
    The DER of an object identifier.
    """
    first, second, *rest = (int(a) for a in dotted.split("."))
    out = b""
    for arc in (40 * first + second, *rest):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(0x80 | arc & 0x7F)
        out += bytes(reversed(septets))
    return der.encode(der.OBJECT_IDENTIFIER, out)


def integer(value: int) -> bytes:
    """
    The DER of an integer.
    """
    length = (value.bit_length() if value >= 0 else (value + 1).bit_length()) // 8 + 1
    return der.encode(der.INTEGER, value.to_bytes(length, "big", signed=True))


def generalized_time(at: datetime) -> bytes:
    """
    The DER of a GeneralizedTime.
    """
    return der.encode(der.GENERALIZED_TIME, at.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode())


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    """
    The DER of one Extension.
    """
    return der.encode(
        der.SEQUENCE, oid(dotted), b"\x01\x01\xff" if critical else b"", der.encode(der.OCTET_STRING, value)
    )


def tagged_extensions(tag: int, items: Sequence[bytes]) -> bytes:
    """
    Extensions under a tag; nothing where there are none.
    """
    return der.encode(tag, der.encode(der.SEQUENCE, *items)) if items else b""


def signature_algorithm(private: Any, digest: str = "sha256") -> bytes:
    """
    The DER of the AlgorithmIdentifier that `sign` uses for this key and digest.
    """
    if isinstance(private, rsa.RSAPrivateKey):
        arc = {"md5": 4, "sha1": 5, "sha256": 11, "sha384": 12, "sha512": 13}[digest]
        return der.encode(der.SEQUENCE, oid(f"1.2.840.113549.1.1.{arc}"), NULL)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        last = {"sha1": "1", "sha256": "3.2", "sha384": "3.3", "sha512": "3.4"}[digest]
        return der.encode(der.SEQUENCE, oid(f"1.2.840.10045.4.{last}"))
    ed = "1.3.101.112" if isinstance(private, ed25519.Ed25519PrivateKey) else "1.3.101.113"
    return der.encode(der.SEQUENCE, oid(ed))


def public_key_bits(entity: Entity) -> bytes:
    """
    The content of the subjectPublicKey BIT STRING (what the issuerKeyHash of OCSP is made of).
    """
    spki = entity.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    parts = der.children(spki, der.whole(spki))
    return der.bit_string(spki, parts[1])[0]


def name_der(value: x509.Name) -> bytes:
    """
    The DER of a name.
    """
    return value.public_bytes()
