"""
Calls of the server: each bounded in time, none while it is known not to answer.

Owns the breaker. A call that fails for want of an answer opens it, and nobody waits any more; what beats (`Calls.beat`) closes it
again. What the server refuses (it is full, the user may not) opens nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    OutOfMemoryError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.sentinel import MasterNotFoundError

from cftpki_connectors.cluster.bounded import ReplyTooLargeError
from cftpki_connectors.cluster.clients import CONNECTIONS, Client
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.escape import printable
from cftpki_ext.ports.clock import Clock
from cftpki_ext.support.failures import reason_of

T = TypeVar("T")

# Of the connections that a client makes at most (twice as many as handshakes use), what is done beside all handshakes
# may use so many: some are left for what beats.
_BESIDE = CONNECTIONS * 3 // 4
_LONGEST_WORDS = 200
# Of a script Redis 6 says it in the midst of its own words.
_FULL = "OOM command not allowed"
_MOST_LINKS = 8


class UnavailableError(CftPkiError):
    """
    The server gave no answer, or a refusal.
    """


class Calls:
    """
    The calls of one process. For one event loop.

    Args:
        client: of redis-py.
        patience_s: what a call that a handshake waits for may take.
        clock: the time.

    """

    def __init__(self, client: Client, *, patience_s: float, clock: Clock) -> None:
        self._client = client
        self._patience_s = patience_s
        self._clock = clock
        self._left: set[asyncio.Future[Any]] = set()
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._room_beside = asyncio.Semaphore(_BESIDE)
        self.up = False
        self.since: datetime = clock.now()
        self.fault: str | None = "not asked yet"
        self.refused: str | None = None
        self.full = 0
        self.late = 0

    async def call(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """
        Call the server for a handshake.

        Args:
            work: what is asked, given the client.

        Returns:
            Its answer.

        Raises:
            UnavailableError: there is none.

        """
        if not self.up:
            raise UnavailableError(self.fault or "")
        return await self._call(self._in_turn(work), self._patience_s)

    async def beside(self, work: Callable[[Any], Awaitable[T]], *, patience_s: float) -> T:
        """
        Call it for what no handshake waits for, of which there may be much at once; patience begins when it is its turn.

        Raises:
            UnavailableError: there is no answer.

        """
        async with self._room_beside:
            if not self.up:
                raise UnavailableError(self.fault or "")
            return await self.beat(work, patience_s=patience_s)

    async def beat(self, work: Callable[[Any], Awaitable[T]], *, patience_s: float) -> T:
        """
        Call it beside all handshakes, whether it answers or not; where it does, it is there again. One at a time.

        Raises:
            UnavailableError: there is no answer.

        """
        answer = await self._call(work(self._client), patience_s)
        if not self.up:
            self.up, self.since, self.fault = True, self._clock.now(), None
        return answer

    def lose(self, why: str) -> None:
        """
        Leave the server alone until it is there again: it answers, and is not to be used.
        """
        self._down(why)

    async def _in_turn(self, work: Callable[[Any], Awaitable[T]]) -> T:
        async with self._room:
            return await work(self._client)

    async def _call(self, work: Awaitable[T], patience_s: float) -> T:
        # A task of its own: the library may take its time to give up, and nobody waits for that.
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task,), timeout=patience_s)
        finally:
            if not task.done():
                task.cancel()
                self._left.add(task)
                task.add_done_callback(self._gone)
        if not task.done():
            self.late += 1
            error = self._down(f"no answer within {patience_s:.2f} s")
            raise error
        return self._result(task)

    def _gone(self, task: asyncio.Future[Any]) -> None:
        self._left.discard(task)
        if not task.cancelled():
            task.exception()  # nobody waits for it any more

    def _result(self, task: asyncio.Future[T]) -> T:
        try:
            return task.result()
        except (AuthenticationError, AuthorizationError) as exc:
            error = self._down("it does not take this user and password")
            raise error from exc
        except NoPermissionError as exc:
            self.refused = f"the user may not: {_words(exc)}"
            raise UnavailableError(self.refused) from exc
        except ResponseError as exc:
            is_full = isinstance(exc, OutOfMemoryError) or _FULL in str(exc)
            self.full += is_full
            self.refused = "it is full (maxmemory)" if is_full else _words(exc)
            raise UnavailableError(self.refused) from exc
        except Exception as exc:
            # Of replies that are none the library makes what it likes; that a cluster has no servers is no `RedisError`.
            error = self._down(_words(exc))
            raise error from exc

    def _down(self, why: str) -> UnavailableError:
        if self.up or self.fault is None:
            self.since = self._clock.now()
        self.up, self.fault = False, why
        return UnavailableError(why)


def _words(error: Exception) -> str:
    """
    Why a call failed; of what the server itself says, its words.
    """
    if isinstance(error, ReplyTooLargeError | ResponseError | MasterNotFoundError):
        return printable(str(error))[:_LONGEST_WORDS]
    # The library puts words of its own around what the operating system or OpenSSL said.
    link: BaseException | None = error
    for _ in range(_MOST_LINKS):
        if isinstance(link, OSError) and link.errno is not None:
            return reason_of(link)
        link = None if link is None else link.__cause__ or link.__context__
    return "the connection was closed" if isinstance(error, RedisConnectionError) else reason_of(error)
