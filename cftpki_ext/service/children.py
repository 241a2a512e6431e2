"""
The service's child processes together: begun from one nursery, shown in one table, ended with the service.

Owns the list. What each is for is its own module's business (`evidence_child`, …).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cftpki_ext.core.log import Log
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.spawning import Nursery
from cftpki_ext.processes.worker import Role, Worker

# Modules that a nursery which is executed anew imports before it forks: what every child needs.
PRELOAD = (
    "cftpki_ext.service.evidence_child",
    "cftpki_ext.service.judging.judge",
    "cftpki_ext.service.judging.indexing",
    "cftpki_ext.identity.serving.signer",
)


class Children:
    """
    All child processes. For one event loop.

    Args:
        nursery: forks them; ended by `aclose`.
        log: is told of beginnings and ends.

    """

    def __init__(self, nursery: Nursery, log: Log) -> None:
        self.nursery = nursery
        self._log = log
        self._workers: list[Worker] = []

    def begin(
        self,
        role: Role,
        *,
        setup: Callable[[], Message],
        ready: Callable[[Worker], None] | None = None,
        noted: Callable[[Message], None] | None = None,
    ) -> Worker:
        """
        Begin a child; it is begun again whenever it ends.

        Args:
            role: what it is for.
            setup: what its handler is made with, asked at each beginning.
            ready: called each time it is ready.
            noted: called with what it tells by itself.

        Returns:
            Its front's end.

        """
        worker = Worker(role, self.nursery, setup=setup, log=self._log, ready=ready, noted=noted)
        self._workers.append(worker)
        worker.start()
        return worker

    async def end(self, worker: Worker) -> None:
        """
        End a child for good, one that is not needed any more.

        Args:
            worker: as `begin` gave it.

        """
        self._workers.remove(worker)
        await worker.aclose()

    def status(self) -> list[dict[str, Any]]:
        """
        Every process as plain data, for STATUS.
        """
        return [worker.status() for worker in self._workers]

    async def aclose(self) -> None:
        """
        End them all, and the nursery.
        """
        for worker in self._workers:
            await worker.aclose()
        self.nursery.close()
