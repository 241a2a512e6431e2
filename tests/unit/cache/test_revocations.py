"""
The memory of revocations: kept for good, shared by processes, refusing where it cannot be read.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from cftpki_cache.revocations import RevocationMemory, RevocationReader
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Origin, SourceKind
from tests.support.pace import LATE_S

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
FILE = "revocations.sqlite3"


def proof(raw: bytes = b"a signed revocation", minutes: int = 0) -> Statement:
    return Statement(
        kind=SourceKind.OCSP,
        origin=Origin.NETWORK,
        received_at=NOW + timedelta(minutes=minutes),
        depth=0,
        url="http://ca/ocsp",
        raw=raw,
    )


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[RevocationMemory]:
    made = RevocationMemory(tmp_path)
    yield made
    made.close()


def raws(memory: RevocationMemory, certificate: str = "c") -> list[bytes | LargeOctets | None]:
    return [statement.raw for statement in memory.recall(certificate)]


def test_proof_is_recalled_as_known_with_the_time_it_was_received(memory: RevocationMemory) -> None:
    memory.remember("c", proof())
    (known,) = memory.recall("c")
    assert (Origin.KNOWN_REVOKED, NOW, None, "http://ca/ocsp") == (
        known.origin,
        known.received_at,
        known.depth,
        known.url,
    )
    assert () == memory.recall("another")


def test_proof_survives_a_restart_and_is_seen_by_a_process_that_was_there_before(tmp_path: Path) -> None:
    first, second = RevocationMemory(tmp_path), RevocationMemory(tmp_path)
    assert [] == raws(second)
    first.remember("c", proof())
    assert [b"a signed revocation"] == raws(second)
    first.close()
    second.close()
    again = RevocationMemory(tmp_path)
    assert [b"a signed revocation"] == raws(again)
    again.close()


_REMEMBER = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from cftpki_cache.revocations import RevocationMemory
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.core.statement import Statement
memory = RevocationMemory(Path(sys.argv[1]))
memory.remember("c", Statement(kind=SourceKind.CRL, origin=Origin.NETWORK, received_at=datetime.now(UTC), raw=b"list"))
os.kill(os.getpid(), 9)
"""


def test_proof_that_a_killed_process_has_kept_is_there(tmp_path: Path) -> None:
    here = RevocationMemory(tmp_path)
    ended = subprocess.run(
        [sys.executable, "-c", _REMEMBER, tmp_path], cwd=Path(__file__).parents[3], check=False, timeout=60
    )
    assert -9 == ended.returncode
    assert [b"list"] == raws(here)
    here.close()


def test_proof_kept_twice_is_one(memory: RevocationMemory) -> None:
    memory.remember("c", proof())
    memory.remember("c", proof(minutes=5))
    assert 1 == len(memory.recall("c"))


def test_list_that_proves_for_two_certificates_is_kept_once_and_for_both(memory: RevocationMemory) -> None:
    memory.remember("c", proof())
    memory.remember("d", proof())
    assert raws(memory) == raws(memory, "d") == [b"a signed revocation"]


def test_newest_proofs_stay_and_those_of_others_are_not_touched(
    memory: RevocationMemory, tmp_path: Path
) -> None:
    memory.remember("d", proof(b"0"))
    for minute in range(7):
        memory.remember("c", proof(b"%d" % minute, minute))
    assert [b"3", b"4", b"5", b"6"] == raws(memory)
    assert [b"0"] == raws(memory, "d")
    with sqlite3.connect(tmp_path / FILE) as database:
        assert (5,) == database.execute("SELECT count(*) FROM blob").fetchone()
    database.close()


def test_proof_that_arrives_late_is_kept_whatever_its_time(memory: RevocationMemory) -> None:
    for minute in range(4):
        memory.remember("c", proof(b"%d" % minute, minute))
    memory.remember("c", proof(b"late", -60))
    assert b"late" in raws(memory)


def test_files_are_ours_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    RevocationMemory(folder).close()
    assert (0o700, 0o600) == (folder.stat().st_mode & 0o777, (folder / FILE).stat().st_mode & 0o777)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE blob SET raw = x'00'",
        "DELETE FROM blob",
        "UPDATE proof SET kind = 'rumour'",
        "UPDATE proof SET received_at = 'yesterday'",
        "DROP TABLE blob",
    ],
)
def test_damaged_memory_is_an_error_and_no_good_news(
    memory: RevocationMemory, tmp_path: Path, damage: str
) -> None:
    memory.remember("c", proof())
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute(damage)
    database.close()
    with pytest.raises(StoreError, match="cannot be read"):
        memory.recall("c")


def test_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(os.urandom(4096))
    with pytest.raises(StoreError):
        RevocationMemory(tmp_path)


def test_reader_sees_what_is_kept_and_what_is_not(memory: RevocationMemory, tmp_path: Path) -> None:
    reader = RevocationReader(tmp_path)
    digest = sha256(b"a signed revocation").hexdigest()
    assert (False, None) == (reader.holds("c", digest), reader.latest())
    memory.remember("c", proof())
    memory.remember("d", proof(b"another", minutes=-5))
    assert (True, False, False) == (
        reader.holds("c", digest),
        reader.holds("d", digest),
        reader.holds("c", "0" * 64),
    )
    assert NOW == reader.latest()
    reader.close()
    with pytest.raises(StoreError):
        reader.holds("c", digest)


def test_proof_without_its_bytes_is_not_held_and_is_whole_again_when_kept_again(
    memory: RevocationMemory, tmp_path: Path
) -> None:
    memory.remember("c", proof())
    with contextlib.closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as database:
        database.execute("DELETE FROM blob")
    assert not memory.holds("c", sha256(b"a signed revocation").hexdigest())
    memory.remember("c", proof())
    assert [b"a signed revocation"] == raws(memory)


def test_reader_of_nothing_is_an_error_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        RevocationReader(tmp_path)
    assert [] == list(tmp_path.iterdir())


def test_time_that_is_damaged_is_an_error(memory: RevocationMemory, tmp_path: Path) -> None:
    memory.remember("c", proof())
    with contextlib.closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as database:
        database.execute("UPDATE proof SET received_at = 'yesterday'")
    with pytest.raises(StoreError, match="damaged"):
        memory.latest()


def test_list_that_others_need_outlives_the_certificate_that_it_was_evicted_for(
    memory: RevocationMemory, tmp_path: Path
) -> None:
    memory.remember("d", proof(b"0"))
    for minute in range(6):
        memory.remember("c", proof(b"%d" % minute, minute))
    assert [b"2", b"3", b"4", b"5"] == raws(memory)
    assert [b"0"] == raws(memory, "d")
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database:
        assert (5,) == database.execute("SELECT count(*) FROM blob").fetchone()


def test_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        RevocationMemory(tmp_path / "file")


def test_memory_that_was_closed_is_an_error(tmp_path: Path) -> None:
    memory = RevocationMemory(tmp_path)
    memory.close()
    with pytest.raises(StoreError):
        memory.recall("c")
    with pytest.raises(StoreError):
        memory.remember("c", proof())


def test_reader_does_not_wait_for_a_writer_of_another_process(
    memory: RevocationMemory, tmp_path: Path
) -> None:
    memory.remember("c", proof())
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        begun = time.monotonic()
        assert [b"a signed revocation"] == raws(memory)
        assert time.monotonic() - begun < LATE_S
        with pytest.raises(StoreError, match="could not be kept"):
            memory.remember("d", proof())
    finally:
        other.execute("ROLLBACK")
        other.close()
    memory.remember("d", proof())
    assert [b"a signed revocation"] == raws(memory, "d")


def test_proof_is_read_and_hashed_once_and_given_as_the_same_object(
    memory: RevocationMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []

    def counted(raw: bytes) -> object:
        hashed.append(len(raw))
        return sha256(raw)

    memory.remember("c", proof(bytes(3_000_000)))
    monkeypatch.setattr("cftpki_cache.revocations.sha256", counted)
    (first,), (second,) = memory.recall("c"), memory.recall("c")
    assert bytes(3_000_000) == first.raw
    assert first.raw is second.raw
    assert [3_000_000] == hashed


def test_proofs_held_in_memory_are_bounded_by_octets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cftpki_cache.revocations._RECALLED_OCTETS", 10_000)
    memory = RevocationMemory(tmp_path)
    for number in range(8):
        memory.remember(str(number), proof(bytes([number]) * 4_000))
        assert [bytes([number]) * 4_000] == raws(memory, str(number))
        assert memory._recalled.octets <= 10_000
    memory.close()


# -- files that somebody takes away ------------------------------------------------------------------------------------


def test_memory_whose_file_is_deleted_puts_what_it_knows_into_the_next_one(tmp_path: Path) -> None:
    with contextlib.closing(RevocationMemory(tmp_path)) as memory:
        memory.remember("c", proof())
        for path in tmp_path.glob(f"{FILE}*"):
            path.unlink()
        memory.remember("d", proof(b"another"))
        assert [b"a signed revocation"] == raws(memory)
    with contextlib.closing(RevocationMemory(tmp_path)) as again:
        assert ([b"a signed revocation"], [b"another"]) == (raws(again), raws(again, "d"))


def test_memory_whose_file_is_replaced_adds_what_it_knows_to_what_is_there(tmp_path: Path) -> None:
    with contextlib.closing(RevocationMemory(tmp_path / "other")) as other:
        other.remember("o", proof(b"of another"))
    with contextlib.closing(RevocationMemory(tmp_path)) as memory:
        memory.remember("c", proof())
        for path in tmp_path.glob(f"{FILE}*"):
            path.unlink()
        (tmp_path / "other" / FILE).rename(tmp_path / FILE)
        assert [b"a signed revocation"] == raws(memory)
        assert [b"of another"] == raws(memory, "o")
    with contextlib.closing(RevocationMemory(tmp_path)) as again:
        assert [b"a signed revocation"] == raws(again)


def test_memory_whose_folder_cannot_be_written_knows_what_it_knew(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with contextlib.closing(RevocationMemory(folder)) as memory:
        memory.remember("c", proof())
        assert [b"a signed revocation"] == raws(memory)
        folder.rename(tmp_path / "gone")
        folder.write_bytes(b"")
        assert [b"a signed revocation"] == raws(memory)
        with pytest.raises(StoreError):
            memory.remember("d", proof(b"another"))
