"""
Blobs of the evidence ledger, read back from whichever form they are kept in, and compared with their digests.
"""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from hashlib import sha256

from cftpki_cache.documents import DocumentReader
from cftpki_cache.ledger_short import octets_of
from cftpki_cache.versions import DamagedVersionError, VersionReader, whole_version
from cftpki_ext.ports.evidence import LedgerFault

# Unpacked parts of lists that are kept while all are verified: three versions of the largest ordinary list, and the next.
_VERIFY_OCTETS = 256 * 1024 * 1024


def has_table(db: sqlite3.Connection, name: str) -> bool:
    """
    Whether somebody has written to the ledger since there is such a table.
    """
    return bool(db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)).fetchall())


class BlobReader:
    """
    Reads blobs. One transaction of the caller's holds what is read of one: it may go from one form to another meanwhile.

    Args:
        db: of the ledger.
        documents: gives documents that are repeated.

    """

    def __init__(self, db: sqlite3.Connection, documents: DocumentReader) -> None:
        self._db = db
        self._documents = documents

    def blob(self, digest: str) -> bytes | None:
        """
        The octets of a SHA-256 (hex), unverified; `None` where there are none.

        Raises:
            DamagedVersionError: it is a difference to what is damaged.

        """
        row = self._db.execute("SELECT raw FROM blob WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            return None
        try:
            if row[0]:
                return octets_of(row[0])
            # Half the memory of joining the parts.
            whole = io.BytesIO()
            for part in self._parts(digest, b"", VersionReader(self._db)):
                whole.write(part)
            return whole.getvalue()
        except DamagedVersionError:
            first = b"".join(self._pieces(digest))
            if not first:
                raise
            return first

    def changed(self) -> Iterator[LedgerFault]:
        """
        Blobs whose octets are others. Versions of a list come one after the other, so that each is unpacked once.
        """
        for name, raw in self._db.execute("SELECT digest, raw FROM blob WHERE length(raw) > 0"):
            if sha256(raw).hexdigest() != name:
                yield LedgerFault(seq=None, detail=f"blob {name} was changed")
        order = ""
        if has_table(self._db, "version"):
            order = " LEFT JOIN version ON version.digest = blob.digest"
        large = self._db.execute(
            f"SELECT blob.digest FROM blob{order} WHERE length(raw) = 0{' ORDER BY family, place' if order else ''}"  # noqa: S608 (constants)
        ).fetchall()
        versions = VersionReader(self._db, kept_octets=_VERIFY_OCTETS)
        for (name,) in large:
            found = sha256()
            try:
                for part in self._parts(name, b"", versions):
                    found.update(part)
            except DamagedVersionError as exc:
                if sha256(b"".join(self._pieces(name))).hexdigest() != name:
                    yield LedgerFault(seq=None, detail=str(exc))
                continue
            if found.hexdigest() != name:
                yield LedgerFault(seq=None, detail=f"blob {name} was changed")

    def _parts(self, digest: str, raw: bytes, versions: VersionReader) -> Iterator[bytes]:
        """
        The octets of a blob, in whichever form it is kept.
        """
        if raw:
            yield octets_of(raw)
            return
        if has_table(self._db, "packed_blob"):
            row = self._db.execute("SELECT stored FROM packed_blob WHERE digest = ?", (digest,)).fetchone()
            if row is not None:
                yield self._documents.document(octets_of(row[0]))
                return
        version = whole_version(self._db, digest) if has_table(self._db, "version") else None
        yield from self._pieces(digest) if version is None else versions.chunks(version)

    def _pieces(self, digest: str) -> Iterator[bytes]:
        if has_table(self._db, "piece"):
            for (raw,) in self._db.execute(
                "SELECT raw FROM piece WHERE digest = ? ORDER BY number", (digest,)
            ):
                yield octets_of(raw)
