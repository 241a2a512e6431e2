"""
What the core asks of the memory of revocations: proofs that are kept for good.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from cftpki_ext.core.statement import Statement


class ProofReader(Protocol):
    """
    The reading end of a `ProofStore`.
    """

    def recall(self, certificate: str) -> tuple[Statement, ...]:
        """
        The proofs kept under `certificate`, with origin `KNOWN_REVOKED`.

        Raises:
            StoreError: they cannot be read.

        """

    def holds(self, certificate: str, digest: str) -> bool:
        """
        Whether the statement of a SHA-256 (hex) is kept under `certificate`.

        Raises:
            StoreError: this cannot be read.

        """

    def state(self) -> int:
        """
        A number that is another one after anybody, in any process, has changed what is kept. Cheap.

        Raises:
            StoreError: it cannot be read.

        """

    def latest(self) -> datetime | None:
        """
        When the newest statement that is kept was received; `None` where there is none.

        Raises:
            StoreError: this cannot be read.

        """

    def close(self) -> None:
        """
        Release files.
        """


class ProofStore(ProofReader, Protocol):
    """
    Keeps proofs of revocation for good, by certificate. Knows bytes, no PKI rules.
    """

    def remember(self, certificate: str, statement: Statement) -> None:
        """
        Keep `statement` durably: it is on the disk when this returns.

        Raises:
            StoreError: it could not be written.

        """
