"""
The memory of revocations: once a partner's certificate was seen revoked, the signed proof is kept for good.

Survives restart, full caches and soft settings; nothing here expires or is evicted. Only the statement is
kept, never a conclusion: it is judged again each time it is recalled.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cftpki_cache.ledger_head import identity_of
from cftpki_cache.lists import ListFiles
from cftpki_cache.sqlite import abandon, connect, create, transaction
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.memo import Memo
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Origin, SourceKind

DATABASE = "revocations.sqlite3"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS proof (
  certificate TEXT NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL, url TEXT, received_at TEXT NOT NULL,
  PRIMARY KEY (certificate, digest)) STRICT;
CREATE INDEX IF NOT EXISTS proof_digest ON proof (digest);
CREATE TABLE IF NOT EXISTS blob (digest TEXT PRIMARY KEY, raw BLOB NOT NULL) STRICT;
"""
# One proof is enough; a few more are kept because a hold is lifted by what is newer than it. A new one takes the
# place of the oldest: the checker sends none any more once a revocation is proven for good.
_PROOFS_PER_CERTIFICATE = 4
# Proofs that were read are held, verified: one of the largest CRLs (a proof is a whole list), or many usual ones. A
# revoked partner that tries again and again costs no reading and no hashing.
_RECALLED_OCTETS = 80 * 1024 * 1024
_RECALLED_FIXED = 512


class RevocationReader:
    """
    Reads the proofs of revocation that another process keeps. Writes nothing. Safe for several threads.
    """

    def __init__(self, folder: Path, lists: ListFiles | None = None) -> None:
        """
        Open the memory for reading.

        Args:
            folder: where it is.
            lists: where proofs are that are large lists. Without it they cannot be recalled.

        Raises:
            StoreError: there is none, or it cannot be opened by this user.

        """
        self._reading = threading.Lock()
        self._recalled: Memo[str, bytes] = Memo(_RECALLED_OCTETS)
        self._lists = lists
        try:
            # Whoever reads has a connection of its own, and never waits for one who writes.
            self._reader = connect(folder / DATABASE, read_only=True)
        except sqlite3.Error as exc:
            msg = f"memory of revocations in {folder}: {exc}"
            raise StoreError(msg) from exc

    def recall(self, certificate: str) -> tuple[Statement, ...]:
        """
        The proofs kept for a certificate.

        Args:
            certificate: its key, see `cftpki_ext.revocation.cache_key.certificate_key`.

        Returns:
            Statements with origin `KNOWN_REVOKED`, oldest first, about no certificate of a path in particular.

        Raises:
            StoreError: the database cannot be read: then revocations may be forgotten, and the caller refuses.

        """
        rows = self._rows(
            "SELECT kind, url, received_at, digest FROM proof WHERE certificate = ? ORDER BY received_at",
            certificate,
        )
        return tuple(
            _statement(kind, url, received_at, self._proof(digest), digest)
            for kind, url, received_at, digest in rows
        )

    def _proof(self, digest: str) -> bytes | LargeOctets:
        """
        The bytes of a proof: the same object each time, so that nobody reads, hashes or parses them again.
        """
        raw = self._recalled.get(digest)
        if raw is None:
            rows = self._rows("SELECT raw FROM blob WHERE digest = ?", digest)
            if not rows and self._lists is not None and (large := self._lists.proof(digest)) is not None:
                # What it says is verified by its index, and it itself before it has one.
                return large
            raw = bytes(rows[0][0]) if rows else b""
            if sha256(raw).hexdigest() != digest:
                msg = f"memory of revocations cannot be read: proof {digest[:16]} is damaged"
                raise StoreError(msg)
            self._recalled.keep(digest, raw, len(raw) + _RECALLED_FIXED)
        return raw

    def holds(self, certificate: str, digest: str) -> bool:
        """
        Whether one proof is kept, with its bytes.

        Args:
            certificate: its key.
            digest: SHA-256 (hex) of the statement.

        Returns:
            Whether it is. The bytes are not looked at: `recall` does.

        Raises:
            StoreError: see `recall`.

        """
        rows = self._rows(
            "SELECT EXISTS (SELECT 1 FROM blob WHERE digest = ?2) FROM proof WHERE certificate = ?1 AND digest = ?2",
            certificate,
            digest,
        )
        if not rows:
            return False
        return bool(rows[0][0]) or (self._lists is not None and self._lists.has_proof(digest))

    def state(self) -> int:
        """
        A number that is another one after any process has changed the memory (SQLite's `data_version`).

        Raises:
            StoreError: see `recall`.

        """
        ((version,),) = self._rows("PRAGMA data_version")
        return int(version)

    def latest(self) -> datetime | None:
        """
        When the newest proof was received; `None` where there is none.

        Raises:
            StoreError: see `recall`.

        """
        ((newest,),) = self._rows("SELECT max(received_at) FROM proof")
        try:
            return None if newest is None else datetime.fromisoformat(newest)
        except ValueError as exc:
            msg = "memory of revocations cannot be read: a time is damaged"
            raise StoreError(msg) from exc

    def close(self) -> None:
        """
        Close the database.
        """
        with self._reading:
            self._reader.close()

    def _rows(self, query: str, *values: str) -> list[Any]:
        try:
            with self._reading:
                return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as exc:
            msg = f"memory of revocations cannot be read: {exc}"
            raise StoreError(msg) from exc


class RevocationMemory(RevocationReader):
    """
    Proofs of revocation by certificate. One instance per process; processes may share the folder.

    Safe for several threads. What `remember` returned for is on the disk (SQLite, synchronous=FULL).
    """

    def __init__(self, folder: Path, lists: ListFiles | None = None) -> None:
        """
        Open or create the memory.

        Args:
            folder: made with mode 0700 where it does not exist.
            lists: where large lists are kept that prove a revocation; without it they stand in the database.

        Raises:
            StoreError: the folder or database cannot be used.

        """
        self._writing = threading.Lock()
        self._path = folder / DATABASE
        try:
            self._db = create(self._path, _SCHEMA, synchronous="FULL")
            self._file = identity_of(self._path)
        except (OSError, sqlite3.Error) as exc:
            msg = f"memory of revocations in {folder}: {exc}"
            raise StoreError(msg) from exc
        try:
            super().__init__(folder, lists)
        except StoreError:
            self._db.close()
            raise

    def remember(self, certificate: str, statement: Statement) -> None:
        """
        Keep a statement that proved the certificate revoked (or on hold). Keeping it again changes nothing.

        The oldest of too many proofs about one certificate goes; those about others are never touched.

        Args:
            certificate: its key.
            statement: the statement, with its raw bytes.

        Raises:
            StoreError: it could not be written.

        """
        if statement.raw is None:
            return
        digest = digest_of(statement.raw)
        raw = self._pinned(statement.raw) if isinstance(statement.raw, LargeOctets) else statement.raw
        received_at = statement.received_at.astimezone(UTC).isoformat()
        try:
            self._follow()
            with self._writing, transaction(self._db):
                if raw is not None:
                    self._db.execute("INSERT OR IGNORE INTO blob VALUES (?, ?)", (digest, raw))
                self._db.execute(
                    "INSERT OR IGNORE INTO proof VALUES (?, ?, ?, ?, ?)",
                    (certificate, digest, statement.kind.value, statement.url, received_at),
                )
                gone = self._db.execute(
                    "DELETE FROM proof WHERE certificate = ?1 AND digest <> ?2 AND digest NOT IN"
                    " (SELECT digest FROM proof WHERE certificate = ?1 ORDER BY received_at DESC, digest LIMIT ?3)"
                    " RETURNING digest",
                    (certificate, digest, _PROOFS_PER_CERTIFICATE),
                ).fetchall()
                self._db.executemany(
                    "DELETE FROM blob WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM proof WHERE digest = ?1)",
                    gone,
                )
                let_go = [
                    one
                    for (one,) in gone
                    if not self._db.execute("SELECT 1 FROM proof WHERE digest = ?", (one,)).fetchall()
                ]
        except (OSError, sqlite3.Error) as exc:
            msg = f"proof of revocation could not be kept: {exc}"
            raise StoreError(msg) from exc
        if self._lists is not None:
            for one in let_go:
                self._lists.unpin(one)

    def recall(self, certificate: str) -> tuple[Statement, ...]:
        """
        See `RevocationReader`; where the file was taken away, what it knew is put into the one that is there now.
        """
        # What was opened still knows everything that it knew.
        with contextlib.suppress(OSError, sqlite3.Error):
            self._follow()
        return super().recall(certificate)

    def _follow(self) -> None:
        """
        Go on with the file that is there now, where somebody has put another in its place or taken it away.

        Raises:
            OSError: it cannot be used.
            sqlite3.Error: it cannot be used.

        """
        if identity_of(self._path) == self._file:
            return
        with self._writing:
            if identity_of(self._path) == self._file:
                return
            fresh = create(self._path, _SCHEMA, synchronous="FULL")
            try:
                with transaction(fresh):
                    blobs = self._db.execute("SELECT digest, raw FROM blob")
                    fresh.executemany("INSERT OR IGNORE INTO blob VALUES (?, ?)", blobs)
                    proofs = self._db.execute("SELECT certificate, digest, kind, url, received_at FROM proof")
                    fresh.executemany("INSERT OR IGNORE INTO proof VALUES (?, ?, ?, ?, ?)", proofs)
                reader = connect(self._path, read_only=True)
            except (OSError, sqlite3.Error):
                fresh.close()
                raise
            old, self._db = self._db, fresh
            with self._reading:
                before, self._reader = self._reader, reader
            abandon(old)
            abandon(before)
            self._file = identity_of(self._path)

    def _pinned(self, raw: LargeOctets) -> bytes | None:
        """
        Have a large list kept as a file before the database names it; its octets where there is no place for files.
        """
        if self._lists is None:
            return raw.whole()
        try:
            self._lists.pin(raw)
        except OSError as exc:
            msg = f"proof of revocation could not be kept: {exc}"
            raise StoreError(msg) from exc
        return None

    def close(self) -> None:
        """
        Close the database.
        """
        super().close()
        with self._writing:
            self._db.close()


def _statement(
    kind: str, url: str | None, received_at: str, raw: bytes | LargeOctets, digest: str
) -> Statement:
    """
    One row as a statement. A damaged one is no less bad than a file that cannot be read: something was known.
    """
    try:
        return Statement(
            kind=SourceKind(kind),
            origin=Origin.KNOWN_REVOKED,
            url=url,
            received_at=datetime.fromisoformat(received_at),
            raw=raw,
        )
    except ValueError as exc:
        msg = f"memory of revocations cannot be read: proof {digest[:16]} is damaged"
        raise StoreError(msg) from exc
