"""
LDAP's BER (RFC 4511 5.1): one element after the other, each length looked at before it is believed.

Pure. Definite lengths and tags of one octet, lengths in any form (Active Directory writes four octets always).
"""

from __future__ import annotations

from collections.abc import Iterator

SEQUENCE, SET, INTEGER, OCTETS, ENUMERATED = 0x30, 0x31, 0x02, 0x04, 0x0A
BIND_RESPONSE, SEARCH_ENTRY, SEARCH_DONE, SEARCH_REFERENCE, EXTENDED_RESPONSE = 0x61, 0x64, 0x65, 0x73, 0x78


class AnswerError(ValueError):
    """
    What came is no LDAP, or breaks a bound (`too_large`).
    """

    def __init__(self, detail: str, *, too_large: bool = False) -> None:
        super().__init__(detail)
        self.too_large = too_large


def announced(head: bytes) -> int | None:
    """
    The size of an element whose first octets these are, `None` where more of them are needed.

    Raises:
        AnswerError: its length is none of LDAP's.

    """
    if len(head) < 2:
        return None
    if head[1] < 0x80:
        return 2 + head[1]
    count = head[1] & 0x7F
    if not 1 <= count <= 4:
        msg = "a length of no LDAP message"
        raise AnswerError(msg)
    if len(head) < 2 + count:
        return None
    return 2 + count + int.from_bytes(head[2 : 2 + count], "big")


def element(data: memoryview, at: int, end: int) -> tuple[int, int, int]:
    """
    The element that begins at `at`: its tag, and where its content begins and ends.

    Raises:
        AnswerError: it does not lie wholly before `end`.

    """
    size = announced(bytes(data[at : min(at + 6, end)]))
    if size is None or at + size > end:
        msg = "an element is cut off"
        raise AnswerError(msg)
    tag, first = data[at], data[at + 1]
    return tag, at + 2 + (first & 0x7F if first >= 0x80 else 0), at + size


def elements(data: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """
    All elements from `at` to `end`, see `element`.
    """
    while at < end:
        found = element(data, at, end)
        yield found
        at = found[2]


def expect(data: memoryview, at: int, end: int, tag: int) -> tuple[int, int]:
    """
    Where the content of the element at `at` begins and ends, which must have this tag.
    """
    found, begin, after = element(data, at, end)
    if found != tag:
        msg = f"tag {found:#04x} where {tag:#04x} belongs"
        raise AnswerError(msg)
    return begin, after


def number(data: memoryview, at: int, end: int, tag: int) -> tuple[int, int]:
    """
    The number at `at`, which must have this tag and be none below zero, and where it ends.
    """
    begin, after = expect(data, at, end, tag)
    if not 1 <= after - begin <= 4 or data[begin] >= 0x80:
        msg = "a number of no LDAP message"
        raise AnswerError(msg)
    return int.from_bytes(data[begin:after], "big"), after
