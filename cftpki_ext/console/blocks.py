"""
What a page is made of, before it is HTML: notes, facts, tables, plots, forms. Values only.

Texts are as strangers chose them: the templates escape every one.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import field
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from cftpki_ext.core.values import dataclass

# A word of this many characters fits into a column.
_LONG = 16


class Mark(enum.StrEnum):
    """
    How something is; each has a word and a shape, and its colour only says it once more.
    """

    OK = "ok"
    NOTE = "note"
    WARN = "warn"
    FAIL = "fail"

    @property
    def shape(self) -> str:
        """
        A sign that is told apart without colours.
        """
        return {Mark.OK: "✓", Mark.NOTE: "ℹ", Mark.WARN: "▲", Mark.FAIL: "✖"}[self]  # noqa: RUF001 - a sign


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """
    One value. `is_time`: RFC 3339, shown in UTC. `href` is one of our own pages.
    """

    text: str
    href: str | None = None
    mark: Mark | None = None
    is_time: bool = False
    is_code: bool = False
    is_number: bool = False

    @property
    def is_long(self) -> bool:
        """
        Whether a word of it is so long that it has to be broken somewhere.
        """
        return any(len(word) > _LONG for word in self.text.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """
    A sentence that stands out. `more` are lines below it.
    """

    mark: Mark
    text: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """
    A plain sentence, perhaps with a link behind it.
    """

    text: str
    link: Cell | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """
    The begin of a section.
    """

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    Names and values.
    """

    pairs: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """
    Rows under headings; the first cell of each names its row. `empty` is said where there is none.
    """

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    empty: str = "none"


class ShapeKind(enum.StrEnum):
    """
    What a plot is drawn with.
    """

    RECT = "rect"
    LINE = "line"
    DOT = "dot"
    TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """
    One thing drawn. `x` and `width` are percents of the plot's width, `y` and `height` pixels.
    """

    kind: ShapeKind
    x: float
    y: float
    look: str
    width: float = 0.0
    height: float = 0.0
    text: str = ""
    anchor: str = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """
    A drawing whose numbers a table beside it has as well.
    """

    name: str
    title: str
    description: str
    height: int
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """
    One choice of a form.
    """

    value: str
    text: str
    is_chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """
    One field of a form: to be chosen from, or to be typed where there are no options.
    """

    name: str
    label: str
    value: str = ""
    options: tuple[Option, ...] = ()


def choice(name: str, label: str, options: Iterable[tuple[str, str]], chosen: object) -> Field:
    """
    A field to be chosen from.

    Args:
        name: as it is sent.
        label: for a person.
        options: the value and the text of each.
        chosen: the value that is chosen now.

    """
    return Field(
        name=name,
        label=label,
        options=tuple(
            Option(value=value, text=text, is_chosen=value == str(chosen)) for value, text in options
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """
    A question that is asked by GET: it can be kept as a bookmark, and changes nothing.
    """

    action: str
    label: str
    button: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """
    Where in a long list this page is.
    """

    page: int
    pages: int
    before: str | None
    after: str | None


Block = Note | Text | Heading | Facts | Table | Plot | Form | Pages


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """
    One page. `at` is when what it shows was looked at.
    """

    title: str
    blocks: tuple[Block, ...]
    here: str
    at: str | None = None
    lead: Note | None = None
    status: int = field(default=200)


def at_cell(text: str | None) -> Cell:
    """
    A moment, or that there is none.
    """
    return Cell(text="-") if text is None else Cell(text=text, is_time=True)


def utc(text: str | None) -> str:
    """
    A moment within a sentence, to the minute; what is none stays as it is.
    """
    try:
        return f"{datetime.fromisoformat(text or '').astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError):
        return text or "-"


def number(value: object) -> Cell:
    """
    A count, or that there is none.
    """
    return Cell(text="-" if value is None else str(value), is_number=True)


def address(path: str, **query: object) -> str:
    """
    One of our own pages; what is empty is left out of the query.
    """
    asked = urlencode({name: str(value) for name, value in query.items() if value not in ("", None)})
    return f"{path}?{asked}" if asked else path


def partner_link(fingerprint: str | None) -> str | None:
    """
    The page of a partner.
    """
    return None if not fingerprint else f"/partners/{quote(fingerprint, safe='')}"


def verdict_link(verdict_id: str | None) -> str | None:
    """
    The page of a verdict.
    """
    return None if not verdict_id else f"/verdicts/{quote(verdict_id, safe='')}"


def answer_cell(text: str, href: str | None = None) -> Cell:
    """
    What was answered, with its sign.
    """
    mark = (
        Mark.FAIL
        if text.lower().startswith("refused")
        else Mark.OK
        if text.lower() == "accepted"
        else Mark.WARN
    )
    return Cell(text=text, mark=mark, href=href)
