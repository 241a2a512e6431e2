"""
What is due to one receiver, and when: begun together, said again each day, over when it is; never too often, never too much.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.notify import ALL_KINDS, Condition, NoticeKind, NotifySettings
from cftpki_ext.service.notices.book import MOST_AN_HOUR, MOST_REMEMBERED, Book

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
S, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
SETTINGS = NotifySettings(settle=30 * S, repeat=DAY)


def wrong(about="a", kind=NoticeKind.SOURCE_DOWN):
    return Condition(kind=kind, about=about, text=f"{about} is wrong")


class Told:
    """
    A receiver that takes everything that is due.
    """

    def __init__(self, kinds=ALL_KINDS):
        self.book, self.at = Book(kinds), NOW

    def after(self, wait, *holding):
        """
        What is said when this holds so much later.
        """
        self.at += wait
        self.book.look(holding, self.at)
        due = self.book.due(SETTINGS, self.at)
        if due:
            self.book.delivered(due, self.at)
        return [(one.state.value, one.condition.about) for one in due]


def test_what_begins_waits_for_what_begins_with_it():
    told = Told()
    assert [] == told.after(0 * S, wrong("a"))
    assert [] == told.after(20 * S, wrong("a"), wrong("b"))
    assert [("begun", "a"), ("begun", "b")] == told.after(10 * S, wrong("a"), wrong("b"))
    assert [] == told.after(HOUR, wrong("a"), wrong("b"))


def test_what_was_over_before_anybody_was_told_is_never_told():
    told = Told()
    told.after(0 * S, wrong())
    assert [] == told.after(10 * S)
    assert [] == told.after(DAY)


def test_what_goes_on_is_said_again_each_day_and_ended_with_an_all_clear():
    told = Told()
    told.after(0 * S, wrong())
    assert [("begun", "a")] == told.after(30 * S, wrong())
    assert [] == told.after(DAY - S, wrong())
    assert [("holds", "a")] == told.after(S, wrong())
    assert [] == told.after(HOUR)
    assert [("over", "a")] == told.after(30 * S)
    assert [] == told.after(DAY)


def test_what_comes_back_at_once_was_never_over():
    told = Told()
    told.after(0 * S, wrong())
    told.after(30 * S, wrong())
    assert [] == told.after(10 * S)
    assert [] == told.after(10 * S, wrong())
    assert [] == told.after(HOUR, wrong())


def test_what_is_over_while_the_message_is_under_way_has_its_all_clear():
    book = Book(ALL_KINDS)
    book.look([wrong()], NOW)
    begun = book.due(SETTINGS, NOW + 30 * S)
    book.look([], NOW + 31 * S)
    book.delivered(begun, NOW + 32 * S)
    book.look([], NOW + 62 * S)
    assert [("over", "a")] == [
        (one.state.value, one.condition.about) for one in book.due(SETTINGS, NOW + 62 * S)
    ]


def test_what_comes_back_while_its_all_clear_is_under_way_goes_on():
    told = Told()
    told.after(0 * S, wrong())
    told.after(30 * S, wrong())
    told.after(HOUR)
    over = told.book.due(SETTINGS, told.at + 30 * S)
    told.book.look([wrong()], told.at + 31 * S)
    told.book.delivered(over, told.at + 32 * S)
    assert 1 == told.book.holding


def test_receiver_is_told_of_its_kinds_alone():
    told = Told(frozenset({NoticeKind.LEDGER}))
    both = (wrong("a"), wrong("b", NoticeKind.LEDGER))
    told.after(0 * S, *both)
    assert [("begun", "b")] == told.after(30 * S, *both)


def test_receiver_that_takes_nothing_is_tried_ever_more_rarely_and_then_told_how_things_stand():
    book, at = Book(ALL_KINDS), NOW
    book.look([wrong("a")], at)
    tries = []
    for _ in range(6 * 3600):
        at += S
        book.look([wrong("a")], at)
        if book.due(SETTINGS, at):
            tries.append(int((at - NOW).total_seconds()))
            book.failed(at)
    assert [30, 60, 120, 240, 480, 960, 1860, 2760] == tries[:8]
    # What came and went meanwhile is not told: there is no queue.
    book.look([wrong("b")], at)
    at += HOUR
    book.look([wrong("b")], at)
    assert ["b"] == [one.condition.about for one in book.due(SETTINGS, at)]


def test_whatever_comes_and_goes_there_are_so_many_messages_an_hour():
    told, messages = Told(), 0
    for number in range(120):
        messages += bool(told.after(30 * S, *([wrong()] if number // 2 % 2 else [wrong("b")])))
    assert MOST_AN_HOUR == messages


def test_what_is_remembered_is_bounded():
    book = Book(ALL_KINDS)
    book.look([wrong(str(number)) for number in range(3 * MOST_REMEMBERED)], NOW)
    assert MOST_REMEMBERED == len(book.due(SETTINGS, NOW + 30 * S))


@pytest.mark.parametrize("back", [HOUR, 400 * DAY])
def test_clock_that_was_set_back_holds_nothing_up(back):
    told = Told()
    told.after(0 * S, wrong())
    told.after(30 * S, wrong())
    told.book.failed(told.at)
    assert [("over", "a")] == [*told.after(-back), *told.after(30 * S)]


def test_all_clear_is_said_after_a_restart():
    told = Told()
    told.after(0 * S, wrong("a"), wrong("b"))
    told.after(30 * S, wrong("a"), wrong("b"))
    saved = json.loads(json.dumps(told.book.saved()))
    again = Told()
    again.book.restore(saved, NOW + 60 * S)
    again.at = NOW + 60 * S
    assert (2, []) == (again.book.holding, again.after(0 * S, wrong("b")))
    assert [("over", "a")] == again.after(30 * S, wrong("b"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["kind", "about", "text", "told"]), inner)
    ),
    max_leaves=20,
)


@given(saved=JSON)
def test_whatever_is_in_the_file_the_book_goes_on(saved):
    book = Book(ALL_KINDS)
    book.restore(saved, NOW)
    book.look([wrong()], NOW)
    assert len(book.due(SETTINGS, NOW + HOUR)) <= MOST_REMEMBERED


@pytest.mark.parametrize(
    "bent",
    [
        {"kind": "colour"},
        {"told": "yesterday"},
        {"told": "2026-06-01T00:00:00"},
        {"about": 7},
        {"text": None},
    ],
)
def test_line_that_is_not_as_it_was_written_is_left_out(bent):
    line = {"kind": "ledger", "about": "a", "text": "t", "told": NOW.isoformat()}
    book = Book(ALL_KINDS)
    book.restore([line, line | {"about": "b"} | bent], NOW)
    assert 1 == book.holding
