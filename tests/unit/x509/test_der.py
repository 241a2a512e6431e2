"""
Strict DER: what is read is exactly what was written, and everything looser is refused.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError


def element(data: bytes) -> der.Element:
    return der.read(data, 0, len(data))


@given(st.sampled_from([0x02, 0x04, 0x30, 0xA0, 0x81]), st.binary(max_size=70_000))
def test_encode_then_read_gives_back_tag_and_content(tag, content):
    data = der.encode(tag, content)
    found = der.whole(data, tag)
    assert content == der.content(data, found)
    assert data == der.encoded(data, found)


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_children_of_sequence_are_what_was_put_in(contents):
    data = der.encode(der.SEQUENCE, *(der.encode(der.OCTET_STRING, c) for c in contents))
    found = der.children(data, der.whole(data))
    assert contents == [der.content(data, child) for child in found]


@given(st.binary(max_size=300))
def test_any_bytes_give_children_or_der_error_and_nothing_else(data):
    try:
        top = der.read(data, 0, len(data))
        parts = der.children(data, top)
    except DerError:
        return
    assert data[top.content : top.end] == b"".join(der.encoded(data, part) for part in parts)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x80\x00\x00",  # indefinite
        b"\x30\x81\x05" + b"\x04\x03abc",  # long form of a short length
        b"\x30\x82\x00\x90" + bytes(0x90),  # leading zero in the length
        b"\x30\x85\x00\x00\x00\x00\x01\x00",
        b"\x30\x05\x04\x01a",  # cut off
        b"\x3f\x81\x01\x00",  # high tag number
        b"\x30\x82\x01",
    ],
)
def test_header_that_der_forbids_is_refused(data):
    with pytest.raises(DerError):
        element(data)


def test_trailing_byte_is_refused_and_its_absence_accepted():
    good = der.encode(der.SEQUENCE, b"\x05\x00")
    assert der.whole(good).end == len(good)
    with pytest.raises(DerError, match="1 trailing bytes"):
        der.whole(good + b"\x00")


@given(st.integers(min_value=-(2**200), max_value=2**200))
def test_integer_round_trip(value):
    length = (value.bit_length() if value >= 0 else (value + 1).bit_length()) // 8 + 1
    data = der.encode(der.INTEGER, value.to_bytes(length, "big", signed=True))
    assert value == der.integer(data, element(data))


@pytest.mark.parametrize("content", [b"", b"\x00\x7f", b"\xff\x80", b"\x00\x00"])
def test_integer_that_is_empty_or_not_minimal_is_refused(content):
    data = der.encode(der.INTEGER, content)
    with pytest.raises(DerError):
        der.integer(data, element(data))


def test_boolean_is_only_00_or_ff():
    assert der.boolean(b"\x01\x01\xff", element(b"\x01\x01\xff")) is True
    assert der.boolean(b"\x01\x01\x00", element(b"\x01\x01\x00")) is False
    with pytest.raises(DerError):
        der.boolean(b"\x01\x01\x01", element(b"\x01\x01\x01"))


@pytest.mark.parametrize(
    ("content", "dotted"),
    [
        (b"\x55\x1d\x13", "2.5.29.19"),
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", "1.2.840.113549.1.1.11"),
        (b"\x88\x37", "2.999"),
        (b"\x00", "0.0"),
    ],
)
def test_object_identifier_is_dotted(content, dotted):
    assert dotted == der.dotted(content)


@pytest.mark.parametrize("content", [b"", b"\x55\x9d", b"\x55\x80\x01", b"\x55" * 129])
def test_object_identifier_that_is_malformed_is_refused(content):
    with pytest.raises(DerError):
        der.dotted(content)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x17\x0d490101000000Z", datetime(2049, 1, 1, tzinfo=UTC)),
        (b"\x17\x0d500101000000Z", datetime(1950, 1, 1, tzinfo=UTC)),
        (b"\x18\x0f99991231235959Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (b"\x18\x0f20200229120000Z", datetime(2020, 2, 29, 12, tzinfo=UTC)),
    ],
)
def test_time_is_read(data, expected):
    assert expected == der.time(data, element(data))


@pytest.mark.parametrize(
    "data",
    [
        b"\x17\x0b4901010000Z",  # no seconds
        b"\x17\x11490101000000+0100",
        b"\x18\x1120200101120000.5Z",
        b"\x18\x0f20210229120000Z",  # no such day
        b"\x17\x0d491301000000Z",
        b"\x17\x0d4901010000 0Z",
        b"\x17\x0d49010100000\xb2Z",
        b"\x16\x0d490101000000Z",
        b"\x18\x0f00000101000000Z",
    ],
)
def test_time_of_another_form_is_refused(data):
    with pytest.raises(DerError):
        der.time(data, element(data))


def test_bit_string_with_set_unused_bits_is_refused():
    good, bad = b"\x03\x02\x05\xa0", b"\x03\x02\x05\xa1"
    assert (b"\xa0", 5) == der.bit_string(good, element(good))
    assert frozenset({0, 2}) == der.named_bits(good, element(good))
    with pytest.raises(DerError):
        der.bit_string(bad, element(bad))


@pytest.mark.parametrize("data", [b"\x03\x00", b"\x03\x01\x01", b"\x03\x02\x08\x00"])
def test_bit_string_with_wrong_count_is_refused(data):
    with pytest.raises(DerError):
        der.bit_string(data, element(data))


def test_named_bits_with_trailing_zero_are_refused():
    data = b"\x03\x02\x04\xa0"
    with pytest.raises(DerError):
        der.named_bits(data, element(data))
