"""
The notices of a service: each receiver by itself, whatever another one does; and nothing of it reaches a handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.bootstrap.notices import HeardLog
from cftpki_ext.core.errors import NotTakenError
from cftpki_ext.core.notify import NotifySettings, SyslogReceiver
from cftpki_ext.core.settings import ServiceSettings, Settings
from cftpki_ext.service.notices import driver
from cftpki_ext.service.notices.driver import FILE, Notices, books_in
from tests.support.daemon_world import SystemClock
from tests.support.logs import CapturedLog, FailingLog

# An event is waited for, never a time; so long only where it never comes.
WAIT_S = 30
REVOKED = {"reason": "revoked", "partner": "CN=acme", "serial": "1a", "summary": "revoked"}


class Desk:
    """
    A receiver that does what the test wants.
    """

    def __init__(self, receiver):
        self.receiver = receiver
        self.messages = []
        self.tries = 0
        self.fault = None
        self.open = asyncio.Event()
        self.open.set()
        self.changed = asyncio.Event()
        self.closed = False

    async def send(self, message, *, deadline):  # noqa: ARG002 - the port's
        self.tries += 1
        self.changed.set()
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        self.messages.append(message)
        self.changed.set()

    async def aclose(self):
        self.closed = True

    async def until(self, condition):
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class World:
    def __init__(self, tmp_path, *names):
        receivers = tuple(SyslogReceiver(name=name) for name in names)
        notify = NotifySettings(receivers=receivers, settle=timedelta(milliseconds=20))
        state = tmp_path / "state"
        state.mkdir(exist_ok=True)
        self.settings = Settings(service=ServiceSettings(state=state), notify=notify)
        self.state = {}
        self.desks = {}
        self.log = CapturedLog()
        self.notices = Notices(
            self.settings,
            status=lambda: self.state,
            make=self.make,
            log=self.log,
            clock=SystemClock(),
            host="here",
        )

    def make(self, receiver):
        self.desks[receiver.name] = Desk(receiver)
        return self.desks[receiver.name]

    def down(self, *urls):
        places = [{"kind": "ocsp", "trust": "p", "location": url, "up": False} for url in urls]
        self.state = {"sources": {"locations": places}}

    def events(self):
        return [call.kwargs["event"] for call in self.log.calls]


async def until(condition):
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - counters, log lines and files have no event to wait for
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def running(world):
    task = asyncio.create_task(world.notices.run())
    try:
        await until(lambda: world.desks or not world.notices._settings.notify.receivers)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def said(desk):
    return [(one.state.value, one.condition.about) for message in desk.messages for one in message.notices]


async def test_what_is_down_is_told_and_its_end_too(tmp_path):
    world = World(tmp_path, "a")
    world.down("http://x/")
    async with running(world):
        desk = world.desks["a"]
        await desk.until(lambda: desk.messages)
        world.down()
        await desk.until(lambda: len(desk.messages) == 2)
    assert [("begun", "p ocsp http://x/"), ("over", "p ocsp http://x/")] == said(desk)
    assert ("here", True) == (desk.messages[0].host, desk.closed)


async def test_receiver_that_hangs_or_fails_delays_no_other(tmp_path):
    world = World(tmp_path, "hangs", "fails", "well")
    world.down("http://x/")
    made = world.make

    def make(receiver):
        desk = made(receiver)
        if receiver.name == "hangs":
            desk.open.clear()
        desk.fault = NotTakenError("busy") if receiver.name == "fails" else None
        return desk

    world.notices._make = make
    async with running(world):
        await world.desks["well"].until(lambda: world.desks["well"].messages)
        await world.desks["fails"].until(lambda: world.desks["fails"].tries)
        await until(lambda: world.notices.status()["fails"]["failed"])
        status = world.notices.status()
    assert (1, 0, 0) == tuple(status[name]["sent"] for name in ("well", "fails", "hangs"))
    assert ("busy", None) == (status["fails"]["error"], status["well"]["error"])
    assert (1, True) == (world.events().count("notice_not_taken"), world.desks["hangs"].closed)


async def test_what_does_not_answer_in_time_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "SEND_S", 0.05)
    world = World(tmp_path, "a")
    world.down("http://x/")
    made = world.make

    def make(receiver):
        desk = made(receiver)
        desk.open.clear()
        return desk

    world.notices._make = make
    async with running(world):
        await until(lambda: "notice_not_taken" in world.events())
    assert ["no answer within 0 s"] == [
        call.kwargs["error"] for call in world.log.calls if call.kwargs["event"] == "notice_not_taken"
    ]


async def test_event_is_told_whatever_the_log_does(tmp_path):
    world = World(tmp_path, "a")
    log = HeardLog(FailingLog(), world.notices.hear)
    async with running(world):
        desk = world.desks["a"]
        with pytest.raises(OSError, match="No space"):
            log.warning("verdict", **REVOKED)
        await desk.until(lambda: desk.messages)
    assert [("begun", "CN=acme 1a")] == said(desk)


def test_log_hears_warnings_and_errors_and_writes_all_of_them():
    written, told = CapturedLog(), []
    log = HeardLog(written, lambda event, fields: told.append((event, dict(fields))))
    for level in ("debug", "info", "warning", "error"):
        getattr(log, level)(level, n=1)
    assert [("warning", {"n": 1}), ("error", {"n": 1})] == told
    assert ["debug", "info", "warning", "error"] == [call.kwargs["event"] for call in written.calls]


async def test_fault_of_ours_reaches_nobody_who_tells_of_an_event(tmp_path):
    world = World(tmp_path, "a")

    class Unkind(dict):
        def get(self, *_):
            msg = "a fault"
            raise RuntimeError(msg)

    world.notices.hear("verdict", Unkind())
    world.notices._status = None
    async with running(world):
        await until(lambda: "notices_failed" in world.events())
    assert 1 == world.events().count("notices_failed")


async def test_reload_gives_and_takes_receivers_and_leaves_the_rest_as_they_were(tmp_path):
    world = World(tmp_path, "a", "b")
    world.down("http://x/")
    async with running(world):
        kept, gone = world.desks["a"], world.desks["b"]
        await kept.until(lambda: kept.messages)
        await gone.until(lambda: gone.messages)
        receivers = (kept.receiver, SyslogReceiver(name="c"))
        world.notices.replace_settings(
            replace(world.settings, notify=replace(world.settings.notify, receivers=receivers))
        )
        await until(lambda: "c" in world.desks)
        new = world.desks["c"]
        await new.until(lambda: new.messages)
        assert (["a", "c"], True, False) == (sorted(world.notices.status()), gone.closed, kept.closed)
    assert (1, 1) == (len(kept.messages), len(new.messages))


async def test_all_clear_survives_a_restart_and_a_broken_file_is_none(tmp_path):
    world = World(tmp_path, "a")
    world.down("http://x/")
    async with running(world):
        desk = world.desks["a"]
        await desk.until(lambda: desk.messages)
        await until((world.settings.service.state / FILE).exists)
    file = world.settings.service.state / FILE
    assert 0o600 == file.stat().st_mode & 0o777
    again = World(tmp_path, "a")
    async with running(again):
        desk = again.desks["a"]
        await desk.until(lambda: desk.messages)
    assert [("over", "p ocsp http://x/")] == said(desk)
    file.write_bytes(b"{" * 100_000)
    broken = World(tmp_path, "a")
    broken.down("http://x/")
    async with running(broken):
        desk = broken.desks["a"]
        await desk.until(lambda: desk.messages)
    assert [("begun", "p ocsp http://x/")] == said(desk)


async def test_without_receivers_nothing_is_looked_at(tmp_path):
    world = World(tmp_path)
    world.notices._status = None
    async with running(world):
        world.notices.hear("verdict", REVOKED)
        for _ in range(10):
            await asyncio.sleep(0)
    assert ([], {}) == (world.events(), world.notices.status())


@given(
    data=st.binary(max_size=200)
    | st.sampled_from([b"[]", b'{"format":1,"books":7}', b'{"format":2,"books":{}}'])
)
def test_whatever_is_in_the_file_it_gives_books_or_none(data):
    assert isinstance(books_in(data), dict)


def test_books_are_read_as_they_were_written():
    assert {"a": []} == books_in(b'{"format": 1, "books": {"a": []}}')
    assert MappingProxyType({}) == books_in(b"")
