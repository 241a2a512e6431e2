"""
Blocking calls (name resolution, files on strange file systems) that nobody waits for longer than they like.

Owns the one way in which connectors use threads. The default executor is not used: a handful of stuck calls
would fill it and delay everyone, and the loop would wait for them when it is closed. What may get stuck for reasons of
its own has a lane of its own: the names of one trust set, the files of CRLs, the files of everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

# A stuck call holds its thread until the system gives up (seconds for DNS, for ever on a dead file server); more than
# so many at once means that the system itself is sick, and further calls fail at once.
MAX_THREADS = 64


class Lane:
    """
    So many blocking calls at once, and one at a time for the same thing: whoever asks meanwhile joins it.

    Args:
        most: how many threads.
        what: what they do, for messages.

    """

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._slots = threading.BoundedSemaphore(most)
        self._under_way: dict[Hashable, asyncio.Future[Any]] = {}

    async def call(self, work: Callable[[], T], key: Hashable = None) -> T:
        """
        Run a blocking call in a daemon thread of its own.

        Cancelling stops the waiting, not the call: its result is thrown away, and the thread ends with it.

        Args:
            work: the call; must not touch the event loop.
            key: what the call is about; `None` for one that nobody may join.

        Returns:
            What `work` returns.

        Raises:
            OSError: too many calls are stuck already.
            Exception: whatever `work` raises.

        """
        loop = asyncio.get_running_loop()
        future = None if key is None else self._under_way.get(key)
        # A future of a loop that was closed meanwhile tells nobody anything.
        if future is None or future.get_loop() is not loop:
            future = self._start(loop, work, key)
        return await asyncio.shield(future)

    def _start(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], T], key: Hashable
    ) -> asyncio.Future[T]:
        if not self._slots.acquire(blocking=False):
            msg = f"{self._most} calls are stuck already: {self._what}"
            raise OSError(msg)
        future: asyncio.Future[T] = loop.create_future()
        if key is not None:
            self._under_way[key] = future

        def settle(result: T | None, error: BaseException | None) -> None:
            if self._under_way.get(key) is future:
                del self._under_way[key]
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
                future.exception()  # seen, also where nobody waits any more
            else:
                future.set_result(result)  # type: ignore[arg-type]  # no error means that there is a result

        def run() -> None:
            result: T | None = None
            error: BaseException | None = None
            try:
                result = work()
            except Exception as raised:  # noqa: BLE001  # handed over to whoever waits
                error = raised
            finally:
                self._slots.release()
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                loop.call_soon_threadsafe(settle, result, error)

        threading.Thread(target=run, name="cftpki-blocking", daemon=True).start()
        return future


_files = Lane(MAX_THREADS, "reading files")


async def call(work: Callable[[], T]) -> T:
    """
    Run a blocking call on a small file of ours in a thread; see `Lane.call`.
    """
    return await _files.call(work)
