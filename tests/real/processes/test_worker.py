"""
Child processes, for real: what they answer, what ends them, how soon another is there, and what they cannot do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from cftpki_ext.processes.confine import MIB, Bounds, SystemCalls
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.memory_files import memory_file
from cftpki_ext.processes.progress import Watch
from cftpki_ext.processes.spawning import Nursery
from cftpki_ext.processes.worker import (
    Role,
    Worker,
    WorkerBusyError,
    WorkerError,
    WorkerLateError,
    WorkerLostError,
    WorkerStalledError,
)
from tests.support import real_service
from tests.support.logs import CapturedLog

REPOSITORY = Path(__file__).resolve().parents[3]
ANSWER_S = 20
# "Within a second", on a machine that runs other tests beside this one.
RECOVERED_S = 30


def role(factory="tests.support.child_roles:make", queue=256, watch=Watch.NOTHING, **bounds):
    usual = {"memory_bytes": 512 * MIB, "descriptors": 64, "cpu_s": 30, "calls": SystemCalls.COMPUTE}
    return Role(name="test", factory=factory, bounds=Bounds(**{**usual, **bounds}), queue=queue, watch=watch)


@contextlib.asynccontextmanager
async def running(**bounds):
    # From here, so that `tests` can be imported by the children.
    nursery = Nursery(("tests.support.child_roles",), interpreter=(sys.executable, "-P", "-c", ENTRY))
    log = CapturedLog()
    worker = Worker(
        role(**bounds),
        nursery,
        setup=lambda: Message({"a": 1}),
        log=log,
    )
    worker.start()
    try:
        await worker.wait_ready(ANSWER_S)
        yield worker
    finally:
        await worker.aclose()
        nursery.close()


ENTRY = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from cftpki_ext.processes.nursery import main; main(sys.argv[3:])"


def name_of(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()


async def say(worker, what="echo", within_s=ANSWER_S, **more):
    return await worker.call(Message({"do": what, **more}), within_s=within_s)


async def test_call_carries_values_octets_and_descriptors():
    async with running() as worker:
        number = memory_file(b"z" * 1000)
        answer = await worker.call(
            Message({"say": "é\n"}, (b"", b"\x00\xff" * 300_000), (number,)), within_s=ANSWER_S
        )
        os.close(number)
        assert {"said": "é\n", "setup": {"a": 1}, "sizes": [1000]} == answer.value
        assert (b"", b"\x00\xff" * 300_000) == answer.parts


async def test_many_calls_at_once_each_get_their_own_answer():
    async with running() as worker:
        answers = await asyncio.gather(*(say(worker, say=n) for n in range(200)))
        assert list(range(200)) == [answer.value["said"] for answer in answers]
        assert 0 == worker.outstanding


async def test_handler_that_raises_fails_its_call_alone():
    async with running() as worker:
        pid = worker.pid
        with pytest.raises(WorkerError, match="ValueError: no"):
            await say(worker, "raise", say="no")
        assert "yes" == (await say(worker, say="yes")).value["said"]
        assert (pid, 0) == (worker.pid, worker.restarts)


async def test_work_in_a_thread_lets_others_by():
    async with running(calls=SystemCalls.FILES) as worker:
        late = asyncio.create_task(say(worker, "wait"))
        assert "by" == (await say(worker, say="by")).value["said"]
        assert not late.done()
        await say(worker, "release")
        assert "late" == (await late).value["said"]


@pytest.mark.parametrize(
    ("what", "error"), [("spin", WorkerLateError), ("stop", WorkerError), ("end", WorkerLostError)]
)
async def test_child_that_hangs_stops_or_ends_costs_its_call_and_another_takes_its_place(what, error):
    async with running() as worker:
        pid = worker.pid
        with pytest.raises(error):
            # A child that may send itself no signal cannot stop itself: the filter refuses, the call fails.
            await say(worker, what, within_s=1)
        begun = time.monotonic()
        assert "again" == (await say(worker, say="again")).value["said"]
        assert time.monotonic() - begun < RECOVERED_S
        assert (what == "stop") == (pid == worker.pid)


async def test_child_that_is_stopped_from_outside_is_late_and_replaced():
    async with running() as worker:
        pid = worker.pid
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(WorkerLateError):
            await say(worker, within_s=0.3)
        assert "again" == (await say(worker, say="again")).value["said"]
        assert pid != worker.pid
        assert not real_service.runs(pid)


@pytest.mark.parametrize("watch", [Watch.STOPPED, Watch.IDLE])
async def test_child_that_is_stopped_is_noticed_long_before_it_is_late(watch):
    async with running(watch=watch, calls=SystemCalls.ANY) as worker:
        with pytest.raises(WorkerStalledError, match="test was stopped, or slept over a call"):
            await say(worker, "stop", within_s=600)
        assert "x" == (await say(worker, say="x")).value["said"]
        assert 1 == worker.restarts


async def test_child_that_sleeps_over_a_call_is_noticed_where_it_has_only_to_compute():
    async with running(watch=Watch.IDLE, calls=SystemCalls.FILES) as worker:
        with pytest.raises(WorkerStalledError):
            await say(worker, "wait", within_s=600)
    async with running(watch=Watch.STOPPED, calls=SystemCalls.FILES) as worker:
        waiting = asyncio.create_task(say(worker, "wait"))
        await asyncio.sleep(1)
        await say(worker, "release")
        assert "late" == (await waiting).value["said"]


async def test_child_that_computes_is_not_taken_for_a_stopped_one():
    async with running(watch=Watch.IDLE) as worker:
        with pytest.raises(WorkerLateError):
            await say(worker, "spin", within_s=2)


async def test_late_answer_may_be_left_alone():
    async with running(calls=SystemCalls.FILES) as worker:
        pid = worker.pid
        with pytest.raises(WorkerLateError):
            await worker.call(Message({"do": "wait"}), within_s=0.2, kill_late=False)
        await say(worker, "release")
        assert ("on", pid) == ((await say(worker, say="on")).value["said"], worker.pid)


async def test_child_that_eats_memory_is_refused_it_and_replaced():
    async with running(memory_bytes=300 * MIB) as worker:
        pid = worker.pid
        with pytest.raises(WorkerError, match="out of memory"):
            await say(worker, "eat")
        assert "again" == (await say(worker, say="again")).value["said"]
        assert pid != worker.pid


async def test_child_over_its_processor_time_is_ended_by_the_kernel():
    async with running(cpu_s=1) as worker:
        with pytest.raises(WorkerLostError):
            await say(worker, "spin")
        assert "again" == (await say(worker, say="again")).value["said"]


async def test_answer_that_is_too_large_is_a_failure():
    async with running() as worker:
        with pytest.raises(WorkerError, match="is over 16777216"):
            await say(worker, "large", octets=17 * MIB)
        assert "on" == (await say(worker, say="on")).value["said"]


async def test_call_that_is_too_large_is_a_failure_of_its_own():
    async with running() as worker:
        with pytest.raises(WorkerError, match="is over 16777216"):
            await worker.call(Message({}, (b"x" * 17 * MIB,)), within_s=ANSWER_S)
        assert "on" == (await say(worker, say="on")).value["said"]


async def test_more_calls_than_the_queue_holds_are_refused_at_once():
    async with running(queue=2, calls=SystemCalls.FILES) as worker:
        waiting = [asyncio.create_task(say(worker, "wait")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(WorkerBusyError):
            await say(worker)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert 0 == worker.outstanding


@pytest.mark.parametrize("what", ["open", "connect", "signal"])
async def test_child_that_computes_opens_connects_and_signals_nothing(what):
    async with running() as worker:
        assert "system_calls:compute" in worker.status()["confined"]
        with pytest.raises(WorkerError, match="not permitted"):
            await say(worker, what)


async def test_child_with_files_opens_them_and_connects_nowhere():
    async with running(calls=SystemCalls.FILES) as worker:
        assert (await say(worker, "open")).value["read"] > 0
        for what in ("connect", "signal"):
            with pytest.raises(WorkerError, match="not permitted"):
                await say(worker, what)


async def test_child_has_the_limits_of_its_role():
    async with running(memory_bytes=400 * MIB, descriptors=50, calls=SystemCalls.FILES) as worker:
        limits = (await say(worker, "limits")).value["limits"]
        lines = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
        assert [str(400 * MIB)] * 2 == lines["Max address space"]
        assert ["50", "50"] == lines["Max open files"]
        assert ["0", "0"] == lines["Max core file size"]
        assert ["0", "0"] == lines["Max file size"]


async def test_killed_nursery_takes_its_children_along_and_another_is_begun():
    async with running() as worker:
        pid, nursery = worker.pid, worker._nursery.pid
        os.kill(nursery, signal.SIGKILL)
        begun = time.monotonic()
        answered = pid
        while answered == pid:
            with contextlib.suppress(WorkerLostError):
                answered = (await say(worker, "who")).value["pid"]
        assert time.monotonic() - begun < RECOVERED_S
        assert {pid, nursery}.isdisjoint({worker.pid, worker._nursery.pid})
        assert not real_service.runs(pid)


async def test_status_shows_process_restarts_and_memory():
    async with running() as worker:
        os.kill(worker.pid, signal.SIGKILL)
        with contextlib.suppress(WorkerLostError):
            await say(worker)
        await say(worker)
        told = worker.status()
        assert ("test", True, 1, 0) == (told["role"], told["ready"], told["restarts"], told["queue"])
        assert "signal SIGKILL" == told["last_end"]
        assert told["rss_bytes"] > MIB
        assert "cftpki-test" == name_of(worker.pid)


async def test_role_that_never_gets_ready_is_late_and_says_so():
    nursery = Nursery((), interpreter=(sys.executable, "-P", "-c", ENTRY))
    log = CapturedLog()
    worker = Worker(
        role("tests.support.child_roles:fails"),
        nursery,
        setup=Message,
        log=log,
    )
    worker.start()
    try:
        with pytest.raises(WorkerLateError, match="test is not up after"):
            await worker.call(Message(), within_s=3)
    finally:
        await worker.aclose()
        nursery.close()
    assert "process_not_started" in {call.kwargs["event"] for call in log.calls}
