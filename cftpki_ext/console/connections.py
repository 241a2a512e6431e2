"""
Connections: accepted, bounded in number and time, and what is known of who is at the other end.

Owns the loop that accepts. uvicorn's protocol reads HTTP/1.1 (by h11, which bounds headers) and runs the application; its own server
has no deadline for a request that comes slowly, and no place for the peer of a unix socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from cftpki_ext.adapters.stdlib import chain_of
from cftpki_ext.console.doorkeepers import Peer
from cftpki_ext.console.guarding import REQUEST_S, App
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.log import Log
from cftpki_ext.core.values import dataclass
from cftpki_ext.service.listener import peer_uid

# A browser opens six at once. Of more, one is closed where nobody waits for an answer, of whoever has the most; where all are busy, the new one.
CONNECTIONS = 64
# A request's head, and its form, are there at once; a connection without a request is a browser's spare one.
HEAD_S, IDLE_S, HANDSHAKE_S = 10.0, 15.0, 10.0
# What the door gives an answer, and some more for what is still on its way.
ANSWER_S = REQUEST_S + 15.0
HEAD_BYTES = 16 * 1024
# Answers under way at the end.
_END_S = 3.0
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_S = 0.2


class _Protocol(H11Protocol):
    """
    One connection: uvicorn's, with a deadline for each request's head and form.
    """

    def __init__(self, peer: Peer, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._peer = peer
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """
        Whether nobody waits for an answer here: nothing was asked, or not all of it yet, or what was answered is not taken.
        """
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's own annotation leaves that out
        return cycle is None or cycle.response_complete or cycle.more_body or self.flow.write_paused

    def connection_made(self, transport: Any) -> None:
        """
        See `asyncio.Protocol`.
        """
        inner = transport.get_extra_info("ssl_object")
        chain = () if inner is None else tuple(chain_of(inner))
        self.app_state["peer"] = Peer(uid=self._peer.uid, address=self._peer.address, chain=chain)
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """
        See `asyncio.Protocol`.
        """
        super().data_received(data)
        self._settle()

    def on_response_complete(self) -> None:
        """
        See `H11Protocol`.
        """
        self._wait()
        super().on_response_complete()
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        """
        See `asyncio.Protocol`.
        """
        self._end_waiting()
        super().connection_lost(exc)

    def close(self) -> None:
        """
        End the connection at once.
        """
        self.transport.abort()

    def _wait(self) -> None:
        """
        Wait for a request, so long from now on, however often an octet of it comes.
        """
        self._end_waiting()
        self._deadline = self.loop.call_later(HEAD_S, self.close)

    def _settle(self) -> None:
        """
        A request that is there whole has the time of its answer, whoever reads that how slowly.
        """
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            self._end_waiting()
            self._deadline = self.loop.call_later(ANSWER_S, self.close)

    def _end_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


@dataclass(slots=True)
class _Open:
    """
    A connection; without a protocol as long as its handshake goes on.
    """

    peer: Peer
    protocol: _Protocol | None = None

    @property
    def is_idle(self) -> bool:
        """
        Whether nobody waits for an answer.
        """
        return self.protocol is None or self.protocol.is_idle


class Connections:
    """
    Accepts connections at one socket, and answers them. For one event loop.

    Args:
        bound: listens; its owner closes it.
        app: answers.
        tls: gives the context for a new connection; none for plain ones.
        log: is told of handshakes that failed.

    """

    def __init__(
        self, bound: socket.socket, app: App, tls: Callable[[], ssl.SSLContext] | None, log: Log
    ) -> None:
        bound.setblocking(False)  # noqa: FBT003 - the library's signature
        self._bound = bound
        self._tls = tls
        self._log = log
        asgi: Any = app
        self._config = Config(
            asgi,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_keep_alive=int(IDLE_S),
        )
        self._config.load()
        self._state = ServerState()
        self._open: dict[asyncio.Task[None], _Open] = {}

    async def serve(self, until: asyncio.Event) -> None:
        """
        Accept and answer until an event is set.
        """
        accepting = asyncio.create_task(self._accept())
        try:
            waiting = asyncio.create_task(until.wait())
            await asyncio.wait({accepting, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if accepting.done():
                accepting.result()
        finally:
            accepting.cancel()
            await self._end()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._bound)
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS and not isinstance(error, ConnectionError):
                    raise
                await asyncio.sleep(_PAUSE_S)
                continue
            if len(self._open) >= CONNECTIONS and not self._close_idle():
                connection.close()
                continue
            peer = _peer(connection, address)
            task = asyncio.create_task(self._begin(connection, peer))
            self._open[task] = _Open(peer)
            task.add_done_callback(lambda done: self._open.pop(done, None))

    def _close_idle(self) -> bool:
        """
        Close a connection where nobody waits, the oldest of whoever has the most of them; whether there was one.

        So who opens many, and shakes no hands or asks nothing, keeps nobody else out.
        """
        idle = {task: one for task, one in self._open.items() if one.is_idle}
        if not idle:
            return False
        (most, _), *_ = Counter((one.peer.address, one.peer.uid) for one in idle.values()).most_common(1)
        task = next(task for task, one in idle.items() if (one.peer.address, one.peer.uid) == most)
        one = self._open.pop(task)
        if one.protocol is None:
            task.cancel()
        else:
            one.protocol.close()
        return True

    async def _begin(self, connection: socket.socket, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        over = asyncio.Event()

        class Watched(_Protocol):
            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                over.set()

        def make() -> _Protocol:
            return Watched(peer, config=self._config, server_state=self._state, app_state={})

        context = None if self._tls is None else self._tls()
        bounds: dict[str, Any] = (
            {} if context is None else {"ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": 3.0}
        )
        try:
            _, protocol = await loop.connect_accepted_socket(make, connection, ssl=context, **bounds)
        except (OSError, CftPkiError, TimeoutError) as error:
            connection.close()
            self._log.info("console_handshake_failed", address=peer.address, error=_why(error))
            return
        task = asyncio.current_task()
        if task is not None and task in self._open:
            self._open[task].protocol = protocol
        await over.wait()

    async def _end(self) -> None:
        for one in tuple(self._open.values()):
            if one.protocol is not None and one.is_idle:
                one.protocol.close()
        tasks = tuple(self._open)
        if tasks:
            await asyncio.wait(tasks, timeout=_END_S)
        for task, one in tuple(self._open.items()):
            if one.protocol is not None:
                one.protocol.close()
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


def _peer(connection: socket.socket, address: Any) -> Peer:
    if connection.family == socket.AF_UNIX:
        return Peer(uid=peer_uid(connection))
    return Peer(address=str(address[0]))


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", "") or type(error).__name__)
