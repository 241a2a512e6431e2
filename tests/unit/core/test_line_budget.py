"""
How often the log says the same.
"""

from __future__ import annotations

from cftpki_ext.core.line_budget import LineBudget


def test_some_lines_come_at_once_and_then_one_after_the_other_with_the_number_of_the_others():
    budget = LineBudget(burst=3, every_s=10.0)
    assert [0, 0, 0, None, None] == [budget.ask("a", 100.0) for _ in range(5)]
    assert None is budget.ask("a", 109.0)
    assert 3 == budget.ask("a", 110.5)
    assert None is budget.ask("a", 111.0)
    assert 0 == budget.ask("b", 111.0)


def test_what_was_left_out_is_told_once():
    budget = LineBudget(burst=1, every_s=10.0)
    for _ in range(4):
        budget.ask("a", 0.0)
    assert {"a": 3} == budget.untold()
    assert {} == budget.untold()
    assert 0 == budget.ask("a", 10.0)


def test_who_is_refunded_begins_anew():
    budget = LineBudget(burst=2, every_s=10.0)
    for _ in range(4):
        budget.ask("a", 0.0)
    budget.refund("a")
    budget.refund("nobody")
    assert [2, 0, None] == [budget.ask("a", 0.0) for _ in range(3)]


def test_clock_that_stands_or_goes_back_gives_nothing():
    budget = LineBudget(burst=1, every_s=1.0)
    assert [0, None, None] == [budget.ask("a", at) for at in (100.0, 50.0, 50.5)]


def test_causes_that_are_remembered_are_bounded():
    budget = LineBudget(burst=1, every_s=1e9)
    for number in range(3000):
        assert 0 == budget.ask(str(number), 0.0)
    assert None is budget.ask("2999", 0.0)
    assert 0 == budget.ask("0", 0.0)
