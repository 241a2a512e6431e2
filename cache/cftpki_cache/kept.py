"""
What the stores of this package hold: bytes with their age and the rest of their life.

Owns `Kept` and the port between tiers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from cftpki_ext.core.values import dataclass
from cftpki_ext.ports.responses import ResponseStore, StoredResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """
    A stored response and for how many seconds more it may be kept.
    """

    raw: bytes
    received_at: datetime
    keep_s: float

    @property
    def response(self) -> StoredResponse:
        """
        What the port's `get` gives.
        """
        return StoredResponse(raw=self.raw, received_at=self.received_at)


class LivedStore(ResponseStore, Protocol):
    """
    A store that can tell how long an entry still lives, so that a copy in a faster tier does not outlive it.
    """

    def look(self, key: str) -> Kept | None:
        """
        The entry under `key` with the rest of its life, or `None`.
        """
