"""
The process that keeps our own certificates: it asks CAs and holds what they are asked with, and no host reaches it.

The new key of an order, the key in force where a CA is shown it, account keys and TLS client keys of enrollers are in its
memory, so that they are never in the front's. It reads and writes the state directory by itself, under the same locks as
the commands; ended at any moment, it takes up from the journal what was under way.

    front → process     settings    those in force from now on
                        answer      to what it asked
                        alive       it is
                        stop        end what is under way, in order
    process → front     began       the manager was made, and has looked at nothing yet
                        fault       it could not be; it is tried again
                        row         how an identity stands now
                        event       for the audit trail
                        log         what libraries and adapters tell
                        ask         whether a chain of ours is revoked, or what a signer says of a key

More than 400 lines: both ends of what is said stand beside each other, so that they cannot drift apart.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.identity_settings import ManagedIdentity
from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import Settings
from cftpki_ext.identity.renewal.advice import Found, OwnStatus
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.layout import Log as Event
from cftpki_ext.identity.store.layout import Site
from cftpki_ext.ports.clock import Clock
from cftpki_ext.processes.channel import ChildChannel
from cftpki_ext.processes.child import Attended
from cftpki_ext.processes.confine import Bounds, SystemCalls
from cftpki_ext.processes.frames import Frame, Kind, Message
from cftpki_ext.processes.progress import Watch
from cftpki_ext.processes.worker import Role, Worker, WorkerError
from cftpki_ext.service.children import Children
from cftpki_ext.service.renewals import Renewals, blocked, make_manager, managed, short
from cftpki_ext.service.renewals_settings import enrollers_from, settings_from, settings_to
from cftpki_ext.support.logs import fields_of, set_up

# Hooks and challenge programs are the operator's: a limit, or no_new_privileges, would be theirs as well.
ROLE = Role(
    name="renewals",
    factory="cftpki_ext.bootstrap.renewing:make",
    bounds=Bounds(memory_bytes=None, descriptors=None, file_bytes=None, calls=SystemCalls.PROGRAMS),
    watch=Watch.STOPPED,
)
# How often the process is asked whether it answers, and how long it may take: making a key of 4096 bits holds it up
# for seconds on a slow machine.
LOOK_S = 10.0
ALIVE_S = 60.0
# What is under way is cut off and written down; a CA is not waited for.
STOP_S = 5.0
# Longer than the budget of any check of ours.
ASK_S = 60.0
# Questions that the front answers at once: each identity has one.
MOST_ASKED = 256


# --- the front's end --------------------------------------------------------------------------------------------------


class RenewalsProcess:
    """
    The identities that enrollers keep, kept by a process of their own. For one event loop.

    The process is there as long as the configuration has such an identity.

    Args:
        settings: those in force.
        children: begins it.
        own_status: makes our own check of our own certificates from settings.
        key_fault: why the key in force of an identity cannot be used, as its signer says.
        event: the audit trail.
        log: the log.

    """

    def __init__(
        self,
        settings: Settings,
        *,
        children: Children,
        own_status: Callable[[Settings], OwnStatus],
        key_fault: Callable[[str], Awaitable[str | None]],
        event: Event,
        log: Log,
    ) -> None:
        self._settings = settings
        self._log = log
        self._children = children
        self._own_status = own_status
        self._key_fault = key_fault
        self._event = event
        self._worker: Worker | None = None
        self._changed = asyncio.Event()
        self._was_up = False
        self._rows: dict[str, Mapping[str, object]] = {}
        self._fault: str | None = None
        self._answering: set[asyncio.Task[None]] = set()

    def replace(self, settings: Settings) -> None:
        """
        Take over a new configuration: what is under way is cut off and taken up again from the journal.
        """
        self._settings = settings
        self._changed.set()

    async def run(self) -> None:
        """
        Have the process, where it is wanted, until it is cancelled; one that hangs is ended, and begun again.
        """
        told = self._settings
        try:
            while True:
                self._changed.clear()
                wanted = self._settings
                if not managed(wanted):
                    await self._end()
                elif self._worker is None:
                    self._worker = self._begin()
                elif told is wanted:
                    await self._call({"op": "alive"}, within_s=ALIVE_S)
                else:
                    message = settings_to(wanted)
                    await self._call({"op": "settings", **message.value}, *message.parts, within_s=ALIVE_S)
                told = wanted
                await self._pause()
        finally:
            await self._end()

    def status(self) -> Mapping[str, object]:
        """
        How each identity stands, for STATUS; from memory. Where nobody keeps them, each says so.
        """
        fault = self.fault()
        if fault is None:
            return dict(self._rows)
        kept = replace(self._settings, identities=managed(self._settings))
        return {**self._rows, **blocked(kept, fault)}

    def fault(self) -> str | None:
        """
        Why nobody keeps them now, `None` where somebody does, or where there is nothing to keep.
        """
        if self._worker is not None and self._was_up and not self._worker.is_ready:
            return "the process that keeps them has ended; it is begun again"
        return self._fault

    def _begin(self) -> Worker:
        return self._children.begin(
            ROLE, setup=lambda: settings_to(self._settings), ready=self._up, noted=self._noted
        )

    def _up(self, _: Worker) -> None:
        self._was_up = True

    async def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        try:
            if worker.is_ready:
                await worker.call(Message({"op": "stop"}), within_s=STOP_S)
        except WorkerError:
            pass  # it was late, or has ended: what it had is in the journal
        finally:
            for task in self._answering:
                task.cancel()
            self._rows, self._fault, self._was_up = {}, None, False
            await self._children.end(worker)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _call(self, value: Mapping[str, Any], *parts: bytes, within_s: float) -> None:
        if self._worker is None:
            return
        try:
            await self._worker.call(Message(value, parts), within_s=within_s)
        except WorkerError:
            return  # the log has why; the next one is made with the settings in force

    def _noted(self, message: Message) -> None:
        value = message.value
        match value["op"]:
            case "began":
                self._rows, self._fault = {}, None
            case "fault":
                self._fault = str(value["why"])
            case "row":
                self._rows[str(value["name"])] = dict(value["row"])
            case "event":
                self._event(str(value["event"]), **value["fields"])
            case "log":
                write = {logging.INFO: self._log.info, logging.WARNING: self._log.warning}
                write.get(value["level"], self._log.error)(str(value["event"]), **value["fields"])
            case "ask" if len(self._answering) < MOST_ASKED:
                task = asyncio.create_task(self._answer(message))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)

    async def _answer(self, question: Message) -> None:
        value = question.value
        answer: dict[str, Any] = {"op": "answer", "number": value["number"]}
        try:
            if value["about"] == "key":
                answer["fault"] = await self._key_fault(str(value["identity"]))
            else:
                answer["found"] = await self._found(value, question.parts)
        except CftPkiError as error:
            answer["error"] = str(error)
        except Exception as error:  # noqa: BLE001 - whoever waits for it must hear that there is none
            answer["error"] = f"{type(error).__name__}: {error}"
        await self._call(answer, within_s=ALIVE_S)

    async def _found(self, value: Mapping[str, Any], chain: tuple[bytes, ...]) -> Mapping[str, Any] | None:
        settings = self._settings
        identity = managed(settings).get(value["identity"])
        if identity is None:
            return None
        max_age = timedelta(seconds=value["max_age_s"])
        found = await self._own_status(settings)(identity, chain, max_age)
        return (
            None
            if found is None
            else {"revoked": found.revoked, "above": found.above, "detail": found.detail}
        )


# --- the process's end ------------------------------------------------------------------------------------------------


class AskedError(CftPkiError):
    """
    The front could not answer; what it says of it.
    """


class Keeping:
    """
    The process: renewals in an event loop that stands still while the front's calls are answered.

    Args:
        setup: of `settings_to`.
        clock: the time.

    """

    def __init__(self, setup: Message, clock: Clock) -> None:
        self._clock = clock
        self._given = setup
        self._loop = asyncio.new_event_loop()
        self._channel: ChildChannel | None = None
        self._running: asyncio.Task[None] | None = None
        self._renewals = Renewals(settings_from(setup), self._make, event=self._tell_event)
        self._asked: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._count = 0

    def attend(self, channel: ChildChannel) -> None:
        """
        Keep the identities until the front has something to say.
        """
        self._channel = channel
        if self._running is None:
            self._running = self._loop.create_task(self._renewals.run())
        if channel.is_waiting():
            return
        self._loop.add_reader(channel.fileno(), self._loop.stop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.remove_reader(channel.fileno())

    def answer(self, call: Message) -> Message:
        """
        Do what the front says.
        """
        value = call.value
        match value["op"]:
            case "settings":
                self._given = call
                self._renewals.replace(settings_from(call))
            case "answer":
                waiting = self._asked.get(value["number"])
                if waiting is not None and not waiting.done():
                    waiting.set_result(value)
            case "stop":
                self._loop.run_until_complete(self._stop())
        return Message()

    async def _stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def _make(self, settings: Settings) -> Manager:
        manager = make_manager(
            replace(settings, enrollers=enrollers_from(self._given)),
            clock=self._clock,
            event=self._tell_event,
            own_status=self._own_status,
            key_fault=self._key_fault,
            shown=lambda row: self._tell({"op": "row", "name": row.name, "row": short(row)}),
        )
        self._tell({"op": "began"})
        return manager

    async def _own_status(
        self, identity: ManagedIdentity, chain: tuple[bytes, ...], max_age: timedelta
    ) -> Found | None:
        if identity.trust is None:
            return None
        asked = {"about": "status", "identity": identity.name, "max_age_s": max_age.total_seconds()}
        found = (await self._ask(asked, *chain))["found"]
        return None if found is None else Found(**found)

    async def _key_fault(self, site: Site, _: Generation) -> str | None:
        fault: str | None = (await self._ask({"about": "key", "identity": site.identity.name}))["fault"]
        return fault

    async def _ask(self, question: Mapping[str, Any], *parts: bytes) -> Mapping[str, Any]:
        self._count += 1
        number = self._count
        answer = self._asked[number] = self._loop.create_future()
        try:
            self._tell({"op": "ask", "number": number, **question}, *parts)
            async with asyncio.timeout(ASK_S):
                told: Mapping[str, Any] = await answer
        except TimeoutError as exc:
            msg = f"the service did not say within {ASK_S:g} s"
            raise AskedError(msg) from exc
        finally:
            del self._asked[number]
        if "error" in told:
            raise AskedError(str(told["error"]))
        return told

    def _tell_event(self, name: str, **fields: Any) -> None:
        if name == "renewals_not_started":
            self._tell({"op": "fault", "why": fields["error"]})
        self._tell({"op": "event", "event": name, "fields": _plain(fields)})

    def tell_record(self, record: logging.LogRecord) -> None:
        """
        Hand on what came through `logging`, from any thread.
        """
        fields = _plain(fields_of(record))
        if record.exc_info is not None:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        self._tell({"op": "log", "level": record.levelno, "event": record.getMessage(), "fields": fields})

    def _tell(self, value: Mapping[str, Any], *parts: bytes) -> None:
        """
        Tell the front. One that is behind is waited for: an alarm that nobody hears is none.
        """
        if self._channel is not None:
            self._channel.send(Frame(Kind.NOTE, 0, Message(value, parts)))


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """
    What JSON can write; of what it cannot, the text.
    """
    plain: dict[str, Any] = json.loads(json.dumps(fields, default=str))
    return plain


class _Records(logging.Handler):
    """
    Hands on what comes through `logging`.
    """

    def __init__(self, tell: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """
        One record.
        """
        self._tell(record)


def serve_renewals(setup: Message, clock: Clock) -> Attended:
    """
    The process's side.

    Args:
        setup: of `settings_to`.
        clock: the time.

    Returns:
        What answers calls, and keeps the identities between them.

    """
    # Signals are the front's business and change nothing here; but what is ignored stays so in programs that we run.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda *_: None)
    keeping = Keeping(setup, clock)
    set_up(_Records(keeping.tell_record), level=logging.INFO)
    return Attended(keeping.answer, keeping.attend)
