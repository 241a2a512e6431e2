"""
The server that nodes share, for real: answers, leases, announcements, what the ACL allows, and what happens when it is full.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest

from cftpki_connectors.cluster.bounded import BoundedParser
from cftpki_connectors.cluster.server import SharedServer
from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.core.blocks import Block
from cftpki_ext.core.cluster import (
    MAX_VALUE_OCTETS,
    STREAM_ENTRIES,
    Address,
    Announcement,
    Layout,
    Lease,
    NodeRow,
    NoLease,
    Refusal,
    SharedAnswer,
    Told,
)
from tests.support import pki, redis_server
from tests.support.wall_clock import until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("cluster")]


def now():
    return datetime.now(UTC)


@contextlib.asynccontextmanager
async def node(server, name="a", **more):
    shared = SharedServer(server.settings(**more), SystemClock())
    try:
        yield shared, await shared.beat(NodeRow(node=name, version="1", position="0-0", at=now()))
    finally:
        await shared.aclose()


@pytest.fixture(scope="module", params=redis_server.SERVERS)
def running(tmp_path_factory, request):
    program = redis_server.SERVERS[request.param]
    with redis_server.running(tmp_path_factory.mktemp("redis"), program=program) as found:
        yield found


@pytest.fixture
def server(running):
    running.command("FLUSHALL")
    return running


async def test_answer_of_one_node_is_found_by_another_until_it_ends(server):
    async with node(server) as (one, _), node(server, "b") as (other, _):
        received = now().replace(microsecond=5)
        assert await one.put("k", b"answer", received_at=received, keep_s=60, lease=None)
        assert SharedAnswer(raw=b"answer", received_at=received) == await other.find("k")
        assert await other.find("another") is None
    assert 0 < int(server.command("PTTL", server.command("KEYS", "*:a"))) <= 60_000


async def test_every_key_ends(server):
    async with node(server) as (one, _):
        await one.take("k")
        await one.put("k", b"answer", received_at=now(), keep_s=60, lease=None)
        await one.announce(Announcement(told=Told.FLUSHED, node="a", number=1, at=now()))
    keys = server.command("KEYS", "*").split("\n")
    assert {"a", "l", "t", "s", "g", "n"} == {key.rpartition(":")[2] for key in keys}
    assert all(int(server.command("PTTL", key)) > 0 for key in keys)


async def test_lease_is_one_nodes_until_it_is_given_back(server):
    async with node(server) as (one, _), node(server, "b") as (other, _):
        lease = await one.take("k")
        assert isinstance(lease, Lease)
        assert Refusal.HELD is await other.take("k")
        assert await one.hold("k", lease)
        assert not await other.hold("k", Lease(token=lease.token + 1))
        await other.give_back("k", Lease(token=lease.token + 1))
        assert Refusal.HELD is await other.take("k")
        await one.give_back("k", lease)
        later = await other.take("k")
        assert later.token > lease.token


async def test_put_ends_its_lease_and_an_earlier_lease_overwrites_nothing(server):
    async with node(server) as (one, _), node(server, "b") as (other, _):
        early = await one.take("k")
        await one.give_back("k", early)
        late = await other.take("k")
        assert await other.put("k", b"new", received_at=now(), keep_s=60, lease=late)
        assert isinstance(await other.take("k"), Lease)
        assert not await one.put("k", b"old", received_at=now(), keep_s=60, lease=early)
        assert b"new" == (await one.find("k")).raw
        assert 1 == one.status()["fenced"]


async def test_announcements_are_heard_in_their_order_and_their_number_is_bounded(server):
    async with node(server) as (one, _), node(server, "b") as (other, _):
        places = [
            await one.announce(Announcement(told=Told.FLUSHED, node="a", number=number, at=now()))
            for number in range(40)
        ]
        heard, position = [], "0-0"
        while found := await other.heard_since(position):
            heard += found
            position = found[-1].position
        assert [*range(40)] == [entry.announcement.number for entry in heard]
        assert all(entry.vouched for entry in heard)
        assert places == [entry.position for entry in heard]
        beat = await other.beat(NodeRow(node="b", version="1", position=position, at=now()))
        assert (places[0], places[-1]) == (beat.first, beat.last)
        assert {"a", "b"} == {row.node for row in beat.nodes}
        for number in range(STREAM_ENTRIES):
            await one.announce(Announcement(told=Told.FLUSHED, node="a", number=number, at=now()))
        assert str(STREAM_ENTRIES) == server.command("XLEN", "cftpki:{news}:s")


RUBBISH = {
    "octets": "redis.call('SET', k, 'rubbish that is longer than any head')",
    "longer than any reply": "redis.call('SET', k, string.rep('x', 3000000))",
    "another type": "redis.call('RPUSH', k, 'rubbish')",
    "what no clock reaches": """
        if n == 's' then redis.call('XADD', k, '18446744073709551615-18446744073709551615', 'a', string.rep('x', 5000000))
        elseif n == 'n' then redis.call('HSET', k, 'x', string.rep('x', 5000000))
        elseif n == 'a' then redis.call('SET', k, string.rep('\\255', 8) .. 'CFTArubbish')
        else redis.call('SET', k, '9999999999999999999') end
    """,
}


@pytest.mark.parametrize("kind", RUBBISH)
async def test_rubbish_under_each_name_is_written_over(server, kind):
    async with node(server) as (one, _), node(server, "b") as (other, _):
        held = await one.take("held")
        assert await one.put("k", b"answer", received_at=now(), keep_s=60, lease=await one.take("k"))
        await one.announce(Announcement(told=Told.FLUSHED, node="a", number=1, at=now()))
        await one.take("k")
        each = (
            "for _, k in ipairs(redis.call('KEYS', '*')) do local n = k:match('[^:]*$') redis.call('DEL', k)"
        )
        server.command("EVAL", f"{each} {RUBBISH[kind]} end", "0")
        assert {"a", "l", "t", "s", "g", "n"} == {
            key.rpartition(":")[2] for key in server.command("KEYS", "*").split("\n")
        }
        assert await one.find("k") is None
        assert one.status()["up"], one.status()
        assert not await one.hold("held", held)
        lease = await one.take("k")
        assert isinstance(lease, Lease)
        # In this generation, and once what counts is known again.
        for _ in range(2):
            assert await one.put("k", b"answer", received_at=now(), keep_s=60, lease=lease)
            assert b"answer" == (await one.find("k")).raw
            for each in (one, other):
                beat = await each.beat(
                    NodeRow(node="ab"[each is other], version="1", position="0-0", at=now())
                )
                assert beat is not None, each.status()
        assert {"a", "b"} == {row.node for row in beat.nodes}
        assert b"answer" == (await other.find("k")).raw
        told = await one.announce(Announcement(told=Told.FLUSHED, node="a", number=2, at=now()))
        assert [(told, 2)] == [
            (entry.position, entry.announcement.number) for entry in await other.heard_since("0-0")
        ]
        assert (
            beat.generation
            < (await other.beat(NodeRow(node="b", version="1", position="0-0", at=now()))).generation
        )


async def test_entry_that_is_too_long_is_passed_over(server):
    async with node(server) as (one, _):
        for octets in ("x", 5_000_000 * "x"):
            await one.announce(Announcement(told=Told.FLUSHED, node="a", number=1, at=now()))
            script = (
                f"return redis.call('XADD', 'cftpki:{{news}}:s', '*', 'a', string.rep('x', {len(octets)}))"
            )
            server.command("EVAL", script, "0")
        heard = await one.heard_since("0-0")
        assert [1, None, 1, None] == [entry.announcement and entry.announcement.number for entry in heard]


async def test_count_of_flushes_that_is_lost_is_never_the_one_of_before(server):
    async with node(server) as (one, first):
        await one.put("k", b"answer", received_at=now(), keep_s=60, lease=None)
        server.command("DEL", "cftpki:{news}:g")
        after = await one.beat(NodeRow(node="a", version="1", position="0-0", at=now()))
        assert after.generation > first.generation
        assert await one.find("k") is None


async def test_flush_everywhere_hides_what_was_shared_before(server):
    async with node(server) as (one, _), node(server, "b") as (other, _):
        await one.put("k", b"answer", received_at=now(), keep_s=60, lease=None)
        await one.announce(Announcement(told=Told.FLUSHED, node="a", number=1, at=now()))
        await other.beat(NodeRow(node="b", version="1", position="0-0", at=now()))
        assert await other.find("k") is None


async def test_node_that_heard_of_a_flush_uses_nothing_shared_before_it_knows_which_flush_counts(server):
    async with node(server) as (one, _), node(server, "b") as (other, _):
        await one.put("k", b"answer", received_at=now(), keep_s=60, lease=None)
        await one.announce(Announcement(told=Told.FLUSHED, node="a", number=1, at=now()))
        assert await other.find("k") is not None
        other.flushed()
        assert await other.find("k") is None
        assert Refusal.UNAVAILABLE is await other.take("l")
        await other.beat(NodeRow(node="b", version="1", position="0-0", at=now()))
        assert await other.find("k") is None
        assert isinstance(await other.take("l"), Lease)


async def test_server_that_became_a_replica_is_not_used_for_what_it_had(server):
    async with node(server) as (one, _):
        await one.put("k", b"answer", received_at=now(), keep_s=60, lease=None)
        try:
            server.command("REPLICAOF", "127.0.0.1", "1")
            assert await one.beat(NodeRow(node="a", version="1", position="0-0", at=now())) is None
            assert (False, None) == (one.up, await one.find("k"))
            assert "read only replica" in one.status()["fault"]
        finally:
            server.command("REPLICAOF", "NO", "ONE")
        assert await one.beat(NodeRow(node="a", version="1", position="0-0", at=now())) is not None
        assert b"answer" == (await one.find("k")).raw


async def test_answer_that_was_asked_for_without_a_lease_takes_no_place_of_one_that_was_asked_for_since(
    server,
):
    async with node(server) as (one, _), node(server, "b") as (other, _):
        lease = await other.take("k")
        assert await other.put("k", b"younger", received_at=now(), keep_s=60, lease=lease)
        assert not await one.put("k", b"older", received_at=now(), keep_s=60, lease=NoLease(ago_s=5.0))
        assert (b"younger", 1) == ((await other.find("k")).raw, one.status()["fenced"])
        assert await one.put("l", b"answer", received_at=now(), keep_s=60, lease=NoLease(ago_s=5.0))
        assert await one.put("k", b"youngest", received_at=now(), keep_s=60, lease=None)


async def test_count_of_flushes_that_cannot_grow_is_none(server):
    async with node(server) as (one, _):
        server.command("SET", "cftpki:{news}:g", "0123")
        assert await one.announce(Announcement(told=Told.FLUSHED, node="a", number=1, at=now())) is not None


async def test_server_that_is_full_takes_nothing_and_is_told_so(server):
    async with node(server) as (one, _):
        try:
            server.command("CONFIG", "SET", "maxmemory", "1")
            assert not await one.put("k", b"answer", received_at=now(), keep_s=60, lease=None)
            assert Refusal.UNAVAILABLE is await one.take("k")
            assert await one.announce(Announcement(told=Told.FLUSHED, node="a", number=1, at=now())) is None
            status = one.status()
            assert (True, 3, "it is full (maxmemory)") == (status["up"], status["full"], status["refused"])
            # Who comes now is there, too, and learns who else is.
            beat = await one.beat(NodeRow(node="b", version="1", position="0-0", at=now()))
            assert ["a"] == [row.node for row in beat.nodes]
        finally:
            server.command("CONFIG", "SET", "maxmemory", "0")


async def test_node_keeps_to_its_share_of_what_all_may_put(server):
    async with node(server, max_bytes=2 * MAX_VALUE_OCTETS) as (one, _), node(server, "b") as _:
        await one.beat(NodeRow(node="a", version="1", position="0-0", at=now()))
        big = bytes(MAX_VALUE_OCTETS - 100)
        assert await one.put("k", big, received_at=now(), keep_s=60, lease=None)
        assert not await one.put("l", big, received_at=now(), keep_s=60, lease=None)
        assert await one.put("k", big, received_at=now(), keep_s=60, lease=None)
        assert 1 == one.status()["too_much"]


async def test_user_may_do_nothing_else(server):
    async with node(server) as (one, _):
        for words in (("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("BLPOP", "cftpki:x", "0")):
            with pytest.raises(Exception, match=r"no permission|has no permissions"):
                await one._calls._client.execute_command(*words)


# asyncio leaves the transport of a TLS handshake that failed to the collector of rubbish.
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning"
)
@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"user": "nobody"}, "it does not take this user and password"),
        ({"roots": ()}, "certificate verify failed: self-signed certificate in certificate chain"),
        (
            {"addresses": "127.1"},
            "certificate verify failed: Hostname mismatch, certificate is not valid for '127.1'.",
        ),
        ({"tls": False}, "connection reset by peer"),
    ],
    ids=["user", "roots", "name", "plain"],
)
async def test_server_that_cannot_be_used_says_why(server, more, fault):
    if "addresses" in more:
        more = {"addresses": (Address(host=more["addresses"], port=server.port),)}
    async with node(server, **more) as (one, beat):
        assert beat is None
        assert fault == one.status()["fault"]


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning"
)
@pytest.mark.parametrize("layout", [Layout.SERVER, Layout.CLUSTER])
async def test_server_that_only_the_system_knows_is_not_believed_where_there_are_roots(
    server, layout, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(server.folder / "ca.pem"))
    async with node(server, layout=layout, roots=(pki.make_root("Another").der,)) as (one, beat):
        assert beat is None
        assert "self-signed certificate in certificate chain" in one.status()["fault"]


async def test_server_that_is_restarted_is_back_by_itself(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        with redis_server.running(tmp_path / "r") as server:
            one, beat = await stack.enter_async_context(node(server))
            assert beat is not None
            assert await one.put("k", b"answer", received_at=now(), keep_s=60, lease=None)
        assert await one.find("k") is None
        assert await one.beat(NodeRow(node="a", version="1", position="0-0", at=now())) is None
        with redis_server.running(tmp_path / "r", port=server.port, root=server.root):
            assert await one.beat(NodeRow(node="a", version="1", position="0-0", at=now())) is not None
            assert await one.find("k") is None
            assert await one.put("k", b"answer", received_at=now(), keep_s=60, lease=None)


async def test_cluster_of_servers_is_used_with_the_same_bounds(tmp_path):
    more = "cluster-enabled yes\ncluster-announce-hostname localhost\ntls-cluster yes\ntls-auth-clients no"
    rules = redis_server.RULES + " +cluster|slots +cluster|shards +command"
    with redis_server.running(tmp_path / "r", more=more, rules=rules) as server:
        server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        until(lambda: "cluster_state:ok" in server.command("CLUSTER", "INFO"))
        addresses = (Address(host="127.0.0.1", port=server.port),)
        async with node(server, layout=Layout.CLUSTER, addresses=addresses) as (one, beat):
            assert beat is not None, one.status()
            lease = await one.take("k")
            assert await one.put("k", b"answer", received_at=now(), keep_s=60, lease=lease)
            assert b"answer" == (await one.find("k")).raw
            assert await one.announce(Announcement(told=Told.FLUSHED, node="a", number=1, at=now()))
            assert 1 == len(await one.heard_since("0-0"))
            (held,) = one._calls._client.get_primaries()
            assert {BoundedParser} == {type(each._parser) for each in held._connections}


async def test_server_that_another_takes_over_from_is_followed_by_its_sentinel(tmp_path):
    with redis_server.watched(tmp_path / "r") as (first, second, port):
        addresses = (Address(host="127.0.0.1", port=port),)
        async with node(first, layout=Layout.SENTINEL, addresses=addresses, service="farm") as (one, beat):
            assert beat is not None, one.status()
            block = Block(what="CN=a", reason="r", by="op", at=now())
            position = await one.announce(
                Announcement(told=Told.BLOCKED, node="a", number=1, at=now(), block=block)
            )
            assert await one.put("k", b"answer", received_at=now(), keep_s=60, lease=None)
            until(lambda: "1" == second.command("XLEN", "cftpki:{news}:s"))
            first.process.kill()
            first.process.wait()
            async with asyncio.timeout(60):
                row = NodeRow(node="a", version="1", position=position, at=now())
                while (beat := await one.beat(row, position)) is None:  # noqa: ASYNC110 - it is another process
                    await asyncio.sleep(0.1)
            assert (position, True) == (beat.last, beat.mine)
            assert b"answer" == (await one.find("k")).raw
            assert await one.announce(Announcement(told=Told.FLUSHED, node="a", number=2, at=now()))
