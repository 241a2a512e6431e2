"""
Who judges what, and when: partners that are known go first, and a stranger never has the last judge.

Owns the queues. One judge is kept for known partners whose answers are at hand, in a moment; the others judge
anything, strangers on all of them but one. Work that is not a moment's (a large list that a judge has not read yet)
never goes to the first. Every queue is bounded; whoever finds it full is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import field
from typing import Any

from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.values import dataclass
from cftpki_ext.processes.confine import MIB, Bounds, SystemCalls
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.progress import Watch
from cftpki_ext.processes.worker import Role, Worker, WorkerBusyError, WorkerLateError, WorkerStalledError
from cftpki_ext.service.children import Children
from cftpki_ext.service.judging import exchange

# An interpreter with its libraries, the largest list that is read, its index, and as much again while it is read.
MEMORY_BYTES = 1024 * MIB
# One call: reading a list of 64 MiB and all its entries takes less; work on a chain is bounded far below.
CPU_S = 6
# A judge whose private memory stays above this once it has nothing to do is replaced: 80 MiB of lists, and itself.
GROWN_BYTES = 192 * MIB
# A known partner waits for milliseconds, a thousand of them for a second.
_KNOWN_QUEUE = 1024
# Strangers: a chain has at most 64 KiB; all who wait hold 32 MiB, a thousand usual partners 4. Sources take turns, so that
# a long queue of one delays no other; it is long because after a restart everybody is a stranger, and a gateway has one
# address.
_STRANGER_QUEUE = 2048
_STRANGERS_OF_ONE = 1024
_STRANGER_OCTETS = 32 * MIB
# What is larger is held by one judge alone: three copies of the largest list are more than the machine should give.
HEAVY_OCTETS = 8 * MIB
# Reading a list that takes no longer delays nobody.
_MOMENT_S = 0.04
_CHEAP = 256
# As many as a judge may have open.
_CASES_KNOWN = 64

# The front and the evidence writer, who answer known partners, go first where processors are short.
_NICE = 5

ROLE = Role(
    name="judge",
    factory="cftpki_ext.service.judging.judge:make",
    bounds=Bounds(
        memory_bytes=MEMORY_BYTES, descriptors=128, cpu_s=CPU_S, calls=SystemCalls.COMPUTE, nice=_NICE
    ),
    queue=1,
    watch=Watch.IDLE,
)
# A call that a judge slept over is asked of another, so many times.
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    One call for a judge: whether its partner is known, whose it is (`source`), and the large octets that it needs.

    `case` is its case's number: the judge that has it is preferred. `heavy` where what it needs is so large that one judge
    alone is to hold it. `begun`: a judge was asked about the case before. `octets` is what it holds while it waits.
    """

    known: bool
    source: Hashable
    case: int
    large: tuple[str, ...] = ()
    heavy: bool = False
    begun: bool = False
    octets: int = 0


@dataclass(slots=True, eq=False)
class Seat:
    """
    One judge as the pool knows it.
    """

    worker: Worker
    partners_only: bool
    heavy: bool = False
    job: Job | None = None
    bodies: set[str] = field(default_factory=set)
    cases: OrderedDict[int, None] = field(default_factory=OrderedDict)
    generation: int = -1


@dataclass(slots=True, eq=False)
class _Waiting:
    job: Job
    given: asyncio.Future[Seat]
    octets: int = 0  # that count among those of all strangers who wait


class Pool:
    """
    The judges. For one event loop.

    Args:
        children: begins their processes.
        settings: those in force.
        count: judges that judge anything; by default one for each processor that we may use, two at least.

    """

    def __init__(self, children: Children, settings: Settings, *, log: Log, count: int | None = None) -> None:
        self._settings = settings
        self.settings_blobs: dict[str, bytes] = {}
        self._plain = exchange.settings_to(settings, self.settings_blobs)
        self._generation = 0
        self._log = log
        self._known: deque[_Waiting] = deque()
        self._strangers: OrderedDict[Hashable, deque[_Waiting]] = OrderedDict()
        self._held = 0  # octets of strangers who wait
        self._cheap: OrderedDict[str, None] = OrderedDict()
        general = max(2, len(os.sched_getaffinity(0)) if count is None else count)
        self._seats: list[Seat] = []
        self._seats += [
            Seat(
                children.begin(ROLE, setup=self._setup, ready=self._ready),
                partners_only=number == 0,
                heavy=number == general,
            )
            for number in range(general + 1)
        ]
        self._strangers_at_once = general - 1

    @property
    def settings(self) -> Settings:
        """
        The configuration that the judges have, or are told of with their next call.
        """
        return self._settings

    def replace_settings(self, settings: Settings) -> None:
        """
        Take over a new configuration.
        """
        self._settings = settings
        self.settings_blobs = {}
        self._plain = exchange.settings_to(settings, self.settings_blobs)
        self._generation += 1

    async def wait_ready(self, within_s: float) -> None:
        """
        Wait until every judge is up.

        Raises:
            WorkerLateError: one is not.

        """
        for seat in self._seats:
            await seat.worker.wait_ready(within_s)

    def status(self) -> dict[str, Any]:
        """
        What waits, for STATUS.
        """
        return {
            "judges": len(self._seats),
            "busy": sum(seat.job is not None for seat in self._seats),
            "known_waiting": len(self._known),
            "strangers_waiting": sum(map(len, self._strangers.values())),
        }

    async def call(self, job: Job, build: Callable[[Seat], Message], *, within_s: float) -> Message:
        """
        Have a judge answer one call.

        Args:
            job: what it is.
            build: makes the call for the judge that has been found.
            within_s: for waiting and work together.

        Returns:
            The answer.

        Raises:
            WorkerError: no answer, for whatever reason: the question is refused.

        """
        until = asyncio.get_running_loop().time() + within_s
        for _ in range(_TRIES - 1):
            with contextlib.suppress(WorkerStalledError):
                return await self._call(job, build, until)
        return await self._call(job, build, until)

    async def _call(self, job: Job, build: Callable[[Seat], Message], until: float) -> Message:
        loop = asyncio.get_running_loop()
        async with self._seat(job, max(0.0, until - loop.time())) as seat:
            begun = loop.time()
            if seat.generation != self._generation:
                generation = self._generation
                await seat.worker.call(self._setup(), within_s=max(0.0, until - begun))
                seat.generation = generation
            message = build(seat)
            fresh = [digest for digest in job.large if digest not in seat.bodies]
            answer = await seat.worker.call(message, within_s=max(0.0, until - loop.time()))
            seat.bodies.update(job.large)
            if fresh and loop.time() - begun < _MOMENT_S:
                self._cheap.update(dict.fromkeys(fresh))
                while len(self._cheap) > _CHEAP:
                    self._cheap.popitem(last=False)
            seat.cases[job.case] = None
            if len(seat.cases) > _CASES_KNOWN:
                seat.cases.popitem(last=False)
            return answer

    def lacks(self, digest: str) -> bool:
        """
        Whether the judge for the largest lists has not got one.
        """
        return any(seat.heavy and digest not in seat.bodies for seat in self._seats)

    def distrust(self, seat: Seat, why: str) -> None:
        """
        Replace a judge that said what cannot be.
        """
        self._log.error("judge_replaced", pid=seat.worker.pid, detail=why)
        seat.worker.replace(why)

    @contextlib.asynccontextmanager
    async def _seat(self, job: Job, within_s: float) -> AsyncIterator[Seat]:
        seat = self._free_for(job)
        if seat is None:
            seat = await self._wait(job, within_s)
        seat.job = job
        try:
            yield seat
        finally:
            seat.job = None
            self._look_after(seat)
            self._dispatch()

    async def _wait(self, job: Job, within_s: float) -> Seat:
        waiting = _Waiting(job, asyncio.get_running_loop().create_future())
        if job.known:
            queue, longest = self._known, _KNOWN_QUEUE
        else:
            queue, longest = self._strangers.setdefault(job.source, deque()), _STRANGERS_OF_ONE
        if job.begun:
            # What was begun is finished first: otherwise all who come at once would come to no end in time. Each case waits
            # in one place at a time, so that these are bounded by the cases that were let in.
            queue.insert(sum(one.job.begun for one in queue), waiting)
        elif len(queue) >= longest or not (job.known or self._make_room(queue, job)):
            if not queue:
                self._strangers.pop(job.source, None)
            raise _busy(len(queue))
        else:
            queue.append(waiting)
        if not job.known:
            waiting.octets = job.octets
            self._held += job.octets
        taken = False
        try:
            async with asyncio.timeout(within_s):
                seat = await waiting.given
            taken = True
        except TimeoutError as exc:
            msg = f"no judge was free within {within_s:.1f} s"
            raise WorkerLateError(msg) from exc
        else:
            return seat
        finally:
            self._held -= waiting.octets
            with contextlib.suppress(ValueError):
                queue.remove(waiting)
            if not job.known and not queue and self._strangers.get(job.source) is queue:
                # Only our own: who came since the last of it was given a judge waits in another.
                self._strangers.pop(job.source)
            given = waiting.given
            if not taken and given.done() and not given.cancelled() and given.exception() is None:
                # It was given in the moment in which we gave up.
                given.result().job = None
                self._dispatch()

    def _make_room(self, queue: deque[_Waiting], job: Job) -> bool:
        """
        Whether one more stranger may wait in a queue. Where all room is taken, the longest queue gives up its last.

        Whoever asks from many places at once pays with questions of its own, not with those of others.
        """
        while (
            sum(map(len, self._strangers.values())) >= _STRANGER_QUEUE
            or self._held + job.octets > _STRANGER_OCTETS
        ):
            longest = max(self._strangers.values(), key=len)
            if len(longest) <= len(queue) + 1:
                return False
            last = longest.pop()
            self._held -= last.octets
            last.octets = 0
            if not last.given.done():
                last.given.set_exception(_busy(len(longest)))
        return True

    def _free_for(self, job: Job) -> Seat | None:
        """
        The best judge that is free for a job: the one that has its case and its lists.
        """
        found: Seat | None = None
        best = (-1, -1)
        for seat in self._seats:
            if seat.job is not None or not seat.worker.is_ready or not self._may(seat, job):
                continue
            merit = (
                (job.case in seat.cases) + sum(digest in seat.bodies for digest in job.large) * 2,
                int(seat.partners_only),
            )
            if merit > best:
                found, best = seat, merit
        return found

    def _may(self, seat: Seat, job: Job) -> bool:
        if job.heavy:
            return seat.heavy and (job.known or self._strangers_busy() < self._strangers_at_once)
        if seat.partners_only:
            return job.known and all(d in seat.bodies or d in self._cheap for d in job.large)
        if job.known:
            return True
        # The general judge that strangers leave free is the one that known partners of large lists depend on.
        return not seat.heavy and self._strangers_busy() < self._strangers_at_once

    def _strangers_busy(self) -> int:
        return sum(seat.job is not None and not seat.job.known for seat in self._seats)

    def _dispatch(self) -> None:
        """
        Give free judges to those who wait: known partners first, then strangers, each source in its turn.
        """
        for waiting in tuple(self._known):
            self._give(waiting)
        # Whoever waits for the one judge of the largest lists is not in the way of others.
        for source, queue in tuple(self._strangers.items()):
            if queue and self._give(queue[0]):
                queue.popleft()
                self._strangers.move_to_end(source)
            if not queue:
                del self._strangers[source]

    def _give(self, waiting: _Waiting) -> bool:
        if waiting.given.done():
            return True
        seat = self._free_for(waiting.job)
        if seat is None:
            return False
        seat.job = waiting.job
        waiting.given.set_result(seat)
        return True

    def _ready(self, worker: Worker) -> None:
        """
        A judge has begun: it knows the configuration, and nothing else.
        """
        for seat in self._seats_of(worker):
            seat.bodies.clear()
            seat.cases.clear()
            seat.generation = self._generation
        self._dispatch()

    def _seats_of(self, worker: Worker) -> list[Seat]:
        return [seat for seat in self._seats if seat.worker is worker]

    def _look_after(self, seat: Seat) -> None:
        """
        Replace a judge that has grown beyond what it may keep.
        """
        if seat.bodies and seat.worker.rss_bytes() > GROWN_BYTES:
            seat.worker.replace("has grown")

    def _setup(self) -> Message:
        value = {"op": "settings", "settings": self._plain, "blobs": list(self.settings_blobs)}
        return Message(value, tuple(self.settings_blobs.values()))


def _busy(waiting: int) -> WorkerBusyError:
    return WorkerBusyError(f"{waiting} questions of the same source wait for a judge")
