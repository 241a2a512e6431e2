"""
Two stores as one: a fast one above a lasting one.

Owns the order alone. May be stacked.
"""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Protocol

from cftpki_cache.kept import Kept, LivedStore
from cftpki_ext.ports.responses import StoredResponse


class _Upper(LivedStore, Protocol):
    """
    A faster tier also takes fractions of seconds, so that a copy never outlives its original.
    """

    def put(self, key: str, raw: bytes, *, received_at: datetime, keep_s: float) -> None:
        """
        See `ResponseStore`.
        """

    def clear(self) -> None:
        """
        Forget everything.
        """


class TieredStore:
    """
    A `ResponseStore` that looks above first and copies up what it finds below.

    A copy lives exactly as long as its original would have: reading never extends a life. What is put goes to
    both; what is dropped is dropped in both. Closing closes both.

    Args:
        upper: the fast tier.
        lower: the lasting tier.

    """

    def __init__(self, upper: _Upper, lower: LivedStore) -> None:
        self._upper = upper
        self._lower = lower
        # Whoever copies up what was read below must not replace what came meanwhile.
        self._filling = threading.Lock()
        self._letting_go = 0

    def get(self, key: str) -> StoredResponse | None:
        """
        See `ResponseStore`.
        """
        kept = self.look(key)
        return None if kept is None else kept.response

    def at_hand(self, key: str) -> StoredResponse | None:
        """
        See `LastingStore`: the upper tier alone.
        """
        kept = self._upper.look(key)
        return None if kept is None else kept.response

    def below(self, key: str) -> StoredResponse | None:
        """
        What the lower tier has.
        """
        kept = self._lower.look(key)
        return None if kept is None else kept.response

    def hold(self, key: str, raw: bytes, *, received_at: datetime, keep_s: int) -> None:
        """
        See `LastingStore`: the upper tier alone.
        """
        with self._filling:
            self._upper.put(key, raw, received_at=received_at, keep_s=keep_s)

    def write(self, key: str, raw: bytes, *, received_at: datetime, keep_s: int) -> None:
        """
        See `LastingStore`: the lower tier alone.
        """
        self._lower.put(key, raw, received_at=received_at, keep_s=keep_s)

    def let_go(self, key: str | None = None) -> None:
        """
        See `LastingStore`: the upper tier alone.
        """
        with self._filling:
            self._letting_go += 1
            if key is None:
                self._upper.clear()
            else:
                self._upper.drop(key)

    def look_below(self, key: str) -> StoredResponse | None:
        """
        See `SharedStore`.
        """
        before = self._letting_go
        below = self._lower.look(key)
        with self._filling:
            above = self._upper.look(key)
            if below is not None and (above is None or above.received_at < below.received_at):
                if before != self._letting_go:
                    return below.response
                self._upper.put(key, below.raw, received_at=below.received_at, keep_s=below.keep_s)
                above = below
        return None if above is None else above.response

    def look(self, key: str) -> Kept | None:
        """
        See `LivedStore`.
        """
        kept = self._upper.look(key)
        if kept is not None:
            return kept
        before = self._letting_go
        kept = self._lower.look(key)
        if kept is None:
            return None
        with self._filling:
            newer = self._upper.look(key)
            # What was let go of meanwhile may be what was read.
            if newer is None and before == self._letting_go:
                self._upper.put(key, kept.raw, received_at=kept.received_at, keep_s=kept.keep_s)
        return kept if newer is None else newer

    def put(self, key: str, raw: bytes, *, received_at: datetime, keep_s: int) -> None:
        """
        See `ResponseStore`.
        """
        self.hold(key, raw, received_at=received_at, keep_s=keep_s)
        self.write(key, raw, received_at=received_at, keep_s=keep_s)

    def drop(self, key: str) -> None:
        """
        See `ResponseStore`.
        """
        self._upper.drop(key)
        self._lower.drop(key)

    def close(self) -> None:
        """
        See `ResponseStore`.
        """
        self._upper.close()
        self._lower.close()
