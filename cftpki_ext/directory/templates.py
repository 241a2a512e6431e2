"""
Search filters and base names as an administrator writes them, with `{fields}` for what a certificate says.

A filter (RFC 4515) is read once into a tree; values are put into the tree's leaves as octets and never pass through the
grammar, so that no value can become a part of the filter. What is written out has every octet escaped that could mean
more than itself. Pure.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import NoReturn

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.x509.dn_text import escaped

# An administrator's own; deeper and longer ones are none that a person wrote.
_CHARACTERS = 4096
_DEPTH = 8
_ITEMS = 64
# A field with several values (alternative names) makes one comparison of each: more of them search for nobody in
# particular.
_ALTERNATIVES = 16
# A filter with its values: names of a certificate have some hundred octets.
_FILLED = 8 * 1024

_NAME = r"(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)"
_ATTRIBUTE = rf"{_NAME}(?:;[A-Za-z0-9-]+)*"
# attr=, attr>=, attr<=, attr~=, attr:dn:rule:= and :dn:rule:= (RFC 4515 section 3)
_HEAD = re.compile(
    rf"(?:{_ATTRIBUTE}(?:=|>=|<=|~=|(?::dn)?(?::{_NAME})?:=)|(?::dn)?:{_NAME}:=)", re.IGNORECASE
)
_FIELD = re.compile(r"\{([A-Za-z][A-Za-z0-9_.-]*)\}")
_PAIR = re.compile(r"\\([0-9A-Fa-f]{2})")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 -._@:,=+/'\"{}")

ValuesOf = Callable[[str], Sequence[bytes]]


class Sign(enum.StrEnum):
    """
    How filters are joined.
    """

    AND = "&"
    OR = "|"
    NOT = "!"


@dataclass(frozen=True, slots=True)
class Field:
    """
    A place for what the certificate says.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Star:
    """
    Any octets (a substring filter), or, alone, any value.
    """


Part = bytes | Field | Star


@dataclass(frozen=True, slots=True)
class Item:
    """
    One comparison: attribute and operator as written, and what is compared.
    """

    head: str
    value: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    """
    Filters joined by a sign; of `NOT` there is one.
    """

    sign: Sign
    filters: tuple[Filter, ...]


Filter = Item | Joined


@dataclass(frozen=True, slots=True)
class Missing:
    """
    Why there is nothing to search by: what the certificate lacks. It matches nobody.
    """

    why: str


@lru_cache(maxsize=256)
def parse_filter(text: str) -> Filter:
    """
    Read a template.

    By default blanks and line ends between filters do not matter, those within a value do. Values are written as RFC 4515
    has them, `{field}` stands for what is put there.

    Args:
        text: for instance `(&(objectClass=person)(cn={subject.CN}))`.

    Returns:
        The tree.

    Raises:
        InputError: it is no filter, or longer or deeper than a person's.

    """
    if len(text) > _CHARACTERS:
        msg = f"is longer than {_CHARACTERS} characters"
        raise InputError(msg)
    reader = _Reader(text)
    found = reader.filter(0)
    if reader.at != len(text):
        reader.broken("something follows the filter")
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.items = 0
        self._skip()

    def broken(self, why: str) -> NoReturn:
        msg = f"{why} at character {self.at + 1}"
        raise InputError(msg)

    def _skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
            self.at += 1

    def _next(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def filter(self, depth: int) -> Filter:
        if depth > _DEPTH:
            self.broken(f"is more than {_DEPTH} deep")
        if self._next() != "(":
            self.broken("a parenthesis '(' is missing")
        self.at += 1
        found = self._joined(depth) if self._next() in {"&", "|", "!"} else self._item()
        if self._next() != ")":
            self.broken("a parenthesis ')' is missing")
        self.at += 1
        self._skip()
        return found

    def _joined(self, depth: int) -> Joined:
        sign = Sign(self._next())
        self.at += 1
        self._skip()
        parts = []
        while self._next() == "(":
            parts.append(self.filter(depth + 1))
        if not parts or (sign is Sign.NOT and len(parts) > 1):
            self.broken(f"'{sign.value}' joins {len(parts)} filters")
        return Joined(sign, tuple(parts))

    def _item(self) -> Item:
        self.items += 1
        if self.items > _ITEMS:
            self.broken(f"has more than {_ITEMS} comparisons")
        head = _HEAD.match(self.text, self.at)
        if head is None:
            self.broken("an attribute with =, >=, <=, ~= or := is missing")
        self.at = head.end()
        value = self._value()
        stars = sum(isinstance(part, Star) for part in value)
        if not value:
            self.broken("compares with nothing")
        if stars and not (head[0].endswith("=") and head[0][-2] not in ":<>~"):
            self.broken("'*' belongs into a comparison with = alone; write it as \\2a")
        if stars > 1 and all(isinstance(part, Star) for part in value):
            self.broken("compares with nothing but '*'")
        return Item(head[0], value)

    def _value(self) -> tuple[Part, ...]:
        parts: list[Part] = []
        octets = bytearray()
        while (character := self._next()) not in {")", ""}:
            special = self._special(character)
            if special is None:
                octets += character.encode()
                self.at += 1
            elif isinstance(special, bytes):
                octets += special
            else:
                if octets:
                    parts.append(bytes(octets))
                    octets.clear()
                parts.append(special)
        return (*parts, bytes(octets)) if octets else tuple(parts)

    def _special(self, character: str) -> Part | None:
        """
        What stands for something else; `None` for a character that stands for itself.
        """
        if character == "*":
            self.at += 1
            return Star()
        if character == "{":
            field = _FIELD.match(self.text, self.at)
            if field is None:
                self.broken("'{' begins no field; write it as \\7b")
            self.at = field.end()
            return Field(field[1])
        if character == "\\":
            pair = _PAIR.match(self.text, self.at)
            if pair is None:
                self.broken("'\\' is followed by two hexadecimal digits")
            self.at = pair.end()
            return bytes.fromhex(pair[1])
        if character in "(\0" or not character.isprintable():
            self.broken("a character that a value may not hold as it is")
        return None


def fields_in(found: Filter) -> Iterator[str]:
    """
    The names of the fields of a filter.
    """
    if isinstance(found, Joined):
        for one in found.filters:
            yield from fields_in(one)
    else:
        yield from (part.name for part in found.value if isinstance(part, Field))


def filled(found: Filter, values_of: ValuesOf) -> str | Missing:
    """
    The filter with its values, as text (RFC 4515).

    A comparison with a field that the certificate lacks is never true: alone, within `&` and within `!` there is nothing to
    search by, within `|` the others count where no `!` is around it. A field with several values is compared with each, and any will do.

    Args:
        found: the tree.
        values_of: the values of a field; an empty one is none.

    Returns:
        The text; or what is missing.

    """
    text = _filled(found, values_of)
    if isinstance(text, str) and len(text) > _FILLED:
        return Missing(f"what is searched by is longer than {_FILLED} characters")
    return text


def _filled(found: Filter, values_of: ValuesOf, *, negated: bool = False) -> str | Missing:
    if isinstance(found, Item):
        return _compared(found, values_of)
    # Within a `!` what is left out of a `|` would count as false, and match.
    negated = negated or found.sign is Sign.NOT
    texts = [_filled(one, values_of, negated=negated) for one in found.filters]
    missing = next((text for text in texts if isinstance(text, Missing)), None)
    there = [text for text in texts if isinstance(text, str)]
    if missing is not None and (negated or found.sign is not Sign.OR or not there):
        return missing
    return f"({found.sign.value}{''.join(there)})"


def _compared(item: Item, values_of: ValuesOf) -> str | Missing:
    names = tuple(dict.fromkeys(part.name for part in item.value if isinstance(part, Field)))
    choices: list[list[bytes]] = []
    for name in names:
        values = list(dict.fromkeys(value for value in values_of(name) if value))
        if not values:
            return Missing(f"the certificate has no {name}")
        choices.append(values)
    count = 1
    for values in choices:
        count *= len(values)
    if count > _ALTERNATIVES:
        return Missing(
            f"the certificate has {count} values of {', '.join(names)}, at most {_ALTERNATIVES} are searched by"
        )
    texts = [
        f"({item.head}{_written(item.value, dict(zip(names, chosen, strict=True)))})"
        for chosen in product(*choices)
    ]
    return texts[0] if len(texts) == 1 else f"(|{''.join(texts)})"


def _written(value: tuple[Part, ...], chosen: dict[str, bytes]) -> str:
    pieces: list[str | bytes] = []
    for part in value:
        octets = "*" if isinstance(part, Star) else chosen[part.name] if isinstance(part, Field) else part
        if isinstance(octets, bytes) and pieces and isinstance(pieces[-1], bytes):
            octets = pieces.pop() + octets  # type: ignore[operator]
        pieces.append(octets)
    return "".join(piece if isinstance(piece, str) else escape_value(piece) for piece in pieces)


def escape_value(octets: bytes) -> str:
    """
    A value as it stands in a filter (RFC 4515 section 3): whatever could mean more than itself in hexadecimal.

    Args:
        octets: of any length, NUL among them.

    Returns:
        ASCII text; blanks at either end are escaped as well, which some readers cut off.

    """
    last = len(octets) - 1
    return "".join(
        chr(octet) if octet in _PLAIN and not (octet == 0x20 and place in {0, last}) else f"\\{octet:02x}"
        for place, octet in enumerate(octets)
    )


@lru_cache(maxsize=256)
def parse_base(text: str) -> tuple[str | Field, ...]:
    """
    Read the template of a base name (RFC 4514): fields stand in values, behind an `=`, or one alone for the whole name.

    Args:
        text: for instance `ou={subject.OU},ou=partners,dc=example`; empty for the root of the directory.

    Returns:
        Text and fields in turn.

    Raises:
        InputError: a field stands elsewhere, or a brace is none of a field.

    """
    if len(text) > _CHARACTERS:
        msg = f"is longer than {_CHARACTERS} characters"
        raise InputError(msg)
    parts: list[str | Field] = []
    at = 0
    for field in _FIELD.finditer(text):
        before = text[at : field.start()]
        parts += [before] if before else []
        parts.append(Field(field[1]))
        at = field.end()
    parts += [text[at:]] if text[at:] else []
    written = [part for part in parts if isinstance(part, str)]
    if any(set(part) & set("{}") or not part.isprintable() for part in written):
        msg = "holds a brace that is none of a field, or what is not printable"
        raise InputError(msg)
    if len(parts) > 1 and any(isinstance(part, Field) for part in parts):
        said = ""
        for part in parts:
            if isinstance(part, str):
                said += part
            elif "=" not in re.split(r"(?<!\\)[,+]", said)[-1]:
                msg = f"the field {part.name} stands where no value is: write attribute={{{part.name}}}"
                raise InputError(msg)
    return tuple(parts)


def filled_base(text: str, value_of: Callable[[str], Sequence[str]]) -> str | Missing:
    """
    A base name with its values, each escaped as RFC 4514 asks; of a field that stands alone, the name as it is.

    Args:
        text: the template.
        value_of: the values of a field as text; there must be exactly one.

    Returns:
        The name; or what is missing.

    """
    parts = parse_base(text)
    written: list[str] = []
    for part in parts:
        if isinstance(part, str):
            written.append(part)
            continue
        values = list(dict.fromkeys(value for value in value_of(part.name) if value))
        if len(values) != 1:
            said = (
                f"{len(values)} values of {part.name}, and one is asked for" if values else f"no {part.name}"
            )
            return Missing(f"the certificate has {said}")
        written.append(values[0] if len(parts) == 1 else escaped(values[0]))
    name = "".join(written)
    return Missing("the base is longer than is asked for") if len(name) > _FILLED else name
