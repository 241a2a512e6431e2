"""
A verdict for a person: the answer, the reason, and what each source said of each certificate.

Where the output is no terminal nobody's window limits it: lines and rows stay whole, and nothing has a colour. A terminal
is shown the same by `pretty`.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any

import click

from cftpki_ext.core.escape import printable
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import CertificateFinding, CertificateStatus, Verdict
from cftpki_ext.looking.explained import (
    FAULT_HEADINGS,
    detail_of,
    fault_cells,
    headline_of,
    source_cells,
    verdict_facts,
)

_STYLES = {
    CertificateStatus.GOOD: "green",
    CertificateStatus.REVOKED: "red",
    CertificateStatus.ON_HOLD: "red",
    CertificateStatus.UNDETERMINED: "yellow",
}
# Between two columns.
GAP = "  "
# A cell that begins with one of these words says how something is; every table shows it in one colour.
_COLOURS = {
    "green": ("accepted", "accepts", "active", "established", "good", "ok", "running", "well"),
    "yellow": (
        "due",
        "exception",
        "note",
        "pending",
        "stale",
        "undetermined",
        "unknown",
        "waiting",
        "warn",
        "warned",
    ),
    "red": (
        "alarm",
        "blocked",
        "broken",
        "dead",
        "down",
        "error",
        "expired",
        "fail",
        "failed",
        "on_hold",
        "refused",
        "revoked",
    ),
}
_COLOUR_OF = {word: colour for colour, words in _COLOURS.items() for word in words}
_FIRST_WORD = re.compile(r"[a-z_]+(?=[ ,:(]|$)")


class Text:
    """
    A line whose parts may have a style, e.g. `bold red`; printed as it is.
    """

    def __init__(self, text: str, *, style: str = "") -> None:
        self.parts: list[tuple[str, str]] = [(text, style)]

    def append(self, text: str, *, style: str = "") -> Text:
        """
        The same line, longer.
        """
        self.parts.append((text, style))
        return self

    def __str__(self) -> str:
        """
        The text alone.
        """
        return "".join(text for text, _ in self.parts)


@dataclass(frozen=True, slots=True)
class Table:
    """
    Headings, and rows of cells.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]


class Output:
    """
    Standard output as it is at each line.
    """

    def print(self, what: str | Text | Table = "", *, whole: bool = False) -> None:
        """
        Print a line or a table.

        Args:
            what: is shown as it is.
            whole: whether a long line is left to the terminal to break.

        """
        if sys.stdout.isatty():
            import_module("cftpki_ext.cli.pretty").show(what, whole=whole)
        elif isinstance(what, Table):
            for line in _lines(what):
                click.echo(line)
        else:
            click.echo(str(what))


def console() -> Output:
    """
    Standard output: colours on a terminal only (and never with NO_COLOR).
    """
    return Output()


def working(what: str) -> AbstractContextManager[Callable[[str], None]]:
    """
    Something that moves on standard error while long work goes on; nothing where that is no terminal.

    Args:
        what: a few words.

    Returns:
        A context for the time of the work, which can be told other words.

    """
    if not sys.stderr.isatty():
        return nullcontext(lambda _: None)
    moving: AbstractContextManager[Callable[[str], None]] = import_module("cftpki_ext.cli.pretty").moving(
        what
    )
    return moving


@contextmanager
def counting(what: str) -> Iterator[Callable[[int], None]]:
    """
    A count that grows on standard error while long work goes on; nothing where that is no terminal.

    Args:
        what: a few words.

    Yields:
        To be told how much has been done.

    """
    with working(what) as tell:

        def advance(done: int) -> None:
            if done % 100 == 0:
                tell(f"{what}: {done}")

        yield advance


def table(headings: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """
    A plain table whose cells are shown as they are, but for control characters.

    Args:
        headings: of the columns.
        rows: cells; a `Text` keeps its style, of others a word for how something is gets its colour.

    Returns:
        The table.

    """
    made = (tuple(cell if isinstance(cell, Text) else coloured(str(cell)) for cell in row) for row in rows)
    return Table(tuple(headings), tuple(made))


def coloured(text: str) -> Text:
    """
    A text that is shown as it is, but for control characters; in its colour where it begins with a word that has one.
    """
    found = _FIRST_WORD.match(text)
    return Text(printable(text), style=_COLOUR_OF.get(found[0], "") if found else "")


def _lines(table: Table) -> Iterator[str]:
    rows = [list(table.headings), *([str(cell) for cell in row] for row in table.rows)]
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield GAP.join(
            cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()


def columns(text: str) -> int:
    """
    How many columns of a terminal a text takes.
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def facts(data: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """
    Plain data for a person: one line for each fact, named by its path.

    Args:
        data: as it is told to scripts.
        within: the path of `data` itself.

    Yields:
        Path and value; several values of one kind stand in one line.

    """
    for key, value in data.items():
        name = f"{within}.{key}" if within else key
        if isinstance(value, Mapping) and any(isinstance(one, Mapping) for one in value.values()):
            yield from facts(value, name)
        else:
            yield name, _plain(value)


def _plain(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case Mapping():
            return ", ".join(f"{key} {_plain(one)}" for key, one in value.items()) or "-"
        case list() | tuple():
            return ", ".join(map(_plain, value)) or "-"
        case _:
            return str(value)


def show_verdict(verdict: Verdict, *, sources: bool = True) -> None:
    """
    Print a verdict to standard output.

    Args:
        verdict: the answer.
        sources: whether to show what each source said of each certificate.

    """
    out = console()
    out.print(_headline(verdict))
    evidence = verdict.evidence
    for name, value in verdict_facts(verdict):
        out.print(Text(f"{name:<9}").append(printable(value)), whole=True)
    if evidence.faults:
        out.print()
        out.print(table(FAULT_HEADINGS, map(fault_cells, evidence.faults)))
    known = () if evidence.directory is None else (evidence.directory,)
    if (evidence.findings or known) and sources:
        out.print()
        out.print(
            table(
                ("depth", "certificate", "status", "source", "from", "age", "next update", "detail"),
                (row for finding in (*evidence.findings, *known) for row in _rows(finding)),
            )
        )


def _headline(verdict: Verdict) -> Text:
    answer, alert = headline_of(verdict)
    if verdict.accepted:
        return Text(answer, style="bold green")
    return Text(answer, style="bold red").append(f"  {alert}", style="default")


def _rows(finding: CertificateFinding) -> Iterable[tuple[object, ...]]:
    status = Text(finding.status.value, style=_STYLES[finding.status])
    detail = detail_of(finding)
    yield finding.depth, finding.subject, status, "", "", "", "", detail
    for source in finding.sources:
        said = source_cells(source)
        yield "", "", Text(said[0], style=_STYLES[source.status]), *said[1:]
