"""
Verdicts: the list, and one as `cftpki explain` shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cftpki_ext.console.blocks import (
    Block,
    Cell,
    Facts,
    Field,
    Form,
    Heading,
    Mark,
    Note,
    Page,
    Table,
    Text,
    choice,
    partner_link,
    utc,
)
from cftpki_ext.console.views.now import verdict_row
from cftpki_ext.console.views.partners import pages_of
from cftpki_ext.looking.explained import FAULT_HEADINGS, SOURCE_HEADINGS

_ANSWERS = (
    ("all", "all"),
    ("refused", "refused, or would be"),
    ("warned", "accepted with a warning"),
    ("exception", "let in by an exception"),
)
_GOOD = {"good": Mark.OK, "revoked": Mark.FAIL, "on_hold": Mark.FAIL, "undetermined": Mark.WARN}
_CODES = frozenset({"verdict", "record"})
_NEXT_UPDATE = SOURCE_HEADINGS.index("next update")


def verdicts_page(data: Mapping[str, Any], asked: Mapping[str, Any]) -> Page:
    """
    The newest verdicts, the newest first.

    Args:
        data: one page of them.
        asked: `q`, `answer` and `page` as asked for.

    Returns:
        The page.

    """
    form = Form(
        action="/verdicts",
        label="Search verdicts",
        button="Show",
        fields=(
            Field(name="q", label="Partner: name, fingerprint, serial or address", value=asked["q"]),
            choice("answer", "Answer", _ANSWERS, asked["answer"]),
        ),
    )
    reach = (
        "no records yet"
        if data["oldest"] is None
        else f"{data['looked']} records looked at, from {utc(data['oldest'])} on"
    )
    return Page(
        title="Verdicts",
        here="/verdicts",
        at=data["at"],
        blocks=(
            form,
            Text(text=f"{data['chosen']} verdicts; {reach}."),
            Table(
                caption="Verdicts, the newest first",
                headings=("time", "answer", "partner", "rule", "from"),
                rows=tuple(map(verdict_row, data["rows"])),
                empty="no verdict fits",
            ),
            pages_of(data, "/verdicts", asked),
        ),
    )


def verdict_page(data: Mapping[str, Any]) -> Page:
    """
    What was asked, heard and decided.
    """
    reserved = bool(data["faults"]) or any(name == "warning" for name, _ in data["facts"])
    mark = Mark.FAIL if data["answer"] != "ACCEPTED" else Mark.WARN if reserved else Mark.OK
    blocks: list[Block] = [Facts(pairs=tuple(_facts(data)))]
    if data["faults"]:
        blocks.append(
            Table(
                caption="Faults",
                headings=FAULT_HEADINGS,
                rows=tuple(tuple(Cell(text=text) for text in row) for row in data["faults"]),
            )
        )
    for depth, one in enumerate(data["certificates"]):
        blocks.append(Heading(text=f"Depth {depth}: {one['subject'] or '(empty subject)'}"))
        blocks += [Text(text=line) for line in one["lines"]]
        for each in one["statuses"]:
            blocks.append(
                Note(
                    mark=_GOOD[each["status"]], text=": ".join(filter(None, (each["status"], each["detail"])))
                )
            )
            blocks.append(
                Table(
                    caption=f"What sources said of depth {depth}",
                    headings=SOURCE_HEADINGS,
                    rows=tuple(tuple(_source(row)) for row in each["sources"]),
                    empty="nobody was heard",
                )
            )
    return Page(
        title="Verdict",
        here="/verdicts",
        lead=Note(
            mark=mark,
            text=" ".join(filter(None, (data["answer"], data["alert"]))),
        ),
        at=data["at"],
        blocks=tuple(blocks),
    )


def _facts(data: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    for name, value in data["facts"]:
        yield name, Cell(text=value, is_code=name in _CODES, is_time=name == "decided")
    if data["fingerprint"]:
        yield "partner", Cell(text="all that is known of it", href=partner_link(data["fingerprint"]))


def _source(row: list[str]) -> Iterator[Cell]:
    for place, text in enumerate(row):
        yield Cell(
            text=text or "-",
            mark=_GOOD.get(text) if place == 0 else None,
            is_time=place == _NEXT_UPDATE and bool(text),
        )
