"""
The cache as a driver uses it: what is at hand at once, and what waits for a disk in a thread.

Owns who waits for what: reading, hashing or writing a list of fifty megabytes is waited for by its own question. Others feel
the moments in which it is copied under Python's lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial

from cftpki_ext.checking.large_lists import LargeLists
from cftpki_ext.core.digest import digest_of, forget_digest, is_hashed
from cftpki_ext.core.octets import LargeOctets, whole_of
from cftpki_ext.ports.responses import LastingStore, ListStore, ResponseStore, SharedStore, StoredResponse
from cftpki_ext.support.heap import give_back

_log = logging.getLogger(__name__)

# What is hashed, copied or written in less time than another thread is woken.
LARGE_OCTETS = 256 * 1024
# So much, in the pieces in which it came, may leave as much behind in the allocator.
_HUGE_OCTETS = 8 * 1024 * 1024
# That the disk has nothing is remembered for so long: another process may have put something there.
_MISSING_S = 20.0
_MISSING = 8192
# Answers that wait for the disk: of the largest lists few are ever on their way.
_BEHIND = 64
# ... and two at most, unless it is one alone.
_BEHIND_OCTETS = 128 * 1024 * 1024
# A disk that hangs must not use up the handshake. Reading a list of fifty megabytes takes half a second.
PATIENCE_S = 2.0


async def hashed(raw: bytes | LargeOctets) -> None:
    """
    Have the SHA-256 of some octets at hand (`core.digest`), hashed in a thread where they are many.
    """
    if isinstance(raw, bytes) and is_long_hashed(raw):
        await asyncio.to_thread(digest_of, raw)


def is_long_hashed(raw: bytes | LargeOctets) -> bool:
    """
    Whether octets are to be hashed, and are so many that nobody should wait for it.
    """
    return len(raw) > LARGE_OCTETS and not is_hashed(raw)


def noted(found: StoredResponse | None) -> tuple[datetime, str] | None:
    """
    What identifies an answer of the cache without holding it.
    """
    return None if found is None else (found.received_at, digest_of(found.raw))


class Responses:
    """
    A `ResponseStore` that holds up nobody. For one event loop.

    Args:
        store: closed by `close`.
        monotonic: seconds that only ever grow.

    """

    def __init__(self, store: ResponseStore, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._lasting = store if isinstance(store, LastingStore) else None
        self._listed = store if isinstance(store, ListStore) else None
        self.lists = LargeLists(store.lists) if isinstance(store, ListStore) else None
        self._monotonic = monotonic
        # Answers that were looked for and found, since the start.
        self.in_memory, self.on_disk = 0, 0
        self._missing: OrderedDict[str, float] = OrderedDict()
        self._news = 0  # how often another process was heard of
        self._writing: dict[asyncio.Future[None], int] = {}
        self._hanging: asyncio.Future[StoredResponse | None] | None = None
        # One: the disk does one thing at a time, in the order in which it was asked.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="responses")
        # Another for large lists: nobody's answer waits until fifty megabytes are on the disk.
        self._lists_thread = ThreadPoolExecutor(1, thread_name_prefix="lists")

    @property
    def is_awake(self) -> bool:
        """
        Whether nothing that was asked of the disk hangs.
        """
        return self._hanging is None or self._hanging.done()

    def at_hand(self, key: str) -> tuple[bool, StoredResponse | None]:
        """
        Whether it is known at once what is kept under a name, and what.
        """
        if self._lasting is None:
            return True, self._store.get(key)
        found = self._lasting.at_hand(key)
        if found is not None:
            return True, found
        missing = self._missing.get(key)
        return missing is not None and missing > self._monotonic(), None

    def has_still(
        self, seen: Mapping[str, tuple[datetime, str] | None], *, at_once: bool = False
    ) -> bool | None:
        """
        Whether what was seen is at hand as it was.

        Args:
            seen: by name, what `noted` made of it.
            at_once: leave out what takes long to be hashed.

        Returns:
            `None` where only the disk, or who hashes that, could say.

        """
        for key, before in seen.items():
            known, found = self.at_hand(key)
            if not known or (at_once and found is not None and is_long_hashed(found.raw)):
                return None
            if noted(found) != before:
                return False
        return True

    async def find(self, key: str) -> StoredResponse | None:
        """
        What is kept under a name.

        What another process put there within the last 20 s may be missed. A disk that hangs has nothing, and is not asked
        again before it is back.
        """
        known, found = self.at_hand(key)
        news = self._news
        if not known:
            if not self.is_awake:
                return None
            found, came = await self._read(self._store.get, key)
            if not came:
                return None
        if found is not None and not await self.prepare(found.raw):
            # The disk has it no more as it was: asked for again, as if it had not been there.
            self._store.drop(key)
            return None
        if found is not None:
            self.in_memory += known
            self.on_disk += not known
            await hashed(found.raw)
        elif not known and news == self._news:
            self._missing[key] = self._monotonic() + _MISSING_S
            if len(self._missing) > _MISSING:
                self._missing.popitem(last=False)
        return found

    async def find_below(self, key: str) -> StoredResponse | None:
        """
        What is kept under a name, also what another process has put there just now.
        """
        if not isinstance(self._store, SharedStore) or not self.is_awake:
            return await self.find(key)
        found, _ = await self._read(self._store.look_below, key)
        if found is not None and not await self.prepare(found.raw):
            return None
        if found is not None:
            self._missing.pop(key, None)
            self.on_disk += 1
            await hashed(found.raw)
        return found

    async def _read(
        self, read: Callable[[str], StoredResponse | None], key: str
    ) -> tuple[StoredResponse | None, bool]:
        """
        What the disk has, and whether it came in time.
        """
        reading = asyncio.get_running_loop().run_in_executor(self._thread, read, key)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.shield(reading), True
        except TimeoutError:
            self._hanging = reading
            reading.add_done_callback(_seen)
            return None, False

    async def look_again(self, key: str) -> None:
        """
        Make it known what is kept under a name (`at_hand`), and its digest.
        """
        known, found = self.at_hand(key)
        if known:
            if found is not None:
                await hashed(found.raw)
        elif (found := await self.find(key)) is not None:
            self.let_go(found.raw, key)

    async def prepare(self, raw: bytes | LargeOctets | None) -> bool:
        """
        See `LargeLists.prepare`.
        """
        return self.lists is None or await self.lists.prepare(raw)

    def is_preparing(self, raw: LargeOctets) -> bool:
        """
        Whether the index of a list is being made.
        """
        return self.lists is not None and self.lists.is_preparing(raw)

    def let_go(self, raw: bytes | LargeOctets, key: str) -> None:
        """
        Let go of a large answer that is used no more, unless memory keeps it under its name.
        """
        if isinstance(raw, LargeOctets) or len(raw) <= LARGE_OCTETS:
            return
        known, found = self.at_hand(key)
        if not known or found is None or found.raw is not raw:
            forget_digest(raw)
        if len(raw) > _HUGE_OCTETS:
            self._thread.submit(give_back)

    def stored(self, key: str, received_at: datetime) -> None:
        """
        Learn that the disk has something under a name, and let go of what is older.

        Args:
            key: the name.
            received_at: when what the disk has was received.

        """
        self._news += 1
        self._missing.pop(key, None)
        if self._lasting is None:
            return
        found = self._lasting.at_hand(key)
        if found is not None and found.received_at < received_at:
            self._lasting.let_go(key)

    def flushed(self) -> None:
        """
        Learn that the disk was emptied on purpose: nothing is at hand any more.
        """
        self._news += 1
        self._missing.clear()
        if self._lasting is not None:
            self._lasting.let_go()

    def put(self, key: str, raw: bytes | LargeOctets, *, received_at: datetime, keep_s: int) -> None:
        """
        See `ResponseStore`. The disk follows by itself; where it is far behind, it does without.
        """
        self._missing.pop(key, None)
        if self._lasting is None:
            self._store.put(key, whole_of(raw), received_at=received_at, keep_s=keep_s)
            return
        if self._listed is not None and isinstance(raw, LargeOctets):
            self._listed.hold_list(key, raw, received_at=received_at, keep_s=keep_s)
            write = partial(self._listed.write_list, key, raw, received_at=received_at, keep_s=keep_s)
            self._write(write, 0, self._lists_thread)
            return
        raw = whole_of(raw)
        self._lasting.hold(key, raw, received_at=received_at, keep_s=keep_s)
        self._write(partial(self._lasting.write, key, raw, received_at=received_at, keep_s=keep_s), len(raw))

    def _write(self, work: Callable[[], None], size: int, thread: ThreadPoolExecutor | None = None) -> None:
        octets = sum(self._writing.values())
        if len(self._writing) < _BEHIND and (not octets or octets + size <= _BEHIND_OCTETS):
            # In the thread's queue at once, so that closing waits for it.
            write = asyncio.get_running_loop().run_in_executor(thread or self._thread, work)
            self._writing[write] = size
            write.add_done_callback(self._written)

    def after_writes(self, call: Callable[[str], None], key: str) -> None:
        """
        Call something, in the disk's thread, once all that was put so far is on the disk.
        """
        self._lists_thread.submit(lambda: self._thread.submit(call, key))

    def _written(self, write: asyncio.Future[None]) -> None:
        del self._writing[write]
        error = None if write.cancelled() else write.exception()
        if error is not None:
            # No store of ours raises; nobody waits for this any more.
            _log.error("an answer was not written: %r", error)

    def close(self) -> None:
        """
        See `ResponseStore`. What is on its way to the disk gets there.
        """
        self._lists_thread.shutdown()
        self._thread.shutdown()
        self._store.close()


def _seen(done: asyncio.Future[StoredResponse | None]) -> None:
    if not done.cancelled():
        done.exception()  # nobody waits for it any more
