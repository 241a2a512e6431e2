"""
A server that lies to services that run: known partners come in, those that nobody has seen are judged by what their CA says, nothing
that it invents is done, and what it sends does not fill their memory.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import re
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from cftpki_ext.core.blocks import Block
from cftpki_ext.core.cluster import Announcement, RevokedNews, Told
from cftpki_ext.core.cluster_octets import write_announcement, write_answer
from cftpki_ext.core.vocabulary import SourceKind
from tests.support import pki
from tests.support.cluster_farm import MORE, Farm
from tests.support.cluster_site import Site, check, status
from tests.support.hostile_redis import array, bulk, hostile, well
from tests.support.wall_clock import until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("cluster")]

# A busy machine is late, too; but whoever is told that another node asks waits for half of it.
LIMITS = 'budget_ms = "16s"'
# What a lie may cost a service at most, octets: a reply is bounded, and so is the number of connections.
MOST_MORE = 96 * 1024 * 1024
# Calls that a lie is told to before the next: looks are ten a second, and a server that is down is asked twice a second.
TOLD = 4
# Before the octets of an answer, as nodes put it.
_HEAD = 8 + 45


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    site = Site(folder, partners=120, limits=LIMITS)
    with (
        hostile(folder) as server,
        site.ca(),
        site.nodes(server, 2) as nodes,
    ):
        running = Farm(site, server, nodes)
        yield running
        server.lie = well
        until(running.are_up)
        # Who was told after all of it is heard: positions are of the server that they began with.
        (stolen,) = running.take(1)
        assert check(nodes[1], site.chain(stolen))
        running.forget(stolen)
        site.revoke(stolen)
        assert not check(nodes[0], site.chain(stolen))
        until(lambda: not check(nodes[1], site.chain(stolen)))
        assert [] == [failure for node in nodes for failure in node.failures()]


@functools.cache
def stranger():
    """
    Another CA, of the same name.
    """
    return pki.make_root("CA")


def peak(node):
    """
    The most memory that a process had, octets.
    """
    text = Path(f"/proc/{node.process.pid}/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", text)[1])


def endure(scene, lie, *, enough=lambda: True):
    """
    What holds beside a lie, which is told until it is enough.
    """
    known, new, bad = scene.take(3)
    server, before = scene.redis, [peak(node) for node in scene.nodes]
    assert {True} == scene.at_all(known)
    scene.site.revoke(bad)
    server.lie, server.lied = lie, 0
    try:
        assert [True, True, False] * 2 == scene.answers(known, new, bad)
        until(lambda: server.lied >= TOLD and enough())
        assert {True} == scene.at_all(known, new)
        assert {False} == scene.at_all(bad)
    finally:
        server.lie = well
    until(scene.are_up, told=lambda: [status(node)["cluster"] for node in scene.nodes])
    assert {True} == scene.at_all(known, new)
    for node, octets in zip(scene.nodes, before, strict=True):
        assert peak(node) - octets < MOST_MORE


def always(reply):
    async def lie(call):
        yield reply

    return lie


async def gigabyte(_):
    yield b"$1000000000\r\n"
    for _ in range(16_000):
        yield bytes(65536)


async def line_without_end(_):
    yield b"+"
    for _ in range(16_000):
        yield b"y" * 65536


async def messages_without_end(call):
    yield call.reply
    for _ in range(16_000):
        yield 256 * b">3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$4\r\nspam\r\n"


async def many_strings(_):
    yield b"*64\r\n"
    for _ in range(64):
        yield bulk(bytes(1024 * 1024))


async def slow_drip(call):
    for octet in call.reply:
        await asyncio.sleep(0.05)
        yield bytes([octet])


async def one_behind(call):
    """
    To each call, what was the reply to the one before it.
    """
    yield call.connection.get("reply", b"+OK\r\n")
    call.connection["reply"] = call.reply


async def two_at_once(call):
    yield call.reply + call.reply


async def ends_in_the_middle(call):
    yield call.reply[: len(call.reply) // 2]
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    "lie",
    [
        gigabyte,
        line_without_end,
        messages_without_end,
        many_strings,
        slow_drip,
        one_behind,
        two_at_once,
        ends_in_the_middle,
    ],
)
def test_server_whose_replies_are_none_or_without_end_harms_nobody(scene, lie):
    endure(scene, lie)


@pytest.mark.parametrize(
    "reply",
    [
        b"*1\r\n" * 10_000,
        b"*2147483647\r\n",
        b":7\r\n",
        b"$-1\r\n",
        b"*0\r\n",
        b"+OK\r\n",
        bulk(b"0"),
        bulk(b"9" * 18),
        b"-ERR no\r\n",
        b"-MOVED 1 127.0.0.1:1\r\n",
        array(*[array(bulk(b"1-1"), bulk(b"x"))] * 16),
        array(bulk(b"1-0"), bulk(b"1-0"), bulk(b"x"), b":1\r\n", b"*0\r\n"),
        array(*[array(b"-ERR no\r\n", b":1\r\n")] * 5),
    ],
    ids=[
        *("nested", "parts", "number", "nothing", "no entries", "status", "held", "token", "error", "moved"),
        *("entries", "no count", "errors"),
    ],
)
def test_server_that_says_the_same_to_all_harms_nobody(scene, reply):
    endure(scene, always(reply))


def forged(scene, known):
    """
    Announcements that prove nothing: what each says would shut out a partner, let one in, or empty all caches.
    """
    at, (leaf, chain) = datetime.now(UTC), (scene.site.leaves[known], scene.site.chain(known))
    strange, ca = stranger(), scene.site.issuing

    def revoked(chain, raw, kind=SourceKind.OCSP):
        news = RevokedNews(chain=chain, kind=kind, url=None, raw=raw)
        return Announcement(told=Told.REVOKED, node="x", number=1, at=at, revoked=news)

    times = {"this_update": at - timedelta(minutes=5), "next_update": at + timedelta(days=1)}
    lies = [
        revoked(
            chain, pki.make_ocsp_response(strange, leaf, "revoked", signer=strange, produced_at=at, **times)
        ),
        revoked(
            chain,
            pki.make_ocsp_response(ca, leaf, "revoked", signing_key=strange.key, produced_at=at, **times),
        ),
        # A true proof, of another certificate.
        revoked(
            chain,
            pki.make_ocsp_response(ca, scene.site.leaves[-1], "revoked", signer=ca, produced_at=at, **times),
        ),
        revoked(chain, pki.make_ocsp_response(ca, leaf, "good", signer=ca, produced_at=at, **times)),
        revoked(chain, pki.make_crl(strange, [leaf.serial], issuer_name="CN=CA", **times), SourceKind.CRL),
        revoked(chain, b"rubbish"),
        revoked(chain, b""),  # too large to travel: the CA is asked, who knows nothing of it
        revoked((b"rubbish",) * 8, b"rubbish"),
        Announcement(told=Told.FLUSHED, node="x", number=1 << 62, at=at),
    ]
    block = Block(what=f"CN=partner {known}", reason="lie", by="x", at=at)
    lies += [
        Announcement(told=told, node="x", number=1, at=at, block=block)
        for told in (Told.BLOCKED, Told.UNBLOCKED)
    ]
    return [
        *(write_announcement(one, secret=secret) for one in lies for secret in (None, b"another" * 8)),
        *(b"", b"CFTN", b"CFTN\x01" + bytes(40), b"CFTN\x01" + bytes(32) + b"\xff" * 4, b"{}" * 1000),
    ]


# Of entries: far in time to come, the last there is; and what is none.
POSITIONS = {
    "far": [b"9999999999999-0"],
    "last": [b"18446744073709551615-18446744073709551615"],
    "none": [b"99999999999999999999-0", b"9" * 39 + b"-1", b"0-0", b"-1-5", b"x-y", b""],
    # In their order, one after the other.
    "growing": (b"9999999999999-%d" % number for number in itertools.count(1)),
}
# What nodes say of themselves.
ROWS = [
    json.dumps({"node": node, "version": "1", "position": position, "at": at, "format": 1}).encode()
    for node in ("node0", "node1", "x" * 200, "x" * 201, "\n")
    for position in ("9" * 150, "9" * 90 + "-" + "9" * 90, "5", "-", "\u0663-\u0663")
    for at in ("9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00-23:59", "0001-01-01T00:00:00+23:59")
] + [b"{}", b"[" * 1000, b"x" * 100_000]


@pytest.mark.parametrize("kind", POSITIONS)
def test_server_that_invents_what_nodes_told_has_nothing_done(scene, kind):
    (known,) = scene.take(1)
    assert {True} == scene.at_all(known)
    lies = itertools.cycle(forged(scene, known))
    counts = itertools.cycle((16, 0))
    positions = iter(POSITIONS[kind]) if kind == "growing" else itertools.cycle(POSITIONS[kind])

    async def lie(call):
        if call.name == "hear":
            # After sixteen, none: a look ends there.
            yield array(*(array(bulk(next(positions)), bulk(next(lies))) for _ in range(next(counts))))
        elif call.name == "beat":
            yield array(bulk(b"0-1"), bulk(next(positions)), bulk(b"1"), b":0\r\n", array(*map(bulk, ROWS)))
        else:
            yield call.reply

    def counted(*names):
        found = [status(node)["cluster"]["news"]["heard"] for node in scene.nodes]
        return [sum(one[name] for name in names) for one in found]

    done, idle = ("blocked", "unblocked", "flushed"), ("not_proven", "not_vouched_for")
    before = counted(*done), *map(counted, idle)

    def enough():
        # Where they are in order, each is heard; else one, or none.
        return kind != "growing" or all(
            now > then
            for name, was in zip(idle, before[1:], strict=True)
            for now, then in zip(counted(name), was, strict=True)
        )

    endure(scene, lie, enough=enough)
    assert {True} == scene.at_all(known)
    assert before[0] == counted(*done)


def test_server_that_has_other_answers_than_were_put_changes_no_verdict(scene):
    """
    Another CA's, another certificate's, somebody's without the secret, and those of before.
    """
    server, site, strange_ca = scene.redis, scene.site, stranger()
    known, turned, strange, good = scene.take(4)
    assert {True} == scene.at_all(known, turned, good)
    for partner in (known, turned, good):
        scene.settle(partner)
    before = dict(server.answers)
    server.forget_answers()
    site.revoke(turned, strange)
    # One that asks the CA anew establishes it, and the other hears of it.
    _flush(scene.nodes[0])
    assert not check(scene.nodes[0], site.chain(turned))
    until(lambda: not check(scene.nodes[1], site.chain(turned)))

    at = datetime.now(UTC)
    times = {
        "this_update": at - timedelta(seconds=5),
        "next_update": at + timedelta(days=1),
        "produced_at": at,
    }

    def others():
        for number, status_of in ((turned, "good"), (strange, "good"), (known, "revoked"), (good, "revoked")):
            leaf = site.leaves[number]
            yield pki.make_ocsp_response(strange_ca, leaf, status_of, signer=strange_ca, **times)
            yield pki.make_ocsp_response(site.issuing, leaf, status_of, signing_key=strange_ca.key, **times)
        yield pki.make_crl(strange_ca, [site.leaves[known].serial], issuer_name="CN=CA")
        yield pki.make_crl(site.root, [site.issuing.serial], signing_key=strange_ca.key)
        yield from (
            octets[_HEAD:] for octets in before.values()
        )  # true ones, of other certificates and of before

    lies = itertools.cycle([*others()])

    async def other_answers(call):
        if call.name != "getrange":
            yield call.reply
        else:
            body = write_answer("k", next(lies), received_at=datetime.now(UTC), secret=b"another" * 8)
            yield bulk(struct.pack(">Q", 1) + body)

    async def old_answers(call):
        yield bulk(before.get(call.keys[0], b"")) if call.name == "getrange" else call.reply

    try:
        for lie in (other_answers, old_answers):
            server.lie, server.lied = lie, 0
            for node in scene.nodes:
                _flush(node)
            for _ in range(3):
                assert {True} == scene.at_all(known, good)
                assert {False} == scene.at_all(turned, strange)
            assert server.lied
    finally:
        server.lie = well


def test_answer_of_before_is_no_answer_where_it_is_older_than_a_node_allows(tmp_path):
    site = Site(tmp_path, partners=1, limits=f'{LIMITS}\nocsp_refresh = "2s"')
    with (
        hostile(tmp_path) as server,
        site.ca(),
        site.nodes(server, 2, more=MORE) as nodes,
    ):
        scene = Farm(site, server, nodes)
        assert check(nodes[0], site.chain(0))
        until(lambda: server.answers)
        before = dict(server.answers)
        begun = datetime.now(UTC)

        async def old_answers(call):
            yield bulk(before.get(call.keys[0], b"")) if call.name == "getrange" else call.reply

        server.lie = old_answers
        site.revoke(0)
        until(lambda: datetime.now(UTC) - begun > timedelta(seconds=3))
        # It has never seen the partner, and what it is brought is the CA's own word of before.
        assert not check(nodes[1], site.chain(0))
        assert status(nodes[1])["cluster"]["sharing"]["brought"] >= 1
        until(lambda: scene.at_all(0) == {False})


def _flush(node):
    done = CliRunner().invoke(main, ["cache", "flush", "--config", str(node.config)])
    assert 0 == done.exit_code, done.output
