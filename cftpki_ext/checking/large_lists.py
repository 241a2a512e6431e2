"""
Large lists as a check meets them: put where they can be read in parts, and indexed before a judge is to look at them.

Owns that each list is indexed once, however many wait for it, and that one after the other is, but for one that was begun while it
came (`lists_ahead`): work that nobody waits for any more is finished for those who come later.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING

from cftpki_ext.checking.lists_ahead import Aheads
from cftpki_ext.core.large_lists import (
    Indexed,
    IndexingAhead,
    IndexWriting,
    LargeStore,
    ListIndexer,
    Spool,
)
from cftpki_ext.core.octets import LargeOctets, UnreadableOctetsError
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import replace
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.support.file_octets import read_at, write_all

if TYPE_CHECKING:
    from cftpki_ext.revocation.list_indexing import Indexing

_log = logging.getLogger(__name__)

# A list that is longer is read in parts; what is shorter costs less in memory than it would in files.
LARGE_LIST_OCTETS = 1024 * 1024
# Lists that are remembered to have no index, by their digests.
_ODD = 1024
# Lists that wait for their index: each is a file, and nobody knows yet whether it is the CA's.
_WAITING = 8
# That an index could not be made is remembered for so long.
_FAILED_S = 60.0


class LargeLists:
    """
    The large lists of a checker. For one event loop.

    Args:
        store: where they are.
        indexer: makes their indexes; by default a thread of this process.

    """

    def __init__(self, store: LargeStore, indexer: ListIndexer | None = None) -> None:
        self.store = store
        self.indexer: ListIndexer = indexer or IndexInThread()
        self._aheads = Aheads(store, lambda: self.indexer)
        self._odd: OrderedDict[str, None] = OrderedDict()
        self._failed: dict[str, float] = {}
        self._making: dict[str, tuple[LargeOctets, asyncio.Future[bool]]] = {}
        self._one = asyncio.Lock()

    def spool(self) -> Spool:
        """
        Where large lists are put while they come, for who asks for them from this event loop.
        """
        return self._aheads.spool()

    async def placed(self, statement: Statement) -> Statement:
        """
        A statement whose list, if it is large, can be read in parts; the statement itself where the disk refuses.
        """
        raw = statement.raw
        if (
            statement.kind is not SourceKind.CRL
            or not isinstance(raw, bytes)
            or len(raw) <= LARGE_LIST_OCTETS
        ):
            return statement
        try:
            return replace(statement, raw=await asyncio.to_thread(self._put, raw))
        except OSError as error:
            _log.warning("a large list stays in memory: %s", error)
            return statement

    def _put(self, raw: bytes) -> LargeOctets:
        spooling = self.store.begin()
        try:
            spooling.write(raw)
            return spooling.finish()
        finally:
            spooling.close()

    async def prepare(self, raw: bytes | LargeOctets | None) -> bool:
        """
        Have the index of a list, where it is large and can have one.

        Args:
            raw: the list, or anything else.

        Returns:
            Whether it can be used; not where it is no longer what it was.

        """
        if not isinstance(raw, LargeOctets) or raw.index is not None or raw.digest in self._odd:
            return True
        if self._failed.get(raw.digest, 0.0) > asyncio.get_running_loop().time():
            return True
        known = self._making.get(raw.digest)
        if known is None and len(self._making) >= _WAITING:
            # Read whole meanwhile, as those that can have none.
            return True
        if known is None:
            known = self._making[raw.digest] = raw, asyncio.ensure_future(self._make(raw))
            known[1].add_done_callback(partial(self._made, raw.digest))
        first, making = known
        usable = await asyncio.shield(making)
        # The same list may have come twice.
        if first is not raw:
            raw.index = first.index
        return usable

    def is_preparing(self, raw: LargeOctets) -> bool:
        """
        Whether the index of a list is being made.
        """
        return raw.digest in self._making

    def damaged(self, raw: LargeOctets) -> None:
        """
        The index of a list turned out to be damaged, and perhaps the list.
        """
        _log.warning("the index of the list %s is damaged and made anew", raw.digest[:16])
        self.store.forget_index(raw)

    async def _make(self, raw: LargeOctets) -> bool:
        begun = await self._aheads.claim(raw.digest)
        if begun is not None:
            return await self._finish(raw, begun.writing, begun.finish(raw))
        async with self._one:
            if raw.index is not None:
                return True
            try:
                writing = await asyncio.to_thread(self.store.begin_index)
            except OSError as error:
                return self._without(raw, error)
            return await self._finish(raw, writing, self.indexer.index(raw, writing))

    async def _finish(
        self, raw: LargeOctets, writing: IndexWriting, making: Awaitable[tuple[Indexed, bytes]]
    ) -> bool:
        """
        Have an index made to its end; whether the list can be used.
        """
        try:
            done, root = await making
            if done is Indexed.DONE:
                await asyncio.to_thread(writing.finish, raw, root)
                # Also where the question that brought it has run out of time.
                self.store.hold(raw)
        except Exception as error:  # noqa: BLE001 - whatever it is, the list is read as before there were indexes
            return self._without(raw, error)
        finally:
            await asyncio.to_thread(writing.close)
        if done is Indexed.FAILED:
            return self._without(raw, "the process that makes it ended")
        if done is Indexed.ODD:
            self._odd[raw.digest] = None
            if len(self._odd) > _ODD:
                self._odd.popitem(last=False)
        if done is Indexed.DAMAGED:
            self.store.forget(raw.digest)
        return done is not Indexed.DAMAGED

    def _without(self, raw: LargeOctets, why: object) -> bool:
        """
        Go on without an index for a while.
        """
        _log.warning("the list %s is read without an index: %s", raw.digest[:16], why)
        if len(self._failed) >= _ODD:
            self._failed.clear()
        self._failed[raw.digest] = asyncio.get_running_loop().time() + _FAILED_S
        return True

    def _made(self, digest: str, making: asyncio.Future[bool]) -> None:
        del self._making[digest]
        if not making.cancelled() and making.exception() is not None:
            _log.error("a list was not indexed: %r", making.exception())


class IndexInThread:
    """
    A `ListIndexer` in this process: for commands, which judge one chain.
    """

    outlasts = False

    def ahead(self, reading: int, writing: IndexWriting) -> IndexingAhead | None:
        """
        See `ListIndexer`. A command's thread would hold up what receives the list.
        """
        del writing
        os.close(reading)
        return None

    async def index(self, raw: LargeOctets, writing: IndexWriting) -> tuple[Indexed, bytes]:
        """
        See `ListIndexer`.
        """
        return await asyncio.to_thread(index_into, raw, writing.target, writing.scratch)


def index_into(
    raw: LargeOctets, target: int, scratch: int, begun: Indexing | None = None
) -> tuple[Indexed, bytes]:
    """
    Write the index of a list into files.

    Args:
        raw: the list.
        target: a descriptor of an empty file, for the index.
        scratch: a descriptor of another, for what is in between.
        begun: what was begun while the list came, into the same files; by default nothing.

    Returns:
        What came of it, and the root of the index.

    Raises:
        OSError: a file cannot be written.

    """
    from cftpki_ext.revocation.list_indexing import (  # noqa: PLC0415 - few ever do
        NamesIssuersError,
        NotIndexableError,
        index_list,
    )
    from cftpki_ext.revocation.list_sorting import Scratch  # noqa: PLC0415

    between = Scratch(partial(write_all, scratch), partial(read_at, scratch))
    written = 0
    if begun is not None:
        try:
            return Indexed.DONE, begun.finish(raw.digest, len(raw))
        except (NotIndexableError, NamesIssuersError, UnreadableOctetsError) as error:
            # What is odd is seen once more, in the list itself and from its beginning.
            _log.info("the list %s is indexed anew: %s", raw.digest[:16], error)
            written = begun.written
    try:
        return Indexed.DONE, index_list(raw, partial(write_all, target), between, written=written)
    except NotIndexableError as error:
        _log.info("the list %s has no index: %s", raw.digest[:16], error)
    except UnreadableOctetsError:
        return Indexed.DAMAGED, b""
    return (Indexed.ODD if raw.is_whole() else Indexed.DAMAGED), b""
