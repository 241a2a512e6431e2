"""
CRLs that cost more to read than they cost to serve, one maker for each kind.

How to use it::

    for kind in LISTS:
        crl = make_list(kind, issuer=ca_name_der, key=ca_key, octets=…, serial=…)     # a trusted CA could serve this
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from bench.certificates import ECDSA_SHA256, RSA_SHA256, extension, fill, name
from cftpki_ext.x509 import der

_TIME = der.encode(der.UTC_TIME, b"260101000000Z")
_CERTIFICATE_ISSUER = "551d1d"
# The lists' own times: old enough and young enough for any test.
_LIST_TIMES = der.encode(der.UTC_TIME, b"260101000000Z") + der.encode(der.UTC_TIME, b"491231235959Z")


def _listed(serial: bytes, *extensions: bytes) -> bytes:
    """
    One entry of a list.
    """
    listed = der.encode(der.SEQUENCE, *extensions) if extensions else b""
    return der.encode(der.SEQUENCE, der.encode(der.INTEGER, serial), _TIME, listed)


def _issued_by(*names: bytes) -> bytes:
    listed = der.encode(der.SEQUENCE, *(der.encode(0xA4, one) for one in names))
    return extension(_CERTIFICATE_ISSUER, listed, critical=True)


def _number(number: int, *octets: bytes) -> bytes:
    """
    A serial number of some 16 octets, no two the same.
    """
    return b"\x01" + number.to_bytes(4, "big") + b"".join(octets).ljust(11, b"\x55")


LISTS: Mapping[str, Callable[[int, bytes], bytes]] = MappingProxyType(
    {
        "ordinary": lambda n, _: _listed(_number(n)),
        "with reasons": lambda n, _: _listed(_number(n), extension("551d15", b"\x0a\x01\x01")),
        "serials like extensions": lambda n, _: _listed(_number(n, bytes.fromhex("06032a03040101ff0400"))),
        "serials that hold the serial": lambda n, serial: _listed(_number(n, serial)),
        "an issuer in each entry": lambda n, _: _listed(_number(n), _issued_by(name(f"CA {n % 7}"))),
        "issuers in the first entry": lambda n, _: (
            _listed(_number(n))
            if n
            else _listed(_number(0), _issued_by(*(name(f"CA {i}") for i in range(9000))))
        ),
        "long entries": lambda n, _: _listed(
            _number(n), extension("2a0304", der.encode(der.OCTET_STRING, b"\x55" * 300))
        ),
        "extensions like issuers": lambda n, _: _listed(
            _number(n), extension("2a0304", der.encode(der.OCTET_STRING, bytes.fromhex("0603551d1d")))
        ),
    }
)


def make_list(
    kind: str,
    *,
    issuer: bytes,
    key: Any,
    octets: int,
    serial: int | None = None,
    indirect: bool = False,
) -> bytes:
    """
    A CRL of one kind, properly signed.

    Args:
        kind: of `LISTS`.
        issuer: the name of the CA, DER.
        key: its private key, EC or RSA.
        octets: about how long it is to be.
        serial: a serial number that is on it, last and under the CA's own name; by default none. Its encoding is also
            what the entries of one kind hold.
        indirect: make it an indirect list, as those with issuers should be.

    Returns:
        The DER.

    """
    wanted = 5 if serial is None else serial
    encoded = der.encode(der.INTEGER, wanted.to_bytes(wanted.bit_length() // 8 + 1, "big"))
    entries = fill(octets, lambda n: LISTS[kind](n, encoded))
    if serial is not None:
        own = (_issued_by(issuer),) if indirect else ()
        entries.append(_listed(wanted.to_bytes(wanted.bit_length() // 8 + 1, "big"), *own))
    algorithm = RSA_SHA256 if isinstance(key, rsa.RSAPrivateKey) else ECDSA_SHA256
    extensions = [extension("551d14", b"\x02\x01\x07")]
    if indirect:
        extensions.append(extension("551d1c", bytes.fromhex("30038401ff"), critical=True))
    tbs = der.encode(
        der.SEQUENCE,
        b"\x02\x01\x01",
        algorithm,
        issuer,
        _LIST_TIMES,
        der.encode(der.SEQUENCE, *entries),
        der.encode(0xA0, der.encode(der.SEQUENCE, *extensions)),
    )
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
    else:
        signature = key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return der.encode(der.SEQUENCE, tbs, algorithm, der.encode(der.BIT_STRING, b"\0", signature))
