"""
The least that is looked at before bytes are handed on: a whole DER SEQUENCE at their beginning, and PEM around it.

Pure, linear in the size of the input. Everything else about the bytes is the judge's business.
"""

from __future__ import annotations

import binascii

from cftpki_ext.core.octets import LargeOctets

_BEGIN = b"-----BEGIN X509 CRL-----"
_END = b"-----END X509 CRL-----"
_HEADER_OCTETS = 16


def begins_sequence(raw: bytes) -> bool:
    """
    Whether `raw` begins with one SEQUENCE of definite length with nothing missing, whatever is behind it.
    """
    if len(raw) < 2 or raw[0] != 0x30:
        return False
    first = raw[1]
    if first < 0x80:
        return len(raw) >= 2 + first
    octets = first & 0x7F
    if not 1 <= octets <= 4 or len(raw) < 2 + octets:
        return False
    return len(raw) >= 2 + octets + int.from_bytes(raw[2 : 2 + octets], "big")


def large_crl(raw: LargeOctets) -> LargeOctets | bytes | None:
    """
    The same as `crl_der` of octets that are read in parts; PEM is put together in memory.
    """
    head = raw.read(0, _HEADER_OCTETS)
    if head[:1] != b"\x30":
        return crl_der(raw.whole())
    # No more is looked at than the header, which says how long the rest is.
    first = head[1] if len(head) > 1 else 0x80
    octets = first & 0x7F if first >= 0x80 else 0
    if first == 0x80 or octets > 4 or len(head) < 2 + octets:
        return None
    size = first if first < 0x80 else int.from_bytes(head[2 : 2 + octets], "big")
    return raw if len(raw) >= 2 + octets + size else None


def what_it_is(raw: bytes, wanted: str) -> str:
    """
    A clause for a person about bytes that are not what was wanted.
    """
    if raw.lstrip()[:1] == b"<":
        return f"an HTML page, perhaps of a proxy or a portal, and no {wanted}"
    return f"{len(raw)} bytes that are no {wanted}"


def is_ocsp_error(raw: bytes) -> bool:
    """
    Whether this is an unsigned OCSP error: a responseStatus other than successful, and nothing else (RFC 6960 4.2.1).
    """
    return len(raw) == 5 and raw[:4] == b"\x30\x03\x0a\x01" and raw[4] != 0


def crl_der(raw: bytes) -> bytes | None:
    """
    The DER of a CRL that is DER or one PEM block, with whatever text around it.

    Args:
        raw: as received, already bounded in size.

    Returns:
        What begins with a whole SEQUENCE, or `None`: neither, more than one block, broken base64, cut off.

    """
    if raw[:1] == b"\x30":
        return raw if begins_sequence(raw) else None
    begin = raw.find(_BEGIN)
    end = raw.find(_END, begin + len(_BEGIN))
    if begin < 0 or end < 0 or raw.find(_BEGIN, end) >= 0:
        return None
    try:
        der = binascii.a2b_base64(b"".join(raw[begin + len(_BEGIN) : end].split()), strict_mode=True)
    except binascii.Error:
        return None
    return der if begins_sequence(der) else None
