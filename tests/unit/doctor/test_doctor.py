"""
The doctor's plan, what it makes of answers, and what it sees of this machine: without network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_connectors.support.httpx_client import server_time
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import Action, Depth, Policy, Treatment
from cftpki_ext.core.settings import Limits, ServiceSettings, Settings, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.doctor import Level, Survey, examine_machine, exit_status, survey
from cftpki_ext.doctor.asked import plan, stand_in
from cftpki_ext.doctor.clocks import judge_clocks
from cftpki_ext.doctor.findings import Finding
from cftpki_ext.ports.sources import StatusQuestion
from cftpki_ext.x509.certificate import parse_certificate
from tests.support.pki import NOW, issue, make_crl, make_root

ROOT = make_root("Root")
CA = issue(ROOT, "CA", ca=True)
OTHER = issue(ROOT, "Other CA", ca=True)
LEAF = issue(CA, "leaf", crl_urls=["http://crl.example/ca.crl"])
URL = "http://crl.example/"
TRUST = TrustSet(name="p", anchors=(ROOT.der,), sources=(SourceKind.CRL,))


class Clock:
    def now(self):
        return NOW

    def monotonic(self) -> float:
        return 0.0


class Lists:
    """
    A source that has these lists by their URLs, and fails for others.
    """

    def __init__(self, lists: Mapping[str, bytes], *, elapsed_ms: int = 1) -> None:
        self.lists, self.elapsed_ms = lists, elapsed_ms
        self.asked: list[StatusQuestion] = []

    async def ask(self, question: StatusQuestion) -> Statement:
        self.asked.append(question)
        raw = self.lists.get(question.lookup.url)
        return Statement(
            kind=SourceKind.CRL,
            origin=Origin.NETWORK,
            received_at=NOW,
            depth=question.lookup.depth,
            url=question.lookup.url,
            raw=raw,
            failure=None if raw else Cause.UNREACHABLE,
            detail="" if raw else "refused",
            elapsed_ms=self.elapsed_ms,
        )

    async def aclose(self) -> None:
        pass


async def examine(
    lists: Mapping[str, bytes], trust: TrustSet, *chains: tuple[bytes, ...], elapsed_ms: int = 1
):
    given = Survey(
        sources={SourceKind.CRL: Lists(lists, elapsed_ms=elapsed_ms)},
        clock=Clock(),
        limits=Limits(),
        progress=lambda _: None,
    )
    return await survey(given, [trust], chains)


def levels(found, *, of: str) -> list[Level]:
    return [finding.level for finding in found if of in finding.check]


@given(serial=st.integers(min_value=1, max_value=2**152 - 1))
def test_stand_in_is_a_certificate_below_its_ca(serial: int) -> None:
    authority = parse_certificate(CA.der)
    made = stand_in(authority, serial=serial, now=NOW)
    assert (serial, authority.subject, False) == (made.serial, made.issuer, made.is_ca)
    assert made.not_before < NOW < made.not_after


def test_plan_asks_about_a_stand_in_below_each_ca_only_where_the_set_names_locations() -> None:
    trust = replace(TRUST, intermediates=(CA.der,))
    bare = plan(trust, [], limits=Limits(), now=NOW, serial=1)
    assert [False] == [target.stand_in for target in bare.targets]
    named = plan(replace(trust, crl_urls=(URL,)), [(LEAF.der, CA.der)], limits=Limits(), now=NOW, serial=1)
    assert ["certificates of CN=CA", "certificates of CN=Root"] == sorted(
        target.name for target in named.targets if target.stand_in
    )
    assert ["CN=CA", "CN=leaf"] == sorted(target.name for target in named.targets if not target.stand_in)


def test_plan_leaves_out_partners_of_other_trust_sets() -> None:
    stranger = make_root("Stranger")
    theirs = issue(stranger, "theirs")
    assert () == plan(TRUST, [(theirs.der,)], limits=Limits(), now=NOW, serial=1).targets


async def test_list_of_one_ca_does_not_refuse_the_other_s_partners() -> None:
    trust = replace(TRUST, intermediates=(CA.der, OTHER.der), crl_urls=(URL, URL + "root"))
    lists = {URL: make_crl(CA), URL + "root": make_crl(ROOT)}
    found = await examine(lists, trust)
    assert 0 == exit_status(found)
    assert [Level.WARN] == levels(found, of="certificates of CN=Other CA")
    assert [] == levels(found, of="certificates of CN=CA")


async def test_location_that_works_for_nobody_refuses() -> None:
    found = await examine({}, replace(TRUST, crl_urls=(URL,)))
    assert [Level.FAIL] == levels(found, of=URL)


async def test_partner_whose_location_is_dead_refuses_and_another_location_softens_it() -> None:
    trust = replace(TRUST, policy=Policy(name="leaf"), intermediates=())
    chain = (LEAF.der, CA.der)
    named = "http://crl.example/ca.crl"
    dead = await examine({URL: make_crl(ROOT)}, replace(trust, crl_urls=(URL,)), chain)
    assert [Level.FAIL] == levels(dead, of=named)
    both = {URL: make_crl(ROOT), URL + "ca": make_crl(CA)}
    soft = await examine(both, replace(trust, crl_urls=(URL, URL + "ca")), chain)
    assert Level.WARN in levels(soft, of=named)
    assert 0 == exit_status(soft)


@pytest.mark.parametrize(
    ("treatment", "level"),
    [
        (Treatment(), Level.FAIL),
        (Treatment(action=Action.ACCEPT_WARN), Level.WARN),
        (Treatment(action=Action.ACCEPT_WARN, max_stale=timedelta(hours=1)), Level.FAIL),
    ],
)
async def test_policy_decides_how_bad_silence_is(treatment: Treatment, level: Level) -> None:
    policy = Policy(name="x", treatments={Cause.UNREACHABLE: treatment})
    found = await examine({}, replace(TRUST, crl_urls=(URL,), policy=policy))
    assert [level] == levels(found, of=URL)


async def test_pace_is_held_against_what_a_handshake_has() -> None:
    trust = replace(TRUST, crl_urls=(URL,))
    lists = {URL: make_crl(ROOT)}
    for elapsed_ms, level in ((1, Level.OK), (1_000, Level.WARN), (5_000, Level.FAIL)):
        found = await examine(lists, trust, elapsed_ms=elapsed_ms)
        assert level is max(levels(found, of=URL))


async def test_intermediate_without_any_location_refuses_where_its_status_is_asked() -> None:
    trust = replace(TRUST, intermediates=(CA.der,))
    assert [Level.FAIL] == levels(await examine({}, trust), of="certificate CN=CA")
    leaf = replace(trust, policy=Policy(name="leaf", depth=Depth.LEAF), crl_urls=(URL,))
    found = await examine({URL: make_crl(CA)}, leaf, (LEAF.der, CA.der))
    assert exit_status(found) == 0
    assert [] == levels(found, of="certificate CN=CA")


async def test_large_list_is_named_before_it_is_too_large() -> None:
    crl = make_crl(ROOT, range(1, 400))
    given = Survey(
        sources={SourceKind.CRL: Lists({URL: crl})},
        clock=Clock(),
        limits=Limits(crl_bytes=len(crl) + 10),
        progress=lambda _: None,
    )
    found = await survey(given, [replace(TRUST, crl_urls=(URL,))], [])
    assert Level.WARN in levels(found, of=URL)


async def test_what_cannot_be_asked_in_time_is_told_and_nobodys_silence() -> None:
    class Late(Clock):
        ticks = 0.0

        def monotonic(self) -> float:
            self.ticks += 40.0
            return self.ticks

    trust = replace(TRUST, crl_urls=(URL, URL + "second"))
    lists = Lists({URL: make_crl(ROOT), URL + "second": make_crl(ROOT)})
    given = Survey(sources={SourceKind.CRL: lists}, clock=Late(), limits=Limits(), progress=lambda _: None)
    found = await survey(given, [trust], [])
    # One that was asked says nothing of the certificate alone: nobody is told that it is refused.
    assert (1, ["time"]) == (len(lists.asked), [one.check for one in found if one.level >= Level.WARN])
    assert "questions could not be put within 60 s" in found[-1].detail


def settings(folder: Path) -> Settings:
    return Settings(service=ServiceSettings(socket=folder / "s", state=folder / "state", cache_bytes=1 << 20))


def test_machine_with_a_private_state_is_well(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    assert [Level.OK] == [finding.level for finding in examine_machine(settings(tmp_path), now=NOW)]


def test_machine_names_state_that_others_may_read(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o755)
    found = examine_machine(settings(tmp_path), now=NOW)
    assert any("open to others" in finding.detail and finding.level is Level.WARN for finding in found)


def test_exit_status_is_1_for_what_refuses_alone() -> None:
    warned = Finding(level=Level.WARN, about="a", check="b", detail="c")
    assert 0 == exit_status([warned])
    assert 1 == exit_status([warned, replace(warned, level=Level.FAIL)])


def seconds(*values: float) -> list[timedelta]:
    return [timedelta(seconds=value) for value in values]


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        ({}, []),
        ({"a": []}, []),
        ({"a": seconds(30)}, [("a", Level.OK)]),
        ({"a": seconds(31.1)}, [("a", Level.WARN)]),
        ({"a": seconds(-31)}, [("a", Level.OK)]),  # its second was nearly over
        ({"a": seconds(-31.1)}, [("a", Level.WARN)]),
        ({"a": seconds(-40, -0.5)}, [("a", Level.OK)]),  # one answer was long on its way
        ({"a": seconds(99), "b": seconds(0)}, [("a", Level.WARN), ("b", Level.OK)]),
        ({"a": seconds(99), "b": seconds(-99)}, [("a", Level.WARN), ("b", Level.WARN)]),
        (
            {"a": seconds(40), "b": seconds(50)},
            [("a", Level.WARN), ("b", Level.WARN), ("this machine", Level.WARN)],
        ),
        (
            {"a": seconds(-80), "b": seconds(-5000)},
            [("a", Level.WARN), ("b", Level.WARN), ("this machine", Level.FAIL)],
        ),
    ],
)
def test_clocks_are_held_against_ours_with_what_a_date_can_prove(
    heard: Mapping[str, list[timedelta]], expected: list[tuple[str, Level]]
) -> None:
    found = judge_clocks(heard, limits=Limits(clock_skew=timedelta(seconds=60)))
    assert expected == [(finding.check, finding.level) for finding in found]


def test_clock_of_this_machine_is_named_by_its_own_side() -> None:
    found = judge_clocks(
        {"a": seconds(80), "b": seconds(90)}, limits=Limits(clock_skew=timedelta(seconds=60))
    )
    assert ["80 s ahead of ours", "90 s ahead of ours", "it is 80 s behind theirs"] == [
        finding.detail[-len(words) :]
        for finding, words in zip(
            found, ("80 s ahead of ours", "90 s ahead of ours", "it is 80 s behind theirs"), strict=True
        )
    ]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Date": "Mon, 01 Jun 2026 12:00:00 GMT"}, datetime(2026, 6, 1, 12, tzinfo=UTC)),
        ({"Date": "Mon, 01 Jun 2026 12:00:00 GMT", "Age": "60"}, datetime(2026, 6, 1, 12, 1, tzinfo=UTC)),
        ({"Date": "Mon, 01 Jun 2026 12:00:00 GMT", "Age": "x"}, datetime(2026, 6, 1, 12, tzinfo=UTC)),
        ({"Date": "Fri, 31 Dec 9999 23:59:59 GMT", "Age": "999999999"}, None),
        ({"Date": "yesterday"}, None),
        ({}, None),
    ],
)
def test_server_time_is_its_date_and_the_age_that_caches_add(
    headers: Mapping[str, str], expected: datetime | None
) -> None:
    assert expected == server_time(httpx.Headers(headers))


@given(st.text(max_size=80), st.text(max_size=20))
def test_server_time_of_any_header_is_a_time_or_none(date: str, age: str) -> None:
    said = server_time(httpx.Headers({b"Date": date.encode(), b"Age": age.encode()}))
    assert said is None or said.tzinfo is UTC
