"""
What a directory answered to one search, as it came: messages of LDAP (RFC 4511), read within bounds. Pure.

What decides is read here, from the octets that are kept; nobody else's reading counts.
"""

from __future__ import annotations

from dataclasses import field

from cftpki_ext.core import ldap_ber as ber
from cftpki_ext.core.ldap_ber import AnswerError
from cftpki_ext.core.values import dataclass

# Result codes that are answers (RFC 4511 appendix A).
SUCCESS, SIZE_LIMIT, NO_SUCH_OBJECT = 0, 4, 32
# Entries that are read of an answer, values of all of them together, and attributes of one. A partner in two thousand groups
# has as many values; a search asks for few attributes.
ENTRIES = 4
_VALUES = 4096
_ATTRIBUTES = 128
_MESSAGES = 64
_NAME_OCTETS = 8 * 1024
_DESCRIPTION_OCTETS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    One entry: its name as the directory has it, and the values of its attributes by lower-case description without options.

    `partial` are attributes of which the directory sent only some of the values (Active Directory's `range`).
    """

    name: str
    attributes: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    partial: frozenset[str] = frozenset()

    def values(self, attribute: str) -> tuple[bytes, ...]:
        """
        The values of an attribute, whatever options the directory wrote behind its name.
        """
        return self.attributes.get(base_of(attribute), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    The entries that were found, how the search ended, and how often the directory sent us elsewhere.
    """

    entries: tuple[Entry, ...]
    code: int
    referred: int

    @property
    def is_more(self) -> bool:
        """
        Whether there are more entries than were sent.
        """
        return self.code == SIZE_LIMIT


def base_of(attribute: str) -> str:
    """
    An attribute description without its options, in lower case.
    """
    return attribute.partition(";")[0].lower()


def read_answer(raw: bytes, *, most: int) -> Answer:
    """
    Read the messages of one search: entries, references, and how it ended.

    Args:
        raw: the messages, one behind the other.
        most: how many octets there may be.

    Returns:
        The answer.

    Raises:
        AnswerError: it is none, or breaks a bound; `too_large` tells which.

    """
    if len(raw) > most:
        msg = f"{len(raw)} octets are more than the {most} allowed"
        raise AnswerError(msg, too_large=True)
    data = memoryview(raw)
    entries: list[Entry] = []
    referred, messages, at = 0, 0, 0
    left = [_VALUES]
    while at < len(data):
        begin, after = ber.expect(data, at, len(data), ber.SEQUENCE)
        messages += 1
        if messages > _MESSAGES:
            msg = f"more than {_MESSAGES} messages"
            raise AnswerError(msg, too_large=True)
        _, begin = ber.number(data, begin, after, ber.INTEGER)
        kind, begin, end = ber.element(data, begin, after)
        at = after
        if kind == ber.SEARCH_ENTRY:
            if len(entries) >= ENTRIES:
                msg = f"more than {ENTRIES} entries"
                raise AnswerError(msg, too_large=True)
            entries.append(_entry(data, begin, end, left))
        elif kind == ber.SEARCH_REFERENCE:
            referred += 1
        elif kind == ber.SEARCH_DONE:
            code, _ = ber.number(data, begin, end, ber.ENUMERATED)
            if at != len(data):
                msg = "something follows the end of the search"
                raise AnswerError(msg)
            if code not in {SUCCESS, SIZE_LIMIT, NO_SUCH_OBJECT}:
                msg = f"the search ended with result code {code}"
                raise AnswerError(msg)
            return Answer(entries=tuple(entries), code=code, referred=referred)
        else:
            msg = f"a message of kind {kind:#04x}, which was not asked for"
            raise AnswerError(msg)
    msg = "the search has no end"
    raise AnswerError(msg)


def _entry(data: memoryview, at: int, end: int, left: list[int]) -> Entry:
    begin, at = ber.expect(data, at, end, ber.OCTETS)
    name = _text(data, begin, at, _NAME_OCTETS, "a name")
    begin, after = ber.expect(data, at, end, ber.SEQUENCE)
    found: dict[str, tuple[bytes, ...]] = {}
    partial: set[str] = set()
    for count, (tag, first, last) in enumerate(ber.elements(data, begin, after)):
        if tag != ber.SEQUENCE or count >= _ATTRIBUTES:
            msg = "no list of attributes, or too long a one"
            raise AnswerError(msg, too_large=tag == ber.SEQUENCE)
        start, rest = ber.expect(data, first, last, ber.OCTETS)
        description = _text(data, start, rest, _DESCRIPTION_OCTETS, "the name of an attribute")
        start, rest = ber.expect(data, rest, last, ber.SET)
        values = []
        for tagged, value, behind in ber.elements(data, start, rest):
            left[0] -= 1
            if tagged != ber.OCTETS or left[0] < 0:
                msg = f"more than {_VALUES} values" if tagged == ber.OCTETS else "no value"
                raise AnswerError(msg, too_large=tagged == ber.OCTETS)
            values.append(bytes(data[value:behind]))
        base = base_of(description)
        found[base] = (*found.get(base, ()), *values)
        if any(one.startswith("range=") and not one.endswith("-*") for one in _options(description)):
            partial.add(base)
    return Entry(name=name, attributes=found, partial=frozenset(partial))


def _options(description: str) -> list[str]:
    return description.lower().split(";")[1:]


def _text(data: memoryview, at: int, end: int, most: int, what: str) -> str:
    if end - at > most:
        msg = f"{what} of {end - at} octets"
        raise AnswerError(msg, too_large=True)
    try:
        return bytes(data[at:end]).decode()
    except UnicodeDecodeError as error:
        msg = f"{what} that is no UTF-8"
        raise AnswerError(msg) from error
