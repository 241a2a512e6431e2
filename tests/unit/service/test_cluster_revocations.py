"""
A revocation that another node tells: verified and remembered here, once, whatever is known already.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest
from cryptography import x509

from cftpki_ext.checking.case import HereCase
from cftpki_ext.checking.checker import Checker
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.cluster import RevokedNews
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.settings import Rule, Settings, TrustSet
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.decision.question import Question
from cftpki_ext.service.cluster.revocations import Proof, Revocations
from cftpki_ext.service.judging.remote import Judged
from tests.support.pki import NOW, issue, make_crl, make_root
from tests.support.pki.crl import Revoked
from tests.support.virtual_world import (
    CA,
    CRL,
    LEAF,
    ROOT,
    ROOT_LIST,
    Clock,
    Proofs,
    Source,
    Store,
    VirtualLoop,
)

HOUR = timedelta(hours=1)
LOCATION = "http://ca/crl"
TRUST = TrustSet(name="t", anchors=(ROOT.der,), sources=(CRL,))
SETTINGS = replace(
    Settings(),
    rules=(Rule(name="r", trust="t", direction=Direction.SERVER),),
    trusts=MappingProxyType({"t": TRUST}),
)


def listed(age: timedelta, reason: str | None = None) -> bytes:
    """
    A list of that age, which names the partner for a reason.
    """
    then = NOW - age
    entries = () if reason is None else (Revoked(LEAF.serial, then, getattr(x509.ReasonFlags, reason)),)
    return make_crl(
        CA, entries, number=100 - age // HOUR, this_update=then, next_update=NOW + timedelta(days=7)
    )


def news(raw: bytes) -> RevokedNews:
    return RevokedNews(chain=(LEAF.der, CA.der), kind=CRL, url=LOCATION, raw=raw)


class Node:
    """
    A node with one location, its cache and its memory.
    """

    def __init__(self) -> None:
        self.clock, self.store, self.proofs = Clock(), Store(), Proofs()
        self.source = Source(CRL, self.clock, {"http://root/crl": (0, ROOT_LIST)})
        self.checker = Checker(
            sources={CRL: self.source}, store=self.store, clock=self.clock, proofs=self.proofs
        )
        self.records: list[Any] = []
        self.revocations = Revocations(self, self._record, settings=lambda: SETTINGS, clock=self.clock)

    async def judge(self, question: Question, handed_in: Any = (), *, remember: bool = True) -> Judged:
        case = HereCase(question, self.clock.now)
        checked = await self.checker.run(case, question, handed_in, remember=remember)
        return Judged(verdict=checked.outcome.verdict, statements=checked.statements)

    async def _record(self, question: Question, handed_in: Any) -> None:
        self.records.append((await self.judge(question, handed_in)).verdict)

    async def check(self, raw: bytes | None = None) -> bool:
        """
        Whether the partner is let in; by a list that the location gives now.
        """
        if raw is not None:
            self.source.answers = {**self.source.answers, LOCATION: (0, raw)}
            self.store.kept.clear()
        question = Question(
            chain=(LEAF.der, CA.der),
            direction=Direction.SERVER,
            trust=TRUST,
            limits=SETTINGS.limits,
            at=self.clock.now(),
            rule="r",
        )
        return (await self.judge(question)).verdict.accepted

    async def hear(
        self, raw: bytes = b"", *, chain: Any = (), heard_s: float = 0.0, again: bool = False
    ) -> Proof:
        told = news(raw)
        return await self.revocations.hear(
            replace(told, chain=chain or told.chain), heard_s=heard_s, again=again
        )

    @property
    def remembered(self) -> list[Any]:
        return [one.raw for kept in self.proofs.kept.values() for one in kept]


def play(scene: Any) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scene())


def test_revocation_whose_location_does_not_answer_is_not_taken_for_one_that_nothing_proves():
    async def scene():
        node = Node()
        assert await node.check(listed(2 * HOUR))
        await asyncio.sleep(60)
        heard_s = node.clock.monotonic()
        await asyncio.sleep(1)
        node.source.answers = {**node.source.answers, LOCATION: (0, Cause.UNREACHABLE)}
        assert Proof.UNANSWERED is await node.hear(heard_s=heard_s)
        node.source.answers = {**node.source.answers, LOCATION: (0, listed(HOUR))}
        assert Proof.NOT_PROVEN is await node.hear(heard_s=heard_s)

    play(scene)


def test_revocation_of_a_partner_whose_hold_was_lifted_is_remembered_once():
    held, free, revoked = (
        listed(3 * HOUR, "certificate_hold"),
        listed(2 * HOUR),
        listed(HOUR, "key_compromise"),
    )

    async def scene():
        node = Node()
        assert not await node.check(held)
        assert await node.check(free)
        for _ in range(2):
            assert Proof.PROVEN is await node.hear(revoked)
            assert [held, revoked] == node.remembered
            assert 1 == len(node.records)
        assert not await node.check()

    play(scene)


def test_hold_that_is_told_again_is_remembered_once():
    held = listed(3 * HOUR, "certificate_hold")

    async def scene():
        node = Node()
        for _ in range(2):
            assert Proof.PROVEN is await node.hear(held)
        assert [held] == node.remembered
        assert 1 == len(node.records)

    play(scene)


def test_another_proof_of_what_nothing_can_lift_is_not_remembered():
    first, second = (listed(age * HOUR, "key_compromise") for age in (3, 1))

    async def scene():
        node = Node()
        for raw in (first, second):
            assert Proof.PROVEN is await node.hear(raw)
        assert [first] == node.remembered
        assert 1 == len(node.records)

    play(scene)


def test_list_that_names_nobody_proves_nothing():
    async def scene():
        node = Node()
        assert Proof.NOT_PROVEN is await node.hear(listed(HOUR))
        assert ([], []) == (node.remembered, node.records)

    play(scene)


async def _no_judge(*_, **__):
    msg = "no judge answered within 5 s"
    raise CftPkiError(msg)


@pytest.mark.parametrize("silent", ["judge", "record"])
def test_announcement_that_nobody_could_judge_is_no_announcement_that_proves_nothing(silent, monkeypatch):
    async def scene():
        node = Node()
        at, name = (node, "judge") if silent == "judge" else (node.revocations, "_record")
        monkeypatch.setattr(at, name, _no_judge)
        with pytest.raises(CftPkiError, match="no judge answered"):
            await node.hear(listed(HOUR, "key_compromise"))

    play(scene)


OTHERS = [issue(CA, f"partner {number}", eku=["clientAuth"], crl_urls=[LOCATION]) for number in range(40)]


def list_of_all(age: timedelta) -> bytes:
    then = NOW - age
    entries = tuple(Revoked(one.serial, then, x509.ReasonFlags.key_compromise) for one in OTHERS)
    return make_crl(CA, entries, number=7, this_update=then, next_update=NOW + timedelta(days=7))


def test_forty_revocations_of_one_large_list_are_all_proven_and_it_is_asked_for_once():
    async def scene():
        node = Node()
        await node.check(listed(HOUR))
        node.source.answers = {**node.source.answers, LOCATION: (0.5, list_of_all(HOUR / 2))}
        heard_s = node.clock.monotonic()
        proofs = [await node.hear(chain=(one.der, CA.der), heard_s=heard_s) for one in OTHERS]
        assert [Proof.PROVEN] * 40 == proofs
        assert 40 == len(node.records)
        assert 2 == [url for url, _ in node.source.asked].count(LOCATION)

    play(scene)


def test_thirty_proofs_a_minute_are_asked_for_and_the_others_come_later():
    async def scene():
        node = Node()
        # Each is heard when the list that came for the one before is old already.
        proofs = []
        for one in OTHERS[:31]:
            node.source.answers = {**node.source.answers, LOCATION: (0.5, listed(HOUR))}
            proofs.append(await node.hear(chain=(one.der, CA.der), heard_s=node.clock.monotonic()))
        assert [Proof.NOT_PROVEN] * 30 + [Proof.LATER] == proofs
        stranger = make_root("Somebody Else's Root")
        chain = (issue(stranger, "strange", crl_urls=[LOCATION]).der, stranger.der)
        assert Proof.NOT_PROVEN is await node.hear(chain=chain, heard_s=node.clock.monotonic())
        late, heard_s = (OTHERS[30].der, CA.der), node.clock.monotonic()
        node.source.answers = {**node.source.answers, LOCATION: (0.5, list_of_all(HOUR / 2))}
        asked = len(node.source.asked)
        assert Proof.LATER is await node.hear(chain=late, heard_s=heard_s, again=True)
        assert asked == len(node.source.asked)
        await asyncio.sleep(61)
        assert Proof.PROVEN is await node.hear(chain=late, heard_s=heard_s, again=True)
        assert {LOCATION, "http://root/crl"} == {url for url, _ in node.source.asked[asked:]}

    play(scene)
