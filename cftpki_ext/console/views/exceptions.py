"""
What is let in, or kept out, for a while: exceptions of partners, rows of policies with an end, blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cftpki_ext.console.blocks import Cell, Mark, Note, Page, Table, at_cell, number, partner_link


def exceptions_page(data: Mapping[str, Any]) -> Page:
    """
    Every exception, with its end.
    """
    holding = [one for one in data["exceptions"] if one["in_force"]]
    ended = len(data["exceptions"]) - len(holding)
    more = [
        f"trust set {name} has a policy that only audits: it lets everybody in" for name in data["audits"]
    ]
    if not data["config_ok"]:
        more.append("the configuration cannot be read: exceptions and rows of its policies are not known")
    mark = Mark.WARN if more else Mark.NOTE if holding or ended else Mark.OK
    return Page(
        title="Exceptions",
        here="/exceptions",
        at=data["at"],
        lead=Note(mark=mark, text=f"{len(holding)} exceptions hold, {ended} have ended", more=tuple(more)),
        blocks=(
            Table(
                caption="Exceptions of partners, those that end first",
                headings=("partner", "policy", "until", "in force", "used", "reason", "causes"),
                rows=tuple(map(_exception, sorted(data["exceptions"], key=lambda one: one["until"]))),
            ),
            Table(
                caption="Rows of policies with an end",
                headings=("policy", "cause", "action", "until", "in force"),
                rows=tuple(
                    (
                        Cell(text=one["policy"]),
                        Cell(text=one["cause"]),
                        Cell(text=one["action"]),
                        at_cell(one["until"]),
                        _force(one["in_force"]),
                    )
                    for one in data["rows"]
                ),
            ),
            Table(
                caption="Blocked partners",
                headings=("who", "since", "until", "in force", "by", "reason"),
                rows=tuple(
                    (
                        Cell(text=one["what"], is_code=True),
                        at_cell(one["at"]),
                        at_cell(one["until"]) if one["until"] else Cell(text="lifted"),
                        _force(one["in_force"]),
                        Cell(text=one["by"]),
                        Cell(text=one["reason"]),
                    )
                    for one in data["blocks"]
                ),
            ),
        ),
    )


def _exception(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (
        Cell(
            text=one["subject"] or one["fingerprint"],
            href=partner_link(one["fingerprint"]) if one["subject"] else None,
        ),
        Cell(text=one["policy"]),
        at_cell(one["until"]),
        _force(one["in_force"]),
        number(one["times"]),
        Cell(text=one["reason"]),
        Cell(text=", ".join(one["causes"])),
    )


def _force(holds: bool) -> Cell:  # noqa: FBT001 - a value of a row
    return Cell(text="yes", mark=Mark.WARN) if holds else Cell(text="ended", mark=Mark.NOTE)
