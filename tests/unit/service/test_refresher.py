"""
The refresh in virtual time, with the real decision, cache rules and memory of revocations around it.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any
from unittest.mock import Mock

import pytest

from cftpki_ext.checking.case import HereCase
from cftpki_ext.checking.checker import Checker
from cftpki_ext.checking.looked import Checked
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.settings import RefreshSettings, Rule, Settings, TrustSet
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.vocabulary import Direction, SourceKind
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked, Door
from cftpki_ext.ports.partners import Sighting
from cftpki_ext.service.judging.remote import Judged
from cftpki_ext.service.judging.standing import name_of
from cftpki_ext.service.refresher import Refresher
from tests.support.pki import NOW, issue, make_crl, make_ocsp_response, make_root
from tests.support.virtual_world import CA, LEAF, ROOT, Clock, Proofs, Source, Store, VirtualLoop

OCSP, CRL = SourceKind.OCSP, SourceKind.CRL
OTHER_ROOT = make_root("Other Root")
ENDING = issue(
    CA, "ending", eku=["clientAuth"], ocsp_urls=["http://ca/ocsp"], not_after=NOW + timedelta(days=5, hours=1)
)
DAY = timedelta(days=1)
# For days of virtual time.
SELDOM = replace(Settings().limits, ocsp_refresh=timedelta(hours=2), crl_refresh=timedelta(hours=4))


def good(clock: Clock, leaf: Any = LEAF, status: str = "good") -> bytes:
    return make_ocsp_response(
        CA,
        leaf,
        status,
        produced_at=clock.now() - timedelta(minutes=1),
        this_update=clock.now() - timedelta(minutes=1),
        next_update=clock.now() + DAY,
        **({"reason": 1} if status == "revoked" else {}),
    )


class Responder(Source):
    """
    A source whose answers are made when it is asked.
    """

    def __init__(self, kind: SourceKind, clock: Clock, make: Callable[[str], bytes | Cause]) -> None:
        super().__init__(kind, clock, {})
        self.make = make

    async def ask(self, question: Any) -> Any:
        self.answers = {question.lookup.url: (0.1, self.make(question.lookup.url))}
        return await super().ask(question)


@dataclass
class Rows:
    """
    The disk.
    """

    rows: dict[bytes, Sighting] = field(default_factory=dict)

    def latest(self, most: int) -> tuple[Sighting, ...]:
        assert most >= len(self.rows)
        return tuple(
            sorted((replace(one, chain=None) for one in self.rows.values()), key=lambda one: one.seen)
        )

    def chain(self, name: bytes) -> bytes | None:
        return self.rows[name].chain if name in self.rows else None

    def write(self, sightings: Sequence[Sighting], forgotten: Sequence[bytes]) -> None:
        for name in forgotten:
            self.rows.pop(name, None)
        for one in sightings:
            chain = one.chain if one.chain is not None else self.chain(one.name)
            if chain is not None:
                self.rows[one.name] = replace(one, chain=chain)

    def close(self) -> None:
        pass


class Log:
    """
    Log, audit trail and keeper of records in one: notes what it is told.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.verdicts: list[Verdict] = []
        self.records: list[Any] = []

    def event(self, name: str, _: object, **fields: Any) -> None:
        self.events.append((name, fields))

    def verdict(self, verdict: Verdict, *_: object, **__: object) -> None:
        self.verdicts.append(verdict)

    def info(self, name: str, **fields: Any) -> None:
        self.events.append((name, fields))

    warning = error = info

    async def keep(self, record: Any, *_: object, **__: object) -> str:
        self.records.append(record)
        return "hash"

    def named(self, name: str) -> list[dict[str, Any]]:
        return [fields for event, fields in self.events if event == name]


class HereJudges:
    """
    Judges in this process, as `service.judging.remote.Judges` does in others.
    """

    def __init__(self, checker: Checker, clock: Clock) -> None:
        self.checker = checker
        self.clock = clock
        self.asked: list[Asked] = []

    async def renew(self, question: Question) -> Checked:
        return await self.checker.run(HereCase(question, self.clock.now), question, remember=False)

    async def judge(self, question: Question, handed_in: Any = (), *, asked: Asked) -> Judged:
        self.asked.append(asked)
        checked = await self.checker.run(HereCase(question, self.clock.now), question, handed_in)
        return Judged(verdict=checked.outcome.verdict, statements=checked.statements)

    def recorded(self, *_: object, **__: object) -> None:
        pass


class World:
    """
    One service's refresh, with all that it works on.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.store, self.proofs, self.rows, self.log = Store(), Proofs(), Rows(), Log()
        self.down = self.silent = False
        self.status = "good"
        self.sources = {
            OCSP: Responder(OCSP, self.clock, self.answer),
            CRL: Responder(CRL, self.clock, self.list),
        }
        self.settings = Settings(
            trusts=MappingProxyType({"t": TrustSet(name="t", anchors=(ROOT.der,))}),
            rules=(Rule(name="r", direction=Direction.SERVER, trust="t"),),
        )
        self.leaf = LEAF

    def answer(self, _: str) -> bytes | Cause:
        return Cause.UNREACHABLE if self.down or self.silent else good(self.clock, self.leaf, self.status)

    def list(self, url: str) -> bytes | Cause:
        if self.down:
            return Cause.UNREACHABLE
        issuer = ROOT if url == "http://root/crl" else CA
        now = self.clock.now()
        return make_crl(issuer, this_update=now - timedelta(minutes=1), next_update=now + 7 * DAY)

    @contextlib.asynccontextmanager
    async def service(self) -> AsyncIterator[Refresher]:
        self.checker = Checker(sources=self.sources, store=self.store, clock=self.clock, proofs=self.proofs)
        self.judges = HereJudges(self.checker, self.clock)
        self.refresher = Refresher(
            self.judges,
            self.rows,
            self.log,
            settings=self.settings,
            audit=self.log,
            log=self.log,
            clock=self.clock,
        )
        running = asyncio.create_task(self.refresher.run())
        try:
            yield self.refresher
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await self.refresher.aclose()

    def question(self) -> Question:
        return Question(
            chain=(self.leaf.der, CA.der),
            direction=Direction.SERVER,
            trust=self.settings.trusts["t"],
            limits=self.settings.limits,
            at=self.clock.now(),
            rule="r",
        )

    async def handshake(self) -> Verdict:
        question = self.question()
        checked = await self.checker.run(HereCase(question, self.clock.now), question)
        verdict = checked.outcome.verdict
        if verdict.accepted:
            self.refresher.accepted(question, checked)
        return verdict

    @property
    def requests(self) -> int:
        return sum(len(source.asked) for source in self.sources.values())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    async def at_once(_: Refresher, call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)

    monkeypatch.setattr(Refresher, "_on_disk", at_once)
    return World()


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work)


def test_outage_meets_warm_data_and_the_handshake_asks_nobody(world: World) -> None:
    async def go() -> None:
        async with world.service():
            assert (await world.handshake()).accepted
            await asyncio.sleep(3600)
            # OCSP every 2.5 to 3.75 minutes, the root's list every 7.5 to 11.25.
            assert 2 + 16 + 5 <= world.requests <= 2 + 24 + 8
            world.down = True
            asked = world.requests
            begun = world.clock.monotonic()
            verdict = await world.handshake()
            assert (True, ()) == (verdict.accepted, verdict.warnings)
            assert (asked, begun) == (world.requests, world.clock.monotonic())

    run(go())


def test_revocation_is_found_ahead_recorded_and_refuses_the_next_handshake(world: World) -> None:
    async def go() -> None:
        async with world.service() as refresher:
            assert (await world.handshake()).accepted
            changed: list[str] = []
            world.checker.news = Mock(changed=changed.append)
            world.status = "revoked"
            await asyncio.sleep(300)
            # What stood on the old answer ended with the new one.
            assert 1 <= len(changed)
            assert [Door.REFRESH] == [asked.door for asked in world.judges.asked]
            assert [44] == [record.verdict.alert for record in world.log.records]
            assert [44] == [verdict.alert for verdict in world.log.verdicts]
            assert ["revoked"] == [event["reason"] for event in world.log.named("partner_refused_ahead")]
            assert 1 == len(world.proofs.kept)
            world.down = True
            asked = world.requests
            assert 44 == (await world.handshake()).alert
            assert asked == world.requests
            # Nobody asks about it any more.
            await asyncio.sleep(3600)
            assert asked == world.requests
            assert 0 == refresher.status()["partners"]
        assert {} == world.rows.rows

    run(go())


def test_record_without_a_judge_raises_and_a_refresh_without_one_is_told(world: World) -> None:
    async def nobody(*_: object, **__: object) -> Judged:
        msg = "no judge answered within 5 s"
        raise CftPkiError(msg)

    async def go() -> None:
        async with world.service() as refresher:
            assert (await world.handshake()).accepted
            world.judges.judge = nobody  # type: ignore[method-assign]
            world.status = "revoked"
            await asyncio.sleep(300)
            assert ["no judge answered within 5 s"] == [
                event["error"] for event in world.log.named("refresh_not_judged")
            ]
            assert [] == world.log.named("refresh_failed")
            with pytest.raises(CftPkiError, match="no judge answered"):
                await refresher.record(world.question())

    run(go())


def test_service_that_was_restarted_knows_whom_to_refresh(world: World) -> None:
    async def go() -> None:
        async with world.service():
            assert (await world.handshake()).accepted
        assert 1 == len(world.rows.rows)
        asked = world.requests
        async with world.service() as refresher:
            await asyncio.sleep(900)  # longer than three times the longest that an answer is left alone
            assert 1 == refresher.status()["partners"]
            assert asked + 3 <= world.requests
            world.down = True
            assert (True, ()) == ((await world.handshake()).accepted, (await world.handshake()).warnings)

    run(go())


def test_nothing_is_fetched_for_who_is_trusted_no_more(world: World) -> None:
    async def go() -> None:
        async with world.service() as refresher:
            assert (await world.handshake()).accepted
            await asyncio.sleep(1)
            asked = world.requests
            other = replace(world.settings.trusts["t"], anchors=(OTHER_ROOT.der,))
            refresher.replace_settings(replace(world.settings, trusts=MappingProxyType({"t": other})))
            await asyncio.sleep(3600)
            assert asked == world.requests
            assert 0 == refresher.status()["partners"]
            assert 1 == len(world.log.named("partner_not_refreshed"))

    run(go())


@pytest.mark.parametrize("what", ["no_rule", "chain_of_another", "no_chain", "no_document"])
def test_row_that_is_not_as_we_wrote_it_is_forgotten_and_nothing_is_fetched(world: World, what: str) -> None:
    async def go() -> None:
        async with world.service():
            assert (await world.handshake()).accepted
        (name,) = world.rows.rows
        row = world.rows.rows[name]
        if what == "no_rule":
            world.settings = replace(world.settings, rules=())
        elif what == "chain_of_another":
            world.rows.rows[name] = replace(row, chain=len(ENDING.der).to_bytes(4, "big") + ENDING.der)
        elif what == "no_chain":
            world.rows.rows[name] = replace(row, chain=b"\x00\x00\xff\xffgarbage")
        else:
            world.rows.rows[name] = replace(row, document='{"rule":1}')
        asked = world.requests
        async with world.service() as refresher:
            await asyncio.sleep(1200)
            assert (asked, 0) == (world.requests, refresher.status()["partners"])
        assert {} == world.rows.rows

    run(go())


def test_what_cannot_be_renewed_is_told_before_it_ends_and_when_it_is_over(world: World) -> None:
    async def go() -> None:
        async with world.service() as refresher:
            assert (await world.handshake()).accepted
            world.down = True
            await asyncio.sleep(1800)
            told = world.log.named("evidence_not_renewed")
            assert [["CN=CA"], ["CN=Root"]] == sorted(one["issuers"] for one in told)
            first = next(one for one in told if one["issuers"] == ["CN=CA"])
            assert "http://ca/ocsp" == first["location"]
            assert 23 * 60 < first["ends_in_min"] < 24 * 60
            assert "unreachable" in first["detail"]
            (trouble,) = (
                one for one in refresher.status()["troubles"] if one["location"] == "http://ca/ocsp"
            )
            assert (1, True) == (trouble["partners"], trouble["failures"] > 2)
            # The partner is let in on what is there, with the warning that belongs to it.
            verdict = await world.handshake()
            assert (True, 1) == (verdict.accepted, min(1, len(verdict.warnings)))
            await asyncio.sleep(19 * 3600)
            assert 3 <= len(
                [one for one in world.log.named("evidence_not_renewed") if one["issuers"] == ["CN=CA"]]
            )
            world.down = False
            await asyncio.sleep(900)
            assert {"http://ca/ocsp", "http://root/crl"} == {
                one["location"] for one in world.log.named("evidence_renewed_again")
            }
            assert [] == refresher.status()["troubles"]
            assert () == (await world.handshake()).warnings

    run(go())


def test_source_that_another_one_stands_in_for_is_asked_until_it_is_back(world: World) -> None:
    async def go() -> None:
        async with world.service() as refresher:
            assert (await world.handshake()).accepted
            world.silent = True
            await asyncio.sleep(1800)
            # The CRL is heard instead, and renewed; the responder is not forgotten.
            assert {"crl": 2, "ocsp": 1} == refresher.status()["evidence"]
            assert ["http://ca/ocsp"] == [one["location"] for one in refresher.status()["troubles"]]
            world.silent = False
            await asyncio.sleep(900)
            assert [] == refresher.status()["troubles"]
            await asyncio.sleep(900)
            # Nobody needs the CRL any more.
            assert {"crl": 1, "ocsp": 1} == refresher.status()["evidence"]
            assert () == (await world.handshake()).warnings

    run(go())


def test_disk_that_says_nonsense_stops_nobody(world: World) -> None:
    async def go() -> None:
        async with world.service():
            assert (await world.handshake()).accepted
        (name,) = world.rows.rows
        row = world.rows.rows[name]
        nonsense = row.document.replace("2026-06-01T", "9999-12-31T").replace("2026-06-02T", "0001-01-01T")
        assert nonsense != row.document
        world.rows.rows[name] = replace(row, document=nonsense, seen=float("inf"))
        async with world.service() as refresher:
            await asyncio.sleep(1200)
            assert (await world.handshake()).accepted
            assert 1 == refresher.status()["partners"]
            assert [] == world.log.named("refresh_failed") + world.log.named("partners_not_remembered")

    run(go())


def test_partners_that_end_soon_are_told_once_a_day(world: World) -> None:
    async def go() -> None:
        world.leaf = ENDING
        world.settings = replace(world.settings, limits=SELDOM)
        async with world.service() as refresher:
            assert (await world.handshake()).accepted
            await asyncio.sleep(2.5 * 86400)
            told = world.log.named("partner_ends")
            assert [5, 4, 3] == [one["days"] for one in told]
            assert ("CN=ending", "certificate") == (told[0]["partner"], told[0]["cause"])
            ends = refresher.status()["ending"]
            assert (1, 1, "CN=ending") == (ends["within_7d"], ends["within"], ends["first"][0]["partner"])
            await asyncio.sleep(3 * 86400)
            assert 0 == refresher.status()["partners"]

    run(go())


def test_partner_that_comes_often_is_judged_again_by_its_new_evidence_once(world: World) -> None:
    async def go() -> None:
        async with world.service() as refresher:
            assert (await world.handshake()).accepted
            await asyncio.sleep(1800)
            # Who comes once is judged when it comes: no record for each answer.
            assert [] == world.judges.asked
            refresher.again(name_of(world.question()))
            await asyncio.sleep(1800)
            assert [Door.REFRESH] == [asked.door for asked in world.judges.asked]
            assert [True] == [record.verdict.accepted for record in world.log.records]
            assert [] == world.log.verdicts
            assert 1 == refresher.status()["judged_again"]

    run(go())


def test_switched_off_nothing_is_asked_and_partners_are_told_all_the_same(world: World) -> None:
    async def go() -> None:
        world.leaf = ENDING
        world.settings = replace(world.settings, refresh=RefreshSettings(enabled=False))
        async with world.service() as refresher:
            assert (await world.handshake()).accepted
            asked = world.requests
            await asyncio.sleep(7200)
            assert asked == world.requests
            assert (False, 1) == (refresher.status()["enabled"], refresher.status()["partners"])
            assert 1 == len(world.log.named("partner_ends"))

    run(go())


def test_clock_set_back_for_a_month_is_survived(world: World) -> None:
    async def go() -> None:
        async with world.service():
            assert (await world.handshake()).accepted
            await asyncio.sleep(600)
            world.clock.ahead = timedelta(hours=-2)
            asked = world.requests
            await asyncio.sleep(120)
            assert asked < world.requests < asked + 20
            await asyncio.sleep(1800)
            assert (await world.handshake()).accepted

    run(go())


def test_fault_of_ours_refuses_no_partner_and_ends_no_judging(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with world.service() as refresher:
            with monkeypatch.context() as patched:
                for name in ("accepted", "seen"):
                    patched.setattr(refresher._ahead, name, Mock(side_effect=KeyError(name)))
                assert (await world.handshake()).accepted
                refresher.again(name_of(world.question()))
            assert ["KeyError('accepted')", "KeyError('seen')"] == [
                one["error"] for one in world.log.named("refresh_failed")
            ]
            assert (await world.handshake()).accepted
            judge, faults = world.judges.judge, [ValueError("a fault of ours")]

            async def fails_once(question: Question, handed_in: Any = (), *, asked: Asked) -> Judged:
                if faults:
                    raise faults.pop()
                return await judge(question, handed_in, asked=asked)

            world.judges.judge = fails_once  # type: ignore[method-assign]
            for _ in range(2):
                refresher._to_judge[name_of(world.question())] = None
                refresher._has_to_judge.set()
                await asyncio.sleep(60)
            assert 3 == len(world.log.named("refresh_failed"))
            assert [Door.REFRESH] == [one.door for one in world.judges.asked]

    run(go())


def test_disk_that_takes_nothing_has_no_more_chains_wait_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cftpki_ext.service.refresher._CHAIN_OCTETS", 1)
    monkeypatch.setattr(world.rows, "write", Mock(side_effect=OSError("hangs")))

    async def go() -> None:
        async with world.service() as refresher:
            for leaf in (LEAF, ENDING):
                world.leaf = leaf
                assert (await world.handshake()).accepted
                await asyncio.sleep(2)
            assert (1, 1) == (refresher._ahead.count, len(world.log.named("partners_not_remembered")))

    run(go())
