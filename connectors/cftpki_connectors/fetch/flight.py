"""
Single flight: identical concurrent questions share one answer.

Owns the sharing alone; knows nothing of HTTP. The shared work is a task of its own, so that one caller's
cancellation does not take the answer from the others, and is cancelled when the last of them is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import field
from typing import Any, Generic, TypeVar

from cftpki_ext.core.values import dataclass

T = TypeVar("T")


@dataclass(slots=True)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    waiters: int = field(default=0)


class SingleFlight(Generic[T]):
    """
    Runs one piece of work per key at a time.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    async def run(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, bool]:
        """
        Join the work under way for `key`, or start it.

        Args:
            key: what makes two questions the same.
            work: makes the coroutine; called only where none is under way.

        Returns:
            The answer, and whether this caller started the work.

        """
        flight = self._flights.get(key)
        led = flight is None
        if flight is None:
            flight = _Flight(asyncio.create_task(work()))
            self._flights[key] = flight
            flight.task.add_done_callback(lambda task: self._landed(key, task))
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task), led
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.task.done():
                self._forget(key, flight.task)
                flight.task.cancel()

    async def aclose(self) -> None:
        """
        Cancel what is under way and wait until it has let go of its connections.
        """
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    def _landed(self, key: Hashable, task: asyncio.Task[T]) -> None:
        self._forget(key, task)
        if not task.cancelled():
            task.exception()  # seen, also where the last waiter left at the same moment

    def _forget(self, key: Hashable, task: asyncio.Task[T]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
