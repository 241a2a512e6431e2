"""
A cluster of servers of which nobody answers.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cftpki_connectors.cluster.server import SharedServer
from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.core.cluster import Address, ClusterSettings, Layout, NodeRow, Refusal
from tests.support.ports import free_port

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
