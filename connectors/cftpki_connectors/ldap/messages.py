"""
What a directory answers: octets into messages (RFC 4511), each within bounds that are looked at before it is read.

Pure. LDAP's BER has definite lengths and tags of one octet (RFC 4511 5.1), lengths in any form (Active Directory writes
four octets always). How many attributes and values are read of an entry is bounded, so that no answer costs more than
copying its octets.
"""

from __future__ import annotations

from collections.abc import Iterator

from cftpki_ext.core.escape import printable
from cftpki_ext.core.values import dataclass

# Besides the values themselves: names, other attributes, and the answers before and after the entries.
OVERHEAD_BYTES = 64 * 1024
# An entry may have the lists of some keys of one CA; more are not a CA's.
VALUES = 8
# Entries that are read of one answer; the search asks for no more.
ENTRIES = 4
# We ask for six at the most.
_ATTRIBUTES = 32
# Messages of one answer: entries, references, and its end.
_MESSAGES = 32
# Servers' words in a detail.
_WORDS = 160

_SEQUENCE, _SET, _INTEGER, _OCTETS, _ENUMERATED = 0x30, 0x31, 0x02, 0x04, 0x0A
BIND_RESPONSE, SEARCH_ENTRY, SEARCH_DONE, SEARCH_REFERENCE, EXTENDED_RESPONSE = 0x61, 0x64, 0x65, 0x73, 0x78
_RESULTS = frozenset({BIND_RESPONSE, SEARCH_DONE, EXTENDED_RESPONSE})


class AnswerError(ValueError):
    """
    What came is no LDAP, or breaks a bound (`too_large`).
    """

    def __init__(self, detail: str, *, too_large: bool = False) -> None:
        super().__init__(detail)
        self.too_large = too_large


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    How an operation ended (RFC 4511 4.1.9): the code and the server's words, printable.
    """

    kind: int
    code: int
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    One entry: the values of each attribute, by its description in lower case.
    """

    values: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """
    The server sends us elsewhere. Where to is not even read.
    """


Message = Result | Entry | Reference


class Answers:
    """
    Cuts what comes over one connection into messages.

    Args:
        max_bytes: of all values together.

    """

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes + OVERHEAD_BYTES
        self._messages = 0
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """
        How many octets of the next message there are.
        """
        return len(self._buffer)

    def feed(self, octets: bytes) -> None:
        """
        Take what came.

        Raises:
            AnswerError: it is too much.

        """
        self._left -= len(octets)
        if self._left < 0:
            msg = "more than is allowed"
            raise AnswerError(msg, too_large=True)
        self._buffer += octets

    def next(self) -> tuple[int, Message] | None:
        """
        The next message and its number, `None` where it is not complete.

        Raises:
            AnswerError: it is no LDAP, or will be too large.

        """
        head = bytes(self._buffer[:6])
        if not head:
            return None
        if head[0] != _SEQUENCE:
            msg = "not LDAP"
            raise AnswerError(msg)
        size = _announced(head)
        if size is None:
            return None
        missing = size - len(self._buffer)
        if missing > self._left:
            msg = f"{size} bytes announced"
            raise AnswerError(msg, too_large=True)
        if missing > 0:
            return None
        self._messages += 1
        if self._messages > _MESSAGES:
            msg = f"more than {_MESSAGES} messages"
            raise AnswerError(msg, too_large=True)
        message = memoryview(self._buffer[:size])
        del self._buffer[:size]
        return _message(message)


def _announced(head: bytes) -> int | None:
    """
    The size of an element whose first octets these are, `None` where more of them are needed.
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


def _element(data: memoryview, at: int, end: int) -> tuple[int, int, int]:
    """
    The element that begins at `at`: its tag, and where its content begins and ends.
    """
    size = _announced(bytes(data[at : min(at + 6, end)]))
    if size is None or at + size > end:
        msg = "an element is cut off"
        raise AnswerError(msg)
    tag, first = data[at], data[at + 1]
    return tag, at + 2 + (first & 0x7F if first >= 0x80 else 0), at + size


def _elements(data: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    while at < end:
        found = _element(data, at, end)
        yield found
        at = found[2]


def _expect(data: memoryview, at: int, end: int, tag: int) -> tuple[int, int]:
    found, begin, after = _element(data, at, end)
    if found != tag:
        msg = f"tag {found:#04x} where {tag:#04x} belongs"
        raise AnswerError(msg)
    return begin, after


def _number(data: memoryview, at: int, end: int, tag: int) -> tuple[int, int]:
    begin, after = _expect(data, at, end, tag)
    if not 1 <= after - begin <= 4 or data[begin] >= 0x80:
        msg = "a number of no LDAP message"
        raise AnswerError(msg)
    return int.from_bytes(data[begin:after], "big"), after


def _message(data: memoryview) -> tuple[int, Message]:
    begin, end = _expect(data, 0, len(data), _SEQUENCE)
    number, at = _number(data, begin, end, _INTEGER)
    kind, begin, after = _element(data, at, end)
    if kind == SEARCH_ENTRY:
        return number, _entry(data, begin, after)
    if len(data) > OVERHEAD_BYTES:
        msg = f"{len(data)} bytes that are no entry"
        raise AnswerError(msg, too_large=True)
    if kind == SEARCH_REFERENCE:
        return number, Reference()
    if kind in _RESULTS:
        return number, _result(data, begin, after, kind)
    msg = f"a message of kind {kind:#04x}, which was not asked for"
    raise AnswerError(msg)


def _result(data: memoryview, at: int, end: int, kind: int) -> Result:
    code, at = _number(data, at, end, _ENUMERATED)
    _, at = _expect(data, at, end, _OCTETS)  # the entry that was found last
    begin, after = _expect(data, at, end, _OCTETS)
    words = bytes(data[begin : min(after, begin + _WORDS)]).decode("utf-8", "replace").strip(" \0\r\n")
    return Result(kind=kind, code=code, words=printable(words))


def _entry(data: memoryview, at: int, end: int) -> Entry:
    _, at = _expect(data, at, end, _OCTETS)  # its name
    begin, after = _expect(data, at, end, _SEQUENCE)
    values: list[tuple[str, bytes]] = []
    for count, (tag, first, last) in enumerate(_elements(data, begin, after)):
        if tag != _SEQUENCE or count >= _ATTRIBUTES:
            msg = "no list of attributes, or too long a one"
            raise AnswerError(msg, too_large=tag == _SEQUENCE)
        start, rest = _expect(data, first, last, _OCTETS)
        name = bytes(data[start : min(rest, start + 64)]).decode("latin-1").lower()
        start, rest = _expect(data, rest, last, _SET)
        for tagged, value, behind in _elements(data, start, rest):
            if tagged != _OCTETS or len(values) >= VALUES:
                msg = f"an entry of more than {VALUES} values" if tagged == _OCTETS else "no value"
                raise AnswerError(msg, too_large=tagged == _OCTETS)
            values.append((name, bytes(data[value:behind])))
    return Entry(values=tuple(values))
