"""
The evidence writer: a record is in the store before the verdict is answered, or somebody hears of it.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from cftpki_ext.core.ledger_notes import Break, BreakKind
from cftpki_ext.core.policy import AUDIT
from cftpki_ext.core.settings import EvidenceSettings, Settings, TrustSet
from cftpki_ext.evidence import Asked, Door, Record, RecordBytes, Tally, decode, encode, row_from, row_of
from cftpki_ext.evidence.in_thread import InThread
from cftpki_ext.evidence.reach import falls_short, lasts, told
from cftpki_ext.evidence.what_if import try_again, try_under
from cftpki_ext.evidence.writer import EvidenceWriter, NotKept, Repeat
from cftpki_ext.ports.evidence import BlobsMissingError, EntryKind, Reach, Repeated
from tests.support import evidence_samples as samples
from tests.support.evidence_store import MemoryEvidence
from tests.support.logs import CapturedLog
from tests.support.pki import NOW


class Clock:
    def now(self):
        return NOW

    seconds = 0.0

    def monotonic(self):
        return self.seconds


@pytest.fixture
def logs():
    return CapturedLog()


@pytest.fixture
def store():
    return MemoryEvidence()


@pytest.fixture
async def keeper(store, logs):
    keeper = EvidenceWriter(
        InThread(store),
        settings=lambda: EvidenceSettings(keep=timedelta(days=3), max_bytes=77, required=True),
        log=logs,
        clock=Clock(),
    )
    yield keeper
    await keeper.aclose()


def named(number):
    made = samples.record(*samples.GOOD)
    return replace(made, verdict=replace(made.verdict, id=f"{number:032x}"))


async def test_keep_gives_the_hash_and_the_store_has_the_record(keeper, store):
    digest = await keeper.keep(named(1))
    (entry,) = store.entries
    assert 64 == len(digest)
    assert (f"{1:032x}", NOW) == (entry.id, entry.kept_at)
    assert named(1) == decode(entry.document, entry.blobs.get)
    assert {"kept": 1, "not_kept": 0, "counted": 0, "required": True} == keeper.status()


async def test_keep_many_at_once_keeps_their_order_in_few_transactions(keeper, store):
    store.open.clear()
    asked = [asyncio.create_task(keeper.keep(named(n), patience_s=10)) for n in range(100)]
    await asyncio.sleep(0)
    store.open.set()
    digests = await asyncio.gather(*asked)
    assert [f"{n:032x}" for n in range(100)] == [entry.id for entry in store.entries]
    assert 100 == len(set(digests))
    assert len(store.batches) < 20


async def test_keep_trouble_is_told_logged_and_counted(keeper, store, logs):
    store.trouble = "disk full"
    assert NotKept.FAILED is await keeper.keep(named(1))
    (call,) = logs.calls
    assert ("error", "evidence_not_kept", f"{1:032x}", "disk full") == (
        call.method_name,
        call.kwargs["event"],
        call.kwargs["verdict_id"],
        call.kwargs["error"],
    )
    store.trouble = None
    assert isinstance(await keeper.keep(named(2)), str)
    assert {"kept": 1, "not_kept": 1, "counted": 0, "required": True} == keeper.status()


class Losing(MemoryEvidence):
    """
    Has let go of whatever a record names.
    """

    def append(self, entries):
        raise BlobsMissingError(["0" * 64] * len(entries))


@pytest.mark.parametrize(
    ("repeats", "told", "not_kept"),
    [
        (None, ("error", "evidence_not_kept"), 1),
        (Repeated(id="a" * 32, document="0" * 64), ("info", "repeated_record_gone"), 0),
    ],
)
async def test_keep_whose_blobs_are_gone_is_an_error_unless_it_repeats(logs, repeats, told, not_kept):
    keeper = EvidenceWriter(
        InThread(Losing()),
        settings=EvidenceSettings,
        log=logs,
        clock=Clock(),
    )
    stored = replace(encode(named(1)), repeats=repeats)
    expected = NotKept.FAILED if repeats is None else NotKept.GONE
    assert expected is await keeper.keep(named(1), stored)
    (call,) = logs.calls
    assert (*told, not_kept) == (call.method_name, call.kwargs["event"], keeper.not_kept)
    await keeper.aclose()


async def test_keep_one_bad_record_does_not_lose_those_beside_it(keeper, store):
    store.poison = f"{3:032x}"
    store.open.clear()
    asked = [asyncio.create_task(keeper.keep(named(n), patience_s=10)) for n in range(8)]
    await asyncio.sleep(0)
    store.open.set()
    outcomes = await asyncio.gather(*asked)
    assert [3] == [n for n, outcome in enumerate(outcomes) if outcome is NotKept.FAILED]
    assert 7 == sum(entry.kind is EntryKind.VERDICT for entry in store.entries)


async def test_keep_disk_that_hangs_is_not_waited_for(keeper, store):
    store.open.clear()
    assert NotKept.FAILED is await keeper.keep(named(1), patience_s=0.01)
    store.open.set()
    # The late record is in the store all the same, and the next one behind it.
    assert 64 == len(await keeper.keep(named(2), patience_s=10))
    assert [f"{n:032x}" for n in (1, 2)] == [entry.id for entry in store.entries]


async def test_keep_after_close_is_not_kept(keeper, store):
    await keeper.aclose()
    assert NotKept.FAILED is await keeper.keep(named(1))
    assert store.closed


# -- many that repeat others -----------------------------------------------------------------------------------------


def repeating(count, *, documents=("d" * 64,)):
    return [
        Repeat(
            id=f"{n:032x}",
            stored=RecordBytes(
                document=b"%d" % n,
                blobs={},
                repeats=Repeated(id="a" * 32, document=documents[n % len(documents)]),
            ),
        )
        for n in range(count)
    ]


class Forgetful(MemoryEvidence):
    """
    Has let go of some documents.
    """

    def __init__(self, *gone):
        super().__init__()
        self.gone = set(gone)
        self.asked = 0

    def append(self, entries):
        self.asked += 1
        missing = [one.repeats.document for one in entries if one.repeats.document in self.gone]
        if missing:
            raise BlobsMissingError(missing[:1])
        return super().append(entries)


def writing_to(store, logs):
    log = logs
    return EvidenceWriter(InThread(store), settings=EvidenceSettings, log=log, clock=Clock())


async def test_keep_repeats_keeps_many_in_their_order_in_few_transactions(keeper, store):
    made = repeating(1000)
    digests = await keeper.keep_repeats(made)
    assert [one.id for one in made] == [entry.id for entry in store.entries]
    assert [sha256(one.stored.document).hexdigest() for one in made] == list(digests)
    assert [256, 256, 256, 232] == store.batches
    assert (1000, 0) == (keeper.kept, keeper.not_kept)
    assert () == await keeper.keep_repeats([])


async def test_keep_repeats_of_what_was_let_go_says_so_and_keeps_the_others(logs):
    store = Forgetful("e" * 64, "f" * 64)
    keeper = writing_to(store, logs)
    outcomes = await keeper.keep_repeats(repeating(9, documents=("d" * 64, "e" * 64, "f" * 64)))
    assert [NotKept.GONE if n % 3 else sha256(b"%d" % n).hexdigest() for n in range(9)] == list(outcomes)
    assert (3, 0, 3) == (keeper.kept, keeper.not_kept, store.asked)
    assert [] == logs.calls
    await keeper.aclose()


async def test_keep_repeats_on_a_full_disk_counts_each_once(keeper, store, logs):
    store.trouble = "disk full"
    assert (NotKept.FAILED,) * 3 == await keeper.keep_repeats(repeating(3))
    assert [("evidence_not_kept", "accepted")] * 3 == [
        (call.kwargs["event"], call.kwargs["status"]) for call in logs.calls
    ]
    assert (0, 3) == (keeper.kept, keeper.not_kept)


async def test_keep_repeats_of_a_store_that_lacks_something_else_ends(logs):
    keeper = writing_to(Losing(), logs)
    assert (NotKept.FAILED,) * 2 == await keeper.keep_repeats(repeating(2))
    await keeper.aclose()


async def test_keep_repeats_after_close_keeps_nothing(keeper, store):
    await keeper.aclose()
    assert (NotKept.FAILED,) * 2 == await keeper.keep_repeats(repeating(2))
    assert [] == store.entries


async def test_tend_asks_for_age_and_size_and_survives_trouble(keeper, store, logs):
    await keeper.tend_once()
    assert [(NOW - timedelta(days=3), 77)] == store.tended
    store.trouble = "locked"
    await keeper.tend_once()
    assert ["evidence_not_pruned"] == [call.kwargs["event"] for call in logs.calls]


async def test_condensing_that_fails_is_told_and_tried_again_after_a_while(store, logs):
    clock = Clock()
    keeper = EvidenceWriter(
        InThread(store),
        settings=EvidenceSettings,
        log=logs,
        clock=clock,
    )
    store.trouble = "disk full"
    await keeper.condense_once()
    store.trouble = None
    condensed = []
    for monotonic in (30.0, 599.0, 600.0, 630.0):
        clock.seconds = monotonic
        await keeper.condense_once()
        condensed.append(store.condensed)
    assert [0, 0, 1, 2] == condensed
    assert [("error", "evidence_not_condensed")] == [
        (call.method_name, call.kwargs["event"]) for call in logs.calls
    ]
    await keeper.aclose()


async def test_look_says_once_a_day_that_the_size_does_not_last(store, logs):
    clock = Clock()
    settings = EvidenceSettings(keep=timedelta(days=30), max_bytes=4000)
    keeper = EvidenceWriter(
        InThread(store),
        settings=lambda: settings,
        log=logs,
        clock=clock,
    )
    assert {"kept": 0, "not_kept": 0, "counted": 0, "required": False} == keeper.status()
    store.reached = Reach(oldest=NOW - timedelta(days=4), used_bytes=1700, measured_hours=48, grown_bytes=200)
    for monotonic in (0.0, 30.0, 86399.0, 86400.0):
        clock.seconds = monotonic
        await keeper.look_once()
    expected = {
        "oldest": (NOW - timedelta(days=4)).isoformat().replace("+00:00", "Z"),
        "reaches_back_s": 4 * 86400,
        "bytes": 1700,
        "max_bytes": 4000,
        "lasts_s": 20 * 86400,
        "keep_s": 30 * 86400,
        "strangers_bytes": 0,
        "let_go_early": 0,
        "strangers_let_go_early": 0,
        "breaks": 0,
        "warning": "max_size lasts 20 days at the present rate, keep is 30 days",
    }
    assert [("warning", {"event": "evidence_short", **expected})] * 2 == [
        (call.method_name, call.kwargs) for call in logs.calls
    ]
    assert {"kept": 0, "not_kept": 0, "counted": 0, "required": False, **expected} == keeper.status()
    store.trouble = "locked"
    await keeper.look_once()
    assert ("error", "evidence_not_looked_at") == (logs.calls[2].method_name, logs.calls[2].kwargs["event"])
    await keeper.aclose()


@pytest.mark.parametrize(
    ("hours", "grown", "expected"),
    [
        (0, 0, None),
        (23, 10**9, None),
        (24, 24, timedelta(hours=2000)),
        (168, 0, timedelta(days=3650)),
        (168, 1, timedelta(days=3650)),
        (24, 2400, timedelta(hours=20)),
    ],
)
def test_how_long_the_size_lasts(hours, grown, expected):
    settings = EvidenceSettings(keep=timedelta(days=400), max_bytes=4000)
    reach = Reach(oldest=None, used_bytes=0, measured_hours=hours, grown_bytes=grown)
    assert expected == lasts(reach, settings)
    assert falls_short(reach, settings) == (expected is not None and expected < timedelta(days=400))
    assert None is told(reach, settings, now=NOW)["oldest"]


@pytest.mark.parametrize(("times", "words"), [(1, "broken once: "), (2, "broken 2 times, the last time: ")])
def test_breaks_are_counted_in_words(times, words):
    one = Break(
        id="0" * 32, noticed_at=NOW, kind=BreakKind.CUT, seq=12, expected="aa" * 32, newest=7, found="bb" * 32
    )
    reach = Reach(oldest=None, used_bytes=0, measured_hours=0, grown_bytes=0, breaks=(one,) * times)
    warning = told(reach, EvidenceSettings(), now=NOW)["warning"]
    assert f"the evidence was {words}{one.detail}" == warning


# Rows and tallies


@pytest.mark.parametrize("statements", [samples.GOOD, samples.REVOKED, samples.FAILED, ()])
@pytest.mark.parametrize("policy", [samples.PLAIN.policy, AUDIT])
def test_row_of_a_document_is_that_of_its_verdict(statements, policy):
    made = samples.record(*statements, trust=replace(samples.PLAIN, policy=policy))
    assert row_of(made.verdict, made.asked) == row_from(encode(made).document, {}.get)


def test_tally_counts_and_names_whom_an_audit_would_refuse():
    audited = TrustSet(name="partners", anchors=samples.PLAIN.anchors, policy=AUDIT)
    records = [
        samples.record(*samples.GOOD),
        samples.record(*samples.REVOKED),
        samples.record(*samples.REVOKED, trust=audited),
        samples.record(*samples.REVOKED, trust=audited),
    ]
    tally = Tally(row_of(made.verdict, made.asked) for made in records)
    assert {
        "accepted": 3,
        "accepted_with_warnings": 2,
        "refused": {"revoked": 1},
        "would_be_refused": {"revoked": 2},
        "policy_rows": {},
    } == tally.counts()
    (shadow,) = tally.shadows
    assert ("CN=partner", "revoked", 2) == (shadow.partner, shadow.reason, shadow.times)


def test_tally_counts_the_rows_of_the_policy_that_were_applied():
    made = samples.record(*samples.FAILED, *samples.GOOD)
    row = row_of(made.verdict, made.asked)
    assert row == row_from(encode(made).document, {}.get)
    assert dict.fromkeys(row.policy_rows, 1) == Tally([row]).counts()["policy_rows"]
    refused = samples.record(*samples.FAILED)
    assert {"unreachable refuse": 1, "no_source refuse": 1} == Tally(
        [row_of(refused.verdict, refused.asked)]
    ).counts()["policy_rows"]


def test_tally_leaves_out_what_was_found_ahead():
    for made in (samples.record(*samples.GOOD), samples.record(*samples.REVOKED)):
        ahead = row_of(made.verdict, replace(made.asked, door=Door.REFRESH))
        assert Tally().counts() == Tally([ahead]).counts()
        assert Tally().counts() != Tally([row_of(made.verdict, made.asked)]).counts()


def test_tally_remembers_a_bounded_number_of_partners():
    made = samples.record(*samples.REVOKED, trust=replace(samples.PLAIN, policy=AUDIT))
    row = row_of(made.verdict, made.asked)
    tally = Tally(replace(row, fingerprint=str(n)) for n in range(1100))
    assert 1024 == len(tally.shadows)
    assert "1099" == tally.shadows[0].fingerprint
    assert {"revoked": 1100} == dict(tally.would_refuse)


# Trials


def settings(**changes):
    trust = replace(samples.PLAIN, **changes.pop("trust", {}))
    rule = replace(samples.RULE, **changes)
    return Settings(trusts={"partners": trust}, rules=(rule,))


def test_trial_as_recorded_agrees():
    assert () == try_again(samples.record(*samples.REVOKED)).differences


def test_trial_under_the_same_settings_agrees_and_finds_the_rule():
    trial = try_under(samples.record(*samples.GOOD), settings(profile="SSLP", port=1762))
    assert ("in", (), ()) == (trial.rule, trial.differences, trial.not_asked)


@pytest.mark.parametrize("change", [{"profile": "OTHER"}, {"port": 1}])
def test_trial_without_a_rule_refuses_with_80(change):
    trial = try_under(samples.record(*samples.GOOD), settings(**change))
    assert (None, ["refused", "no_rule", "80"]) == (trial.now, [d.now for d in trial.differences])


def test_trial_of_a_phase_left_to_the_host_is_a_difference():
    trial = try_under(samples.record(*samples.GOOD), settings(not_handled=frozenset({samples.CHECK})))
    assert "not handled" == trial.differences[0].now


def test_trial_names_what_would_be_asked_and_is_not_recorded():
    made = samples.record()
    trial = try_under(made, settings(trust={"ocsp_urls": ("http://new.example/",)}))
    assert "http://new.example/" in trial.not_asked


def test_trial_of_anchors_that_the_caller_named_is_skipped():
    made = samples.record(*samples.GOOD)
    bare = Record(
        question=replace(made.question, rule=None),
        statements=made.statements,
        verdict=made.verdict,
        asked=Asked(door=Door.PYTHON),
    )
    assert try_under(bare, settings()).skipped is not None


def test_last_verdict_of_a_partner_is_the_latest_whatever_the_order_in_which_they_come():
    row = row_of(
        samples.record(*samples.REVOKED, trust=replace(samples.PLAIN, policy=AUDIT)).verdict,
        samples.record().asked,
    )
    first, second = replace(row, id="1" * 32, at="1"), replace(row, id="2" * 32, at="2")
    for rows in ((first, second), (second, first)):
        (shadow,) = Tally(rows).shadows
        assert (2, "2" * 32, "2") == (shadow.times, shadow.last_id, shadow.last_at)
