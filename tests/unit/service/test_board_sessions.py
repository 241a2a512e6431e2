"""
Sessions that hosts tell of: a record and a line for each, a count of those that never came, and nothing for what is not true.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.settings import ServiceSettings, Settings
from cftpki_ext.core.vocabulary import PeerAddress
from cftpki_ext.evidence import encode
from cftpki_ext.evidence.in_thread import InThread
from cftpki_ext.evidence.reading import data_of
from cftpki_ext.evidence.writer import EvidenceWriter
from cftpki_ext.exit.session import SessionContext
from cftpki_ext.ports.evidence import BlobsMissingError, EvidenceEntry
from cftpki_ext.service.audit import LogAudit
from cftpki_ext.service.board import gathering, heard
from cftpki_ext.service.board import sessions as board_sessions
from cftpki_ext.service.board.publisher import Given
from cftpki_ext.service.board.sessions import NAME, Sessions
from cftpki_ext.service.board.told import read
from cftpki_ext.service.judging.here import Here
from cftpki_ext.service.judging.standing import Standing
from cftpki_ext.service.shared import Service
from tests.support import evidence_samples as samples
from tests.support.board_host import library, told
from tests.support.evidence_store import MemoryEvidence

BOARD = bytes(range(16))
RULE = replace(samples.RULE, identity="mft")


class Clock:
    def now(self):
        return datetime.now(UTC)

    def monotonic(self):
        return time.monotonic()


class World:
    """
    Sessions of a service whose board has one entry.
    """

    def __init__(self, folder):
        self.logs = structlog.testing.CapturingLogger()
        log = structlog.wrap_logger(self.logs, processors=[])
        self.evidence = MemoryEvidence()
        settings = Settings(
            service=ServiceSettings(socket=folder / "s", state=folder),
            trusts={"partners": samples.PLAIN},
            rules=(RULE,),
        )
        keeper = EvidenceWriter(
            InThread(self.evidence), settings=lambda: settings.evidence, log=log, clock=Clock()
        )
        self.service = Service(
            settings=settings,
            checker=Here(None),
            identities=None,
            audit=LogAudit(log),
            keeper=keeper,
            log=log,
            clock=Clock(),
        )
        now = datetime.now(UTC)
        record = samples.record(*samples.GOOD)
        verdict = replace(record.verdict, evidence=replace(record.verdict.evidence, decided_at=now))
        stored = encode(replace(record, verdict=verdict))
        self.evidence.append(
            [EvidenceEntry(id=verdict.id, kept_at=now, document=stored.document, blobs=stored.blobs)]
        )
        self.standing = Standing(
            question=replace(record.question, chain=()),
            verdict=verdict,
            document=digest_of(stored.document),
            until=now + timedelta(minutes=5),
            ends_at=time.monotonic() + 300,
            looked=None,
        )
        self.forgotten, self.seen = [], []
        # The world is its own board: one entry, one rule.
        self.sessions = Sessions(
            self.service, self, library=library(), seen=self.seen.append, forget=self.forgotten.append
        )
        self.folder = folder

    def given(self, board, number):
        return Given(b"name", self.standing) if (board, number) == (BOARD, 3) else None

    def rule(self, name):
        return RULE if name == RULE.name else None

    def tell(self, *datagrams):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            for one in datagrams:
                sender.sendto(one, str(self.folder / NAME))

    def lines(self, event):
        return [call.kwargs for call in self.logs.calls if call.kwargs["event"] == event]

    async def until(self, **counts):
        async with asyncio.timeout(30):
            while not counts.items() <= self.sessions.status().items():  # noqa: ASYNC110 - counters have no event
                await asyncio.sleep(0.005)


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path)
    (tmp_path / "s").touch(mode=0o640)
    (tmp_path / "s").chmod(0o640)
    world.sessions.open(tmp_path, like=tmp_path / "s")
    task = asyncio.create_task(world.sessions.run())
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        world.sessions.close()
        await world.service.keeper.aclose()


GIVEN = {"ENTRY": 3, "VERDICT_ID": "a" * 32, "RESULT": 1}


async def test_session_has_a_record_that_repeats_the_verdict_and_a_line_in_the_log(world):
    world.tell(told(BOARD, **GIVEN, PROFILE="RSA", GENERATION=4))
    await world.until(sessions=1, given=1)
    first, again = world.evidence.entries
    assert "a" * 32 == again.repeats.id
    whole = data_of(again.document, {world.standing.document: first.document}.get)
    assert ("192.0.2.9", 1, 2, "RSA", again.id) == (
        *(whole["asked"][name] for name in ("remote", "host_task", "host_session", "profile")),
        whole["verdict"]["id"],
    )
    (line,) = world.lines("verdict")
    assert (again.id, "accepted", "in", "192.0.2.9") == (
        *(line[name] for name in ("verdict_id", "status", "rule", "remote")),
    )
    assert line["record"] is not None
    (done,) = world.lines("handshake_done")
    assert ("a" * 32, line["session_ref"]) == (done["verdict_id"], done["session_ref"])
    (certificate,) = world.lines("certificate_given")
    assert ("mft", 4) == (certificate["identity"], certificate["generation"])
    assert (1, [b"name"]) == (world.service.verdicts.counts()["accepted"], world.seen)


async def test_line_of_a_session_says_what_the_socket_would_have_said(world):
    world.tell(told(BOARD, **GIVEN, PROFILE="RSA"))
    await world.until(sessions=1, given=1)
    (line,) = world.lines("verdict")
    one = read(told(BOARD, **GIVEN, PROFILE="RSA"))
    session = SessionContext(
        number=77,
        task=0,
        host_task=one.host_task,
        host_session=one.host_session,
        direction=one.direction,
        peer=PeerAddress(host=one.remote, port=one.remote_port),
        local_port=one.local_port,
        profile=one.profile,
        rule=RULE,
    )
    verdict = world.standing.at(one.at, line["verdict_id"])
    world.service.audit.verdict(verdict, session, elapsed_ms=0, record=line["record"])
    assert [line, line] == world.lines("verdict")


async def test_session_that_ended_otherwise_is_told_as_the_socket_would(world):
    world.tell(
        told(BOARD, NUMBER=1, ENDING=2, ALERT=48, ALERT_SIDE=2, **GIVEN),
        told(BOARD, NUMBER=2, ENDING=3),
    )
    await world.until(sessions=2, given=1)
    (alert,) = world.lines("handshake_alert")
    assert (48, "partner") == (alert["alert"], alert["side"])
    assert 1 == len(world.lines("session_lost"))
    assert 2 == len(world.evidence.entries)


@pytest.mark.parametrize(
    "change",
    [
        {"ENTRY": 4},
        {"BOARD_ID": bytes(16)},
        {"VERDICT_ID": "b" * 32},
        {"RULE": "other"},
        {"MODE": 2},
        {"AT_MS": 1},
        {"AT_MS": int((time.time() + 3600) * 1000)},
        {"RESULT": 2},
        {"ENDING": 2},
    ],
    ids="-".join,  # of the names: a time in it would be another test for each worker
)
async def test_what_is_not_true_is_refused_counted_and_told_once_in_a_while(world, change):
    world.tell(told(BOARD, **GIVEN | change), told(BOARD, NUMBER=2, **GIVEN | change))
    await world.until(refused=2, sessions=0)
    assert (1, 1) == (len(world.lines("board_session_refused")), len(world.evidence.entries))


async def test_octets_that_are_no_session_are_refused(world):
    world.tell(b"", b"x", bytes(5000), told(BOARD, **GIVEN)[:-1])
    await world.until(refused=4)
    world.tell(told(BOARD, **GIVEN))
    await world.until(sessions=1)


async def test_user_who_may_not_use_the_service_is_refused(world):
    world.sessions.hear(told(BOARD, **GIVEN), 54321)
    world.sessions.hear(told(BOARD, **GIVEN), None)
    await world.until(refused=2, sessions=0)
    world.sessions.hear(told(BOARD, **GIVEN), os.geteuid())
    await world.until(sessions=1)


async def test_sessions_that_never_came_are_counted_and_told_once_it_is_sure(world, monkeypatch):
    monkeypatch.setattr(board_sessions, "_LATE_S", 0.0)
    world.tell(told(BOARD, **GIVEN), told(BOARD, NUMBER=5, **GIVEN))
    await world.until(sessions=2)
    world.sessions.count_lost()
    assert 0 == world.sessions.status()["lost"]
    world.tell(told(BOARD, NUMBER=4, **GIVEN))
    await world.until(sessions=3)
    for _ in range(3):
        world.sessions.count_lost()
    (line,) = world.lines("board_sessions_lost")
    assert (2, 2) == (line["count"], world.sessions.status()["lost"])
    world.tell(told(BOARD, NUMBER=3, **GIVEN))
    await world.until(sessions=4)
    world.sessions.count_lost()
    # What was told stays told.
    assert 2 == world.sessions.status()["lost"]


async def test_record_that_has_been_let_go_ends_the_entry(world):
    world.evidence.append = _gone
    world.tell(told(BOARD, **GIVEN))
    await world.until(sessions=1)
    assert [b"name"] == world.forgotten


def _gone(entries):
    raise BlobsMissingError((entries[0].repeats.document,))


async def test_socket_has_the_group_and_mode_of_the_services_and_goes_with_it(world, tmp_path):
    status = (tmp_path / NAME).stat()
    assert (0o640, os.getegid()) == (stat.S_IMODE(status.st_mode), status.st_gid)
    world.sessions.close()
    assert not (tmp_path / NAME).exists()


async def test_what_waits_is_kept_when_the_service_stops(world):
    world.tell(told(BOARD, **GIVEN))
    await world.sessions.drain()
    await world.until(sessions=1, given=1)


async def test_what_is_being_kept_is_accounted_for_when_the_service_stops(tmp_path):
    world = World(tmp_path)
    (tmp_path / "s").touch(mode=0o600)
    world.sessions.open(tmp_path, like=tmp_path / "s")
    begun, may = asyncio.Event(), asyncio.Event()
    keep = world.service.keeper.keep_repeats

    async def slow(repeats):
        begun.set()
        await may.wait()
        return await keep(repeats)

    world.service.keeper.keep_repeats = slow  # type: ignore[method-assign]
    task = asyncio.create_task(world.sessions.run())
    world.tell(told(BOARD, **GIVEN))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    asyncio.get_running_loop().call_later(0.05, may.set)
    await world.sessions.drain()
    world.sessions.close()
    await world.service.keeper.aclose()
    assert (1, 1, 2) == (
        world.sessions.status()["given"],
        len(world.lines("verdict")),
        len(world.evidence.entries),
    )


async def test_what_is_not_kept_in_the_time_of_a_stop_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("cftpki_ext.service.board.sessions._STOP_S", 0.05)
    world = World(tmp_path)
    (tmp_path / "s").touch(mode=0o600)
    world.sessions.open(tmp_path, like=tmp_path / "s")

    async def never(_):
        await asyncio.Event().wait()

    world.service.keeper.keep_repeats = never  # type: ignore[method-assign]
    world.tell(told(BOARD, **GIVEN))
    await world.sessions.drain()
    world.sessions.close()
    await world.service.keeper.aclose()
    assert [1] == [line["count"] for line in world.lines("board_sessions_lost")]


async def test_all_that_waits_in_the_queue_is_read_when_the_service_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(gathering, "MOST", 2)
    world = World(tmp_path)
    (tmp_path / "s").touch(mode=0o600)
    world.sessions.open(tmp_path, like=tmp_path / "s")
    world.tell(*(told(BOARD, NUMBER=number, **GIVEN) for number in range(1, 6)))
    await world.sessions.drain()
    world.sessions.close()
    await world.service.keeper.aclose()
    assert (5, 6) == (world.sessions.status()["sessions"], len(world.evidence.entries))


async def test_fault_of_ours_with_one_session_keeps_no_other_from_its_record(world, monkeypatch):
    again, faults = heard.repeat_of, [ValueError("a fault of ours")]

    def fails_once(*arguments):
        if faults:
            raise faults.pop()
        return again(*arguments)

    monkeypatch.setattr(board_sessions, "repeat_of", fails_once)
    world.tell(told(BOARD, NUMBER=1, **GIVEN), told(BOARD, NUMBER=2, **GIVEN))
    await world.until(sessions=2, given=1)
    assert (1, 2, 2) == (
        len(world.lines("board_session_not_recorded")),
        len(world.lines("handshake_done")),
        len(world.evidence.entries),
    )


async def test_fault_of_ours_with_many_sessions_keeps_no_later_one_from_its_record(world):
    keep = world.service.keeper.keep_repeats

    async def fails_once(repeats):
        del repeats
        world.service.keeper.keep_repeats = keep
        msg = "a fault of ours"
        raise ValueError(msg)

    world.service.keeper.keep_repeats = fails_once
    world.tell(told(BOARD, NUMBER=1, **GIVEN))
    async with asyncio.timeout(30):
        while not world.lines("board_session_not_recorded"):  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.005)
    world.tell(told(BOARD, NUMBER=2, **GIVEN))
    await world.until(sessions=1, given=1, lost=1)


async def test_group_that_is_not_ours_leaves_it_to_the_kernel_who_may_speak(world, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    world.sessions.close()
    monkeypatch.setattr("os.chown", refuse)
    monkeypatch.setattr("os.getegid", lambda: 4711)
    world.sessions.open(tmp_path, like=tmp_path / "s")
    assert 0o662 == stat.S_IMODE((tmp_path / NAME).stat().st_mode)


async def test_socket_that_somebody_has_removed_is_made_again(world, tmp_path):
    def again():
        world.sessions.open_again(lambda _: tmp_path, like=tmp_path / "s")

    before = (tmp_path / NAME).stat().st_ino
    again()
    assert (before, []) == ((tmp_path / NAME).stat().st_ino, world.lines("board_sessions_unheard"))
    (tmp_path / NAME).unlink()
    (tmp_path / "s").rename(tmp_path / "away")
    again()  # it cannot: nobody knows who may speak
    assert not (tmp_path / NAME).exists()
    (tmp_path / "away").rename(tmp_path / "s")
    again()
    world.tell(told(BOARD, **GIVEN))
    await world.until(sessions=1, given=1)
    assert (1, 1) == (len(world.lines("board_sessions_unheard")), len(world.lines("board_session_unread")))
