"""
Limits of one connection: what `asyncio.timeout` does, by one timer for many of them.
"""

import asyncio

import pytest

from cftpki_ext.service.deadline import Deadline

LONG_S = 3600.0
SHORT_S = 0.01


@pytest.fixture
async def deadline():
    made = Deadline()
    yield made
    made.close()


async def test_limit_that_runs_out_cancels_what_is_waited_for(deadline):
    waited = asyncio.Event()
    with pytest.raises(TimeoutError), deadline.within(SHORT_S):
        await waited.wait()

    assert 0 == asyncio.current_task().cancelling()


async def test_limit_that_is_kept_is_no_error_and_the_next_one_holds(deadline):
    with deadline.within(LONG_S):
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError), deadline.within(SHORT_S):
        await asyncio.Event().wait()
    with deadline.within(LONG_S):
        await asyncio.sleep(0)


async def test_later_limit_is_not_cut_short_by_the_timer_of_an_earlier_one(deadline):
    loop = asyncio.get_running_loop()
    with deadline.within(SHORT_S):
        begun = loop.time()
    passed = asyncio.Event()
    loop.call_at(begun + 3 * SHORT_S, passed.set)
    with deadline.within(LONG_S):
        await passed.wait()

    assert loop.time() > begun + SHORT_S


async def test_timer_that_runs_out_between_two_limits_is_set_anew(deadline):
    passed = asyncio.Event()
    with deadline.within(SHORT_S):
        asyncio.get_running_loop().call_later(2 * SHORT_S, passed.set)
    await passed.wait()
    with pytest.raises(TimeoutError), deadline.within(SHORT_S):
        await asyncio.Event().wait()


async def test_many_limits_have_one_timer(deadline, monkeypatch):
    loop, set_for = asyncio.get_running_loop(), []
    call_at = loop.call_at

    def counting(when, *arguments):
        set_for.append(when)
        return call_at(when, *arguments)

    monkeypatch.setattr(loop, "call_at", counting)
    for _ in range(100):
        with deadline.within(LONG_S):
            pass

    assert 1 == len(set_for)


async def test_somebody_elses_cancellation_stays_one():
    async def work():
        with Deadline().within(LONG_S):
            begun.set()
            await asyncio.Event().wait()

    begun = asyncio.Event()
    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_error_under_a_limit_stays_what_it_is(deadline):
    with pytest.raises(ValueError, match="invalid literal"), deadline.within(LONG_S):
        int("broken")


async def test_two_limits_at_once_are_refused(deadline):
    with deadline.within(LONG_S), pytest.raises(RuntimeError, match="one limit"):
        deadline.within(LONG_S).__enter__()
