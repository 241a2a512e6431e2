"""
How the signers' sockets are called: the same in Python, in C and in docs/protocol.md.
"""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cftpki_ext.core.errors import WireError
from cftpki_ext.protocol.codec import Frame, Message, Tag, decode, encode
from cftpki_ext.protocol.door import (
    MAX_REQUEST_BYTES,
    crypt_answer,
    door_path,
    leaf_reference,
    request_of,
)

ROOT = Path(__file__).resolve().parents[3]
VECTORS = {
    b"": 0xAF63BD4C29620A93,
    b"0": 0x68915A6A394B996C,
    bytes(range(8)): 0xDEFDFCA5DEC27AF3,
    bytes(range(256)) * 5 + b"end": 0x81202FC0BE85B3DF,
}


def test_reference_is_that_of_the_document_and_of_the_c_tests():
    document = (ROOT / "docs/protocol.md").read_text()
    native = (ROOT / "native/tests/test_door.c").read_text()
    for octets, reference in VECTORS.items():
        assert f"{reference:016x}" == f"{leaf_reference(octets):016x}"
        assert f"{reference:016x}" in native
    assert all(f"{reference:016x}" in document for reference in list(VECTORS.values())[:3])


@pytest.mark.parametrize("octets", [b"a", b"a" * 8, b"a" * 1000])
def test_octets_that_differ_have_other_references(octets):
    others = {leaf_reference(octets + bytes(n)) for n in range(20)}
    others |= {leaf_reference(octets[:n] + b"b" + octets[n + 1 :]) for n in range(len(octets))}
    assert 20 + len(octets) == len(others)


def test_path_is_in_the_folder_beside_the_socket():
    assert Path("/run/cftpki/cftpki.sock.d/00000000000000ff") == door_path(
        Path("/run/cftpki/cftpki.sock"), 255
    )


def test_longest_request_is_what_is_read():
    fields = {Tag.SESSION: 1, Tag.CRYPT_SCHEME: 0, Tag.CRYPT_INPUT: bytes(4096)}
    assert MAX_REQUEST_BYTES == len(
        encode(Frame(Message.CRYPT_DATA, response=False, sequence=1, fields=fields))
    )


@pytest.mark.parametrize("tag", [Tag.CRYPT_OUTPUT, Tag.CRYPT_KEY])
def test_answer_is_what_the_codec_writes(tag):
    frame = Frame(
        Message.CRYPT_DATA, response=True, sequence=2**32 - 1, fields={Tag.RESULT: 1, tag: b"octets"}
    )
    assert encode(frame) == crypt_answer(2**32 - 1, tag, b"octets")


WHOLE = encode(
    Frame(
        Message.CRYPT_DATA,
        response=False,
        sequence=3,
        fields={Tag.SESSION: 7, Tag.CRYPT_SCHEME: 0x0401, Tag.CRYPT_INPUT: b"digest"},
    )
)


def by_codec(raw):
    try:
        decoded = decode(raw)
    except WireError:
        return "refused"
    if decoded is None:
        return None
    frame, size = decoded
    if size != len(raw) or frame.message is not Message.CRYPT_DATA or frame.response:
        return "refused"
    return frame.sequence, *(frame.fields[tag] for tag in (Tag.SESSION, Tag.CRYPT_SCHEME, Tag.CRYPT_INPUT))


def by_door(raw):
    try:
        request = request_of(raw)
    except WireError:
        return "refused"
    return request and (request.sequence, request.session, request.scheme, request.data)


@settings(max_examples=300, deadline=None)
@given(
    at=st.integers(0, len(WHOLE) - 1),
    octet=st.integers(0, 255),
    end=st.integers(0, 3),
    more=st.binary(max_size=3),
)
def test_request_is_read_as_by_the_codec(at, octet, end, more):
    assert (3, 7, 0x0401, b"digest") == by_door(WHOLE)
    raw = (WHOLE[:at] + bytes([octet]) + WHOLE[at + 1 :])[: len(WHOLE) - end] + more
    found, known = by_door(raw), by_codec(raw)
    # A signer refuses more, and earlier; what it takes is what the codec reads.
    assert known == found or (found == "refused" and known is None)


def test_every_beginning_of_a_request_waits_for_more():
    assert [None] * len(WHOLE) == [by_door(WHOLE[:size]) for size in range(len(WHOLE))]


def test_size_in_the_document():
    document = (ROOT / "docs/protocol.md").read_text()
    assert re.search(rf"\b{MAX_REQUEST_BYTES} bytes", document)
