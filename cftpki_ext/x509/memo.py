"""
What is remembered of parsing and verifying: bounded by octets, and nothing of what turned out to be a stranger's.

Owns the bookkeeping alone; what a memory holds is its function's business. Everything remembered is a pure function's
result under the whole of its arguments, so that forgetting costs time and nothing else. Imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Generic, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")

# An entry's key, its place in the table, and the object itself.
_ENTRY_OCTETS = 512
# Python's form of parsed octets: lists, text and objects for a few octets each.
_WEIGHT = 16


class _Forgetful(Protocol):
    def forget(self, key: object) -> None: ...


# What was entered since `tentative` began; `None` outside of it. Of one thread or task alone.
_entered: ContextVar[list[tuple[_Forgetful, object]] | None] = ContextVar("entered", default=None)


class Memory(Generic[V]):
    """
    Results by arguments; the least recently used go first. Safe for several threads.

    Args:
        octets: that all entries may cost together, by estimate.

    """

    def __init__(self, octets: int) -> None:
        self._octets = octets
        self._used = 0
        self._kept: OrderedDict[object, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """
        How many results are kept.
        """
        return len(self._kept)

    @property
    def octets(self) -> int:
        """
        What the entries cost, by estimate.
        """
        return self._used

    def get(self, key: object) -> V | None:
        """
        The result under `key`, or `None`.
        """
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def enter(self, key: object, value: V, cost: int) -> None:
        """
        Remember a result; what costs more than a quarter of all is not kept.
        """
        if cost > self._octets // 4:
            return
        with self._lock:
            before = self._kept.pop(key, None)
            self._used += cost - (before[1] if before is not None else 0)
            self._kept[key] = value, cost
            while self._used > self._octets:
                _, (_, gone) = self._kept.popitem(last=False)
                self._used -= gone
        entered = _entered.get()
        if entered is not None:
            entered.append((self, key))

    def forget(self, key: object) -> None:
        """
        Forget one result.
        """
        with self._lock:
            before = self._kept.pop(key, None)
            self._used -= before[1] if before is not None else 0

    def clear(self) -> None:
        """
        Forget everything.
        """
        with self._lock:
            self._kept.clear()
            self._used = 0


class Remembered(Generic[P, R]):
    """
    A pure function with a memory. `None` is no result that is remembered.
    """

    def __init__(self, function: Callable[P, R], octets: int, cost: Callable[..., int]) -> None:
        self.memory: Memory[R] = Memory(octets)
        self._function = function
        self._cost = cost
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        The result, remembered or made.
        """
        key = args if not kwargs else (args, tuple(sorted(kwargs.items())))
        found = self.memory.get(key)
        if found is None:
            found = self._function(*args, **kwargs)
            if found is not None:
                self.memory.enter(key, found, self._cost(*args, **kwargs))
        return found

    def cache_clear(self) -> None:
        """
        Forget everything.
        """
        self.memory.clear()


def weigh(*arguments: object, **more: object) -> int:
    """
    What an entry costs, by the octets that its function was given.
    """
    octets = sum(len(a) for a in (*arguments, *more.values()) if isinstance(a, bytes | str))
    return _ENTRY_OCTETS + _WEIGHT * octets


def remembered(
    *, octets: int, cost: Callable[..., int] = weigh
) -> Callable[[Callable[P, R]], Remembered[P, R]]:
    """
    Give a pure function a memory of bounded size.

    By default an entry counts as sixteen times the octets of its arguments.

    Args:
        octets: that all its entries may cost together.
        cost: what an entry costs, by the function's arguments.

    Returns:
        The decorator.

    """
    return lambda function: Remembered(function, octets, cost)


class Scope:
    """
    What was remembered since a point, and whether it stays.
    """

    def __init__(self) -> None:
        self.stays = False

    def keep(self) -> None:
        """
        Let it stay.
        """
        self.stays = True


@contextlib.contextmanager
def tentative() -> Iterator[Scope]:
    """
    Forget at the end what was remembered within, unless `Scope.keep` was called.

    What was remembered before stays. Two of them do not nest: the outer one decides.
    """
    scope = Scope()
    if _entered.get() is not None:
        yield scope
        return
    entered: list[tuple[_Forgetful, object]] = []
    token = _entered.set(entered)
    try:
        yield scope
    finally:
        _entered.reset(token)
        if not scope.stays:
            for memory, key in entered:
                memory.forget(key)
