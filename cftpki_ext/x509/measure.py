"""
What reading a certificate will cost, found before it is read.

Owns the count of elements at all depths, and of text that is costly to compare. Nothing is judged: what is malformed
ends the count, and the parser will say so.
"""

from __future__ import annotations

from cftpki_ext.core.work import ELEMENT, IDENTIFIER_OCTETS, LONG_IDENTIFIER, ODD_OCTET
from cftpki_ext.x509 import der

_CONSTRUCTED = 0x20
_TEXT = frozenset(
    {
        der.UTF8_STRING,
        der.T61_STRING,
        der.IA5_STRING,
        der.PRINTABLE_STRING,
        der.VISIBLE_STRING,
        der.UNIVERSAL_STRING,
        der.BMP_STRING,
    }
)


def operations(encoded: bytes, most: int) -> int:
    """
    The operations of reading some DER.

    Args:
        encoded: the bytes, of whatever form.
        most: where counting ends; it takes a tenth of the time that reading would.

    Returns:
        The operations, or some number above `most`.

    """
    spent = 0
    pending = [(0, len(encoded))]
    while pending and spent <= most:
        position, end = pending.pop()
        while position < end:
            content = position + 2
            if content > end:
                break
            tag, length = encoded[position], encoded[position + 1]
            if length > 0x7F:
                octets = length & 0x7F
                length = int.from_bytes(encoded[content : content + octets], "big")
                content += octets
            stop = content + length
            if stop > end:
                break
            spent += ELEMENT
            if spent > most:
                break
            if tag & _CONSTRUCTED:
                pending.append((content, stop))
            elif tag == der.OCTET_STRING:
                # The value of an extension is DER again, and so is what some of them hold.
                if length > 2 and encoded[content] & _CONSTRUCTED:
                    pending.append((content, stop))
            elif tag == der.OBJECT_IDENTIFIER and length > LONG_IDENTIFIER:
                spent += length // IDENTIFIER_OCTETS
            elif tag in _TEXT:
                text = encoded[content:stop]
                if not text.isascii() or not text.decode("ascii").isprintable():
                    spent += ODD_OCTET * length
            position = stop
    return spent
