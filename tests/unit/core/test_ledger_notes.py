"""
What stands in a ledger besides verdicts: read as it was written, and nothing else is read.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.ledger_notes import Break, BreakKind, Gap, Hold, HoldAct, Repeats, note_from

AT = datetime(2026, 11, 28, 7, tzinfo=UTC)
BREAK = Break(
    id="a" * 32,
    noticed_at=AT,
    kind=BreakKind.CUT,
    seq=9,
    expected="1" * 64,
    newest=7,
    found="2" * 64,
)
GAP = Gap(
    id="b" * 32, first=AT, last=AT + timedelta(hours=1), counts={"accepted": 2, "refused": 3}, why="disk full"
)
REPEATS = Repeats(
    id="c" * 32,
    of="d" * 32,
    first=AT,
    last=AT + timedelta(minutes=5),
    count=400,
    reason="no_path",
    partner="CN=stranger",
    remote="192.0.2.1",
)
HOLD = Hold(
    id="e" * 32,
    at=AT,
    act=HoldAct.LAID,
    name="case-7",
    by="root (sudo by alice)",
    reason="letter of 1 March",
    since=AT - timedelta(days=1),
    partner="CN=mft",
)
RELEASED = Hold(id="f" * 32, at=AT, act=HoldAct.RELEASED, name="case-7", by="root", reason="settled")


@pytest.mark.parametrize("note", [BREAK, GAP, REPEATS, HOLD, RELEASED])
def test_note_comes_back_as_it_was_written(note):
    assert note == note_from(note.document())


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (BREAK, "records 8 to 9 were cut off the end, noticed 2026-11-28T07:00:00.000Z"),
        (
            GAP,
            "5 verdicts from 2026-11-28T07:00:00.000Z to 2026-11-28T08:00:00.000Z were not kept (2 accepted, 3 refused): disk full",
        ),
        (
            REPEATS,
            "400 more refusals (no_path) of CN=stranger from 2026-11-28T07:00:00.000Z to 2026-11-28T07:05:00.000Z, the last from 192.0.2.1",
        ),
        (
            HOLD,
            "hold case-7 was laid 2026-11-28T07:00:00.000Z by root (sudo by alice) on what was kept since 2026-11-27T07:00:00.000Z, from the first record of CN=mft on: letter of 1 March",
        ),
        (RELEASED, "hold case-7 was released 2026-11-28T07:00:00.000Z by root: settled"),
    ],
)
def test_note_says_for_a_person(note, expected):
    assert note.detail.startswith(expected)


def test_hostile_text_is_escaped_and_cut():
    hostile = "CN=\x1b]0;x\x07\n" + "y" * 100_000
    note = note_from(
        Repeats(
            id="c" * 32, of="d" * 32, first=AT, last=AT, count=1, reason="\x1b[2J", partner=hostile
        ).document()
    )
    assert note.detail.isprintable()
    assert len(note.detail) < 1000
    gap = note_from(Gap(id="b" * 32, first=AT, last=AT, counts={"\x1b[2J": 1}, why=hostile).document())
    assert gap.detail.isprintable()
    assert len(gap.detail) < 1000
    made = {"name": hostile, "by": hostile, "reason": hostile, "partner": hostile}
    hold = note_from(Hold(id="e" * 32, at=AT, act=HoldAct.LAID, **made).document())
    assert hold.detail.isprintable()
    assert len(hold.detail) < 5000


def changed(note, /, **fields):
    return json.dumps({**json.loads(note.document()), **fields}).encode()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"{" * 10_000,
        b"1" * 20_000,
        changed(BREAK, note="verdict"),
        changed(BREAK, format=2),
        changed(BREAK, id="A" * 32),
        changed(BREAK, seq=True),
        changed(BREAK, seq=-1),
        changed(BREAK, seq=1 << 62),
        changed(BREAK, newest=1.5),
        changed(BREAK, expected="1"),
        changed(BREAK, kind="other"),
        changed(BREAK, at="2026-11-28"),
        changed(BREAK, at="0001-01-01T00:00:00+23:00"),
        changed(BREAK, at=7),
        changed(GAP, counts=[1]),
        changed(GAP, counts={"accepted": "1"}),
        changed(GAP, counts={str(n): 1 for n in range(100)}),
        changed(GAP, why=None),
        changed(HOLD, act="kept"),
        changed(HOLD, since="yesterday"),
        changed(HOLD, by=None),
        changed(REPEATS, of=""),
        changed(REPEATS, count=10**30),
    ],
)
def test_what_is_no_note_of_ours_is_an_error(document):
    with pytest.raises(ValueError, match="note"):
        note_from(document)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_note_of_any_octets_is_a_note_or_an_error(octets):
    try:
        note = note_from(octets)
    except ValueError:
        return
    assert note == note_from(note.document())


@given(st.sampled_from([BREAK, GAP, REPEATS]), st.data())
def test_note_with_any_field_changed_is_a_note_or_an_error(note, data):
    plain = json.loads(note.document())
    name = data.draw(st.sampled_from(sorted(plain)))
    plain[name] = data.draw(st.none() | st.integers() | st.text() | st.lists(st.integers()) | st.booleans())
    try:
        found = note_from(json.dumps(plain).encode())
    except ValueError:
        return
    assert found.detail.isprintable()
