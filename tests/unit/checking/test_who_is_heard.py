"""
Every order, delay and combination of sources: nobody revoked is let in but by a row of the policy with its warning.

In virtual time, through the driver, so that asking, waiting and judging are tried together. What is expected is
computed here from the table of docs/policies.md alone, not by the code that is tried.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509

from cftpki_ext.checking.case import store_key
from cftpki_ext.core.causes import RESERVATIONS, Cause
from cftpki_ext.core.policy import RESILIENT, STRICT, Action, Depth, Policy, Treatment
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.source_settings import RestProfile
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.verdict import Reason, Verdict
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examination import Examination
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.known_revoked import proof_key
from cftpki_ext.decision.question import Question
from cftpki_ext.ports.responses import StoredResponse
from tests.support.pki import NOW, Revoked, make_crl, make_ocsp_response
from tests.support.virtual_world import CA, CRL, EVER, LEAF, MINUTE, OCSP, REST, ROOT, Store, World

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PROFILE = RestProfile(
    name="api",
    url="https://ca/{serial_hex}",
    serial="/serial",
    status="/status",
    good=("good",),
    held=("held",),
    revoked=("revoked",),
    unsafe_plain_http=True,
)
SERIAL = f"{LEAF.serial:x}".zfill(len(f"{LEAF.serial:x}") + len(f"{LEAF.serial:x}") % 2)
PLACES = {OCSP: "http://ca/ocsp", CRL: "http://ca/crl", REST: f"https://ca/{SERIAL}"}
HOLD = x509.ReasonFlags.certificate_hold
BUDGET_S = 4.8


@cache
def said(kind: SourceKind, word: str, age: timedelta = MINUTE) -> bytes:
    """
    The answer of a source: "good", "revoked", "held", "unknown" or "unreadable", with a life of ten days.
    """
    then = NOW - age
    times = {"this_update": then, "next_update": then + 10 * DAY}
    if word == "unreadable":
        return b"\x30\x03\x02\x01"
    if kind is REST:
        return json.dumps({"serial": SERIAL, "status": word}).encode()
    if kind is CRL and word == "unknown":  # a list knows no such word
        return b"-----BEGIN X509 CRL-----"
    if kind is CRL:
        entries = {"revoked": [LEAF.serial], "held": [Revoked(LEAF.serial, at=then, reason=HOLD)]}
        return make_crl(CA, entries.get(word, []), **times)
    status = {"held": "revoked", "revoked": "revoked"}.get(word, word)
    reason = {"held": 6, "revoked": 1}.get(word)
    return make_ocsp_response(CA, LEAF, status, reason=reason, produced_at=then, **times)


@dataclass(frozen=True)
class Habit:
    """
    How a source behaves: its word, and after how many seconds; without a word it fails then.
    """

    name: str
    word: str | None
    after_s: float

    def answer(self, kind: SourceKind) -> tuple[float, bytes | Cause]:
        if self.word == "unknown" and kind is REST:
            return self.after_s, Cause.UNKNOWN
        return self.after_s, Cause.UNREACHABLE if self.word is None else said(kind, self.word)

    @property
    def in_time(self) -> bool:
        return self.after_s < BUDGET_S


HABITS = (
    Habit("good", "good", 0),
    Habit("good, slowly", "good", 3),
    Habit("revoked", "revoked", 0),
    Habit("revoked, slowly", "revoked", 3.2),
    Habit("revoked, late", "revoked", 9),
    Habit("held", "held", 1),
    Habit("unknown", "unknown", 0.1),
    Habit("unreadable", "unreadable", 0.1),
    Habit("down", None, 0.1),
    Habit("silent", "good", EVER),
)
# With three sources, and beside what is at hand, those that differ in what is done about them.
TELLING = tuple(habit for habit in HABITS if habit.name not in {"good, slowly", "revoked", "unknown"})
ORDERS = [order for count in (1, 2, 3) for order in itertools.permutations((OCSP, CRL, REST), count)]


# The partner's certificate alone: what its CA is, is decided by the same rules.
LEAF_ONLY = {policy.name: replace(policy, depth=Depth.LEAF) for policy in (STRICT, RESILIENT)}


def place(order: Sequence[SourceKind], habits: Mapping[SourceKind, Habit], **fields: Any) -> World:
    """
    A world with these sources in this order.
    """
    answers = {(kind, PLACES[kind]): habit.answer(kind) for kind, habit in habits.items()}
    policy = LEAF_ONLY[fields.pop("policy", "strict")]
    return World(
        answers=answers, trust={"sources": tuple(order), "rest": PROFILE, "policy": policy}, **fields
    )


def examined() -> Examination:
    return examine(
        Question(
            chain=(LEAF.der, CA.der),
            direction=Direction.SERVER,
            trust=TrustSet(name="t", anchors=(ROOT.der,), rest=PROFILE, policy=LEAF_ONLY["strict"]),
            limits=Limits(),
            at=NOW,
            rule=None,
        )
    )


def put(store: Store, kind: SourceKind, raw: bytes, age: timedelta) -> None:
    """
    Put into the cache what was received so long ago.
    """
    key = store_key(examined(), Lookup(depth=0, kind=kind, url=PLACES[kind]))
    store.kept[key] = StoredResponse(raw=raw, received_at=NOW - age)


def told(verdict: Verdict) -> bool:
    """
    Whether a row of the policy says, with a warning, why this acceptance is not what it should be.
    """
    rows = [row for row in verdict.evidence.rows if row.cause in RESERVATIONS]
    return bool(rows) and len(verdict.warnings) >= len(rows)


# -- orders, delays and words --------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_every_mixture_of_sources_ends_as_the_table_says(order):
    bad = {"revoked", "held"}
    for mixture in itertools.product(HABITS if len(order) < 3 else TELLING, repeat=len(order)):
        habits = dict(zip(order, mixture, strict=True))
        verdict = place(order, habits).check()
        case = f"{ {kind.value: habit.name for kind, habit in habits.items()} }: {verdict.summary}"
        said_good = [k for k in order if habits[k].word == "good" and habits[k].in_time]
        first_good = order.index(said_good[0]) if said_good else len(order)
        must_speak = [k for k in order if order.index(k) < first_good or k is REST]
        if any(habits[k].word in bad and habits[k].in_time for k in must_speak):
            assert 44 == verdict.alert, case
        elif verdict.alert == 44:
            # Who need not have been asked was, because the first was slow: bad news is heard.
            assert any(habits[k].word in bad and habits[k].in_time for k in order), case
            assert any(habits[k].after_s > 0.5 for k in order), case
        elif not said_good:
            assert 46 == verdict.alert, case
        elif all(habits[k].word == "good" and habits[k].in_time for k in (*must_speak, order[first_good])):
            # What was asked besides, because the first was slow, may have answered nonsense: that is told.
            assert verdict.accepted, case
            assert told(verdict) or () == verdict.warnings, case
        else:
            assert verdict.accepted, case
            assert told(verdict), case
            assert set(verdict.evidence.rows) <= {
                row for row in verdict.evidence.rows if row.action is Action.ACCEPT_WARN
            }, case


@pytest.mark.parametrize("order", [o for o in ORDERS if len(o) == 3], ids="-".join)
def test_all_good_in_time_is_accepted_without_a_word(order):
    for mixture in itertools.product(HABITS[:2], repeat=3):
        verdict = place(order, dict(zip(order, mixture, strict=True))).check()
        assert (0, (), ()) == (verdict.alert, verdict.warnings, verdict.evidence.rows)


@pytest.mark.parametrize("order", [o for o in ORDERS if len(o) == 2], ids="-".join)
def test_cross_check_hears_all_that_must_agree(order):
    bad = {"revoked", "held"}
    for mixture in itertools.product(HABITS, repeat=2):
        habits = dict(zip(order, mixture, strict=True))
        world = place(order, habits)
        world.trust["cross_check"] = order
        verdict = world.check()
        case = f"{ {kind.value: habit.name for kind, habit in habits.items()} }: {verdict.summary}"
        if any(h.word in bad and h.in_time for h in habits.values()):
            assert 44 == verdict.alert, case
        elif all(h.word == "good" and h.in_time for h in habits.values()):
            assert (0, ()) == (verdict.alert, verdict.warnings), case
        else:
            assert 46 == verdict.alert, case


# -- staple, cache and memory --------------------------------------------------------------------------------

STAPLES = {
    "none": None,
    "young": ("good", MINUTE),
    "old": ("good", 9 * DAY),
    "revoked": ("revoked", 9 * DAY),
    "held": ("held", 9 * DAY),
}
CACHED = {
    "none": (),
    "young": ((OCSP, "good", MINUTE),),
    "old": ((OCSP, "good", HOUR), (CRL, "good", HOUR)),
    "young list": ((CRL, "good", MINUTE),),
    "old revoked": ((CRL, "revoked", HOUR),),
    "young hold": ((OCSP, "held", MINUTE * 2),),
    "old hold": ((OCSP, "held", HOUR),),
}
MEMORY = ("none", "held", "revoked")


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("cached", CACHED)
@pytest.mark.parametrize("staple", STAPLES)
def test_what_is_at_hand_counts_by_its_age_beside_every_answer(staple, cached, memory):
    for ocsp, crl in itertools.product(TELLING, TELLING[::2]):
        world = place((OCSP, CRL), {OCSP: ocsp, CRL: crl})
        for kind, word, age in CACHED[cached]:
            put(world.store, kind, said(kind, word, age), age)
        if memory != "none":
            known = said(OCSP, memory, 3 * DAY)
            world.proofs.kept[proof_key(examined(), 0)] = [
                Statement(kind=OCSP, origin=Origin.NETWORK, received_at=NOW - 3 * DAY, raw=known)
            ]
        handed_in: tuple[Statement, ...] = ()
        if STAPLES[staple] is not None:
            word, age = STAPLES[staple]
            raw = said(OCSP, word, age)
            handed_in = (Statement(kind=OCSP, origin=Origin.STAPLED, received_at=NOW, raw=raw),)
        verdict = world.check(handed_in=handed_in)
        case = f"OCSP {ocsp.name}, CRL {crl.name}: {verdict.summary}"
        at_hand = [word for _, word, _ in CACHED[cached]] + [word for word in [staple] if word == "revoked"]
        if (
            memory == "revoked"
            or "revoked" in at_hand
            or (ocsp.word in {"revoked", "held"} and ocsp.in_time and not _young(staple, cached))
        ):
            assert 44 == verdict.alert, case
        if verdict.accepted and not verdict.warnings:
            # Somebody who counts said "good" now, or lately, and all before him too.
            assert _young(staple, cached) or (ocsp.word == "good" and ocsp.in_time), case
        if verdict.accepted and ocsp.word not in {"good", None} and not _young(staple, cached):
            assert told(verdict), case


def _young(staple: str, cached: str) -> bool:
    """
    Whether the responder's "good" at hand is so young that it need not be asked: newer than every hold at hand, too.
    """
    return staple == "young" or cached == "young"


@pytest.mark.parametrize("memory", ["memory", "cache", "staple"])
@pytest.mark.parametrize("hours", [1, 24 * 20])
def test_lifted_hold_lets_the_partner_in_again_as_soon_as_it_is_asked(memory, hours):
    """
    Also after the statement's end (ten days), and after a restart: memory and cache are all that is left then.
    """
    age = timedelta(hours=hours)
    known = said(OCSP, "held", age)
    world = place((OCSP, CRL), {OCSP: HABITS[0], CRL: HABITS[0]})
    handed_in: tuple[Statement, ...] = ()
    if memory == "memory":
        world.proofs.kept[proof_key(examined(), 0)] = [
            Statement(kind=OCSP, origin=Origin.NETWORK, received_at=NOW - age, raw=known)
        ]
    elif memory == "cache":
        put(world.store, OCSP, known, age)
    else:
        handed_in = (Statement(kind=OCSP, origin=Origin.STAPLED, received_at=NOW, raw=known),)
    verdict = world.check(handed_in=handed_in)
    assert (0, ()) == (verdict.alert, verdict.warnings), verdict.summary
    still = place((OCSP, CRL), {OCSP: Habit("held", "held", 0), CRL: HABITS[0]}, proofs=world.proofs)
    assert 44 == still.check(handed_in=handed_in).alert


@pytest.mark.parametrize("kind", [OCSP, CRL, REST])
def test_hold_of_each_kind_is_asked_again_and_lifted_by_its_own_kind(kind):
    world = place((kind,), {kind: Habit("held", "held", 0)})
    assert 44 == world.check().alert
    world.store = Store()
    world.clock.ahead = 2 * MINUTE
    then = NOW + MINUTE
    lifted = {
        OCSP: lambda: make_ocsp_response(
            CA, LEAF, this_update=then, produced_at=then, next_update=then + DAY
        ),
        CRL: lambda: make_crl(CA, number=2, this_update=then, next_update=then + DAY),
        REST: lambda: said(REST, "good"),
    }[kind]()
    world.answers = {(kind, PLACES[kind]): (0, lifted)}
    verdict = world.check()
    assert (0, ()) == (verdict.alert, verdict.warnings), verdict.summary


def test_extended_revoked_is_asked_again_and_lifted():
    never = datetime(1970, 1, 1, tzinfo=UTC)
    raw = make_ocsp_response(CA, LEAF, "revoked", reason=6, revoked_at=never)
    world = place((OCSP,), {})
    world.answers = {(OCSP, PLACES[OCSP]): (0, raw)}
    assert 44 == world.check().alert
    world.clock.ahead = 2 * MINUTE
    then = NOW + MINUTE
    good = make_ocsp_response(CA, LEAF, this_update=then, produced_at=then, next_update=then + DAY)
    world.answers = {(OCSP, PLACES[OCSP]): (0, good)}
    assert (0, ()) == ((verdict := world.check()).alert, verdict.warnings)


def test_rest_is_asked_each_time_whatever_the_cache_has():
    world = place((REST, CRL), {REST: Habit("down", None, 0), CRL: HABITS[0]})
    first = world.check()
    assert (0, True) == (first.alert, told(first))
    world.answers = {**world.answers, (REST, PLACES[REST]): (0, said(REST, "revoked"))}
    assert 44 == world.check().alert
    for order in ((OCSP, REST), (OCSP, CRL, REST)):
        world = place(order, {OCSP: HABITS[0], CRL: HABITS[0], REST: Habit("revoked", "revoked", 2)})
        put(world.store, OCSP, said(OCSP, "good"), MINUTE)
        assert 44 == world.check().alert


@pytest.mark.parametrize("answer", ["forged", "nonce", "404", "unknown", "unreadable"])
@pytest.mark.parametrize("policy", ["strict", "resilient"])
def test_older_good_beside_an_answer_that_cannot_be_used_is_told_under_every_policy(answer, policy):
    world = place((OCSP,), {}, policy=policy)
    put(world.store, OCSP, said(OCSP, "good", HOUR), HOUR)
    forged = make_ocsp_response(CA, LEAF, signing_key=ROOT.key)
    other_nonce = make_ocsp_response(CA, LEAF, nonce=bytes(32), produced_at=NOW)
    answers = {
        "forged": forged,
        "nonce": other_nonce,
        "404": Cause.UNREACHABLE,
        "unknown": said(OCSP, "unknown"),
        "unreadable": b"<html>",
    }
    world.answers = {(OCSP, PLACES[OCSP]): (0, answers[answer])}
    if answer == "nonce":
        world.nonce = b"\1" * 32
    verdict = world.check()
    if answer == "unknown":  # signed, newer, by the same responder: it replaces the "good"
        assert (46, Cause.UNKNOWN) == (verdict.alert, verdict.evidence.findings[0].cause)
        return
    assert verdict.accepted, verdict.summary
    assert [(Cause.OLDER_GOOD, Action.ACCEPT_WARN)] == [(r.cause, r.action) for r in verdict.evidence.rows]
    assert "a good one of 60 min ago was used" in verdict.warnings[0]


@pytest.mark.parametrize("cause", sorted(RESERVATIONS))
def test_policy_may_refuse_what_is_told(cause):
    habits = {
        Cause.OLDER_GOOD: (HABITS[8], HABITS[8]),
        Cause.UNUSABLE_ANSWER: (HABITS[7], HABITS[0]),
        Cause.SILENT_SOURCE: (HABITS[8], HABITS[0]),
    }[cause]
    world = place((OCSP, CRL), dict(zip((OCSP, CRL), habits, strict=True)))
    put(world.store, OCSP, said(OCSP, "good", HOUR), HOUR)
    verdict = world.check()
    assert (0, [cause]) == (verdict.alert, [row.cause for row in verdict.evidence.rows]), verdict.summary
    refuse = Policy(name="p", depth=Depth.LEAF, treatments={cause: Treatment(alert=42)})
    world.trust["policy"], world.store = refuse, Store()
    put(world.store, OCSP, said(OCSP, "good", HOUR), HOUR)
    verdict = world.check()
    assert (42, Reason.STATUS_NOT_ESTABLISHED) == (verdict.alert, verdict.reason)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("delta", "alert", "rows"),
    [
        ((0, "clean"), 0, []),
        ((4, "listed"), 44, []),
        ((EVER, "clean"), 0, [Cause.SILENT_SOURCE]),
        ((9, "listed"), 0, [Cause.SILENT_SOURCE]),
        ((0, None), 0, [Cause.SILENT_SOURCE]),
        ((0, "unreadable"), 0, [Cause.UNUSABLE_ANSWER]),
    ],
)
def test_delta_of_the_list_that_is_relied_on_is_heard_or_told(delta, alert, rows, first):
    base = make_crl(CA, number=5, freshest=["http://ca/delta"])
    lists = {
        "clean": make_crl(CA, number=6, delta_base=5),
        "listed": make_crl(CA, [LEAF.serial], number=6, delta_base=5),
        "unreadable": b"<html>",
        None: Cause.UNREACHABLE,
    }
    order = (CRL, OCSP) if first else (OCSP, CRL)
    world = place(order, {OCSP: HABITS[8] if not first else HABITS[0]})
    world.answers |= {(CRL, PLACES[CRL]): (0, base), (CRL, "http://ca/delta"): (delta[0], lists[delta[1]])}
    verdict = world.check()
    assert alert == verdict.alert, verdict.summary
    expected = rows if first or alert else rows or [Cause.SILENT_SOURCE]
    assert expected == [row.cause for row in verdict.evidence.rows if row.action is Action.ACCEPT_WARN]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_statements_decide_again_what_was_decided(order):
    """
    The collector leaves nothing out that decides: its statements alone give the same verdict, in any order of kinds.
    """
    for mixture in itertools.product(HABITS[::3], repeat=len(order)):
        world = place(order, dict(zip(order, mixture, strict=True)))
        verdict, statements, question = world.judge()
        again = conclude(examine(question), statements, verdict_id=verdict.id)
        assert verdict == again
