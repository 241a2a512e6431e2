"""
Lists that have not changed are not sent again: nginx, other servers' lies, and a cache over a restart.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from cftpki_cache.lists import ListFiles
from cftpki_connectors.status.crl import CrlSource
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Lookup
from cftpki_ext.core.vocabulary import Direction, SourceKind
from cftpki_ext.decision.question import Question
from cftpki_ext.ports.sources import KnownVersion, StatusQuestion
from cftpki_ext.x509.certificate import parse_certificate
from tests.support.checking import ShiftedClock, make_checker
from tests.support.pki import issue, make_crl, make_root, pem
from tests.support.servers import answer, evil, in_turn, nginx, response
from tests.support.wall_clock import until

pytestmark = pytest.mark.real

ROOT = make_root("Root")
LEAF = issue(ROOT, "partner", eku=["clientAuth"])
SMALL, OTHER = b"\x30\x03\x02\x01\x05", b"\x30\x03\x02\x01\x06"
LARGE = b"\x30\x83\x30\x00\x00" + bytes(0x300000)
TRUST = TrustSet(
    name="t", anchors=(ROOT.der,), allow_hosts=("127.0.0.1",), allow_networks=(ip_network("127.0.0.0/8"),)
)


class Asked:
    """
    A source whose location is asked as those do who know what it sent last.
    """

    def __init__(self, url: str, spool: ListFiles | None = None) -> None:
        self.source = CrlSource(ShiftedClock())
        self.said: list = []
        self.known: KnownVersion | None = None
        self.question = StatusQuestion(
            lookup=Lookup(depth=0, kind=SourceKind.CRL, url=url),
            certificate=parse_certificate(LEAF.der),
            issuer=parse_certificate(ROOT.der),
            trust=TRUST,
            limits=Limits(),
            deadline=time.monotonic() + 60,
            hear_validators=self.said.append,
            spool=spool,
        )

    async def ask(self, **changes):
        statement = await self.source.ask(replace(self.question, known=self.known, **changes))
        if self.said:
            self.known = KnownVersion(raw=statement.raw, validators=self.said.pop())
        return statement


def sent(server, answers: int) -> list[tuple[str, int, int]]:
    """
    Path, status and octets of the body of each answer that nginx gave.
    """
    until(lambda: len(server.log_lines()) >= answers)
    lines = [line.split('"') for line in server.log_lines()]
    return [(line[1].split()[1], *map(int, line[2].split())) for line in lines]


def publish(server, raw: bytes) -> None:
    path = server.log.parent / "www" / "a.crl"
    path.with_suffix(".new").write_bytes(raw)
    path.with_suffix(".new").replace(path)


async def test_list_that_has_not_changed_is_not_sent_again(tmp_path: Path) -> None:
    moved = "location /moved { return 302 /a.crl; }"
    with nginx(tmp_path, {"a.crl": SMALL}, moved) as server:
        asked = Asked(server.url("/moved"))
        first = await asked.ask()
        again = await asked.ask()
        assert (SMALL, True) == (again.raw, again.raw is first.raw)
        assert again.received_at > first.received_at
        publish(server, pem(OTHER, label="X509 CRL"))
        assert OTHER == (await asked.ask()).raw
        # Its validators are those of the PEM.
        assert OTHER == (await asked.ask()).raw
        await asked.source.aclose()
        lists = [one[1:] for one in sent(server, 8) if one[0] == "/a.crl"]
    assert [(200, len(SMALL)), (304, 0), 200, (304, 0)] == [*lists[:2], lists[2][0], lists[3]]


async def test_time_of_change_is_asked_about_where_there_is_no_tag(tmp_path: Path) -> None:
    with nginx(tmp_path, {"a.crl": SMALL}, "etag off;") as server:
        asked = Asked(server.url("/a.crl"))
        # It is new: whatever follows may have the same time.
        await asked.ask()
        await asked.ask()
        hour_ago = time.time() - 3600
        os.utime(server.log.parent / "www" / "a.crl", (hour_ago, hour_ago))
        await asked.ask()
        assert SMALL == (await asked.ask()).raw
        publish(server, OTHER)
        assert OTHER == (await asked.ask()).raw
        await asked.source.aclose()
        assert [200, 200, 200, 304, 200] == [status for _, status, _ in sent(server, 5)]


async def test_large_list_that_has_not_changed_stays_where_it_is(tmp_path: Path) -> None:
    with nginx(tmp_path, {"a.crl": LARGE}) as server:
        asked = Asked(server.url("/a.crl"), ListFiles(tmp_path, max_bytes=1 << 30))
        first = await asked.ask()
        assert isinstance(first.raw, LargeOctets)
        assert first.raw is (await asked.ask()).raw
        # What may not be used is not confirmed.
        limits = replace(Limits(), crl_bytes=len(LARGE) - 1)
        assert Cause.TOO_LARGE is (await asked.ask(limits=limits)).failure
        await asked.source.aclose()
        assert [(200, len(LARGE)), (304, 0)] == [one[1:] for one in sent(server, 3)][:2]


async def test_what_a_location_said_is_told_to_no_other(tmp_path: Path) -> None:
    with nginx(tmp_path, {"a.crl": SMALL, "b.crl": SMALL}) as server:
        asked = Asked(server.url("/a.crl"))
        await asked.ask()
        await asked.ask(lookup=replace(asked.question.lookup, url=server.url("/b.crl")))
        await asked.source.aclose()
        assert [("/a.crl", 200), ("/b.crl", 200)] == [one[:2] for one in sent(server, 2)]


async def test_confirmation_of_what_was_not_asked_about_is_a_fault(tmp_path: Path) -> None:
    async with evil(answer(b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n')) as server:
        asked = Asked(server.url("/a.crl"))
        statement = await asked.ask()
        await asked.source.aclose()
    assert (Cause.UNREACHABLE, "HTTP 304", None) == (statement.failure, statement.detail, asked.known)


@pytest.mark.parametrize("whole", [True, False], ids=["then_whole", "for_ever"])
async def test_confirmation_of_another_version_has_the_list_asked_for_whole_once(whole: bool) -> None:  # noqa: FBT001
    other = answer(b'HTTP/1.1 304 Not Modified\r\nETag: "b"\r\n\r\n')
    first = answer(response(SMALL, headers={"ETag": '"a"'}))
    last = answer(response(OTHER, headers={"ETag": '"b"'})) if whole else other
    async with evil(in_turn(first, other, last)) as server:
        asked = Asked(server.url("/a.crl"))
        assert SMALL == (await asked.ask()).raw
        statement = await asked.ask()
        await asked.source.aclose()
    expected = (OTHER, None) if whole else (None, Cause.UNREACHABLE)
    assert expected == (statement.raw, statement.failure)


async def test_cache_knows_over_a_restart_what_was_said(tmp_path: Path) -> None:
    begun = datetime.now(UTC) - timedelta(hours=1)
    times = {"this_update": begun, "next_update": begun + timedelta(days=1)}
    good, revoked = make_crl(ROOT, **times), make_crl(ROOT, [LEAF.serial], **times)
    with nginx(tmp_path, {"a.crl": good}) as server:
        trust = replace(TRUST, sources=(SourceKind.CRL,), crl_urls=(server.url("/a.crl"),))

        async def check(ahead: timedelta) -> int:
            clock = ShiftedClock(ahead)
            checker = make_checker(tmp_path / "cache", clock)
            question = Question(
                chain=(LEAF.der,),
                direction=Direction.SERVER,
                trust=trust,
                limits=Limits(),
                at=clock.now(),
                rule="in",
            )
            verdict = await checker.check(question)
            await checker.aclose()
            return verdict.alert

        assert [0, 0, 0] == [await check(timedelta(minutes=n)) for n in (0, 20, 30)]
        publish(server, revoked)
        assert 44 == await check(timedelta(minutes=40))
        assert [(200, len(good)), (304, 0), (200, len(revoked))] == [one[1:] for one in sent(server, 3)]
