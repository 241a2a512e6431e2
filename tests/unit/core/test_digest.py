"""
Digests of large octets are computed once, and are those of the octets.
"""

from __future__ import annotations

from hashlib import sha256

import pytest

from cftpki_ext.core import digest
from cftpki_ext.core.digest import clear_digests, digest_of


@pytest.mark.parametrize("octets", [0, 1, 64 * 1024 - 1, 64 * 1024, 200_000])
def test_digest_is_that_of_the_octets(octets):
    raw = bytes(octets)
    for _ in range(2):
        assert sha256(raw).hexdigest() == digest_of(raw)


def test_large_octets_are_hashed_once_and_small_ones_are_not_held(monkeypatch):
    clear_digests()
    hashed = []

    def counted(raw: bytes):
        hashed.append(len(raw))
        return sha256(raw)

    monkeypatch.setattr(digest, "sha256", counted)
    large, small = bytes(100_000), bytes(10)
    for _ in range(3):
        digest_of(large)
        digest_of(small)
    assert [100_000, 10, 10, 10] == hashed
    assert large in digest._known._kept
    assert small not in digest._known._kept
    clear_digests()
