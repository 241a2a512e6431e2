"""
Four services and a real server that is stopped, emptied, full of rubbish, slow, full, or another's: known partners come in, those that
nobody has seen are judged by what their CA says, and whoever was revoked meanwhile is refused by all once they hear of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from functools import partial

import pytest

from tests.support import redis_server
from tests.support.cluster_farm import LIMITS, MORE, NODES, Farm, farm
from tests.support.cluster_site import Site, check, status
from tests.support.pace import LATE_S
from tests.support.wall_clock import until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("cluster")]

# A call that is late costs its patience once; the rest is what the question costs a node by itself.
FIRST_S = 1.0 + 3 * LATE_S

_EACH = "for _, k in ipairs(redis.call('KEYS', 'cftpki:*')) do local n = k:match('[^:]*$') redis.call('DEL', k) {} end return 1"
_RUBBISH = {
    "octets": _EACH.format("redis.call('SET', k, 'rubbish that is longer than any head')"),
    "types": _EACH.format("redis.call('RPUSH', k, 'rubbish')"),
    # What looks like ours: tokens and counts that no clock reaches, the last number of a stream, a row without end.
    "numbers": _EACH.format(
        """
        if n == 's' then redis.call('XADD', k, '18446744073709551615-18446744073709551615', 'a', string.rep('x', 3000000))
        elseif n == 'n' then redis.call('HSET', k, 'x', string.rep('x', 6000000))
        elseif n == 'a' then redis.call('SET', k, string.rep('\\255', 8) .. 'CFTArubbish')
        else redis.call('SET', k, '9999999999999999999') end
        """
    ),
}


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    with farm(
        tmp_path_factory.mktemp("four"), partners=25 + 5 * 8, server_more="enable-debug-command local"
    ) as running:
        yield running
        assert [] == [failure for node in running.nodes for failure in node.failures()]


def test_first_handshakes_at_all_nodes_cost_one_list_and_one_query_for_each_certificate(four):
    partners = four.take(25)
    assert [True] * 100 == four.answers(*partners)
    lists = sum('"GET /root.crl' in line for line in four.site.lists.log_lines())
    queries = sum("1st line: POST" in line for line in four.site.responder.log_lines())
    # A node for which the machine was too busy, so that a call was late, asks by itself for a while.
    each = NODES if four.counted("late", "waited_in_vain") else 1
    assert 1 <= lists <= each
    assert len(partners) <= queries <= each * len(partners)


def test_server_that_is_stopped_and_started_again_lets_nobody_in_whom_a_node_refused(four):
    @contextlib.contextmanager
    def stopped():
        four.redis.stop()
        try:
            yield
        finally:
            four.redis.start()

    assert four.endure(stopped) < FIRST_S


def test_server_that_is_emptied_lets_nobody_in_whom_a_node_refused(four):
    @contextlib.contextmanager
    def emptied():
        four.redis.command("FLUSHALL")
        yield
        four.redis.command("FLUSHALL")

    assert four.endure(emptied) < FIRST_S


@pytest.mark.parametrize("kind", _RUBBISH)
def test_server_that_is_filled_with_rubbish_is_put_right_by_nodes(four, kind):
    @contextlib.contextmanager
    def filled():
        assert "1" == four.redis.command("EVAL", _RUBBISH[kind], "0")
        yield
        assert "1" == four.redis.command("EVAL", _RUBBISH[kind], "0")

    assert four.endure(filled) < FIRST_S


def test_server_that_is_slow_by_two_seconds_costs_a_question_its_patience(four):
    @contextlib.contextmanager
    def slow():
        ended = threading.Event()

        def sleep():
            while not ended.is_set():
                four.redis.command("DEBUG", "SLEEP", "2")

        thread = threading.Thread(target=sleep)
        late = four.counted("late")
        thread.start()
        try:
            yield
            until(lambda: four.counted("late") > late)
        finally:
            ended.set()
            thread.join()

    assert four.endure(slow) < FIRST_S


@pytest.mark.parametrize("policy", ["noeviction", "volatile-ttl"])
def test_server_that_is_full_is_as_if_it_were_not_there(four, policy):
    @contextlib.contextmanager
    def full():
        four.redis.command("CONFIG", "SET", "maxmemory-policy", policy)
        four.redis.command("CONFIG", "SET", "maxmemory", "1")
        try:
            yield
            # It does not take what they tell, and who is there is known all the same.
            assert all(node["up"] for node in (status(one)["cluster"] for one in four.nodes))
        finally:
            four.redis.command("CONFIG", "SET", "maxmemory", "0")

    before = four.counted("full")
    assert four.endure(full) < FIRST_S
    assert four.counted("full") > before


@pytest.mark.parametrize("lagged", [False, True], ids=["up to date", "lagged behind"])
def test_server_that_another_takes_over_from_tells_all_what_was_told(tmp_path, lagged):
    site = Site(tmp_path, partners=4, limits=LIMITS)
    with redis_server.watched(tmp_path / "r") as (first, second, port), site.ca():
        url = f"rediss+sentinel://{redis_server.USER}@127.0.0.1:{port}/farm"
        with site.nodes(first, NODES, url=url, more=MORE) as nodes:
            four = Farm(site, first, nodes)
            known, stolen, new, bad = four.take(4)
            assert {True} == four.at_all(known)
            assert {True} == four.at_all(stolen, nodes=nodes[1:])
            four.forget(stolen)
            until(lambda: "0" == second.command("EVAL", "return #redis.call('KEYS', '*:a')", "0"))
            asleep = nodes[-1]
            os.kill(asleep.process.pid, signal.SIGSTOP)
            try:
                if lagged:
                    first.command("ACL", "SETUSER", "follower", "off")
                    first.command("CLIENT", "KILL", "TYPE", "replica")
                    until(lambda: "master_link_status:down" in second.command("INFO", "replication"))
                site.revoke(stolen, bad)
                assert not check(nodes[0], site.chain(stolen))
                until(lambda: status(nodes[0])["cluster"]["news"]["told"] == 1)
                if not lagged:
                    until(lambda: "1" == second.command("XLEN", "cftpki:{news}:s"))
                until(lambda: not any(four.answers(stolen, nodes=nodes[1:-1])))
                first.process.kill()
                first.process.wait()
                assert {True} == four.at_all(known, new, nodes=nodes[:-1])
                assert {False} == four.at_all(bad, stolen, nodes=nodes[:-1])
                until(lambda: "role:master" in second.command("INFO", "replication"))
                four.redis = second
            finally:
                os.kill(asleep.process.pid, signal.SIGCONT)
            until(partial(four.refuse, stolen), told=asleep.log.read_text)
            until(four.are_up)
            assert {False} == four.at_all(bad, stolen)
            assert {True} == four.at_all(known, new)
            # Whoever had told it sees that it is gone, and tells it again.
            assert not lagged or nodes[0].events("cluster_forgot")
            assert [] == [failure for node in nodes for failure in node.failures()]
