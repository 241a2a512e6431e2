"""
Large lists from nginx and from files: written to the disk while they come, within their limits, and shared while they are new.
"""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

from cftpki_cache.lists import ListFiles, list_directory
from cftpki_connectors.status.crl import CrlSource
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Lookup
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.ports.sources import StatusQuestion
from cftpki_ext.x509.certificate import parse_certificate
from tests.support.pace import LATE_S
from tests.support.pki import issue, make_root, pem
from tests.support.servers import nginx

pytestmark = pytest.mark.real

ROOT = make_root("Root")
LEAF = issue(ROOT, "partner")
# What is looked at here is one SEQUENCE, whatever it holds.
LIST = b"\x30\x83\x30\x00\x00" + bytes(0x300000)


class Clock:
    """
    Wall time stands; monotonic time runs, from wherever it is set to.
    """

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 20, tzinfo=UTC)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def crl(clock: Clock) -> AsyncIterator[CrlSource]:
    source = CrlSource(clock)
    yield source
    await source.aclose()


@pytest.fixture
def files(tmp_path: Path) -> ListFiles:
    return ListFiles(tmp_path, max_bytes=1 << 30)


def question(
    url: str,
    clock: Clock,
    files: ListFiles,
    *,
    limits: Limits | None = None,
    within_s: float = 20.0,
    crl_files: tuple[Path, ...] = (),
) -> StatusQuestion:
    trust = TrustSet(
        name="t",
        anchors=(ROOT.der,),
        allow_hosts=("127.0.0.1",),
        allow_networks=(ip_network("127.0.0.0/8"),),
        crl_files=crl_files,
    )
    return StatusQuestion(
        lookup=Lookup(depth=0, kind=SourceKind.CRL, url=url),
        certificate=parse_certificate(LEAF.der),
        issuer=parse_certificate(ROOT.der),
        trust=trust,
        limits=limits or Limits(),
        deadline=clock.monotonic() + within_s,
        spool=files,
    )


def left(tmp_path: Path, many: int = 0) -> list[str]:
    """
    The files that are there once no more than so many are: the thread that has read a list lets go of it after it has answered.
    """
    end = time.monotonic() + LATE_S
    while True:
        gc.collect()  # what an error has seen of a list goes with it
        names = [path.name for path in list_directory(tmp_path).iterdir()]
        if len(names) <= many or time.monotonic() > end:
            return names
        time.sleep(0.01)


async def test_large_list_is_in_a_file_and_a_small_one_in_memory(
    crl: CrlSource, clock: Clock, files: ListFiles, tmp_path: Path
) -> None:
    small = b"\x30\x03\x02\x01\x05"
    served = {"large.crl": LIST, "small.crl": small, "large.pem": pem(LIST, label="X509 CRL")}
    with nginx(tmp_path, served) as server:
        large = (await crl.ask(question(server.url("/large.crl"), clock, files))).raw
        assert isinstance(large, LargeOctets)
        assert LIST == large.whole()
        assert 1 == len(left(tmp_path, 1))
        assert small == (await crl.ask(question(server.url("/small.crl"), clock, files))).raw
        assert LIST == (await crl.ask(question(server.url("/large.pem"), clock, files))).raw


async def test_large_list_over_its_limit_leaves_nothing(
    crl: CrlSource, clock: Clock, files: ListFiles, tmp_path: Path
) -> None:
    limits = replace(Limits(), crl_bytes=len(LIST) - 1)
    with nginx(tmp_path, {"a.crl": LIST}, "location /b.crl { return 200 'no list'; }") as server:
        statement = await crl.ask(question(server.url("/a.crl"), clock, files, limits=limits))
        assert (Cause.TOO_LARGE, []) == (statement.failure, left(tmp_path))


async def test_large_list_with_a_slow_body_leaves_nothing(
    crl: CrlSource, clock: Clock, files: ListFiles, tmp_path: Path
) -> None:
    slow = "location /a.crl { limit_rate_after 2m; limit_rate 1k; }"
    with nginx(tmp_path, {"a.crl": LIST}, slow) as server:
        statement = await crl.ask(question(server.url("/a.crl"), clock, files, within_s=2.0))
        assert (Cause.TIMED_OUT, []) == (statement.failure, left(tmp_path))


async def test_large_list_that_is_none_is_unreadable(
    crl: CrlSource, clock: Clock, files: ListFiles, tmp_path: Path
) -> None:
    served = {"cut.crl": LIST[:-1], "page.crl": b"<html>" + bytes(0x200000)}
    with nginx(tmp_path, served) as server:
        for name in served:
            statement = await crl.ask(question(server.url(f"/{name}"), clock, files))
            assert Cause.UNREADABLE is statement.failure
        assert [] == left(tmp_path)


async def test_large_file_is_copied_once_until_it_changes(
    crl: CrlSource, clock: Clock, files: ListFiles, tmp_path: Path
) -> None:
    path = tmp_path / "own.crl"
    path.write_bytes(LIST)
    asked = question(str(path), clock, files, crl_files=(path,))
    first, second = (await crl.ask(asked)).raw, (await crl.ask(asked)).raw
    assert isinstance(first, LargeOctets)
    assert second is first
    path.write_bytes(LIST[:5] + b"\x01" + LIST[6:])
    changed = (await crl.ask(asked)).raw
    assert isinstance(changed, LargeOctets)
    assert path.read_bytes() == changed.whole()
    assert LIST == first.whole()
    limits = replace(Limits(), crl_bytes=len(LIST) - 1)
    other = question(str(path), clock, files, crl_files=(path,), limits=limits)
    assert Cause.TOO_LARGE is (await crl.ask(other)).failure
