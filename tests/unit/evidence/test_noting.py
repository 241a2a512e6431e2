"""
What the evidence says besides verdicts: which are missing in it, and how often a refusal was the same.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from cftpki_cache.gap_file import GapFile
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.ledger_notes import Gap, Repeats, note_from
from cftpki_ext.core.settings import EvidenceSettings
from cftpki_ext.core.verdict import Status
from cftpki_ext.evidence import Door
from cftpki_ext.evidence import sameness as bounds
from cftpki_ext.evidence.in_thread import InThread
from cftpki_ext.evidence.unkept import Unkept
from cftpki_ext.evidence.writer import Counted, EvidenceWriter, NotKept
from cftpki_ext.ports.evidence import EntryKind, Share
from tests.support import evidence_samples as samples
from tests.support.evidence_store import MemoryEvidence
from tests.support.logs import CapturedLog
from tests.support.pki import NOW

UNTRUSTED = replace(samples.PLAIN, anchors=())


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def now(self):
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self):
        return self.seconds


class World:
    def __init__(self, gaps=None):
        self.store, self.logs, self.clock = MemoryEvidence(), CapturedLog(), Clock()
        self.keeper = EvidenceWriter(
            InThread(self.store), settings=EvidenceSettings, log=self.logs, clock=self.clock, gaps=gaps
        )

    @property
    def notes(self):
        return [
            (note_from(entry.document), entry.share)
            for entry in self.store.entries
            if entry.kind is EntryKind.NOTE
        ]

    @property
    def verdicts(self):
        return [entry.id for entry in self.store.entries if entry.kind is EntryKind.VERDICT]

    def lines(self, event):
        return [call.kwargs for call in self.logs.calls if call.kwargs["event"] == event]

    async def keep(self, made, number):
        return await self.keeper.keep(
            replace(
                made,
                verdict=replace(
                    made.verdict,
                    id=f"{number:032x}",
                    evidence=replace(made.verdict.evidence, decided_at=self.clock.now()),
                ),
            )
        )


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.keeper.aclose()


# -- verdicts that are missing ----------------------------------------------------------------------------------------


async def test_gap_is_written_as_soon_as_writing_works(world):
    world.store.trouble = "disk full"
    accepted, refused = samples.record(*samples.GOOD), samples.record(*samples.REVOKED)
    for number, made in enumerate((accepted, refused, accepted)):
        world.clock.seconds = 10.0 * number
        assert NotKept.FAILED is await world.keep(made, number)
    world.store.trouble = None
    world.clock.seconds = 50.0
    assert isinstance(await world.keep(accepted, 9), str)
    await world.keeper.aclose()
    ((gap, share),) = world.notes
    assert gap == Gap(
        id=gap.id,
        first=NOW,
        last=NOW + timedelta(seconds=20),
        counts={"accepted": 2, "refused": 1},
        why="disk full",
    )
    assert Share.PARTNERS is share
    (line,) = world.lines("evidence_gap")
    assert (3, gap.detail) == (line["count"], line["detail"])
    assert f"3 verdicts from {NOW:%Y-%m-%dT%H:%M:%S}.000Z" in gap.detail


async def test_nothing_missing_is_no_gap(world):
    assert isinstance(await world.keep(samples.record(*samples.GOOD), 1), str)
    await world.keeper.aclose()
    assert [] == world.notes


async def test_second_gap_tells_only_of_what_came_after_the_first(world):
    made = samples.record(*samples.GOOD)
    for round_ in range(2):
        world.store.trouble = "disk full"
        for number in range(round_ + 1):
            await world.keep(made, 100 * round_ + number)
        world.store.trouble = None
        await world.keep(made, 100 * round_ + 50)
        await world.keep(made, 100 * round_ + 51)
    await world.keeper.aclose()
    assert [{"accepted": 1}, {"accepted": 2}] == [note.counts for note, _ in world.notes]


async def test_record_that_comes_late_is_not_missing(world):
    world.store.open.clear()
    made = samples.record(*samples.GOOD)
    late = replace(made, verdict=replace(made.verdict, id=f"{1:032x}"))
    assert NotKept.FAILED is await world.keeper.keep(late, patience_s=0.01)
    world.store.open.set()
    assert isinstance(await world.keep(made, 2), str)
    await world.keeper.aclose()
    assert ([f"{n:032x}" for n in (1, 2)], []) == (world.verdicts, world.notes)


async def test_gap_outlives_the_service(tmp_path):
    first = World(GapFile(tmp_path / "gap"))
    first.store.trouble = "disk full"
    await first.keep(samples.record(*samples.REVOKED), 1)
    # As a kill leaves it: nothing is closed.
    second = World(GapFile(tmp_path / "gap"))
    assert isinstance(await second.keep(samples.record(*samples.GOOD), 2), str)
    await second.keeper.aclose()
    ((gap, _),) = second.notes
    assert ({"refused": 1}, "disk full", NOW) == (gap.counts, gap.why, gap.first)
    third = World(GapFile(tmp_path / "gap"))
    await third.keep(samples.record(*samples.GOOD), 3)
    await third.keeper.aclose()
    assert [] == third.notes
    first.store.trouble = None
    await first.keeper.aclose()


def test_gap_has_its_place_before_it_is_needed(tmp_path):
    path = tmp_path / "gap"
    made = GapFile(path)
    size = path.stat().st_size
    unkept = Unkept(lambda: "a" * 32, made)
    for number in range(500):
        unkept.add(NOW, "accepted", "x" * number)
    assert (size, 0o600) == (path.stat().st_size, path.stat().st_mode & 0o777)
    assert unkept.open is not None
    assert Unkept(lambda: "b" * 32, made).open == replace(unkept.open, why=unkept.open.why[:512])
    unkept.close()
    made.close()


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 5000, b'{"format":1,"note":"gap"}', b" " * 4096])
def test_gap_file_that_is_damaged_counts_as_empty(tmp_path, content):
    (tmp_path / "gap").write_bytes(content)
    made = GapFile(tmp_path / "gap")
    assert None is Unkept(lambda: "a" * 32, made).open
    made.close()


def test_gap_file_in_no_folder_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="no/gap"):
        GapFile(tmp_path / "no" / "gap")


async def test_full_disk_does_not_fill_the_log(world):
    world.store.trouble = "disk full"
    made = samples.record(*samples.GOOD)
    for number in range(400):
        await world.keep(made, number)
    assert 256 == len(world.lines("evidence_not_kept"))
    world.clock.seconds = 10.0
    await world.keep(made, 999)
    assert 144 == world.lines("evidence_not_kept")[-1]["others"]
    assert 401 == world.keeper.not_kept
    world.store.trouble = None


# -- refusals that are the same ----------------------------------------------------------------------------------------


async def test_same_refusal_again_and_again_is_counted_and_not_stored(world):
    stranger = samples.record(trust=UNTRUSTED)
    for number in range(bounds.KEPT):
        assert isinstance(await world.keep(stranger, number), str)
    for number in range(1000):
        world.clock.seconds = float(number) / 100
        outcome = await world.keep(stranger, 5000 + number)
        assert Counted(f"{bounds.KEPT - 1:032x}") == outcome
    assert bounds.KEPT == len(world.verdicts)
    assert (bounds.KEPT, 1000, 0) == (world.keeper.kept, world.keeper.counted, world.keeper.not_kept)
    (begun,) = world.lines("refusals_are_counted")
    assert ("no_path", f"{bounds.KEPT - 1:032x}") == (begun["reason"], begun["verdict_id"])
    # It ends when it has not come for some time.
    world.clock.seconds += bounds.ENDS_S
    await world.keeper.tend_once()
    await world.keeper.say()
    ((note, share),) = world.notes
    assert note == Repeats(
        id=note.id,
        of=f"{bounds.KEPT - 1:032x}",
        first=NOW,
        last=NOW + timedelta(seconds=9.99),
        count=1000,
        reason="no_path",
        partner="CN=partner",
        remote="192.0.2.1",
    )
    assert Share.STRANGERS is share
    assert [note.detail] == [line["detail"] for line in world.lines("refusals_counted")]
    # From then on it is kept again.
    assert isinstance(await world.keep(stranger, 9000), str)


async def test_same_refusal_that_goes_on_is_told_each_hour_and_at_the_end(world):
    stranger = samples.record(trust=UNTRUSTED)
    for number in range(bounds.KEPT):
        await world.keep(stranger, number)
    for minute in range(0, 130, 5):
        world.clock.seconds = 60.0 * minute
        await world.keep(stranger, 5000 + minute)
        await world.keeper.say()
    await world.keeper.aclose()
    assert [13, 13] == [note.count for note, _ in world.notes]
    assert 1 == len(world.lines("refusals_are_counted"))


@pytest.mark.parametrize(
    "change",
    [
        {"trust": replace(samples.PLAIN, name="another", anchors=())},
        {"statements": samples.REVOKED},
    ],
)
async def test_another_refusal_is_another_kind(world, change):
    stranger = samples.record(trust=UNTRUSTED)
    for number in range(bounds.KEPT):
        await world.keep(stranger, number)
    other = samples.record(*change.get("statements", ()), trust=change.get("trust", samples.PLAIN))
    assert isinstance(await world.keep(other, 900), str)


@pytest.mark.parametrize("door", [Door.CLI, Door.PYTHON, Door.REFRESH])
async def test_nothing_of_ours_is_counted_instead_of_kept(world, door):
    made = samples.record(*samples.REVOKED)
    made = replace(made, asked=replace(made.asked, door=door))
    for number in range(bounds.KEPT + 9):
        assert isinstance(await world.keep(made, number), str)


async def test_acceptance_is_never_counted_instead_of_kept(world):
    made = samples.record(*samples.GOOD)
    for number in range(bounds.KEPT + 9):
        assert isinstance(await world.keep(made, number), str)


async def test_kinds_that_are_remembered_are_bounded_and_lose_no_count(world, monkeypatch):
    monkeypatch.setattr(bounds, "KEPT", 1)
    monkeypatch.setattr(bounds, "_KINDS", 10)
    stranger = samples.record(trust=UNTRUSTED)
    for number in range(40):
        other = replace(stranger, question=replace(stranger.question, chain=(b"%d" % number,)))
        for again in range(3):
            await world.keep(other, 100 * number + again)
    await world.keeper.aclose()
    assert 40 == len(world.verdicts)
    assert [2] * 40 == [note.count for note, _ in world.notes]


async def test_counts_that_cannot_be_written_are_written_later(world):
    stranger = samples.record(trust=UNTRUSTED)
    for number in range(bounds.KEPT + 5):
        await world.keep(stranger, number)
    world.clock.seconds = bounds.ENDS_S
    world.store.trouble = "disk full"
    await world.keeper.say()
    assert [] == world.notes
    world.store.trouble = None
    await world.keeper.say()
    assert [5] == [note.count for note, _ in world.notes]


async def test_refusals_of_which_no_record_could_be_kept_are_tried_each_time(world):
    world.store.trouble = "disk full"
    stranger = samples.record(trust=UNTRUSTED)
    for number in range(bounds.KEPT + 5):
        assert NotKept.FAILED is await world.keep(stranger, number)
    assert Status.REFUSED is stranger.verdict.status
    world.store.trouble = None
