"""
An evidence store in memory that can be told to fail: a hand-written adapter of `cftpki_ext.ports.EvidenceStore`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.ports.evidence import EvidenceEntry, Reach


class MemoryEvidence:
    """
    Keeps entries in a list. `trouble` makes every append fail with it; a cleared `open` makes appends wait.
    """

    def __init__(self) -> None:
        self.entries: list[EvidenceEntry] = []
        self.batches: list[int] = []
        self.trouble: str | None = None
        self.poison: str | None = None  # an id that cannot be kept
        self.open = threading.Event()
        self.open.set()
        self.tended: list[tuple[datetime, int]] = []
        self.reached = Reach(oldest=None, used_bytes=0, measured_hours=0, grown_bytes=0)
        self.condensed = 0
        self.closed = False

    def append(self, entries: Sequence[EvidenceEntry]) -> tuple[str, ...]:
        """
        Keep entries.
        """
        self.open.wait(10)
        if self.trouble is not None or any(entry.id == self.poison for entry in entries):
            raise StoreError(self.trouble or "poison")
        self.entries.extend(entries)
        self.batches.append(len(entries))
        return tuple(sha256(entry.document).hexdigest() for entry in entries)

    def bring(self, blobs: Mapping[str, bytes | LargeOctets]) -> None:
        """
        Nothing: what is brought is in the entries.
        """
        del blobs

    def tend(self, *, before: datetime, max_bytes: int) -> int:
        """
        Note what was asked.
        """
        if self.trouble is not None:
            raise StoreError(self.trouble)
        self.tended.append((before, max_bytes))
        return 0

    def condense(self) -> int:
        """
        Count it.
        """
        if self.trouble is not None:
            raise StoreError(self.trouble)
        self.condensed += 1
        return 0

    def reach(self, *, now: datetime) -> Reach:  # noqa: ARG002 - it says what it was told
        """
        What it was told to say.
        """
        if self.trouble is not None:
            raise StoreError(self.trouble)
        return self.reached

    def close(self) -> None:
        """
        Note it.
        """
        self.closed = True
