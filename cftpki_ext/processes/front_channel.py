"""
The front's end of a channel, in its event loop: never blocks, and keeps what the socket does not take at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable

from cftpki_ext.processes.channel import ROOM_BYTES, advance, close_all, receive, send
from cftpki_ext.processes.frames import Frame, FrameError, FrameReader, encode


class FrontChannel:
    """
    The front's end, in its event loop.

    Args:
        end: a socket that does not block; owned from now on.
        heard: is told of every frame.
        ended: is told once that the channel is over, and why.

    """

    def __init__(
        self, end: socket.socket, *, heard: Callable[[Frame], None], ended: Callable[[str], None]
    ) -> None:
        self._end = end
        self._heard = heard
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._room = bytearray(ROOM_BYTES)
        self._waiting: deque[tuple[list[bytes | memoryview], tuple[int, ...]]] = deque()
        self._open = True
        self._is_writing = False
        self._loop.add_reader(end.fileno(), self._readable)

    @property
    def is_open(self) -> bool:
        """
        Whether frames can still come.
        """
        return self._open

    @property
    def has_unsent(self) -> bool:
        """
        Whether the socket has not yet taken all that was to be sent.
        """
        return bool(self._waiting)

    def send(self, frame: Frame) -> None:
        """
        Send a frame, or keep it until the socket takes it. Its descriptors stay the caller's to close.

        Raises:
            FrameError: it is over a bound.

        """
        pieces: list[bytes | memoryview] = list(encode(frame))
        if not self._open:
            return  # whoever waits for its answer has been told
        descriptors = tuple(os.dup(number) for number in frame.message.descriptors)
        first = not self._waiting
        self._waiting.append((pieces, descriptors))
        if first:
            self._writable()

    def close(self, why: str = "closed") -> None:
        """
        Close; may be called again.
        """
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._end.fileno())
        self._loop.remove_writer(self._end.fileno())
        for _, descriptors in self._waiting:
            close_all(descriptors)
        self._waiting.clear()
        close_all(self._reader.take_descriptors())
        self._end.close()
        self._ended(why)

    def _readable(self) -> None:
        try:
            data, descriptors = receive(self._end, self._room)
        except BlockingIOError:
            return
        except ConnectionError:  # it ended with something of ours unread
            self.close("ended")
            return
        except (OSError, FrameError) as error:
            self.close(str(error))
            return
        if not data:
            close_all(descriptors)
            self.close("ended")
            return
        self._reader.feed(data, descriptors)
        try:
            while self._open and (frame := self._reader.next()) is not None:
                self._heard(frame)
        except FrameError as error:
            self.close(str(error))

    def _writable(self) -> None:
        try:
            while self._waiting:
                pieces, descriptors = self._waiting[0]
                sent = send(self._end, pieces, descriptors)
                close_all(descriptors)
                advance(pieces, sent)
                if pieces:
                    self._waiting[0] = pieces, ()
                else:
                    self._waiting.popleft()
        except BlockingIOError:
            if not self._is_writing:
                self._is_writing = True
                self._loop.add_writer(self._end.fileno(), self._writable)
            return
        except ConnectionError:
            self.close("ended")
            return
        except OSError as error:
            self.close(str(error))
            return
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._end.fileno())
