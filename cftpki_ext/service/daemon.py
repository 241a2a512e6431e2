"""
The unix-socket server: frames in, frames out, one conversation per connection; signals, readiness, clean stop.

Owns waits and bounds of connections. Knows nothing of PKI.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from cftpki_ext.core.errors import CftPkiError, WireError
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.values import dataclass
from cftpki_ext.protocol.codec import WireVersionError
from cftpki_ext.service import listener as listening
from cftpki_ext.service.beside import allowed_users
from cftpki_ext.service.board.handing import send_with
from cftpki_ext.service.conversation import Conversation, unreadable
from cftpki_ext.service.deadline import Deadline
from cftpki_ext.service.descriptors import SPARE_CONNECTIONS, connections_that_fit, raise_limit
from cftpki_ext.service.incoming import Incoming
from cftpki_ext.service.listener import BACKLOG, Listener, listen
from cftpki_ext.service.refused import MOST_WAITING, Refusals
from cftpki_ext.service.shared import Service
from cftpki_ext.service.systemd import inherited_socket, notify, reloading, watchdog_interval_s
from cftpki_ext.support.failures import reason_of

# Between two phases the host waits for its TLS peer; hosts give up on a handshake after a minute or two.
IDLE_S = 300.0
# A frame's bytes come from a process on this machine; one that sends half of it is stuck.
FRAME_S = 10.0
# Calls under way at a stop: longer than any call may take (budget 5 s and its slack).
STOP_S = 10.0
# Handshakes under way at a stop may go on: most need less than a second, and whoever connects meanwhile waits in systemd's
# socket. A partner that says nothing must not hold up the next service for longer.
HANDSHAKES_S = 3.0
# What asyncio has accepted becomes a connection of ours in four turns of its loop (3.11 to 3.13).
_TURNS_OF_A_NEW_CONNECTION = 10

Reload = Callable[[], Settings]


@dataclass(slots=True, kw_only=True)
class _Connection:
    """
    One connection; `busy` while a call is under way, `refused` when its user may not ask.
    """

    conversation: Conversation
    busy: bool = False
    refused: bool = False

    @property
    def awaited(self) -> bool:
        return not self.refused and self.conversation.awaited


class Daemon:
    """
    Serves one `Service` on one socket until it is told to stop.
    """

    def __init__(
        self,
        service: Service,
        *,
        reload: Reload | None = None,
        peer_uid: Callable[[socket.socket], int] = listening.peer_uid,
        environ: Mapping[str, str] | None = None,
        idle_s: float = IDLE_S,
        frame_s: float = FRAME_S,
        handshakes_s: float = HANDSHAKES_S,
    ) -> None:
        self._service = service
        self._reload = reload
        self._peer_uid = peer_uid
        self._environ = os.environ if environ is None else environ
        self._idle_s = idle_s
        self._frame_s = frame_s
        self._handshakes_s = handshakes_s
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self._refusals = Refusals()
        self._descriptors = resource.RLIM_INFINITY
        self._accept_error: int | None = None  # the one that was told, until a connection is accepted again
        self._reloading = asyncio.Lock()
        self._stop = asyncio.Event()
        self._cut_off = False  # a stop that waits for no handshake any more
        self.ready = asyncio.Event()

    @property
    def connections(self) -> int:
        """
        How many are open.
        """
        return len(self._connections)

    def stop(self) -> None:
        """
        Ask for a clean stop: no new connections, idle ones closed, handshakes and calls under way finished within bounds.
        """
        self._stop.set()

    async def run(self, *, owns_process: bool = True) -> None:
        """
        Serve until `stop()`, SIGTERM or SIGINT.

        Args:
            owns_process: whether to handle SIGTERM, SIGINT and SIGHUP and to forbid core dumps, which would
                hold private keys; by default yes, tests and embedders may not want it.

        Raises:
            ListenError: the socket cannot be opened.
            ActivationError: systemd handed over something else than one listening unix socket.

        """
        log = self._service.log
        listener = self._open()
        loop = asyncio.get_running_loop()
        background: set[asyncio.Task[None]] = set()
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) if owns_process else ()
        if owns_process:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            self._fit_descriptors()
        before = loop.get_exception_handler()
        loop.set_exception_handler(self._troubled)
        try:
            # Who connects meanwhile waits in the socket's queue.
            await self._service.warm()
            if self._service.board is not None:
                await self._service.board.begin()
            # Not start_unix_server(), which from Python 3.13 on removes the socket's path, also systemd's. Without
            # a backlog of its own, asyncio would shorten the queue to 100.
            server = await asyncio.start_server(self._accept, sock=listener.socket, backlog=BACKLOG)
            for number in handled:
                if number == signal.SIGHUP:
                    loop.add_signal_handler(number, lambda: background.add(loop.create_task(self.reload())))
                else:
                    loop.add_signal_handler(number, self.stop)
            if owns_process:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
            log.info(
                "listening",
                socket=str(self._service.settings.service.socket),
                inherited=listener.path is None,
            )
            notify(self._environ, "READY=1", "STATUS=answering")
            interval_s = watchdog_interval_s(self._environ)
            if interval_s is not None:
                background.add(loop.create_task(self._feed_watchdog(interval_s)))
            self.ready.set()
            await self._stop.wait()
            notify(self._environ, "STOPPING=1", "STATUS=finishing handshakes under way")
            server.close()
            await self._drain()
        finally:
            loop.set_exception_handler(before)
            for number in handled:
                loop.remove_signal_handler(number)
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            if self._service.board is not None:
                await self._service.board.aclose()
            listener.release()
            log.info("stopped")

    async def reload(self) -> None:
        """
        Take over the configuration anew; one that cannot be used is logged and changes nothing.

        The socket and the state directory stay as they were at start.
        """
        log, clock, reloads = self._service.log, self._service.clock, self._service.reloads
        if self._reload is None:
            log.info("reload_ignored", detail="this service has no configuration file")
            return
        reloading(self._environ)
        try:
            async with self._reloading:  # one after the other: the file as it is last is what holds
                self._service.replace_settings(await asyncio.to_thread(self._reload))
                await self._service.warm()
            reloads.succeeded(clock.now())
            log.info("reloaded", rules=len(self._service.settings.rules))
        except CftPkiError as error:
            # The faults are the operator's, a line each; a traceback would say nothing more.
            reloads.failed(str(error), clock.now())
            log.warning("reload_failed", error=str(error), detail="the configuration in force stays")
        except Exception as error:  # noqa: BLE001 - a service that goes on with the old configuration says so
            reloads.failed(reason_of(error), clock.now())
            # A plain traceback as text, as at the other boundary: renderers that add local variables would print secrets.
            log.error(  # noqa: TRY400
                "reload_failed",
                error=reason_of(error),
                detail="the configuration in force stays",
                traceback="".join(traceback.format_exception(error)),
            )
        else:
            self._fit_descriptors()
        finally:
            notify(self._environ, "READY=1")

    def _open(self) -> Listener:
        inherited = inherited_socket(self._environ)
        if inherited is not None:
            return Listener(socket=inherited, path=None)
        return listen(self._service.settings.service.socket)

    def _fit_descriptors(self) -> None:
        """
        Have as many descriptors as sessions may need; where that cannot be, say so and how many connections fit.
        """
        wanted = self._service.settings.service.max_sessions + SPARE_CONNECTIONS
        try:
            self._descriptors = raise_limit(wanted)
        except (OSError, ValueError) as error:
            # It goes on with those that there are: a configuration that is in force already stays so.
            self._descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            self._service.log.error("descriptors_not_raised", wanted=wanted, error=reason_of(error))  # noqa: TRY400
        fitting = connections_that_fit(self._descriptors, wanted)
        if fitting < wanted:
            self._service.log.error(
                "descriptors_short",
                limit=self._descriptors,
                connections=fitting,
                wanted=wanted,
                detail="raise LimitNOFILE (RLIMIT_NOFILE), or lower service.max_sessions",
            )

    def _most_connections(self) -> int:
        return connections_that_fit(
            self._descriptors, self._service.settings.service.max_sessions + SPARE_CONNECTIONS
        )

    def _troubled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """
        What asyncio has to tell. Of accept(2), which it tries again many times a second, each error once.
        """
        error = context.get("exception")
        if not isinstance(error, OSError) or "accept" not in str(context.get("message")):
            loop.default_exception_handler(context)
        elif error.errno != self._accept_error:
            self._accept_error = error.errno
            self._service.log.error(
                "accept_failed", error=reason_of(error), detail="tried again every second; told once"
            )

    async def _drain(self) -> None:
        for _ in range(_TURNS_OF_A_NEW_CONNECTION):
            await asyncio.sleep(0)
        for task, one in self._connections.items():
            if not one.busy and not one.awaited:
                task.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=self._handshakes_s)
        self._cut_off = True
        waiting = [task for task, one in self._connections.items() if not one.busy]
        for task in waiting:
            task.cancel()
        if waiting:
            self._service.log.warning("handshakes_cut_off", count=len(waiting))
        if self._connections:
            _, late = await asyncio.wait(self._connections, timeout=STOP_S - self._handshakes_s)
            for task in late:
                task.cancel()
            if late:
                self._service.log.warning("calls_cut_off", count=len(late))
                await asyncio.gather(*late, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:  # pragma: no cover - asyncio runs every connection in a task
            return
        deadline = Deadline()
        conversation = Conversation(self._service, deadline)
        connection = self._connections[task] = _Connection(conversation=conversation)
        self._accept_error = None
        try:
            refusal = self._refusal(writer)
            if refusal is not None:
                connection.refused = True
                await self._refuse(writer, refusal)
                return
            await self._converse(connection, deadline, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            # A timeout is an OSError too. The peer is gone, silent or stuck: its session ends with the connection.
            return
        except asyncio.CancelledError:
            # Only `_drain` cancels; the stop goes on by itself.
            return
        finally:
            deadline.close()
            conversation.close()
            del self._connections[task]
            writer.close()

    def _refusal(self, writer: asyncio.StreamWriter) -> str | None:
        uid = self._peer_uid(writer.get_extra_info("socket"))
        if uid not in allowed_users(self._service.settings):
            return f"user {uid} may not use this service (service.allow_users)"
        # Those that wait for their refusal are bounded by themselves, and take no host's place.
        if len(self._connections) - self._refusals.waiting > self._most_connections():
            return f"{self._most_connections()} connections are open"
        return None

    async def _refuse(self, writer: asyncio.StreamWriter, refusal: str) -> None:
        treatment = self._refusals.treat(refusal, self._service.clock.monotonic())
        if treatment.tell:
            self._service.log.warning("connection_refused", detail=refusal, others=treatment.others)
        if self._refusals.waiting >= MOST_WAITING:
            return
        self._refusals.waiting += 1
        try:
            await asyncio.sleep(treatment.pause_s)
            await self._send(writer, unreadable(WireError(refusal), 0))
        finally:
            self._refusals.waiting -= 1

    async def _converse(
        self,
        connection: _Connection,
        deadline: Deadline,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        conversation = connection.conversation
        incoming = Incoming(reader, deadline, idle_s=self._idle_s, frame_s=self._frame_s)
        while not self._stop.is_set() or (conversation.awaited and not self._cut_off):
            try:
                request = await incoming.next()
            except WireError as error:
                sequence = error.sequence if isinstance(error, WireVersionError) else incoming.sequence
                self._service.log.warning("unreadable_frame", error=str(error))
                await self._send(writer, await conversation.unreadable(error, sequence))
                return
            connection.busy = True
            try:
                await self._send(writer, await conversation.answer(request), conversation.take_descriptor())
            finally:
                connection.busy = False

    async def _send(self, writer: asyncio.StreamWriter, raw: bytes, descriptor: int | None = None) -> None:
        if descriptor is not None:
            try:
                async with asyncio.timeout(self._frame_s):
                    raw = await send_with(writer, raw, descriptor)
            finally:
                os.close(descriptor)
        writer.write(raw)
        if writer.transport.get_write_buffer_size():  # else the system has it
            async with asyncio.timeout(self._frame_s):
                await writer.drain()

    async def _feed_watchdog(self, interval_s: float) -> None:
        while True:
            notify(self._environ, "WATCHDOG=1")
            await asyncio.sleep(interval_s)
