"""
What `render` shows, on a terminal: colours, columns that fit the window, and something that moves while long work goes on.

The only importer of rich, and imported only where somebody looks (docs/adr/0030-start-up.md).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text as RichText

from cftpki_ext.cli.render import GAP, Table, Text, columns
from cftpki_ext.cli.streams import can_show

# A column that must be narrower than this is no column any more, but a heap of letters.
_FOLDED_COLUMNS = 16
_SPINNER = "dots"
_PLAIN_SPINNER = "line"


def show(what: str | Text | Table, *, whole: bool) -> None:
    """
    Print to standard output, a terminal; without colours where NO_COLOR says so.

    Args:
        what: a line, or a table.
        whole: whether a long line is left to the terminal to break.

    """
    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=False)
    if not isinstance(what, Table):
        console.print(_text(what), soft_wrap=whole)
    elif _least_columns(what) <= console.width:
        console.print(_table(what))
    else:
        # Whole lines, that the terminal breaks: they can still be copied.
        for line in _rows_as_lines(what):
            console.print(line, soft_wrap=True)


@contextmanager
def moving(what: str) -> Iterator[Callable[[str], None]]:
    """
    Something that moves on standard error.

    Args:
        what: a few words.

    Yields:
        To be told other words.

    """
    spinner = _SPINNER if can_show(sys.stderr, "⠋") else _PLAIN_SPINNER
    with Console(file=sys.stderr).status(RichText(what), spinner=spinner) as status:
        yield lambda words: status.update(RichText(words))


def _text(what: str | Text) -> RichText:
    made = RichText()
    for text, style in what.parts if isinstance(what, Text) else ((what, ""),):
        made.append(text, style=style or None)
    return made


def _table(what: Table) -> RichTable:
    made = RichTable(box=None, pad_edge=False, header_style="bold")
    for heading in what.headings:
        made.add_column(heading, overflow="fold")
    for row in what.rows:
        made.add_row(*map(_text, row))
    return made


def _least_columns(what: Table) -> int:
    """
    How wide a window has to be for a table whose columns are folded no further than they may.
    """
    rows = [what.headings, *([str(cell) for cell in row] for row in what.rows)]
    widths = [min(max(map(columns, column)), _FOLDED_COLUMNS) for column in zip(*rows, strict=True)]
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _rows_as_lines(what: Table) -> Iterator[RichText]:
    """
    A table for a narrow window: a line for each cell that says anything, behind its heading.
    """
    width = max(map(columns, what.headings))
    for number, row in enumerate(what.rows):
        if number:
            yield RichText()
        for heading, cell in zip(what.headings, row, strict=True):
            if str(cell):
                line = RichText()
                if width:
                    line.append(heading, style="bold").append(" " * (width - columns(heading)) + GAP)
                yield line.append_text(_text(cell))
