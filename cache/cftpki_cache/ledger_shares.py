"""
The evidence in two ledgers, one for each share: what strangers send never pushes out a record of a partner.

Owns how the size is shared out, and that strangers' ledger is in a folder in that of the partners'. Each has a chain, a
head and a bound of its own: the oldest records of a share make room for its own newest.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.ledger_head import beside
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.ledger_notes import Break
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.proven import Proven
from cftpki_ext.core.settings import strangers_bytes
from cftpki_ext.ports.evidence import EvidenceEntry, Reach, Share

STRANGERS = "strangers"


def folder_of_strangers(folder: Path) -> Path:
    """
    Where strangers' records are, below the folder of the evidence.
    """
    return folder / STRANGERS


class SharedLedger:
    """
    An `EvidenceStore` of both shares. Safe for several threads; several processes may share the folder.
    """

    def __init__(self, folder: Path, *, max_bytes: int | None = None) -> None:
        """
        Open or create the ledgers: that of strangers where there is one, or with its first record.

        Args:
            folder: made with mode 0700 where it does not exist.
            max_bytes: what both may take, kept to while they are written; `None` until `tend` says it.

        Raises:
            StoreError: the folder, or the partners' ledger, cannot be used. A strangers' ledger that cannot be is
                tried again with each of its records.

        """
        self._folder = folder_of_strangers(folder)
        self._max_bytes = max_bytes
        self._before: datetime | None = None
        self._opening = threading.Lock()
        self._opened: EvidenceLedger | None = None
        ours = None if max_bytes is None else max_bytes - strangers_bytes(max_bytes)
        self._partners = EvidenceLedger(folder, max_bytes=ours)
        try:
            self._strangers()
        except StoreError:
            # Nobody's record of a partner is lost for its sake.
            self._opened = None

    @property
    def noticed(self) -> tuple[Break, ...]:
        """
        Where a ledger did not end as it was left, since it was opened here.
        """
        return self._partners.noticed + (() if self._opened is None else self._opened.noticed)

    def _strangers(self, *, make: bool = False) -> EvidenceLedger | None:
        """
        The strangers' ledger, where there is one, or is to be.
        """
        with self._opening:
            if self._opened is None and (make or self._folder.exists() or beside(self._folder).exists()):
                bound = None if self._max_bytes is None else strangers_bytes(self._max_bytes)
                self._opened = EvidenceLedger(self._folder, max_bytes=bound, before=self._before)
            return self._opened

    def append(self, entries: Sequence[EvidenceEntry]) -> tuple[str, ...]:
        """
        See `EvidenceStore`. Those of one share are kept all or none; where strangers' cannot be, partners' may have been.
        """
        if entries and all(entry.share is Share.PARTNERS for entry in entries):
            return self._partners.append(entries)
        digests: dict[int, str] = {}
        for share in Share:
            places = [place for place, entry in enumerate(entries) if entry.share is share]
            if not places:
                continue
            ledger = self._partners if share is Share.PARTNERS else self._strangers(make=True)
            if ledger is not None:
                kept = ledger.append([entries[place] for place in places])
                digests |= dict(zip(places, kept, strict=True))
        return tuple(digests[place] for place in range(len(entries)))

    def index(self, proven: Sequence[tuple[Proven, str]]) -> None:
        """
        See `EvidenceLedger.index`: nothing is proven of a stranger.
        """
        self._partners.index(proven)

    def bring(self, blobs: Mapping[str, bytes | LargeOctets]) -> None:
        """
        See `EvidenceStore`: large lists are of partners' CAs.
        """
        self._partners.bring(blobs)

    def tend(self, *, before: datetime, max_bytes: int) -> int:
        """
        See `EvidenceStore`.
        """
        self._max_bytes, self._before = max_bytes, before
        theirs = strangers_bytes(max_bytes)
        gone = self._partners.tend(before=before, max_bytes=max_bytes - theirs)
        strangers = self._strangers()
        return gone + (0 if strangers is None else strangers.tend(before=before, max_bytes=theirs))

    def condense(self) -> int:
        """
        See `EvidenceStore`. Strangers bring no lists, and are worth no work.
        """
        return self._partners.condense()

    def reach(self, *, now: datetime) -> Reach:
        """
        See `EvidenceStore`: how far back partners' records reach.
        """
        found = self._partners.reach(now=now)
        strangers = self._strangers()
        if strangers is None:
            return found
        theirs = strangers.reach(now=now)
        return replace(
            found,
            used_bytes=found.used_bytes + theirs.used_bytes,
            breaks=(*found.breaks, *theirs.breaks),
            strangers_bytes=theirs.used_bytes,
            strangers_early=theirs.early,
        )

    def close(self) -> None:
        """
        Close both. May be called again.
        """
        self._partners.close()
        if self._opened is not None:
            self._opened.close()
