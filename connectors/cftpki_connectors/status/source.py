"""
What the status sources of this package have in common: deadlines, single flight, and statements made of failures.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import ClassVar

from cftpki_connectors.fetch.client import Fetcher
from cftpki_connectors.fetch.flight import SingleFlight
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import CftPkiError, SourceError
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.sources import StatusQuestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    What a source got: the bytes as received, what else was at the same place, and the nonce that was sent for them.
    """

    raw: bytes | LargeOctets
    also: tuple[bytes, ...] = ()
    nonce: bytes | None = None


class FetchingSource(ABC):
    """
    A `StatusSource` whose answers are fetched.

    Identical concurrent questions share one answer. Whoever joined late and has time left when the shared one
    timed out asks anew.

    Args:
        clock: wall time for `received_at`, monotonic time for the deadline.
        fetcher: by default one of its own, closed with it.

    """

    kind: SourceKind
    # Whether a body may take the question's whole time; by default `limits.request_ms` bounds the request.
    whole_budget: ClassVar[bool] = False

    def __init__(self, clock: Clock, fetcher: Fetcher | None = None) -> None:
        self._clock = clock
        self._fetcher = fetcher or Fetcher(monotonic=clock.monotonic)
        self._flights: SingleFlight[Statement] = SingleFlight()

    @abstractmethod
    def _sameness(self, question: StatusQuestion) -> Hashable:
        """
        What makes two questions the same, permissions included.
        """

    @abstractmethod
    async def _fetch(self, question: StatusQuestion, deadline: float) -> Answer:
        """
        Get the answer by `deadline` (monotonic seconds), or raise `SourceError`.
        """

    async def ask(self, question: StatusQuestion) -> Statement:
        """
        See `StatusSource`. A request ends at the question's deadline.

        By default it takes at most `limits.request_ms`; the body of a CRL may take as long as there is time.
        """
        started = self._clock.monotonic()
        deadline = question.deadline
        if not self.whole_budget:
            deadline = min(deadline, started + question.limits.request_ms / 1000)
        while True:
            statement, led = await self._join(question, started, deadline)
            statement = replace(statement, depth=question.lookup.depth, url=question.lookup.url)
            if led or statement.failure is not Cause.TIMED_OUT or self._clock.monotonic() >= deadline:
                return statement

    async def aclose(self) -> None:
        """
        Give up what is under way and close all connections.
        """
        await self._flights.aclose()
        await self._fetcher.aclose()

    async def _join(
        self, question: StatusQuestion, started: float, deadline: float
    ) -> tuple[Statement, bool]:
        left_s = deadline - self._clock.monotonic()
        # The one who leads ends by its own deadline and says more about why; this bounds those who joined.
        grace_s = 0.1
        try:
            async with asyncio.timeout(max(left_s, 0) + grace_s):
                return await self._flights.run(
                    (self._sameness(question), question.limits.request_ms),
                    lambda: self._statement(question, started, deadline),
                )
        except TimeoutError:
            return self._failed(started, Cause.TIMED_OUT, "another request for the same took too long"), True

    async def _statement(self, question: StatusQuestion, started: float, deadline: float) -> Statement:
        try:
            answer = await self._fetch(question, deadline)
        except SourceError as error:
            return self._failed(started, error.cause, error.detail)
        except (
            CftPkiError
        ) as error:  # the question itself cannot be put (a certificate that no request can state)
            return self._failed(started, Cause.MALFORMED, str(error))
        return Statement(
            kind=self.kind,
            origin=Origin.NETWORK,
            received_at=self._clock.now(),
            raw=answer.raw,
            also=answer.also,
            nonce=answer.nonce,
            elapsed_ms=self._elapsed_ms(started),
        )

    def _failed(self, started: float, cause: Cause, detail: str) -> Statement:
        return Statement(
            kind=self.kind,
            origin=Origin.NETWORK,
            received_at=self._clock.now(),
            failure=cause,
            detail=detail,
            elapsed_ms=self._elapsed_ms(started),
        )

    def _elapsed_ms(self, started: float) -> int:
        return round((self._clock.monotonic() - started) * 1000)
