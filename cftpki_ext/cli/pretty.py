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

from cftpki_ext.cli.render import Table, Text


def show(what: str | Text | Table, *, whole: bool) -> None:
    """
    Print to standard output, a terminal; without colours where NO_COLOR says so.

    Args:
        what: a line, or a table.
        whole: whether a long line is left to the terminal to break.

    """
    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=False)
    console.print(_table(what) if isinstance(what, Table) else _text(what), soft_wrap=whole)


@contextmanager
def moving(what: str) -> Iterator[Callable[[str], None]]:
    """
    Something that moves on standard error.

    Args:
        what: a few words.

    Yields:
        To be told other words.

    """
    with Console(file=sys.stderr).status(RichText(what)) as status:
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
