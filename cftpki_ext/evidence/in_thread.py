"""
An evidence store in this process, behind the port of one that is elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.ports.evidence import EvidenceEntry, EvidenceStore, Reach


class InThread:
    """
    An `AsyncEvidenceStore` whose store is in this process: one thread appends, in order; `tend` has another.
    """

    def __init__(self, store: EvidenceStore) -> None:
        self._store = store
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="evidence")

    async def bring(self, blobs: Mapping[str, bytes | LargeOctets]) -> None:
        """
        See `AsyncEvidenceStore`.
        """
        await asyncio.to_thread(self._store.bring, blobs)

    async def append(self, entries: Sequence[EvidenceEntry]) -> tuple[str, ...]:
        """
        See `AsyncEvidenceStore`.
        """
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._store.append, entries)

    async def tend(self, *, before: datetime, max_bytes: int) -> int:
        """
        See `AsyncEvidenceStore`.
        """
        return await asyncio.to_thread(self._store.tend, before=before, max_bytes=max_bytes)

    async def condense(self) -> int:
        """
        See `AsyncEvidenceStore`.
        """
        return await asyncio.to_thread(self._store.condense)

    async def reach(self, *, now: datetime) -> Reach:
        """
        See `AsyncEvidenceStore`.
        """
        return await asyncio.to_thread(self._store.reach, now=now)

    async def aclose(self) -> None:
        """
        See `AsyncEvidenceStore`.
        """
        await asyncio.to_thread(self._writer.shutdown)
        self._store.close()
