"""
From host names to addresses: the system's own resolution, in shares, with a short memory.

Owns who may wait for names, and for how long a name that fails or is stuck is left alone. Nothing is asked for two
families at once: one that is never answered does not hold up the other (RFC 8305 section 3).
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from cftpki_connectors.support.threads import Lane
from cftpki_ext.core.values import dataclass

# Threads of one trust set: eight names of two families. More names that do not resolve are its own trouble.
THREADS = 16
# A resolver asks again after 5 s by default; what has been under way for so long will not come in time for anybody.
STUCK_S = 2.0
# A name that failed, or was found, is not asked for again so soon: thirty handshakes a second ask once.
REMEMBERED_S = 2.0
# Names remembered: the responders of one trust set, many times over.
NAMES = 256
# How long the second family is waited for when the first is there (RFC 8305 section 3).
RESOLUTION_DELAY_S = 0.05

Lookup = Callable[[str, int, int], tuple[str, ...]]


class Resolver(Protocol):
    """
    Turns a host name into addresses.
    """

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """
        All addresses of `host` in order of preference; `OSError` where it has none.
        """


def system_lookup(host: str, port: int, family: int) -> tuple[str, ...]:
    """
    Ask the system (hosts file, DNS) for one family; blocks.

    Raises:
        OSError: the name has no address of this family, or nobody knows.

    """
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(slots=True)
class _Name:
    """
    One name in one family: the question under way or answered, since when, and when it ended.
    """

    task: asyncio.Task[tuple[str, ...]]
    since: float
    ended: float | None = None


class SystemResolver:
    """
    The system's own resolution, with threads that nobody else waits for: one for each trust set.

    Args:
        lookup: what asks for one family, in a thread.
        monotonic: seconds that only ever grow.

    """

    def __init__(
        self, lookup: Lookup = system_lookup, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._lookup = lookup
        self._monotonic = monotonic
        self._lane = Lane(THREADS, "resolving names")
        self._names: OrderedDict[tuple[str, int, int], _Name] = OrderedDict()

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """
        See `Resolver`. IPv6 addresses come first, where both families answer.
        """
        six, four = (self._ask(host, port, family) for family in (socket.AF_INET6, socket.AF_INET))
        await asyncio.wait((six, four), return_when=asyncio.FIRST_COMPLETED)
        if not (six.done() and four.done()):
            first = six if six.done() else four
            # Where the first has nothing, all depends on the other.
            delay_s = RESOLUTION_DELAY_S if first.exception() is None else None
            await asyncio.wait((six, four), timeout=delay_s)
        done = [task for task in (six, four) if task.done()]
        found = tuple(address for task in done if task.exception() is None for address in task.result())
        if not found:
            raise next(error for task in reversed(done) if (error := task.exception()) is not None)
        return tuple(dict.fromkeys(found))

    async def aclose(self) -> None:
        """
        Stop waiting for what is stuck.
        """
        tasks = [name.task for name in self._names.values()]
        self._names.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, host: str, port: int, family: int) -> asyncio.Future[tuple[str, ...]]:
        """
        The answer of one family, as it is known, under way, or asked for now.
        """
        key = (host, port, family)
        now = self._monotonic()
        name = self._names.get(key)
        if name is not None and name.ended is None and now - name.since > STUCK_S:
            stuck: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
            stuck.set_exception(OSError(f"its resolution has been under way for {now - name.since:.0f} s"))
            return stuck
        if name is None or (name.ended is not None and now - name.ended > REMEMBERED_S):
            name = self._begin(key, now)
        return name.task

    def _begin(self, key: tuple[str, int, int], now: float) -> _Name:
        task = asyncio.create_task(self._lane.call(lambda: self._lookup(*key)))
        name = self._names[key] = _Name(task, now)
        self._names.move_to_end(key)

        def ended(task: asyncio.Task[tuple[str, ...]]) -> None:
            name.ended = self._monotonic()
            if not task.cancelled():
                task.exception()  # seen, also where nobody waits any more

        task.add_done_callback(ended)
        for old in list(self._names)[: max(0, len(self._names) - NAMES)]:
            if self._names[old].ended is not None:
                del self._names[old]
        return name
