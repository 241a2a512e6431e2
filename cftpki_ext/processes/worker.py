"""
The front's end of one child process: calls and answers, limits, restarts, and what `status` shows of it.

Owns the supervision. A call ends in an answer, or in an exception that says that the child was lost, late, busy or
failed: what a child says can be wrong, and never more than that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.log import Log
from cftpki_ext.core.values import dataclass
from cftpki_ext.processes.confine import Bounds
from cftpki_ext.processes.frames import NO_MEMORY, Frame, FrameError, Kind, Message
from cftpki_ext.processes.front_channel import FrontChannel
from cftpki_ext.processes.progress import LOOK_S, Stillness, Watch, look
from cftpki_ext.processes.spawning import Child, Nursery, NurseryError

# From its beginning to READY: opening a database of some gigabytes, or a token's module, on a busy machine.
START_S = 15.0
# A child that dies again at once is begun again after a pause that doubles; it stays below a second, so that one bad
# moment costs no more than that.
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.8
# One that lived so long died of something new.
_SETTLED_S = 5.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class WorkerError(CftPkiError):
    """
    A child process did not answer as it should; what it says of the error.
    """


class WorkerLostError(WorkerError):
    """
    The child ended before it answered.
    """


class WorkerStalledError(WorkerLostError):
    """
    The child was stopped, or slept over a call, and was ended: another one could be asked.
    """


class WorkerLateError(WorkerError):
    """
    The child did not answer in time.
    """


class WorkerBusyError(WorkerError):
    """
    More calls wait than the child may be given.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """
    What a child is for: its name, what makes its handler, its bounds, how many calls may wait for it.

    `watch` is what it never does while one waits.
    """

    name: str
    factory: str
    bounds: Bounds
    queue: int = 256
    watch: Watch = Watch.NOTHING


@dataclass(slots=True, eq=False)
class _Life:
    """
    One child from its beginning to its end.
    """

    child: Child
    channel: FrontChannel | None = None
    over: asyncio.Event | None = None
    why: str = ""
    is_watched: bool = False
    has_stalled: bool = False


class Worker:
    """
    One child process, begun again whenever it ends, until `aclose`. For one event loop.

    Args:
        role: what it is for.
        nursery: begins it.
        setup: what its handler is made with, asked at each beginning.
        log: is told of beginnings and ends.
        ready: called each time the child is ready for calls.
        noted: called with what the child tells by itself.

    """

    def __init__(
        self,
        role: Role,
        nursery: Nursery,
        *,
        setup: Callable[[], Message],
        log: Log,
        ready: Callable[[Worker], None] | None = None,
        noted: Callable[[Message], None] | None = None,
    ) -> None:
        self.role = role
        self.restarts = 0
        self.calls = 0
        self._nursery = nursery
        self._setup = setup
        self._log = log
        self._on_ready = ready
        self._noted = noted
        self._ready = asyncio.Event()
        self._life: _Life | None = None
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._active: tuple[str, ...] = ()
        self._task: asyncio.Task[None] | None = None
        self._last_end = ""

    @property
    def pid(self) -> int | None:
        """
        The child's process id, `None` between two.
        """
        return self._life.child.pid if self._life is not None else None

    @property
    def is_ready(self) -> bool:
        """
        Whether the child takes calls now.
        """
        return self._ready.is_set()

    @property
    def outstanding(self) -> int:
        """
        How many calls were not answered yet.
        """
        return len(self._waiting)

    def start(self) -> None:
        """
        Begin; `wait_ready` says when it is up.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._supervise(), name=f"supervise {self.role.name}")

    async def wait_ready(self, within_s: float) -> None:
        """
        Wait until the child takes calls.

        Raises:
            WorkerLateError: it does not in time.

        """
        try:
            async with asyncio.timeout(within_s):
                await self._ready.wait()
        except TimeoutError as exc:
            msg = f"{self.role.name} is not up after {within_s:.1f} s"
            raise WorkerLateError(msg + (f" ({self._last_end})" if self._last_end else "")) from exc

    async def call(self, message: Message, *, within_s: float, kill_late: bool = True) -> Message:
        """
        Ask the child.

        Args:
            message: the call; its descriptors stay the caller's.
            within_s: how long an answer is waited for, and for the child itself where it is just begun anew.
            kill_late: end a child that is late; otherwise its answer is thrown away when it comes.

        Returns:
            The answer.

        Raises:
            WorkerBusyError: too many calls wait.
            WorkerLateError: no answer in time.
            WorkerLostError: the child ended first.
            WorkerError: the child says that it failed, or the call is too large.

        """
        if len(self._waiting) >= self.role.queue:
            msg = f"{len(self._waiting)} calls wait for {self.role.name}"
            raise WorkerBusyError(msg)
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        if not self._ready.is_set():
            await self.wait_ready(within_s)
        life = self._life
        if life is None or life.channel is None:
            msg = f"{self.role.name} is gone"
            raise WorkerLostError(msg)
        self.calls += 1
        number = self.calls
        answer: asyncio.Future[Message] = loop.create_future()
        self._waiting[number] = answer
        late = loop.call_at(until, self._late, life, answer, within_s, kill_late)
        try:
            life.channel.send(Frame(Kind.CALL, number, message))
            if self.role.watch is not Watch.NOTHING and not life.is_watched:
                life.is_watched = True
                loop.call_later(LOOK_S, self._look, life, Stillness(self.role.watch))
            return await answer
        except FrameError as exc:
            raise WorkerError(str(exc)) from exc
        finally:
            late.cancel()
            self._waiting.pop(number, None)

    def _late(self, life: _Life, answer: asyncio.Future[Message], within_s: float, kill: bool) -> None:  # noqa: FBT001 - a callback's
        if answer.done():
            return
        answer.set_exception(WorkerLateError(f"{self.role.name} did not answer within {within_s:g} s"))
        if kill:
            self._end(life, f"no answer within {within_s:g} s")

    def _look(self, life: _Life, stillness: Stillness) -> None:
        """
        See whether the child does what it was asked to, as long as a call waits.
        """
        if life is not self._life or not self._waiting or life.channel is None:
            life.is_watched = False
            return
        seen = look(life.child.pid) if not life.channel.has_unsent else None
        if stillness.add(min(self._waiting), seen):
            life.has_stalled = True
            self._end(life, "was stopped, or slept over a call")
            return
        asyncio.get_running_loop().call_later(LOOK_S, self._look, life, stillness)

    def replace(self, why: str) -> None:
        """
        End the child now; another is begun.
        """
        if self._life is not None:
            self._end(self._life, why)

    def status(self) -> dict[str, Any]:
        """
        What an operator sees: process, restarts, calls, memory, and what it cannot do.
        """
        return {
            "role": self.role.name,
            "pid": self.pid,
            "ready": self.is_ready,
            "restarts": self.restarts,
            "calls": self.calls,
            "queue": self.outstanding,
            "rss_bytes": self.rss_bytes(),
            "confined": list(self._active),
            **({"last_end": self._last_end} if self._last_end else {}),
        }

    def rss_bytes(self) -> int:
        """
        The resident memory of the child, shared pages included; 0 where there is none.
        """
        if self.pid is None:
            return 0
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as file:  # noqa: PTH123 - asked often
                return int(file.read().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError):
            return 0

    async def aclose(self) -> None:
        """
        End the child for good, at once: whoever wants its answers waits for them first.
        """
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _supervise(self) -> None:
        pause_s = 0.0
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                await self._live()
            except (NurseryError, WorkerError) as error:
                self._last_end = str(error)
                self._log.error("process_not_started", role=self.role.name, error=str(error))
            self.restarts += 1
            lived_s = loop.time() - begun
            pause_s = (
                0.0 if lived_s >= _SETTLED_S else min(max(_FIRST_PAUSE_S, pause_s * 2), _LONGEST_PAUSE_S)
            )
            await asyncio.sleep(pause_s)

    async def _live(self) -> None:
        """
        One child: begun, set up, and waited for until its end.
        """
        role = self.role
        child = await self._nursery.spawn(f"cftpki-{role.name}", role.factory, role.bounds)
        life = self._life = _Life(child)
        over = life.over = asyncio.Event()
        try:
            up: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            self._waiting[0] = up
            channel = life.channel = FrontChannel(
                child.end, heard=self._heard, ended=lambda why: self._ended(life, why)
            )
            channel.send(Frame(Kind.SETUP, 0, self._setup()))
            try:
                async with asyncio.timeout(START_S):
                    self._active = tuple(str(name) for name in (await up).value.get("active", ()))
            except TimeoutError as exc:
                msg = f"{role.name} was not ready within {START_S:g} s"
                raise WorkerLateError(msg) from exc
            finally:
                self._waiting.pop(0, None)
            self._log.info("process_started", role=role.name, pid=child.pid, confined=list(self._active))
            self._ready.set()
            if self._on_ready is not None:
                self._on_ready(self)
            await over.wait()
        finally:
            self._ready.clear()
            self._life = None
            if life.channel is not None:
                life.channel.close()
            else:
                child.end.close()
            child.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    self._tell_end(life, await child.ended)
            child.close()

    def _tell_end(self, life: _Life, status: int) -> None:
        if self._task is None or (status == 0 and not life.why):
            return  # it was to end
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        self._last_end = f"{life.why}, {how}" if life.why else how
        self._log.warning("process_ended", role=self.role.name, pid=life.child.pid, detail=self._last_end)

    def _heard(self, frame: Frame) -> None:
        if frame.kind is Kind.NOTE and self._noted is not None and not frame.message.descriptors:
            try:
                self._noted(frame.message)
            except Exception as fault:  # noqa: BLE001 - the answers behind it are waited for
                self._log.error("process_note_not_taken", role=self.role.name, error=repr(fault))
            return
        answer = self._waiting.get(frame.call)
        if answer is None or answer.done():
            for number in frame.message.descriptors:
                os.close(number)
            return  # an answer that nobody waits for any more
        if frame.kind is Kind.FAILURE:
            error = frame.message.value.get("error")
            if error == NO_MEMORY:
                self._ready.clear()  # it ends now
            trace = str(frame.message.value.get("trace", ""))
            self._log.warning("process_failed", role=self.role.name, error=str(error), trace=trace)
            answer.set_exception(WorkerError(f"{self.role.name}: {error}"))
        elif frame.kind is (Kind.READY if frame.call == 0 else Kind.ANSWER):
            answer.set_result(frame.message)
        else:
            answer.set_exception(WorkerError(f"{self.role.name} sent {frame.kind.name}"))

    def _ended(self, life: _Life, why: str) -> None:
        self._ready.clear()
        if not life.why and why not in {"ended", "closed"}:
            life.why = why
        waiting, self._waiting = self._waiting, {}
        lost = (
            WorkerStalledError(f"{self.role.name} {life.why}")
            if life.has_stalled
            else WorkerLostError(f"{self.role.name} ended before it answered")
        )
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(lost)
        if life.over is not None:
            life.over.set()

    def _end(self, life: _Life, why: str) -> None:
        life.why = life.why or why
        life.child.kill()
        if life.channel is not None:
            life.channel.close()
