"""
The time limits of one connection, one after the other, by one timer.

Owns that a limit which is kept costs no timer of its own: `asyncio.timeout` makes and cancels one each time, some sixty calls of
functions, and a connection is under a limit twice for each request.
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Self


class Deadline:
    """
    Limits of tasks of one event loop, one limit at a time.

    `with deadline.within(seconds):` is `async with asyncio.timeout(seconds):`, but for the timer: it is set for the earliest end
    that was asked for, and when it runs out before the end that is asked for by then, for that one.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next = self._until = math.inf
        self._cancelling = 0
        self._is_over = False

    def within(self, seconds: float) -> Self:
        """
        Begin a limit with the `with` block that this is given to.

        Args:
            seconds: from now on.

        """
        self._next = self._loop.time() + seconds
        return self

    def __enter__(self) -> Self:
        """
        Under the limit.

        Raises:
            RuntimeError: another one is not over, or there is no task.

        """
        task = asyncio.current_task()
        if task is None or self._task is not None:
            msg = "one limit at a time, of a task"
            raise RuntimeError(msg)
        self._task, self._until = task, self._next
        self._cancelling = task.cancelling()
        timer = self._timer
        if timer is None or timer.when() > self._until:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(self._until, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """
        The limit is over.

        Raises:
            TimeoutError: the time was over, and what was waited for was cancelled.

        """
        task, self._task = self._task, None
        self._until = math.inf
        if self._is_over and task is not None:
            self._is_over = False
            if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def close(self) -> None:
        """
        No limit comes any more.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._task is None:
            return  # nothing is under a limit: the next one sets it
        if self._loop.time() < self._until:
            self._timer = self._loop.call_at(self._until, self._look)
            return
        self._is_over = True
        self._task.cancel()
