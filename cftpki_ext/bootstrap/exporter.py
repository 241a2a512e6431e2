"""
The child process that serves the metrics of a service: it goes on, and says so, where the front is stopped or hangs.

Owns both ends. The front opens the socket, and hands it over; everything that a stranger sends is read in the child, which may write
no file and has no key: what only somebody with keys can say is said by a process that ends when it has (`learning.look_apart`). With the front it ends: what tells of a service that has ended is `cftpki metrics --serve`, as a unit of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import Settings
from cftpki_ext.processes.channel import ChildChannel
from cftpki_ext.processes.child import Attended
from cftpki_ext.processes.confine import MIB, Bounds, SystemCalls
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.worker import Role, Worker
from cftpki_ext.service.children import Children
from cftpki_ext.service.listener import Listener
from cftpki_ext.service.monitoring.binding import CannotServeError, bind

# An address that is taken, by the service that is just being replaced perhaps, is tried again so often.
_AGAIN_S = 2.0
# As long as a scrape may take, less what Prometheus waits for.
LOOK_S = 4.0

ROLE = Role(
    name="metrics",
    factory=f"{__name__}:make",
    # It reads the configuration as the service does, and asks the service: files, sockets, threads, and nothing to write.
    bounds=Bounds(memory_bytes=2048 * MIB, descriptors=128, file_bytes=0, calls=SystemCalls.ANY, nice=5),
)


class _NoLog:
    """
    Standard error may be a file, and a child writes none.
    """

    def debug(self, event: str, /, **fields: object) -> None:
        pass

    info = warning = error = debug


def make(setup: Message) -> Attended:
    """
    Prepare to serve; begun once this process has taken from itself what it does not need.

    Args:
        setup: `config`, the configuration file, `socket`, that of the service; the listening socket as descriptor.

    Returns:
        The handler; nothing is asked of it.

    """
    # The front needs nothing of these.
    from cftpki_ext.bootstrap.learning import Learner, look_apart  # noqa: PLC0415
    from cftpki_ext.service.monitoring.serving import MetricsServer  # noqa: PLC0415

    (number,) = setup.descriptors
    learner = Learner(
        Path(setup.value["config"]),
        socket=Path(setup.value["socket"]),
        timeout_s=LOOK_S,
        looks=look_apart,
    )
    servers: list[MetricsServer] = []

    def attend(_: ChildChannel) -> None:
        if not servers:
            servers.append(MetricsServer(socket.socket(fileno=number), learner.learn, _NoLog()))

    return Attended(lambda _: Message(), attend=attend)


class Exporter:
    """
    The child, at the address that the configuration in force names. For one event loop.

    Args:
        children: begins it.
        config: the configuration file.
        settings: those in force.
        log: is told where it serves, and why it does not.

    """

    def __init__(self, children: Children, config: Path, settings: Settings, log: Log) -> None:
        self._children = children
        self._config = config.absolute()
        self._settings = settings
        self._log = log
        self._changed = asyncio.Event()
        self._address: str | None = None
        self._told: str | None = None
        self._listener: Listener | None = None
        self._worker: Worker | None = None

    def replace_settings(self, settings: Settings) -> None:
        """
        Take over a new configuration.
        """
        self._settings = settings
        self._changed.set()

    async def run(self, ready: asyncio.Event) -> None:
        """
        Serve once the service itself does, until cancelled.

        Args:
            ready: the service answers.

        """
        await ready.wait()
        while True:
            self._changed.clear()
            wanted = self._settings.metrics.listen
            if wanted != self._address or (wanted is not None and self._worker is None):
                await self._end()
                self._address = wanted
                if wanted is not None:
                    self._begin(wanted)
            is_wanting = wanted is not None and self._worker is None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_S if is_wanting else None):
                    await self._changed.wait()

    async def aclose(self) -> None:
        """
        Serve no longer.
        """
        await self._end()

    def _begin(self, address: str) -> None:
        try:
            listener = self._listener = bind(address)
        except CannotServeError as error:
            if str(error) != self._told:
                self._told = str(error)
                self._log.error("metrics_not_served", error=str(error), detail="tried again; told once")
            return
        self._told = None
        value = {"config": str(self._config), "socket": str(self._settings.service.socket.absolute())}
        self._worker = self._children.begin(
            ROLE, setup=lambda: Message(value, descriptors=(listener.socket.fileno(),))
        )
        self._log.info("metrics_served", address=address)

    async def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await self._children.end(worker)
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.release()
