"""
Nodes that share what CAs answer: each location is asked once for all, and whoever lies between them changes no answer.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from cftpki_ext.checking import sharing
from cftpki_ext.checking.checker import Checker
from cftpki_ext.checking.sharing import Sharing, Tried
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.cluster import LEASE_S, Parts
from cftpki_ext.core.policy import RESILIENT
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.vocabulary import Direction, Origin
from cftpki_ext.decision.question import Question
from tests.support.pki import NOW, issue, make_crl, make_ocsp_response, make_root
from tests.support.shared_tier import Tier
from tests.support.virtual_world import (
    CA,
    CRL,
    GOOD,
    LEAF,
    LIST,
    OCSP,
    REVOKED,
    ROOT,
    ROOT_LIST,
    Clock,
    Proofs,
    Source,
    Store,
    VirtualLoop,
)

TRUST = TrustSet(name="t", anchors=(ROOT.der,))
LIMITS = replace(Limits(), budget_ms=60_000)
URLS = ("http://ca/ocsp", "http://root/crl")
ANSWERS: dict[Any, Any] = {
    (OCSP, URLS[0]): (0.5, GOOD),
    (CRL, URLS[1]): (0.5, ROOT_LIST),
    (CRL, "http://ca/crl"): (0, LIST),
}
OTHER = issue(CA, "other", eku=["clientAuth"])
STRANGER = make_root("Root")  # the same name, and another key


class Node:
    """
    One node with its own cache, memory and connections.
    """

    def __init__(self, clock: Clock, tier: Tier | None, answers: Any) -> None:
        self.clock = clock
        self.sources = {
            kind: Source(kind, clock, {u: a for (k, u), a in answers.items() if k is kind})
            for kind in (OCSP, CRL)
        }
        self.store, self.proofs = Store(), Proofs()
        self.checker = Checker(sources=self.sources, store=self.store, clock=clock, proofs=self.proofs)
        self.sharing = None if tier is None else Sharing(tier, clock)
        if self.sharing is not None:
            self.checker.share_by(self.sharing)

    async def check(self, **more: Any) -> tuple[Verdict, tuple[Any, ...]]:
        fields = {
            "chain": (LEAF.der, CA.der),
            "direction": Direction.SERVER,
            "trust": TRUST,
            "limits": LIMITS,
            "at": self.clock.now(),
            "rule": None,
        }
        return await self.checker.check_with_statements(Question(**{**fields, **more}))

    @property
    def asked(self) -> Counter[str]:
        return Counter(url for source in self.sources.values() for url, _ in source.asked)

    async def settle(self) -> None:
        if self.sharing is not None:
            await self.sharing.aclose()


def play(scene: Callable[[Clock], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        return await scene(Clock())

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


def decided(verdict: Verdict) -> Any:
    """
    What a verdict decides. That an old "good" which somebody kept back speaks against a revocation is told as a warning.
    """
    return verdict.status, verdict.reason, [f.status for f in verdict.evidence.findings]


def test_four_nodes_ask_each_location_once():
    async def scene(clock):
        tier = Tier(clock)
        nodes = [Node(clock, tier, ANSWERS) for _ in range(4)]
        verdicts = await asyncio.gather(*(node.check() for node in nodes for _ in range(50)))
        return [v.accepted for v, _ in verdicts], sum((node.asked for node in nodes), Counter())

    accepted, asked = play(scene)
    assert [True] * 200 == accepted
    assert dict.fromkeys(URLS, 1) == asked


def test_known_partner_costs_no_call():
    async def scene(clock):
        tier = Tier(clock)
        node = Node(clock, tier, ANSWERS)
        await node.check()
        await asyncio.sleep(1)
        before = len(tier.calls)
        verdict, statements = await node.check()
        return verdict.accepted, {s.origin for s in statements}, len(tier.calls) - before

    assert (True, {Origin.CACHE}, 0) == play(scene)


def test_node_that_begins_later_asks_nobody_and_says_so():
    async def scene(clock):
        tier = Tier(clock)
        await Node(clock, tier, ANSWERS).check()
        await asyncio.sleep(1)
        late = Node(clock, tier, ANSWERS)
        verdict, statements = await late.check()
        return verdict.accepted, {s.origin for s in statements}, late.asked, late.sharing.status()

    accepted, origins, asked, status = play(scene)
    assert (True, {Origin.CLUSTER}, Counter()) == (accepted, origins, asked)
    assert (2, 2, 0, 0) == tuple(status[name] for name in ("brought", "used", "not_used", "asked"))


def test_shared_answer_ages_from_when_the_other_node_received_it():
    async def scene(clock):
        tier = Tier(clock)
        await Node(clock, tier, ANSWERS).check()
        await asyncio.sleep(LIMITS.ocsp_refresh.total_seconds() - 60)
        late = Node(clock, tier, ANSWERS)
        await late.check()
        first = late.asked[URLS[0]]
        await asyncio.sleep(120)
        await late.check()
        return first, late.asked[URLS[0]]

    assert (0, 1) == play(scene)


def test_answer_that_nobody_vouches_for_ages_from_what_its_ca_signed():
    async def scene(clock):
        seen = []
        for old_s in (100, LIMITS.ocsp_refresh.total_seconds() + 1):
            tier = Tier(clock, vouched=False)
            made = clock.now() - timedelta(seconds=old_s)
            answer = make_ocsp_response(CA, LEAF, produced_at=made, this_update=made)
            await Node(clock, tier, {**ANSWERS, (OCSP, URLS[0]): (0, answer)}).check()
            await asyncio.sleep(1)
            late = Node(clock, tier, {**ANSWERS, (OCSP, URLS[0]): (0, answer)})
            await late.check()
            seen.append(late.asked[URLS[0]])
        return seen

    assert [0, 1] == play(scene)


LIES = {
    "nothing": b"\0",
    "text": b"<html>not found</html>",
    "another certificate's": make_ocsp_response(CA, OTHER),
    "signed by a stranger": make_ocsp_response(STRANGER, LEAF, signer=STRANGER),
    "old": GOOD,
    "a list of a stranger": make_crl(STRANGER),
    "much": b"\x30" * 100_000,
    "ended": make_ocsp_response(
        CA,
        LEAF,
        produced_at=NOW - timedelta(days=9),
        this_update=NOW - timedelta(days=9),
        next_update=NOW - timedelta(days=8),
    ),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize(
    "ocsp",
    [(0.1, GOOD), (0.1, REVOKED), (0, Cause.UNREACHABLE), (0.1, make_ocsp_response(CA, LEAF, "unknown"))],
    ids=["good", "revoked", "unreachable", "unknown"],
)
def test_whoever_lies_between_nodes_changes_no_answer(lie, ocsp):
    answers = {**ANSWERS, (OCSP, URLS[0]): ocsp}
    trust = replace(TRUST, sources=(OCSP, CRL))

    async def scene(clock):
        alone = Node(clock, None, answers)
        lied_to = Node(clock, Tier(clock, vouched=False, lies={"*": lie}), answers)
        return [(await node.check(trust=trust))[0] for node in (alone, lied_to)], alone.asked, lied_to.asked

    verdicts, asked_alone, asked = play(scene)
    assert decided(verdicts[0]) == decided(verdicts[1])
    assert asked_alone == asked


def test_bad_news_of_another_node_counts_and_is_remembered_with_the_time_of_its_judgement():
    async def scene(clock):
        tier = Tier(clock, vouched=False)
        revoked = {**ANSWERS, (OCSP, URLS[0]): (0, REVOKED)}
        await Node(clock, tier, revoked).check()
        await asyncio.sleep(1)
        late = Node(clock, tier, ANSWERS)
        verdict, _ = await late.check()
        ((proof,),) = late.proofs.kept.values()
        return verdict.accepted, late.asked[URLS[0]], clock.now() - proof.received_at < timedelta(seconds=5)

    assert (False, 0, True) == play(scene)


def test_holder_that_dies_costs_at_most_its_lease():
    async def scene(clock):
        tier = Tier(clock)
        dying = Node(clock, tier, {**ANSWERS, (OCSP, URLS[0]): (float("inf"), GOOD)})
        task = asyncio.create_task(dying.check())
        await asyncio.sleep(0.2)
        # It is gone, without a word.
        for _, holding in dying.sharing._leases.values():
            holding.cancel()
        other = Node(clock, tier, ANSWERS)
        begun = clock.monotonic()
        verdict, _ = await other.check()
        took_s = clock.monotonic() - begun
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return verdict.accepted, other.asked[URLS[0]], took_s

    accepted, asked, took_s = play(scene)
    assert (True, 1) == (accepted, asked)
    assert took_s < LEASE_S + 1.5


def test_slow_holder_keeps_its_lease_and_the_others_wait_half_their_time():
    async def scene(clock):
        tier = Tier(clock)
        slow = Node(clock, tier, {**ANSWERS, (OCSP, URLS[0]): (8, GOOD)})
        others = [Node(clock, tier, ANSWERS) for _ in range(3)]
        first = asyncio.create_task(slow.check())
        await asyncio.sleep(0.1)
        await asyncio.gather(*(node.check() for node in others))
        await first
        return slow.asked[URLS[0]] + sum(node.asked[URLS[0]] for node in others)

    assert 1 == play(scene)


def test_server_that_is_down_costs_nobody_anything():
    async def scene(clock):
        alone, down = Node(clock, None, ANSWERS), Node(clock, Tier(clock, down=True, delay_s=0), ANSWERS)
        took = []
        for node in (alone, down):
            begun = clock.monotonic()
            await node.check()
            took.append(clock.monotonic() - begun)
        return took, down.asked

    took, asked = play(scene)
    assert took[0] == pytest.approx(took[1], abs=0.02)
    assert dict.fromkeys(URLS, 1) == asked


def test_location_that_fails_is_asked_by_each_node_and_its_lease_is_given_back():
    async def scene(clock):
        tier = Tier(clock)
        answers = {**ANSWERS, (OCSP, URLS[0]): (0.1, Cause.UNREACHABLE)}
        nodes = [Node(clock, tier, answers) for _ in range(2)]
        for node in nodes:
            await node.check()
            await node.settle()
        return [node.asked[URLS[0]] for node in nodes], tier.leases

    assert ([1, 1], {}) == play(scene)


def test_later_lease_is_not_overwritten_by_an_earlier_one():
    async def scene(clock):
        tier = Tier(clock)
        early = await tier.take("k")
        await asyncio.sleep(LEASE_S + 1)
        late = await tier.take("k")
        done = [
            await tier.put("k", raw, received_at=clock.now(), keep_s=60, lease=lease)
            for raw, lease in ((b"new", late), (b"old", early))
        ]
        return done, tier.answers["k"][1]

    assert ([True, False], b"new") == play(scene)


LISTED = issue(CA, "listed", eku=["clientAuth"], crl_urls=["http://ca/crl"])


@pytest.mark.parametrize(
    ("vouched", "received_s"),
    [(True, 9000), (True, 2), (False, 9000), (False, 2)],
    ids=["vouched for", "just now, and vouched for", "not vouched for", "just now, and not vouched for"],
)
def test_list_of_another_node_takes_the_place_of_no_newer_one_that_an_earlier_process_put(
    vouched, received_s
):
    older, newer = (
        make_crl(
            CA,
            listed,
            number=number,
            this_update=NOW - timedelta(hours=hours),
            next_update=NOW + timedelta(days=5),
        )
        for number, hours, listed in ((1, 5, ()), (2, 4, (LISTED.serial,)))
    )
    trust = replace(TRUST, sources=(CRL,), policy=RESILIENT)
    location = (CRL, "http://ca/crl")

    async def scene(clock):
        tier = Tier(clock, vouched=vouched)
        before = Node(clock, None, {**ANSWERS, location: (0, newer)})
        await before.check(trust=trust)
        await asyncio.sleep(9000 - received_s)
        # The other node asks a server that is behind.
        await Node(clock, tier, {**ANSWERS, location: (0, older)}).check(trust=trust)
        await asyncio.sleep(received_s)
        after = Node(clock, tier, {**ANSWERS, location: (0, Cause.UNREACHABLE)})
        after.store.kept = before.store.kept
        accepted = (await after.check(trust=trust))[0].accepted
        verdict, _ = await after.check(trust=trust, chain=(LISTED.der, CA.der))
        return accepted, newer in after.store.raws, older in after.store.raws, verdict.alert

    assert (True, True, False, 44) == play(scene)


@pytest.mark.parametrize("vouched", [True, False])
def test_newer_list_of_another_node_takes_the_place_of_one_that_an_earlier_process_put(vouched):
    older, newer = (
        make_crl(
            CA,
            (),
            number=number,
            this_update=NOW - timedelta(hours=hours),
            next_update=NOW + timedelta(days=5),
        )
        for number, hours in ((1, 5), (2, 4))
    )
    trust = replace(TRUST, sources=(CRL,), policy=RESILIENT)
    location = (CRL, "http://ca/crl")

    async def scene(clock):
        tier = Tier(clock, vouched=vouched)
        before = Node(clock, None, {**ANSWERS, location: (0, older)})
        await before.check(trust=trust)
        await asyncio.sleep(9000)
        await Node(clock, tier, {**ANSWERS, location: (0, newer)}).check(trust=trust)
        await asyncio.sleep(1)
        after = Node(clock, tier, {**ANSWERS, location: (0, Cause.UNREACHABLE)})
        after.store.kept = before.store.kept
        accepted = (await after.check(trust=trust))[0].accepted
        return accepted, newer in after.store.raws, older in after.store.raws

    assert (True, True, False) == play(scene)


def test_older_list_of_its_location_takes_the_place_of_no_newer_one_that_an_earlier_process_put():
    older, newer = (
        make_crl(
            CA, (), number=number, this_update=NOW - timedelta(hours=4), next_update=NOW + timedelta(days=5)
        )
        for number in (1, 2)
    )
    trust = replace(TRUST, sources=(CRL,), policy=RESILIENT)
    location = (CRL, "http://ca/crl")

    async def scene(clock):
        before = Node(clock, None, {**ANSWERS, location: (0, newer)})
        await before.check(trust=trust)
        await asyncio.sleep(9000)
        after = Node(clock, None, {**ANSWERS, location: (0, older)})
        after.store.kept = before.store.kept
        accepted = (await after.check(trust=trust))[0].accepted
        return accepted, newer in after.store.raws, older in after.store.raws, after.asked[location[1]]

    # Of one second, and told apart by their numbers.
    assert (True, True, False, 1) == play(scene)


def test_large_list_that_the_server_brings_slowly_leaves_half_of_the_time_for_its_location(monkeypatch):
    async def gather_slowly(*_: Any, in_time: Callable[[], bool]) -> None:
        while in_time():  # noqa: ASYNC110 - stands for call after call
            await asyncio.sleep(0.9)

    monkeypatch.setattr(sharing, "gather", gather_slowly)

    async def scene(clock):
        tier, begun, asked = Tier(clock), clock.monotonic(), []
        tier.answers["k"] = 1, Parts(digest="00" * 32, size=1 << 25), clock.now()

        async def fetch():
            asked.append(clock.monotonic() - begun)
            return Statement(kind=CRL, origin=Origin.NETWORK, received_at=clock.now(), raw=b"list")

        place: Any = SimpleNamespace(key="k", lookup=SimpleNamespace(kind=CRL))
        tried = Tried(spool=SimpleNamespace(), most=1 << 30)
        one = Sharing(tier, clock)
        await one.once(place, fetch, tried=tried, deadline=begun + 20)
        await one.aclose()
        return asked

    (asked_s,) = play(scene)
    assert 10 <= asked_s < 11.5


def test_answer_that_was_asked_for_without_a_lease_is_put_as_old_as_its_asking():
    async def scene(clock):
        tier = Tier(clock)
        tier.leases["k"] = 1, clock.monotonic() + 60.0

        async def fetch():
            await asyncio.sleep(7.0)
            return Statement(kind=CRL, origin=Origin.NETWORK, received_at=clock.now(), raw=b"list")

        place: Any = SimpleNamespace(key="k", lookup=SimpleNamespace(kind=CRL))
        one = Sharing(tier, clock)
        statement = await one.once(place, fetch, tried=Tried(), deadline=clock.monotonic() + 2.0)
        one.kept("k", statement, keep_s=60)
        one.done("k")
        await one.aclose()
        return tier.unleased, one._begun

    (ago_s,), left = play(scene)
    assert pytest.approx(7.0, abs=0.01) == ago_s
    assert {} == left


DELTA = "http://ca/delta"


def with_delta(delta: Any, *, base: int = 5) -> dict[Any, Any]:
    """
    A location with a list that names where its delta is, and that.
    """
    return {
        **ANSWERS,
        (CRL, "http://ca/crl"): (0.1, make_crl(CA, number=base, freshest=[DELTA])),
        (CRL, DELTA): (0.1, delta),
    }


NEWER = make_crl(CA, number=6, delta_base=5)
LISTING = make_crl(CA, [LISTED.serial], number=6, delta_base=5)
BY_LIST = replace(TRUST, sources=(CRL,))


@pytest.mark.parametrize(("vouched", "requests"), [(True, 1), (False, 4)])
def test_delta_is_asked_for_once_and_verified_with_the_list_that_it_belongs_to(vouched, requests):
    chain = (LISTED.der, CA.der)

    async def scene(clock):
        tier = Tier(clock, vouched=vouched)
        answers = with_delta(NEWER)
        nodes = [Node(clock, tier, answers) for _ in range(4)]
        verdicts = [(await node.check(trust=BY_LIST, chain=chain))[0] for node in nodes]
        asked = sum((node.asked for node in nodes), Counter())
        return [v.accepted for v in verdicts], asked[DELTA]

    # What nobody vouches for is as old as its signature says: more than a refresh age.
    assert ([True] * 4, requests) == play(scene)


def test_revocation_in_a_delta_of_another_node_counts():
    async def scene(clock):
        tier = Tier(clock)
        await Node(clock, tier, with_delta(LISTING)).check(trust=BY_LIST)
        late = Node(clock, tier, with_delta(NEWER))
        await asyncio.sleep(1)
        chain = (LISTED.der, CA.der)
        return [(await late.check(trust=BY_LIST, chain=chain))[0].alert for _ in range(2)]

    assert [44, 44] == play(scene)


@pytest.mark.parametrize(
    "shared",
    [
        b"<html>",
        make_crl(STRANGER, number=6, delta_base=5),
        make_crl(CA, number=9, delta_base=8),
        make_crl(CA, number=4, delta_base=3),
        make_crl(
            CA,
            number=6,
            delta_base=5,
            this_update=NOW - timedelta(days=9),
            next_update=NOW - timedelta(days=8),
        ),
    ],
    ids=["garbage", "another CA's", "of a later list", "of an earlier list", "old"],
)
def test_delta_of_another_node_that_is_none_of_the_list_is_asked_for_at_its_location(shared):
    chain = (LISTED.der, CA.der)

    async def scene(clock):
        tier = Tier(clock)
        await Node(clock, tier, with_delta(NEWER)).check(trust=BY_LIST, chain=chain)
        await asyncio.sleep(1)
        assert NEWER in [raw for _, raw, _ in tier.answers.values()]
        for key, (token, raw, received_at) in list(tier.answers.items()):
            if raw == NEWER:
                tier.answers[key] = token, shared, received_at
        late = Node(clock, tier, with_delta(LISTING))
        verdict, _ = await late.check(trust=BY_LIST, chain=chain)
        return verdict.alert, late.asked[DELTA]

    assert (44, 1) == play(scene)
