"""
A case whose judge is in another process, as the driver sees it.

Owns what is said for each step, and to whom it is said again. Nothing here reads ASN.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cftpki_ext.checking.case import Outcome, Place, Turn
from cftpki_ext.checking.checker import new_verdict_id
from cftpki_ext.core.octets import LargeOctets, whole_of
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import replace
from cftpki_ext.decision.question import Question
from cftpki_ext.decision.settling import Situation
from cftpki_ext.evidence import Asked, RecordBytes
from cftpki_ext.evidence.record import write_statement
from cftpki_ext.ports.clock import Clock
from cftpki_ext.processes.channel import close_all
from cftpki_ext.processes.copying import memory_file_in_thread
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.memory_files import memory_file
from cftpki_ext.processes.worker import WorkerError
from cftpki_ext.service.judging import exchange
from cftpki_ext.service.judging.exchange import ExchangeError
from cftpki_ext.service.judging.pool import HEAVY_OCTETS, Job, Pool, Seat
from cftpki_ext.support.file_octets import FileIndex, FileOctets

# A judge that has lost a case, or octets, is told them again; one that asks again and again is broken.
_REPEATS = 4


class RemoteCase:
    """
    An `OpenCase` whose judge is in another process.
    """

    def __init__(
        self,
        pool: Pool,
        question: Question,
        clock: Clock,
        *,
        number: int,
        asked: Asked | None,
        known: bool,
        damaged: Callable[[LargeOctets], None],
    ) -> None:
        self._damaged = damaged
        self.stored: RecordBytes | None = None
        self._pool = pool
        self._question = question
        self._clock = clock
        self._number = number
        self._asked = asked
        self._known = known
        self._verdict_id = new_verdict_id(int(clock.now().timestamp() * 1000))
        limits = question.limits
        self._until = clock.monotonic() + limits.budget_ms / 1000
        # All that the judge was told, in order; the numbers are by identity, and the list keeps them alive.
        self._statements: list[Statement] = []
        self._numbers: dict[int, int] = {}
        self._told = 0
        self._begun = False
        self._octets = sum(map(len, question.chain)) + len(question.message or b"")
        self._changes = 0
        self._blobs: dict[str, bytes | LargeOctets] = {}
        self._texts: list[str] = []
        self._files: dict[str, int] = {}
        self._indexes: list[FileIndex] = []
        self._said: tuple[Settings, dict[str, Any], Mapping[str, bytes]] | None = None

    async def advance(
        self, situation: Situation, *, recalled: frozenset[str], looked_up: Sequence[Place]
    ) -> Turn:
        """
        See `OpenCase`.
        """
        said = {
            "situation": exchange.situation_to(situation, self._number_of),
            "recalled": list(recalled),
            "looked_up": [[*exchange.lookup_to(one.lookup), one.key] for one in looked_up],
            "final": None,
        }
        seat, answer = await self._say(said)
        try:
            turn = self._turn(answer)
            if turn.done:
                heard = (*situation.statements, *turn.hear)
                turn = replace(turn, outcome=self._outcome(answer, heard))
        except ExchangeError as error:
            self._pool.distrust(seat, str(error))
            raise
        return turn

    async def conclude(self, statements: Sequence[Statement], *, verdict_id: str) -> Outcome:
        """
        See `OpenCase`; the name of the verdict is the case's own.
        """
        del verdict_id
        said = {
            "situation": None,
            "recalled": [],
            "looked_up": [],
            "final": [*map(self._number_of, statements)],
        }
        seat, answer = await self._say(said)
        try:
            return self._outcome(answer, tuple(statements))
        except ExchangeError as error:
            self._pool.distrust(seat, str(error))
            raise

    async def aclose(self) -> None:
        """
        Release what was handed to judges.
        """
        if self._files:
            numbers, self._files = tuple(self._files.values()), {}
            await asyncio.to_thread(close_all, numbers)

    def _number_of(self, statement: Statement) -> int:
        number = self._numbers.get(id(statement))
        if number is None:
            number = self._numbers[id(statement)] = len(self._statements)
            self._statements.append(statement)
            written = write_statement(statement)
            self._texts.append(written.text)
            self._blobs.update(written.blobs)
        return number

    async def _say(self, said: Mapping[str, Any]) -> tuple[Seat, Message]:
        """
        Say one step to a judge, and again what it turns out not to know.
        """
        whole = False
        seats: list[Seat] = []
        for _ in range(_REPEATS):
            large = tuple(digest for digest, raw in self._blobs.items() if _is_large(raw))
            job = Job(
                known=self._known,
                source=self._asked.remote if self._asked is not None else "",
                case=self._number,
                begun=self._begun,
                octets=self._octets,
                large=large,
                heavy=any(_is_heavy(self._blobs[digest]) for digest in large),
            )

            for digest in large if job.heavy else ():
                raw = self._blobs[digest]
                if isinstance(raw, bytes) and digest not in self._files and self._pool.lacks(digest):
                    self._files[digest] = await memory_file_in_thread(raw)

            def build(seat: Seat, *, whole: bool = whole, large: tuple[str, ...] = large) -> Message:
                seats.append(seat)
                return self._message(seat, said, large, whole=whole or self._number not in seat.cases)

            answer = await self._pool.call(job, build, within_s=self._until - self._clock.monotonic())
            self._tell_damaged(answer, seats[-1])
            if answer.value.get("unknown"):
                whole = True
                continue
            missing = answer.value.get("missing")
            if missing:
                seats[-1].bodies.difference_update(map(str, missing))
                continue
            self._told = len(self._statements)
            self._begun = True
            return seats[-1], answer
        msg = "a judge loses what it is told"
        self._pool.distrust(seats[-1], msg)
        raise WorkerError(msg)

    def _tell_damaged(self, answer: Message, seat: Seat) -> None:
        """
        Have indexes made anew that a judge found damaged; a list that cannot be read decides nothing.
        """
        for digest in answer.value.get("damaged", ()):
            raw = self._blobs.get(str(digest))
            if isinstance(raw, LargeOctets):
                self._damaged(raw)
        if "unreadable" in answer.value:
            seat.bodies.clear()
            msg = f"a list cannot be read: {answer.value['unreadable']:.200}"
            raise WorkerError(msg)

    def _message(
        self, seat: Seat, said: Mapping[str, Any], large: tuple[str, ...], *, whole: bool
    ) -> Message:
        question, blobs = self._question_said() if whole else (None, {})
        begin = 0 if whole else self._told
        fresh = self._texts[begin:]
        wanted = {s.raw for s in self._statements[begin:] if s.raw is not None}
        small = {
            **blobs,
            **{
                digest: raw
                for digest, raw in self._blobs.items()
                if isinstance(raw, bytes) and not _is_large(raw) and raw in wanted
            },
        }
        brought = [digest for digest in large if digest not in seat.bodies]
        handed = [(digest, *self._handed(digest)) for digest in brought]
        value = {
            "op": "step",
            "case": self._number,
            "question": question,
            "from": begin,
            "fresh": fresh,
            "changes": self._changes,
            "now": self._clock.now().isoformat(),
            "id": self._verdict_id,
            # A verdict without a record is given once.
            "may_stand": self._asked is not None,
            "asked": None if self._asked is None else exchange.asked_to(self._asked),
            "blobs": list(small),
            "large": [[digest, how] for digest, how, _ in handed]
            + [[digest, False] for digest in large if digest in seat.bodies],
            **said,
        }
        descriptors = tuple(number for _, _, numbers in handed for number in numbers)
        return Message(value, tuple(small.values()), descriptors)

    def _question_said(self) -> tuple[dict[str, Any], Mapping[str, bytes]]:
        """
        The question as it is said under the configuration that the judges have.
        """
        settings = self._pool.settings
        if self._said is None or self._said[0] is not settings:
            plain, written = exchange.question_to(self._question, settings)
            blobs = {name: whole_of(raw) for name, raw in written.blobs.items()}
            self._said = settings, plain, blobs
        return self._said[1], self._said[2]

    def _handed(self, digest: str) -> tuple[Any, tuple[int, ...]]:
        """
        How large octets come, in memory or in a file of which this is known, and by which descriptors they are read.

        Theirs, or a copy's; and that of the index of a list.
        """
        raw = self._blobs[digest]
        if isinstance(raw, FileOctets):
            index = raw.index  # once: the thread that makes it may give it to the list meanwhile
            if index is None:
                return {"size": len(raw), "index": None}, (raw.fileno(),)
            if not isinstance(index, FileIndex):
                msg = "an index that is not in a file"
                raise ExchangeError(msg)
            # Kept open until the case ends, also where the list lets go of it meanwhile.
            self._indexes.append(index)
            return {"size": len(raw), "index": [index.size, index.root.hex()]}, (raw.fileno(), index.number)
        if digest not in self._files:
            self._files[digest] = memory_file(whole_of(raw))
        return True, (self._files[digest],)

    def _turn(self, answer: Message) -> Turn:
        try:
            blobs = dict(zip(answer.value["blobs"], answer.parts, strict=False))
            changes = answer.value["changes"]
            if not isinstance(changes, int) or changes < self._changes:
                msg = f"path changed {changes!r} times"
                raise ExchangeError(msg)
            self._changes = changes
            turn = exchange.turn_from(answer.value["turn"], self._statements, blobs.get)
        except (KeyError, TypeError, ValueError) as exc:
            msg = f"a judge's answer cannot be read: {exc!r:.200}"
            raise ExchangeError(msg) from exc
        # Those that the judge made count as told: it has them.
        for statement in turn.hear:
            self._number_of(statement)
        self._told = len(self._statements)
        return turn

    def _outcome(self, answer: Message, heard: tuple[Statement, ...]) -> Outcome:
        try:
            plain, record = answer.value["outcome"], answer.value["record"]
            verdict = document = answer.parts[0]
            if record is not None:
                verdict = document[-1 - record["verdict"] : -1]  # the last of the document's members
            outcome = exchange.outcome_from(plain, verdict, self._question, self._verdict_id, len(heard))
            if record is not None:
                self.stored = self._stored(record, document)
        except (KeyError, TypeError, ValueError, IndexError) as exc:
            msg = f"a judge's answer cannot be read: {exc!r:.200}"
            raise ExchangeError(msg) from exc
        return outcome

    def _stored(self, record: Mapping[str, Any], document: bytes) -> RecordBytes:
        """
        The stored form of the record: the judge's document, and our own octets under their own digests.
        """
        have = {**self._blobs, **self._question_said()[1]}
        missing = [name for name in record["names"] if name not in have]
        if missing:
            have |= self._pool.settings_blobs
            missing = [name for name in missing if name not in have]
        if missing:
            msg = f"a record names octets that nobody has: {missing[0]!r}"
            raise ExchangeError(msg)
        return RecordBytes(
            document=document,
            blobs={name: have[name] for name in record["names"]},
            revoked=exchange.proven_from(record["revoked"]),
        )


def _is_large(raw: bytes | LargeOctets) -> bool:
    return isinstance(raw, LargeOctets) or len(raw) > exchange.LARGE_BYTES


def _is_heavy(raw: bytes | LargeOctets) -> bool:
    """
    Whether a judge has all of it in memory while it looks at it.
    """
    return len(raw) > HEAVY_OCTETS and (isinstance(raw, bytes) or raw.index is None)
