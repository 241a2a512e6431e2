"""
What the pages are told, each within a bound: the service's own word, and what the children that look have found.

Owns what happens where nothing comes: whoever reads is told why, and what was found before is shown with its time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cftpki_ext.config.places import places_of
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.values import dataclass
from cftpki_ext.doctor import Finding, Silence, Unanswered
from cftpki_ext.looking.health import ask_service, cluster_findings, service_findings
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.worker import (
    Worker,
    WorkerBusyError,
    WorkerError,
    WorkerLateError,
    WorkerLostError,
)
from cftpki_ext.service.monitoring.bounded import Bounded

# The service answers from memory: a page does not wait for one that is stuck.
_STATUS_S, _SPARE_S = 2.0, 0.5
# A look through the newest records of a large ledger on a slow machine; and a trial of a policy.
LOOK_S, TRIAL_S = 30.0, 40.0
# How well all is is looked at anew so often; whoever comes in between sees what was found.
_YOUNG_S, _PATIENCE_S = 30.0, 2.0


class NotSeenError(CftPkiError):
    """
    There is nothing to show; `status` is what the browser is told.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """
    The service's own word, and what is to be said of it.
    """

    socket: Path
    told: Mapping[str, Any] | Unanswered

    @property
    def status(self) -> Mapping[str, Any] | None:
        """
        STATUS; `None` where it does not answer.
        """
        return None if isinstance(self.told, Unanswered) else self.told

    def findings(self, *, ran_before: bool) -> tuple[Finding, ...]:
        """
        As the doctor has them.
        """
        return (
            *service_findings(self.socket, self.told, ran_before=ran_before),
            *cluster_findings(self.told),
        )


class ServiceWatch:
    """
    Asks the service again and again; for one event loop.

    Args:
        config: the configuration, which names the socket, whatever faults it has.

    """

    def __init__(self, config: Path) -> None:
        self._config = config
        self._asking = Bounded(self._ask)

    async def ask(self) -> Service:
        """
        Ask now. Never raises, and takes seconds at the most.
        """
        answer = asyncio.wrap_future(self._asking.begin())
        try:
            async with asyncio.timeout(_STATUS_S + _SPARE_S):
                return await asyncio.shield(answer)
        except TimeoutError:
            detail = "it did not answer in time"
        except Exception as error:  # noqa: BLE001 - whatever it is, the service is not known to be well
            detail = f"it could not be asked: {type(error).__name__}"
        return Service(
            socket=places_of(self._config).socket, told=Unanswered(silence=Silence.FROZEN, detail=detail)
        )

    def _ask(self) -> Service:
        socket = places_of(self._config).socket
        return Service(socket=socket, told=ask_service(socket, timeout_s=_STATUS_S))


async def look(worker: Worker, name: str, *, within_s: float = LOOK_S, **given: Any) -> dict[str, Any]:
    """
    Have a child look.

    Args:
        worker: the child.
        name: which look (`console.looks`).
        within_s: how long it is waited for; one that takes longer is ended.
        given: what for.

    Returns:
        What was found.

    Raises:
        NotSeenError: there is no such thing, it cannot be read, or there was no answer in time.

    """
    try:
        answer = await worker.call(Message({"look": name, "given": given}), within_s=within_s)
    except WorkerBusyError as error:
        msg = "others are just being shown something that takes long: try again in a moment"
        raise NotSeenError(msg, HTTPStatus.SERVICE_UNAVAILABLE) from error
    except WorkerLateError as error:
        msg = (
            f"looking took longer than {within_s:.0f} s and was given up: the command line has no such bound"
        )
        raise NotSeenError(msg, HTTPStatus.SERVICE_UNAVAILABLE) from error
    except WorkerLostError as error:
        msg = "what looks had to be begun anew: try again in a moment"
        raise NotSeenError(msg, HTTPStatus.SERVICE_UNAVAILABLE) from error
    except WorkerError as error:
        msg = "this could not be looked at: the console's log says why"
        raise NotSeenError(msg, HTTPStatus.INTERNAL_SERVER_ERROR) from error
    value = answer.value
    if "error" in value:
        raise NotSeenError(
            str(value["error"]),
            HTTPStatus.NOT_FOUND if value.get("is_missing") else HTTPStatus.SERVICE_UNAVAILABLE,
        )
    found: dict[str, Any] = value["found"]
    return found


class Remembered:
    """
    One look for everybody who comes: begun once, and shown from before where a new one takes long. For one event loop.

    Args:
        make: looks.

    """

    def __init__(self, make: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._make = make
        self._found: dict[str, Any] | None = None
        self._at = 0.0
        self._running: asyncio.Task[dict[str, Any]] | None = None

    async def get(self) -> dict[str, Any]:
        """
        What was found lately.

        Raises:
            NotSeenError: the newest look found nothing.

        """
        if self._found is not None and time.monotonic() - self._at < _YOUNG_S:
            return self._found
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        running = self._running
        if self._found is None:
            return await asyncio.shield(running)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await asyncio.shield(running)
        except TimeoutError:
            return self._found

    async def _run(self) -> dict[str, Any]:
        try:
            found = await self._make()
        except NotSeenError:
            self._found = None
            raise
        else:
            self._found, self._at = found, time.monotonic()
            return found
        finally:
            self._running = None
