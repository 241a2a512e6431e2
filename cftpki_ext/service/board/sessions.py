"""
The sessions that hosts answered from the board: each gets its record, its line in the log, and is counted.

Owns the datagram socket beside the service's, who may speak on it, and what waits to be kept. What never came is counted and
told. Nothing that comes here can let anybody in.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from cftpki_ext.checking.checker import new_verdict_id
from cftpki_ext.core.errors import WireError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import Rule
from cftpki_ext.core.values import dataclass
from cftpki_ext.evidence import row_of
from cftpki_ext.evidence.again import again
from cftpki_ext.evidence.writer import NotKept, Repeat
from cftpki_ext.exit.questions import asked_in
from cftpki_ext.exit.session import Presented, SessionContext
from cftpki_ext.ports import Repeated
from cftpki_ext.protocol.codec import Ending, Tag
from cftpki_ext.service.beside import allowed_users
from cftpki_ext.service.board.datagrams import SPACE, bind, close_descriptors, sender_of, stamp
from cftpki_ext.service.board.publisher import Given, Publisher
from cftpki_ext.service.board.told import MAX_OCTETS, Senders, Told, read
from cftpki_ext.service.shared import Service

NAME = "sessions"
# Datagrams that are read before others have their turn.
_TURN = 128
# Turns that a service takes before it stops: more than a socket's queue holds, and an end where somebody floods it.
_LAST_TURNS = 32
# Sessions that wait for their record: a burst of some seconds.
_WAITING = 20_000
# Records that are on their way to the ledger at a time: those that somebody waits for go between.
_BATCH = 256
# What the clocks of a host's process and of ours may differ by: they are one clock, read at two times.
_AHEAD = timedelta(seconds=2)
# What is missing for longer than this does not come any more.
_LATE_S = 1.0
# Of the time that a service has to stop.
_STOP_S = 5.0
# Log lines about what is refused: one of each kind in so long.
_QUIET_S = 10.0


@dataclass(frozen=True, slots=True)
class _Heard:
    told: Told
    session: SessionContext
    given: Given | None


class Sessions:
    """
    Takes what hosts tell. For one event loop.

    Args:
        service: whose sessions they are.
        publisher: whose board answered.
        seen: is told the name of each verdict that was given again.
        forget: a verdict's record has been let go: its entry, by its name, must end.

    """

    def __init__(
        self,
        service: Service,
        publisher: Publisher,
        *,
        seen: Callable[[bytes], None],
        forget: Callable[[bytes], None],
    ) -> None:
        self._service = service
        self._publisher = publisher
        self._seen = seen
        self._forget = forget
        self._log: Log = service.log
        self._senders = Senders()
        self._socket: socket.socket | None = None
        self._path: Path | None = None
        self._bound: tuple[int, int] | None = None
        self._waiting: asyncio.Queue[_Heard] = asyncio.Queue(_WAITING)
        self._accounting: asyncio.Task[None] | None = None
        self._under_way = 0  # that it accounts for
        self._counts: Counter[str] = Counter()
        self._quiet: dict[str, float] = {}
        self._missing = 0  # when that was looked at last
        self._counted_at = 0.0
        self._lost = 0  # that was told

    def open(self, folder: Path, *, like: Path) -> None:
        """
        Listen in the folder beside the service's socket.

        Args:
            folder: the folder; ours alone to write.
            like: the service's socket, whose group and mode this one has.

        Raises:
            OSError: it cannot be opened.

        """
        path = folder / NAME
        bound = bind(path, like=like)
        self._socket, self._path, self._bound = bound, path, stamp(path)
        asyncio.get_running_loop().add_reader(bound.fileno(), self._read)

    def open_again(self, folder: Callable[[Path], Path], *, like: Path) -> None:
        """
        Listen anew where somebody has removed the socket: hosts would answer sessions of which nobody hears.

        Args:
            folder: gives the folder, as it was given for `open`.
            like: see `open`.

        """
        if self._path is None or stamp(self._path) == self._bound:
            return
        self._say("board_sessions_unheard", detail=f"{self._path} is gone, and is made again")
        try:
            place = folder(like)
            self.close()
            self.open(place, like=like)
        except OSError as error:
            self._say("board_session_unread", error=str(error))

    async def run(self) -> None:
        """
        Keep the records of what comes, until cancelled; `drain` waits for those that are being kept then.
        """
        while True:
            await self._account(await self._waiting.get())

    async def _account(self, heard: _Heard) -> None:
        self._accounting = asyncio.create_task(self._account_for([heard]))
        try:
            await asyncio.shield(self._accounting)
        except Exception as error:  # noqa: BLE001 - those that come later are to be accounted for
            self._counts["dropped"] += self._under_way
            self._under_way = 0
            self._log.error("board_session_not_recorded", error=repr(error))

    async def drain(self) -> None:
        """
        Read what has come and keep its records, as far as that goes in the time that a stop has.
        """
        for _ in range(_LAST_TURNS):
            if not self._read():
                break
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                if self._accounting is not None:
                    await asyncio.wait((self._accounting,))
                while not self._waiting.empty():
                    await self._account(self._waiting.get_nowait())
        if lost := self._waiting.qsize() + self._under_way:
            self._log.warning("board_sessions_lost", count=lost, detail="the service stops")
        if self._accounting is not None:
            self._accounting.cancel()

    async def _account_for(self, batch: list[_Heard]) -> None:
        """
        Record, count and log sessions.
        """
        while len(batch) < _BATCH and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        self._under_way = len(batch)
        pairs = [(heard, self._repeat_of(heard)) for heard in batch]
        repeats = [repeat for _, repeat in pairs if repeat is not None]
        records = iter(await self._service.keeper.keep_repeats(repeats))
        for heard, repeat in pairs:
            record = next(records) if repeat is not None else None
            try:
                if heard.given is not None and repeat is not None and record is not None:
                    self._report(heard, heard.given, repeat, record)
                self._tell(heard.told, heard.session)
            except Exception as error:  # noqa: BLE001 - one session must not keep the others from being accounted for
                self._log.error("board_session_not_recorded", error=repr(error))
            self._counts["sessions"] += 1
        self._under_way = 0

    def _repeat_of(self, heard: _Heard) -> Repeat | None:
        if heard.given is None:
            return None
        try:
            return _again(heard, heard.given)
        except Exception as error:  # noqa: BLE001 - as in `_account_for`
            self._log.error("board_session_not_recorded", error=repr(error))
            return None

    def _report(self, heard: _Heard, given: Given, repeat: Repeat, record: str | NotKept) -> None:
        """
        Count and log a verdict that a host gave again.
        """
        self._seen(given.name)
        if record is NotKept.GONE:
            # What it repeats has been let go: the partner is judged anew.
            self._forget(given.name)
        verdict = given.standing.at(heard.told.at, repeat.id)
        self._service.verdicts.add(row_of(verdict, asked_in(heard.session)))
        kept = None if isinstance(record, NotKept) else record
        self._service.audit.verdict(verdict, heard.session, elapsed_ms=0, record=kept)
        self._counts["given"] += 1

    def close(self) -> None:
        """
        Stop listening.
        """
        bound, self._socket = self._socket, None
        if bound is None:
            return
        asyncio.get_running_loop().remove_reader(bound.fileno())
        bound.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def status(self) -> dict[str, Any]:
        """
        The counts since the start, for STATUS.
        """
        return {
            "hosts": self._senders.count,
            "sessions": self._counts["sessions"],
            "given": self._counts["given"],
            "lost": self._lost + self._counts["dropped"],
            "refused": self._counts["refused"],
        }

    def _read(self) -> bool:
        """
        Read what has come; whether there may be more.
        """
        for _ in range(_TURN):
            if self._socket is None:
                return False
            try:
                datagram, ancillary, flags, _ = self._socket.recvmsg(MAX_OCTETS + 1, SPACE)
            except BlockingIOError:
                return False
            except OSError as error:
                self._say("board_session_unread", error=str(error))
                return False
            close_descriptors(ancillary)
            self.hear(datagram, sender_of(ancillary), whole=not flags & socket.MSG_TRUNC)
        return True

    def hear(self, datagram: bytes, uid: int | None, *, whole: bool = True) -> None:
        """
        Take one datagram.

        Args:
            datagram: as it came.
            uid: of the process that sent it, as the kernel says.
            whole: whether nothing of it was cut off.

        """
        if uid is None or uid not in allowed_users(self._service.settings):
            self._refuse(f"user {uid} may not use this service (service.allow_users)")
            return
        try:
            # What was cut off has one octet more than is read.
            told = read(datagram if whole else bytes(MAX_OCTETS + 1))
        except WireError as error:
            self._refuse(str(error))
            return
        self._senders.hear(uid, told.sender, told.number)
        rule = self._publisher.rule(told.rule)
        given = None if told.entry is None else self._publisher.given(told.board, told.entry)
        fault = self._fault(told, rule, given)
        if fault is not None or rule is None:
            self._refuse(fault or "")
            return
        try:
            self._waiting.put_nowait(_Heard(told, told.session(rule), given))
        except asyncio.QueueFull:
            self._counts["dropped"] += 1
            self._say("board_sessions_lost", count=1, user=uid, detail="more wait than can be kept")

    def count_lost(self) -> None:
        """
        Tell of sessions that have been missing for a while: threads of a host may overtake each other.
        """
        now = self._service.clock.monotonic()
        if now < self._counted_at + _LATE_S:
            return
        lasting = min(self._missing, self._senders.missing)
        self._counted_at, self._missing = now, self._senders.missing
        if lasting > self._lost:
            self._log.warning(
                "board_sessions_lost", count=lasting - self._lost, detail="nothing came of them"
            )
            self._lost = lasting

    def _fault(self, told: Told, rule: Rule | None, given: Given | None) -> str | None:
        if rule is None:
            return f"no rule {printable(told.rule)!r}"
        if rule.direction is not told.direction:
            return f"rule {rule.name!r} is not for {told.direction.value} mode"
        now = self._service.clock.now()
        if told.entry is None:
            return (
                None if told.at <= now + _AHEAD else f"a session of {told.at.isoformat()}, which is to come"
            )
        if given is None:
            return f"no entry {told.entry} of board {told.board.hex()}"
        standing = given.standing
        if told.verdict_id != standing.verdict.id or rule.name != standing.question.rule:
            return f"entry {told.entry} of board {told.board.hex()} is another verdict's"
        # The board's times are in milliseconds.
        begin = standing.verdict.evidence.decided_at - timedelta(milliseconds=1)
        if not begin <= told.at <= min(standing.until, now + _AHEAD):
            return f"entry {told.entry} of board {told.board.hex()} did not hold at {told.at.isoformat()}"
        return None

    def _tell(self, told: Told, session: SessionContext) -> None:
        audit, frame = self._service.audit, told.frame
        generation = frame.number(Tag.GENERATION)
        if generation is not None and session.rule.identity is not None:
            presented = Presented(name=session.rule.identity, generation=generation, fingerprint=b"")
            audit.event(
                "certificate_given", session, identity=presented.name, generation=presented.generation
            )
        match told.ending:
            case Ending.DONE:
                audit.event("handshake_done", session, verdict_id=told.verdict_id)
            case Ending.ALERT:
                side = "host" if frame.number(Tag.ALERT_SIDE) == 1 else "partner"
                audit.event("handshake_alert", session, alert=frame.number(Tag.ALERT), side=side)
            case Ending.LEFT:
                audit.event("session_lost", session)

    def _refuse(self, detail: str) -> None:
        self._counts["refused"] += 1
        self._say("board_session_refused", detail=detail)

    def _say(self, event: str, **fields: Any) -> None:
        """
        Warn, of each kind once in a while: who floods this socket must not flood the log.
        """
        now = self._service.clock.monotonic()
        if now >= self._quiet.get(event, 0.0):
            self._quiet[event] = now + _QUIET_S
            self._log.warning(event, **fields)


def _again(heard: _Heard, given: Given) -> Repeat:
    """
    The record of a verdict that a host gave again: an id of its own, at the host's time.
    """
    told, standing = heard.told, given.standing
    verdict_id = new_verdict_id(int(told.at.timestamp() * 1000))
    repeated = Repeated(id=standing.verdict.id, document=standing.document)
    stored = again(repeated, verdict_id=verdict_id, at=told.at, asked=asked_in(heard.session))
    return Repeat(id=verdict_id, stored=stored)
