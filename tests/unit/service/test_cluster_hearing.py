"""
What a node tells and hears: also where the server forgets, is full, or says what it must not.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from cftpki_cache import blocked
from cftpki_cache.blocked import BlockFile
from cftpki_cache.cluster_place import PlaceFile
from cftpki_ext.core.blocks import Block
from cftpki_ext.core.cluster import MAX_ANNOUNCED_OCTETS, Announcement, Beat, Heard, RevokedNews, Told
from cftpki_ext.core.cluster_octets import write_announcement
from cftpki_ext.core.errors import CftPkiError, StoreError
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.service.cluster.acts import Acts
from cftpki_ext.service.cluster.hearing import Hearing
from cftpki_ext.service.cluster.place import Place, load_place, save_place
from cftpki_ext.service.cluster.revocations import Proof
from cftpki_ext.service.cluster.telling import Telling

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
BLOCK = Block(what="CN=a", reason="stolen", by="op", at=NOW)


@dataclass
class Clock:
    seconds: float = 0.0

    def now(self):
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self):
        return self.seconds


@dataclass
class Server:
    """
    A stream in memory; `trusted`: there is a secret, and whoever wrote an entry knew it or not.
    """

    trusted: bool = True
    up: bool = True
    full: bool = False
    entries: list = field(default_factory=list)
    number: int = 100
    generation: int = 0

    @property
    def has_secret(self):
        return self.trusted

    async def announce(self, one, *, vouched=True):
        write_announcement(one)  # what is too long raises
        if not self.up or self.full:
            return None
        self.number += 1
        self.entries.append(Heard(position=f"{self.number}-0", announcement=one, vouched=vouched))
        return self.entries[-1].position

    async def heard_since(self, position):
        if not self.up:
            return None
        return tuple(one for one in self.entries if int(one.position[:-2]) > int(position.partition("-")[0]))[
            :16
        ]

    def beat(self, told=None):
        places = [one.position for one in self.entries]
        return Beat(
            first=places[0] if places else None,
            last=places[-1] if places else None,
            generation=self.generation,
            mine=told is None or told in places,
        )


class Log:
    def __init__(self):
        self.events = []

    def __getattr__(self, level):
        return lambda event, **_: self.events.append(event)


class Node:
    def __init__(self, folder, server, name="a", clock=None):
        folder.mkdir(exist_ok=True)
        self.folder, self.server, self.clock, self.log = folder, server, clock or Clock(), Log()
        self.blocks, self.news, self.flushes, self.doubts = BlockFile(folder), [], 0, 0
        self.unanswered, self.cannot_flush = False, None
        self.silent = 0  # so often no judge answers
        self.afforded, self.again = 0, 0  # proofs that may be asked for, and how often it was tried again
        self.telling = Telling(server, name=name, clock=self.clock, log=self.log)
        acts = Acts(revoked=self._revoked, flush=self._flush, doubt=self._doubt, blocks=BlockFile(folder))
        self.hearing = Hearing(server, self.telling, acts, PlaceFile(folder), clock=self.clock, log=self.log)

    async def _revoked(self, news, *, heard_s, again=False):
        del heard_s
        if self.silent:
            self.silent -= 1
            msg = "no judge answered within 5 s"
            raise CftPkiError(msg)
        self.again += again
        if self.unanswered:
            return Proof.UNANSWERED
        if not (news.raw or self.afforded):
            return Proof.LATER
        self.afforded -= not news.raw
        self.news.append(news)
        return Proof.PROVEN

    async def _flush(self):
        if self.cannot_flush is not None:
            await self.cannot_flush()
        self.flushes += 1

    def _doubt(self):
        self.doubts += 1

    def compare(self):
        return self.hearing.compare(self.hearing.position, self.server.beat(self.telling.last))

    @property
    def blocked(self):
        return [one.what for one in self.blocks.book().blocks]


def proof(raw=b"proof", kind=SourceKind.OCSP):
    return Statement(kind=kind, origin=Origin.NETWORK, received_at=NOW, url="http://ca/", raw=raw)


def told(kind, **more):
    return Announcement(told=kind, node="x", number=1, at=NOW, **more)


async def test_revocation_reaches_the_other_node_once(tmp_path):
    server = Server()
    one, other = Node(tmp_path / "a", server), Node(tmp_path / "b", server, "b")
    one.telling.revoked((b"leaf", b"ca"), proof())
    for _ in range(2):
        await one.hearing.round()
        await other.hearing.round()
    assert [
        RevokedNews(chain=(b"leaf", b"ca"), kind=SourceKind.OCSP, url="http://ca/", raw=b"proof")
    ] == other.news


async def test_proof_that_is_too_large_is_told_without_it_and_an_unsigned_one_not_at_all(tmp_path):
    server = Server()
    node = Node(tmp_path / "a", server)
    node.telling.revoked((b"leaf",), proof(raw=bytes(MAX_ANNOUNCED_OCTETS)))
    node.telling.revoked((b"leaf",), proof(kind=SourceKind.REST))
    await node.hearing.round()
    assert [b""] == [one.announcement.revoked.raw for one in server.entries]


async def test_what_cannot_be_told_waits_and_the_oldest_goes(tmp_path):
    server = Server(full=True)
    node = Node(tmp_path / "a", server)
    for number in range(600):
        node.telling.revoked((b"leaf",), proof(raw=b"%d" % number))
    await node.hearing.round()
    assert (512, 88, 0) == (node.telling.waiting, node.telling.dropped, node.telling.told)
    server.full = False
    await node.hearing.round()
    assert (0, b"88") == (node.telling.waiting, server.entries[0].announcement.revoked.raw)


async def test_blocks_travel_both_ways_and_over_a_restart(tmp_path):
    server = Server()
    one, other = Node(tmp_path / "a", server), Node(tmp_path / "b", server, "b")
    one.blocks.change(lambda book: book.with_block(BLOCK))
    for node in (one, other, one):
        await node.hearing.round()
    assert ["CN=a"] == other.blocked
    assert 1 == len(server.entries)
    # Lifted by a command while no service runs.
    other.blocks.change(lambda book: book.without("CN=a", by="op", at=NOW, reason="found"))
    other = Node(tmp_path / "b", server, "b")
    for node in (other, one, other):
        await node.hearing.round()
    assert ([], []) == (one.blocked, other.blocked)
    assert [Told.BLOCKED, Told.UNBLOCKED] == [entry.announcement.told for entry in server.entries]


@pytest.mark.parametrize(
    ("trusted", "vouched", "done"), [(True, True, True), (True, False, False), (False, False, True)]
)
async def test_block_and_flush_are_done_where_they_are_vouched_for_or_nobody_could(
    tmp_path, trusted, vouched, done
):
    server = Server(trusted=trusted)
    node = Node(tmp_path / "a", server)
    await server.announce(told(Told.BLOCKED, block=BLOCK), vouched=vouched)
    for _ in range(3):
        await server.announce(told(Told.FLUSHED), vouched=vouched)
    assert done is await node.hearing.round()
    assert (["CN=a"] if done else []) == node.blocked
    assert int(done) == node.flushes
    assert (0 if done else 4) == node.hearing.status()["heard"]["not_vouched_for"]


async def test_position_outlives_a_restart(tmp_path):
    server = Server()
    await server.announce(told(Told.FLUSHED))
    for expected in (1, 0):
        node = Node(tmp_path / "a", server)
        await node.hearing.round()
        assert expected == node.flushes


async def test_long_list_is_told_in_steps_between_which_the_others_are_heard(tmp_path):
    server = Server()
    node = Node(tmp_path / "a", server)
    entries = tuple(replace(BLOCK, what=f"CN={number:02}") for number in range(40))
    node.blocks.change(lambda book: replace(book, blocks=entries))
    seen = []
    for _ in range(4):
        await node.hearing.round()
        seen.append(len(server.entries))
    assert [16, 32, 40, 40] == seen


@pytest.mark.parametrize("kind", [Told.BLOCKED, Told.UNBLOCKED])
async def test_entries_that_are_too_long_for_the_list_leave_it_as_it_is(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(blocked, "MAX_OCTETS", 64 * 1024)
    server = Server(trusted=False)
    node = Node(tmp_path / "a", server)
    node.blocks.change(lambda book: book.with_block(BLOCK))
    for number in range(12):
        long = replace(BLOCK, what=f"CN={number}" + "\N{EURO SIGN}" * 1000)
        await server.announce(told(kind, block=long))
    await node.hearing.round()
    assert "CN=a" in node.blocked
    assert (kind is Told.BLOCKED) is ("cluster_block_not_taken" in node.log.events)
    assert "113-0" == node.hearing.position


async def test_revocation_whose_location_does_not_answer_has_all_evidence_renewed(tmp_path):
    server = Server()
    node = Node(tmp_path / "a", server)
    node.unanswered = True
    await server.announce(
        told(Told.REVOKED, revoked=RevokedNews(chain=(b"leaf",), kind=SourceKind.CRL, url=None, raw=b""))
    )
    await node.hearing.round()
    assert not node.compare()
    assert 1 == node.doubts


async def test_what_no_version_understands_is_passed_over(tmp_path):
    server = Server(entries=[Heard(position="5-0", announcement=None)])
    node = Node(tmp_path / "a", server)
    await node.hearing.round()
    assert ("5-0", 1) == (node.hearing.position, node.hearing.status()["heard"]["not_understood"])


async def test_server_that_forgot_is_told_again_and_everything_is_renewed_once_a_minute(tmp_path):
    server = Server()
    node = Node(tmp_path / "a", server)
    node.telling.revoked((b"leaf",), proof())
    node.blocks.change(lambda book: book.with_block(BLOCK))
    await node.hearing.round()
    assert not node.compare()
    for seconds, doubts in ((0, 1), (1, 1), (61, 2)):
        node.clock.seconds = seconds
        server.entries.clear()
        assert node.compare()
        await node.hearing.round()
        assert {Told.REVOKED, Told.BLOCKED} == {one.announcement.told for one in server.entries}
        assert doubts == node.doubts
        assert not node.compare()


async def test_what_came_while_the_server_was_asked_is_nothing_that_it_forgot(tmp_path):
    server = Server()
    node = Node(tmp_path / "a", server)
    await server.announce(told(Told.FLUSHED))
    await node.hearing.round()
    asked_at, beat = node.hearing.position, server.beat()
    await server.announce(told(Told.FLUSHED))
    await node.hearing.round()
    assert not node.hearing.compare(asked_at, beat)


async def test_list_of_blocks_that_cannot_be_written_is_tried_again(tmp_path, monkeypatch):
    server = Server()
    node = Node(tmp_path / "a", server)
    await server.announce(told(Told.BLOCKED, block=BLOCK))
    lock = node.folder / "blocked.lock"
    lock.mkdir()
    with pytest.raises(Exception, match=r"blocked\.lock"):
        await node.hearing.round()
    assert "0-0" == node.hearing.position
    lock.rmdir()
    await node.hearing.round()
    assert ["CN=a"] == node.blocked


async def test_revocation_that_nobody_could_judge_is_heard_again_before_what_comes_after_it(tmp_path):
    server = Server()
    node = Node(tmp_path / "a", server)
    await server.announce(told(Told.FLUSHED))
    node.telling.revoked((b"leaf",), proof())
    await node.telling.flush()
    await server.announce(told(Told.BLOCKED, block=BLOCK))
    node.silent = 2
    for silent in (1, 0):
        await node.hearing.round()
        assert (silent, "101-0", [], []) == (node.silent, node.hearing.position, node.news, node.blocked)
        assert 1 == node.flushes
    await node.hearing.round()
    assert ("103-0", 1, ["CN=a"]) == (node.hearing.position, len(node.news), node.blocked)
    node.compare()
    assert (0, []) == (node.doubts, node.log.events[1:])


async def test_revocation_that_nobody_can_judge_has_all_evidence_renewed_and_holds_up_nothing_else(tmp_path):
    server = Server()
    node = Node(tmp_path / "a", server)
    node.telling.revoked((b"leaf",), proof())
    node.telling.revoked((b"leaf",), proof(raw=b"another"))
    await node.telling.flush()
    node.silent = 10
    for _ in range(9):
        await node.hearing.round()
        assert "0-0" == node.hearing.position
    await node.hearing.round()
    assert (["announced_revocation_not_judged"], [b"another"]) == (
        node.log.events,
        [one.raw for one in node.news],
    )
    assert "102-0" == node.hearing.position
    node.compare()
    assert 1 == node.doubts


async def test_flush_that_is_told_again_is_not_done_again_after_a_restart_or_where_the_server_forgot(
    tmp_path,
):
    server = Server()
    node = Node(tmp_path / "a", server)
    await server.announce(told(Told.FLUSHED))
    assert await node.hearing.round()
    await server.announce(told(Told.FLUSHED))
    assert not await node.hearing.round()
    server.entries.clear()
    await server.announce(told(Told.FLUSHED))
    server.entries.insert(0, Heard(position="3-0", announcement=told(Told.FLUSHED), vouched=True))
    del server.entries[1:]
    assert node.compare()
    assert not await node.hearing.round()
    assert (1, "3-0", 2) == (
        node.flushes,
        node.hearing.position,
        node.hearing.status()["heard"]["said_before"],
    )
    node = Node(tmp_path / "a", server)
    await server.announce(told(Told.FLUSHED))
    assert not await node.hearing.round()
    await server.announce(replace(told(Told.FLUSHED), number=2))
    assert await node.hearing.round()
    assert 1 == node.flushes


async def test_flush_that_nobody_vouches_for_keeps_none_from_being_done(tmp_path):
    server = Server(trusted=False)
    node = Node(tmp_path / "a", server)
    for number in (1 << 60, 1, 1):
        await server.announce(replace(told(Told.FLUSHED), number=number), vouched=False)
        assert await node.hearing.round()
    assert 3 == node.flushes


@pytest.mark.parametrize("why", ["emptied", "a day"])
async def test_entry_that_was_lifted_while_the_server_was_away_is_told_as_lifted(tmp_path, why):
    server = Server()
    one, other = Node(tmp_path / "a", server), Node(tmp_path / "b", server, "b")
    one.blocks.change(lambda book: book.with_block(BLOCK))
    one.blocks.change(lambda book: book.with_block(replace(BLOCK, what="CN=b")))
    for node in (one, other, one):
        await node.hearing.round()
    server.up = False
    one.blocks.change(lambda book: book.without("CN=a", by="op", at=NOW, reason="found"))
    await one.hearing.round()
    if why == "emptied":
        server.entries.clear()
    else:
        one.clock.seconds = other.clock.seconds = 24 * 3600 + 1
    server.up = True
    for node in (other, one):
        assert (why == "emptied") is node.compare()
    for node in (other, one, other, one):
        await node.hearing.round()
    assert (["CN=b"], ["CN=b"]) == (one.blocked, other.blocked)


async def test_list_that_cannot_be_read_where_the_server_forgot_is_told_as_soon_as_it_can(
    tmp_path, monkeypatch
):
    server = Server()
    node = Node(tmp_path / "a", server)
    node.blocks.change(lambda book: book.with_block(BLOCK))
    await node.hearing.round()
    server.entries.clear()
    node.clock.seconds = 3600  # nothing was told lately
    with monkeypatch.context() as broken:

        def unreadable(_):
            msg = "its octets are not those that were written"
            raise StoreError(msg)

        broken.setattr(BlockFile, "document", unreadable)
        assert node.compare()
        await node.hearing.round()
        assert [] == server.entries
    await node.hearing.round()
    assert [BLOCK] == [one.announcement.block for one in server.entries]


async def test_flush_before_an_entry_that_cannot_be_done_is_done_once(tmp_path):
    server = Server()
    node = Node(tmp_path / "a", server)
    await server.announce(told(Told.FLUSHED))
    await server.announce(told(Told.BLOCKED, block=BLOCK))
    lock = node.folder / "blocked.lock"
    lock.mkdir()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"blocked\.lock"):
            await node.hearing.round()
        assert (1, "101-0") == (node.flushes, node.hearing.position)
    lock.rmdir()
    assert not await node.hearing.round()
    assert (1, ["CN=a"]) == (node.flushes, node.blocked)


async def test_tries_are_those_of_one_entry(tmp_path):
    server = Server()
    node = Node(tmp_path / "a", server)
    node.telling.revoked((b"leaf",), proof())
    await node.telling.flush()
    node.silent = 18
    for _ in range(9):
        await node.hearing.round()
    server.entries.clear()
    node.clock.seconds = 3600
    node.telling.revoked((b"leaf",), proof(raw=b"another"))
    await node.telling.flush()
    for _ in range(9):
        await node.hearing.round()
    assert (0, "0-0") == (node.silent, node.hearing.position)
    await node.hearing.round()
    assert [b"another"] == [one.raw for one in node.news]


async def told_large(server, numbers):
    for number in numbers:
        news = RevokedNews(chain=(b"leaf %d" % number, b"ca"), kind=SourceKind.CRL, url="http://ca/", raw=b"")
        await server.announce(replace(told(Told.REVOKED, revoked=news), number=number))


def leaves(node):
    return [int(one.chain[0].split()[1]) for one in node.news]


async def test_revocations_that_cannot_be_asked_for_yet_hold_up_nothing_and_come_later_also_after_a_restart(
    tmp_path,
):
    server = Server()
    node = Node(tmp_path / "a", server)
    node.afforded = 2
    await told_large(server, (1, 2, 3, 4, 3))
    await server.announce(told(Told.BLOCKED, block=BLOCK))
    await node.hearing.round()
    assert ([1, 2], ["CN=a"], 2) == (leaves(node), node.blocked, node.hearing.status()["put_off"])
    assert ("106-0", 0) == (node.hearing.position, node.doubts)
    node.afforded, server.up = 1, False
    await node.hearing.catch_up()
    assert ([1, 2, 3], 1) == (leaves(node), node.hearing.status()["put_off"])
    server.up = True
    node = Node(tmp_path / "a", server)
    node.afforded = 9
    for _ in range(2):
        await node.hearing.round()
        assert ([4, 3], 0) == (leaves(node), node.hearing.status()["put_off"])
    node.compare()
    assert (0, [], ["CN=a"]) == (node.doubts, node.log.events, node.blocked)


@pytest.mark.parametrize("octets", [10, 64 * 1024])
async def test_more_revocations_than_can_be_put_off_have_all_evidence_renewed(tmp_path, octets):
    server = Server()
    node = Node(tmp_path / "a", server)
    for number in range(1030 if octets == 10 else 70):
        news = RevokedNews(
            chain=(b"leaf %d" % number, bytes(octets)), kind=SourceKind.CRL, url="http://ca/", raw=b""
        )
        await server.announce(told(Told.REVOKED, revoked=news))
    while node.hearing.position != server.entries[-1].position:
        await node.hearing.round()
    node.compare()
    waiting = 1024 if octets == 10 else 63
    assert (waiting, 1) == (node.hearing.status()["put_off"], node.doubts)
    assert ["announced_revocations_too_many"] == node.log.events


async def test_revocation_that_was_put_off_and_nobody_can_judge_has_all_evidence_renewed(tmp_path):
    server = Server()
    node = Node(tmp_path / "a", server)
    await told_large(server, (1, 2))
    await node.hearing.round()
    node.silent, node.afforded = 10, 9
    for _ in range(11):
        await node.hearing.round()
    node.compare()
    assert ([2], 1, ["announced_revocation_not_judged"]) == (leaves(node), node.doubts, node.log.events)


@pytest.mark.parametrize("renewed", [True, False])
async def test_doubt_that_nothing_came_of_outlives_a_restart(tmp_path, renewed):
    server = Server()
    node = Node(tmp_path / "a", server)
    node.telling.revoked((b"leaf",), proof())
    await node.telling.flush()
    node.silent = 10
    for _ in range(10):
        await node.hearing.round()
    if renewed:
        node.compare()
        await node.hearing.round()
    assert int(renewed) == node.doubts
    node = Node(tmp_path / "a", server)
    node.compare()
    assert (int(not renewed), "101-0") == (node.doubts, node.hearing.position)


async def test_node_that_has_heard_nothing_yet_sees_that_the_server_forgot_also_over_a_restart(tmp_path):
    server = Server(generation=1_000_000)
    node = Node(tmp_path / "a", server)
    assert not node.compare()
    await node.hearing.round()
    node = Node(tmp_path / "a", server)
    assert not node.compare()
    server.generation = 2_000_000
    assert node.compare()
    assert ("0-0", 1, ["cluster_forgot"]) == (node.hearing.position, node.doubts, node.log.events)
    assert not node.compare()


async def test_flush_that_is_about_to_be_heard_is_nothing_that_the_server_forgot(tmp_path):
    server = Server(generation=1_000_000)
    node = Node(tmp_path / "a", server)
    assert not node.compare()
    server.generation += 1
    await server.announce(told(Told.FLUSHED))
    assert not node.compare()
    assert await node.hearing.round()
    assert not node.compare()
    assert 0 == node.doubts


@pytest.mark.parametrize("kind", [Told.BLOCKED, Told.FLUSHED])
async def test_revocations_behind_an_entry_that_cannot_be_done_are_heard_once_and_it_is_done_when_it_can(
    tmp_path, kind, monkeypatch
):
    server = Server()
    node = Node(tmp_path / "a", server)
    await server.announce(told(kind, block=BLOCK if kind is Told.BLOCKED else None))
    for number in range(40):
        node.telling.revoked((b"leaf",), proof(raw=b"%d" % number))
    await node.telling.flush()
    await told_large(server, (1,))
    lock = node.folder / "blocked.lock"
    lock.mkdir()

    async def full():
        msg = "blocked.lock: no space left on device"
        raise StoreError(msg)

    with monkeypatch.context() as disk:
        if kind is Told.FLUSHED:
            disk.setattr(node, "cannot_flush", full)
        for _ in range(2):
            with pytest.raises(StoreError, match=r"blocked\.lock"):
                await node.hearing.round()
            assert (40, "0-0", 1) == (len(node.news), node.hearing.position, node.hearing.status()["put_off"])
    lock.rmdir()
    again = Node(tmp_path / "a", server)  # one that was restarted meanwhile
    for one in (node, again):
        await one.hearing.round()
        assert (40, server.entries[-1].position) == (len(one.news), one.hearing.position)
        assert (["CN=a"] if kind is Told.BLOCKED else []) == one.blocked
    assert int(kind is Told.FLUSHED) == node.flushes


async def test_place_with_more_blocks_than_are_read_keeps_the_flushes_and_says_so(tmp_path):
    node = Node(tmp_path / "a", Server())
    many = frozenset(replace(BLOCK, at=NOW + timedelta(seconds=number)) for number in range(1001))
    node.hearing._place = replace(Place(position="7-0", agreed=many).flushed("x", 5), doubt=True)
    for _ in range(2):
        await node.hearing.catch_up()
    assert ["cluster_place_shortened"] == node.log.events
    there = load_place(PlaceFile(node.folder).load())
    assert ("7-0", frozenset({("x", 5)}), True) == (there.position, there.flushes, there.doubt)
    assert (1000, many - {BLOCK}) == (len(there.agreed), there.agreed)


async def test_place_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "a").mkdir()
    PlaceFile(tmp_path / "a").save(b"{}")
    assert ["cluster_place_lost"] == Node(tmp_path / "a", Server()).log.events
    PlaceFile(tmp_path / "a").save(save_place(Place()))
    assert [] == Node(tmp_path / "a", Server()).log.events


async def test_server_that_forgets_each_second_is_told_once_a_minute(tmp_path):
    server = Server()
    node = Node(tmp_path / "a", server)
    await server.announce(told(Told.FLUSHED))
    await node.hearing.round()
    for seconds in (0, 1, 2, 61):
        node.clock.seconds = seconds
        node.hearing._place = replace(node.hearing._place, position="9999-0")
        assert node.compare()
    assert ["cluster_flushed", "cluster_forgot", "cluster_forgot"] == node.log.events
    assert 4 == node.hearing.status()["missed"]
