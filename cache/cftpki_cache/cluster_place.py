"""
Where this node was in what a cluster tells: one small file, replaced whole; and the number of the flush that it told last.

Owns `STATE/cluster.json`: what is in it is its owner's business, and losing it costs hearing everything again. Owns
`STATE/cluster.flush`: twenty digits, written under a lock of its own.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.support.failures import reason_of
from cftpki_ext.support.files import read_regular

PLACE, FLUSH = "cluster.json", "cluster.flush"
_DIGITS = 20
# What others read as a number.
_MOST = (1 << 63) - 1
# A thousand blocks with all that belongs to them, and a position.
MAX_OCTETS = 4 * 1024 * 1024


class PlaceFile:
    """
    The file of one state directory. For one thread at a time.

    Args:
        state: the state directory, which is ours.

    """

    def __init__(self, state: Path) -> None:
        self._path = state / PLACE

    def load(self) -> bytes | None:
        """
        What was saved last; `None` where nothing was, or it cannot be read.
        """
        try:
            return read_regular(self._path, cap=MAX_OCTETS, what="place in the cluster").data
        except InputError:
            return None

    def save(self, octets: bytes) -> None:
        """
        Save in one step.

        Raises:
            StoreError: the disk refuses; what was saved before stays.

        """
        # Only who writes needs it.
        from cftpki_ext.identity.store.durable import replace_file  # noqa: PLC0415 - see above

        if len(octets) > MAX_OCTETS:
            msg = f"{self._path}: {len(octets)} octets are too many"
            raise StoreError(msg)
        replace_file(self._path, octets)


class FlushNumbers:
    """
    Numbers of flushes, each greater than the one before, whatever the clock says. For one thread at a time, and any process.

    Args:
        state: the state directory, which is ours.

    """

    def __init__(self, state: Path) -> None:
        self._path = state / FLUSH

    def take(self, least: int) -> int:
        """
        The next number. It is on the disk before anybody is told.

        Args:
            least: it is no less.

        Returns:
            The number; `least`, where what was written cannot be read.

        Raises:
            StoreError: the disk refuses.

        """
        try:
            number = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(number, fcntl.LOCK_EX)  # held for one write
                text = os.pread(number, _DIGITS + 1, 0)
                last = int(text) if len(text) == _DIGITS and text.isdigit() else -1
                taken = max(least, last + 1 if last < _MOST else 0)
                os.pwrite(number, b"%0*d" % (_DIGITS, taken), 0)
                os.ftruncate(number, _DIGITS)
                os.fsync(number)
            finally:
                os.close(number)
        except OSError as exc:
            msg = f"{self._path}: {reason_of(exc)}"
            raise StoreError(msg) from exc
        return taken
