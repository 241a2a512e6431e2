"""
Certificates of our own: how each stands, its generations, and until when it can live without a CA.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from cftpki_ext.console.blocks import (
    Block,
    Cell,
    Heading,
    Mark,
    Note,
    Page,
    Plot,
    Table,
    at_cell,
    number,
    utc,
)
from cftpki_ext.console.plots import Bar, Lane, time_line
from cftpki_ext.service.monitoring.identities import heard

_NAME = 48
_WITHIN = (timedelta(days=400), timedelta(days=800))


def identities_page(data: Mapping[str, Any], status: Mapping[str, Any] | None, *, now: datetime) -> Page:
    """
    Every identity of the configuration.

    Args:
        data: as the disk has them.
        status: the service's own word, `None` where it does not answer.
        now: the time.

    Returns:
        The page.

    """
    found = [heard(dict(one), status) for one in data["identities"]]
    alarms = [one for one in found if one["alarm"] is not None]
    troubled = [one for one in found if one["trouble"]]
    mark = Mark.FAIL if alarms else Mark.WARN if troubled else Mark.OK
    words = (
        f"{len(alarms)} of {len(found)} identities are in alarm"
        if alarms
        else f"{len(troubled)} of {len(found)} identities are troubled"
        if troubled
        else f"{len(found)} {'identity' if len(found) == 1 else 'identities'}, all well"
        if found
        else "The configuration has no identity of its own"
    )
    blocks: list[Block] = [
        Table(
            caption="Identities",
            headings=(
                "identity",
                "state",
                "generation",
                "certificate ends",
                "runway",
                "next",
                "why",
                "trouble",
            ),
            rows=tuple(map(_row, found)),
        )
    ]
    drawn = [one for one in found if one["generations"] or one["certificate"]]
    if drawn:
        blocks += [Heading(text="Generations and runway"), _plot(drawn, now)]
    for one in found:
        if one["generations"] or one["damaged"]:
            blocks.append(Heading(text=f"Generations of {one['name']}"))
            blocks += [Note(mark=Mark.WARN, text=f"damaged: {text}") for text in one["damaged"]]
            blocks.append(
                Table(
                    caption=f"Generations of {one['name']}, the newest first",
                    headings=(
                        "number",
                        "in force",
                        "valid from",
                        "until",
                        "written",
                        "enroller",
                        "serial",
                        "subject",
                    ),
                    rows=tuple(map(_generation, reversed(one["generations"]))),
                )
            )
    return Page(
        title="Identities",
        here="/identities",
        at=data["at"],
        lead=Note(
            mark=mark, text=words, more=tuple(f"{one['name']}: {one['trouble']}" for one in troubled[:5])
        ),
        blocks=tuple(blocks),
    )


def _row(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    generation, following, certificate = one["generation"], one["next"] or {}, one["certificate"]
    mark = Mark.FAIL if one["alarm"] else Mark.WARN if one["trouble"] else Mark.OK
    return (
        Cell(text=one["name"]),
        Cell(text=", ".join(str(word).replace("_", " ") for word in one["states"]), mark=mark),
        number(None if generation is None else generation["number"]),
        at_cell(None if certificate is None else certificate["not_after"]),
        at_cell(one["runway"]),
        at_cell(following.get("at")),
        Cell(text=str(following.get("why") or "-").replace("_", " ")),
        Cell(text=one["trouble"] or "-"),
    )


def _generation(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (
        number(one["number"]),
        Cell(text="yes", mark=Mark.OK) if one["in_force"] else Cell(text="-"),
        at_cell(one["not_before"]),
        at_cell(one["ends"]),
        at_cell(one["written_at"]),
        Cell(text=one["enroller"]),
        Cell(text=one["serial"], is_code=True),
        Cell(text=one["subject"]),
    )


def _plot(found: list[dict[str, Any]], now: datetime) -> Plot:
    lanes = []
    for one in found:
        following = (one["next"] or {}).get("at")
        lanes.append(
            Lane(
                name=one["name"][:_NAME],
                bars=tuple(_bars(one, now)),
                marks=() if following is None else (datetime.fromisoformat(following),),
            )
        )
    ends = ", ".join(f"{one['name']} until {utc(one['runway'])}" for one in found if one["runway"])
    return time_line(
        lanes,
        now=now,
        name="runway",
        title="Generations of each identity over time",
        description=f"A bar from the begin to the end of each generation, the one in force drawn full; a lozenge where the next "
        f"renewal is due. Runway: {ends or 'not known'}. The tables have the times.",
        within=_WITHIN,
    )


def _bars(one: Mapping[str, Any], now: datetime) -> Iterator[Bar]:
    if not one["generations"]:
        certificate = one["certificate"]
        yield _bar(certificate["not_before"], certificate["not_after"], is_current=True, now=now)
        return
    for each in one["generations"]:
        yield _bar(each["not_before"], each["ends"], is_current=each["in_force"], now=now)


def _bar(begins: str, ends: str, *, is_current: bool, now: datetime) -> Bar:
    end = datetime.fromisoformat(ends)
    look = "late" if is_current and end <= now else "now" if is_current else "past"
    return Bar(begins=datetime.fromisoformat(begins), ends=end, look=look)
