"""
Sends what is due: looks at the service's state and events, keeps a book for each receiver, and waits for nobody else.

Owns the pace, the deadline of a message, and the file by which all-clears survive a restart. Decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cftpki_ext.core.errors import CftPkiError, InputError
from cftpki_ext.core.log import Log
from cftpki_ext.core.notify import AnyReceiver, Condition, Notice, NoticeMessage
from cftpki_ext.core.settings import Settings
from cftpki_ext.identity.store.durable import replace_file
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.notices import NoticeSender
from cftpki_ext.service.notices.book import MOST_NOTICES, Book
from cftpki_ext.service.notices.heard import Heard
from cftpki_ext.service.notices.standing import standing
from cftpki_ext.support.failures import reason_of
from cftpki_ext.support.files import read_regular

# Between two looks: what begins is told after `settle`, so that this is never long.
LOOK_S = 5.0
# One message to one receiver: a mail server that greylists by waiting needs half of it.
SEND_S = 60.0
FILE = "notices.json"
# Sixteen receivers, each with all that is remembered.
MAX_FILE_BYTES = 16 * 1024 * 1024

MakeSender = Callable[[AnyReceiver], NoticeSender]


class _Desk:
    """
    One receiver: its book, what sends to it, and the message under way.
    """

    def __init__(self, receiver: AnyReceiver, sender: NoticeSender) -> None:
        self.receiver = receiver
        self.sender = sender
        self.book = Book(receiver.kinds)
        self.sending: asyncio.Task[None] | None = None
        self.sent = self.failed = 0
        self.last: datetime | None = None
        self.error: str | None = None


class Notices:
    """
    All receivers of a service. For one event loop; never raises into whoever tells it of events.

    Args:
        settings: in force.
        status: what the service tells of itself.
        make: makes what sends to a receiver.
        log: is told when a receiver takes nothing, and when it does again.
        clock: the time.
        host: this machine's name.

    """

    def __init__(
        self,
        settings: Settings,
        *,
        status: Callable[[], Mapping[str, Any]],
        make: MakeSender,
        log: Log,
        clock: Clock,
        host: str,
    ) -> None:
        self._settings = settings
        self._status = status
        self._make = make
        self._log = log
        self._clock = clock
        self._host = host
        self._heard = Heard()
        self._desks: dict[str, _Desk] = {}
        self._old: list[_Desk] = []
        self._wake = asyncio.Event()
        self._saved: dict[str, Any] = {}
        self._broken = False

    # --- what the service tells ---------------------------------------------------------------------------------------

    def hear(self, event: str, fields: Mapping[str, Any]) -> None:
        """
        An event of the log.
        """
        with contextlib.suppress(Exception):  # a fault of ours must not reach a handshake
            if self._heard.hear(event, fields, self._clock.now()):
                self._wake.set()

    def replace_settings(self, settings: Settings) -> None:
        """
        Take over a new configuration.
        """
        self._settings = settings
        self._wake.set()

    def status(self) -> dict[str, Any]:
        """
        For STATUS: of each receiver, how many messages it took, and why it does not take the next.
        """
        return {
            name: {
                "sent": desk.sent,
                "failed": desk.failed,
                "last": None if desk.last is None else desk.last.isoformat(timespec="seconds"),
                "error": desk.error,
                "holding": desk.book.holding,
            }
            for name, desk in self._desks.items()
        }

    # --- what it does -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """
        Tell until cancelled.
        """
        self._saved = await asyncio.to_thread(self._read)
        try:
            while True:
                self._wake.clear()
                try:
                    await self._round()
                    self._broken = False
                except Exception as error:  # noqa: BLE001 - a fault of ours must not end the notices for good
                    if not self._broken:
                        self._log.error("notices_failed", error=repr(error))
                    self._broken = True
                pause_s = min(LOOK_S, self._settings.notify.settle.total_seconds() / 2)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s if self._desks else None):
                        await self._wake.wait()
                if self._desks:
                    await asyncio.sleep(min(pause_s, 0.2))  # events come in crowds
        finally:
            await self._close([*self._desks.values(), *self._old])

    async def _round(self) -> None:
        await self._arrange()
        if not self._desks:
            return
        now = self._clock.now()
        holding = self._holding(now)
        for desk in self._desks.values():
            desk.book.look(holding, now)
            if desk.sending is not None and not desk.sending.done():
                continue
            notices = desk.book.due(self._settings.notify, now)
            if notices:
                desk.sending = asyncio.create_task(self._send(desk, notices))

    def _holding(self, now: datetime) -> tuple[Condition, ...]:
        # What happened comes first: there is room for so many.
        return (*self._heard.conditions(now), *standing(self._status(), self._settings, now=now))

    async def _arrange(self) -> None:
        """
        A desk for each receiver of the configuration in force; those that stay as they were go on.
        """
        wanted = {one.name: one for one in self._settings.notify.receivers}
        for name, desk in list(self._desks.items()):
            if wanted.get(name) != desk.receiver:
                self._saved[name] = desk.book.saved()
                self._old.append(self._desks.pop(name))
        if self._old:
            old, self._old = self._old, []
            await self._close(old)
        for name, receiver in wanted.items():
            if name not in self._desks:
                desk = self._desks[name] = _Desk(receiver, self._make(receiver))
                desk.book.restore(self._saved.pop(name, None), self._clock.now())

    async def _send(self, desk: _Desk, notices: tuple[Notice, ...]) -> None:
        message = self._message(notices)
        error: str | None = None
        try:
            async with asyncio.timeout(SEND_S):
                await desk.sender.send(message, deadline=self._clock.monotonic() + SEND_S)
        except TimeoutError:
            error = f"no answer within {SEND_S:.0f} s"
        except CftPkiError as exc:
            error = str(exc)
        except Exception as exc:  # noqa: BLE001 - whatever a receiver makes of it: the others are told
            error = reason_of(exc)
        now = self._clock.now()
        if error is None:
            # Those without room are due at once.
            desk.book.delivered(message.notices, now)
            desk.sent += 1
            desk.last = now
            if desk.error is not None:
                self._log.info("notices_taken_again", receiver=desk.receiver.name)
            desk.error = None
            await self._save()
        else:
            desk.book.failed(now)
            desk.failed += 1
            if desk.error is None:
                detail = "tried again until it is taken; told once"
                self._log.warning("notice_not_taken", receiver=desk.receiver.name, error=error, detail=detail)
            desk.error = error

    def _message(self, notices: tuple[Notice, ...]) -> NoticeMessage:
        return NoticeMessage(
            id=secrets.token_hex(16),
            at=self._clock.now(),
            host=self._host,
            notices=notices[:MOST_NOTICES],
            more=max(0, len(notices) - MOST_NOTICES),
        )

    # --- over a restart -----------------------------------------------------------------------------------------------

    @property
    def _file(self) -> Path:
        return self._settings.service.state / FILE

    def _read(self) -> dict[str, Any]:
        try:
            return books_in(read_regular(self._file, cap=MAX_FILE_BYTES, what="notices").data)
        except InputError:
            return {}  # not there yet, or not for us: what holds is told anew

    async def _save(self) -> None:
        books = {name: desk.book.saved() for name, desk in self._desks.items()}
        data = json.dumps({"format": 1, "books": books}).encode()
        try:
            await asyncio.to_thread(replace_file, self._file, data)
        except CftPkiError as error:
            self._log.warning("notices_not_remembered", error=str(error))

    @staticmethod
    async def _close(desks: list[_Desk]) -> None:
        for desk in desks:
            if desk.sending is not None:
                desk.sending.cancel()
                await asyncio.gather(desk.sending, return_exceptions=True)
            with contextlib.suppress(Exception):  # it is done with
                await desk.sender.aclose()


def books_in(data: bytes) -> dict[str, Any]:
    """
    The books in a file of ours, by receiver; what they hold is looked at by `Book.restore`.

    Args:
        data: of the file, at most `MAX_FILE_BYTES`.

    Returns:
        Nothing where it is no such file.

    """
    if len(data) > MAX_FILE_BYTES:
        return {}
    try:
        read = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    books = read.get("books") if isinstance(read, dict) and read.get("format") == 1 else None
    return books if isinstance(books, dict) else {}
