"""
Sessions, the link that counts once, and wrong tokens.
"""

from cftpki_ext.console.sessions import IDLE_S, LIFETIME_S, Attempts, Link, Sessions, same


def test_session_that_was_begun_holds_and_another_value_does_not():
    sessions = Sessions()
    value = sessions.begin(0.0)
    assert (True, False, False) == (
        sessions.holds(value, 1.0),
        sessions.holds(value + "x", 1.0),
        sessions.holds("", 1.0),
    )


def test_session_that_nobody_used_for_long_ends_and_one_in_use_goes_on():
    sessions = Sessions()
    left, used = sessions.begin(0.0), sessions.begin(0.0)
    assert sessions.holds(used, IDLE_S - 1)
    assert (False, True) == (sessions.holds(left, IDLE_S), sessions.holds(used, IDLE_S))


def test_session_ends_with_its_lifetime_however_often_it_is_used():
    sessions, at = Sessions(), 0.0
    value = sessions.begin(at)
    while at < LIFETIME_S - IDLE_S / 2:
        at += IDLE_S / 2
        assert sessions.holds(value, min(at, LIFETIME_S - 1))
    assert not sessions.holds(value, LIFETIME_S)


def test_session_that_was_ended_holds_no_longer():
    sessions = Sessions()
    value = sessions.begin(0.0)
    sessions.end(value)
    sessions.end("never begun")
    assert not sessions.holds(value, 0.0)


def test_sessions_beyond_the_most_end_the_one_used_longest_ago():
    sessions = Sessions()
    values = [sessions.begin(float(number)) for number in range(64)]
    assert sessions.holds(values[0], 64.0)
    sessions.begin(65.0)
    assert (True, False) == (sessions.holds(values[0], 66.0), sessions.holds(values[1], 66.0))


def test_link_counts_once_and_the_next_is_another():
    link = Link()
    first = link.key
    assert (False, True, False) == (link.use("x"), link.use(first), link.use(first))
    assert link.use(link.key)


def test_address_that_is_wrong_too_often_waits_and_others_do_not():
    attempts = Attempts()
    for number in range(5):
        assert 0 == attempts.wait_s("a", float(number))
        attempts.wrong("a", float(number))
    assert (55.0, 0.0) == (attempts.wait_s("a", 5.0), attempts.wait_s("b", 5.0))
    assert 0 == attempts.wait_s("a", 60.0)
    attempts.wrong("a", 60.0)
    assert 0 == attempts.wait_s("a", 60.0)


def test_same_secrets_are_the_same_and_others_are_not():
    assert (True, False, False) == (same(b"a", b"a"), same(b"a", b"b"), same(b"a", b""))
