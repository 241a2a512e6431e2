"""
Partners: the list, and all that is known of one.
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
    Mark,
    Note,
    Page,
    Pages,
    Table,
    Text,
    address,
    answer_cell,
    at_cell,
    choice,
    number,
    partner_link,
    utc,
    verdict_link,
)
from cftpki_ext.console.views.now import verdict_row

_FILTERS = (
    ("all", "all"),
    ("refused", "refused last"),
    ("accepted", "accepted last"),
    ("blocked", "blocked"),
    ("excepted", "excepted"),
    ("ending", "ending in 30 days"),
)
_REMARKS = ("blocked", "excepted", "ending")


def partners_page(data: Mapping[str, Any], asked: Mapping[str, Any]) -> Page:
    """
    The partners that were seen, the last seen first.

    Args:
        data: one page of them.
        asked: `q`, `show` and `page` as asked for.

    Returns:
        The page.

    """
    counts = data["counts"]
    form = Form(
        action="/partners",
        label="Search partners",
        button="Show",
        fields=(
            Field(name="q", label="Name, serial, fingerprint, rule or trust set", value=asked["q"]),
            choice(
                "show",
                "Which",
                ((name, f"{words} ({counts.get(name, 0)})") for name, words in _FILTERS),
                asked["show"],
            ),
        ),
    )
    reach = (
        "no records yet"
        if data["oldest"] is None
        else f"{data['looked']} records looked at, from {utc(data['oldest'])} on"
    )
    gone = f"; {data['let_go']} partners not seen for longest are left out" if data["let_go"] else ""
    return Page(
        title="Partners",
        here="/partners",
        at=data["at"],
        blocks=(
            form,
            Text(text=f"{data['chosen']} partners; {reach}{gone}."),
            Table(
                caption="Partners, the last seen first",
                headings=(
                    "partner",
                    "last verdict",
                    "seen",
                    "certificate ends",
                    "rule",
                    "verdicts",
                    "remarks",
                ),
                rows=tuple(map(_row, data["rows"])),
                empty="no partner fits",
            ),
            pages_of(data, "/partners", asked),
        ),
    )


def pages_of(data: Mapping[str, Any], path: str, asked: Mapping[str, Any]) -> Pages:
    """
    Where in a list a page is.
    """
    page, pages = data["page"], data["pages"]
    kept = {name: value for name, value in asked.items() if name != "page"}
    return Pages(
        page=page,
        pages=pages,
        before=address(path, **kept, page=min(page - 1, pages)) if page > 1 else None,
        after=address(path, **kept, page=page + 1) if page < pages else None,
    )


def _row(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    remarks = [word for word in _REMARKS if word in one["words"]]
    return (
        Cell(text=one["subject"] or "(empty subject)", href=partner_link(one["fingerprint"])),
        answer_cell(_answer(one)),
        at_cell(one["at"]),
        at_cell(one["ends"]),
        Cell(text=one["rule"] or "-"),
        number(one["verdicts"]),
        Cell(text=", ".join(remarks), mark=Mark.WARN) if remarks else Cell(text="-"),
    )


def _answer(one: Mapping[str, Any]) -> str:
    return "accepted" if one["status"] == "accepted" else f"refused {one['alert']} {one['reason']}"


def partner_page(data: Mapping[str, Any]) -> Page:
    """
    All that is known of one partner.
    """
    one = data["partner"]
    last = one["last"]
    blocks: list[Block] = [Note(mark=Mark.FAIL, text=text) for text in _blocked(one)]
    blocks += [
        Facts(pairs=tuple(_facts(one, last))),
        Table(
            caption="Exceptions",
            headings=("policy", "until", "in force", "reason", "causes"),
            rows=tuple(
                (
                    Cell(text=each["policy"]),
                    at_cell(each["until"]),
                    Cell(
                        text="yes" if each["in_force"] else "ended",
                        mark=Mark.WARN if each["in_force"] else Mark.NOTE,
                    ),
                    Cell(text=each["reason"]),
                    Cell(text=", ".join(each["causes"])),
                )
                for each in one["exceptions"]
            ),
        ),
        Table(
            caption="Newest verdicts",
            headings=("time", "answer", "partner", "rule", "from"),
            rows=tuple(verdict_row(each) for each in data["verdicts"]),
            empty="none among the newest records",
        ),
    ]
    return Page(
        title="Partner",
        here="/partners",
        lead=Note(
            mark=Mark.OK if last["status"] == "accepted" else Mark.FAIL,
            text=one["subject"] or "(empty subject)",
        ),
        at=data["at"],
        blocks=tuple(blocks),
    )


def _blocked(one: Mapping[str, Any]) -> Iterator[str]:
    for each in one["blocks"]:
        if each["in_force"]:
            yield f"blocked by {each['by']} since {utc(each['at'])}: {each['reason']}"


def _facts(one: Mapping[str, Any], last: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    yield "last verdict", answer_cell(_answer(last), verdict_link(last["verdict"]))
    yield "seen", at_cell(last["at"])
    yield "summary", Cell(text=last["summary"] or "-")
    yield "on whose word", Cell(text=last["source"] or "-")
    yield "last accepted", at_cell(one["accepted_at"])
    yield "last refused", at_cell(one["refused_at"])
    yield "certificate ends", at_cell(one["ends"])
    yield "serial number", Cell(text=one["serial"] or "-", is_code=True)
    yield "SHA-256", Cell(text=one["fingerprint"], is_code=True)
    yield "SHA-256 of the public key", Cell(text=one["spki"] or "-", is_code=True)
    yield "rule", Cell(text=one["rule"] or "-")
    yield "trust set", Cell(text=one["trust"] or "-")
    yield "verdicts looked at", number(one["verdicts"])
    if one["excepted"]["times"]:
        yield "let in by an exception", number(one["excepted"]["times"])
