"""
How often a judge is asked about a partner that nobody has seen, and what is brought for its CAs unasked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from cftpki_ext.checking.case import Place, Recall, Turn
from cftpki_ext.checking.checker import Checker
from cftpki_ext.checking.looked import Known
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.vocabulary import Direction, Origin
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.known_revoked import proof_key
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked, Door
from cftpki_ext.service.judging import exchange
from cftpki_ext.service.judging.exchange import ExchangeError
from cftpki_ext.service.judging.known_cas import KnownCas
from cftpki_ext.service.judging.remote import Judges
from tests.support.judge_here import JudgePool
from tests.support.pki import NOW, Entity, issue, make_crl, make_ocsp_response
from tests.support.virtual_world import (
    CA,
    CRL,
    GOOD,
    LEAF,
    OCSP,
    ROOT,
    ROOT_LIST,
    Clock,
    Proofs,
    Source,
    Store,
    VirtualLoop,
)

TRUST = TrustSet(name="t", anchors=(ROOT.der,))
SETTINGS = SimpleNamespace(
    limits=Limits(), trusts={"t": TRUST}, service=SimpleNamespace(board_bytes=1024 * 1024)
)
OTHER = issue(CA, "other", eku=["clientAuth"], ocsp_urls=["http://ca/ocsp2"])
ANSWERS = {OCSP: {"http://ca/ocsp": (0.1, GOOD), "http://ca/ocsp2": (0.1, make_ocsp_response(CA, OTHER))}}
LISTS = {CRL: {"http://root/crl": (0.1, ROOT_LIST)}}


class Service:
    """
    Judges over one judge, with sources in virtual time.
    """

    def __init__(self, loop_clock: Clock) -> None:
        self.pool = JudgePool(SETTINGS)
        self.clock = loop_clock
        self.sources = {kind: Source(kind, loop_clock, urls) for kind, urls in {**ANSWERS, **LISTS}.items()}
        self.proofs = Proofs()
        self.store = Store()
        checker = Checker(sources=self.sources, store=self.store, clock=loop_clock, proofs=self.proofs)
        self.judges = Judges(checker, self.pool, loop_clock)

    def question(self, leaf: Entity, *above: Entity) -> Question:
        return Question(
            chain=tuple(one.der for one in (leaf, *above)),
            direction=Direction.SERVER,
            trust=TRUST,
            limits=SETTINGS.limits,
            at=self.clock.now(),
            rule="r",
        )

    async def check(self, leaf: Entity, *above: Entity) -> tuple[int, int, list[str]]:
        """
        The alert, how often the judge was asked, and whom the sources asked.
        """
        before, asked = self.pool.said, self._asked()
        judged = await self.judges.judge(
            self.question(leaf, *(above or (CA,))), asked=Asked(door=Door.SOCKET)
        )
        assert [] == self.pool.distrusted
        return judged.verdict.alert, self.pool.said - before, self._asked()[len(asked) :]

    def _asked(self) -> list[str]:
        return [url for _, url in sorted((at, url) for one in self.sources.values() for url, at in one.asked)]


def run(work: Callable[[Service], Any]) -> Any:
    async def within() -> Any:
        return await work(Service(Clock()))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(within())


def test_partner_of_a_known_ca_is_judged_in_two_round_trips():
    async def work(service: Service) -> Any:
        return [await service.check(LEAF), await service.check(OTHER)]

    first, second = run(work)
    assert (0, {"http://ca/ocsp", "http://root/crl"}) == (first[0], set(first[2]))
    assert (0, 2, ["http://ca/ocsp2"]) == second


def test_partner_whose_answer_is_in_the_cache_is_not_asked_about():
    async def work(service: Service) -> Any:
        await service.check(LEAF)
        await service.check(OTHER)
        service.judges.replace_settings(SETTINGS)
        return await service.check(OTHER)

    alert, _, asked = run(work)
    assert (0, []) == (alert, asked)


def test_partner_of_a_known_ca_that_was_revoked_meanwhile_is_refused():
    async def work(service: Service) -> Any:
        await service.check(LEAF)
        key = proof_key(examine(service.question(OTHER, CA)), 1)
        gone = make_crl(ROOT, [CA.serial])
        proof = Statement(
            kind=CRL, origin=Origin.NETWORK, received_at=NOW, depth=1, url="http://root/crl", raw=gone
        )
        service.proofs.remember(key, proof)
        return (await service.check(OTHER))[0]

    assert 44 == run(work)


def test_partner_that_is_revoked_itself_is_refused_without_being_asked_about():
    async def work(service: Service) -> Any:
        await service.check(LEAF)
        key = proof_key(examine(service.question(OTHER, CA)), 0)
        gone = make_ocsp_response(CA, OTHER, "revoked", reason=1)
        proof = Statement(
            kind=OCSP, origin=Origin.NETWORK, received_at=NOW, depth=0, url="http://ca/ocsp2", raw=gone
        )
        service.proofs.remember(key, proof)
        return await service.check(OTHER)

    alert, _, asked = run(work)
    assert (44, []) == (alert, asked)


def test_places_of_another_ca_decide_nothing():
    async def work(service: Service) -> Any:
        await service.check(LEAF)
        wrong = Known(
            places=(
                Place(
                    lookup=Lookup(depth=1, kind=CRL, url="http://root/crl"),
                    key="x",
                    certificate=b"",
                    issuer=b"",
                ),
            ),
            recalls=(Recall(number=1, key="y"),),
        )
        service.judges._cas.clear()
        service.judges._cas.accepted(service.question(OTHER, CA), wrong)
        return await service.check(OTHER)

    assert (0, ["http://ca/ocsp2"]) == run(work)[::2]


# --- the memory itself ------------------------------------------------------------------------------------------------


def known(*keys: str) -> Known:
    places = tuple(
        Place(lookup=Lookup(depth=depth, kind=CRL, url=key), key=key, certificate=b"c", issuer=b"i")
        for depth, key in enumerate(keys)
    )
    return Known(places=places, recalls=tuple(Recall(number=n, key=key) for n, key in enumerate(keys)))


def asked_with(*chain: bytes, **more: Any) -> Question:
    return Question(
        **{
            "chain": chain,
            "direction": Direction.SERVER,
            "trust": TRUST,
            "limits": SETTINGS.limits,
            "at": NOW,
            "rule": "r",
            **more,
        }
    )


def test_cas_are_known_by_what_came_behind_the_partner_and_hold_no_certificate():
    cas = KnownCas()
    assert cas.of(asked_with(b"1", b"ca")) is None
    cas.accepted(asked_with(b"1", b"ca"), known("leaf", "ca"))
    found = cas.of(asked_with(b"2", b"ca"))
    assert found is not None
    assert [("ca", b"", b"")] == [(one.key, one.certificate, one.issuer) for one in found.places]
    assert [1] == [one.number for one in found.recalls]


@pytest.mark.parametrize(
    "other",
    [
        asked_with(b"2", b"cb"),
        asked_with(b"2"),
        asked_with(b"2", b"ca", rule="s"),
        asked_with(b"2", b"ca", b""),
    ],
    ids=["another CA", "alone", "another rule", "more came"],
)
def test_cas_of_another_question_are_not_known(other):
    cas = KnownCas()
    cas.accepted(asked_with(b"1", b"ca"), known("leaf", "ca"))
    assert cas.of(other) is None


def test_cas_that_are_asked_about_elsewhere_each_time_are_not_guessed():
    cas = KnownCas()
    for number in range(3):
        cas.accepted(asked_with(b"1", b"ca"), known("leaf", f"ca {number}"))
        assert (number % 2 == 1) == (cas.of(asked_with(b"2", b"ca")) is None)


def test_cas_with_many_places_are_not_guessed():
    cas = KnownCas()
    cas.accepted(asked_with(b"1", b"ca"), known(*map(str, range(18))))
    assert cas.of(asked_with(b"2", b"ca")) is None


def test_cas_are_forgotten_the_oldest_first_and_all_on_purpose(monkeypatch):
    monkeypatch.setattr("cftpki_ext.service.judging.known_cas._CHAINS", 2)
    cas = KnownCas()
    for name in (b"a", b"b", b"c"):
        cas.accepted(asked_with(b"1", name), known("leaf", "ca"))
    assert [True, False, False] == [cas.of(asked_with(b"1", name)) is None for name in (b"a", b"b", b"c")]
    cas.clear()
    assert cas.of(asked_with(b"1", b"c")) is None


# --- what a judge may foresee -----------------------------------------------------------------------------------------


def foreseen(**changes: Any) -> Any:
    place = Place(lookup=Lookup(depth=0, kind=OCSP, url="u"), key="k", certificate=b"c", issuer=b"i")
    heard = Statement(kind=CRL, origin=Origin.CACHE, received_at=NOW, depth=1, url="v", raw=b"r")
    turn = Turn(
        recall=(Recall(number=0, key="k"),), wait_ms=0, foreseen=Turn(hear=(heard,), ask=(place,), wait_ms=7)
    )
    blobs: dict[str, bytes] = {}
    plain = exchange.turn_to(turn, {id(heard): 0}, blobs)
    plain["foreseen"].update(changes)
    return turn, exchange.turn_from(plain, [heard], blobs.get)


def test_foreseen_turn_is_read_as_it_was_said():
    said, read = foreseen()
    assert said == read


@pytest.mark.parametrize(
    "changes",
    [
        {"hear": ["{}"]},
        {"hear": [1]},
        {"hear": [-1]},
        {"ask": []},
        {"wait_ms": None},
        {"wait_ms": -1},
        {"recall": [[0, "k"]]},
        {"look_up": [[0, "ocsp", "u", "k"]]},
        {"foreseen": {}},
        {"foreseen": 1},
    ],
    ids=str,
)
def test_foreseen_turn_that_none_can_be_is_refused(changes):
    with pytest.raises(ExchangeError):
        foreseen(**changes)


def test_turn_without_the_field_is_refused():
    plain = exchange.turn_to(Turn(), {}, {})
    del plain["foreseen"]
    with pytest.raises(ExchangeError):
        exchange.turn_from(plain, [], {}.get)
    assert Turn() == replace(exchange.turn_from({**plain, "foreseen": None}, [], {}.get))


# --- partners that send the same bundle of CAs, and were issued by different ones of it --------------------------------

FIRST = issue(ROOT, "first CA", ca=True, ocsp_urls=["http://root/ocsp"])
SECOND = issue(ROOT, "second CA", ca=True, ocsp_urls=["http://root/ocsp"])
OF_FIRST = issue(FIRST, "of the first", eku=["clientAuth"], ocsp_urls=["http://first/ocsp"])
OF_SECOND = issue(SECOND, "of the second", eku=["clientAuth"], ocsp_urls=["http://second/ocsp"])


def bundled(service: Service) -> Any:
    answers = service.sources[OCSP].answers = {
        "http://root/ocsp": (0.1, make_ocsp_response(ROOT, FIRST)),
        "http://first/ocsp": (0.1, make_ocsp_response(FIRST, OF_FIRST)),
        "http://second/ocsp": (0.1, make_ocsp_response(SECOND, OF_SECOND)),
    }
    return answers


async def judged_with(service: Service, leaf: Entity) -> Any:
    question = service.question(leaf, FIRST, SECOND)
    return await service.judges.judge(question, asked=Asked(door=Door.SOCKET))


def test_answer_about_another_ca_of_the_bundle_is_not_heard():
    async def work(service: Service) -> Any:
        answers = bundled(service)
        await judged_with(service, OF_FIRST)
        about_first = answers["http://root/ocsp"][1]
        answers["http://root/ocsp"] = (0.1, make_ocsp_response(ROOT, SECOND))
        judged = await judged_with(service, OF_SECOND)
        return judged.verdict.alert, [one.url for one in judged.statements if one.raw == about_first]

    assert (0, []) == run(work)


def test_proof_about_another_ca_of_the_bundle_is_not_heard():
    async def work(service: Service) -> Any:
        answers = bundled(service)
        await judged_with(service, OF_FIRST)
        answers["http://root/ocsp"] = (0.1, make_ocsp_response(ROOT, SECOND))
        await judged_with(service, OF_SECOND)
        gone = make_ocsp_response(ROOT, FIRST, "revoked", reason=1)
        key = proof_key(examine(service.question(OF_FIRST, FIRST, SECOND)), 1)
        proof = Statement(
            kind=OCSP, origin=Origin.NETWORK, received_at=NOW, depth=1, url="http://root/ocsp", raw=gone
        )
        service.proofs.remember(key, proof)
        service.judges.end_standing()
        judged = await judged_with(service, OF_SECOND)
        return judged.verdict.alert, [one.url for one in judged.statements if one.raw == gone]

    assert (0, []) == run(work)


def test_silent_responder_is_told_as_silent_whatever_the_cache_has_of_another_ca_of_the_bundle():
    async def work(service: Service) -> Any:
        answers = bundled(service)
        await judged_with(service, OF_FIRST)
        answers["http://root/ocsp"] = (0.1, Cause.UNREACHABLE)
        judged = await judged_with(service, OF_SECOND)
        return judged.verdict.alert, [one.cause for one in judged.verdict.evidence.findings]

    assert (46, [None, Cause.UNREACHABLE]) == run(work)
