"""
The console as a process: where it listens, who is asked who he is, and its children.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cftpki_ext.config import load, load_console
from cftpki_ext.config.console import unfit
from cftpki_ext.config.places import places_of
from cftpki_ext.console import judge, looks
from cftpki_ext.console.connections import Connections
from cftpki_ext.console.doorkeepers import ClientCertificates, Judgement, SocketRights, Tokens
from cftpki_ext.console.guarding import LOCAL, Doorkeeper, Guard
from cftpki_ext.console.pages import Login, Pages
from cftpki_ext.console.rendering import Renderer
from cftpki_ext.console.seen import ServiceWatch
from cftpki_ext.console.sessions import Attempts, Link, Sessions
from cftpki_ext.console.tls import TlsContexts
from cftpki_ext.core.errors import CftPkiError, ConfigError, InputError
from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import ConsoleSettings
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.spawning import Nursery
from cftpki_ext.processes.worker import Worker, WorkerError
from cftpki_ext.service.listener import Listener, listen
from cftpki_ext.service.monitoring.binding import bind
from cftpki_ext.support.files import read_regular
from cftpki_ext.support.listening import TcpAddress, read_address
from cftpki_ext.support.version import version

SOCKET = "console.sock"
_MAX_TOKEN_BYTES = 1024
_PRELOAD = ("cftpki_ext.console.looks", "cftpki_ext.console.judge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """
    Where the console is, and who may come in.
    """

    settings: ConsoleSettings
    address: TcpAddress | Path
    anchors: tuple[bytes, ...]

    @property
    def is_tls(self) -> bool:
        """
        Whether TLS is spoken.
        """
        return self.settings.certificate is not None

    @property
    def wants_token(self) -> bool:
        """
        Whether somebody has to log in: always where other users of the machine could connect, and have no certificate.
        """
        return self.settings.token_file is not None or (
            isinstance(self.address, TcpAddress) and self.settings.client_trust is None
        )


def door_of(config: Path, listen_at: str | None) -> Door:
    """
    Where the console of a configuration is. Of a file that cannot be read the default holds: a unix socket.

    Args:
        config: the configuration file; faults of other sections do not matter here.
        listen_at: the address, whatever the configuration says.

    Returns:
        The door.

    Raises:
        ConfigError: `[console]` has faults.
        InputError: the address is none, or is one that may not be served like this.

    """
    try:
        settings = load_console(config)
    except ConfigError:
        if places_of(config).unread is None:
            raise
        settings = ConsoleSettings()
    text = listen_at or settings.listen or str(_default_socket(config))
    try:
        address = read_address(str(Path(text).absolute()) if "/" in text else text)
    except ValueError as error:
        raise InputError(str(error)) from error
    why = unfit(settings, address)
    if why is not None:
        raise InputError(why)
    anchors: tuple[bytes, ...] = ()
    if settings.client_trust is not None:
        trust = load(config, forgive_ended=True).trusts[settings.client_trust]
        anchors = (*trust.anchors, *trust.intermediates)
    return Door(settings=settings, address=address, anchors=anchors)


def _default_socket(config: Path) -> Path:
    """
    In the directory that systemd made for the unit, else beside the service's own socket.
    """
    made = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return (Path(made) if made else places_of(config).socket.parent) / SOCKET


def serve_console(config: Path, listen_at: str | None, log: Log) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Args:
        config: the configuration file.
        listen_at: the address, whatever the configuration says.
        log: is told where it serves, and who asks.

    Raises:
        ConfigError: `[console]` has faults.
        InputError: the address may not be served.
        CftPkiError: it cannot be listened at.

    """
    # Before anything else: there is no thread yet, and no key was read.
    nursery = Nursery(_PRELOAD)
    nursery.fork()
    try:
        door = door_of(config, listen_at)
        tls = TlsContexts(door.settings, door.anchors, log) if door.is_tls else None
        listener = _bound(door)
        try:
            made = _Console(config.absolute(), door, listener, tls=tls, nursery=nursery, log=log)
            asyncio.run(made.run())
        finally:
            listener.release()
    finally:
        nursery.close()


def _bound(door: Door) -> Listener:
    if isinstance(door.address, TcpAddress):
        return bind(str(door.address), what="the console")
    listener = listen(door.address)
    if door.settings.group is not None:
        try:
            os.chown(door.address, -1, grp.getgrnam(door.settings.group).gr_gid)
        except (KeyError, OSError) as error:
            listener.release()
            msg = f"{door.address} cannot be given to group {door.settings.group}: this user is not in it, or there is none"
            raise InputError(msg) from error
    return listener


class _Console:
    """
    One console, from its begin to its end.
    """

    def __init__(
        self,
        config: Path,
        door: Door,
        listener: Listener,
        *,
        tls: TlsContexts | None,
        nursery: Nursery,
        log: Log,
    ) -> None:
        self._config = config
        self._door = door
        self._listener = listener
        self._tls = tls
        self._log = log
        self._nursery = nursery
        self._setup = Message({"config": str(config)})
        self._judge: Worker | None = None

    async def run(self) -> None:
        until = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, until.set)
        looker = self._worker(looks.role("console-looker"))
        trier = self._worker(replace(looks.role("console-trier"), queue=1))
        workers = [looker, trier]
        if self._door.settings.client_trust is not None:
            self._judge = Worker(judge.ROLE, self._nursery, setup=self._judges, log=self._log)
            workers.append(self._judge)
        login = self._login() if self._door.wants_token else None
        pages = Pages(
            service=ServiceWatch(self._config),
            looker=looker,
            trier=trier,
            renderer=Renderer(socket.gethostname()),
            login=login,
        )
        app = Guard(
            pages.app(), self._doorkeeper(login), hosts=self._hosts(), refuse=pages.refused, log=self._log
        )
        try:
            for worker in workers:
                worker.start()
            warming = asyncio.create_task(pages.warm())
            tls = None if self._tls is None else self._tls.current
            self._tell(login)
            await Connections(self._listener.socket, app, tls, self._log).serve(until)
            warming.cancel()
        finally:
            await asyncio.gather(*(worker.aclose() for worker in workers))

    def _worker(self, role: Any) -> Worker:
        return Worker(role, self._nursery, setup=lambda: self._setup, log=self._log)

    def _judges(self) -> Message:
        return Message({**self._setup.value, "trust": self._door.settings.client_trust})

    def _hosts(self) -> frozenset[str]:
        hosts = frozenset(self._door.settings.hosts)
        address = self._door.address
        if isinstance(address, Path) or address.is_loopback:
            return hosts | LOCAL
        return hosts | {f"[{address.host}]" if ":" in address.host else address.host}

    def _doorkeeper(self, login: Login | None) -> Doorkeeper:
        tokens = None if login is None else Tokens(login.sessions, login.cookie)
        if self._judge is not None:
            return ClientCertificates(self._judged, tokens)
        return SocketRights() if tokens is None else tokens

    async def _judged(self, chain: Sequence[bytes]) -> Judgement:
        if self._judge is None:
            return Judgement(accepted=False, subject="", words="nobody judges")
        try:
            answer = await self._judge.call(Message(parts=tuple(chain)), within_s=judge.JUDGE_S)
        except WorkerError:
            return Judgement(accepted=False, subject="", words="it could not be judged in time")
        told = answer.value
        return Judgement(
            accepted=told["accepted"] is True, subject=str(told["subject"]), words=str(told["words"])
        )

    def _login(self) -> Login:
        address, is_tls = self._door.address, self._door.is_tls
        # Cookies of one host go to all its ports.
        port = address.port if isinstance(address, TcpAddress) else 0
        return Login(
            sessions=Sessions(),
            attempts=Attempts(),
            link=Link() if self._door.settings.token_file is None else None,
            token=self._token,
            cookie=f"__Host-cftpki-{port}" if is_tls else f"cftpki-{port}",
            is_secure=is_tls,
            told=self._tell_link,
            log=self._log,
        )

    def _token(self) -> bytes | None:
        """
        The token as it is in its file now; `None` where there is none, or it cannot be read.
        """
        file = self._door.settings.token_file
        if file is None:
            return None
        with contextlib.suppress(CftPkiError):
            return read_regular(file, cap=_MAX_TOKEN_BYTES, what="token").data.strip() or None
        self._log.error("console_token_unreadable", file=str(file))
        return None

    def _tell(self, login: Login | None) -> None:
        address = self._door.address
        self._log.info("console_served", address=str(address), tls=self._door.is_tls, version=version())
        if isinstance(address, Path) and not self._door.wants_token:
            self._log.info(
                "console_open",
                detail=f"from your desk: ssh -L 8443:{address} {socket.gethostname()}, then http://localhost:8443/",
            )
        elif login is not None and login.link is not None:
            self._tell_link(login.link)

    def _tell_link(self, link: Link) -> None:
        scheme = "https" if self._door.is_tls else "http"
        self._log.info(
            "console_link", link=f"{scheme}://{self._door.address}/enter/{link.key}", detail="counts once"
        )
