"""
A server of Redis' protocol that keeps what nodes put there, tells what they tell, and lies as a test likes: for what no real server does.

    with hostile() as server:
        server.lie = gigabyte               # a `Lie`; `well` again
        server.section(node="a")            # `[cluster]` of a node
        server.lied                         # how many calls it has lied to
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cftpki_connectors.cluster.steps import ANNOUNCE, BEAT, GIVE_BACK, HEAR, HOLD, PUT, TAKE
from tests.support import pki

_STEPS = {
    step.encode(): name
    for step, name in (
        (ANNOUNCE, "announce"),
        (BEAT, "beat"),
        (GIVE_BACK, "give back"),
        (HEAR, "hear"),
        (HOLD, "hold"),
        (PUT, "put"),
        (TAKE, "take"),
    )
}

# It never loses it.
_NUMBER = b"1"


@dataclass
class Call:
    """
    What a node asked: its name, the keys and the values; what a server that works replies, and what this connection is remembered by.
    """

    name: str
    keys: list[bytes]
    values: list[bytes]
    reply: bytes
    connection: dict[str, Any]


Lie = Callable[[Call], AsyncIterator[bytes]]


async def well(call: Call) -> AsyncIterator[bytes]:
    """
    No lie.
    """
    yield call.reply


def bulk(octets: bytes | None) -> bytes:
    return b"$-1\r\n" if octets is None else b"$%d\r\n%b\r\n" % (len(octets), octets)


def array(*replies: bytes) -> bytes:
    return b"*%d\r\n" % len(replies) + b"".join(replies)


@dataclass
class Hostile:
    """
    The server.
    """

    folder: Path
    port: int = 0
    lie: Lie = well
    lied: int = 0
    answers: dict[bytes, bytes] = field(default_factory=dict)
    stream: list[tuple[int, bytes]] = field(default_factory=list)
    rows: dict[bytes, bytes] = field(default_factory=dict)
    leases: dict[bytes, bytes] = field(default_factory=dict)
    token: int = 0
    _tasks: set[Any] = field(default_factory=set)

    def section(self, *, node: str, more: str = "", **_: object) -> str:
        """
        `[cluster]` of a node.
        """
        return (
            f'[cluster]\nurl = "redis://127.0.0.1:{self.port}"\nnode = "{node}"\n'
            f'secret_file = "{self.folder}/secret"\n{more}\n'
        )

    def shares(self, serial: int) -> bool:
        """
        Whether a node has put an answer of a responder about a certificate here.
        """
        return any(pki.integer(serial) in octets for octets in tuple(self.answers.values()))

    def command(self, *words: str) -> str:
        """
        What a real server replies to the one command that a test may ask either: under which number answers are kept.
        """
        assert words[0] == "GET"
        return _NUMBER.decode()

    def forget_answers(self) -> None:
        """
        Delete what nodes shared of answers.
        """
        self.answers.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """
        One connection.
        """
        self._tasks.add(asyncio.current_task())
        connection: dict[str, Any] = {}
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while line := await reader.readline():
                words = [await _word(reader) for _ in range(int(line[1:]))]
                call = self._call(words, connection)
                lie = well if call.name == "client" else self.lie
                self.lied += lie is not well
                async for piece in lie(call):
                    writer.write(piece)
                    await writer.drain()
        writer.close()
        self._tasks.discard(asyncio.current_task())

    def _call(self, words: list[bytes], connection: dict[str, Any]) -> Call:
        name, keys, values = words[0].decode().lower(), words[1:2], words[2:]
        if name == "eval":
            count = int(words[2])
            name, keys, values = _STEPS[words[1]], words[3 : 3 + count], words[3 + count :]
        return Call(name, keys, values, self._reply(name, keys, values), connection)

    def _reply(self, name: str, keys: list[bytes], values: list[bytes]) -> bytes:
        if name == "getrange":
            return bulk(self.answers.get(keys[0], b""))
        if name == "set":
            self.answers[keys[0]] = values[0]
        if name in {"client", "ping", "set"}:
            return b"+OK\r\n"
        return getattr(self, "_" + name.replace(" ", "_"))(keys, values)  # type: ignore[no-any-return]

    def _beat(self, _: list[bytes], values: list[bytes]) -> bytes:
        self.rows[values[0]] = values[1]
        ends = (self.stream[0][0], self.stream[-1][0]) if self.stream else None
        first, last = (b"%d-0" % one for one in ends) if ends else (b"", b"")
        mine = not values[5] or values[5] in {b"%d-0" % one for one, _ in self.stream}
        return array(
            bulk(first), bulk(last), bulk(_NUMBER), b":%d\r\n" % mine, array(*map(bulk, self.rows.values()))
        )

    def _hear(self, _: list[bytes], values: list[bytes]) -> bytes:
        after = int(values[0].partition(b"-")[0])
        found = [(one, octets) for one, octets in self.stream if one > after][: int(values[1])]
        return array(*(array(bulk(b"%d-0" % one), bulk(octets)) for one, octets in found))

    def _announce(self, _: list[bytes], values: list[bytes]) -> bytes:
        last = self.stream[-1][0] if self.stream else 0
        self.stream.append((max(last + 1, time.time_ns() // 1_000_000), values[0]))
        return bulk(b"%d-0" % self.stream[-1][0])

    def _take(self, keys: list[bytes], _: list[bytes]) -> bytes:
        if keys[0] in self.leases:
            return bulk(b"0")
        self.token += 1
        self.leases[keys[0]] = b"%d" % self.token
        return bulk(self.leases[keys[0]])

    def _put(self, keys: list[bytes], values: list[bytes]) -> bytes:
        self.answers[keys[2]] = struct.pack(">Q", int(values[2])) + values[0]
        self.leases.pop(keys[0], None)
        return b":1\r\n"

    def _hold(self, keys: list[bytes], values: list[bytes]) -> bytes:
        return b":%d\r\n" % (self.leases.get(keys[0]) == values[0])

    def _give_back(self, keys: list[bytes], values: list[bytes]) -> bytes:
        if self.leases.get(keys[0]) == values[0]:
            del self.leases[keys[0]]
        return b":1\r\n"

    def end(self) -> None:
        """
        End all connections.
        """
        for task in tuple(self._tasks):
            task.cancel()


async def _word(reader: asyncio.StreamReader) -> bytes:
    length = int((await reader.readline())[1:])
    return (await reader.readexactly(length + 2))[:-2]


@contextlib.contextmanager
def hostile(folder: Path) -> Iterator[Hostile]:
    """
    A server for as long as the block lasts; the cluster's secret is in the folder.
    """
    secret = folder / "secret"
    secret.write_text("s" * 64 + "\n")
    secret.chmod(0o600)
    made, listens, loop = Hostile(folder), threading.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0, limit=1 << 22)
        made.port = server.sockets[0].getsockname()[1]
        listens.set()
        with contextlib.suppress(asyncio.CancelledError):
            await server.serve_forever()
        made.end()

    task = loop.create_task(serve())

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    listens.wait()
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
