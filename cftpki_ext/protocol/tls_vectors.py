"""
The two byte formats of the handshake that the host hands over: the certificate chain and the CA list.

Owns splitting and joining (RFC 2246 7.4.2 and 7.4.4); knows nothing of what the certificates and names say.
"""

from __future__ import annotations

from collections.abc import Sequence

from cftpki_ext.core.errors import InputError

# The one certificate type that the host's documents allow in a CA list: list length 1, rsa_sign (1).
CA_TYPES = b"\x01\x01"
_U16_MAX = 0xFFFF
_U24_MAX = 0xFFFFFF


def decode_chain(data: bytes, *, max_bytes: int, max_certificates: int) -> tuple[bytes, ...]:
    """
    Split a chain into its certificates, leaf first; an empty list gives an empty tuple.

    Every length is compared with what is left and with its cap before it is used. The certificates
    themselves are not looked into.

    Args:
        data: u24 total length, then per certificate u24 length and DER.
        max_bytes: the longest chain in bytes, the leading length included.
        max_certificates: the most certificates.

    Returns:
        The certificates' bytes.

    Raises:
        InputError: a length does not fit, is over its cap, or bytes are left over; the offset is named.

    """
    if len(data) > max_bytes:
        msg = f"chain of {len(data)} bytes is over the limit of {max_bytes}"
        raise InputError(msg)
    return _decode_list(data, 0, width=3, what="certificate", cap=max_certificates)


def encode_chain(certificates: Sequence[bytes]) -> bytes:
    """
    Join certificates, leaf first, into the form of the handshake.

    Args:
        certificates: DER each; none of them empty.

    Returns:
        u24 total length, then per certificate u24 length and DER.

    Raises:
        InputError: a certificate is empty, or a length does not fit into 24 bits.

    """
    return _encode_list(certificates, width=3, limit=_U24_MAX, what="certificate")


def decode_ca_list(data: bytes, *, max_names: int = 4096) -> tuple[bytes, ...]:
    """
    Split a CA list into DER names; an empty list gives an empty tuple ("any CA", RFC 2246 7.4.4).

    Args:
        data: `01 01`, u16 total length, then per name u16 length and DER.
        max_names: the most names. By default 4096, far beyond what 64 KiB hold of real names.

    Returns:
        The names' bytes in order.

    Raises:
        InputError: another certificate type, a length that does not fit, or bytes left over; the offset
            is named.

    """
    if data[:2] != CA_TYPES:
        msg = f"CA list begins with {data[:2].hex() or 'nothing'} at offset 0 where 0101 is needed"
        raise InputError(msg)
    return _decode_list(data, 2, width=2, what="name", cap=max_names)


def encode_ca_list(names: Sequence[bytes]) -> bytes:
    """
    Join DER names into the CA list of a TLS 1.0 to 1.2 CertificateRequest, for the type rsa_sign.

    Args:
        names: DER each; none of them empty.

    Returns:
        `01 01`, u16 total length, then per name u16 length and DER.

    Raises:
        InputError: a name is empty, or a length does not fit into 16 bits.

    """
    return CA_TYPES + _encode_list(names, width=2, limit=_U16_MAX, what="name")


def _decode_list(data: bytes, start: int, *, width: int, what: str, cap: int) -> tuple[bytes, ...]:
    total = _length(data, start, width, f"{what} list")
    offset = start + width
    if total != len(data) - offset:
        msg = f"length of the {what} list at offset {start} is {total}, but {len(data) - offset} bytes follow"
        raise InputError(msg)
    items: list[bytes] = []
    while offset < len(data):
        if len(items) == cap:
            msg = f"more than {cap} {what} entries at offset {offset}"
            raise InputError(msg)
        length = _length(data, offset, width, what)
        begin = offset + width
        if length == 0 or length > len(data) - begin:
            msg = f"{what} length at offset {offset} is {length}, but {len(data) - begin} bytes are left"
            raise InputError(msg)
        offset = begin + length
        items.append(data[begin:offset])
    return tuple(items)


def _length(data: bytes, offset: int, width: int, what: str) -> int:
    field = data[offset : offset + width]
    if len(field) != width:
        msg = f"length of the {what} at offset {offset} is cut off"
        raise InputError(msg)
    return int.from_bytes(field, "big")


def _encode_list(items: Sequence[bytes], *, width: int, limit: int, what: str) -> bytes:
    parts: list[bytes] = []
    for item in items:
        if not 0 < len(item) <= limit:
            msg = f"{what} of {len(item)} bytes does not fit a length of {width} bytes"
            raise InputError(msg)
        parts += (len(item).to_bytes(width, "big"), item)
    body = b"".join(parts)
    if len(body) > limit:
        msg = f"{what} list of {len(body)} bytes does not fit a length of {width} bytes"
        raise InputError(msg)
    return len(body).to_bytes(width, "big") + body
