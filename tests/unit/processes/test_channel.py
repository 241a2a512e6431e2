"""
A child's end of its channel: what it tells by itself never waits, and never comes in parts.
"""

import pytest

from cftpki_ext.processes.channel import ChildChannel, pair
from cftpki_ext.processes.frames import Frame, FrameReader, Kind, Message, encode


@pytest.fixture
def ends():
    front, child = pair()
    yield front, child
    front.close()
    child.close()


def frames(front):
    """
    Every frame that can be read now.
    """
    reader, found = FrameReader(), []
    while True:
        try:
            reader.feed(front.recv(1 << 20))
        except BlockingIOError:
            return found
        found += iter(reader.next, None)


def test_note_to_a_front_that_does_not_read_is_left_out(ends):
    front, child = ends
    channel = ChildChannel(child)
    sent = 0
    while channel.note(Message({"number": sent, "more": "x" * 3000})):
        sent += 1
    assert sent > 10
    told = frames(front)
    assert [(Kind.NOTE, number) for number in range(sent)] == [
        (f.kind, f.message.value["number"]) for f in told
    ]
    assert channel.note(Message({"number": sent}))
    assert [sent] == [f.message.value["number"] for f in frames(front)]


def test_frame_that_came_with_another_is_waiting(ends):
    front, child = ends
    channel = ChildChannel(child)
    calls = [Frame(Kind.CALL, number, Message()) for number in (1, 2)]
    assert not channel.is_waiting()
    front.sendall(b"".join(piece for call in calls for piece in encode(call)))
    assert calls[0] == channel.receive()
    assert channel.is_waiting()
    assert calls[1] == channel.receive()
    assert not channel.is_waiting()
    assert child.fileno() == channel.fileno()
