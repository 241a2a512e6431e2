"""
Services that share a real Redis: each location is asked once for all, and the server may be gone, empty, full of rubbish or frozen.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from cftpki_ext.console.views.cluster import cluster_page
from cftpki_ext.doctor.cluster import examine_node
from cftpki_ext.service.metrics import Seen, exposition
from tests.support import redis_server
from tests.support.cluster_site import Site, check, check_in, status
from tests.support.wall_clock import until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("cluster")]


def shows_nodes_lag_tiers_and_leases(told):
    """
    What a service says of itself is enough for metrics, doctor and console to show the cluster.
    """
    page = cluster_page(told, at="2026-06-01T12:00:00+00:00")
    assert "2 of 2 nodes are there" in page.lead.text
    numbers = exposition(Seen(status=told, identities={}))
    for name in (
        *('cftpki_cluster_node_here{node="node1"} 1.0', 'cftpki_cluster_node_lag_seconds{node="node1"}'),
        *('cftpki_answers_total{tier="memory"}', 'cftpki_answers_total{tier="cluster"}'),
        *("cftpki_cluster_leases ", "cftpki_cluster_leases_taken_total"),
    ):
        assert f"\n{name}" in numbers
    assert ["nodes", "answers"] == [one.check for one in examine_node(told["cluster"], told["answers"])]
    assert {"memory", "disk", "cluster", "network"} == set(told["answers"])
    # Which of both nodes asked first is left to chance.
    assert told["answers"]["cluster"] + told["answers"]["network"] >= 1


@pytest.mark.parametrize("server", redis_server.SERVERS)
def test_nodes_ask_once_and_go_on_whatever_becomes_of_the_server(tmp_path, server):
    site = Site(tmp_path, partners=6)
    with (
        redis_server.running(tmp_path / "r", program=redis_server.SERVERS[server]) as redis,
        site.nodes(redis, 2) as nodes,
    ):
        with site.ca() as (_, crls):

            async def first():
                return await asyncio.gather(*(check_in(n, site.chain(p)) for n in nodes for p in range(2)))

            assert [True] * 4 == asyncio.run(first())
            # A machine that is busy with other things may be late for a call of the server: then a node asks by itself.
            told = [status(node)["cluster"] for node in nodes]
            late = sum(one["late"] for one in told)
            assert 1 <= sum('"GET /root.crl' in line for line in crls.log_lines()) <= 1 + late, told
            assert 3 <= sum(one["sharing"]["asked"] for one in told) <= 3 + 3 * late, told
            until(lambda: {"node0", "node1"} == {one["node"] for one in status(nodes[0])["cluster"]["nodes"]})

            shows_nodes_lag_tiers_and_leases(status(nodes[0]))

            # Rubbish under every name of an answer: asked for again, and nothing else happens.
            redis.command(
                "EVAL",
                "for _, k in ipairs(redis.call('KEYS', '*:a')) do redis.call('SET', k, 'rubbish') end",
                "0",
            )
            assert check(nodes[0], site.chain(2))
            assert check(nodes[1], site.chain(2))

            # Frozen: one call is late, and then nobody waits.
            os.kill(redis.process.pid, signal.SIGSTOP)
            try:
                assert check(nodes[0], site.chain(3))
                until(lambda: nodes[0].events("cluster_down"), told=nodes[0].log.read_text)
                begun = time.monotonic()
                assert check(nodes[0], site.chain(4))
                took_s = time.monotonic() - begun
            finally:
                os.kill(redis.process.pid, signal.SIGCONT)
            assert not status(nodes[0])["cluster"]["sharing"]["leases_now"]
            assert took_s < 5
            until(lambda: len(nodes[0].events("cluster_up")) == 2, told=nodes[0].log.read_text)

            redis.command("FLUSHALL")
            assert check(nodes[0], site.chain(5))
            assert check(nodes[1], site.chain(5))
        redis.process.kill()
        redis.process.wait()
        # Known partners, and neither CA nor server.
        assert check(nodes[0], site.chain(0))
        assert check(nodes[1], site.chain(1))
        assert [] == [failure for node in nodes for failure in node.failures()]
