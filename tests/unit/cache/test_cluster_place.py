"""
The numbers of what a node tells a cluster to forget.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from cftpki_cache.cluster_place import FLUSH, FlushNumbers
from cftpki_ext.core.errors import StoreError


def test_numbers_grow_over_a_restart_also_where_the_clock_was_set_back(tmp_path):
    taken = [FlushNumbers(tmp_path).take(least) for least in (100, 7, 7, 200)]
    assert [100, 101, 102, 200] == taken


def test_no_two_take_the_same_number(tmp_path):
    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda _: FlushNumbers(tmp_path).take(5), range(20)))
    assert list(range(5, 25)) == sorted(taken)


@pytest.mark.parametrize("octets", [b"", b"12", b"x" * 20, b"1" * 21, "\u0663".encode() * 10])
def test_what_is_no_number_counts_for_none(tmp_path, octets):
    (tmp_path / FLUSH).write_bytes(octets)
    assert 7 == FlushNumbers(tmp_path).take(7)


def test_number_that_cannot_be_kept_is_not_given(tmp_path):
    (tmp_path / FLUSH).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"cluster\.flush"):
        FlushNumbers(tmp_path).take(7)
    assert not (tmp_path / "elsewhere").exists()
