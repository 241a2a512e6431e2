"""
Large blobs kept as differences to older ones: the tables `version` and `chunk`, read back octet by octet.

A version is a row and its chunks, each packed by itself or against chunks of the version's base. Bases follow bases as
the lowest digit of a version's place, in base four, counts down (`base_places`), so that of 64 versions each is at most
nine steps from its key version, and most are a difference to the one just before.

Nothing that is stored is believed: steps, sizes and the work of putting together are bounded, so that a ledger that was
copied from elsewhere ends in an error and not in a full memory. Whether the octets are the right ones is the digest's to
say, and the caller's.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterator

from cftpki_cache.cutting import MAX_UNDER
from cftpki_cache.ledger_short import octets_of
from cftpki_cache.packing import MAX_CHUNK, DamagedChunkError, unpack
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.values import dataclass

# Versions from one key version to the next: 25 MB of a list of a million entries each, and 10 MB for the 63 between.
GROUP = 64
_RADIX = 4
# The longest way to a key version, with room for groups that were begun in the middle.
MAX_STEPS = 16
# Chunks of a version, by 20 bits of a chunk's place in its table; the largest blob.
_CHUNK_BITS = 20
_NUMBER_BITS = 42
MAX_BLOB = 1024 * MAX_CHUNK
# Octets that are unpacked at most for each octet of a blob: each step unpacks one, and a chunk may lie over a border.
_WORK = 2 * MAX_STEPS
# Unpacked chunks that are kept while a version is put together: neighbours lie over the same ones.
_KEPT_OCTETS = 32 * 1024 * 1024
VERSIONS_SCHEMA = """
CREATE TABLE IF NOT EXISTS version (
  number INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, head BLOB NOT NULL,
  family INTEGER NOT NULL, place INTEGER NOT NULL, base INTEGER, whole INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS version_base ON version (base);
CREATE INDEX IF NOT EXISTS version_family ON version (family, place);
CREATE INDEX IF NOT EXISTS version_head ON version (head);
CREATE TABLE IF NOT EXISTS chunk (
  place INTEGER PRIMARY KEY, size INTEGER NOT NULL, mark BLOB NOT NULL, first INTEGER NOT NULL, under INTEGER NOT NULL,
  packed BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS waiting (digest TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
"""


class DamagedVersionError(StoreError):
    """
    A version cannot be put together. `damaged` is the digest of the one whose chunk is at fault.
    """

    def __init__(self, digest: str, damaged: str, why: str) -> None:
        at = "" if digest == damaged else f"; it is a difference to {damaged}"
        super().__init__(f"blob {digest} cannot be put together: {why}{at}")
        self.damaged = damaged


@dataclass(frozen=True, slots=True)
class Version:
    """
    One row of `version`.
    """

    number: int
    digest: str
    size: int
    base: int | None


def base_places(place: int) -> tuple[int, ...]:
    """
    The places that a version may be a difference to, the nearest first; none for a key version.

    Args:
        place: counted from 0 within a family.

    Returns:
        Places of the same group.

    """
    rest, group = place % GROUP, place - place % GROUP
    places = []
    while rest:
        unit = 1
        while rest % (unit * _RADIX) == 0:
            unit *= _RADIX
        rest -= unit
        places.append(group + rest)
    return tuple(places)


def in_bounds(number: int) -> bool:
    """
    Whether the chunks of a version of this number have a place in the table.
    """
    return 0 < number < 1 << _NUMBER_BITS


def chunk_place(version: int, number: int) -> int:
    """
    The place of a version's chunk in the table.
    """
    return version << _CHUNK_BITS | number


def whole_version(db: sqlite3.Connection, digest: str) -> Version | None:
    """
    The finished version of a digest, if there is one.
    """
    row = db.execute(
        "SELECT number, digest, size, base FROM version WHERE digest = ? AND whole = 1", (digest,)
    ).fetchone()
    return None if row is None else Version(*row)


class VersionReader:
    """
    Puts versions together. One transaction of the caller's holds what is read of one version.

    Args:
        db: of the ledger.
        kept_octets: unpacked chunks that are kept for the next ones.

    """

    def __init__(self, db: sqlite3.Connection, *, kept_octets: int = _KEPT_OCTETS) -> None:
        self._db = db
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._octets = 0
        self._most = kept_octets
        self._work = 0

    def chunks(self, version: Version) -> Iterator[bytes]:
        """
        The octets of a version, chunk by chunk.

        Args:
            version: which.

        Yields:
            Its chunks. That they are all is sure only once there are no more.

        Raises:
            DamagedVersionError: it cannot be put together, or would take more than a version may.

        """
        if not 0 <= version.size <= MAX_BLOB:
            raise DamagedVersionError(version.digest, version.digest, f"{version.size} octets are too many")
        line = self._line(version)
        self._work = _WORK * version.size + MAX_STEPS * MAX_UNDER * MAX_CHUNK
        size = number = 0
        while size < version.size:
            chunk = self._chunk(line, 0, number)
            size += len(chunk)
            number += 1
            if size > version.size:
                raise DamagedVersionError(version.digest, version.digest, "it is longer than it should be")
            yield chunk

    def read(self, version: Version, numbers: range) -> bytes:
        """
        Some chunks of a version.

        Raises:
            DamagedVersionError: see `chunks`.

        """
        line = self._line(version)
        self._work = MAX_STEPS * MAX_UNDER * MAX_CHUNK * max(1, len(numbers))
        return b"".join(self._chunk(line, 0, number) for number in numbers)

    def _line(self, version: Version) -> list[Version]:
        """
        The version, its base, the base's base, to the key version.
        """
        line = [version]
        while line[-1].base is not None:
            if len(line) > MAX_STEPS:
                raise DamagedVersionError(
                    version.digest, version.digest, f"more than {MAX_STEPS} differences"
                )
            row = self._db.execute(
                "SELECT number, digest, size, base FROM version WHERE number = ? AND whole = 1",
                (line[-1].base,),
            ).fetchone()
            if row is None:
                raise DamagedVersionError(
                    version.digest, line[-1].digest, "what it is a difference to is gone"
                )
            line.append(Version(*row))
        return line

    def _chunk(self, line: list[Version], step: int, number: int) -> bytes:
        version = line[step]
        if not in_bounds(version.number):
            raise DamagedVersionError(line[0].digest, version.digest, "its number is out of bounds")
        place = chunk_place(version.number, number)
        kept = self._kept.get(place)
        if kept is not None:
            self._kept.move_to_end(place)
            return kept
        row = None
        if 0 <= number < 1 << _CHUNK_BITS:
            row = self._db.execute(
                "SELECT size, first, under, packed FROM chunk WHERE place = ?", (place,)
            ).fetchone()
        if row is None:
            raise DamagedVersionError(line[0].digest, version.digest, f"part {number} is gone")
        size, first, under, packed = row
        self._work -= min(max(size, 1), MAX_CHUNK)
        if not 0 <= under <= MAX_UNDER or (under and step + 1 >= len(line)) or self._work < 0:
            raise DamagedVersionError(line[0].digest, version.digest, f"part {number} is out of bounds")
        base = b"".join(self._chunk(line, step + 1, first + one) for one in range(under))
        if not packed and under and len(base) == size:
            chunk = base  # the very same
        else:
            try:
                chunk = unpack(octets_of(packed), size, base)
            except DamagedChunkError as exc:
                raise DamagedVersionError(line[0].digest, version.digest, f"part {number}: {exc}") from exc
        self._kept[place] = chunk
        self._octets += len(chunk)
        while self._octets > self._most and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._octets -= len(old)
        return chunk


def drop_unneeded(db: sqlite3.Connection) -> int:
    """
    Let go of versions that neither a record nor another version needs. Inside a transaction.

    Args:
        db: of the ledger.

    Returns:
        How many went; what they alone needed goes with the next call.

    """
    unneeded = db.execute(
        "SELECT number FROM version WHERE NOT EXISTS (SELECT 1 FROM blob WHERE digest = version.digest)"
        " AND NOT EXISTS (SELECT 1 FROM version AS later WHERE later.base = version.number)"
    ).fetchall()
    for (number,) in unneeded:
        drop_version(db, number)
    return len(unneeded)


def drop_version(db: sqlite3.Connection, number: int) -> None:
    """
    Delete a version and its chunks. Inside a transaction.
    """
    if in_bounds(number):
        db.execute(
            "DELETE FROM chunk WHERE place BETWEEN ? AND ?",
            (chunk_place(number, 0), chunk_place(number + 1, 0) - 1),
        )
    db.execute("DELETE FROM version WHERE number = ?", (number,))
