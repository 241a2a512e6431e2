"""
A cluster of servers of which nobody answers, or that says of its slots what cannot be.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cftpki_connectors.cluster.server import SharedServer
from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.core.cluster import Address, ClusterSettings, Layout, NodeRow, Refusal
from tests.support.ports import free_port
from tests.unit.connectors.cluster.test_hostile_server import WELL, listening, word

ROW = NodeRow(node="a", version="1", position="0-0", at=datetime(2026, 6, 1, tzinfo=UTC))


@pytest.mark.parametrize("call", ["find", "take", "beat"])
async def test_cluster_whose_servers_are_all_gone_is_no_server(call):
    addresses = tuple(Address(host="127.0.0.1", port=free_port()) for _ in range(2))
    shared = SharedServer(
        ClusterSettings(layout=Layout.CLUSTER, addresses=addresses, tls=False), SystemClock()
    )
    shared._calls.up = True  # as it was until now
    try:
        found = await (shared.beat(ROW) if call == "beat" else getattr(shared, call)("k"))
        assert (Refusal.UNAVAILABLE if call == "take" else None) is found
        status = shared.status()
        assert (False, "connection refused") == (status["up"], status["fault"])
    finally:
        await shared.aclose()


def slots(rows):
    """
    A server that has these rows for CLUSTER SLOTS, and knows scripts; the port is its own.
    """

    async def behave(reader, writer):
        host, port = writer.get_extra_info("sockname")
        place = b"*2\r\n$%d\r\n%s\r\n:%d\r\n" % (len(host), host.encode(), port)
        while line := await reader.readline():
            words = [await word(reader) for _ in range(int(line[1:]))]
            if words[:2] == [b"CLUSTER", b"SLOTS"]:
                writer.write(b"*%d\r\n" % len(rows))
                for first, last, servers in rows:
                    writer.write(b"*%d\r\n:%d\r\n:%d\r\n" % (2 + servers, first, last) + place * servers)
            elif words[0] == b"COMMAND":
                writer.write(b"*0\r\n")
            elif words[0] == b"EVAL":
                writer.write(WELL)
            else:
                writer.write(b"+OK\r\n")
            await writer.drain()

    return behave


async def beat_of(rows):
    async with listening(slots(rows)) as port:
        addresses = (Address(host="127.0.0.1", port=port),)
        settings = ClusterSettings(layout=Layout.CLUSTER, addresses=addresses, tls=False)
        shared = SharedServer(settings, SystemClock())
        try:
            return await shared.beat(ROW), len(shared._calls._client.nodes_manager.slots_cache)
        finally:
            await shared.aclose()


@pytest.mark.parametrize(
    "rows",
    [
        [(0, 10**12, 1)],
        [(0, 16384, 1)],
        [(-1, 16383, 1)],
        [(5, 4, 1), (0, 16383, 1)],
        [(0, 16383, 1), (7, 7, 1)],
        [(0, 16383, 1)] * 5000,
        [(0, 16383, 18)],
        [(0, 16383, 0)],
    ],
    ids=["endless", "one too many", "negative", "backwards", "twice", "often", "replicas", "no server"],
)
async def test_cluster_that_has_slots_that_there_are_not_is_no_server(rows):
    assert (None, 0) == await beat_of(rows)


async def test_cluster_whose_slots_are_all_there_is_a_server():
    found, known = await beat_of([(0, 8191, 17), (8192, 16383, 1)])
    assert (True, 16384) == (found is not None, known)
