"""
Frames between processes: what is sent comes out, in whatever pieces it arrives; anything else is an error.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.processes.frames import (
    MAX_DESCRIPTORS,
    MAX_FRAME_BYTES,
    MAX_PARTS,
    Frame,
    FrameError,
    FrameReader,
    Kind,
    Message,
    encode,
)

VALUES = st.dictionaries(
    st.text(max_size=8),
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.integers()),
)
FRAMES = st.builds(
    Frame,
    st.sampled_from(Kind),
    st.integers(0, 2**64 - 1),
    st.builds(Message, VALUES, st.lists(st.binary(max_size=50), max_size=4).map(tuple)),
)


def written(frame):
    return b"".join(encode(frame))


@given(st.lists(FRAMES, max_size=4), st.integers(1, 60))
def test_frames_come_out_as_they_went_in_whatever_the_pieces(frames, size):
    raw = b"".join(map(written, frames))
    reader, found = FrameReader(), []
    for begin in range(0, len(raw), size):
        reader.feed(raw[begin : begin + size])
        while (frame := reader.next()) is not None:
            found.append(frame)
    assert frames == found


@given(st.binary(max_size=300))
def test_any_octets_are_a_frame_more_to_come_or_an_error(raw):
    reader = FrameReader()
    reader.feed(raw)
    try:
        while reader.next() is not None:
            pass
    except FrameError:
        return


def test_descriptors_go_with_their_frame():
    first = Frame(Kind.CALL, 1, Message({}, (), (7, 8)))
    second = Frame(Kind.CALL, 2, Message({}, (), (9,)))
    reader = FrameReader()
    reader.feed(written(first) + written(second), (17, 18, 19))
    assert (17, 18) == reader.next().message.descriptors
    assert (19,) == reader.next().message.descriptors
    assert () == reader.take_descriptors()


def test_descriptors_that_did_not_come_are_an_error():
    reader = FrameReader()
    reader.feed(written(Frame(Kind.CALL, 1, Message({}, (), (7, 8)))), (17,))
    with pytest.raises(FrameError, match="2 descriptors announced, 1 came"):
        reader.next()
    assert (17,) == reader.take_descriptors()


@pytest.mark.parametrize(
    "message",
    [
        Message({}, (b"x" * (MAX_FRAME_BYTES + 1),)),
        Message({}, (b"",) * (MAX_PARTS + 1)),
        Message({}, (), (0,) * (MAX_DESCRIPTORS + 1)),
        Message({"text": "x" * MAX_FRAME_BYTES}),
    ],
)
def test_encode_over_a_bound_is_an_error(message):
    with pytest.raises(FrameError):
        encode(Frame(Kind.CALL, 1, message))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda raw: b"\xff" + raw[1:], "frame of 42"),
        (lambda raw: raw[:7] + b"\x09" + raw[8:], "kind 9"),
        (lambda raw: raw[:16] + b"[]", "value is list"),
        (lambda raw: raw[:16] + b"{x", "cannot be read"),
        (lambda raw: raw[:16] + b"\xff\xff", "cannot be read"),
    ],
)
def test_octets_that_are_no_frame_are_an_error(change, told):
    raw = written(Frame(Kind.CALL, 1, Message({})))
    reader = FrameReader()
    reader.feed(change(raw))
    with pytest.raises(FrameError, match=told):
        reader.next()


def test_part_longer_than_a_frame_is_an_error_before_it_is_waited_for():
    raw = written(Frame(Kind.CALL, 1, Message({}, (b"x",))))
    reader = FrameReader()
    reader.feed(raw[:16] + (MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(FrameError):
        reader.next()
