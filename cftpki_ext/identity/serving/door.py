"""
The signer's own sockets: hosts ask CryptData here, and the front is told afterwards.

Owns the connections of hosts: who may speak (SO_PEERCRED), for how long, in which turn. A request is the one small frame
of CryptData, decoded by the wire's codec under a cap; what is signed is judged by `keys` like any other. For one thread:
it serves hosts while the front has nothing to say.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import socket
import struct
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cftpki_ext.core.alerts import Alert
from cftpki_ext.core.errors import CftPkiError, InputError, WireError
from cftpki_ext.core.values import dataclass
from cftpki_ext.processes.channel import ChildChannel
from cftpki_ext.processes.frames import Message as Note
from cftpki_ext.protocol.codec import Frame, Message, Result, Tag, Value, WireVersionError, clip, encode
from cftpki_ext.protocol.door import MAX_REQUEST_BYTES, Request, crypt_answer, request_of

# Of one identity, at once: handshakes that wait for its key. Whoever finds no room asks the service.
MAX_CONNECTIONS = 128
# The library sends its request in the moment in which it connects.
REQUEST_S = 1.0
# A host that has waited so long may have given up; it is looked at before it is signed for.
_MAY_HAVE_LEFT_S = 0.05
# What was signed is told to the front so many at a time, or after so long: it costs the front one reading.
NOTES_AT_ONCE = 64
NOTE_AFTER_S = 0.05
# While the front does not read: what is beyond that is only counted.
MAX_NOTES = 4096
_MAX_STRANGERS = 16
# Where nobody can be let in, before it is tried again.
_PAUSE_S = 0.02
# Whoever may not connect fills no log.
STRANGERS_TOLD_S = 10.0
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
COUNTER = struct.Struct("<Q")
# What a key gives for a scheme and its input: a signature, or itself.
Use = Callable[[str, int, bytes], tuple[Tag, bytes]]


@dataclass(slots=True, eq=False)
class _Place:
    """
    One socket: the key that signs there, and its generation.
    """

    listener: socket.socket
    key: str
    generation: int


@dataclass(slots=True, eq=False)
class _Connection:
    end: socket.socket
    uid: int
    place: _Place
    since_s: float
    received: bytes = b""
    request: Request | None = None
    is_polled: bool = False


class Door:
    """
    Serves hosts at sockets that the front made. For one thread.

    Args:
        use: uses a key.
        clock: monotonic seconds.
        peer: whose a connection is.

    """

    def __init__(
        self,
        use: Use,
        *,
        clock: Callable[[], float] = time.monotonic,
        peer: Callable[[socket.socket], int] | None = None,
    ) -> None:
        self._use = use
        self._clock = clock
        self._peer = _peer if peer is None else peer
        self._poll = select.epoll()
        self._places: dict[int, _Place] = {}
        self._users: frozenset[int] = frozenset()
        self._connections: OrderedDict[int, _Connection] = OrderedDict()  # the oldest first
        # Whole requests, by user in the order of their turns.
        self._ready: OrderedDict[int, deque[_Connection]] = OrderedDict()
        self._counter: mmap.mmap | None = None
        self._total = 0
        self._failed = 0
        self._notes: deque[tuple[int, int, int, int, str]] = deque(maxlen=MAX_NOTES)
        self._strangers: Counter[int] = Counter()
        self._strangers_at_s = 0.0  # when they may be told of again
        self._note_at_s: float | None = None
        self._channel = -1

    def replace(self, call: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        """
        Listen at these sockets from now on, and at no others. Requests that have come are still answered.

        Args:
            call: `doors`, the key and the generation of each; `users`, the user ids that may speak.
            descriptors: memory with the count of uses, then a listening socket of each; they stay the caller's.

        """
        for place in self._places.values():
            self._poll.unregister(place.listener)
            place.listener.close()
        self._places = {}
        self._users = frozenset(call["users"])
        if descriptors and self._counter is None:
            self._counter = mmap.mmap(descriptors[0], mmap.PAGESIZE)
            (self._total,) = COUNTER.unpack_from(self._counter)
        for door, number in zip(call["doors"], descriptors[1:], strict=True):
            listener = socket.socket(fileno=os.dup(number))
            listener.setblocking(False)  # noqa: FBT003 - socket's own
            place = _Place(listener, door["key"], door["generation"])
            self._places[listener.fileno()] = place
            self._poll.register(listener, select.EPOLLIN)

    def attend(self, channel: ChildChannel) -> None:
        """
        Serve hosts until the front has something to say.

        Args:
            channel: to the front.

        """
        if self._channel != channel.fileno():
            self._channel = channel.fileno()
            self._poll.register(self._channel, select.EPOLLIN)
        while not channel.is_waiting():
            is_called = self._hear()
            self._serve()
            self._tell(channel)
            if is_called:
                return

    def close(self) -> None:
        """
        Serve nobody any more.
        """
        for connection in list(self._connections.values()):
            self._hang_up(connection)
        self.replace({"doors": (), "users": ()}, ())
        self._poll.close()
        if self._counter is not None:
            self._counter.close()

    def _hear(self) -> bool:
        """
        Take what has come, or wait for it; whether the front has something to say.
        """
        is_called = False
        for number, _ in self._poll.poll(self._patience_s()):
            if number == self._channel:
                is_called = True
            elif (place := self._places.get(number)) is not None:
                self._accept(place)
            elif (connection := self._connections.get(number)) is not None:
                self._read(connection)
        self._expire()
        return is_called

    def _patience_s(self) -> float:
        if self._ready:
            return 0
        ends = [] if self._note_at_s is None else [self._note_at_s]
        if self._connections:
            ends.append(next(iter(self._connections.values())).since_s + REQUEST_S)
        return max(0.0, min(ends) - self._clock()) if ends else -1

    def _expire(self) -> None:
        """
        Hang up on those who connected and do not ask.
        """
        if not self._connections:
            return
        before_s = self._clock() - REQUEST_S
        silent = [c for c in self._connections.values() if c.request is None and c.since_s < before_s]
        for connection in silent:
            self._hang_up(connection)

    def _accept(self, place: _Place) -> None:
        """
        Everyone who waits: turns go by user, and not by who was first in the kernel's queue.
        """
        for _ in range(MAX_CONNECTIONS):
            try:
                end, _ = place.listener.accept()
            except BlockingIOError:
                return
            except OSError:
                # No descriptor, or whoever connected is gone again. Only the latter is to be gone on after.
                self._make_room()
                return
            uid = self._peer(end)
            if uid not in self._users:
                end.close()
                if uid in self._strangers or len(self._strangers) < _MAX_STRANGERS:
                    self._strangers[uid] += 1
                if self._clock() >= self._strangers_at_s:
                    self._note_soon()
                continue
            connection = _Connection(end, uid, place, self._clock())
            self._connections[end.fileno()] = connection
            if self._read(connection):
                self._poll.register(end, select.EPOLLIN)
                connection.is_polled = True
            if len(self._connections) > MAX_CONNECTIONS:
                self._make_room()

    def _make_room(self) -> None:
        """
        Hang up on the latest connection of the user who has most.
        """
        counts = Counter(connection.uid for connection in self._connections.values())
        if not counts:
            time.sleep(_PAUSE_S)  # there is no descriptor, and none of ours could be given up
            return
        ((most, _),) = counts.most_common(1)
        self._hang_up(next(c for c in reversed(self._connections.values()) if c.uid == most))

    def _read(self, connection: _Connection) -> bool:
        """
        Read what has come; whether more must come.
        """
        try:
            data = connection.end.recv(MAX_REQUEST_BYTES + 1 - len(connection.received), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self._hang_up(connection)
            return False
        connection.received += data
        try:
            request = request_of(connection.received)
        except WireError as error:
            sequence = error.sequence if isinstance(error, WireVersionError) else 0
            self._fail(connection, Message.UNREADABLE, sequence, str(error))
            return False
        if request is None:
            return True
        connection.request = request
        if connection.is_polled:
            self._poll.unregister(connection.end)
        self._ready.setdefault(connection.uid, deque()).append(connection)
        return False

    def _serve(self) -> None:
        """
        Answer one request: of the user whose turn it is.
        """
        if not self._ready:
            return
        uid, waiting = self._ready.popitem(last=False)
        connection = waiting.popleft()
        if waiting:
            self._ready[uid] = waiting
        request = connection.request
        if request is None or self._has_left(connection):
            self._hang_up(connection)
            return
        try:
            tag, given = self._use(connection.place.key, request.scheme, request.data)
        except MemoryError:
            raise  # what else is broken cannot be known: the process ends
        except CftPkiError as error:
            self._failed += not isinstance(error, InputError)
            self._fail(connection, Message.CRYPT_DATA, request.sequence, str(error))
            return
        except Exception as error:  # noqa: BLE001 - the boundary: one host's request must not end the others'
            self._failed += 1
            self._fail(
                connection, Message.CRYPT_DATA, request.sequence, f"internal error: {type(error).__name__}"
            )
            return
        self._count(connection, request, "handed_over" if tag is Tag.CRYPT_KEY else "signed")
        self._answer(connection, crypt_answer(request.sequence, tag, given))

    def _has_left(self, connection: _Connection) -> bool:
        if self._clock() - connection.since_s < _MAY_HAVE_LEFT_S:
            return False
        try:
            return not connection.end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _count(self, connection: _Connection, request: Request, use: str) -> None:
        """
        Before it is answered: what was answered is counted, also if this process is ended now.
        """
        self._total += 1
        if self._counter is not None:
            COUNTER.pack_into(self._counter, 0, self._total)
        self._notes.append(
            (request.session, request.scheme, connection.place.generation, connection.uid, use)
        )
        self._note_soon()

    def _note_soon(self) -> None:
        if self._note_at_s is None:
            self._note_at_s = self._clock() + NOTE_AFTER_S

    def _tell(self, channel: ChildChannel) -> None:
        """
        Tell the front what was signed, if it is time. It is never waited for.
        """
        if self._note_at_s is None:
            return
        if len(self._notes) < NOTES_AT_ONCE and self._clock() < self._note_at_s:
            return
        told = [self._notes[n] for n in range(min(len(self._notes), NOTES_AT_ONCE))]
        before = self._total - len(self._notes) + len(told)
        is_time = self._clock() >= self._strangers_at_s
        strangers = dict(self._strangers) if is_time else {}
        note = {"used": told, "total": before, "failed": self._failed, "strangers": strangers}
        if not channel.note(Note(note)):
            self._note_at_s = self._clock() + NOTE_AFTER_S
            return
        for _ in told:
            self._notes.popleft()
        if strangers:
            self._strangers.clear()
            self._strangers_at_s = self._clock() + STRANGERS_TOLD_S
        self._note_at_s = self._clock() if self._notes else None

    def _fail(self, connection: _Connection, message: Message, sequence: int, detail: str) -> None:
        fields: dict[Tag, Value] = {
            Tag.RESULT: int(Result.FAILED),
            Tag.ALERT: int(Alert.INTERNAL_ERROR),
            Tag.DETAIL: clip(Tag.DETAIL, detail),
        }
        self._answer(connection, encode(Frame(message, response=True, sequence=sequence, fields=fields)))

    def _answer(self, connection: _Connection, raw: bytes) -> None:
        with contextlib.suppress(
            OSError
        ):  # it is gone, or does not read: an answer is smaller than the socket's room
            connection.end.send(raw, socket.MSG_DONTWAIT)
        self._hang_up(connection)

    def _hang_up(self, connection: _Connection) -> None:
        self._connections.pop(connection.end.fileno(), None)
        waiting = self._ready.get(connection.uid)
        if waiting is not None and connection in waiting:
            waiting.remove(connection)
            if not waiting:
                del self._ready[connection.uid]
        connection.end.close()


def _peer(end: socket.socket) -> int:
    """
    The user of the process that connected, as the kernel knows it (SO_PEERCRED, unix(7)).
    """
    _, uid, _ = _CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)
