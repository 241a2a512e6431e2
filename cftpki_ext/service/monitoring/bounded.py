"""
Questions that may hang (a disk, a process that is stopped), asked so that whoever needs the answer waits no longer than it wants.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Bounded(Generic[T]):
    """
    One question, asked by one thread at a time. For any thread.

    One that hangs keeps its thread, which does not keep the process from ending, and everybody else waits in vain for the
    same answer: however often it is asked, there is one such thread.

    Args:
        act: asks; what it raises, whoever waits is told.

    """

    def __init__(self, act: Callable[[], T]) -> None:
        self._act = act
        self._turn = threading.Lock()
        self._running: Future[T] | None = None

    def begin(self) -> Future[T]:
        """
        Ask now, unless the question is just being asked.

        Returns:
            Its answer; `Future.result` waits, with a bound.

        """
        with self._turn:
            if self._running is not None and not self._running.done():
                return self._running
            future = self._running = Future()
            threading.Thread(target=self._run, args=(future,), daemon=True).start()
            return future

    def _run(self, future: Future[T]) -> None:
        try:
            future.set_result(self._act())
        except BaseException as error:  # noqa: BLE001 - whoever waits is told
            future.set_exception(error)
