"""
Verdicts and groups of them as lines for a person: 80 columns, ids whole, nothing cut off.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

from cftpki_ext.cli.render import GAP, Text, columns
from cftpki_ext.core.escape import printable
from cftpki_ext.evidence import Row
from cftpki_ext.evidence.grouping import Group, answer_of, shares

# Lines of a terminal, and of a mail; an id and a subject of usual length fit side by side.
_COLUMNS = 80


def line_width() -> int:
    """
    How long a line is at most: 80 columns, less in a narrower window.
    """
    return (
        min(_COLUMNS, shutil.get_terminal_size((_COLUMNS, 24)).columns) if sys.stdout.isatty() else _COLUMNS
    )


def row_lines(row: Row, width: int) -> Iterator[Text]:
    """
    A verdict in lines that fit the width: the id whole on one of them, a subject broken between its parts only.
    """
    asked = f"from {row.remote}" if row.remote else f"by {row.door}"
    yield from _flow(
        [_seconds(row.at), answer_of(row), asked, *([f"rule {row.rule}"] if row.rule else [])],
        width,
        indent=4,
        coloured=1,
    )
    yield from _flow([f"    {row.id}", *_parts(row.partner)], width, indent=4)


def group_lines(group: Group, width: int) -> Iterator[Text]:
    """
    A group in lines that fit the width: its name, how many were what between when and when, and the last answer.
    """
    counts = {
        "accepted": group.accepted,
        "refused": group.refused,
        "warned": group.warned,
        "by exception": group.excepted,
    }
    yield from _flow(list(_parts(group.name)), width, indent=2)
    yield from _flow(
        [
            f"    {shares({name: count for name, count in counts.items() if count})}",
            f"{_seconds(group.first)} to {_seconds(group.last)}",
        ],
        width,
        indent=4,
    )
    yield from _flow([f"    last {group.last_id}", group.last_answer], width, indent=4, coloured=1)


def _seconds(at: str) -> str:
    return f"{at[:19]}Z" if at.endswith("Z") else at


def _parts(subject: str) -> Iterator[str]:
    """
    The parts of a subject, each with its comma: whoever puts the lines together again has the subject.
    """
    begun = 0
    for place, character in enumerate(subject):
        if character == "," and subject[place - 1 : place] != "\\":
            yield subject[begun : place + 1]
            begun = place + 1
    yield subject[begun:]


def _flow(parts: list[str], width: int, *, indent: int, coloured: int | None = None) -> Iterator[Text]:
    """
    Parts side by side, a new line before one that would pass the width. A part that ends in a comma has no gap behind it.
    """
    line, used = Text(""), 0
    for number, part in enumerate(map(printable, parts)):
        gap = "" if number == 0 or parts[number - 1].endswith(",") else GAP
        if used and used + len(gap) + columns(part) > width:
            yield line
            line, used, gap = Text(" " * indent), indent, ""
        line.append(gap).append(part, style=_style(part) if number == coloured else "")
        used += len(gap) + columns(part)
    yield line


def _style(answer: str) -> str:
    if answer.startswith("refused"):
        return "red"
    return "green" if answer == "accepted" else "yellow"
