"""
What hosts tell is taken from the socket at once, and handed over many at a time, with the user of each.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import threading

import pytest

from cftpki_ext.service.board import gathering
from cftpki_ext.service.board.datagrams import bind
from cftpki_ext.service.board.gathering import Gatherer
from cftpki_ext.service.board.told import MAX_OCTETS
from tests.support.board_host import library


class World:
    """
    A socket, whoever speaks to it, and what came of it.
    """

    def __init__(self, folder):
        self.path = folder / "sessions"
        (folder / "s").touch(mode=0o600)
        self.bound = bind(self.path, like=folder / "s")
        self.times: list[list[tuple[bytes, int | None]]] = []
        self.failures: list[str] = []
        self.come = asyncio.Event()
        self.sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sender.connect(str(self.path))
        self.gatherer: Gatherer | None = None

    def begin(self):
        self.gatherer = Gatherer(library(), self.bound, hear=self.hear, failed=self.fail)

    def hear(self, datagrams):
        self.times.append(list(datagrams))
        self.come.set()

    def fail(self, error):
        self.failures.append(error)
        self.come.set()

    @property
    def octets(self):
        return [octets for time in self.times for octets, _ in time]

    async def until(self, count):
        async with asyncio.timeout(60):
            while len(self.octets) < count:
                await self.come.wait()
                self.come.clear()


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path)
    try:
        yield world
    finally:
        if world.gatherer is not None:
            world.gatherer.stop()
        world.sender.close()
        world.bound.close()


async def test_what_waits_comes_in_one_piece_in_its_order_with_its_user(world):
    sent = [b"%d" % number * number for number in range(8)]
    for one in sent:
        world.sender.send(one)
    world.begin()
    await world.until(8)
    assert [[(one, os.geteuid()) for one in sent]] == world.times


async def test_more_than_a_queue_holds_comes_without_a_loss(world):
    world.begin()
    sending = asyncio.create_task(
        asyncio.to_thread(lambda: [world.sender.send(b"%d" % number) for number in range(2000)])
    )
    await world.until(2000)
    await sending
    assert [b"%d" % number for number in range(2000)] == world.octets
    assert max(map(len, world.times)) <= gathering.MOST


async def test_what_is_longer_than_any_datagram_of_ours_has_one_octet_more(world):
    world.begin()
    for length in (MAX_OCTETS, MAX_OCTETS + 1, 5000):
        world.sender.send(b"x" * length)
    await world.until(3)
    assert [MAX_OCTETS, MAX_OCTETS + 1, MAX_OCTETS + 1] == list(map(len, world.octets))


async def test_descriptors_that_come_with_a_datagram_are_closed(world):
    reading, writing = os.pipe()
    right = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writing]))]
    world.sender.sendmsg([b"take"], right)
    os.close(writing)
    world.begin()
    await world.until(1)
    # Nobody has the pipe's other end any more.
    assert (b"", [b"take"]) == (os.read(reading, 1), world.octets)
    os.close(reading)


async def test_stop_hands_over_what_was_taken_and_the_rest_is_read_afterwards(world, monkeypatch):
    monkeypatch.setattr(gathering, "WINDOW_S", 60.0)
    world.sender.send(b"taken")
    world.begin()
    async with asyncio.timeout(60):
        while _queued(world.bound):  # noqa: ASYNC110 - a queue has no event
            await asyncio.sleep(0.005)
    world.gatherer.stop()
    world.sender.send(b"left")
    assert [b"taken"] == world.octets
    assert (True, False) == (world.gatherer.rest(), world.gatherer.rest())
    assert ([b"taken", b"left"], []) == (world.octets, world.failures)
    world.gatherer.stop()
    assert "board sessions" not in {thread.name for thread in threading.enumerate()}


def _queued(bound):
    """
    Whether something is in the socket's queue.
    """
    try:
        return bool(bound.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


async def test_socket_that_fails_is_told_of_and_tried_again(world, monkeypatch):
    monkeypatch.setattr(gathering, "_PAUSE_S", 0.0)
    spare = os.dup(world.bound.fileno())
    number = world.bound.fileno()
    other = os.open(os.devnull, os.O_RDONLY)
    os.dup2(other, number)
    os.close(other)
    world.begin()
    async with asyncio.timeout(60):
        while not world.failures:
            await world.come.wait()
            world.come.clear()
    os.dup2(spare, number)
    os.close(spare)
    world.sender.send(b"again")
    await world.until(1)
    assert ({"socket operation on non-socket"}, [b"again"]) == (
        {failure.lower() for failure in world.failures},
        world.octets,
    )


def test_library_takes_no_more_places_than_it_has():
    assert -22 == library().cftpki_board_gather(0, -1, None, 0, 0)
    assert -22 == library().cftpki_board_gather(0, -1, None, 4097, 0)
