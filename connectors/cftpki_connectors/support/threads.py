"""
Blocking calls (name resolution, files on strange file systems) that nobody waits for longer than they like.

Owns the one way in which connectors use threads. The default executor is not used: a handful of stuck calls
would fill it and delay everyone, and the loop would wait for them when it is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# A stuck call holds its thread until the system gives up (seconds for DNS); more than so many at once means
# that the system itself is sick, and further calls fail at once.
MAX_THREADS = 64

_slots = threading.BoundedSemaphore(MAX_THREADS)


async def call(work: Callable[[], T]) -> T:
    """
    Run a blocking call in a daemon thread of its own.

    Cancelling stops the waiting, not the call: its result is thrown away, and the thread ends with it.

    Args:
        work: the call; must not touch the event loop.

    Returns:
        What `work` returns.

    Raises:
        OSError: too many calls are stuck already.
        Exception: whatever `work` raises.

    """
    if not _slots.acquire(blocking=False):
        msg = f"{MAX_THREADS} blocking calls are stuck already"
        raise OSError(msg)
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
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
            _slots.release()
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="cftpki-blocking", daemon=True).start()
    return await future
