"""
The certificates of a PKCS#7 bundle (RFC 5652 SignedData without content), as `.p7b` and `.p7c` files hold them.

Owns the walk to them; believes nothing: no signature is looked at, and what a certificate is, is the parser's business.
"""

from __future__ import annotations

import warnings

_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_SEQUENCE, _SET, _CERTIFICATES = 0x30, 0x31, 0xA0
# As many as PEM blocks are read of one file (`pem.MAX_BLOCKS`).
_MOST_ELEMENTS = 1000


def certificates_of(data: bytes) -> tuple[bytes, ...] | None:
    """
    The certificates of a bundle, in its order.

    Args:
        data: DER, or BER as Java and older OpenSSL write it.

    Returns:
        DER; `None` where this is no bundle, or one that cannot be read.

    """
    if _SIGNED_DATA not in data[:32]:
        return None
    try:
        found = _walk(data)
    except (IndexError, ValueError):
        found = None
    if found is not None:
        return found
    # For the few bundles in BER: with it, all that writes S/MIME is imported.
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7  # noqa: PLC0415 - see above

    try:
        with warnings.catch_warnings():
            # It warns of BER, in its parser's own words.
            warnings.simplefilter("ignore", UserWarning)
            read = pkcs7.load_der_pkcs7_certificates(data)
        return tuple(one.public_bytes(Encoding.DER) for one in read)
    except (ValueError, UnsupportedAlgorithm):
        return None


def _walk(data: bytes) -> tuple[bytes, ...]:
    """
    ContentInfo { OID, [0] SignedData { version, digests, content, [0] certificates, … } }, in definite lengths.
    """
    (outer,) = _elements(data, 0, len(data))[:1]
    content = _elements(data, outer[1], outer[2])[1]
    signed = _elements(data, content[1], content[2])[0]
    for tag, begin, end, _ in _elements(data, signed[1], signed[2]):
        if tag == _CERTIFICATES:
            listed = _elements(data, begin, end)
            return tuple(data[start:stop] for kind, _, stop, start in listed if kind == _SEQUENCE)
    return ()


def _elements(data: bytes, position: int, end: int) -> list[tuple[int, int, int, int]]:
    """
    Tag, begin of content, end and begin of each element.
    """
    found = []
    while position < end:
        start, tag, length = position, data[position], data[position + 1]
        position += 2
        if length > 0x7F:
            octets = length & 0x7F
            if not 1 <= octets <= 4:
                msg = "length is indefinite or too long"
                raise ValueError(msg)
            length = int.from_bytes(data[position : position + octets], "big")
            position += octets
        if position + length > end:
            msg = "element is cut off"
            raise ValueError(msg)
        found.append((tag, position, position + length, start))
        if len(found) > _MOST_ELEMENTS:
            msg = f"more than {_MOST_ELEMENTS} elements"
            raise ValueError(msg)
        position += length
    return found
