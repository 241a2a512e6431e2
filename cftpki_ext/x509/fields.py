"""
The fields of an ASN.1 SEQUENCE in DER: the one that fills a value, the optional ones in their order.
"""

from __future__ import annotations

from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element
from cftpki_ext.x509.oddity import Odd, refuse


def only(value: bytes, tag: int, what: str, rule: str, *, odd: Odd = refuse) -> list[Element]:
    """
    The children of the one constructed element that fills a value.

    Args:
        value: all of it.
        tag: the element's.
        what: the structure's name, for the message.
        rule: the clause.
        odd: is told of octets behind the element.

    Returns:
        The children.

    Raises:
        DerError: another element, or (by default) octets behind it.

    """
    try:
        return der.children(value, der.whole(value, tag, odd=odd))
    except DerError as error:
        msg = f"{what}: {error.detail}"
        raise DerError(msg, rule) from error


def in_order(parts: list[Element], tags: tuple[int, ...], what: str, rule: str) -> dict[int, Element]:
    """
    The optional fields of a SEQUENCE by tag.

    Args:
        parts: the children.
        tags: the tags that may appear, in their order.
        what: the structure's name, for the message.
        rule: the clause.

    Returns:
        The element of each tag that is there.

    Raises:
        DerError: another tag, a doubled one, or the wrong order.

    """
    position = 0
    found: dict[int, Element] = {}
    for part in parts:
        while position < len(tags) and tags[position] != part.tag:
            position += 1
        if position == len(tags):
            msg = f"{what} has an unknown, doubled or misplaced field {part.tag:#04x}"
            raise DerError(msg, rule)
        found[part.tag] = part
        position += 1
    return found
