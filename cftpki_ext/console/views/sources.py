"""
Sources of statuses: whether each answers, how long it takes, and until when what it said holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median
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
    Text,
    at_cell,
    number,
)
from cftpki_ext.console.plots import Bar, Lane, latency, time_line
from cftpki_ext.core.values import dataclass
from cftpki_ext.service.monitoring.labels import label

# As `service.monitoring.sources` cuts locations.
_CHARACTERS = 200
_NAME = 64
_WITHIN = (timedelta(days=7), timedelta(days=35))
_LATE = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    trust: str
    kind: str
    location: str
    told: Mapping[str, Any] | None
    points: tuple[tuple[datetime, int, str | None], ...]
    updates: tuple[datetime, datetime] | None

    @property
    def name(self) -> str:
        return f"{self.kind} {label(self.location, _NAME)}"

    @property
    def ms(self) -> list[int]:
        return [ms for _, ms, cause in self.points if cause is None]


def sources_page(data: Mapping[str, Any], status: Mapping[str, Any] | None, *, now: datetime) -> Page:
    """
    Every location that was asked.

    Args:
        data: the series of the evidence.
        status: the service's own word, `None` where it does not answer.
        now: the time.

    Returns:
        The page.

    """
    found = list(_joined(data["series"], status))
    down = [one for one in found if one.told is not None and one.told["up"] is False]
    lead = Note(
        mark=Mark.WARN if down else Mark.OK if status is not None else Mark.NOTE,
        text=_words(len(down), len(found), is_told=status is not None),
        more=tuple(f"{one.name}: {one.told['cause']}: {one.told['detail']}" for one in down[:5] if one.told),
    )
    blocks: list[Block] = [
        Table(
            caption="Sources",
            headings=(
                *("source", "trust set", "state", "since", "last answer", "next update"),
                *("answers", "failures", "median", "slowest"),
            ),
            rows=tuple(_row(one, now) for one in found),
            empty="nobody was asked yet",
        )
    ]
    updated = [one for one in found if one.updates is not None]
    if updated:
        blocks += [Heading(text="Until when what they said holds"), _updates(updated, now)]
    timed = [one for one in found if one.points]
    if timed:
        blocks.append(Heading(text="How long they took"))
        blocks.append(
            Text(
                text=f"From the newest {data['records']} records: a dot for each answer, a cross where there was none, "
                "up to 120 of each source."
            )
        )
        blocks += [_latency(number_, one) for number_, one in enumerate(timed)]
    return Page(title="Sources", here="/sources", lead=lead, at=data["at"], blocks=tuple(blocks))


def _words(down: int, known: int, *, is_told: bool) -> str:
    if not is_told:
        return "The service does not answer: what the evidence says of sources stands here"
    if not known:
        return "No source was asked yet"
    return f"{down} of {known} sources do not answer" if down else f"{known} sources, none is down"


def _joined(series: Sequence[Mapping[str, Any]], status: Mapping[str, Any] | None) -> Iterator[_Source]:
    sources = (status or {}).get("sources")
    told = {
        (one["trust"], one["kind"], one["location"]): one
        for one in (sources.get("locations", ()) if isinstance(sources, Mapping) else ())
    }
    for one in series:
        key = (one["trust"], one["kind"], label(one["location"], _CHARACTERS))
        updates = one["updates"]
        yield _Source(
            trust=one["trust"],
            kind=one["kind"],
            location=one["location"],
            told=told.pop(key, None),
            points=tuple((datetime.fromisoformat(at), ms, cause) for at, ms, cause in one["points"]),
            updates=None if updates is None else (_moment(updates[0]), _moment(updates[1])),
        )
    for (trust, kind, location), one in told.items():
        yield _Source(trust=trust, kind=kind, location=location, told=one, points=(), updates=None)


def _row(one: _Source, now: datetime) -> tuple[Cell, ...]:
    told = one.told or {}
    ends = one.updates[1].isoformat() if one.updates else told.get("next_update")
    ms = one.ms
    late = ends is not None and _moment(ends) - now < _LATE
    return (
        Cell(text=f"{one.kind} {one.location}"),
        Cell(text=one.trust),
        _state(one),
        at_cell(told.get("since")),
        at_cell(told.get("answered") or (one.points[-1][0].isoformat(timespec="seconds") if ms else None)),
        Cell(text=ends, is_time=True, mark=Mark.WARN if late else None) if ends else Cell(text="-"),
        number(told.get("answers", len(ms))),
        number(told.get("failures", len(one.points) - len(ms))),
        Cell(text=f"{median(ms):.0f} ms" if ms else "-", is_number=True),
        Cell(text=f"{max(ms)} ms" if ms else "-", is_number=True),
    )


def _state(one: _Source) -> Cell:
    if one.told is not None and one.told["up"] is not None:
        return Cell(text="answers", mark=Mark.OK) if one.told["up"] else Cell(text="down", mark=Mark.FAIL)
    if not one.points:
        return Cell(text="not known", mark=Mark.NOTE)
    cause = one.points[-1][2]
    if cause is None:
        return Cell(text="answered last", mark=Mark.NOTE)
    return Cell(text=f"failed last: {cause}", mark=Mark.WARN)


def _updates(found: Sequence[_Source], now: datetime) -> Plot:
    lanes = [
        Lane(
            name=one.name,
            bars=(
                Bar(
                    begins=one.updates[0],
                    ends=one.updates[1],
                    look="late" if one.updates[1] <= now else "now",
                ),
            ),
        )
        for one in found
        if one.updates is not None
    ]
    late = sum(one.updates is not None and one.updates[1] <= now for one in found)
    return time_line(
        lanes,
        now=now,
        name="updates",
        title="This update to next update, by source",
        description=f"{len(lanes)} sources, of which {late} are past their next update; the table of sources has the times.",
        within=_WITHIN,
    )


def _latency(place: int, one: _Source) -> Plot:
    ms = one.ms
    said = f"median {median(ms):.0f} ms, slowest {max(ms)} ms" if ms else "no answer"
    return latency(
        [(at, each, cause is None) for at, each, cause in one.points],
        name=f"latency-{place}",
        title=f"{one.kind} {one.location}",
        description=f"{len(ms)} answers and {len(one.points) - len(ms)} failures; {said}.",
    )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
