"""
Large lists as files: received into new ones, named by their SHA-256 once they are to be kept, their indexes beside them.

Owns the folder `lists` below the state directory. A file is written by one process under a name of its own, and takes
its name in one step when it is whole and on the disk: `DIGEST.crl`, `DIGEST.idx`, and `DIGEST.proof` for a list that
proves a revocation, which nothing here ever deletes but who let go of the proof. The index of a list counts only with
the MAC of the state directory's key behind it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import stat
import struct
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

from cftpki_cache.disk import make_private_directory
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.octets import LargeOctets, UnreadableOctetsError
from cftpki_ext.support.file_octets import FileIndex, FileOctets, read_at, write_all

_log = logging.getLogger(__name__)

KEY = "lists.key"
_KEY_OCTETS = 32
_LIST, _INDEX, _PROOF, _NEW = ".crl", ".idx", ".proof", "new-"
# The root of the index, its MAC, and what says that both are there.
_SEAL = struct.Struct(">32s32s8s")
_SEALED = b"CFTLSEAL"
_PIECE_OCTETS = 1024 * 1024
# Lists that are held open, two descriptors each: those of a few dozen CAs.
_HELD = 32
# ... and of them those that nobody has judged yet: they are on the disk as long, and may be anything.
_HELD_NEW = 8
# What a process that was killed left half written goes when it is so old.
_ABANDONED_S = 3600.0
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_OTHERS_MAY_WRITE = 0o022


class ListFile(FileOctets):
    """
    A list in a file of the folder, kept or not yet.
    """

    def __init__(self, number: int, place: _Place, *, digest: str, size: int) -> None:
        super().__init__(number, digest=digest, size=size)
        self.place = place
        self._gone = weakref.finalize(self, _Place.abandon, place)


class _Place:
    """
    Where a file is, and whether it goes with the last who holds it.
    """

    __slots__ = ("index", "path", "temporary")

    def __init__(self, path: Path, *, temporary: bool) -> None:
        self.path = path
        self.temporary = temporary
        self.index: Path | None = None

    def abandon(self) -> None:
        for path in (self.path if self.temporary else None, self.index):
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink()


class Spooling:
    """
    A list on its way: written to a file, and to memory where the disk refuses.

    For one thread at a time; only `close` may be called beside another, whose work is then ended by it.
    """

    def __init__(self, files: ListFiles) -> None:
        self._files = files
        self._hash = hashlib.sha256()
        self._octets = 0
        self._path: Path | None = None
        self._working = threading.Lock()
        self._given_up = False
        try:
            self._path, self._number = files.new_file()
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
            known = self._files.open(digest, self._octets)
            if known is not None:
                self._given_up = True
                return known
            path, self._path = self._path, None
            number, self._number = self._number, -1
            if path is None:
                return FileOctets(number, digest=digest, size=self._octets)
            try:
                # What is handed on can only be read.
                reading = os.open(path, _OPEN)
            finally:
                os.close(number)
            return ListFile(reading, _Place(path, temporary=True), digest=digest, size=self._octets)

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

    def __init__(self, files: ListFiles, raw: LargeOctets) -> None:
        self._files = files
        self._raw = raw
        self._path, self.target = files.new_file()
        try:
            path, self.scratch = files.new_file()
        except OSError:
            os.close(self.target)
            self._path.unlink()
            raise
        path.unlink()
        self._done = False

    def finish(self, root: bytes) -> None:
        """
        It is whole: the list has an index from now on.

        Raises:
            OSError: it cannot be written.

        """
        size = os.fstat(self.target).st_size
        os.lseek(self.target, 0, os.SEEK_END)
        write_all(self.target, _SEAL.pack(root, self._files.mac_of(self._raw, size, root), _SEALED))
        self._raw.index = FileIndex(os.open(self._path, _OPEN), size, root)
        self._done = True
        place = self._raw.place if isinstance(self._raw, ListFile) else None
        if place is None:
            self._path.unlink()
        elif place.temporary:
            place.index = self._path
        else:
            os.fsync(self.target)
            self._path.rename(place.path.with_suffix(_INDEX))

    def close(self) -> None:
        """
        Close what is open, and give up what was not finished.
        """
        os.close(self.target)
        os.close(self.scratch)
        if not self._done:
            with contextlib.suppress(OSError):
                self._path.unlink()


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
        self._key = _key_of(state / KEY)
        with contextlib.suppress(OSError):
            self.tidy()

    def begin(self) -> Spooling:
        """
        A new list comes.
        """
        return Spooling(self)

    def begin_index(self, raw: LargeOctets) -> IndexWriting:
        """
        The index of a list is to be made.

        Raises:
            OSError: the disk has no place for it.

        """
        return IndexWriting(self, raw)

    def new_file(self) -> tuple[Path, int]:
        """
        A new file under a name that nobody has, mode 0600, and its descriptor.

        Raises:
            OSError: it cannot be made.

        """
        path = self._folder / f"{_NEW}{secrets.token_hex(16)}"
        return path, os.open(path, _NEW_FILE, 0o600)

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
        if found is None and (found := self._opened(digest, size, _LIST)) is not None:
            with self._lock:
                self._hold(digest, found)
            with contextlib.suppress(OSError):
                os.utime(self._path(digest, _LIST))  # used now
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
            path = self._path(raw.digest, _LIST)
            if place.index is not None:
                place.index.rename(path.with_suffix(_INDEX))
                place.index = None
            place.path.rename(path)
            place.path, place.temporary = path, False
            self._hold(raw.digest, raw)
        _flush(self._folder)
        self.tidy()

    def forget_index(self, raw: LargeOctets) -> None:
        """
        Let go of an index that turned out to be damaged.
        """
        raw.index = None
        if isinstance(raw, ListFile):
            path = raw.place.index or raw.place.path.with_suffix(_INDEX)
            raw.place.index = None
            with contextlib.suppress(OSError):
                path.unlink()

    def forget(self, digest: str) -> None:
        """
        Let go of a list that turned out to be damaged, unless it proves a revocation.
        """
        with self._lock:
            self._open.pop(digest, None)
        proves = self._path(digest, _PROOF).exists()
        for suffix in (_LIST,) if proves else (_LIST, _INDEX):
            with contextlib.suppress(OSError):
                self._path(digest, suffix).unlink()

    def clear(self) -> None:
        """
        Let go of all lists that prove no revocation.
        """
        with self._lock:
            self._open.clear()
        for path, _ in self._files():
            if path.suffix == _LIST or (path.suffix == _INDEX and not path.with_suffix(_PROOF).exists()):
                with contextlib.suppress(OSError):
                    path.unlink()

    def usage(self) -> tuple[int, int]:
        """
        How many lists there are that prove no revocation, and how many octets they have with their indexes.
        """
        files = [(path, state) for path, state in self._files() if path.suffix in (_LIST, _INDEX)]
        return sum(path.suffix == _LIST for path, _ in files), sum(state.st_size for _, state in files)

    def tidy(self, now: Callable[[], float] = time.time) -> None:
        """
        Let go of what is too much, and of what somebody who was killed left behind.
        """
        kept = []
        for path, state in self._files():
            if path.name.startswith(_NEW):
                if now() - state.st_mtime > _ABANDONED_S:
                    with contextlib.suppress(OSError):
                        path.unlink()
            elif path.suffix == _LIST:
                index = path.with_suffix(_INDEX)
                octets = state.st_size + (index.stat().st_size if index.exists() else 0)
                kept.append((state.st_mtime, path.stem, octets))
            elif path.suffix == _INDEX and now() - state.st_mtime > _ABANDONED_S:
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
        path = self._path(raw.digest, _PROOF)
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
        _flush(self._folder)

    def _linked(self, raw: ListFile, path: Path) -> bool:
        """
        Give a list another name; whether it could be, because somebody else may be renaming it at this moment.
        """
        os.fsync(raw.fileno())
        for source in (raw.place.path, self._path(raw.digest, _LIST)):
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
            self._path(digest, _PROOF).unlink()
        self._forget_left_index(digest)

    def proof(self, digest: str) -> FileOctets | None:
        """
        A list that proves a revocation, with its index where there is one.
        """
        with self._lock:
            found = self._open.get(digest)
        if found is None:
            found = self._opened(digest, None, _PROOF)
            if found is not None:
                with self._lock:
                    self._hold(digest, found)
        return found

    def has_proof(self, digest: str) -> bool:
        """
        Whether a list is kept for good.
        """
        return self._path(digest, _PROOF).exists()

    def _forget_left_index(self, digest: str) -> None:
        """
        Let go of an index whose list is gone.
        """
        if not any(self._path(digest, suffix).exists() for suffix in (_LIST, _PROOF)):
            with contextlib.suppress(OSError):
                self._path(digest, _INDEX).unlink()

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
        found = _read_only(path)
        if found is None:
            return None
        number, octets = found
        if size is not None and size != octets:
            os.close(number)
            return None
        opened = ListFile(number, _Place(path, temporary=False), digest=digest, size=octets)
        opened.index = self._index_of(opened)
        return opened

    def _index_of(self, raw: LargeOctets) -> FileIndex | None:
        found = _read_only(self._path(raw.digest, _INDEX))
        if found is None:
            return None
        number, octets = found
        try:
            size = octets - _SEAL.size
            root, mac, sealed = _SEAL.unpack(read_at(number, max(size, 0), _SEAL.size))
            if sealed == _SEALED and hmac.compare_digest(mac, self.mac_of(raw, size, root)):
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


def _read_only(path: Path) -> tuple[int, int] | None:
    """
    A descriptor of a file that is ours alone, and its size.
    """
    try:
        number = os.open(path, _OPEN)
    except OSError:
        return None
    state = os.fstat(number)
    if stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & _OTHERS_MAY_WRITE:
        return number, state.st_size
    os.close(number)
    return None


def _flush(path: Path) -> None:
    """
    Have a file, or what a folder says of its files, on the disk.
    """
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _key_of(path: Path) -> bytes:
    """
    The key that indexes are vouched for with, made where there is none. Of another length or open to others it is made anew.
    """
    for _ in range(3):
        found = _read_only(path)
        if found is not None:
            number, size = found
            try:
                key = read_at(number, 0, _KEY_OCTETS + 1)
                if size == len(key) == _KEY_OCTETS and not os.fstat(number).st_mode & 0o077:
                    return key
            finally:
                os.close(number)
            path.unlink(missing_ok=True)
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        number = os.open(fresh, _NEW_FILE, 0o600)
        try:
            os.write(number, secrets.token_bytes(_KEY_OCTETS))
            os.fsync(number)
        finally:
            os.close(number)
        try:
            # Where another process was first, its key counts.
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            fresh.unlink()
    msg = f"{path} is not a key of ours alone: remove it"
    raise StoreError(msg)
