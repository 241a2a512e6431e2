"""
What states the end of a ledger: the head file, and a copy of it beside the ledger's folder.

It may lag (a kill between a commit and its writing), and never leads. It is written forwards only: several processes write
one ledger.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path

from cftpki_cache.ledger_schema import HEAD
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.support.files import read_regular

# A head that states more records than could have been written since is damaged: it must not use up the numbers.
MOST_AHEAD = 1_000_000_000
_OCTETS = 256
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_WRITTEN_IN = 36
CLOSED = "closed"
_UNKNOWN = "unknown"
_LINES = re.compile(rb"(\d{20}) ([0-9a-f]{64})\n(?:([0-9a-z-]{1,36}) *\n)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """
    The end of a ledger. `written_in` names the run of the machine in which it was written, where that is known.
    """

    seq: int
    hash: bytes
    written_in: str = ""

    def line(self) -> bytes:
        """
        As the head file has it: always of one length, so that it is written in one place by one call.
        """
        return f"{self.seq:020d} {self.hash.hex()}\n{self.written_in or _UNKNOWN:<{_WRITTEN_IN}}\n".encode()


def end_in(octets: bytes) -> End | None:
    """
    The end that a head file states; `None` where it states none. Of 0.1.0 it has no second line.
    """
    found = _LINES.fullmatch(octets)
    if found is None:
        return None
    return End(
        seq=int(found[1]), hash=bytes.fromhex(found[2].decode()), written_in=(found[3] or b"").decode()
    )


def beside(folder: Path) -> Path:
    """
    The copy of the head that lies beside a ledger's folder: the folder may be deleted, or put back, as a whole.
    """
    return folder.with_name(f"{folder.name}.{HEAD}")


def this_boot() -> str:
    """
    The name of this run of the machine.
    """
    with contextlib.suppress(OSError, UnicodeDecodeError), open(_BOOT_ID, encoding="ascii") as file:  # noqa: PTH123
        return file.read(_WRITTEN_IN + 1).strip()
    return _UNKNOWN


def is_torn(end: End, boot: str) -> bool:
    """
    Whether a power cut may have taken what an end states.

    Args:
        end: that was stated, and is not there.
        boot: this run of the machine.

    Returns:
        Not where it was written in this run, nor where whoever closed the ledger saw all of it written out.

    """
    return end.written_in not in {"", CLOSED, _UNKNOWN, boot}


class HeadFile:
    """
    One file that states the end of a ledger.

    Args:
        path: of the file; it is made where it is missing.

    Raises:
        OSError: it cannot be opened.

    """

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._number = os.open(path, flags, 0o600)
        self._written = b""
        self._stated: End | None = None  # by what was written
        self._path = os.fspath(path)  # it is looked at with each append
        self._file = _identity(os.fstat(self._number))

    def is_other(self) -> bool:
        """
        Whether the file at the path is another one by now, or none.
        """
        return identity_of(self._path) != self._file

    def is_changed(self) -> bool:
        """
        Whether it holds something else than this process wrote last.
        """
        return os.pread(self._number, _OCTETS, 0) != self._written

    def read(self) -> End | None:
        """
        What it states.
        """
        return end_in(os.pread(self._number, _OCTETS, 0))

    def write(self, end: End, copy: HeadFile | None = None) -> None:
        """
        State an end, unless a later one is stated already.

        Args:
            end: to be stated.
            copy: states it as well, under the same lock.

        """
        # Whoever holds the lock for longer has been stopped: the end is stated all the same.
        with contextlib.suppress(OSError):
            fcntl.lockf(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            line = end.line()
            self._put(end, line)
            if copy is not None:
                copy._put(end, line)  # noqa: SLF001 - of the same class
        finally:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._number, fcntl.LOCK_UN)

    def _put(self, end: End, line: bytes) -> None:
        before = os.pread(self._number, _OCTETS, 0)
        # What this process wrote last is known without being read.
        there = self._stated if before == self._written else end_in(before)
        if there is not None and end.seq < there.seq < end.seq + MOST_AHEAD:
            return
        # In place, in one call: a kill leaves the old or the new line.
        os.pwrite(self._number, line, 0)
        if len(before) > len(line):
            os.ftruncate(self._number, len(line))
        self._written, self._stated = line, end

    def close(self) -> None:
        """
        Close it. May be called again.
        """
        if self._number >= 0:
            os.close(self._number)
            self._number = -1


def stated(folder: Path) -> tuple[End | None, End | None]:
    """
    The ends that the head file of a ledger and its copy state, for who only reads.
    """
    return _stated_in(folder / HEAD), _stated_in(beside(folder))


def _stated_in(path: Path) -> End | None:
    try:
        return end_in(read_regular(path, cap=_OCTETS, what="head of the evidence").data)
    except (InputError, OSError):
        return None


def identity_of(path: Path | str) -> tuple[int, int] | None:
    """
    Which file is at a path; `None` where none is.
    """
    try:
        # pathlib's own stat() takes twice as long.
        return _identity(os.stat(path))  # noqa: PTH116
    except OSError:
        return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
