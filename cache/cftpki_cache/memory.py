"""
The memory tier: least recently used goes first, bounded by entries and bytes.

Owns nothing outside the process. Its clock is monotonic: setting the machine's time neither revives nor kills
an entry.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

from cftpki_cache.kept import Kept
from cftpki_ext.core.digest import forget_digest
from cftpki_ext.core.values import dataclass
from cftpki_ext.ports.responses import StoredResponse

# What an entry costs beside its bytes: key, record, table slot.
_ENTRY_BYTES = 512


@dataclass(frozen=True, slots=True)
class _Entry:
    raw: bytes
    received_at: datetime
    until: float

    @property
    def cost(self) -> int:
        return len(self.raw) + _ENTRY_BYTES


class MemoryStore:
    """
    A `ResponseStore` in memory.

    A response larger than the whole store is not kept. By default it holds 4096 entries and 128 MiB: two of
    the largest CRLs, or every partner of a large site. May be used from several threads.

    Args:
        max_entries: entries.
        max_bytes: bytes of all entries together, what they cost beside their content included.
        monotonic: seconds that only ever grow.

    """

    def __init__(
        self,
        *,
        max_entries: int = 4096,
        max_bytes: int = 128 * 1024 * 1024,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> StoredResponse | None:
        """
        See `ResponseStore`.
        """
        kept = self.look(key)
        return None if kept is None else kept.response

    def look(self, key: str) -> Kept | None:
        """
        See `LivedStore`.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            keep_s = entry.until - self._monotonic()
            if keep_s <= 0:
                self._remove(key)
                return None
            self._entries.move_to_end(key)
            return Kept(raw=entry.raw, received_at=entry.received_at, keep_s=keep_s)

    def put(self, key: str, raw: bytes, *, received_at: datetime, keep_s: float) -> None:
        """
        See `ResponseStore`.
        """
        with self._lock:
            self._remove(key, instead=raw)
            entry = _Entry(bytes(raw), received_at, self._monotonic() + keep_s)
            if keep_s <= 0 or entry.cost > self._max_bytes:
                return
            self._entries[key] = entry
            self._bytes += entry.cost
            while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
                self._remove(next(iter(self._entries)))

    def drop(self, key: str) -> None:
        """
        See `ResponseStore`.
        """
        with self._lock:
            self._remove(key)

    def clear(self) -> None:
        """
        Forget everything.
        """
        with self._lock:
            for key in tuple(self._entries):
                self._remove(key)

    def close(self) -> None:
        """
        See `ResponseStore`. Everything is forgotten.
        """
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def _remove(self, key: str, *, instead: bytes = b"") -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._bytes -= entry.cost
        if entry.raw is not instead:
            forget_digest(entry.raw)  # the memory of digests would hold it


class TwoSizesStore:
    """
    A memory tier in which a large list pushes out other large ones and no small answers.

    Args:
        small: for all others.
        large: for what is longer than `large_octets`; one of the largest lists at least.
        large_octets: the border.

    """

    def __init__(self, small: MemoryStore, large: MemoryStore, *, large_octets: int = 1024 * 1024) -> None:
        self._small = small
        self._large = large
        self._border = large_octets

    def get(self, key: str) -> StoredResponse | None:
        """
        See `ResponseStore`.
        """
        return self._small.get(key) or self._large.get(key)

    def look(self, key: str) -> Kept | None:
        """
        See `LivedStore`.
        """
        return self._small.look(key) or self._large.look(key)

    def put(self, key: str, raw: bytes, *, received_at: datetime, keep_s: float) -> None:
        """
        See `ResponseStore`.
        """
        here, there = (self._large, self._small) if len(raw) > self._border else (self._small, self._large)
        there.drop(key)
        here.put(key, raw, received_at=received_at, keep_s=keep_s)

    def drop(self, key: str) -> None:
        """
        See `ResponseStore`.
        """
        self._small.drop(key)
        self._large.drop(key)

    def clear(self) -> None:
        """
        Forget everything.
        """
        self._small.clear()
        self._large.clear()

    def close(self) -> None:
        """
        See `ResponseStore`.
        """
        self._small.close()
        self._large.close()
