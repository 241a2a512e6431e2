"""
What every way of answering a challenge has in common.

Owns the port between the enroller and the answers.
"""

from __future__ import annotations

from typing import Protocol

from cftpki_connectors.acme.flow import Task
from cftpki_ext.core.errors import CftPkiError


class SolverError(CftPkiError):
    """
    A challenge cannot be answered now. `permanent` says that an operator has to act.
    """

    def __init__(self, detail: str, *, permanent: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.permanent = permanent


class Solver(Protocol):
    """
    Publishes answers. Every method may be called again for the same task, also by another process.
    """

    async def present(self, task: Task, *, deadline: float) -> None:
        """
        Publish the answer.

        Raises:
            SolverError: it cannot be published.

        """

    async def ready(self, task: Task, *, deadline: float) -> None:
        """
        Wait until the answer can be seen, as the CA would.

        Raises:
            SolverError: it could not be seen until the deadline.

        """

    async def cleanup(self, task: Task, *, deadline: float) -> None:
        """
        Take away this answer and no other.

        Raises:
            SolverError: it may still be there.

        """

    async def aclose(self) -> None:
        """
        Release listeners; what was published elsewhere stays.
        """
