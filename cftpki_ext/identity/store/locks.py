"""
One writer per identity, within this process and among processes: `flock`, which ends with its holder.

Owns the lock file. A kill -9 releases it; there is nothing stale to be removed. Not for network file systems
without `flock`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from cftpki_ext.core.errors import StoreError
from cftpki_ext.identity.store.durable import FILE_MODE, make_directory
from cftpki_ext.identity.store.mending import misplaced, set_aside
from cftpki_ext.identity.store.owners import not_ours

# How often a waiting process looks again: the holder does network work that takes seconds.
POLL_S = 0.1


class BusyError(StoreError):
    """
    Another process, or another task of this one, works on the identity.
    """


@contextlib.asynccontextmanager
async def locked(directory: Path, *, wait_s: float) -> AsyncIterator[None]:
    """
    Hold the lock of one identity.

    What was read before must be read again under the lock: the holder before may have changed it.

    Args:
        directory: of the identity; made where it is missing.
        wait_s: seconds to wait for another holder; 0 tries once.

    Raises:
        BusyError: somebody else holds it.
        StoreError: the lock file cannot be made, or others could change what the lock protects.

    """
    make_directory(directory)
    lock = directory / "lock"
    try:
        unfit = not_ours(directory, owner=os.geteuid())
        if unfit is not None:
            raise StoreError(unfit)
        set_aside(tuple(path for path in misplaced(directory) if path == lock))
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    except OSError as error:
        msg = f"{lock}: {(error.strerror or str(error)).lower()}"
        raise StoreError(msg) from error
    try:
        until = time.monotonic() + wait_s
        while not _take(descriptor):
            if time.monotonic() >= until:
                msg = f"identity {directory.name!r} is being worked on by another process; try again later"
                raise BusyError(msg)
            await asyncio.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
