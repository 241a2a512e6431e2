"""
Blocks that travel: who wins, and that an old message changes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.blocks import Block, Book
from cftpki_ext.core.cluster import Told
from cftpki_ext.service.cluster.blocks import agreed_after, to_tell, with_told

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def block(what="CN=a", at=NOW, by="op", until=None):
    return Block(what=what, reason="stolen", by=by, at=at, until=until)


def told(book, kind, one, at=LATER):
    return with_told(book, kind, one, node="b", at=at)


def test_entry_of_another_node_is_taken_and_lifted():
    book = told(Book(), Told.BLOCKED, block())
    assert (block(),) == book.blocks
    book = told(book, Told.UNBLOCKED, block())
    assert () == book.blocks
    assert ("op at b", "lifted at another node") == (book.lifted[-1].by, book.lifted[-1].reason)


def test_entry_that_is_known_changes_nothing():
    book = told(Book(), Told.BLOCKED, block())
    assert book is told(book, Told.BLOCKED, block())


def test_message_that_comes_again_after_its_entry_was_lifted_blocks_nobody():
    book = told(told(Book(), Told.BLOCKED, block()), Told.UNBLOCKED, block())
    assert book is told(book, Told.BLOCKED, block())


def test_entry_that_was_lifted_before_it_came_does_not_come():
    book = told(Book(), Told.UNBLOCKED, block())
    assert () == told(book, Told.BLOCKED, block()).blocks


def test_old_lifting_lifts_no_newer_entry():
    book = told(Book(), Told.BLOCKED, block(at=LATER + timedelta(hours=1)))
    assert book.blocks == told(book, Told.UNBLOCKED, block()).blocks


HOUR = NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("stays", "goes"),
    [
        (block(), block(at=LATER)),
        (block(until=HOUR), block(at=LATER, until=HOUR)),
        (block(at=LATER), block(until=HOUR)),
        (block(), block(at=LATER, until=HOUR)),
        (block(at=LATER, until=HOUR + timedelta(microseconds=1)), block(until=HOUR)),
        (block(at=NOW + timedelta(days=30)), block(until=HOUR)),
    ],
    ids=["earlier", "earlier of one end", "no end, later", "no end, earlier", "later end", "other has ended"],
)
def test_of_two_entries_of_the_same_partner_the_one_that_lasts_longest_stays_and_then_the_earlier(
    stays, goes
):
    for order in ((stays, goes), (goes, stays)):
        book = Book()
        for one in order:
            book = told(book, Told.BLOCKED, one)
        assert (stays,) == book.blocks


def test_what_was_done_here_is_told_once():
    one, other = block(), block("CN=b")
    assert ((Told.BLOCKED, one),) == to_tell([one], [])
    assert () == to_tell([one], [one])
    assert ((Told.UNBLOCKED, other),) == to_tell([one], [one, other])


def test_entry_that_another_took_the_place_of_is_not_told_as_lifted():
    assert ((Told.BLOCKED, block(at=LATER)),) == to_tell([block(at=LATER)], [block()])


@given(st.data())
def test_partner_that_nobody_lifted_is_shut_out_by_all_nodes(data):
    """
    Whatever two operators do at the same time: once all is heard, in one order, both nodes shut out whomever anybody shut out and nobody lifted.

    They do so for as long as anybody did, but where an operator put a shorter entry in place of it.
    """
    nodes = {"a": Book(), "b": Book()}
    agreed = {"a": frozenset(), "b": frozenset()}
    stream: list[tuple[str, Told, Block, datetime]] = []
    heard = {"a": 0, "b": 0}
    lifted: set[str] = set()
    ever: set[Block] = set()
    replaced: set[Block] = set()
    for step in range(data.draw(st.integers(1, 12))):
        at = NOW + timedelta(seconds=step)
        name = data.draw(st.sampled_from(["a", "b"]))
        what = data.draw(st.sampled_from(["CN=a", "CN=b"]))
        act = data.draw(st.sampled_from(["block", "lift", "talk"]))
        book = nodes[name]
        if act == "block":
            until = data.draw(st.none() | st.integers(-5, 5).map(lambda hours: NOW + timedelta(hours=hours)))
            replaced.update(one for one in book.blocks if one.what == what)
            nodes[name] = book.with_block(block(what, at, name, until))
            ever.add(block(what, at, name, until))
        elif act == "lift" and any(one.what == what for one in book.blocks):
            nodes[name] = book.without(what, by=name, at=at, reason="x")
            lifted.add(what)
        else:
            _talk(name, nodes, agreed, stream, heard, at)
    for _ in range(4):
        for name in nodes:
            _talk(name, nodes, agreed, stream, heard, NOW + timedelta(hours=1))
    for what in {one.what for one in ever} - lifted:
        longest = min(
            (one for one in ever if one.what == what),
            key=lambda one: (one.until is not None, NOW - (one.until or NOW), one.at, one.by),
        )
        for book in nodes.values():
            assert what in {one.what for one in book.blocks}
            assert longest in book.blocks or longest in replaced


def _talk(name, nodes, agreed, stream, heard, at):
    for kind, one in to_tell(nodes[name].blocks, agreed[name]):
        stream.append((name, kind, one, at))
        agreed[name] = agreed_after(agreed[name], kind, one)
    while heard[name] < len(stream):
        node, kind, one, when = stream[heard[name]]
        heard[name] += 1
        book = nodes[name] = with_told(nodes[name], kind, one, node=node, at=when)
        if kind is Told.UNBLOCKED or one in book.blocks:
            agreed[name] = agreed_after(agreed[name], kind, one)
