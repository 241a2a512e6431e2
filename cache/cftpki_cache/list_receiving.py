"""
A large list and its index on their way into the folder: whole in a file of their own, or not there at all.

Owns what is done where the disk refuses: a list is then received into memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from cftpki_cache.list_file import INDEX, OPEN, SEAL, SEALED, ListFile, Place
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.support.file_octets import FileIndex, FileOctets, read_at, write_all

_log = logging.getLogger(__name__)

_PIECE_OCTETS = 1024 * 1024
# A new file under a name that nobody has, and its descriptor.
NewFile = Callable[[], tuple[Path, int]]


class Spooling:
    """
    A list on its way: written to a file, and to memory where the disk refuses.

    For one thread at a time; only `close` may be called beside another, whose work is then ended by it.
    """

    def __init__(self, new_file: NewFile, *, kept: Callable[[str, int], LargeOctets | None]) -> None:
        """
        Begin a list.

        Args:
            new_file: makes a file for it.
            kept: the list of this SHA-256 (hex) and size that is kept already, if any.

        """
        self._kept = kept
        self._hash = hashlib.sha256()
        self._octets = 0
        self._path: Path | None = None
        self._working = threading.Lock()
        self._given_up = False
        try:
            self._path, self._number = new_file()
        except OSError as error:
            self._number = _in_memory(error)

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """
        Take some more octets.

        Raises:
            OSError: neither disk nor memory takes them.

        """
        with self._work():
            self._hash.update(piece)
            rest = memoryview(piece)
            while rest:
                try:
                    rest = rest[os.write(self._number, rest) :]
                except OSError as error:
                    if self._path is None:
                        raise
                    self._move(self._octets + len(piece) - len(rest), error)
            self._octets += len(piece)

    def reading(self) -> int:
        """
        A descriptor, the caller's, by which what was written can be read while more comes.

        Raises:
            OSError: it is in no file of the folder (any more).

        """
        path = self._path
        if path is None:
            msg = "it is received into memory"
            raise OSError(msg)
        return os.open(path, OPEN)

    def finish(self) -> LargeOctets:
        """
        That was all.

        Returns:
            The list; the one that is kept already, where it is the same.

        Raises:
            OSError: it cannot be opened for reading.

        """
        with self._work():
            digest = self._hash.hexdigest()
            known = self._kept(digest, self._octets)
            if known is not None:
                self._given_up = True
                return known
            path, self._path = self._path, None
            number, self._number = self._number, -1
            if path is None:
                return FileOctets(number, digest=digest, size=self._octets)
            try:
                # What is handed on can only be read.
                reading = os.open(path, OPEN)
            finally:
                os.close(number)
            return ListFile(reading, Place(path, temporary=True), digest=digest, size=self._octets)

    def close(self) -> None:
        """
        Give up what was not finished.
        """
        self._given_up = True
        if self._working.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._working.release()

    @contextlib.contextmanager
    def _work(self) -> Iterator[None]:
        try:
            with self._working:
                if self._number < 0:
                    msg = "given up"
                    raise OSError(msg)
                yield
        finally:
            if self._given_up:
                self.close()

    def _move(self, octets: int, error: OSError) -> None:
        """
        Go on in memory, with what was written.
        """
        before, self._number = self._number, _in_memory(error)
        for offset in range(0, octets, _PIECE_OCTETS):
            write_all(self._number, read_at(before, offset, min(_PIECE_OCTETS, octets - offset)))
        os.close(before)
        self._drop()

    def _end(self) -> None:
        if self._number >= 0:
            os.close(self._number)
            self._number = -1
        self._drop()

    def _drop(self) -> None:
        path, self._path = self._path, None
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()


def _in_memory(error: OSError) -> int:
    _log.warning("a large list is received into memory, the disk refuses: %s", error)
    return os.memfd_create("cftpki-list", os.MFD_CLOEXEC)


class IndexWriting:
    """
    The index of a list on its way: `target` and `scratch` are descriptors of new files.
    """

    def __init__(self, new_file: NewFile, *, mac_of: Callable[[LargeOctets, int, bytes], bytes]) -> None:
        """
        Begin an index.

        Args:
            new_file: makes the files.
            mac_of: vouches for an index of this size (octets) and root.

        Raises:
            OSError: the disk has no place for it.

        """
        self._mac_of = mac_of
        self._path, self.target = new_file()
        try:
            path, self.scratch = new_file()
        except OSError:
            os.close(self.target)
            self._path.unlink()
            raise
        path.unlink()
        self._done = False

    def finish(self, raw: LargeOctets, root: bytes) -> None:
        """
        It is whole: a list has an index from now on.

        Raises:
            OSError: it cannot be written.

        """
        size = os.fstat(self.target).st_size
        os.lseek(self.target, 0, os.SEEK_END)
        write_all(self.target, SEAL.pack(root, self._mac_of(raw, size, root), SEALED))
        raw.index = FileIndex(os.open(self._path, OPEN), size, root)
        self._done = True
        place = raw.place if isinstance(raw, ListFile) else None
        if place is None:
            self._path.unlink()
        elif place.temporary:
            place.index = self._path
        else:
            os.fsync(self.target)
            self._path.rename(place.path.with_suffix(INDEX))

    def close(self) -> None:
        """
        Close what is open, and give up what was not finished.
        """
        os.close(self.target)
        os.close(self.scratch)
        if not self._done:
            with contextlib.suppress(OSError):
                self._path.unlink()
