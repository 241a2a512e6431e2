"""
The list of partners that are shut out: what is written is read, and nothing else is.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.blocks import (
    MAX_BLOCKS,
    MAX_LIFTED,
    MAX_OCTETS,
    MAX_REASON,
    Block,
    Book,
    Lifted,
    decode_blocks,
    encode_blocks,
    read_book,
    write_book,
)
from cftpki_ext.core.errors import InputError

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
BLOCK = Block(
    what="fingerprint:" + "a" * 64,
    reason="key stolen",
    by="root (uid 0)",
    at=NOW,
    until=NOW + timedelta(days=1),
)
FOR_GOOD = replace(BLOCK, what="subject:CN=mft,O=Société\\, Inc.", until=None)
BOOK = Book(
    blocks=(BLOCK, FOR_GOOD),
    lifted=(Lifted(block=replace(BLOCK, what="dns:a.example"), by="ops (uid 7)", at=NOW, reason="lifted"),),
)
TEXTS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 (given a zone)
BLOCKS = st.builds(Block, what=TEXTS, reason=TEXTS, by=TEXTS, at=TIMES, until=st.one_of(st.none(), TIMES))


def test_block_holds_before_its_end_and_not_at_it():
    assert BLOCK.holds(BLOCK.until - timedelta(microseconds=1))
    assert not BLOCK.holds(BLOCK.until)
    assert FOR_GOOD.holds(NOW + timedelta(days=36500))
    # Clocks of hosts differ: one that was made a moment ago elsewhere counts.
    assert BLOCK.holds(NOW - timedelta(hours=1))


@given(st.lists(BLOCKS, max_size=4, unique_by=lambda one: (one.what, one.at)))
def test_document_and_book_are_read_as_they_were_written(blocks):
    document = encode_blocks(blocks)
    read = () if document is None else decode_blocks(document)
    assert sorted(blocks, key=lambda one: (one.what, one.at)) == list(read)
    assert encode_blocks(reversed(blocks)) == document
    book = Book(blocks=tuple(blocks), lifted=BOOK.lifted)
    assert book == read_book(write_book(book))


def test_nobody_is_no_document():
    assert None is encode_blocks(())


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_book_with_any_octet_changed_is_refused(place, change):
    raw = bytearray(write_book(BOOK))
    raw[place % len(raw)] ^= change
    with pytest.raises(InputError):
        read_book(bytes(raw))


@pytest.mark.parametrize("kept", [0, 1, 40, 120])
def test_book_that_was_cut_off_is_refused(kept):
    with pytest.raises(InputError, match="its octets are not those that were written"):
        read_book(write_book(BOOK)[:kept])


PLAIN = json.loads(encode_blocks([BLOCK]))[0]
WRONG = {
    "no list": {},
    "no entry": [[]],
    "a key too many": [{**PLAIN, "more": 1}],
    "a key too few": [{key: value for key, value in PLAIN.items() if key != "by"}],
    "no partner": [{**PLAIN, "what": ""}],
    "a partner that is no text": [{**PLAIN, "what": 7}],
    "a reason that is too long": [{**PLAIN, "reason": "x" * (MAX_REASON + 1)}],
    "control characters": [{**PLAIN, "reason": "a\x1b[31m"}],
    "no time": [{**PLAIN, "at": None}],
    "a time without its zone": [{**PLAIN, "at": "2026-06-01T12:00:00"}],
    "an end that is none": [{**PLAIN, "until": 5}],
    "too many": [PLAIN] * (MAX_BLOCKS + 1),
}


@pytest.mark.parametrize("plain", WRONG.values(), ids=WRONG)
def test_document_that_is_none_of_ours_is_refused(plain):
    with pytest.raises(InputError, match="blocked partners"):
        decode_blocks(json.dumps(plain).encode())


@pytest.mark.parametrize("raw", [b"", b"[", b"\xff", b"[" * 100_000, b" " * (MAX_OCTETS + 1)])
def test_document_that_is_no_json_or_too_long_is_refused(raw):
    with pytest.raises(InputError, match="list of blocked partners"):
        decode_blocks(raw)


def test_partner_that_is_blocked_anew_has_one_entry_and_the_earlier_one_is_told():
    again = replace(BLOCK, reason="longer", until=None, at=NOW + timedelta(hours=1), by="b")
    book = BOOK.with_block(again)
    assert (FOR_GOOD, again) == book.blocks
    assert Lifted(block=BLOCK, by="b", at=again.at, reason="blocked anew") == book.lifted[-1]


def test_entry_that_is_lifted_is_told_with_who_did_it():
    book = BOOK.without(BLOCK.what, by="ops", at=NOW, reason="a new key")
    assert (FOR_GOOD,) == book.blocks
    assert Lifted(block=BLOCK, by="ops", at=NOW, reason="a new key") == book.lifted[-1]
    with pytest.raises(InputError, match=r"^dns:b\.example is not blocked$"):
        book.without("dns:b.example", by="ops", at=NOW, reason="x")


def test_full_book_lets_go_of_what_has_ended_and_else_takes_no_more():
    full = Book(blocks=tuple(replace(BLOCK, what=f"dns:{n}.example") for n in range(MAX_BLOCKS)))
    with pytest.raises(InputError, match="1000 partners are blocked"):
        full.with_block(FOR_GOOD)
    later = replace(FOR_GOOD, at=BLOCK.until)
    made = full.with_block(later)
    assert (later,) == made.blocks
    assert MAX_LIFTED == len(made.lifted)
    assert made == read_book(write_book(made))
