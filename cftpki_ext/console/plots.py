"""
Plots as values: times become percents, milliseconds pixels. Pure.

Widths are percents, so that a plot is as wide as a telephone or a desk allows, and its words stay readable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cftpki_ext.console.blocks import Plot, Shape, ShapeKind
from cftpki_ext.core.values import dataclass

_TOP, _BAR, _FOOT = 6, 10, 22
# Of milliseconds, by powers of ten: 1 ms below, 10 s above.
_LEAST_MS, _MOST_MS, _LATENCY = 1.0, 10_000.0, 88
_MINUTES, _DAYS = timedelta(minutes=20), timedelta(days=4)
_GRID_MS = ((10, "10 ms"), (100, "100 ms"), (1000, "1 s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """
    From when to when something holds. `look` is one of `now`, `past`, `late`.
    """

    begins: datetime
    ends: datetime
    look: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """
    What belongs to one name: its bars, one below the other, and moments that are marked.
    """

    name: str
    bars: tuple[Bar, ...]
    marks: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class _Axis:
    """
    A time from left to right.
    """

    begins: datetime
    ends: datetime

    def place(self, at: datetime) -> float:
        whole = (self.ends - self.begins).total_seconds()
        part = (at - self.begins).total_seconds() / whole if whole > 0 else 0.5
        return round(min(1.0, max(0.0, part)) * 100, 2)


def time_line(
    lanes: Sequence[Lane],
    *,
    now: datetime,
    name: str,
    title: str,
    description: str,
    within: tuple[timedelta, timedelta],
) -> Plot:
    """
    Lanes of bars over one axis of time, with a line where now is.

    Args:
        lanes: what is drawn.
        now: the time.
        name: of the plot, unique on its page.
        title: for who cannot see it.
        description: likewise.
        within: how far back, and how far ahead, is shown at most.

    Returns:
        The plot.

    """
    moments = [now, *(at for lane in lanes for bar in lane.bars for at in (bar.begins, bar.ends))]
    axis = _Axis(max(min(moments), now - within[0]), min(max(moments), now + within[1]))
    here = axis.place(now)
    shapes: list[Shape] = []
    y = float(_TOP)
    for lane in lanes:
        shapes.append(Shape(kind=ShapeKind.TEXT, x=0, y=y + 12, look="name", text=lane.name))
        y += 18
        top = y
        for bar in lane.bars:
            left, right = axis.place(bar.begins), axis.place(bar.ends)
            shapes.append(
                Shape(
                    kind=ShapeKind.RECT, x=left, y=y, width=max(right - left, 0.4), height=_BAR, look=bar.look
                )
            )
            y += _BAR + 3
        shapes += [
            Shape(kind=ShapeKind.TEXT, x=axis.place(at), y=y - 4, look="mark", text="◆", anchor="middle")
            for at in lane.marks
        ]
        shapes.append(Shape(kind=ShapeKind.LINE, x=here, y=top - 2, height=y - top + 1, look="here"))
        y += 8
    foot = y + 14
    begins, ends = _named(axis)
    shapes += [
        Shape(kind=ShapeKind.TEXT, x=0, y=foot, look="tick", text=begins),
        Shape(kind=ShapeKind.TEXT, x=100, y=foot, look="tick", text=ends, anchor="end"),
    ]
    if 16 < here < 84:
        shapes.append(
            Shape(kind=ShapeKind.TEXT, x=here, y=foot, look="tick now-word", text="now", anchor="middle")
        )
    return Plot(name=name, title=title, description=description, height=int(foot + 8), shapes=tuple(shapes))


def latency(points: Sequence[tuple[datetime, int, bool]], *, name: str, title: str, description: str) -> Plot:
    """
    How long answers took, over time: a dot for each, a cross where there was none. Milliseconds by powers of ten.

    Args:
        points: when, how many milliseconds, and whether there was an answer.
        name: of the plot, unique on its page.
        title: for who cannot see it.
        description: likewise.

    Returns:
        The plot.

    """
    axis = _Axis(min(at for at, _, _ in points), max(at for at, _, _ in points))
    begins, ends = _named(axis)
    shapes: list[Shape] = []
    for ms, words in _GRID_MS:
        y = _height(ms)
        shapes.append(Shape(kind=ShapeKind.LINE, x=0, y=y, width=100, look="grid"))
        shapes.append(Shape(kind=ShapeKind.TEXT, x=0, y=y - 3, look="tick", text=words))
    for at, ms, answered in points:
        # Room for the words on the left.
        x = round(14 + axis.place(at) * 0.84, 2)
        if answered:
            shapes.append(Shape(kind=ShapeKind.DOT, x=x, y=_height(ms), look="good"))
        else:
            shapes.append(
                Shape(kind=ShapeKind.TEXT, x=x, y=_height(ms) + 4, look="bad", text="✕", anchor="middle")
            )
    foot = _TOP + _LATENCY + _FOOT - 6
    shapes += [
        Shape(kind=ShapeKind.TEXT, x=14, y=foot, look="tick", text=begins),
        Shape(kind=ShapeKind.TEXT, x=100, y=foot, look="tick", text=ends, anchor="end"),
    ]
    return Plot(
        name=name, title=title, description=description, height=_TOP + _LATENCY + _FOOT, shapes=tuple(shapes)
    )


def _named(axis: _Axis) -> tuple[str, str]:
    """
    Both ends in words, as exactly as they are apart.
    """
    span = axis.ends - axis.begins
    form = "%H:%M:%S" if span < _MINUTES else "%m-%d %H:%M" if span < _DAYS else "%Y-%m-%d"
    return axis.begins.astimezone(UTC).strftime(form), axis.ends.astimezone(UTC).strftime(form)


def _height(ms: float) -> float:
    part = math.log(min(max(ms, _LEAST_MS), _MOST_MS) / _LEAST_MS) / math.log(_MOST_MS / _LEAST_MS)
    return round(_TOP + _LATENCY * (1 - part), 1)
