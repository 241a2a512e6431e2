"""The frame codec: round trips, and every way in which bytes are no frame."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.errors import WireError
from cftpki_ext.protocol.c_header import c_header
from cftpki_ext.protocol.codec import (
    FIELD,
    FIELDS,
    HEADER,
    MAX_PAYLOAD,
    MESSAGES,
    RESULTS,
    VERSION,
    FieldType,
    Frame,
    Message,
    Result,
    Tag,
    WireVersionError,
    clip,
    decode,
    decode_header,
    encode,
)

ROOT = Path(__file__).resolve().parents[3]


def values(tag: Tag) -> st.SearchStrategy[int | str | bytes]:
    field = FIELDS[tag]
    if field.type in {FieldType.U32, FieldType.U64}:
        return st.integers(field.least, field.most)
    if field.type is FieldType.TEXT:
        alphabet = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
        return st.text(alphabet, max_size=min(field.cap // 4, 40))
    return st.binary(max_size=min(field.cap, 200))


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    message = draw(st.sampled_from(Message))
    response = message is Message.UNREADABLE or draw(st.booleans())
    fields: dict[Tag, int | str | bytes] = {}
    if response:
        result = Result.FAILED if message is Message.UNREADABLE else draw(st.sampled_from(Result))
        row = MESSAGES[message]
        required, optional = RESULTS.get(result, (row.response, row.response_optional))
        fields[Tag.RESULT] = int(result)
    else:
        required, optional = MESSAGES[message].request, MESSAGES[message].request_optional
    for tag in required + tuple(tag for tag in optional if draw(st.booleans())):
        fields[tag] = draw(values(tag))
    return Frame(message, response, draw(st.integers(0, 2**32 - 1)), fields)


def raw(message: int, payload: bytes, *, version: int = VERSION, magic: bytes = b"CP") -> bytes:
    return HEADER.pack(magic, version, message, 7, len(payload)) + payload


def field(tag: int, value: bytes) -> bytes:
    return FIELD.pack(tag, len(value)) + value


END_TASK = field(Tag.TASK, bytes(7) + b"\x05")


@given(frames())
def test_frame_encoded_and_decoded_is_the_same(frame):
    encoded = encode(frame)
    assert (frame, len(encoded)) == decode(encoded)


@given(frames(), st.data())
def test_frame_cut_anywhere_needs_more(frame, data):
    encoded = encode(frame)
    assert decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))]) is None


@given(frames(), st.binary(max_size=30))
def test_frame_followed_by_more_takes_only_its_own_bytes(frame, more):
    encoded = encode(frame)
    assert (frame, len(encoded)) == decode(encoded + more)


@given(st.binary(max_size=300))
def test_garbage_decodes_to_nothing_or_wire_error(data):
    try:
        result = decode(data)
    except WireError:
        return
    assert result is None or encode(result[0]) == data[: result[1]]


@given(frames(), st.data())
def test_frame_with_one_byte_changed_never_raises_anything_else(frame, data):
    changed = bytearray(encode(frame))
    index = data.draw(st.integers(0, len(changed) - 1))
    changed[index] ^= data.draw(st.integers(1, 255))
    try:
        result = decode(bytes(changed))
    except WireError:
        return
    assert result is None or encode(result[0]) == bytes(changed[: result[1]])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (raw(10, END_TASK, magic=b"PC"), "does not start with b'CP'"),
        (raw(99, b""), "unknown message 99"),
        (raw(127, b""), "message 127 is never a request"),
        (raw(10, field(Tag.TASK, bytes(8))), "TASK is 0, 1 to 18446744073709551615 allowed"),
        (raw(10, b""), "END_TASK without TASK"),
        (raw(10, END_TASK + field(99, b"")), "unknown tag 99"),
        (raw(10, END_TASK + END_TASK), "tag 7 after tag 7"),
        (raw(10, field(Tag.HOST_TASK, bytes(8)) + END_TASK), "tag 7 after tag 30"),
        (raw(10, field(Tag.RESULT, b"\0\0\0\1") + END_TASK), "END_TASK does not take RESULT"),
        (raw(10, field(Tag.TASK, b"\1")), "TASK of 1 bytes, 8 expected"),
        (raw(10, field(Tag.TASK, bytes(9))), "TASK of 9 bytes, 8 allowed"),
        (raw(10, END_TASK[:-1]), "payload ends inside TASK"),
        (raw(10, END_TASK + b"\0"), "payload ends inside a field's head"),
        (raw(10 | 0x80, b""), "END_TASK response without RESULT"),
        (raw(127 | 0x80, field(1, b"\0\0\0\1")), "UNREADABLE response with DONE"),
        (raw(10 | 0x80, field(1, b"\0\0\0\5")), "RESULT is 5, 1 to 4 allowed"),
        (raw(10 | 0x80, field(1, b"\0\0\0\4")), "END_TASK without ALERT, DETAIL"),
        (raw(16, field(8, b"\0\0\0\1") + field(9, b"a\0b") + field(17, b"")), "PROFILE contains a NUL"),
        (raw(16, field(8, b"\0\0\0\1") + field(9, b"\xff") + field(17, b"")), "PROFILE is not UTF-8"),
        (raw(16, field(8, b"\0\0\0\3") + field(17, b"")), "MODE is 3, 1 to 2 allowed"),
        (raw(16, field(8, b"\0\0\0\1") + field(9, b"p" * 65)), "PROFILE of 65 bytes, 64 allowed"),
        (
            HEADER.pack(b"CP", VERSION, 10, 0, MAX_PAYLOAD + 1),
            f"payload of {MAX_PAYLOAD + 1} bytes, {MAX_PAYLOAD} allowed",
        ),
        (b"G", "does not start with b'CP'"),
    ],
)
def test_decode_broken_frame_names_what_is_wrong(data, words):
    with pytest.raises(WireError) as caught:
        decode(data)
    assert words in str(caught.value)


def test_decode_largest_payload_is_waited_for():
    assert decode(HEADER.pack(b"CP", VERSION, 10, 0, MAX_PAYLOAD)) is None


def test_header_of_other_version_keeps_its_sequence_for_the_answer():
    with pytest.raises(WireVersionError) as caught:
        decode_header(struct.pack(">2sBBII", b"CP", 2, 200, 42, 2**32 - 1))
    assert (2, 42) == (caught.value.version, caught.value.sequence)
    assert f"this side speaks version {VERSION}" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "END_TASK without TASK"),
        ({Tag.TASK: 0}, "TASK is 0"),
        ({Tag.TASK: 2**64}, "TASK is 18446744073709551616"),
        ({Tag.TASK: b"12345678"}, "TASK is bytes, u64 expected"),
        ({Tag.TASK: 1, Tag.DETAIL: "x"}, "END_TASK does not take DETAIL"),
    ],
)
def test_encode_wrong_fields_is_refused(fields, words):
    with pytest.raises(WireError) as caught:
        encode(Frame(Message.END_TASK, response=False, sequence=0, fields=fields))
    assert words in str(caught.value)


def test_encode_value_above_its_cap_is_refused():
    with pytest.raises(WireError, match="CHAIN of 131073 bytes, 131072 allowed"):
        encode(
            Frame(
                Message.CHECK,
                response=False,
                sequence=0,
                fields={Tag.MODE: 1, Tag.CHAIN: bytes(128 * 1024 + 1)},
            )
        )


@given(st.text())
def test_clip_any_text_fits_its_field(text):
    fields = {Tag.RESULT: 4, Tag.ALERT: 80, Tag.DETAIL: clip(Tag.DETAIL, text * 50)}
    assert decode(encode(Frame(Message.UNREADABLE, response=True, sequence=0, fields=fields))) is not None


def test_clip_surrogate_becomes_a_question_mark():
    assert "a?b" == clip(Tag.DETAIL, "a\ud800b")


def test_tables_every_message_and_tag_has_its_row():
    assert set(Message) == set(MESSAGES)
    assert set(Tag) == set(FIELDS)


def test_c_header_committed_copy_is_what_the_tables_say():
    assert c_header() == (ROOT / "native/include/cftpki_wire.h").read_text()


def test_c_header_module_prints_it():
    printed = subprocess.run(
        [sys.executable, "-m", "cftpki_ext.protocol.codec"], check=True, capture_output=True, text=True
    )
    assert c_header() == printed.stdout


def test_c_header_compiles_without_any_other(tmp_path):
    source = tmp_path / "t.c"
    source.write_text('#include "cftpki_wire.h"\nint main(void) { return CFTPKI_WIRE_TAG_JSON - 34; }\n')
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{ROOT}/native/include"]
    subprocess.run(["cc", *flags, str(source), "-o", str(tmp_path / "t")], check=True)
    assert 0 == subprocess.run([str(tmp_path / "t")], check=False).returncode
