"""
Indexes that are begun while their lists still come, so that little is left to do after the last octet.

Owns which list that is: one at a time, the first that is long enough; others are indexed once they are whole. Nothing of it
counts before the list is whole and its index finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from cftpki_ext.core.large_lists import (
    Indexed,
    IndexingAhead,
    IndexWriting,
    LargeStore,
    ListIndexer,
    Spooling,
)
from cftpki_ext.core.octets import LargeOctets

_log = logging.getLogger(__name__)

# A list of which so much came is worth a process that waits for the rest.
_FROM_OCTETS = 2 * 1024 * 1024
# A list that is whole and that nobody judges within this time is none, or nobody waits for it any more.
_UNCLAIMED_S = 10.0


class Begun:
    """
    An index that was begun: `writing` takes it, and is the caller's.
    """

    def __init__(self, making: IndexingAhead, writing: IndexWriting) -> None:
        self.making = making
        self.writing = writing

    async def finish(self, raw: LargeOctets) -> tuple[Indexed, bytes]:
        """
        See `IndexingAhead`; what makes it is let go of.
        """
        try:
            return await self.making.finish(raw)
        finally:
            await self.making.close()

    async def give_up(self) -> None:
        """
        Let go of what makes it, and of what takes it.
        """
        await self.making.close()
        await asyncio.to_thread(self.writing.close)


class _Coming:
    """
    A list that comes: how much of it is there, its digest once it is whole, and the index that is begun.
    """

    def __init__(self, spooling: _Spooling) -> None:
        self.spooling = spooling
        self.octets = 0
        self.digest: str | None = None
        self.beginning: asyncio.Task[Begun | None] | None = None
        self.unclaimed: asyncio.TimerHandle | None = None


class Aheads:
    """
    The list whose index is begun before it is whole. A `Spool`, for one event loop.

    Args:
        store: where lists and indexes are.
        indexer: gives what makes indexes.

    """

    def __init__(self, store: LargeStore, indexer: Callable[[], ListIndexer]) -> None:
        self._store = store
        self._indexer = indexer
        self._coming: _Coming | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def spool(self) -> Aheads:
        """
        These, for those who are asked from this event loop.
        """
        self._loop = asyncio.get_running_loop()
        return self

    def begin(self) -> Spooling:
        """
        See `Spool`. In any thread.
        """
        return _Spooling(self._store.begin(), self)

    def tell(self, call: Callable[..., None], *args: object) -> None:
        """
        Have something done in the event loop, from any thread; not where that is closed.
        """
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call, *args)

    # In the event loop

    def more(self, spooling: _Spooling, octets: int) -> None:
        """
        Learn how much of a list is there.
        """
        if self._coming is None and octets >= _FROM_OCTETS:
            self._coming = _Coming(spooling)
            self._coming.beginning = asyncio.ensure_future(self._begin(self._coming))
        coming = self._coming
        if coming is None or coming.spooling is not spooling:
            return
        coming.octets = octets
        if coming.beginning is not None and coming.beginning.done() and (begun := coming.beginning.result()):
            begun.making.more(octets)

    def whole(self, spooling: _Spooling, raw: LargeOctets) -> None:
        """
        Learn that all of a list is there.
        """
        coming = self._coming
        if coming is None or coming.spooling is not spooling:
            return
        if raw.index is not None:
            self._end()  # it was there before
            return
        coming.digest = raw.digest
        coming.unclaimed = asyncio.get_running_loop().call_later(_UNCLAIMED_S, self.gone, spooling)

    def gone(self, spooling: _Spooling) -> None:
        """
        Learn that the rest of a list does not come, or that nobody wants it.
        """
        if self._coming is not None and self._coming.spooling is spooling:
            self._end()

    async def claim(self, digest: str) -> Begun | None:
        """
        The index of a list that was begun, if it was; from now on the caller's.

        Args:
            digest: of the list that is whole, SHA-256 (hex).

        """
        coming = self._coming
        if coming is None or coming.digest != digest:
            return None
        self._coming = None
        if coming.unclaimed is not None:
            coming.unclaimed.cancel()
        return None if coming.beginning is None else await coming.beginning

    async def _begin(self, coming: _Coming) -> Begun | None:
        """
        Begin the index of a list; `None` where that cannot be.
        """
        try:
            writing = await asyncio.to_thread(self._store.begin_index)
        except OSError:
            return None
        try:
            reading = await asyncio.to_thread(coming.spooling.reading)
        except OSError:
            making = None
        else:
            making = self._indexer().ahead(reading, writing)
        if making is None:
            await asyncio.to_thread(writing.close)
            return None
        making.more(coming.octets)
        return Begun(making, writing)

    def _end(self) -> None:
        coming, self._coming = self._coming, None
        if coming is None:
            return
        if coming.unclaimed is not None:
            coming.unclaimed.cancel()
        ending = asyncio.ensure_future(_ended(coming))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _ended(coming: _Coming) -> None:
    begun = None if coming.beginning is None else await coming.beginning
    if begun is not None:
        await begun.give_up()


class _Spooling:
    """
    A list on its way, of which `Aheads` are told.
    """

    def __init__(self, inner: Spooling, aheads: Aheads) -> None:
        self._inner = inner
        self._aheads = aheads
        self._octets = 0
        self._is_whole = False

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """
        See `Spooling`.
        """
        self._inner.write(piece)
        self._octets += len(piece)
        self._aheads.tell(self._aheads.more, self, self._octets)

    def reading(self) -> int:
        """
        See `Spooling`.
        """
        return self._inner.reading()

    def finish(self) -> LargeOctets:
        """
        See `Spooling`.
        """
        raw = self._inner.finish()
        self._is_whole = True
        self._aheads.tell(self._aheads.whole, self, raw)
        return raw

    def close(self) -> None:
        """
        See `Spooling`.
        """
        self._inner.close()
        if not self._is_whole:
            self._aheads.tell(self._aheads.gone, self)
