"""
Evidence written out before it is let go, and held beyond its time: what commands do to the ledgers of a state directory.

Owns the layout of an archive: a folder for each copy, called by its first and its last record, each laid out as a state
directory, so that every command reads it.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cftpki_cache import ledger_holds
from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.ledger_copies import back_up, end_of, not_joined, start_of
from cftpki_cache.ledger_holds import Hold
from cftpki_cache.ledger_schema import DATABASE
from cftpki_cache.sqlite import connect, transaction
from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.ids import new_id
from cftpki_ext.core.ledger_notes import Hold as HoldNote
from cftpki_ext.core.ledger_notes import HoldAct
from cftpki_ext.core.settings import ServiceSettings
from cftpki_ext.core.values import dataclass
from cftpki_ext.ports.evidence import EntryKind, EvidenceEntry
from cftpki_ext.state_directory import evidence_directory

# The hold that an archive lays: what it does not have yet.
ARCHIVE = "archive"
_COPY = re.compile(r"(\d{12})-(\d{12})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """
    One copy in an archive: its folder, and the newest record of it.

    `before` is the copy before it; `apart` says why records are missing between the two, or between the archive and the ledger.
    """

    folder: Path
    last: int
    hash: str
    before: Path | None
    apart: str | None


def archive_ledger(state: Path, archive: Path, progress: Callable[[int, int], None]) -> Archived:
    """
    Copy the evidence of a state directory into a new folder of an archive.

    Args:
        state: the state directory.
        archive: made with mode 0700 where it does not exist.
        progress: told how many pages were copied, of how many.

    Returns:
        The copy. Whether its chain is whole is *not* looked at.

    Raises:
        InputError: the archive cannot be written to by this user, or has these records already.
        StoreError: there is no evidence, or it cannot be read or copied.

    """
    ledger = evidence_directory(ServiceSettings(state=state))
    partial = archive / f".partial-{secrets.token_hex(8)}"
    try:
        archive.mkdir(mode=0o700, parents=True, exist_ok=True)
        there = sorted(one for one in archive.iterdir() if _COPY.fullmatch(one.name))
        back_up(ledger, evidence_directory(ServiceSettings(state=partial)), progress)
        copy = evidence_directory(ServiceSettings(state=partial))
        last, digest = end_of(copy)
        folder = archive / f"{start_of(copy) + 1:012}-{last:012}"
        if folder.exists():
            msg = f"{printable(str(folder))} is there already: nothing was kept since"
            raise InputError(msg)
        partial.rename(folder)
    except OSError as exc:
        msg = f"archive {printable(str(archive))}: {(exc.strerror or str(exc)).lower()}"
        raise InputError(msg) from exc
    finally:
        # It has its name by now, or is of no use. One that a kill left has a name that nobody reads.
        shutil.rmtree(partial, ignore_errors=True)
    before = there[-1] if there else None
    apart = (
        None
        if before is None
        else not_joined(
            evidence_directory(ServiceSettings(state=before)),
            evidence_directory(ServiceSettings(state=folder)),
        )
    )
    return Archived(folder=folder, last=last, hash=digest, before=before, apart=apart)


def hold_after(state: Path, copy: Path) -> None:
    """
    Have nothing let go by age that a copy in an archive does not have.

    Args:
        state: the state directory.
        copy: a copy of its evidence, laid out as a state directory.

    Raises:
        StoreError: the ledger cannot be written.

    """
    copied = dict(_ledgers(copy))
    reason = f"not in the archive yet: {copy}"
    for name, folder in _ledgers(state):
        first = end_of(copied[name])[0] + 1 if name in copied else 1
        with _writing(folder) as db:
            ledger_holds.lay(db, ARCHIVE, since=datetime.now(UTC), first=first, reason=reason)


def lay_hold(state: Path, name: str, *, since: datetime, first: Mapping[str, int], reason: str) -> None:
    """
    Hold everything from a time, or a record, on.

    Args:
        state: the state directory.
        name: of the hold.
        since: when what is held was kept.
        first: of each ledger the first record that is held, where one is known: by `evidence` or the folder's name in it.
        reason: for whoever asks later.

    Raises:
        StoreError: there is no evidence, or it cannot be written.

    """
    for ledger, folder in _ledgers(state):
        with _writing(folder) as db:
            ledger_holds.lay(db, name, since=since, first=first.get(ledger), reason=reason)


def record_hold(
    state: Path,
    act: HoldAct,
    name: str,
    *,
    by: str,
    reason: str,
    since: datetime | None = None,
    partner: str = "",
) -> None:
    """
    Keep in the chain of records that a hold was laid or released.

    Args:
        state: the state directory.
        act: which of the two.
        name: of the hold.
        by: who did it.
        reason: why.
        since: when what is held was kept.
        partner: whose first record it begins with, as given.

    Raises:
        StoreError: it could not be kept.

    """
    now = datetime.now(UTC)
    note = HoldNote(
        id=new_id(int(now.timestamp() * 1000)),
        at=now,
        act=act,
        name=name,
        by=by,
        reason=reason,
        since=since,
        partner=partner,
    )
    entry = EvidenceEntry(
        id=note.id, kept_at=note.at, document=note.document(), blobs={}, kind=EntryKind.NOTE
    )
    with contextlib.closing(EvidenceLedger(evidence_directory(ServiceSettings(state=state)))) as ledger:
        ledger.append((entry,))


def lift_hold(state: Path, name: str) -> bool:
    """
    Let what a hold held go with its time again; whether there was one.

    Raises:
        StoreError: there is no evidence, or it cannot be written.

    """
    lifted = False
    for _, folder in _ledgers(state):
        with _writing(folder) as db:
            lifted = ledger_holds.lift(db, name) or lifted
    return lifted


def holds_of(state: Path) -> tuple[tuple[str, Hold], ...]:
    """
    All holds, each with the ledger that it is of.

    Raises:
        StoreError: there is no evidence, or it cannot be read.

    """
    found: list[tuple[str, Hold]] = []
    for ledger, folder in _ledgers(state):
        try:
            with contextlib.closing(connect(folder / DATABASE, read_only=True)) as db:
                found += ((ledger, one) for one in ledger_holds.holds(db))
        except (sqlite3.Error, ValueError, OverflowError, OSError) as exc:
            msg = f"evidence ledger in {folder} cannot be read: {printable(str(exc))}"
            raise StoreError(msg) from exc
    return tuple(found)


def _ledgers(state: Path) -> Iterator[tuple[str, Path]]:
    """
    The ledgers of a state directory: the one in `evidence`, and those in folders of it.
    """
    folder = evidence_directory(ServiceSettings(state=state))
    if not (folder / DATABASE).exists():
        msg = f"no evidence in {folder}: nothing was kept yet, or the state directory is another"
        raise StoreError(msg)
    yield folder.name, folder
    for one in sorted(folder.iterdir()):
        if (one / DATABASE).is_file():
            yield one.name, one


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[sqlite3.Connection]:
    try:
        with contextlib.closing(connect(folder / DATABASE)) as db, transaction(db):
            yield db
    except sqlite3.Error as exc:
        msg = f"evidence ledger in {folder} cannot be written: {printable(str(exc))}"
        raise StoreError(msg) from exc
