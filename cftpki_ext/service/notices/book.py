"""
What one receiver was told, and what is due to it now. Pure: the time is an argument, and nothing is sent here.

There is no queue: what is due follows from what holds and what was told, so that a receiver that is down for a week is told
once how things stand, and all that is kept is bounded by what can hold at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.notify import Condition, Notice, NoticeKind, NoticeState, NotifySettings
from cftpki_ext.core.values import dataclass

# Of one message; and of what is remembered for one receiver.
MOST_NOTICES = 50
MOST_REMEMBERED = 500
# Whatever comes and goes: more messages an hour teach people to look away.
MOST_AN_HOUR = 12
# A receiver that does not take a message is tried again: soon, and then ever more rarely.
FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=30), timedelta(minutes=15)
_HOUR = timedelta(hours=1)
_CHARACTERS = 500

Key = tuple[NoticeKind, str]


@dataclass(slots=True)
class _Entry:
    condition: Condition
    begun: datetime  # when it was first seen
    told: datetime | None = None
    gone: datetime | None = None  # since when it does not hold any more


class Book:
    """
    One receiver's book.

    Args:
        kinds: what it is told of.

    """

    def __init__(self, kinds: frozenset[NoticeKind]) -> None:
        self._kinds = kinds
        self._entries: dict[Key, _Entry] = {}
        self._sent: deque[datetime] = deque(maxlen=MOST_AN_HOUR)
        self._retry = FIRST_RETRY
        self._not_before: datetime | None = None

    def look(self, holding: Iterable[Condition], now: datetime) -> None:
        """
        Take note of what holds.

        Args:
            holding: everything that is wrong now.
            now: the time.

        """
        seen: set[Key] = set()
        for condition in holding:
            key = (condition.kind, condition.about)
            if condition.kind not in self._kinds or key in seen:
                continue
            seen.add(key)
            entry = self._entries.get(key)
            if entry is None:
                if len(self._entries) < MOST_REMEMBERED:
                    self._entries[key] = _Entry(condition, now)
                continue
            entry.condition, entry.gone = condition, None
        for key, entry in list(self._entries.items()):
            if key in seen:
                continue
            if entry.told is None:
                del self._entries[key]  # over before anybody was told
            elif entry.gone is None:
                entry.gone = now

    def due(self, settings: NotifySettings, now: datetime) -> tuple[Notice, ...]:
        """
        What is to be said now, all of it together.

        Args:
            settings: how long things settle, and how often they are said again.
            now: the time.

        Returns:
            Notices, none where there is nothing to say or it is not the time for it.

        """
        if self._not_before is not None and timedelta(0) < self._not_before - now <= LONGEST_RETRY:
            return ()
        if len(self._sent) == MOST_AN_HOUR and timedelta(0) <= now - self._sent[0] < _HOUR:
            return ()
        ripe = False
        found: list[Notice] = []
        for entry in self._entries.values():
            state = None
            if entry.gone is not None:
                # What may come back at once is not over.
                if _passed(entry.gone, settings.settle, now):
                    state, ripe = NoticeState.OVER, True
            elif entry.told is None:
                # Whatever has begun goes with the first that has waited long enough.
                state = NoticeState.BEGUN
                ripe = ripe or _passed(entry.begun, settings.settle, now)
            elif _passed(entry.told, settings.repeat, now):
                state, ripe = NoticeState.HOLDS, True
            if state is not None:
                found.append(Notice(state=state, condition=entry.condition))
        order = list(NoticeState)
        return tuple(sorted(found, key=lambda one: order.index(one.state))) if ripe else ()

    def delivered(self, notices: Iterable[Notice], now: datetime) -> None:
        """
        They were taken by the receiver.
        """
        self._sent.append(now)
        self._retry, self._not_before = FIRST_RETRY, None
        for notice in notices:
            key = (notice.condition.kind, notice.condition.about)
            entry = self._entries.get(key)
            if notice.state is not NoticeState.OVER:
                if (
                    entry is None
                ):  # over while the message was under way: whoever heard of it hears of its end
                    entry = self._entries[key] = _Entry(notice.condition, now, gone=now)
                entry.told = now
            elif entry is not None and entry.gone is not None:
                del self._entries[key]

    def failed(self, now: datetime) -> None:
        """
        The receiver did not take a message: it is left alone for a while.
        """
        self._not_before = now + self._retry
        self._retry = min(self._retry * 2, LONGEST_RETRY)

    @property
    def holding(self) -> int:
        """
        How many conditions it was told of that are not over.
        """
        return sum(entry.told is not None for entry in self._entries.values())

    # --- over a restart -----------------------------------------------------------------------------------------------

    def saved(self) -> list[dict[str, str]]:
        """
        What was told and is not over, as plain data.
        """
        return [
            {"kind": kind.value, "about": about, "text": entry.condition.text, "told": entry.told.isoformat()}
            for (kind, about), entry in self._entries.items()
            if entry.told is not None
        ]

    def restore(self, saved: object, now: datetime) -> None:
        """
        Take up what an earlier process told; what is not as `saved` writes it is left out.

        Args:
            saved: of a file.
            now: the time: nothing can have been told later.

        """
        for one in saved[:MOST_REMEMBERED] if isinstance(saved, list) else ():
            entry = _restored(one, now)
            if entry is not None and entry.condition.kind in self._kinds:
                self._entries[entry.condition.kind, entry.condition.about] = entry


def _restored(one: object, now: datetime) -> _Entry | None:
    if not isinstance(one, Mapping):
        return None
    table: Mapping[Any, Any] = one
    try:
        kind = NoticeKind(table["kind"])
        about, text = table["about"], table["text"]
        told = datetime.fromisoformat(table["told"])
    except (KeyError, ValueError, TypeError):
        return None
    if not isinstance(about, str) or not isinstance(text, str) or told.tzinfo is None:
        return None
    condition = Condition(kind=kind, about=excerpt(about, _CHARACTERS), text=excerpt(text, _CHARACTERS))
    return _Entry(condition, min(told, now), min(told, now))


def _passed(since: datetime, long: timedelta, now: datetime) -> bool:
    """
    Whether so much time went by; a clock that was set back must not hold anything up.
    """
    return now - since >= long or now < since
