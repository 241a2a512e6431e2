"""
What one node knows of the others: by what they say, whatever their clocks say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from cftpki_ext.core.cluster import Beat, NodeRow
from cftpki_ext.service.cluster.node import GONE_S, ClusterNode

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass
class Clock:
    seconds: float = 1000.0

    def now(self):
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self):
        return self.seconds


@dataclass
class Server:
    """
    Has the rows of other nodes, and asks nothing.
    """

    rows: list = field(default_factory=list)
    up: bool = True
    has_secret: bool = True

    async def beat(self, row, told):
        del row, told
        return Beat(first=None, last="9000-0", generation=0, nodes=tuple(self.rows))

    def status(self):
        return {"server": "rediss://r:1", "fault": None}


class Quiet:
    """
    Whatever else a node has.
    """

    position = "5000-0"
    last = None

    def compare(self, *_):
        return False

    def status(self):
        return {}

    def __getattr__(self, name):
        return lambda *_, **__: None


class World:
    def __init__(self):
        self.clock, self.server = Clock(), Server()
        self.node = ClusterNode(
            self.server, Quiet(), Quiet(), Quiet(), name="us", clock=self.clock, log=Quiet()
        )

    async def sees(self, *, behind_s, passed_s=1.0):
        """
        A second later the other node has said something, by its own clock.
        """
        self.clock.seconds += passed_s
        at = self.clock.now() - timedelta(seconds=behind_s)
        self.server.rows = [NodeRow(node="b", version="1", position="8000-0", at=at)]
        await self.node._say()
        return self.other()

    async def hears_nothing(self, seconds):
        self.clock.seconds += seconds
        await self.node._say()
        return self.other()

    def other(self):
        (row,) = self.node.status()["nodes"]
        return row["here"], row["silent_s"], row["ahead_s"]


@pytest.mark.parametrize(("behind_s", "ahead_s"), [(0.5, 0.0), (600, -600.0), (-600, 600.0)])
async def test_node_that_speaks_is_there_whatever_its_clock_says(behind_s, ahead_s):
    world = World()
    await world.sees(behind_s=behind_s)
    assert (True, 0.0, ahead_s) == await world.sees(behind_s=behind_s)
    assert (True, 10.0, ahead_s) == await world.hears_nothing(10)
    assert (False, GONE_S, ahead_s) == await world.hears_nothing(GONE_S - 10)


async def test_node_that_said_something_before_we_began_is_not_taken_for_one_that_is_there():
    world = World()
    assert (False, 600.0, 0.0) == await world.sees(behind_s=600)
    assert (False, 601.0, 0.0) == await world.hears_nothing(1)


async def test_lag_of_nodes_is_told():
    world = World()
    await world.sees(behind_s=0)
    status = world.node.status()
    assert (4.0, 1.0) == (status["lag_s"], status["nodes"][0]["lag_s"])
