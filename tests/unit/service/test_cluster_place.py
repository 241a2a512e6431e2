"""
How far a node has heard: over a restart, and whether it missed anything.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_cache.cluster_place import MAX_OCTETS
from cftpki_ext.core.blocks import Block
from cftpki_ext.core.cluster import STREAM_ENTRIES, Beat
from cftpki_ext.service.cluster.place import (
    BEGIN,
    MAX_FLUSHES,
    Missed,
    Place,
    from_the_end,
    load_place,
    missed,
    order_of,
    read_place,
    save_place,
    within,
)

BLOCK = Block(what="CN=a", reason="r", by="op", at=datetime(2026, 6, 1, tzinfo=UTC))


def beat(first, last):
    return Beat(first=first, last=last, generation=0)


@pytest.mark.parametrize(
    ("position", "first", "last", "expected"),
    [
        (BEGIN, "5-0", "9-0", Missed.NOTHING),
        (BEGIN, None, None, Missed.NOTHING),
        ("7-0", "5-0", "9-0", Missed.NOTHING),
        ("9-0", "5-0", "9-0", Missed.NOTHING),
        ("9-0", None, "9-0", Missed.NOTHING),
        ("4-0", "5-0", "9-0", Missed.TRIMMED),
        ("4-0", None, "9-0", Missed.TRIMMED),
        ("10-0", "5-0", "9-5", Missed.LOST),
        ("10-0", None, None, Missed.LOST),
    ],
)
def test_what_was_missed_is_seen(position, first, last, expected):
    assert expected is missed(position, beat(first, last))


@pytest.mark.parametrize("first", ["5-0", "5-3", "1-0", "0-1"])
def test_who_missed_something_goes_on_from_the_beginning_of_what_is_there(first):
    assert order_of(from_the_end(beat(first, "9-0"))) < order_of(first)


def test_place_comes_back():
    place = Place(
        position="17-4",
        agreed=frozenset({BLOCK}),
        flushes=frozenset({("a", 7), ("b", 0)}),
        doubt=True,
        generation=3,
    )
    assert place == load_place(save_place(place))


def test_place_of_an_earlier_version_comes_back():
    assert Place(position="17-4") == load_place(b'{"format":1,"position":"17-4","agreed":[]}')


@pytest.mark.parametrize(
    ("before", "now", "first", "expected"),
    [
        (None, 5, None, Missed.NOTHING),
        (5, 5, None, Missed.NOTHING),
        (5, 0, None, Missed.NOTHING),
        (5, 6, "5-0", Missed.NOTHING),
        (5, 6, None, Missed.LOST),
        (5, 5 + STREAM_ENTRIES, "5-0", Missed.NOTHING),
        (5, 6 + STREAM_ENTRIES, "5-0", Missed.LOST),
        (5, 4, "5-0", Missed.LOST),
    ],
)
def test_who_has_heard_nothing_sees_by_the_flush_that_counts_that_the_server_forgot(
    before, now, first, expected
):
    assert expected is missed(BEGIN, Beat(first=first, last=first, generation=now), before)


def test_blocks_that_cannot_be_read_cost_neither_the_position_nor_the_flushes():
    octets = b'{"format":1,"position":"17-4","agreed":[7],"flushes":{"a":7},"doubt":true,"generation":-1}'
    found = Place(position="17-4", flushes=frozenset({("a", 7)}), doubt=True)
    assert (found, "blocks that all nodes know of") == read_place(octets)


def test_no_more_blocks_are_saved_than_are_read():
    long = [replace(BLOCK, what=f"CN={number}" + "\N{EURO SIGN}" * 8000) for number in range(100)]
    kept = within(frozenset(long))
    assert 0 < len(kept) < 100
    assert len(save_place(Place(agreed=kept))) < MAX_OCTETS
    assert kept == load_place(save_place(Place(agreed=kept))).agreed


def test_flush_is_done_once_and_those_of_the_nodes_that_flushed_last_are_remembered():
    place = Place().flushed("a", 5)
    assert (None, None) == (place.flushed("a", 5), place.flushed("a", 4))
    assert {("a", 6), ("b", 1)} == place.flushed("a", 6).flushed("b", 1).flushes
    for number in range(10, 10 + MAX_FLUSHES):
        place = place.flushed(f"n{number}", number)
    assert {(f"n{number}", number) for number in range(10, 10 + MAX_FLUSHES)} == place.flushes


@pytest.mark.parametrize(
    "octets",
    [
        None,
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"format":2,"position":"1-1","agreed":[]}',
        b'{"format":1,"position":"x","agreed":[]}',
        b'{"format":1,"position":"1-1","agreed":[],"flushes":7}',
    ],
)
def test_what_is_no_place_is_the_beginning(octets):
    assert Place() == load_place(octets)


@given(st.binary(max_size=200))
def test_whatever_is_on_the_disk_is_read(octets):
    load_place(octets)
