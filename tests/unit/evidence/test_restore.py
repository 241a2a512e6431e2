"""
The memory of revocations against the evidence: what counts as missing, what is put back, and what is never believed.

More than 400 lines: one world of evidence and memory, and all that may be missing in it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.x509 import ReasonFlags

from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.ledger_reader import LedgerReader
from cftpki_cache.revocations import RevocationMemory
from cftpki_ext.bootstrap.forgotten import forgotten
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.question import Question
from cftpki_ext.doctor import Level, examine_memory
from cftpki_ext.evidence import Asked, Door, Record, encode
from cftpki_ext.evidence.restore import Known, behind, known_by, missing, restore, unindexed
from cftpki_ext.ports.evidence import EvidenceEntry
from tests.support.ledgers import edit, rewrite
from tests.support.pki import NOW, Revoked, issue, make_crl, make_root

ROOT = make_root("Root")
CA = issue(ROOT, "CA", ca=True)
LEAF, OTHER, SHORT = (
    issue(CA, "leaf", eku=["clientAuth"]),
    issue(CA, "other", eku=["clientAuth"]),
    issue(CA, "short", eku=["clientAuth"], not_after=NOW + timedelta(days=1)),
)
HOUR = timedelta(hours=1)
HOLD = ReasonFlags.certificate_hold
TRUST = TrustSet(name="t", anchors=(ROOT.der,))


def heard(raw: bytes, depth: int, *, minutes: int = 0, origin: Origin = Origin.NETWORK) -> Statement:
    return Statement(
        kind=SourceKind.CRL,
        origin=origin,
        received_at=NOW + timedelta(minutes=minutes),
        depth=depth,
        url=f"http://ca/{depth}",
        raw=raw,
    )


def crl(*revoked: int | Revoked, number: int = 1) -> bytes:
    return make_crl(CA, list(revoked), number=number)


def _sha(raw: bytes) -> str:
    return sha256(raw).hexdigest()


class World:
    """
    Evidence and memory in a folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = EvidenceLedger(folder / "evidence")
        self.memory = RevocationMemory(folder)
        self.reader = LedgerReader(folder / "evidence")
        self._ids = iter(range(1, 10_000))

    def close(self) -> None:
        for one in (self.ledger, self.memory, self.reader):
            one.close()

    def verdict(self, leaf, *statements: Statement, kept_at: datetime = NOW) -> str:
        """
        A record of a verdict on a leaf, about whose CA the root's list says nothing bad.
        """
        every = (*statements, heard(make_crl(ROOT), 1))
        question = Question(
            chain=(leaf.der, CA.der),
            direction=Direction.SERVER,
            trust=TRUST,
            limits=Limits(),
            at=NOW,
            rule=None,
        )
        verdict = conclude(examine(question), every, verdict_id=f"{next(self._ids):032x}")
        stored = encode(
            Record(question=question, statements=every, verdict=verdict, asked=Asked(door=Door.CLI))
        )
        self.ledger.append(
            [
                EvidenceEntry(
                    id=verdict.id,
                    kept_at=kept_at,
                    document=stored.document,
                    blobs=stored.blobs,
                    revoked=stored.revoked,
                )
            ]
        )
        return verdict.id

    def known(self, now: datetime = NOW) -> Known:
        return known_by(self.reader, now=now)

    def restore(self, now: datetime = NOW) -> tuple[int, int, Sequence[str]]:
        done = restore(self.reader, self.known(now), self.memory)
        return done.known, len(done.restored), done.lost

    def proofs(self) -> list[bytes | LargeOctets | None]:
        return [
            statement.raw
            for proven, _ in self.known().revoked
            for statement in self.memory.recall(proven.certificate)
        ]

    def edit(self, sql: str) -> None:
        with contextlib.closing(
            sqlite3.connect(self.folder / "evidence" / "ledger.sqlite3", isolation_level=None)
        ) as database:
            database.executescript(sql)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_revocation_that_only_the_evidence_knows_is_put_back_once(world: World) -> None:
    raw = crl(LEAF.serial)
    world.verdict(LEAF, heard(raw, 0))
    assert [] == world.proofs()
    assert (1, 1, ()) == world.restore()
    assert [raw] == world.proofs()
    assert (1, 0, ()) == world.restore()


def test_good_verdict_is_known_of_nobody(world: World) -> None:
    world.verdict(LEAF, heard(crl(), 0))
    assert (0, 0, ()) == world.restore()


def test_proofs_keep_the_time_they_were_received(world: World) -> None:
    world.verdict(LEAF, heard(crl(LEAF.serial), 0, minutes=-30))
    world.restore()
    assert NOW - timedelta(minutes=30) == world.memory.latest()


def test_certificate_that_has_ended_is_left_alone(world: World) -> None:
    world.verdict(SHORT, heard(crl(SHORT.serial), 0))
    assert (0, 0, ()) == world.restore(NOW + timedelta(days=2))
    assert (1, 1, ()) == world.restore(NOW)


def test_newest_record_of_a_certificate_is_the_one_that_is_led_to(world: World) -> None:
    world.verdict(LEAF, heard(crl(LEAF.serial, number=1), 0))
    newest = world.verdict(LEAF, heard(crl(LEAF.serial, number=2), 0))
    assert [newest] == [record for _, record in world.known().revoked]


def test_hold_does_not_hide_an_earlier_revocation_for_good(world: World) -> None:
    final = world.verdict(LEAF, heard(crl(LEAF.serial), 0))
    world.verdict(LEAF, heard(crl(Revoked(LEAF.serial, reason=HOLD), number=2), 0))
    assert [(True, final)] == [(proven.final, record) for proven, record in world.known().revoked]


def test_other_proof_of_the_same_is_enough_and_a_hold_is_not_for_a_revocation(world: World) -> None:
    world.verdict(LEAF, heard(crl(LEAF.serial, number=7), 0))
    ((proven, _),) = world.known().revoked
    held = crl(Revoked(LEAF.serial, reason=HOLD), number=6)
    world.memory.remember(proven.certificate, heard(held, 0))
    assert [proven.certificate] == [
        one.certificate for one in missing(world.reader, world.known(), world.memory)
    ]
    world.memory.remember(proven.certificate, heard(crl(LEAF.serial, number=5), 0))
    assert [] == list(missing(world.reader, world.known(), world.memory))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE blob SET raw = x'3000'",
        "DELETE FROM blob",
        "UPDATE record SET document = x'7b7d'",
        "DELETE FROM record",
        "UPDATE revoked SET record = '00'",
    ],
)
def test_evidence_that_proves_nothing_any_more_is_named_and_puts_nothing_back(
    world: World, damage: str
) -> None:
    world.verdict(LEAF, heard(crl(LEAF.serial), 0))
    world.edit(damage)
    assert (1, 0, 1) == (*world.restore()[:2], len(world.restore()[2]))
    assert [] == world.proofs()


def test_index_is_not_believed_where_its_record_says_good(world: World) -> None:
    good = world.verdict(OTHER, heard(crl(), 0))
    world.verdict(LEAF, heard(crl(LEAF.serial), 0))
    world.edit(f"UPDATE revoked SET record = '{good}'")  # noqa: S608 - a hexadecimal id
    assert (1, 0, (good,)) == world.restore()


def test_record_that_claims_a_revocation_which_its_statements_do_not_prove_puts_nothing_back(
    world: World,
) -> None:
    """
    The verdict's word in a record that was written anew, index and all: its statements are judged again.
    """
    raw = crl(LEAF.serial)
    world.verdict(LEAF, heard(raw, 0))
    stranger = make_crl(make_root("CA"), [LEAF.serial])  # the same name, another key
    folder = world.folder / "evidence"
    edit(folder, "INSERT INTO blob VALUES (?, ?)", _sha(stranger), stranger)
    rewrite(folder, _sha(raw).encode(), _sha(stranger).encode())
    known, restored, lost = world.restore()
    assert (1, 0, 1) == (known, restored, len(lost))


def test_evidence_younger_or_as_old_as_the_memory_is_not_behind(world: World) -> None:
    assert not behind(Known(), world.memory)
    world.memory.remember("c", heard(b"x", 0))
    assert behind(Known(), world.memory)
    assert behind(Known(newest=NOW - 2 * HOUR), world.memory)
    assert not behind(Known(newest=NOW - HOUR / 2), world.memory)
    assert not behind(Known(newest=NOW), world.memory)


def test_index_outlives_its_record_and_goes_when_the_certificate_has_ended_long_ago(world: World) -> None:
    world.verdict(LEAF, heard(crl(LEAF.serial), 0))
    ((proven, _),) = world.known().revoked
    assert 1 == world.ledger.tend(before=NOW + HOUR, max_bytes=10**9)
    assert (1, 0, 1) == (*world.restore()[:2], len(world.restore()[2]))
    world.ledger.tend(before=proven.ends + HOUR, max_bytes=10**9)
    assert (0, 0, ()) == world.restore()


def test_ledger_that_has_no_index_yet_knows_nothing(world: World) -> None:
    world.edit("DROP TABLE revoked")
    assert () == world.known().revoked


# -- an index that somebody has emptied ------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", ["DELETE FROM revoked", "DELETE FROM revoked; DELETE FROM counter"])
def test_emptied_index_is_made_again_from_the_records(world: World, sql: str) -> None:
    raw = crl(LEAF.serial)
    record = world.verdict(LEAF, heard(raw, 0))
    world.verdict(OTHER, heard(crl(), 0))
    before = world.known()
    world.edit(sql)
    told = "counter" not in sql  # who takes the count away as well is found by the walk alone
    assert (int(told), told) == (world.reader.index_lacks(), bool(world.known().unindexed))
    assert list(before.revoked) == list(unindexed(world.reader, now=NOW))
    assert [record] == [name for _, name in before.revoked]
    if told:
        assert (1, 1, ()) == world.restore()
        assert [raw] == world.proofs()
        world.ledger.index(world.known().unindexed)
        assert (0, before) == (world.reader.index_lacks(), world.known())


def test_whole_index_is_not_walked_for(world: World) -> None:
    world.verdict(LEAF, heard(crl(LEAF.serial), 0))
    world.verdict(OTHER, heard(crl(OTHER.serial), 0))
    assert ((), 0) == (world.known().unindexed, world.reader.index_lacks())
    assert [] == list(unindexed(world.reader, now=NOW))


def test_index_that_was_emptied_is_told_though_others_come_meanwhile(world: World) -> None:
    world.verdict(LEAF, heard(crl(LEAF.serial), 0))
    world.edit("DELETE FROM revoked")
    world.verdict(OTHER, heard(crl(OTHER.serial), 0))
    assert 1 == world.reader.index_lacks() == world.ledger.reach(now=NOW).index_lacks
    assert 2 == len(world.known().revoked)


def test_index_that_lets_ended_certificates_go_lacks_nothing(world: World) -> None:
    world.verdict(SHORT, heard(crl(SHORT.serial), 0))
    world.verdict(LEAF, heard(crl(LEAF.serial), 0))
    ((short, _), _) = sorted(world.known().revoked, key=lambda one: one[0].ends)
    world.ledger.tend(before=short.ends + HOUR, max_bytes=10**9)
    assert (0, 1) == (world.reader.index_lacks(), len(world.known().revoked))


def test_verify_tells_of_revocations_that_are_not_known_any_more(world: World) -> None:
    record = world.verdict(LEAF, heard(crl(LEAF.serial), 0))
    world.restore()
    assert [] == list(forgotten(world.reader, world.folder, now=NOW))
    world.edit("DELETE FROM revoked")
    (line,) = forgotten(world.reader, world.folder, now=NOW)
    assert (
        f"the index of revocations lacks 1 certificates that records prove revoked (records {record})" == line
    )
    with contextlib.closing(sqlite3.connect(world.folder / "revocations.sqlite3")) as database, database:
        database.execute("DELETE FROM proof")
    assert (
        f"the memory of revocations lacks 1 certificates that records prove revoked (records {record})"
        == list(forgotten(world.reader, world.folder, now=NOW))[1]
    )


def test_verify_of_a_copy_of_the_evidence_alone_asks_for_no_memory(world: World, tmp_path: Path) -> None:
    world.verdict(LEAF, heard(crl(LEAF.serial), 0))
    copy = tmp_path / "copy"
    copy.mkdir()
    assert [] == list(forgotten(world.reader, copy, now=NOW))
    (copy / "responses").mkdir()
    (line,) = forgotten(world.reader, copy, now=NOW)
    assert line.startswith("the memory of revocations lacks 1 certificates")


def test_index_with_a_damaged_time_is_an_error(world: World) -> None:
    world.verdict(LEAF, heard(crl(LEAF.serial), 0))
    world.edit("UPDATE revoked SET ends = 9223372036854775807")
    with pytest.raises(StoreError, match="a time is damaged"):
        world.known()


def test_memory_that_cannot_be_written_is_an_error_and_not_passed_over(world: World) -> None:
    world.verdict(LEAF, heard(crl(LEAF.serial), 0))
    other = sqlite3.connect(world.folder / "revocations.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StoreError, match="could not be kept"):
            world.restore()
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert (1, 1, ()) == world.restore()


_FULL = """
import resource, signal, sys
from pathlib import Path
from cftpki_cache.ledger_reader import LedgerReader
from cftpki_cache.revocations import RevocationMemory
from cftpki_ext.evidence.restore import known_by, restore
from tests.support.pki import NOW
folder = Path(sys.argv[1])
memory, ledger = RevocationMemory(folder), LedgerReader(folder / "evidence")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
print(len(restore(ledger, known_by(ledger, now=NOW), memory).restored))
"""


def test_full_disk_in_the_middle_is_an_error_and_keeps_what_was_put_back(world: World) -> None:
    leaves = [issue(CA, f"leaf {number}", eku=["clientAuth"]) for number in range(40)]
    for leaf in leaves:
        world.verdict(leaf, heard(crl(leaf.serial), 0))
    ended = subprocess.run(
        [sys.executable, "-c", _FULL, world.folder],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 1 == ended.returncode, ended.stdout
    assert "StoreError" in ended.stderr
    there = len(world.proofs())
    assert 0 < there < 40
    assert (40, 40 - there, ()) == world.restore()


def findings(world: World, *, ledger: bool = True, memory: bool = True) -> list[tuple[Level, str]]:
    found = examine_memory(
        lambda: LedgerReader(world.folder / "evidence") if ledger else None,
        lambda: RevocationMemory(world.folder) if memory else None,
        now=NOW,
    )
    assert all(finding.action for finding in found if finding.level is not Level.OK)
    return [(finding.level, finding.detail) for finding in found]


def test_doctor_tells_whole_from_lost(world: World) -> None:
    assert [(Level.OK, "knows all 0 revocations that the evidence has seen")] == findings(world)
    assert Level.OK is findings(world, ledger=False, memory=False)[0][0]
    world.verdict(LEAF, heard(crl(LEAF.serial), 0))
    lacks = [(Level.FAIL, "lacks 1 of 1 revocations that the evidence has seen")]
    assert lacks == findings(world) == findings(world, memory=False)
    world.restore()
    assert [(Level.OK, "knows all 1 revocations that the evidence has seen")] == findings(world)
    assert [(Level.WARN, "it is younger than the evidence")] == findings(world, ledger=False)


def test_doctor_tells_what_cannot_be_read(world: World) -> None:
    def broken() -> None:
        msg = "it cannot be read"
        raise StoreError(msg)

    (finding,) = examine_memory(broken, lambda: None, now=NOW)
    assert (Level.WARN, "cannot be compared: it cannot be read") == (finding.level, finding.detail)
    (finding,) = examine_memory(lambda: None, broken, now=NOW)
    assert (Level.FAIL, "it cannot be read: nobody is judged") == (finding.level, finding.detail)
