from __future__ import annotations

import pytest

from cftpki_connectors.fetch.breaker import FAILURES_TO_OPEN, FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker, Circuit


def opened(now: float = 100.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        assert breaker.enter(now)
        breaker.failed(now)
    return breaker


def test_breaker_opens_after_failures_in_a_row_and_not_before() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.enter(0.0)
        breaker.failed(0.0)
    assert breaker.enter(0.0)
    breaker.failed(0.0)
    assert not breaker.enter(0.0)
    assert Circuit.OPEN is breaker.circuit


def test_breaker_success_between_failures_starts_the_count_again() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN * 3):
        breaker.enter(0.0)
        breaker.failed(0.0)
        breaker.enter(0.0)
        breaker.succeeded()
    assert breaker.enter(0.0)


def test_breaker_lets_one_probe_through_when_its_pause_is_over() -> None:
    breaker = opened(100.0)
    assert not breaker.enter(100.0 + FIRST_PAUSE_S - 0.01)
    assert pytest.approx(FIRST_PAUSE_S) == breaker.wait_s(100.0)
    assert 0.0 == breaker.wait_s(100.0 + FIRST_PAUSE_S)
    assert breaker.enter(100.0 + FIRST_PAUSE_S)
    assert not breaker.enter(100.0 + FIRST_PAUSE_S)
    assert breaker.wait_s(100.0 + FIRST_PAUSE_S) > 0


def test_breaker_successful_probe_closes() -> None:
    breaker = opened(100.0)
    breaker.enter(200.0)
    breaker.succeeded()
    assert Circuit.CLOSED is breaker.circuit
    assert [True] * 3 == [breaker.enter(200.0) for _ in range(3)]


def test_breaker_failed_probes_double_the_pause_up_to_a_bound() -> None:
    breaker, now, pauses = opened(0.0), 0.0, []
    for _ in range(6):
        now += breaker.wait_s(now)
        assert breaker.enter(now)
        breaker.failed(now)
        pauses.append(breaker.wait_s(now))
    assert [10.0, 20.0, 40.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S] == pytest.approx(pauses)


def test_breaker_abandoned_probe_leaves_the_next_one_to_probe() -> None:
    breaker = opened(0.0)
    assert breaker.enter(10.0)
    breaker.abandoned()
    assert breaker.enter(10.0)
    breaker.succeeded()
    assert Circuit.CLOSED is breaker.circuit


def test_breaker_late_failures_neither_lengthen_nor_shorten_the_pause() -> None:
    breaker = opened(0.0)
    for now in (1.0, 2.0, 3.0):
        breaker.failed(now)
    assert breaker.enter(FIRST_PAUSE_S)
