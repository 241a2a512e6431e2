"""
The channel between front and child: a pair of sockets, and the child's end of it, which blocks.

Owns how octets and descriptors go through a socket. A channel that breaks is never mended: the process at its other
end is replaced. The front's end is `front_channel`.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import threading
from collections.abc import Sequence

from cftpki_ext.processes.frames import MAX_DESCRIPTORS, Frame, FrameError, FrameReader, Kind, Message, encode

ROOM_BYTES = 64 * 1024
_ANCILLARY_BYTES = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
# Frames of a megabyte go through in one piece where the system allows it.
_BUFFER_BYTES = 1024 * 1024
# sendmsg(2) takes 1024 pieces at once (UIO_MAXIOV).
_PIECES = 512


def pair() -> tuple[socket.socket, socket.socket]:
    """
    The two ends of a new channel: the front's, which does not block, and the child's.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    ours.settimeout(0)
    return ours, theirs


def receive(end: socket.socket, room: bytearray) -> tuple[memoryview, tuple[int, ...]]:
    """
    What has come, with its descriptors (close-on-exec).

    Args:
        end: the socket.
        room: what is received into; a new one for each call would be mapped and unmapped again each time.

    Returns:
        The octets, which stand in `room`, and the descriptors.

    Raises:
        OSError: nothing has come to a socket that does not block, or it is broken.
        FrameError: descriptors were lost.

    """
    size, ancillary, flags, _ = end.recvmsg_into([room], _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
    data = memoryview(room)[:size]
    if not ancillary and not flags:
        return data, ()
    numbers = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    if flags & socket.MSG_CTRUNC:
        close_all(numbers)
        msg = "descriptors were lost on the way: this process has too many open"
        raise FrameError(msg)
    return data, tuple(numbers)


def send(end: socket.socket, pieces: Sequence[bytes | memoryview], descriptors: Sequence[int]) -> int:
    """
    Send as much as the socket takes at once; the descriptors go with the first octet.

    Returns:
        How many octets were taken.

    """
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    return end.sendmsg(pieces[:_PIECES], rights)


def close_all(descriptors: Sequence[int]) -> None:
    """
    Close descriptors; one that is closed already is no trouble.
    """
    for number in descriptors:
        with contextlib.suppress(OSError):
            os.close(number)


class ChildChannel:
    """
    The child's end: one frame after the other. Any thread may send.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._reader = FrameReader()
        self._room = bytearray(ROOM_BYTES)
        self._sending = threading.Lock()
        self._next: Frame | None = None

    def fileno(self) -> int:
        """
        The descriptor that something can be read from once there is more to `receive`, unless it `is_waiting`.
        """
        return self._end.fileno()

    def is_waiting(self) -> bool:
        """
        Whether `receive` has a whole frame already.

        Raises:
            FrameError: what came is no frame.

        """
        if self._next is None:
            self._next = self._reader.next()
        return self._next is not None

    def receive(self) -> Frame | None:
        """
        The next frame; `None` once the front has closed its end.

        Raises:
            FrameError: what came is no frame.

        """
        while True:
            if self.is_waiting():
                frame, self._next = self._next, None
                return frame
            try:
                data, descriptors = receive(self._end, self._room)
            except ConnectionError:
                return None
            if not data:
                close_all(descriptors)
                return None
            self._reader.feed(data, descriptors)

    def send(self, frame: Frame) -> None:
        """
        Send a frame, whole.

        Raises:
            FrameError: it is over a bound.
            OSError: the front is gone.

        """
        pieces: list[bytes | memoryview] = list(encode(frame))
        descriptors = frame.message.descriptors
        with self._sending:
            while pieces:
                sent = send(self._end, pieces, descriptors)
                descriptors = ()
                advance(pieces, sent)

    def note(self, message: Message) -> bool:
        """
        Tell the front something that it did not ask for, unless it is so far behind that this would have to wait.

        Args:
            message: without descriptors, and small: what the kernel takes of it, it takes whole.

        Returns:
            Whether it was sent.

        Raises:
            FrameError: it is over a bound.
            OSError: the front is gone.

        """
        pieces: list[bytes | memoryview] = list(encode(Frame(Kind.NOTE, 0, message)))
        with self._sending:
            try:
                advance(pieces, self._end.sendmsg(pieces, (), socket.MSG_DONTWAIT))
            except BlockingIOError:
                return False
            while pieces:  # a part of a frame would be the end of the channel
                advance(pieces, send(self._end, pieces, ()))
        return True


def advance(pieces: list[bytes | memoryview], sent: int) -> None:
    """
    Drop what was sent.
    """
    done = 0
    for piece in pieces:
        if sent < len(piece):
            break
        sent -= len(piece)
        done += 1
    del pieces[:done]
    if sent:
        pieces[0] = memoryview(pieces[0])[sent:]
