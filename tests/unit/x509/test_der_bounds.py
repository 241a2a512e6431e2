"""
Integers that are too long to be written as text are not read.
"""

from __future__ import annotations

import pytest

from cftpki_ext.x509 import der
from cftpki_ext.x509.extensions import basic_constraints


def test_integer_as_long_as_can_be_written_is_read_and_a_longer_one_is_not():
    longest = der.encode(der.INTEGER, b"\x01" * 1750)
    assert 4213 == len(str(der.integer(longest, der.whole(longest, der.INTEGER))))
    longer = der.encode(der.INTEGER, b"\x01" * 1751)
    with pytest.raises(der.DerError, match="integer has 1751 octets, at most 1750 are read"):
        der.integer(longer, der.whole(longer, der.INTEGER))


def test_huge_path_length_is_malformed_and_raises_nothing_else():
    for octets in (1751, 30_000):
        value = der.encode(der.SEQUENCE, der.encode(der.INTEGER, b"\x01" * octets))
        with pytest.raises(der.DerError):
            basic_constraints(value)
