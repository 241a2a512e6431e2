"""When a renewal is due: pure, so every case is a value."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.identity_settings import ChangeWindow, RenewalRules
from cftpki_ext.identity.renewal.schedule import (
    Attempts,
    Facts,
    Life,
    Why,
    backoff,
    fraction,
    next_opening,
    pick,
    plan,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)  # a Monday
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
RULES = RenewalRules()
LIFE = Life(begins=NOW, ends=NOW + 30 * DAY, issued_at=NOW)
FACTS = Facts(now=NOW, seed="host/mft", life=LIFE)


def night(*days, begin=time(22), end=time(4)):
    return ChangeWindow(days=frozenset(days or range(7)), begin=begin, end=end)


def test_plan_is_two_thirds_of_the_life_and_up_to_a_twentieth_earlier():
    made = plan(RULES, FACTS)
    assert NOW + 20 * DAY - 1.5 * DAY <= made.at <= NOW + 20 * DAY
    assert Why.LIFETIME is made.why


def test_plan_differs_by_host_and_stays_for_one_host():
    times = {plan(RULES, replace(FACTS, seed=f"host-{n}/mft")).at for n in range(50)}
    assert 50 == len(times)
    assert plan(RULES, FACTS) == plan(RULES, replace(FACTS, now=NOW + DAY))


def test_plan_by_duration_before_the_end():
    made = plan(RenewalRules(renew_before=10 * DAY), FACTS)
    assert NOW + 18.5 * DAY <= made.at <= NOW + 20 * DAY


def test_plan_by_duration_longer_than_the_life_is_no_renewal_loop():
    made = plan(RenewalRules(renew_before=60 * DAY), FACTS)
    assert made.at >= NOW + MINUTE


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"life": None}, Why.MISSING),
        ({"revoked": True}, Why.REVOKED),
        ({"under_way": True}, Why.ORDER),
        ({"revoked": True, "kept_back": True}, Why.REVOKED),
    ],
)
def test_plan_is_now_where_it_cannot_wait(changes, why):
    made = plan(replace(RULES, windows=()), replace(FACTS, **changes))
    assert (NOW, why) == (made.at, made.why)


def test_plan_of_a_change_keeps_the_minimum_interval():
    assert NOW + MINUTE == plan(RULES, replace(FACTS, changed=True)).at
    assert NOW + HOUR == plan(RULES, replace(FACTS, changed=True, now=NOW + HOUR)).at


def test_plan_follows_the_cas_hint_but_never_past_the_floor():
    early = plan(RULES, replace(FACTS, hint=NOW + 5 * DAY))
    late = plan(RULES, replace(FACTS, hint=NOW + 40 * DAY))
    assert (NOW + 5 * DAY, Why.CA) == (early.at, early.why)
    assert NOW + 27 * DAY == late.at


def test_hint_that_says_now_is_heard_once_then_once_a_day_and_one_that_is_ready_at_once():
    first = replace(FACTS, hint=NOW - DAY, now=NOW + HOUR)
    assert NOW + MINUTE == plan(RULES, first).at
    said = replace(first, replaced=1)
    assert NOW + DAY == plan(RULES, said).at
    assert NOW + MINUTE == plan(RULES, replace(said, hint_ready=True)).at


def test_rolled_back_generation_is_kept_until_the_floor():
    assert NOW + 27 * DAY == plan(RULES, replace(FACTS, kept_back=True, hint=NOW)).at


def test_window_holds_back_until_it_opens_and_no_longer_than_the_floor():
    windowed = replace(RULES, windows=(night(5, begin=time(2), end=time(3)),))
    made = plan(windowed, replace(FACTS, hint=NOW + 5 * HOUR, now=NOW + 2 * DAY))
    assert datetime(2026, 6, 6, 2, tzinfo=UTC) == made.at
    assert "change window" in made.detail
    late = plan(windowed, replace(FACTS, now=NOW + 26.95 * DAY))
    assert NOW + 27 * DAY == late.at
    past = plan(windowed, replace(FACTS, now=NOW + 28 * DAY))
    assert past.at <= NOW + 28 * DAY


def test_window_does_not_hold_back_a_revoked_or_a_missing_certificate():
    windowed = replace(RULES, windows=(night(5),))
    assert NOW == plan(windowed, replace(FACTS, revoked=True)).at
    assert NOW == plan(windowed, replace(FACTS, life=None)).at


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (NOW, NOW.replace(hour=22)),
        (NOW.replace(hour=23), NOW.replace(hour=23)),
        (NOW.replace(hour=3), NOW.replace(hour=3)),
        (NOW.replace(hour=4), NOW.replace(hour=22)),
    ],
)
def test_window_over_midnight_is_open_on_both_sides(at, expected):
    assert expected == next_opening((night(),), at)


def test_window_of_one_day_of_the_week_is_found_in_the_next_week():
    monday_morning = night(0, begin=time(6), end=time(7))
    assert datetime(2026, 6, 8, 6, tzinfo=UTC) == next_opening((monday_morning,), NOW)


def test_backoff_doubles_and_shrinks_as_the_end_comes_nearer():
    failed = [replace(FACTS, attempts=Attempts(failures=n, last=NOW)) for n in range(1, 12)]
    waits = [backoff(facts) for facts in failed]
    assert MINUTE <= waits[0] <= 1.2 * MINUTE
    assert waits[:8] == sorted(waits[:8])
    assert waits[-1] <= 1.2 * 6 * HOUR
    near = replace(failed[-1], now=LIFE.ends - HOUR)
    assert 3 * MINUTE <= backoff(near) <= 1.2 * 3 * MINUTE
    gone = replace(failed[-1], now=LIFE.ends + HOUR)
    assert 5 * MINUTE <= backoff(gone) <= 6 * MINUTE


@given(
    failures=st.integers(1, 1000),
    offset=st.floats(-1e7, 1e7),
    revoked=st.booleans(),
    held=st.booleans(),
    seed=st.text(),
)
def test_backoff_is_always_bounded(failures, offset, revoked, held, seed):
    facts = Facts(
        now=NOW + timedelta(seconds=offset),
        seed=seed,
        life=LIFE if held else None,
        attempts=Attempts(failures=failures, last=NOW),
        revoked=revoked,
    )
    assert timedelta(seconds=30) <= backoff(facts) <= 1.2 * 6 * HOUR


def test_retry_after_is_a_floor_under_the_backoff():
    facts = replace(FACTS, life=None, attempts=Attempts(failures=1, last=NOW, not_before=NOW + 3 * HOUR))
    assert NOW + 3 * HOUR == plan(RULES, facts).at


def test_last_attempt_in_the_future_holds_nothing_back():
    facts = replace(FACTS, life=None, attempts=Attempts(failures=9, last=NOW + 365 * DAY))
    assert NOW == plan(RULES, facts).at


@given(
    length=st.integers(60, 10**9),
    gone=st.floats(0, 2),
    hint=st.none() | st.floats(-1, 2),
    seed=st.text(max_size=20),
)
def test_plan_never_waits_past_the_floor_without_a_failure(length, gone, hint, seed):
    span = timedelta(seconds=length)
    life = Life(begins=NOW, ends=NOW + span, issued_at=NOW)
    facts = Facts(
        now=NOW + span * gone, seed=seed, life=life, hint=None if hint is None else NOW + span * hint
    )
    made = plan(replace(RULES, windows=(night(3),)), facts)
    assert made.at <= max(facts.now, life.ends - span * RULES.floor, NOW + RULES.min_interval)


def test_pick_lies_in_the_window_and_takes_the_start_of_an_empty_one():
    assert NOW + 6 * HOUR == pick(NOW, NOW + DAY, draw=0.25)
    assert NOW == pick(NOW, NOW - DAY, draw=0.9)


@given(st.text())
def test_fraction_is_from_zero_up_to_one_and_always_the_same(text):
    assert 0 <= fraction(text) < 1
    assert fraction(text) == fraction(text)
