"""
The bounded memory: octets are counted, what was not used for longest goes.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.memo import Memo


def test_oldest_goes_where_there_is_too_much():
    memo: Memo[str, int] = Memo(100)
    memo.keep("a", 1, 50)
    memo.keep("b", 2, 50)
    assert 1 == memo.get("a")
    memo.keep("c", 3, 50)
    assert (1, None, 3) == (memo.get("a"), memo.get("b"), memo.get("c"))
    assert 100 == memo.octets


def test_what_is_larger_than_all_of_it_is_not_kept_and_takes_its_older_self_away():
    memo: Memo[str, int] = Memo(100)
    memo.keep("a", 1, 50)
    memo.keep("b", 2, 10)
    memo.keep("a", 3, 101)
    assert (None, 2, 10) == (memo.get("a"), memo.get("b"), memo.octets)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 120))))
def test_octets_never_exceed_the_bound(steps):
    memo: Memo[int, int] = Memo(100)
    kept: dict[int, int] = {}
    for name, octets in steps:
        memo.keep(name, octets, octets)
        kept[name] = octets
        assert memo.octets <= 100
        assert memo.octets == sum(octets for name, octets in kept.items() if memo.get(name) is not None)
    memo.clear()
    assert 0 == memo.octets
