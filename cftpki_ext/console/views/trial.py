"""
A policy tried on the last days: the question, and who would be refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cftpki_ext.console.blocks import (
    Block,
    Cell,
    Form,
    Mark,
    Note,
    Page,
    Table,
    Text,
    choice,
    number,
    partner_link,
    utc,
    verdict_link,
)

SPANS = ((24, "24 hours"), (24 * 7, "7 days"), (24 * 30, "30 days"))


def trial_page(choices: Mapping[str, Any], asked: Mapping[str, Any], data: Mapping[str, Any] | None) -> Page:
    """
    What another policy would have answered.

    Args:
        choices: the trust sets with their policies, and the policies there are.
        asked: `trust`, `policy` and `hours`; empty where nothing is asked yet.
        data: what came of it.

    Returns:
        The page.

    """
    trusts = choices["trusts"]
    form = Form(
        action="/trial",
        label="Try a policy",
        button="Decide again",
        fields=(
            choice(
                "trust",
                "Trust set",
                ((name, f"{name} (now {policy})") for name, policy in trusts.items()),
                asked["trust"],
            ),
            choice("policy", "under policy", ((name, name) for name in choices["policies"]), asked["policy"]),
            choice(
                "hours",
                "verdicts of the last",
                ((str(hours), words) for hours, words in SPANS),
                asked["hours"],
            ),
        ),
    )
    blocks: list[Block] = [form]
    lead = None
    if not trusts:
        lead = Note(mark=Mark.NOTE, text="There is no trust set to try a policy for")
    if data is None:
        blocks.append(
            Text(
                text="Stored verdicts are decided again, offline, from what was heard then: nobody is asked, and nothing changes. "
                "For a whole configuration: cftpki replay --config."
            )
        )
    else:
        lead = _lead(data)
        blocks += _found(data)
    return Page(
        title="Try a policy",
        here="/trial",
        lead=lead,
        at=choices["at"] if data is None else data["at"],
        blocks=tuple(blocks),
    )


def _lead(data: Mapping[str, Any]) -> Note:
    refused, let_in = data["refused"]["count"], data["let_in"]["count"]
    words = f"{_partners(refused)} would be refused, {_partners(let_in)} let in"
    more = []
    if not data["whole"]:
        more.append(f"there was no time for all of them: decided up to {utc(data['reach'])}")
    if data["unreadable"]:
        more.append(f"{data['unreadable']} records cannot be decided again: cftpki audit verify")
    return Note(
        mark=Mark.FAIL if refused else Mark.WARN if let_in or more else Mark.OK, text=words, more=tuple(more)
    )


def _partners(count: int) -> str:
    return "1 partner" if count == 1 else f"{count} partners"


def _found(data: Mapping[str, Any]) -> list[Block]:
    return [
        Text(
            text=f"{data['replayed']} verdicts since {utc(data['since'])} decided again"
            + (f"; {data['skipped']} without a rule left out" if data["skipped"] else "")
            + "."
        ),
        _whose("Would be refused", data["refused"]),
        _whose("Would be let in", data["let_in"]),
        Table(
            caption="What changes",
            headings=("recorded", "now", "verdicts", "partners", "for instance"),
            rows=tuple(
                (
                    Cell(text=one["recorded"]),
                    Cell(text=one["now"]),
                    number(one["times"]),
                    number(one["partners"]),
                    Cell(text=one["example"], href=verdict_link(one["example"]), is_code=True),
                )
                for one in data["changes"]
            ),
            empty="nothing",
        ),
    ]


def _whose(caption: str, whose: Mapping[str, Any]) -> Table:
    rows: Sequence[Mapping[str, Any]] = whose["rows"]
    left = whose["count"] - len(rows)
    return Table(
        caption=f"{caption} ({whose['count']})" + (f", the first {len(rows)}" if left else ""),
        headings=("partner", "why", "verdicts", "last"),
        rows=tuple(
            (
                Cell(text=one["partner"], href=partner_link(one["fingerprint"])),
                Cell(text=one["why"]),
                number(one["times"]),
                Cell(text=one["last_at"], is_time=True, href=verdict_link(one["last_id"])),
            )
            for one in rows
        ),
        empty="nobody",
    )
