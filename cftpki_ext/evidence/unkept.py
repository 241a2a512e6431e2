"""
Verdicts that could not be kept, until it can be said in the evidence itself.

Owns the one gap that is open, and its copy on the disk: on a full one nothing new can be written, so the place for it is
taken before. What a power cut takes of that copy is lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from cftpki_ext.core.ledger_notes import Gap, note_from


class GapStore(Protocol):
    """
    A place for one note, made before it is needed.
    """

    def load(self) -> bytes:
        """
        What was saved last; nothing where that was nothing.

        Raises:
            OSError: it cannot be read.

        """

    def save(self, document: bytes) -> None:
        """
        Save a note in place of the one before; it outlives this process.

        Raises:
            OSError: it cannot be written.

        """

    def close(self) -> None:
        """
        Release files.
        """


class Unkept:
    """
    Counts verdicts that are not in the evidence.

    Args:
        new_id: makes the ids of gaps.
        store: the copy on the disk; without one a restart forgets what was not written into the evidence.

    """

    def __init__(self, new_id: Callable[[], str], store: GapStore | None = None) -> None:
        self._new_id = new_id
        self._store = store
        self._gap: Gap | None = None
        if store is not None:
            with contextlib.suppress(OSError, ValueError):
                found = note_from(store.load())
                self._gap = found if isinstance(found, Gap) else None

    @property
    def open(self) -> Gap | None:
        """
        The gap that the evidence does not know of yet.
        """
        return self._gap

    def add(self, at: datetime, status: str, why: str) -> None:
        """
        Count one more.

        Args:
            at: when it was given.
            status: what the verdict was.
            why: the record was not kept.

        """
        gap = self._gap
        counts = {} if gap is None else dict(gap.counts)
        counts[status] = counts.get(status, 0) + 1
        self._set(
            Gap(
                id=self._new_id() if gap is None else gap.id,
                first=at if gap is None else min(gap.first, at),
                last=at if gap is None else max(gap.last, at),
                counts=counts,
                why=why,
            )
        )

    def came_late(self, status: str) -> None:
        """
        Take one back: its record was kept after all, when nobody waited any more.
        """
        gap = self._gap
        if gap is None or not gap.counts.get(status):
            return
        counts = {name: count - (name == status) for name, count in gap.counts.items()}
        counts = {name: count for name, count in counts.items() if count}
        self._set(
            Gap(id=gap.id, first=gap.first, last=gap.last, counts=counts, why=gap.why) if counts else None
        )

    def written(self, gap: Gap) -> None:
        """
        A gap stands in the evidence now; what was counted since it was looked at is the next one.
        """
        now = self._gap
        if now is None or now.id != gap.id:
            return
        left = {name: count - gap.counts.get(name, 0) for name, count in now.counts.items()}
        left = {name: count for name, count in left.items() if count > 0}
        self._set(
            Gap(id=self._new_id(), first=gap.last, last=now.last, counts=left, why=now.why) if left else None
        )

    def close(self) -> None:
        """
        Nothing more is counted.
        """
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _set(self, gap: Gap | None) -> None:
        self._gap = gap
        if self._store is not None:
            # Counted here all the same: only a restart would forget it.
            with contextlib.suppress(OSError):
                self._store.save(b"" if gap is None else gap.document())
