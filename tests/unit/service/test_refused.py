"""
Refused connections and file descriptors: told seldom, answered slowly, and never more than there is room for.
"""

import resource

import pytest

from cftpki_ext.service.descriptors import RESERVED, connections_that_fit, raise_limit
from cftpki_ext.service.refused import PAUSE_S, TELL_EVERY_S, Refusals, Treatment


def test_user_in_a_loop_is_told_once_a_minute_with_the_number_of_the_others():
    refusals = Refusals()
    first = refusals.treat("user 1", 100.0)
    others = [refusals.treat("user 1", 100.0 + step / 100) for step in range(1, 6000)]
    last = refusals.treat("user 1", 100.0 + TELL_EVERY_S)
    assert Treatment(tell=True, others=0, pause_s=0.0) == first
    assert {Treatment(tell=False, others=0, pause_s=PAUSE_S)} == set(others)
    assert Treatment(tell=True, others=5999, pause_s=PAUSE_S) == last


def test_one_user_s_loop_delays_no_other_and_a_late_return_is_answered_at_once():
    refusals = Refusals()
    for step in range(100):
        refusals.treat("user 1", step / 1000)
    assert Treatment(tell=True, others=0, pause_s=0.0) == refusals.treat("user 2", 0.1)
    assert Treatment(tell=False, others=0, pause_s=0.0) == refusals.treat("user 1", 5.0)


def test_kinds_that_are_remembered_are_bounded():
    refusals = Refusals()
    for number in range(5000):
        assert refusals.treat(f"user {number}", float(number)).tell
    assert not refusals.treat("user 4999", 5000.0).tell
    assert refusals.treat("user 0", 5001.0).tell


@pytest.mark.parametrize(
    ("limit", "wanted", "fitting"),
    [
        (resource.RLIM_INFINITY, 4224, 4224),
        (16384, 4224, 4224),
        (4224 + RESERVED, 4224, 4224),
        (4224 + RESERVED - 1, 4224, 4223),
        (1024, 4224, 512),
        (256, 4224, 128),
        (1, 4224, 1),
    ],
)
def test_connections_that_fit(limit, wanted, fitting):
    assert fitting == connections_that_fit(limit, wanted)


@pytest.mark.parametrize(
    ("soft", "hard", "holds"),
    [
        (1024, 524288, 100 + RESERVED),
        (1024, resource.RLIM_INFINITY, 100 + RESERVED),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY),
        (256, 512, 512),
        (256, 256, 256),
    ],
)
def test_limit_is_raised_as_far_as_it_may_be(monkeypatch, soft, hard, holds):
    now = [(soft if soft != 1024 else 128, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: now[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: now.append(limits))
    assert (holds, (holds, hard)) == (raise_limit(100), now[-1])
