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
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from cftpki_ext.core.errors import StoreError
from cftpki_ext.identity.store.durable import FILE_MODE, make_directory
from cftpki_ext.identity.store.mending import misplaced, set_aside
from cftpki_ext.identity.store.owners import not_ours

# How often a waiting process looks again: the holder does network work that takes seconds.
POLL_S = 0.1
_LOCKS = Path("/proc/locks")


class BusyError(StoreError):
    """
    Another process, or another task of this one, works on the identity.
    """


@contextlib.asynccontextmanager
async def locked(
    directory: Path, *, wait_s: float, busy: Callable[[int | None], None] | None = None
) -> AsyncIterator[None]:
    """
    Hold the lock of one identity.

    What was read before must be read again under the lock: the holder before may have changed it.

    Args:
        directory: of the identity; made where it is missing.
        wait_s: seconds to wait for another holder; 0 tries once.
        busy: is told once, at once, that somebody else holds it: by which process, where that is known.

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
        told = False
        while not _take(descriptor):
            if time.monotonic() >= until:
                who = holder(lock)
                by = "another process" if who is None else f"process {who}"
                msg = f"identity {directory.name!r} is being worked on by {by}; try again later"
                raise BusyError(msg)
            if not told and busy is not None:
                told = True
                busy(holder(lock))
            await asyncio.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def holder(lock: Path) -> int | None:
    """
    Who holds a lock, by the kernel's list (proc_locks(5)): asking for the lock itself would be in the way.

    Returns:
        The process, `None` where nobody does, or where this user may not see it.

    """
    try:
        status = lock.stat()
        lines = _LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in lines:
        # 1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF; who waits has an arrow after the number.
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == place:
            return int(fields[4])
    return None


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
