"""
Certificates made octet by octet, with nothing checked: what attacks and costly lists are made of.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cftpki_ext.x509 import der

ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
_VALIDITY = der.encode(
    der.SEQUENCE, der.encode(der.UTC_TIME, b"200101000000Z"), der.encode(der.UTC_TIME, b"491231235959Z")
)

_serials = itertools.count(0x1000)


def name(text: str | bytes, tag: int = der.UTF8_STRING) -> bytes:
    """
    A distinguished name of one common name, as DER.
    """
    octets = text.encode() if isinstance(text, str) else text
    attribute = der.encode(der.SEQUENCE, bytes.fromhex("0603550403"), der.encode(tag, octets))
    return der.encode(der.SEQUENCE, der.encode(der.SET, attribute))


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    """
    An extension by the hexadecimal content of its identifier.
    """
    flag = der.encode(der.BOOLEAN, b"\xff") if critical else b""
    return der.encode(
        der.SEQUENCE,
        der.encode(der.OBJECT_IDENTIFIER, bytes.fromhex(oid)),
        flag,
        der.encode(der.OCTET_STRING, value),
    )


_BASIC_CA = extension("551d13", bytes.fromhex("30030101ff"), critical=True)
_USAGE_CA = extension("551d0f", bytes.fromhex("03020106"), critical=True)
_USAGE_LEAF = extension("551d0f", bytes.fromhex("03020780"), critical=True)


@functools.cache
def ec_key(number: int) -> ec.EllipticCurvePrivateKey:
    """
    A P-256 key, the same for the same number.
    """
    del number
    return ec.generate_private_key(ec.SECP256R1())


def spki(private: Any) -> bytes:
    """
    The SubjectPublicKeyInfo of a private key.
    """
    return bytes(private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def rsa_spki(bits: int, exponent: int) -> bytes:
    """
    An RSA key with any exponent; nobody has its private half.
    """
    modulus = (1 << bits) - 12_345_677
    integers = b"".join(
        der.encode(der.INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))
        for value in (modulus, exponent)
    )
    algorithm = bytes.fromhex("300d06092a864886f70d0101010500")
    return der.encode(
        der.SEQUENCE, algorithm, der.encode(der.BIT_STRING, b"\0", der.encode(der.SEQUENCE, integers))
    )


def certificate(
    subject: bytes,
    issuer: bytes,
    *,
    key: bytes,
    signer: Any,
    extensions: Sequence[bytes] = (),
    ca: bool = False,
    broken: bool = False,
) -> bytes:
    """
    A certificate.

    Args:
        subject: its name, DER.
        issuer: the name of its issuer, DER.
        key: its SubjectPublicKeyInfo.
        signer: the private key that signs, EC or RSA; octets are taken as the signature itself.
        extensions: besides those that make it a CA's or a leaf's.
        ca: whether it is a CA's.
        broken: end the list of extensions with one that is twice, so that all is read before it is refused.

    Returns:
        The DER.

    """
    listed = [_BASIC_CA, _USAGE_CA] if ca else [_USAGE_LEAF]
    listed += extensions
    if broken:
        listed.append(listed[0])
    plain_rsa = isinstance(signer, (rsa.RSAPrivateKey, bytes))
    algorithm = RSA_SHA256 if plain_rsa else ECDSA_SHA256
    serial = next(_serials)
    tbs = der.encode(
        der.SEQUENCE,
        bytes.fromhex("a003020102"),
        der.encode(der.INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1, "big")),
        algorithm,
        issuer,
        _VALIDITY,
        subject,
        key,
        der.encode(0xA3, der.encode(der.SEQUENCE, *listed)),
    )
    if isinstance(signer, bytes):
        signature = signer
    elif isinstance(signer, rsa.RSAPrivateKey):
        signature = signer.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
    else:
        signature = signer.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return der.encode(der.SEQUENCE, tbs, algorithm, der.encode(der.BIT_STRING, b"\0", signature))


def fill(room: int, item: Callable[[int], bytes]) -> list[bytes]:
    """
    As many items as fit into so many octets, at least one.
    """
    items: list[bytes] = []
    for number in itertools.count():
        made = item(number)
        room -= len(made)
        if room < 0 and items:
            return items
        items.append(made)
    raise AssertionError
