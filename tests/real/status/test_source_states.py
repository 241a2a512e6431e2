"""
How sources stand: one line when one goes down or comes back, with real servers and real times of theirs.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_network

import pytest

from cftpki_connectors.status.crl import CrlSource
from cftpki_ext.core.settings import Limits, Settings, TrustSet
from cftpki_ext.core.statement import Lookup
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.ports.sources import StatusQuestion
from cftpki_ext.service.monitoring.sources import SourceStates, WatchedSource
from cftpki_ext.x509.certificate import parse_certificate
from tests.support.logs import CapturedLog
from tests.support.pki import issue, make_crl, make_root
from tests.support.servers import answer, evil, in_turn, response, silent

pytestmark = pytest.mark.real

ROOT = make_root("Root")
LEAF = issue(ROOT, "leaf")
TRUST = TrustSet(
    name="partners",
    anchors=(ROOT.der,),
    allow_hosts=("127.0.0.1",),
    allow_networks=(ip_network("127.0.0.0/8"),),
)
CRL = make_crl(ROOT)


class Clock:
    def now(self):
        return datetime.now(UTC)

    def monotonic(self):
        return time.monotonic()


class Watched:
    def __init__(self):
        self.log = CapturedLog()
        self.states = SourceStates(self.log, Clock(), Settings(trusts={"partners": TRUST}))
        self.source = WatchedSource(CrlSource(Clock()), self.states, Clock())

    def question(self, url, *, within_s=30.0):
        return StatusQuestion(
            lookup=Lookup(depth=0, kind=SourceKind.CRL, url=url),
            certificate=parse_certificate(LEAF.der),
            issuer=parse_certificate(ROOT.der),
            trust=TRUST,
            limits=Limits(request_ms=30_000),
            deadline=time.monotonic() + within_s,
        )

    async def ask(self, url, **options):
        return await self.source.ask(self.question(url, **options))

    def told(self):
        return [(one.method_name, one.kwargs["event"]) for one in self.log.calls]


@pytest.fixture
async def watched():
    made = Watched()
    yield made
    await made.source.aclose()


async def test_source_that_goes_and_comes_back_is_a_line_each_time(watched):
    good = answer(response(CRL))
    broken = answer(response(b"", status="503 Service Unavailable"))
    async with evil(in_turn(good, *[broken] * 6, good)) as server:
        url = server.url("/a.crl")
        assert CRL == (await watched.ask(url)).raw
        assert [] == watched.told()
        while (await watched.ask(url)).raw is None:
            pass
    assert [("warning", "source_down"), ("info", "source_up")] == watched.told()
    down, up = (one.kwargs for one in watched.log.calls)
    assert ("partners", "crl", url, "unreachable", "HTTP 503") == (
        down["trust"],
        down["kind"],
        down["location"],
        down["cause"],
        down["error"],
    )
    assert (url, True) == (up["location"], up["down_since"] >= down["last_answer"])
    (one,) = watched.states.status()["locations"]
    assert (True, None, "", 2) == (one["up"], one["cause"], one["detail"], one["answers"])
    assert one["failures"] >= 1


async def test_source_where_nobody_listens_is_down_with_the_errno(watched):
    async with evil(silent()) as server:
        url = server.url("/a.crl")
    for _ in range(2):
        await watched.ask(url)
    (call,) = watched.log.calls
    assert "connection refused" in call.kwargs["error"]
    assert (1, 1) == (watched.states.status()["known"], watched.states.status()["down"])


async def test_source_that_another_one_is_heard_instead_of_is_silent_the_second_time(watched):
    async with evil(silent()) as server:
        for expected in ([], [("warning", "source_down")], [("warning", "source_down")]):
            asking = asyncio.create_task(watched.ask(server.url("/a.crl")))
            await asyncio.sleep(0.6)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert expected == watched.told()
    assert "2 in a row, and not waited for" in watched.log.calls[0].kwargs["error"]


async def test_source_that_was_given_no_time_is_not_down(watched):
    async with evil(silent()) as server:
        assert (await watched.ask(server.url("/a.crl"), within_s=0.1)).failure is not None
    assert [] == watched.told()


async def test_source_that_may_not_be_asked_is_not_down(watched):
    assert "forbidden_url" == (await watched.ask("http://10.0.0.1/a.crl")).failure
    assert [] == watched.told()


async def test_clock_of_a_server_is_told_once_when_it_differs(watched):
    def at(hours):
        said = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
        return answer(response(CRL, headers={"Date": said}))

    async with evil(in_turn(at(0), at(-2), at(-2), at(0))) as server:
        for _ in range(3):
            await watched.ask(server.url("/a.crl"))
        (origin,) = watched.states.status()["clocks"]
        assert -7290 < watched.states.status()["clocks"][origin]["offset_s"] < -7150
        await watched.ask(server.url("/a.crl"))
        assert abs(watched.states.status()["clocks"][origin]["offset_s"]) < 60
    assert [("warning", "clock_differs")] == watched.told()
    assert server.url("").rstrip("/") == origin
