"""
Strict DER (X.690) over the bytes as received: where each element starts and ends, and the simple types.

Owns slicing; keeps no copy of what it read and encodes nothing anew, so that a signature can be checked over exactly
what came in.

More than 400 lines: one function for each type of X.690 that X.509 uses.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import NamedTuple

from cftpki_ext.x509.oddity import DerError as DerError  # noqa: PLC0414  # offered here, where it is raised
from cftpki_ext.x509.oddity import Odd, refuse

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OBJECT_IDENTIFIER = 0x06
ENUMERATED = 0x0A
UTF8_STRING = 0x0C
PRINTABLE_STRING = 0x13
T61_STRING = 0x14
IA5_STRING = 0x16
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
VISIBLE_STRING = 0x1A
UNIVERSAL_STRING = 0x1C
BMP_STRING = 0x1E
SEQUENCE = 0x30
SET = 0x31
_NAMES = {
    BOOLEAN: "BOOLEAN",
    INTEGER: "INTEGER",
    BIT_STRING: "BIT STRING",
    OCTET_STRING: "OCTET STRING",
    OBJECT_IDENTIFIER: "OBJECT IDENTIFIER",
    ENUMERATED: "ENUMERATED",
    GENERALIZED_TIME: "GeneralizedTime",
    SEQUENCE: "SEQUENCE",
    SET: "SET",
}

# Lengths of up to four octets (4 GiB) are read; every caller caps the whole object far below.
_LENGTH_OCTETS = 4
# Serial numbers have 20 octets, moduli (where a CA asks for a size by an example) up to 2048 in theory. Python writes no
# number of more than 4300 digits, because that costs their square.
_INTEGER_OCTETS = 1750
# An object identifier has a few dozen octets at most; the bound keeps the arithmetic on long arcs cheap.
_OID_OCTETS = 128


class Element(NamedTuple):
    """
    One tag-length-value inside a buffer: offsets of its header, its content, and its end.
    """

    tag: int
    start: int
    content: int
    end: int


# What `Element(...)` does, without the detour through its keyword-taking constructor: half of a cold parse
# would be spent there.
_new = tuple.__new__


def read(data: bytes, start: int, end: int) -> Element:
    """
    Read the header of the element at `start`, which must lie wholly before `end`.

    By default only what DER allows is taken: one tag octet, definite lengths of the fewest octets. The
    content is not looked at.

    Args:
        data: the buffer.
        start: offset of the tag octet.
        end: offset behind the last octet that may be used.

    Returns:
        The element.

    Raises:
        DerError: truncated, indefinite or non-minimal length, or a tag number above 30.

    """
    content = start + 2
    if content > end:
        msg = "element is cut off"
        raise DerError(msg)
    tag = data[start]
    if tag & 0x1F == 0x1F:
        msg = "tag numbers above 30 are not used in certificates"
        raise DerError(msg)
    length = data[start + 1]
    if length > 0x7F:
        octets = length & 0x7F
        if not 1 <= octets <= _LENGTH_OCTETS:
            msg = "length is indefinite or too long"
            raise DerError(msg)
        content += octets
        if content > end:
            msg = "length is cut off"
            raise DerError(msg)
        length = int.from_bytes(data[start + 2 : content], "big")
        if length < 0x80 or length >> 8 * (octets - 1) == 0:
            msg = "length is not minimal"
            raise DerError(msg)
    stop = content + length
    if stop > end:
        msg = "content is cut off"
        raise DerError(msg)
    return _new(Element, (tag, start, content, stop))


def whole(data: bytes, tag: int = SEQUENCE, *, odd: Odd = refuse) -> Element:
    """
    Read the one element that fills the buffer.

    Args:
        data: the buffer.
        tag: the tag it must have.
        odd: is told of octets behind the element.

    Returns:
        The element.

    Raises:
        DerError: another tag, or (by default) trailing bytes.

    """
    element = read(data, 0, len(data))
    if element.tag != tag:
        msg = f"it is no {_named(tag)}: its first octet is {element.tag:#04x}"
        raise DerError(msg)
    if element.end != len(data):
        odd(f"{len(data) - element.end} trailing bytes", "X.690 (DER)")
    return element


def _named(tag: int) -> str:
    """
    What X.680 calls a tag; context tags have numbers only.
    """
    return f"{_NAMES.get(tag, 'element with tag')} ({tag:#04x})"


def children(data: bytes, parent: Element, *, most: int | None = None) -> list[Element]:
    """
    The elements of a constructed one, in order.

    Args:
        data: the buffer.
        parent: a constructed element of it.
        most: how many there may be; by default as many as its octets hold, which the caller has bounded.

    Returns:
        The direct children; an empty list for empty content.

    Raises:
        DerError: `parent` is primitive, a child breaks the rules of `read`, or there are too many.

    """
    if not parent.tag & 0x20:
        msg = f"tag {parent.tag:#04x} is not a constructed type"
        raise DerError(msg)
    found: list[Element] = []
    position = parent.content
    end = parent.end
    while position < end:
        if len(found) == most:
            msg = f"more than {most} elements"
            raise DerError(msg)
        # The common case of `read`, a short length, without a call; everything else goes there.
        content = position + 2
        tag = data[position]
        if content <= end and tag & 0x1F != 0x1F and (length := data[position + 1]) < 0x80:
            stop = content + length
            if stop <= end:
                found.append(_new(Element, (tag, position, content, stop)))
                position = stop
                continue
        child = read(data, position, end)
        found.append(child)
        position = child.end
    return found


def encoded(data: bytes, element: Element) -> bytes:
    """
    The element as received, header included.
    """
    return data[element.start : element.end]


def content(data: bytes, element: Element) -> bytes:
    """
    The element's content as received, without header.
    """
    return data[element.content : element.end]


def expect(element: Element, tag: int, what: str) -> Element:
    """
    The element itself, if it has the tag that `what` must have.

    Args:
        element: the element.
        tag: the tag it must have.
        what: its name, for the message.

    Returns:
        `element`.

    Raises:
        DerError: it has another tag.

    """
    if element.tag != tag:
        msg = f"{what} is no {_named(tag)}: its first octet is {element.tag:#04x}"
        raise DerError(msg)
    return element


def integer(data: bytes, element: Element) -> int:
    """
    The value of an INTEGER (or of an implicitly tagged one: the tag is not looked at).

    Raises:
        DerError: empty, longer than any in use, or not of the fewest octets.

    """
    raw = data[element.content : element.end]
    if not raw:
        msg = "empty integer"
        raise DerError(msg)
    if len(raw) > _INTEGER_OCTETS:
        msg = f"integer has {len(raw)} octets, at most {_INTEGER_OCTETS} are read"
        raise DerError(msg)
    if len(raw) > 1 and ((raw[0] == 0 and raw[1] < 0x80) or (raw[0] == 0xFF and raw[1] >= 0x80)):
        msg = "integer is not minimal"
        raise DerError(msg)
    return int.from_bytes(raw, "big", signed=True)


def boolean(data: bytes, element: Element, *, odd: Odd = refuse) -> bool:
    """
    The value of a BOOLEAN (or of an implicitly tagged one).

    Args:
        data: the buffer.
        element: the BOOLEAN.
        odd: is told of an octet other than 00 and FF, which is true in BER (X.690 8.2.2).

    Raises:
        DerError: not one octet, or (by default) not of 00 or FF.

    """
    raw = data[element.content : element.end]
    if raw == b"\xff":
        return True
    if raw == b"\x00":
        return False
    msg = "boolean is neither 00 nor FF"
    if len(raw) != 1:
        raise DerError(msg)
    odd(msg, "X.690 (DER)")
    return True


def bit_string(data: bytes, element: Element) -> tuple[bytes, int]:
    """
    The octets of a BIT STRING and the number of unused bits in the last one.

    Raises:
        DerError: no octet for the number, a number above 7, or unused bits that are set.

    """
    if element.end == element.content:
        msg = "empty bit string"
        raise DerError(msg)
    unused = data[element.content]
    raw = data[element.content + 1 : element.end]
    if unused > 7 or (unused and not raw) or (unused and raw[-1] & ((1 << unused) - 1)):
        msg = "unused bits of a bit string are wrong"
        raise DerError(msg)
    return raw, unused


def named_bits(data: bytes, element: Element, *, odd: Odd = refuse) -> frozenset[int]:
    """
    The numbers of the bits that are set in a named bit list (X.690 11.2.2: no trailing zero bits).

    Args:
        data: the buffer.
        element: the BIT STRING.
        odd: is told of trailing zero bits, and of unused bits that are set: they change nothing of what is said.

    Returns:
        The numbers; bit 0 is the first.

    Raises:
        DerError: as `bit_string`, or (by default) trailing zero bits.

    """
    unused = data[element.content] if element.end > element.content else 0
    raw = data[element.content + 1 : element.end]
    if 0 < unused <= 7 and raw and raw[-1] & ((1 << unused) - 1):
        odd("unused bits of a bit string are wrong", "X.690 (DER)")
        raw = raw[:-1] + bytes((raw[-1] >> unused << unused,))
    else:
        raw, unused = bit_string(data, element)
    if raw and not raw[-1] >> unused & 1:
        odd("named bit list has trailing zero bits", "X.690 (DER)")
    return frozenset(
        8 * index + bit for index, octet in enumerate(raw) for bit in range(8) if octet & (0x80 >> bit)
    )


# The identifiers of every certificate: some fifty. A flood of others takes their place for a moment, and no memory.
@functools.lru_cache(maxsize=128)
def dotted(raw: bytes) -> str:
    """
    The dotted form of an OBJECT IDENTIFIER's content.

    Args:
        raw: the content octets.

    Returns:
        For instance `"2.5.29.19"`.

    Raises:
        DerError: empty, cut off, non-minimal arcs, or longer than any in use.

    """
    if not raw or len(raw) > _OID_OCTETS or raw[-1] & 0x80:
        msg = "object identifier is empty, too long or cut off"
        raise DerError(msg)
    if raw.isascii():  # every arc has one octet, as in most extensions' identifiers
        top = min(raw[0] // 40, 2)
        return ".".join(map(str, (top, raw[0] - 40 * top, *raw[1:])))
    arcs: list[int] = []
    arc = 0
    fresh = True
    for octet in raw:
        if fresh and octet == 0x80:
            msg = "object identifier is not minimal"
            raise DerError(msg)
        arc = arc << 7 | octet & 0x7F
        fresh = not octet & 0x80
        if fresh:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def oid(data: bytes, element: Element) -> str:
    """
    The dotted form of an OBJECT IDENTIFIER element.

    Raises:
        DerError: another tag, or as `dotted`.

    """
    if element.tag != OBJECT_IDENTIFIER:
        msg = f"tag {element.tag:#04x} where an object identifier is expected"
        raise DerError(msg)
    return dotted(data[element.content : element.end])


def time(data: bytes, element: Element, *, odd: Odd = refuse) -> datetime:
    """
    The value of a Time (RFC 5280 4.1.2.5): UTCTime or GeneralizedTime, with seconds, in Zulu, no fraction.

    By default a GeneralizedTime before 2050 is taken too, although RFC 5280 asks for UTCTime there: it is
    unambiguous, and PKITS 4.2.4 has one that must be accepted.

    Args:
        data: the buffer.
        element: the Time.
        odd: is told of the year 0, before which nothing is.

    Returns:
        An aware datetime in UTC.

    Raises:
        DerError: another tag or form, or no such date.

    """
    raw = data[element.content : element.end]
    shown = raw[:32].decode("latin-1")
    digits = raw[:-1]
    if element.tag == UTC_TIME and len(raw) == 13:
        year_octets = 2
    elif element.tag == GENERALIZED_TIME and len(raw) == 15:
        year_octets = 4
    else:
        year_octets = 0
    if not year_octets or raw[-1:] != b"Z" or not digits.isdigit():
        msg = f"time {shown!r} is not YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ"
        raise DerError(msg, "RFC 5280 4.1.2.5")
    year = int(digits[:year_octets])
    if year_octets == 2:
        year += 1900 if year >= 50 else 2000
    rest = digits[year_octets:]
    if not year:
        odd(f"time {shown!r} does not exist", "RFC 5280 4.1.2.5")
        return datetime.min.replace(tzinfo=UTC)
    try:
        return datetime(
            year, int(rest[:2]), int(rest[2:4]), int(rest[4:6]), int(rest[6:8]), int(rest[8:10]), tzinfo=UTC
        )
    except ValueError as error:
        msg = f"time {shown!r} does not exist"
        raise DerError(msg, "RFC 5280 4.1.2.5") from error


def encode(tag: int, *parts: bytes) -> bytes:
    """
    Encode one element around already encoded content.

    Args:
        tag: the tag octet.
        *parts: the content, in order.

    Returns:
        The DER.

    """
    inner = b"".join(parts)
    length = len(inner)
    if length < 0x80:
        return bytes((tag, length)) + inner
    octets = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | octets)) + length.to_bytes(octets, "big") + inner


def encode_oid(dotted_form: str) -> bytes:
    """
    Encode an OBJECT IDENTIFIER.

    Args:
        dotted_form: for instance `"2.5.29.19"`; a known one, it is not checked.

    Returns:
        The DER.

    """
    top, second, *rest = map(int, dotted_form.split("."))
    content = bytearray()
    for arc in (40 * top + second, *rest):
        octets = [arc & 0x7F]
        left = arc >> 7
        while left:
            octets.append(0x80 | left & 0x7F)
            left >>= 7
        content += bytes(reversed(octets))
    return encode(OBJECT_IDENTIFIER, bytes(content))
