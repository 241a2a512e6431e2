"""
The sessions that hosts answered from the board: each gets its record, its line in the log, and is counted.

Owns the datagram socket beside the service's, who may speak on it, and what waits to be kept. What never came is counted and
told. Nothing that comes here can let anybody in.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from cftpki_ext.core.errors import WireError
from cftpki_ext.core.log import Log
from cftpki_ext.evidence.writer import NotKept, Repeat
from cftpki_ext.service.beside import allowed_users
from cftpki_ext.service.board.datagrams import bind, stamp
from cftpki_ext.service.board.gathering import Datagram, Gatherer
from cftpki_ext.service.board.heard import Heard, Known, fault_of, known_by, lines_of, repeat_of
from cftpki_ext.service.board.publisher import Publisher
from cftpki_ext.service.board.told import Reader, Senders, Told
from cftpki_ext.service.monitoring.measures import Tier
from cftpki_ext.service.shared import Service

NAME = "sessions"
# Turns that a service takes before it stops: more than a socket's queue holds, and an end where somebody floods it.
_LAST_TURNS = 32
# Sessions that wait for their record: a burst of some seconds.
_WAITING = 20_000
# Records that are on their way to the ledger at a time: those that somebody waits for go between.
_BATCH = 256
# Of these, what is done before others have their turn.
_TURN = 64
# Entries of which the parts of a line and a record are remembered, a few KiB each.
_KNOWN = 1024
# What is missing for longer than this does not come any more.
_LATE_S = 1.0
# Of the time that a service has to stop.
_STOP_S = 5.0
# Log lines about what is refused: one of each kind in so long.
_QUIET_S = 10.0

_One = TypeVar("_One")


class Sessions:
    """
    Takes what hosts tell. For one event loop.

    Args:
        service: whose sessions they are.
        publisher: whose board answered.
        library: of `native.load`.
        seen: is told the name of each verdict that was given again.
        forget: a verdict's record has been let go: its entry, by its name, must end.

    """

    def __init__(
        self,
        service: Service,
        publisher: Publisher,
        *,
        library: ctypes.CDLL,
        seen: Callable[[bytes], None],
        forget: Callable[[bytes], None],
    ) -> None:
        self._service = service
        self._publisher = publisher
        self._library = library
        self._seen = seen
        self._forget = forget
        self._log: Log = service.log
        self._senders = Senders()
        self._reader = Reader()
        self._known: OrderedDict[tuple[bytes, int], Known] = OrderedDict()
        self._socket: socket.socket | None = None
        self._gatherer: Gatherer | None = None
        self._path: Path | None = None
        self._bound: tuple[int, int] | None = None
        self._waiting: deque[Heard] = deque()
        self._come = asyncio.Event()
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
        self._gatherer = Gatherer(self._library, bound, hear=self.hear_all, failed=self._unread)

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
            self._unread(str(error))

    async def run(self) -> None:
        """
        Keep the records of what comes, until cancelled; `drain` waits for those that are being kept then.
        """
        while True:
            await self._come.wait()
            self._come.clear()
            while self._waiting:
                await self._account()

    async def _account(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        self._under_way = len(batch)
        self._accounting = asyncio.create_task(self._account_for(batch))
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
        if self._gatherer is not None:
            self._gatherer.stop()
            for _ in range(_LAST_TURNS):
                if not self._gatherer.rest():
                    break
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                if self._accounting is not None:
                    await asyncio.wait((self._accounting,))
                while self._waiting:
                    await self._account()
        if lost := len(self._waiting) + self._under_way:
            self._log.warning("board_sessions_lost", count=lost, detail="the service stops")
        if self._accounting is not None:
            self._accounting.cancel()

    async def _account_for(self, batch: Sequence[Heard]) -> None:
        """
        Record, count and log sessions.
        """
        pairs: list[tuple[Heard, Repeat | None]] = []
        for come in _turns(batch):
            if pairs:
                await asyncio.sleep(0)
            pairs += [(heard, self._repeat_of(heard)) for heard in come]
        records = iter(
            await self._service.keeper.keep_repeats([repeat for _, repeat in pairs if repeat is not None])
        )
        for name in {heard.known.given.name for heard, _ in pairs if heard.known is not None}:
            self._seen(name)
        for number, turn in enumerate(_turns(pairs)):
            if number:
                await asyncio.sleep(0)
            lines: list[tuple[str, dict[str, Any]]] = []
            for heard, repeat in turn:
                record = next(records) if repeat is not None else None
                try:
                    about = heard.told.about
                    if heard.known is not None and repeat is not None and record is not None:
                        lines.append(self._report(heard.known, repeat, record, about))
                    lines += lines_of(heard, about)
                except Exception as error:  # noqa: BLE001 - one session must not keep the others from being accounted for
                    self._log.error("board_session_not_recorded", error=repr(error))
            self._service.audit.many(lines)
            self._counts["sessions"] += len(turn)
            self._under_way -= len(turn)

    def _repeat_of(self, heard: Heard) -> Repeat | None:
        if heard.known is None:
            return None
        try:
            return repeat_of(heard.told, heard.known)
        except Exception as error:  # noqa: BLE001 - as in `_account_for`
            self._log.error("board_session_not_recorded", error=repr(error))
            return None

    def _report(
        self, known: Known, repeat: Repeat, record: str | NotKept, about: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """
        Count a verdict that a host gave again; its line, as `LogAudit.verdict` writes it.
        """
        if record is NotKept.GONE:
            # What it repeats has been let go: the partner is judged anew.
            self._forget(known.given.name)
        # Whatever tells two rows of a verdict apart that was accepted without a warning is not counted.
        self._service.verdicts.add(known.row)
        self._service.measures.verdict(known.row, Tier.BOARD)
        self._counts["given"] += 1
        kept = None if isinstance(record, NotKept) else record
        return "verdict", {"verdict_id": repeat.id, "record": kept, **known.line, "elapsed_ms": 0, **about}

    def close(self) -> None:
        """
        Stop listening.
        """
        bound, self._socket = self._socket, None
        gatherer, self._gatherer = self._gatherer, None
        if gatherer is not None:
            gatherer.stop()
        if bound is None:
            return
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

    def hear(self, datagram: bytes, uid: int | None) -> None:
        """
        Take one datagram; see `hear_all`.
        """
        self.hear_all(((datagram, uid),))

    def hear_all(self, datagrams: Sequence[Datagram]) -> None:
        """
        Take datagrams.

        Args:
            datagrams: as they came, each with the user id of the process that sent it, as the kernel says.

        """
        allowed, now = allowed_users(self._service.settings), self._service.clock.now()
        for datagram, uid in datagrams:
            if uid is None or uid not in allowed:
                self._refuse(f"user {uid} may not use this service (service.allow_users)")
                continue
            try:
                self._hear(datagram, uid, now)
            except WireError as error:
                self._refuse(str(error))
            except Exception as error:  # noqa: BLE001 - as in `_account_for`
                self._counts["dropped"] += 1
                self._log.error("board_session_not_recorded", error=repr(error))
        self._come.set()

    def _hear(self, datagram: bytes, uid: int, now: datetime) -> None:
        told = self._reader.read(datagram)
        self._senders.hear(uid, told.sender, told.number)
        rule = self._publisher.rule(told.rule)
        known = self._known_of(told)
        fault = fault_of(told, rule, known, now)
        if fault is not None or rule is None:
            self._refuse(fault or "")
        elif len(self._waiting) >= _WAITING:
            self._counts["dropped"] += 1
            self._say("board_sessions_lost", count=1, user=uid, detail="more wait than can be kept")
        else:
            self._waiting.append(Heard(told, rule, known))

    def _known_of(self, told: Told) -> Known | None:
        """
        What an entry gave; `None`: none did, or there is no such entry.
        """
        if told.entry is None:
            return None
        given = self._publisher.given(told.board, told.entry)
        if given is None:
            return None
        place = told.board, told.entry
        known = self._known.get(place)
        if known is None or known.given.standing is not given.standing:
            known = self._known[place] = known_by(told, given)
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        return known

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

    def _unread(self, error: str) -> None:
        self._say("board_session_unread", error=error)

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


def _turns(many: Sequence[_One]) -> Iterable[Sequence[_One]]:
    return (many[begin : begin + _TURN] for begin in range(0, len(many), _TURN))
