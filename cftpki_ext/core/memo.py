"""
A memory of results that is bounded by octets; what was not used for the longest time goes first.

Owns `Memo`. Whoever keeps something says what it costs. Nothing of a stranger's is to be kept in one: a flood of what
is new would push out what is used.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memo(Generic[K, V]):
    """
    Results by question. May be used from several threads.

    Args:
        octets: what all of it may cost together.

    """

    def __init__(self, octets: int) -> None:
        self._most = octets
        self._octets = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()

    @property
    def octets(self) -> int:
        """
        What is kept costs so much.
        """
        return self._octets

    def get(self, key: K) -> V | None:
        """
        The result, or `None`.
        """
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def keep(self, key: K, value: V, octets: int) -> None:
        """
        Keep one more; the oldest go where there is too much. What is larger than the whole memory is not kept.

        Args:
            key: the question, in its place.
            value: the result.
            octets: what both cost.

        """
        with self._lock:
            before = self._kept.pop(key, None)
            self._octets -= before[1] if before is not None else 0
            if octets > self._most:
                return
            self._kept[key] = value, octets
            self._octets += octets
            while self._octets > self._most:
                self._octets -= self._kept.popitem(last=False)[1][1]

    def drop(self, key: K) -> None:
        """
        Forget one.
        """
        with self._lock:
            before = self._kept.pop(key, None)
            self._octets -= before[1] if before is not None else 0

    def clear(self) -> None:
        """
        Forget everything.
        """
        with self._lock:
            self._kept.clear()
            self._octets = 0
