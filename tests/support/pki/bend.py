"""
Bending what was built: fields, serial numbers and signatures of certificates, CRLs and answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives import hashes

from cftpki_ext.x509 import der
from tests.support.pki.certificates import Entity, sign


def resign(encoded: bytes, tbs: bytes, private: Any, digest: hashes.HashAlgorithm | None = None) -> bytes:
    """
    The signed object `encoded` with another signed part, signed again with `private` under the same algorithm.
    """
    parts = der.children(encoded, der.whole(encoded))
    rest = b"".join(der.encoded(encoded, p) for p in parts[3:])
    signature = der.encode(der.BIT_STRING, b"\0", sign(private, tbs, digest))
    return der.encode(der.SEQUENCE, tbs, der.encoded(encoded, parts[1]), signature, rest)


def tbs_of(encoded: bytes) -> bytes:
    """
    The signed part of a signed object.
    """
    return der.encoded(encoded, der.children(encoded, der.whole(encoded))[0])


def tbs_fields(encoded: bytes) -> list[bytes]:
    """
    The encoded fields of a signed object's signed part (certificate: version, serial, algorithm, …).
    """
    tbs = tbs_of(encoded)
    return [der.encoded(tbs, part) for part in der.children(tbs, der.whole(tbs))]


def rebuild(encoded: bytes, fields: Sequence[bytes], private: Any) -> bytes:
    """
    The signed object with other fields in its signed part, properly signed.
    """
    return resign(encoded, der.encode(der.SEQUENCE, *fields), private)


def with_field(encoded: bytes, index: int, value: bytes, private: Any) -> bytes:
    """
    The signed object with one field of its signed part replaced, properly signed.
    """
    fields = tbs_fields(encoded)
    fields[index] = value
    return rebuild(encoded, fields, private)


def reserial(entity: Entity, content: bytes, private: Any) -> bytes:
    """
    The certificate with any octets as its serial number, properly signed by `private`.
    """
    return with_field(entity.der, 1, der.encode(der.INTEGER, content), private)


def mutate_tbs(encoded: bytes, old: bytes, new: bytes) -> bytes:
    """
    The object with `old` replaced by `new` (of the same length), the signature left as it was.
    """
    if len(old) != len(new) or old not in encoded:
        msg = "old must be there, and new as long as old"
        raise ValueError(msg)
    return encoded.replace(old, new)


def break_signature(encoded: bytes) -> bytes:
    """
    The object with the last octet of its signature changed.
    """
    parts = der.children(encoded, der.whole(encoded))
    last = parts[2].end - 1
    return encoded[:last] + bytes((encoded[last] ^ 1,)) + encoded[last + 1 :]
