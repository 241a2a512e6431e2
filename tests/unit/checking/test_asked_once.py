"""
A location is asked once: by all questions of a process, also those that come while the answer is judged, and by all
processes that share a cache. Two checkers with one disk stand for two processes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cftpki_cache.disk import DiskStore
from cftpki_cache.location_locks import LocationLocks
from cftpki_cache.memory import MemoryStore
from cftpki_cache.tiered import TieredStore
from cftpki_ext.checking.case import HereCase, Outcome
from cftpki_ext.checking.checker import Checker
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.question import Question
from cftpki_ext.ports.sources import StatusQuestion
from cftpki_ext.revocation.cache_key import certificate_key
from cftpki_ext.x509.certificate import parse_certificate
from tests.support.pki import NOW, make_ocsp_response
from tests.support.virtual_world import (
    CA,
    CRL,
    GOOD,
    LEAF,
    LIST,
    OCSP,
    ROOT,
    ROOT_LIST,
    Clock,
    Source,
    Store,
    VirtualLoop,
)

TRUST = TrustSet(name="t", anchors=(ROOT.der,))
# Time enough for whoever waits, on a machine that has other things to do.
LIMITS = replace(Limits(), budget_ms=60_000)
URLS = ("http://ca/ocsp", "http://root/crl")


class BusyJudge(HereCase):
    """
    One whose verdict takes two seconds.
    """

    async def conclude(self, statements: Any, *, verdict_id: str) -> Outcome:
        await asyncio.sleep(2)
        return await super().conclude(statements, verdict_id=verdict_id)


def question(clock: Any, **more: Any) -> Question:
    return Question(
        **{
            "chain": (LEAF.der, CA.der),
            "direction": Direction.SERVER,
            "trust": TRUST,
            "limits": LIMITS,
            "at": clock.now(),
            "rule": None,
            **more,
        }
    )


def storm(answers: Any, *, begin_s: Any, trusts: Any = None) -> tuple[list[Verdict], Counter[str]]:
    """
    Checks that begin at some seconds, before a busy judge; the verdicts, and how often each URL was asked.
    """
    clock, sources = Clock(), {}
    for kind in (OCSP, CRL):
        sources[kind] = Source(
            kind, clock, {url: answer for (k, url), answer in answers.items() if k is kind}
        )

    async def run() -> list[Verdict]:
        checker = Checker(sources=sources, store=Store(), clock=clock)

        async def one(number: int, at_s: float) -> Verdict:
            await asyncio.sleep(at_s)
            asked = question(clock, trust=trusts[number] if trusts else TRUST)
            checked = await checker.run(BusyJudge(asked, clock.now), asked)
            return checked.outcome.verdict

        return await asyncio.gather(*(one(number, at_s) for number, at_s in enumerate(begin_s)))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        verdicts = runner.run(run())
    return verdicts, Counter(url for source in sources.values() for url, _ in source.asked)


ANSWERS = {(OCSP, URLS[0]): (0.5, GOOD), (CRL, URLS[1]): (0.5, ROOT_LIST), (CRL, "http://ca/crl"): (0, LIST)}


def test_who_comes_while_an_answer_is_fetched_or_judged_does_not_ask_again():
    verdicts, asked = storm(ANSWERS, begin_s=[number / 100 for number in range(300)])
    assert [True] * 300 == [verdict.accepted for verdict in verdicts]
    assert dict.fromkeys(URLS, 1) == asked


def test_failures_are_everybodys_own():
    answers = {**ANSWERS, (OCSP, URLS[0]): (0.5, Cause.UNREACHABLE)}
    _, asked = storm(answers, begin_s=[0, 1, 2])
    assert 3 == asked[URLS[0]]
    assert 1 == asked["http://ca/crl"]


def test_trust_sets_do_not_share_answers():
    trusts = [TRUST, replace(TRUST, name="u", allow_hosts=("ca",))]
    verdicts, asked = storm(ANSWERS, begin_s=[0, 0.1], trusts=trusts)
    assert [True, True] == [verdict.accepted for verdict in verdicts]
    assert dict.fromkeys(URLS, 2) == asked


class Held:
    """
    A source whose answers come when they are let go.
    """

    def __init__(self, kind: SourceKind, answers: dict[str, bytes]) -> None:
        self.kind = kind
        self.answers = answers
        self.asked: list[str] = []
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def ask(self, asked: StatusQuestion) -> Statement:
        self.asked.append(asked.lookup.url)
        self.begun.set()
        await self.go.wait()
        return Statement(
            kind=self.kind,
            origin=Origin.NETWORK,
            received_at=CLOCK.now(),
            depth=asked.lookup.depth,
            url=asked.lookup.url,
            raw=self.answers[asked.lookup.url],
        )

    async def aclose(self) -> None:
        pass


class Tried(LocationLocks):
    """
    Tells that a lock was another's.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.in_vain = asyncio.Event()

    def take(self, name: str) -> bool:
        taken = super().take(name)
        if not taken:
            self.in_vain.set()
        return taken


class Now:
    """
    The time of the small PKI, passing as time does.
    """

    ahead = timedelta(0)

    def now(self) -> datetime:
        return NOW + self.ahead + timedelta(seconds=time.monotonic() - _BEGUN)

    def monotonic(self) -> float:
        return time.monotonic()


_BEGUN = time.monotonic()
CLOCK = Now()


@pytest.fixture(autouse=True)
def _time_as_it_is() -> None:
    CLOCK.ahead = timedelta(0)


class Process:
    """
    A checker with sources and memory of its own, and a disk that it shares.
    """

    def __init__(self, folder: Path) -> None:
        self.ocsp = Held(OCSP, {URLS[0]: GOOD})
        self.crl = Held(CRL, {URLS[1]: ROOT_LIST, "http://ca/crl": LIST})
        self.locks = Tried(folder)
        self.store = TieredStore(MemoryStore(), DiskStore(folder))
        self.checker = Checker(
            sources={OCSP: self.ocsp, CRL: self.crl},
            store=self.store,
            clock=CLOCK,
            locks=self.locks,
        )

    def let_go(self) -> None:
        self.ocsp.go.set()
        self.crl.go.set()

    def begin(self, **options: Any) -> asyncio.Task[tuple[Verdict, tuple[Statement, ...]]]:
        return asyncio.create_task(self.checker.check_with_statements(question(CLOCK, **options)))

    @property
    def asked(self) -> list[str]:
        return sorted(self.ocsp.asked + self.crl.asked)


@pytest.fixture
async def processes(tmp_path: Path):
    folder = tmp_path / "responses"
    folder.mkdir(mode=0o700)
    both = Process(folder), Process(folder)
    yield both
    for one in both:
        one.let_go()
        await one.checker.aclose()


async def test_of_two_processes_one_asks_and_the_other_finds_the_answer_in_the_cache(processes):
    first, second = processes
    second.let_go()
    leading = first.begin()
    await first.ocsp.begun.wait()
    following = second.begin()
    await second.locks.in_vain.wait()
    assert [] == second.asked
    first.let_go()
    (led, _), (followed, statements) = await leading, await following
    assert [True, True] == [led.accepted, followed.accepted]
    assert [sorted(URLS), []] == [first.asked, second.asked]
    assert {Origin.CACHE} == {one.origin for one in statements}


async def test_who_has_an_older_answer_in_memory_takes_the_newer_one_that_another_process_got(processes):
    first, second = processes
    for one in processes:
        one.let_go()
    await second.begin()
    first.ocsp.go.clear()
    CLOCK.ahead = timedelta(hours=1)
    leading = first.begin()
    await first.ocsp.begun.wait()
    following = second.begin()
    await second.locks.in_vain.wait()
    first.let_go()
    newer = (await leading)[1]
    verdict, statements = await following
    assert [True, ()] == [verdict.accepted, verdict.warnings]
    assert sorted(URLS) == second.asked  # of its first check
    assert {one.received_at for one in newer} == {one.received_at for one in statements}


async def test_a_process_that_hangs_costs_another_one_half_of_its_time(processes):
    first, second = processes
    second.let_go()
    hanging = first.begin()
    await first.ocsp.begun.wait()
    begun = time.monotonic()
    verdict, statements = await second.begin(limits=replace(LIMITS, budget_ms=1000, reserve_ms=200))
    assert verdict.accepted
    assert {Origin.NETWORK} == {one.origin for one in statements}
    # ... and not all: it was accepted by an answer of its own.
    assert time.monotonic() - begun > 0.35
    first.let_go()
    assert (await hanging)[0].accepted


async def test_a_process_that_was_given_up_holds_nothing(processes):
    first, second = processes
    second.let_go()
    leading = first.begin()
    await first.ocsp.begun.wait()
    following = second.begin()
    await second.locks.in_vain.wait()
    leading.cancel()
    assert (await following)[0].accepted
    assert sorted(URLS) == second.asked


async def test_without_locks_each_asks(tmp_path: Path):
    folder = tmp_path / "responses"
    folder.mkdir(mode=0o700)
    (folder / "locations.lock").symlink_to(tmp_path / "elsewhere")
    both = Process(folder), Process(folder)
    checks = [one.begin() for one in both]
    await asyncio.gather(*(one.ocsp.begun.wait() for one in both))
    for one in both:
        one.let_go()
    verdicts = await asyncio.gather(*checks)
    assert [True, True] == [verdict.accepted for verdict, _ in verdicts]
    assert [sorted(URLS)] * 2 == [one.asked for one in both]
    for one in both:
        await one.checker.aclose()


CA_READ = parse_certificate(CA.der)
OLDER = make_ocsp_response(CA, LEAF, this_update=NOW - timedelta(hours=2))
NEWER = make_ocsp_response(
    CA, LEAF, this_update=NOW - timedelta(minutes=1), produced_at=NOW - timedelta(minutes=1)
)
OLD_REVOCATION = make_ocsp_response(CA, LEAF, "revoked", reason=1, this_update=NOW - timedelta(hours=2))


@pytest.mark.parametrize(
    ("then", "kept", "alert"), [(OLDER, GOOD, 0), (NEWER, NEWER, 0), (OLD_REVOCATION, OLD_REVOCATION, 44)]
)
async def test_older_answer_replaces_no_newer_one_in_the_cache_unless_it_is_bad_news(
    processes, then, kept, alert
):
    first, _ = processes
    first.let_go()
    await first.begin()
    CLOCK.ahead = timedelta(minutes=10)
    first.ocsp.answers = {URLS[0]: then}
    verdict, statements = await first.begin()
    assert alert == verdict.alert
    assert then in {one.raw for one in statements}
    key = certificate_key(
        OCSP, issuer_name=CA_READ.subject.der, issuer_spki=CA_READ.spki, serial=LEAF.serial, url=URLS[0]
    )
    assert kept == first.store.get(key).raw
