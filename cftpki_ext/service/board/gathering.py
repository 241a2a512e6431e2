"""
The thread that empties the socket by which hosts tell of sessions, and hands over what came in a while.

Owns that thread. The socket's queue is short, and a host waits while it is full; the event loop is woken once for many
datagrams, and not for each. What is handed over and not yet taken is bounded: then the queue fills, and hosts wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence

from cftpki_ext.service.board.told import MAX_OCTETS

# How long after a datagram others are waited for: a record and a line of the log come so much later.
WINDOW_S = 0.05
# Datagrams of one time.
MOST = 256
# Times that are handed over and not yet taken.
_AHEAD = 4
# After an error of the socket.
_PAUSE_S = 0.1
_NOBODY = 0xFFFF_FFFF
_HEAD = struct.Struct("=II")
_PLACE = _HEAD.size + MAX_OCTETS + 4

# Octets as they came, one more than `MAX_OCTETS` where they were longer; and the user id, by the kernel's word.
Datagram = tuple[bytes, int | None]


class Gatherer:
    """
    Empties one socket. Begun and ended in one event loop, to which everything is handed.

    Args:
        library: of `native.load`.
        bound: the socket, which does not block; it stays the caller's.
        hear: takes what came, in the event loop.
        failed: is told of errors of the socket, in the event loop.

    """

    def __init__(
        self,
        library: ctypes.CDLL,
        bound: socket.socket,
        *,
        hear: Callable[[Sequence[Datagram]], None],
        failed: Callable[[str], None],
    ) -> None:
        self._gather = library.cftpki_board_gather
        self._bound = bound
        self._hear = hear
        self._failed = failed
        self._room = ctypes.create_string_buffer(MOST * _PLACE)
        self._found: deque[list[Datagram] | str] = deque()
        self._free = threading.Semaphore(_AHEAD)
        self._stopping = threading.Event()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="board sessions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """
        End the thread, and hand over what it had. The socket is not read any more; see `rest`.
        """
        if self._stopping.is_set():
            return
        self._stopping.set()
        os.eventfd_write(self._stop, 1)
        self._free.release()
        self._thread.join()
        os.close(self._stop)
        self._deliver()

    def rest(self) -> bool:
        """
        Hand over what is in the socket's queue, once it is stopped; whether there was anything.
        """
        found = self._take(-1, 0)
        if isinstance(found, str):
            self._failed(found)
            return False
        if found:
            self._hear(found)
        return bool(found)

    def _run(self) -> None:
        while True:
            self._free.acquire()
            if self._stopping.is_set():
                return
            found = self._take(self._stop, int(WINDOW_S * 1000))
            self._found.append(found)
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                return  # the loop is closed: nobody accounts for anything any more
            if isinstance(found, str):
                self._stopping.wait(_PAUSE_S)

    def _take(self, stop: int, window_ms: int) -> list[Datagram] | str:
        """
        What came; or what went wrong.
        """
        count = self._gather(self._bound.fileno(), stop, self._room, MOST, window_ms)
        if count < 0:
            return os.strerror(-count)
        view = memoryview(self._room)
        found: list[Datagram] = []
        for at in range(0, count * _PLACE, _PLACE):
            user, length = _HEAD.unpack_from(view, at)
            begin = at + _HEAD.size
            found.append((view[begin : begin + length].tobytes(), None if user == _NOBODY else user))
        return found

    def _deliver(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                found = self._found.popleft()
                self._free.release()
                if isinstance(found, str):
                    self._failed(found)
                elif found:
                    self._hear(found)
