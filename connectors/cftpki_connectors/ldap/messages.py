"""
What a directory answers: octets into messages (RFC 4511), each within bounds that are looked at before it is read.

Pure. How many attributes and values are read of an entry is bounded, so that no answer costs more than
copying its octets.
"""

from __future__ import annotations

from cftpki_ext.core import ldap_ber as ber
from cftpki_ext.core.escape import printable
from cftpki_ext.core.values import dataclass

# Besides the values themselves: names, other attributes, and the answers before and after the entries.
OVERHEAD_BYTES = 64 * 1024
# An entry may have the lists of some keys of one CA; more are not a CA's.
VALUES = 8
# Entries that are read of one answer; the search asks for no more.
ENTRIES = 4
# Entries of a search for a partner: two are too many already where one is meant, and no more are told apart.
SEARCHED = 4
# We ask for six at the most.
_ATTRIBUTES = 32
# Messages of one answer: entries, references, and its end.
_MESSAGES = 32
# Servers' words in a detail.
_WORDS = 160

_RESULTS = frozenset({ber.BIND_RESPONSE, ber.SEARCH_DONE, ber.EXTENDED_RESPONSE})


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

    `last` are the octets of the last message.

    Args:
        max_bytes: of all values together.
        unread: entries are handed on as they came, and nothing of them is read here.

    """

    def __init__(self, max_bytes: int, *, unread: bool = False) -> None:
        self._left = max_bytes + OVERHEAD_BYTES
        self._unread = unread
        self.last = b""
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
            raise ber.AnswerError(msg, too_large=True)
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
        if head[0] != ber.SEQUENCE:
            msg = "not LDAP"
            raise ber.AnswerError(msg)
        size = ber.announced(head)
        if size is None:
            return None
        missing = size - len(self._buffer)
        if missing > self._left:
            msg = f"{size} bytes announced"
            raise ber.AnswerError(msg, too_large=True)
        if missing > 0:
            return None
        self._messages += 1
        if self._messages > _MESSAGES:
            msg = f"more than {_MESSAGES} messages"
            raise ber.AnswerError(msg, too_large=True)
        self.last = bytes(self._buffer[:size])
        del self._buffer[:size]
        return _message(memoryview(self.last), unread=self._unread)


def _message(data: memoryview, *, unread: bool) -> tuple[int, Message]:
    begin, end = ber.expect(data, 0, len(data), ber.SEQUENCE)
    number, at = ber.number(data, begin, end, ber.INTEGER)
    kind, begin, after = ber.element(data, at, end)
    if kind == ber.SEARCH_ENTRY:
        return number, Entry(values=()) if unread else _entry(data, begin, after)
    if len(data) > OVERHEAD_BYTES:
        msg = f"{len(data)} bytes that are no entry"
        raise ber.AnswerError(msg, too_large=True)
    if kind == ber.SEARCH_REFERENCE:
        return number, Reference()
    if kind in _RESULTS:
        return number, _result(data, begin, after, kind)
    msg = f"a message of kind {kind:#04x}, which was not asked for"
    raise ber.AnswerError(msg)


def _result(data: memoryview, at: int, end: int, kind: int) -> Result:
    code, at = ber.number(data, at, end, ber.ENUMERATED)
    _, at = ber.expect(data, at, end, ber.OCTETS)  # the entry that was found last
    begin, after = ber.expect(data, at, end, ber.OCTETS)
    words = bytes(data[begin : min(after, begin + _WORDS)]).decode("utf-8", "replace").strip(" \0\r\n")
    return Result(kind=kind, code=code, words=printable(words))


def _entry(data: memoryview, at: int, end: int) -> Entry:
    _, at = ber.expect(data, at, end, ber.OCTETS)  # its name
    begin, after = ber.expect(data, at, end, ber.SEQUENCE)
    values: list[tuple[str, bytes]] = []
    for count, (tag, first, last) in enumerate(ber.elements(data, begin, after)):
        if tag != ber.SEQUENCE or count >= _ATTRIBUTES:
            msg = "no list of attributes, or too long a one"
            raise ber.AnswerError(msg, too_large=tag == ber.SEQUENCE)
        start, rest = ber.expect(data, first, last, ber.OCTETS)
        name = bytes(data[start : min(rest, start + 64)]).decode("latin-1").lower()
        start, rest = ber.expect(data, rest, last, ber.SET)
        for tagged, value, behind in ber.elements(data, start, rest):
            if tagged != ber.OCTETS or len(values) >= VALUES:
                msg = f"an entry of more than {VALUES} values" if tagged == ber.OCTETS else "no value"
                raise ber.AnswerError(msg, too_large=tagged == ber.OCTETS)
            values.append((name, bytes(data[value:behind])))
    return Entry(values=tuple(values))
