"""
A small service on a unix socket that speaks the wire and can misbehave, for tests of the exit library.

Owns threads and sockets of one test. Knows nothing of PKI: it answers as it is told to.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from cftpki_ext.protocol.codec import Frame, Message, Result, Tag, Value, decode, encode
from tests.support.pace import LATE_S

ALL_PHASES = 0x7FE
CHAIN = bytes.fromhex("000005 000002 3000")
CA_LIST = bytes.fromhex("0101 0004 0002 3000")

DEFAULTS: Mapping[Message, Mapping[Tag, Value]] = {
    Message.START_TASK: {
        Tag.RESULT: Result.DONE,
        Tag.TASK: 9,
        Tag.PHASE_MASK: ALL_PHASES,
        Tag.TIMEOUT_MS: 5000,
        Tag.UNREACHABLE: Result.REFUSED,
    },
    Message.START_HANDSHAKE: {
        Tag.RESULT: Result.DONE,
        Tag.SESSION: 5,
        Tag.RULE: "partners",
        Tag.PHASE_MASK: ALL_PHASES,
    },
    Message.GET_CA_LIST: {Tag.RESULT: Result.DONE, Tag.CA_LIST: CA_LIST},
    Message.GET_CERTIFICATE: {Tag.RESULT: Result.DONE, Tag.CHAIN: CHAIN},
    Message.CHECK_CERTIFICATE: {Tag.RESULT: Result.DONE, Tag.VERDICT_ID: "v-1"},
    Message.CRYPT_DATA: {Tag.RESULT: Result.DONE, Tag.CRYPT_OUTPUT: b"signature"},
    Message.HANDSHAKE_ALERT: {Tag.RESULT: Result.DONE},
    Message.HANDSHAKE_DONE: {Tag.RESULT: Result.DONE, Tag.GLOBAL_AREA: bytes(range(64))},
    Message.END_SESSION: {Tag.RESULT: Result.DONE},
    Message.END_TASK: {Tag.RESULT: Result.DONE},
}

NOT_HANDLED: Mapping[Tag, Value] = {Tag.RESULT: Result.NOT_HANDLED}
HANG_UP = object()

# What a phase's request gets: fields, raw bytes, HANG_UP, or a function that does what it likes.
Reply = Mapping[Tag, Value] | bytes | object | Callable[["FakeService", socket.socket, Frame], None]


def refused(alert: int) -> Mapping[Tag, Value]:
    """
    The fields of a refusal with this alert.
    """
    return {
        Tag.RESULT: Result.REFUSED,
        Tag.ALERT: alert,
        Tag.REASON: "revoked",
        Tag.DETAIL: "the partner's certificate",
    }


def answer(request: Frame, fields: Mapping[Tag, Value], *, sequence: int | None = None) -> bytes:
    """
    The frame that answers a request; `sequence` only to answer another one.
    """
    return encode(
        Frame(
            request.message,
            response=True,
            sequence=request.sequence if sequence is None else sequence,
            fields=fields,
        )
    )


class FakeService:
    """
    Listens from `with` on; `frames` is what it has heard, in order, of all connections.
    """

    def __init__(self, path: Path, replies: Mapping[Message, Reply] | None = None) -> None:
        self.path = path
        self.replies: dict[Message, Reply] = {**DEFAULTS, **(replies or {})}
        self.frames: list[Frame] = []
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._more = threading.Condition(self._lock)
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._start(self._accept, self._listener)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """
        Close everything and forget the socket, as a killed service does.
        """
        self.stopping.set()
        assert self._listener is not None
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections, threads = list(self._connections), list(self._threads)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        self.path.unlink(missing_ok=True)

    def heard(self) -> list[Message]:
        """
        The messages heard so far.
        """
        with self._lock:
            return [frame.message for frame in self.frames]

    def told(self, message: Message, *, after: int = 0, times: int = 1) -> list[Message]:
        """
        The messages from number `after` on, once `message` is among them `times` times: what nobody is answered to
        (HandshakeDone, HandshakeAlert, EndSession) is heard some time after the call that told it has returned.
        """
        with self._more:
            self._more.wait_for(lambda: self._count(message, after) >= times, timeout=LATE_S)
            return [frame.message for frame in self.frames[after:]]

    def _count(self, message: Message, after: int) -> int:
        return sum(frame.message is message for frame in self.frames[after:])

    def _start(self, target: Callable[[socket.socket], None], argument: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(argument,), daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        buffer = b""
        with connection, contextlib.suppress(OSError):
            while not self.stopping.is_set():
                found = decode(buffer)
                if found is None:
                    more = connection.recv(65536)
                    if not more:
                        return
                    buffer += more
                    continue
                frame, used = found
                buffer = buffer[used:]
                with self._more:
                    self.frames.append(frame)
                    self._more.notify_all()
                if not self._reply(connection, frame):
                    return

    def _reply(self, connection: socket.socket, frame: Frame) -> bool:
        reply = self.replies[frame.message]
        if reply is HANG_UP:
            return False
        if isinstance(reply, bytes):
            connection.sendall(reply)
        elif isinstance(reply, Mapping):
            connection.sendall(answer(frame, reply))
        else:
            assert callable(reply)
            reply(self, connection, frame)
        return True
