"""
The partners that operators have shut out, in one file: replaced whole, noticed at once by every process that looks.

    STATE/blocked.json     what `core.blocks` writes, with its own SHA-256
    STATE/blocked.lock     held by whoever writes; not empty once there was a list

Owns both. A list that is damaged, or gone although there was one, is an error: nobody is forgotten silently.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cftpki_ext.core.blocks import MAX_OCTETS, Book, encode_blocks, read_book, write_book
from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.core.values import replace
from cftpki_ext.support.files import read_regular

LIST, LOCK = "blocked.json", "blocked.lock"
# Whoever writes does so in milliseconds.
WAIT_S = 10.0
_POLL_S = 0.02
_ADVICE = (
    "nobody is let in while it is not known who is blocked: put back a copy of it, or move it and blocked.lock away and"
    " block anew whom `cftpki audit list` names"
)


class BlockFile:
    """
    A `ports.BlockList` in a state directory. For one thread.

    Args:
        state: the state directory, which is ours.

    """

    def __init__(self, state: Path) -> None:
        self._path = state / LIST
        self._lock = state / LOCK
        # They are looked at for each partner, and pathlib's own stat() takes twice as long.
        self._names = os.fspath(self._path), os.fspath(self._lock)
        self._stamp: tuple[int, ...] | None = None
        self._document: bytes | None = None

    def document(self) -> bytes | None:
        """
        See `ports.BlockList`.
        """
        stamp = self._stamp_now()
        if stamp is None or stamp != self._stamp:
            # Of a file that is replaced meanwhile the stamp is the older one: it is read again at the next look.
            document = None if stamp is None else encode_blocks(self.book().blocks)
            self._stamp, self._document = stamp, document
        return self._document

    def book(self) -> Book:
        """
        See `ports.BlockList`.
        """
        if self._stamp_now() is None:
            return Book()
        try:
            return read_book(read_regular(self._path, cap=MAX_OCTETS, what="list of blocked partners").data)
        except InputError as exc:
            msg = f"list of blocked partners {self._path} cannot be read: {exc}; {_ADVICE}"
            raise StoreError(msg) from exc

    def change(self, edit: Callable[[Book], Book]) -> Book:
        """
        See `ports.BlockList`.
        """
        # Only who writes needs it.
        from cftpki_ext.identity.store.durable import replace_file  # noqa: PLC0415 - see above

        with self._locked() as lock:
            book, octets = _within(edit(self.book()))
            replace_file(self._path, octets)
            try:
                if not os.fstat(lock).st_size:
                    os.write(lock, b"1\n")
                    os.fsync(lock)
            except OSError as exc:
                raise StoreError(_words(self._lock, exc)) from exc
        return book

    def _stamp_now(self) -> tuple[int, ...] | None:
        """
        What is another one for another list; `None` where there never was any.
        """
        try:
            found = os.stat(self._names[0])  # noqa: PTH116 - see above
        except FileNotFoundError:
            if not self._was_there():
                return None
            msg = f"list of blocked partners {self._path} is gone; {_ADVICE}"
            raise StoreError(msg) from None
        except OSError as exc:
            raise StoreError(_words(self._path, exc)) from exc
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _was_there(self) -> bool:
        if self._stamp is not None:
            return True
        try:
            return os.stat(self._names[1]).st_size > 0  # noqa: PTH116 - see above
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise StoreError(_words(self._lock, exc)) from exc

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as exc:
            raise StoreError(_words(self._lock, exc)) from exc
        try:
            deadline = time.monotonic() + WAIT_S
            while not _taken(descriptor):
                if time.monotonic() > deadline:
                    msg = f"{self._lock}: another process has held it for {WAIT_S:.0f} s"
                    raise StoreError(msg)
                time.sleep(_POLL_S)
            yield descriptor
        finally:
            os.close(descriptor)


def _within(book: Book) -> tuple[Book, bytes]:
    """
    A book and its octets, no more than are read: nobody is let in by a list that cannot be.

    Of what was lifted the latest stays.

    Raises:
        InputError: the entries alone are too long.

    """
    octets = write_book(book)
    while len(octets) > MAX_OCTETS and book.lifted:
        book = replace(book, lifted=book.lifted[len(book.lifted) // 2 + 1 :])
        octets = write_book(book)
    if len(octets) > MAX_OCTETS:
        msg = f"list of blocked partners would have {len(octets)} octets, at most {MAX_OCTETS} are kept"
        raise InputError(msg)
    return book, octets


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _words(path: Path, error: OSError) -> str:
    return f"{path}: {(error.strerror or str(error)).lower()}"
