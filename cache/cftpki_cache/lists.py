"""
Large lists as files: received into new ones, named by their SHA-256 once they are to be kept, their indexes beside them.

Owns the folder `lists` below the state directory. A file is written by one process under a name of its own, and takes
its name in one step when it is whole and on the disk: `DIGEST.crl`, `DIGEST.idx`, and `DIGEST.proof` for a list that
proves a revocation, which nothing here ever deletes but who let go of the proof. The index of a list counts only with
the MAC of the state directory's key behind it.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

from cftpki_cache.disk import make_private_directory
from cftpki_cache.list_file import (
    INDEX,
    KEY,
    LIST,
    NEW,
    NEW_FILE,
    PROOF,
    SEAL,
    SEALED,
    ListFile,
    Place,
    flush,
    key_of,
    read_only,
)
from cftpki_cache.list_receiving import IndexWriting, Spooling
from cftpki_ext.core.octets import LargeOctets, UnreadableOctetsError
from cftpki_ext.support.file_octets import FileIndex, FileOctets, read_at, write_all

# Lists that are held open, two descriptors each: those of a few dozen CAs.
_HELD = 32
# ... and of them those that nobody has judged yet: they are on the disk as long, and may be anything.
_HELD_NEW = 8
# What a process that was killed left half written goes when it is so old.
_ABANDONED_S = 3600.0


class ListFiles:
    """
    The folder of large lists. Safe for several threads; processes may share it.

    Args:
        state: the state directory, where the key is; the folder is made in it with mode 0700.
        max_bytes: what all lists that prove nothing may take together; those that were not used for the longest time go first.

    Raises:
        StoreError: folder or key are not safely ours.
        OSError: the disk does not take them.

    """

    def __init__(self, state: Path, *, max_bytes: int) -> None:
        self._folder = list_directory(state)
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._open: OrderedDict[str, FileOctets] = OrderedDict()
        make_private_directory(self._folder)
        self._key = key_of(state / KEY)
        with contextlib.suppress(OSError):
            self.tidy()

    def begin(self) -> Spooling:
        """
        A new list comes.
        """
        return Spooling(self.new_file, kept=self.open)

    def begin_index(self) -> IndexWriting:
        """
        The index of a list is to be made.

        Raises:
            OSError: the disk has no place for it.

        """
        return IndexWriting(self.new_file, mac_of=self.mac_of)

    def new_file(self) -> tuple[Path, int]:
        """
        A new file under a name that nobody has, mode 0600, and its descriptor.

        Raises:
            OSError: it cannot be made.

        """
        path = self._folder / f"{NEW}{secrets.token_hex(16)}"
        return path, os.open(path, NEW_FILE, 0o600)

    def mac_of(self, raw: LargeOctets, size: int, root: bytes) -> bytes:
        """
        What vouches for the index of a list.
        """
        said = (
            b"cftpki list index 1\0" + struct.pack(">QQ", len(raw), size) + bytes.fromhex(raw.digest) + root
        )
        return hmac.digest(self._key, said, "sha256")

    def at_hand(self, digest: str, size: int) -> FileOctets | None:
        """
        A list that is open already.
        """
        with self._lock:
            found = self._open.get(digest)
            if found is None or len(found) != size:
                return None
            self._open.move_to_end(digest)
            return found

    def open(self, digest: str, size: int) -> FileOctets | None:
        """
        A list that is kept, with its index where there is one.

        Args:
            digest: its SHA-256, hex.
            size: in octets.

        Returns:
            The list, or `None`. What is in the file is not compared with the digest: who makes its index does.

        """
        found = self.at_hand(digest, size)
        if found is None and (found := self._opened(digest, size, LIST)) is not None:
            with self._lock:
                self._hold(digest, found)
            with contextlib.suppress(OSError):
                os.utime(self._path(digest, LIST))  # used now
        return found

    def hold(self, raw: LargeOctets) -> None:
        """
        Have a list at hand that was received.
        """
        if isinstance(raw, FileOctets):
            with self._lock:
                self._hold(raw.digest, raw)

    def keep(self, raw: LargeOctets) -> None:
        """
        Keep a list that was received: on the disk when this returns.

        Raises:
            OSError: it cannot be.

        """
        if not isinstance(raw, ListFile) or not raw.place.temporary:
            return
        # Nobody waits at the lock for the disk.
        os.fsync(raw.fileno())
        if isinstance(raw.index, FileIndex):
            os.fsync(raw.index.number)
        with self._lock:
            place = raw.place
            if not place.temporary:
                return
            path = self._path(raw.digest, LIST)
            if place.index is not None:
                place.index.rename(path.with_suffix(INDEX))
                place.index = None
            place.path.rename(path)
            place.path, place.temporary = path, False
            self._hold(raw.digest, raw)
        flush(self._folder)
        self.tidy()

    def forget_index(self, raw: LargeOctets) -> None:
        """
        Let go of an index that turned out to be damaged.
        """
        raw.index = None
        if isinstance(raw, ListFile):
            path = raw.place.index or raw.place.path.with_suffix(INDEX)
            raw.place.index = None
            with contextlib.suppress(OSError):
                path.unlink()

    def forget(self, digest: str) -> None:
        """
        Let go of a list that turned out to be damaged, unless it proves a revocation.
        """
        with self._lock:
            self._open.pop(digest, None)
        proves = self._path(digest, PROOF).exists()
        for suffix in (LIST,) if proves else (LIST, INDEX):
            with contextlib.suppress(OSError):
                self._path(digest, suffix).unlink()

    def clear(self) -> None:
        """
        Let go of all lists that prove no revocation.
        """
        with self._lock:
            self._open.clear()
        for path, _ in self._files():
            if path.suffix == LIST or (path.suffix == INDEX and not path.with_suffix(PROOF).exists()):
                with contextlib.suppress(OSError):
                    path.unlink()

    def usage(self) -> tuple[int, int]:
        """
        How many lists there are that prove no revocation, and how many octets they have with their indexes.
        """
        files = [(path, state) for path, state in self._files() if path.suffix in (LIST, INDEX)]
        return sum(path.suffix == LIST for path, _ in files), sum(state.st_size for _, state in files)

    def tidy(self, now: Callable[[], float] = time.time) -> None:
        """
        Let go of what is too much, and of what somebody who was killed left behind.
        """
        kept = []
        for path, state in self._files():
            if path.name.startswith(NEW):
                if now() - state.st_mtime > _ABANDONED_S:
                    with contextlib.suppress(OSError):
                        path.unlink()
            elif path.suffix == LIST:
                index = path.with_suffix(INDEX)
                octets = state.st_size + (index.stat().st_size if index.exists() else 0)
                kept.append((state.st_mtime, path.stem, octets))
            elif path.suffix == INDEX and now() - state.st_mtime > _ABANDONED_S:
                self._forget_left_index(path.stem)
        too_much = sum(octets for _, _, octets in kept) - self._max_bytes
        for _, digest, octets in sorted(kept)[:-1]:  # never the last one used
            if too_much <= 0:
                break
            self.forget(digest)
            too_much -= octets

    # --- lists that prove a revocation --------------------------------------------------------------------------------

    def pin(self, raw: LargeOctets) -> None:
        """
        Keep a list for good, because it proves a revocation: on the disk when this returns.

        Raises:
            OSError: it cannot be.

        """
        path = self._path(raw.digest, PROOF)
        if path.exists():
            return
        if not (isinstance(raw, ListFile) and self._linked(raw, path)):
            # No file of ours, or one that is just being let go of.
            copy, number = self.new_file()
            try:
                for piece in raw.pieces():
                    write_all(number, piece)
                os.fsync(number)
                copy.rename(path)
            except UnreadableOctetsError as error:
                raise OSError(str(error)) from error
            finally:
                os.close(number)
                copy.unlink(missing_ok=True)
        flush(self._folder)

    def _linked(self, raw: ListFile, path: Path) -> bool:
        """
        Give a list another name; whether it could be, because somebody else may be renaming it at this moment.
        """
        os.fsync(raw.fileno())
        for source in (raw.place.path, self._path(raw.digest, LIST)):
            try:
                os.link(source, path)
            except FileNotFoundError:
                continue
            except FileExistsError:
                pass
            return True
        return False

    def unpin(self, digest: str) -> None:
        """
        A list proves nothing any more.
        """
        with contextlib.suppress(OSError):
            self._path(digest, PROOF).unlink()
        self._forget_left_index(digest)

    def proof(self, digest: str) -> FileOctets | None:
        """
        A list that proves a revocation, with its index where there is one.
        """
        with self._lock:
            found = self._open.get(digest)
        if found is None:
            found = self._opened(digest, None, PROOF)
            if found is not None:
                with self._lock:
                    self._hold(digest, found)
        return found

    def has_proof(self, digest: str) -> bool:
        """
        Whether a list is kept for good.
        """
        return self._path(digest, PROOF).exists()

    def _forget_left_index(self, digest: str) -> None:
        """
        Let go of an index whose list is gone.
        """
        if not any(self._path(digest, suffix).exists() for suffix in (LIST, PROOF)):
            with contextlib.suppress(OSError):
                self._path(digest, INDEX).unlink()

    # --- files --------------------------------------------------------------------------------------------------------

    def _path(self, digest: str, suffix: str) -> Path:
        return self._folder / f"{digest}{suffix}"

    def _hold(self, digest: str, found: FileOctets) -> None:
        self._open[digest] = found
        self._open.move_to_end(digest)
        while len(self._open) > _HELD:
            self._open.popitem(last=False)
        new = [name for name, one in self._open.items() if isinstance(one, ListFile) and one.place.temporary]
        for name in new[:-_HELD_NEW]:
            del self._open[name]

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        with os.scandir(self._folder) as entries:
            for entry in tuple(entries):
                with contextlib.suppress(OSError):
                    yield Path(entry.path), entry.stat(follow_symlinks=False)

    def _opened(self, digest: str, size: int | None, suffix: str) -> FileOctets | None:
        path = self._path(digest, suffix)
        found = read_only(path)
        if found is None:
            return None
        number, octets = found
        if size is not None and size != octets:
            os.close(number)
            return None
        opened = ListFile(number, Place(path, temporary=False), digest=digest, size=octets)
        opened.index = self._index_of(opened)
        return opened

    def _index_of(self, raw: LargeOctets) -> FileIndex | None:
        found = read_only(self._path(raw.digest, INDEX))
        if found is None:
            return None
        number, octets = found
        try:
            size = octets - SEAL.size
            root, mac, sealed = SEAL.unpack(read_at(number, max(size, 0), SEAL.size))
            if sealed == SEALED and hmac.compare_digest(mac, self.mac_of(raw, size, root)):
                return FileIndex(number, size, root)
        except (struct.error, UnreadableOctetsError):
            pass
        os.close(number)
        return None


def list_directory(state: Path) -> Path:
    """
    The folder of large lists below a state directory.
    """
    return state / "lists"
