"""
The chain and CA list formats of the handshake: exact bytes, offsets in errors, and no other way to fail.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.errors import InputError
from cftpki_ext.protocol.tls_vectors import decode_ca_list, decode_chain, encode_ca_list, encode_chain

CAPS = {"max_bytes": 64 * 1024, "max_certificates": 10}


def test_chain_of_two_encodes_to_the_documented_bytes():
    assert bytes.fromhex("000009 000001 aa 000002 bbcc") == encode_chain([b"\xaa", b"\xbb\xcc"])


def test_chain_of_none_is_three_zero_bytes_and_back():
    assert b"\0\0\0" == encode_chain([])
    assert () == decode_chain(b"\0\0\0", **CAPS)


def test_ca_list_begins_with_one_type_rsa_sign():
    assert bytes.fromhex("0101 0004 0002 3000") == encode_ca_list([b"\x30\x00"])


def test_ca_list_of_none_is_empty_and_back():
    assert () == decode_ca_list(bytes.fromhex("01010000"))


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=10))
def test_chain_decode_gives_back_what_was_encoded(certificates):
    assert tuple(certificates) == decode_chain(encode_chain(certificates), **CAPS)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20))
def test_ca_list_decode_gives_back_what_was_encoded(names):
    assert tuple(names) == decode_ca_list(encode_ca_list(names))


@given(st.binary(max_size=80))
def test_chain_of_arbitrary_bytes_decodes_canonically_or_is_an_input_error(data):
    try:
        certificates = decode_chain(data, **CAPS)
    except InputError:
        return
    assert data == encode_chain(certificates)


@given(st.binary(max_size=80).map(lambda tail: b"\x01\x01" + tail))
def test_ca_list_of_arbitrary_bytes_decodes_canonically_or_is_an_input_error(data):
    try:
        names = decode_ca_list(data)
    except InputError:
        return
    assert data == encode_ca_list(names)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "length of the certificate list at offset 0 is cut off"),
        ("0000", "length of the certificate list at offset 0 is cut off"),
        ("000005 000001 aa", "is 5, but 4 bytes follow"),
        ("000003 000001 aa", "is 3, but 4 bytes follow"),
        ("000004 000002 aa", "certificate length at offset 3 is 2, but 1 bytes are left"),
        ("000003 000000", "certificate length at offset 3 is 0"),
        ("000006 000001 aa 0000", "length of the certificate at offset 7 is cut off"),
        ("ffffff", "is 16777215, but 0 bytes follow"),
    ],
)
def test_chain_with_a_wrong_length_names_the_offset(data, message):
    with pytest.raises(InputError, match=message):
        decode_chain(bytes.fromhex(data), **CAPS)


def test_chain_over_the_byte_cap_is_refused_and_at_the_cap_is_not():
    data = encode_chain([b"x" * 94])
    assert 100 == len(data)
    assert 1 == len(decode_chain(data, max_bytes=100, max_certificates=10))
    with pytest.raises(InputError, match="over the limit of 99"):
        decode_chain(data, max_bytes=99, max_certificates=10)


def test_chain_over_the_certificate_cap_is_refused_and_at_the_cap_is_not():
    assert 10 == len(decode_chain(encode_chain([b"x"] * 10), **CAPS))
    with pytest.raises(InputError, match="more than 10 certificate entries at offset 43"):
        decode_chain(encode_chain([b"x"] * 11), **CAPS)


@pytest.mark.parametrize("data", ["", "01", "0102 0000", "0201 0000"])
def test_ca_list_of_another_type_is_refused(data):
    with pytest.raises(InputError, match="where 0101 is needed"):
        decode_ca_list(bytes.fromhex(data))


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="does not fit"):
        encode_ca_list([b"x" * 65536])
    with pytest.raises(InputError, match="does not fit"):
        encode_ca_list([b"x" * 40000, b"x" * 40000])
    with pytest.raises(InputError, match="of 0 bytes"):
        encode_chain([b""])
