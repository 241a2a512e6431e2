"""
What is renewed when: before it ends where its source answers, within the bounds, and not all at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cftpki_ext.checking.held import Held, Partner, due, ending, still_wanted
from cftpki_ext.checking.refreshing import Ahead, Job
from cftpki_ext.core.policy import STRICT
from cftpki_ext.core.settings import Limits, RefreshSettings, TrustSet
from cftpki_ext.core.source_settings import RestProfile
from cftpki_ext.core.vocabulary import Direction, SourceKind

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
OCSP, CRL = SourceKind.OCSP, SourceKind.CRL
LIMITS = Limits()
TRUSTS = {"t": TrustSet(name="t", anchors=(), policy=STRICT)}


def held(key: str, kind: SourceKind = OCSP, *, at: datetime = NOW, life: timedelta | None = DAY) -> Held:
    return Held(
        key=key,
        kind=kind,
        url=f"http://{key.split('-', maxsplit=1)[0]}.example/",
        issuer="CN=CA",
        received_at=at,
        this_update=at - MINUTE,
        next_update=None if life is None else at + life,
    )


def partner(number: int, *evidence: Held, seen: datetime = NOW, ends: datetime = NOW + 365 * DAY) -> Partner:
    return Partner(
        name=number.to_bytes(32, "big"),
        rule="r",
        trust="t",
        direction=Direction.SERVER,
        subject=f"CN=partner {number}",
        serial=f"{number:x}",
        ends=ends,
        ending=f"CN=partner {number}",
        seen=seen,
        held=evidence or (held(f"ocsp-{number}"), held("list", CRL)),
    )


def ahead(**options: object) -> Ahead:
    return Ahead(replace(RefreshSettings(), **options), LIMITS, TRUSTS)


class Simulation:
    """
    A schedule whose jobs end at once, in time that jumps to what is next. `answers` says what a location gives.
    """

    def __init__(self, plan: Ahead, answers: Callable[[Held, datetime], Held | None] | None = None) -> None:
        self.plan = plan
        self.monotonic = 1000.0
        self.ahead = timedelta(0)
        self.answers = answers or (
            lambda one, now: replace(
                one,
                received_at=now,
                this_update=now - MINUTE,
                next_update=None if one.next_update is None else now + (one.next_update - one.received_at),
            )
        )
        self.jobs: list[tuple[float, Job]] = []
        self.late: list[tuple[str, timedelta]] = []  # asked for only when it did not stand alone any more
        self.ended: list[str] = []

    @property
    def now(self) -> datetime:
        return NOW + self.ahead + timedelta(seconds=self.monotonic - 1000.0)

    def run(self, hours: float) -> None:
        end = self.monotonic + hours * 3600
        while self.monotonic < end:
            while (job := self.plan.take(self.now, self.monotonic)) is not None:
                self.do(job)
            waits = [30.0]
            next_at = self.plan.next_at()
            if next_at is not None:
                waits.append(next_at - self.now.timestamp())
            afforded_s = self.plan.afforded_in(self.monotonic)
            if afforded_s is not None:
                waits.append(max(0.25, afforded_s))
            self.monotonic += max(0.05, min(waits))

    def do(self, job: Job) -> None:
        self.jobs.append((self.monotonic, job))
        fresh, failures = [], {}
        for one in job.partner.held:
            if one.key not in job.keys:
                fresh.append(one)
                continue
            if self.now > one.stands_until(LIMITS):
                self.late.append((one.key, self.now - one.stands_until(LIMITS)))
            if self.now > one.ends(LIMITS):
                self.ended.append(one.key)
            answer = self.answers(one, self.now)
            fresh.append(one if answer is None else answer)
            if answer is None:
                failures[one.url] = "unreachable: refused"
        self.plan.done(
            job,
            replace(job.partner, held=tuple(fresh)),
            failures=failures,
            requests=len(job.keys),
            now=self.now,
            monotonic=self.monotonic,
        )

    @property
    def asked(self) -> Counter[str]:
        return Counter(key for _, job in self.jobs for key in job.keys)


@given(
    refresh_s=st.integers(5, 86_400),
    life_s=st.one_of(st.none(), st.integers(1, 40 * 86_400)),
    kind=st.sampled_from([OCSP, CRL]),
    key=st.text(min_size=1, max_size=5),
)
def test_what_is_due_is_due_before_it_ends_and_after_it_came(
    refresh_s: int, life_s: int | None, kind: SourceKind, key: str
) -> None:
    limits = replace(
        LIMITS, ocsp_refresh=timedelta(seconds=refresh_s), crl_refresh=timedelta(seconds=refresh_s)
    )
    one = replace(held("a", kind, life=None if life_s is None else timedelta(seconds=life_s)), key=key)
    soft, hard = due(one, limits)
    assert soft is not None
    assert one.received_at <= soft <= hard <= max(one.received_at, one.ends(limits))
    assert soft <= one.stands_until(limits)
    assert one.received_at + (one.stands_until(limits) - one.received_at) / 2 <= soft


def test_evidence_of_a_few_partners_always_stands_alone() -> None:
    plan = ahead()
    for number in range(20):
        plan.accepted(partner(number))
    simulation = Simulation(plan)
    simulation.run(6)
    assert [] == simulation.late
    # Every 2.5 to 3.75 minutes, lists every 7.5 to 11.25; what is due together is asked together.
    for number in range(20):
        assert 6 * 16 <= simulation.asked[f"ocsp-{number}"] <= 6 * 24
    assert 6 * 5 <= simulation.asked["list"] <= 6 * 8
    assert plan.renewed == sum(simulation.asked.values())


def test_many_partners_are_renewed_within_the_bound_and_before_their_evidence_ends() -> None:
    plan = ahead(requests_per_hour=720)
    for number in range(2000):
        plan.accepted(
            partner(number, held(f"ocsp-{number}", life=6 * HOUR), seen=NOW - DAY + timedelta(seconds=number))
        )
    simulation = Simulation(plan)
    simulation.run(8)
    assert [] == simulation.ended
    assert 2000 == len(simulation.asked)
    by_hour = Counter(int((at - 1000) // 3600) for at, _ in simulation.jobs)
    assert max(by_hour.values()) <= 720 + 12
    by_minute = Counter(int((at - 1000) // 60) for at, _ in simulation.jobs)
    assert max(by_minute.values()) <= 12 + 13
    # Those who came last are asked about far more often than those who came first.
    latest, first = (sum(simulation.asked[f"ocsp-{n}"] for n in r) for r in (range(1980, 2000), range(20)))
    assert latest > 10 * first


def test_storm_of_partners_after_a_restart_is_spread() -> None:
    plan = ahead()
    for number in range(10_000):
        plan.accepted(
            partner(number, held(f"ocsp-{number}", at=NOW - HOUR), held("list", CRL, at=NOW - HOUR))
        )
    simulation = Simulation(plan)
    simulation.run(0.1)
    # A minute's worth at once, and one a second; the list that all need is asked for first, and once.
    assert len(simulation.jobs) <= 60 + 6 * 60
    assert 1 == simulation.asked["list"]
    assert "list" in simulation.jobs[0][1].keys


def test_a_shared_list_is_asked_about_one_partner_the_one_that_came_last() -> None:
    plan = ahead()
    for number in range(100):
        plan.accepted(partner(number, held("list", CRL)))
    assert plan.seen((7).to_bytes(32, "big"), NOW + MINUTE)
    simulation = Simulation(plan)
    simulation.run(0.25)
    assert [7] == [int.from_bytes(job.partner.name, "big") for _, job in simulation.jobs]


def test_limits_of_a_job_make_old_what_is_due_and_leave_the_rest() -> None:
    plan = ahead()
    plan.accepted(partner(1, held("ocsp-1", at=NOW - 4 * MINUTE), held("list", CRL, at=NOW - MINUTE)))
    job = plan.take(NOW, 0.0)
    assert job is not None
    assert frozenset({"ocsp-1"}) == job.keys
    assert timedelta(minutes=3, seconds=59) < job.limits.ocsp_refresh < 4 * MINUTE
    assert LIMITS.crl_refresh == job.limits.crl_refresh
    assert plan.take(NOW, 0.0) is None


def test_a_source_that_fails_is_left_alone_longer_and_longer_and_told() -> None:
    plan = ahead()
    for number in range(50):
        plan.accepted(partner(number, held(f"ocsp-{number}")))
    simulation = Simulation(plan, lambda *_: None)
    simulation.run(2)
    # All at one location: it is asked by one partner at a time, every minute in the end.
    assert 100 <= len(simulation.jobs) <= 140
    (trouble,) = plan.troubles()
    assert ("http://ocsp.example/", 50, "unreachable: refused") == (
        trouble.location,
        trouble.partners,
        trouble.detail,
    )
    assert NOW + DAY == trouble.ends
    assert NOW < trouble.since < NOW + 4 * MINUTE
    # It is back: all are renewed, and nothing is told any more.
    simulation.answers = lambda one, now: replace(one, received_at=now)
    simulation.run(0.5)
    assert () == plan.troubles()
    assert 50 == len({key for at, job in simulation.jobs if at > 1000 + 7200 for key in job.keys})


def test_failure_of_our_own_blames_no_host() -> None:
    plan = ahead()
    plan.accepted(partner(1, held("ocsp-1", at=NOW - HOUR)))
    job = plan.take(NOW, 0.0)
    assert job is not None
    plan.done(job, job.partner, failures={}, requests=0, now=NOW, monotonic=0.0, ours=True)
    assert () == plan.troubles()
    assert plan.take(NOW + 10 * timedelta(seconds=1), 10.0) is None
    assert plan.take(NOW + 2 * MINUTE, 120.0) is not None


@pytest.mark.parametrize("by", [-30 * DAY, -HOUR, HOUR, 2 * DAY])
def test_clock_that_is_set_lets_nothing_go_unrenewed(by: timedelta) -> None:
    plan = ahead()
    plan.accepted(partner(1, held("ocsp-1", life=40 * DAY)))
    simulation = Simulation(plan)
    simulation.run(1)
    before = len(simulation.jobs)
    simulation.ahead = by
    simulation.run(1 / 60)
    assert before < len(simulation.jobs) <= before + 3
    simulation.run(1)
    assert 16 <= len(simulation.jobs) - before <= 27


def test_partners_are_bounded_and_forgotten_when_they_do_not_come() -> None:
    plan = ahead(partners=3)
    gone = [plan.accepted(partner(number, seen=NOW + number * HOUR)) for number in range(4)]
    assert [(), (), (), ((0).to_bytes(32, "big"),)] == gone
    assert [1, 2, 3] == [int.from_bytes(one.name, "big") for one in plan.partners]
    late = NOW + 7 * DAY + timedelta(hours=2, minutes=1)
    assert 2 == len(plan.forget_unseen(late))
    assert {CRL: 1, OCSP: 1} == plan.evidence()
    plan.forget((3).to_bytes(32, "big"))
    assert {} == plan.evidence()
    assert plan.next_at() is None


def test_partner_whose_certificate_has_ended_is_forgotten() -> None:
    plan = ahead()
    plan.accepted(partner(1, ends=NOW + HOUR))
    assert () == plan.forget_unseen(NOW)
    assert 1 == len(plan.forget_unseen(NOW + 2 * HOUR))


def test_job_of_a_partner_that_was_forgotten_meanwhile_brings_it_not_back() -> None:
    plan = ahead()
    plan.accepted(partner(1, held("ocsp-1", at=NOW - HOUR)))
    job = plan.take(NOW, 0.0)
    assert job is not None
    plan.forget(job.partner.name)
    plan.done(job, job.partner, failures={}, requests=1, now=NOW, monotonic=0.0)
    assert 0 == plan.count


def test_where_each_handshake_asks_anyway_only_the_end_counts() -> None:
    soft, hard = due(held("a", life=DAY), replace(LIMITS, ocsp_refresh=timedelta(0)))
    assert (None, True) == (soft, NOW + DAY / 2 <= hard <= NOW + DAY)
    rest = replace(
        TRUSTS["t"],
        sources=(OCSP, SourceKind.REST),
        rest=RestProfile(name="x", url="https://ca.example/{serial_hex}"),
    )
    plan = Ahead(RefreshSettings(), LIMITS, {"t": rest})
    plan.accepted(partner(1, held("ocsp-1")))
    next_at = plan.next_at()
    assert next_at is not None
    assert next_at >= (NOW + DAY / 2).timestamp()


@settings(max_examples=40, deadline=None)
@given(
    lives=st.lists(st.integers(30, 7 * 86_400), min_size=1, max_size=8),
    rate=st.sampled_from([60, 600, 3600]),
    down=st.integers(0, 3),
)
def test_nothing_ends_where_sources_answer_and_bounds_hold_whatever_fails(
    lives: list[int], rate: int, down: int
) -> None:
    plan = ahead(requests_per_hour=rate)
    for number, life in enumerate(lives):
        plan.accepted(partner(number, held(f"host{number % 4}-{number}", life=timedelta(seconds=life))))

    def answers(one: Held, now: datetime) -> Held | None:
        if down and one.key.startswith(f"host{down}-"):
            return None
        assert one.next_update is not None
        return replace(
            one, received_at=now, this_update=now, next_update=now + (one.next_update - one.received_at)
        )

    simulation = Simulation(plan, answers)
    simulation.run(2)
    if rate == 3600:
        assert [] == [key for key in simulation.ended if not (down and key.startswith(f"host{down}-"))]
    assert sum(len(job.keys) for _, job in simulation.jobs) <= rate * 2 + max(2, rate / 60) + len(lives)


def test_answer_that_another_source_stood_in_for_is_still_wanted_where_its_location_failed() -> None:
    ocsp, crl = held("ocsp-1"), held("list", CRL)
    assert (crl, ocsp) == still_wanted((ocsp,), (crl,), [ocsp.url])
    assert (crl,) == still_wanted((ocsp,), (crl,), [])
    newer = replace(ocsp, received_at=NOW + MINUTE)
    assert (newer,) == still_wanted((ocsp,), (newer,), [ocsp.url])


def test_who_ends_soon_is_told_in_order() -> None:
    them = [partner(n, ends=NOW + n * DAY) for n in (40, 3, 10)]
    assert [3, 10] == [int.from_bytes(one.name, "big") for one in ending(them, NOW, within=30 * DAY)]
