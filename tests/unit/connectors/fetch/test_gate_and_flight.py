"""
Bulkhead, single flight and blocking calls: nobody waits for somebody else's trouble, and nothing leaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial

import pytest

from cftpki_connectors.fetch.breaker import FAILURES_TO_OPEN
from cftpki_connectors.fetch.flight import SingleFlight
from cftpki_connectors.fetch.gate import HOSTS, REQUESTS_PER_HOST, ClosedGateError, Gates
from cftpki_connectors.support import threads

# Of what is to happen at once; only a failure takes so long.
WAIT_S = 30.0


async def test_gate_full_makes_the_next_wait_and_other_hosts_not() -> None:
    gates = Gates(lambda: 0.0)
    visits = [await gates.of("http://slow:80").enter() for _ in range(REQUESTS_PER_HOST)]
    waiting = asyncio.ensure_future(gates.of("http://slow:80").enter())
    other = await asyncio.wait_for(gates.of("http://other:80").enter(), WAIT_S)
    await asyncio.sleep(0)
    assert not waiting.done()
    async with visits.pop():
        pass
    for visit in [await asyncio.wait_for(waiting, WAIT_S), other, *visits]:
        async with visit:
            pass
    assert 0 == gates.of("http://slow:80").users


async def test_gate_opened_while_waiting_turns_the_waiters_away() -> None:
    gate = Gates(lambda: 0.0).of("http://dead:80")
    visits = [await gate.enter() for _ in range(REQUESTS_PER_HOST)]
    waiting = asyncio.ensure_future(gate.enter())
    await asyncio.sleep(0)
    for visit in visits[:FAILURES_TO_OPEN]:
        async with visit:
            visit.failed()
    with pytest.raises(ClosedGateError):
        await waiting
    with pytest.raises(ClosedGateError):
        await gate.enter()
    for visit in visits[FAILURES_TO_OPEN:]:
        async with visit:
            pass
    assert 0 == gate.users


async def test_gate_cancelled_waiter_takes_no_place() -> None:
    gate = Gates(lambda: 0.0).of("http://slow:80")
    visits = [await gate.enter() for _ in range(REQUESTS_PER_HOST)]
    waiting = asyncio.ensure_future(gate.enter())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    for visit in visits:
        async with visit:
            pass
    assert 0 == gate.users
    assert REQUESTS_PER_HOST == len(
        [await asyncio.wait_for(gate.enter(), WAIT_S) for _ in range(REQUESTS_PER_HOST)]
    )


async def test_gates_remember_a_bounded_number_of_hosts_but_forget_none_in_use() -> None:
    gates = Gates(lambda: 0.0)
    used = gates.of("http://used:80")
    async with await used.enter():
        for number in range(HOSTS + 50):
            gates.of(f"http://host-{number}:80")
        assert used is gates.of("http://used:80")
        assert len(gates._gates) <= HOSTS + 1


async def test_flight_identical_questions_share_one_answer() -> None:
    flights: SingleFlight[int] = SingleFlight()
    calls = 0

    async def work() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.01)
        return calls

    answers = await asyncio.gather(*(flights.run("key", work) for _ in range(10)))
    assert [(1, True)] + [(1, False)] * 9 == answers
    assert (2, True) == await flights.run("key", work)


async def test_flight_different_questions_share_nothing() -> None:
    flights: SingleFlight[str] = SingleFlight()

    async def work(name: str) -> str:
        await asyncio.sleep(0)
        return name

    answers = await asyncio.gather(*(flights.run(name, partial(work, name)) for name in "ab"))
    assert [("a", True), ("b", True)] == answers


async def test_flight_error_reaches_everyone_and_is_not_kept() -> None:
    flights: SingleFlight[int] = SingleFlight()

    async def fails() -> int:
        await asyncio.sleep(0)
        raise ValueError

    async def works() -> int:
        return 1

    answers = await asyncio.gather(*(flights.run("key", fails) for _ in range(3)), return_exceptions=True)
    assert [ValueError] * 3 == [type(one) for one in answers]
    assert (1, True) == await flights.run("key", works)


async def test_flight_goes_on_when_its_leader_is_cancelled_and_ends_with_the_last() -> None:
    flights: SingleFlight[int] = SingleFlight()
    started, release, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> int:
        started.set()
        try:
            await release.wait()
        finally:
            ended.set()
        return 1

    leader, joined = (asyncio.ensure_future(flights.run("key", work)) for _ in range(2))
    await started.wait()
    leader.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leader
    assert not ended.is_set()
    release.set()
    assert (1, False) == await joined
    release.clear()
    ended.clear()
    alone = asyncio.ensure_future(flights.run("key", work))
    await asyncio.sleep(0)
    alone.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await alone
    await asyncio.wait_for(ended.wait(), WAIT_S)


async def test_blocking_call_that_is_stuck_delays_nobody_who_stops_waiting() -> None:
    release = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await threads.call(release.wait)
    assert 5 == await threads.call(lambda: 5)
    release.set()


async def test_blocking_calls_are_bounded_in_number() -> None:
    release = threading.Event()
    calls = [asyncio.ensure_future(threads.call(release.wait)) for _ in range(threads.MAX_THREADS)]
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="stuck"):
        await threads.call(lambda: 5)
    release.set()
    await asyncio.gather(*calls)
    assert 5 == await threads.call(lambda: 5)
