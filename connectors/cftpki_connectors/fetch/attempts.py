"""
What every attempt to fetch something has in common, whatever the protocol: repetitions, the gate of a host, causes.

Owns when a failure tells against a host, and the one mapping from third-party exceptions to causes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import httpcore
import tenacity

from cftpki_connectors.fetch.gate import ClosedGateError, Gates, Visit
from cftpki_connectors.fetch.url import ForbiddenUrlError, Target
from cftpki_connectors.fetch.values import FetchError
from cftpki_connectors.support.httpx_client import DETAIL_CHARACTERS, tls_errors
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.values import dataclass
from cftpki_ext.support.failures import reason_of

T = TypeVar("T")

# One request and two repetitions; the deadline usually comes first.
ATTEMPTS = 3
# Between repetitions: random, at most so long, so that many handshakes do not come back in step.
RETRY_WAIT_S = 0.4
# A request that was given less time than this tells nothing about the host when it runs out.
FAIR_WAIT_S = 0.25
# A request that was cancelled (another source was faster) tells that the host is dead after this long.
DEAD_S = 2.0
# Whoever asks stops waiting a little before the deadline that it gave: an answer at the last moment is still read.
ENDS_EARLY_S = 0.15
# A deadline that is noticed so late was noticed by a process that did not run.
LATE_S = 0.5


@dataclass(slots=True)
class Progress:
    """
    How far a request came, and what its last try failed with.
    """

    step: str = "not begun"
    received: int = 0
    failure: FetchError | None = None

    def receive(self, octets: int) -> None:
        """
        Note how much of the body there is.
        """
        self.received = octets

    def __str__(self) -> str:
        """
        Where it stands, for a detail.
        """
        return f"{self.received} bytes of the body received" if self.received else self.step


async def repeated(act: Callable[[], Awaitable[T]], *, left_s: float, statuses: bool = True) -> T:
    """
    Try, and again where the failure is one that may pass.

    Args:
        act: one try.
        left_s: how long there is for all of them.
        statuses: whether an error status may pass, too.

    Returns:
        What the first try that succeeds returns.

    Raises:
        FetchError: of the last try.

    """

    def may_pass(error: BaseException) -> bool:
        return isinstance(error, FetchError) and error.transient and (statuses or error.status is None)

    begun = time.monotonic()
    failed: list[FetchError] = []
    try:
        return await act()
    except FetchError as error:
        if not may_pass(error):
            raise
        failed.append(error)
    left_s -= time.monotonic() - begun
    # Only what failed needs to be told how it is repeated; the first try is among those that are counted.
    retrying = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_before_delay(left_s),
        wait=tenacity.wait_random(0.01, RETRY_WAIT_S),
        retry=tenacity.retry_if_exception(may_pass),
        reraise=True,
    )

    async def once() -> T:  # tenacity waits for a function only where it is written so
        if failed:
            raise failed.pop()
        return await act()

    return await retrying(once)


async def visited(
    gates: Gates,
    target: Target,
    act: Callable[[], Awaitable[T]],
    *,
    progress: Progress,
    deadline: float,
    monotonic: Callable[[], float],
) -> T:
    """
    Ask a host, in its own share and by its breaker's permission, and tell the breaker what came of it.

    Args:
        gates: of the one trust set.
        target: where.
        act: what is asked.
        progress: is told of the waiting, and knows of earlier tries.
        deadline: of all of it, in monotonic seconds.
        monotonic: seconds that only ever grow.

    Returns:
        What `act` returns.

    Raises:
        FetchError: what `act` raises, or the host is left alone.

    """
    progress.step = f"waiting for a place at {target.origin}"
    try:
        visit = await gates.of(target.origin).enter()
    except ClosedGateError as error:
        before = "" if progress.failure is None else f", lately {progress.failure.detail}"
        status = None if progress.failure is None else progress.failure.status
        raise FetchError(
            Cause.UNREACHABLE, f"{target.origin} is {error}{before}", url=str(target), status=status
        ) from progress.failure
    async with visit:
        started = monotonic()
        try:
            answer = await act()
        except FetchError as error:
            _tell(visit, error, progress, monotonic() - started)
            raise
        except asyncio.CancelledError:
            # Cancelled by our deadline, or by a caller that had its answer elsewhere.
            waited_s = monotonic() - started
            left_s = deadline - monotonic()
            # A timer that is so late says that we did not run, and nothing about the host.
            over = -LATE_S < left_s <= ENDS_EARLY_S
            if waited_s >= DEAD_S or (waited_s >= FAIR_WAIT_S and over):
                visit.failed()
            raise
        visit.succeeded()
        return answer


def _tell(visit: Visit, error: FetchError, progress: Progress, waited_s: float) -> None:
    if error.transient or (error.cause is Cause.TIMED_OUT and waited_s >= FAIR_WAIT_S):
        if progress.failure is None:  # one request counts once, however often it is repeated
            visit.failed()
        progress.failure = error
    elif error.status is not None:
        visit.succeeded()


@contextlib.contextmanager
def mapped(url: str) -> Iterator[None]:
    """
    The one place where third-party exceptions become causes.

    Args:
        url: what was asked, for the error.

    Raises:
        FetchError: instead of whatever sockets, TLS or HTTP raised.

    """
    try:
        yield
    except ForbiddenUrlError as error:
        raise FetchError(Cause.FORBIDDEN_URL, str(error), url=url) from error
    except httpcore.TimeoutException as error:
        raise FetchError(Cause.TIMED_OUT, "could not connect in time", url=url) from error
    except (httpcore.UnsupportedProtocol, httpcore.LocalProtocolError) as error:
        raise FetchError(Cause.FORBIDDEN_URL, _reason(error), url=url) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError) as error:
        # Where a certificate was refused another try will not change that.
        refused = any(isinstance(link, ssl.SSLCertVerificationError) for link in tls_errors(error))
        raise FetchError(Cause.UNREACHABLE, _reason(error), url=url, transient=not refused) from error
    except (OSError, ssl.SSLError) as error:
        raise FetchError(Cause.UNREACHABLE, _reason(error), url=url, transient=True) from error


def _reason(error: BaseException) -> str:
    return excerpt(reason_of(error), DETAIL_CHARACTERS)
