"""
What of a certificate it is asked about by: number, issuer, key. Read without the rest of it.

Owns `Outline`. Whoever asks a CA has the certificate from a path that was judged, and decides nothing by it.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from cftpki_ext.core.memo import Memo
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Fault, Reason
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import CERTIFICATE_BYTES, MalformedCertificateError
from cftpki_ext.x509.der import DerError

# SEQUENCE { SEQUENCE { [0] version, serial number, algorithm, issuer, validity, subject, key, … }, algorithm, signature },
# and SEQUENCE { algorithm, key }.
_PARTS, _VERSION, _FIELDS, _OF_KEY = 3, 0xA0, 6, 2
# CAs that issued what is asked about: some hundred.
_KEPT_OCTETS = 1024 * 1024
# What one takes beside its octets, which it has twice.
_KEPT_FIXED = 1024


class Named(Protocol):
    """
    A name as it stands in a certificate.
    """

    @property
    def der(self) -> bytes:
        """
        Its octets.
        """


class AskedAbout(Protocol):
    """
    A certificate that somebody is asked about, or whose CA is: a `Certificate`, or its `Outline`.
    """

    @property
    def der(self) -> bytes:
        """
        All its octets, as received.
        """

    @property
    def digest(self) -> bytes:
        """
        Their SHA-256.
        """

    @property
    def serial(self) -> int:
        """
        The serial number.
        """

    @property
    def issuer(self) -> Named:
        """
        The issuer's name.
        """

    @property
    def key_bits(self) -> bytes:
        """
        The public key, as its BIT STRING holds it.
        """


@dataclass(frozen=True, slots=True)
class OutlineName:
    """
    A name, unread.
    """

    der: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """
    See `AskedAbout`.
    """

    der: bytes
    digest: bytes
    serial: int
    issuer: OutlineName
    key_bits: bytes


def outline(encoded: bytes) -> Outline:
    """
    Read what a certificate is asked about by (RFC 5280 4.1, RFC 6960 4.1.1).

    Not checked: all else that is in it. For those of a trusted path, which a judge has read whole.

    Args:
        encoded: DER, at most 32 KiB.

    Returns:
        The outline.

    Raises:
        MalformedCertificateError: it has another structure, or is larger.

    """
    try:
        return _read(encoded)
    except DerError as error:
        fault = Fault(reason=Reason.MALFORMED, depth=None, rule=error.rule, detail=error.detail)
        raise MalformedCertificateError(fault) from error


def _read(encoded: bytes) -> Outline:
    if len(encoded) > CERTIFICATE_BYTES:
        msg = f"certificate has {len(encoded)} octets, at most {CERTIFICATE_BYTES} are read"
        raise DerError(msg, "limits.certificate_bytes")
    parts = der.children(encoded, der.whole(encoded), most=_PARTS)
    fields = der.children(encoded, parts[0]) if parts else []
    if fields and fields[0].tag == _VERSION:
        del fields[0]
    if len(fields) < _FIELDS:
        msg = "signed part has fewer than six fields"
        raise DerError(msg, "RFC 5280 4.1.2")
    key = der.children(encoded, fields[5])
    if len(key) != _OF_KEY:
        msg = "subject public key info is not a pair of algorithm and key"
        raise DerError(msg, "RFC 5280 4.1.2.7")
    bits, _ = der.bit_string(encoded, der.expect(key[1], der.BIT_STRING, "subject public key"))
    return Outline(
        der=encoded,
        digest=hashlib.sha256(encoded).digest(),
        serial=der.integer(encoded, der.expect(fields[0], der.INTEGER, "serial number")),
        issuer=OutlineName(der.encoded(encoded, fields[2])),
        key_bits=bits,
    )


_cas: Memo[bytes, Outline] = Memo(_KEPT_OCTETS)


def outline_of_ca(encoded: bytes) -> Outline:
    """
    The same of a CA's certificate, which thousands are asked about by: read once.
    """
    found = _cas.get(encoded)
    if found is None:
        found = outline(encoded)
        _cas.keep(encoded, found, 2 * len(encoded) + _KEPT_FIXED)
    return found
