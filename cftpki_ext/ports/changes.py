"""
What the core asks of who watches the state directory: what other processes changed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Protocol

from cftpki_ext.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreChanges:
    """
    What any process has changed in the stores since they were looked at last.

    `flushed`: the cache was emptied on purpose. `responses`: names under which something was stored, and when that was
    received. `revoked`: the certificates (`ProofReader.recall`) of which proofs are kept; `None` where no proof was added.
    It only ever grows, unless somebody has taken proofs away.
    """

    flushed: bool = False
    responses: Mapping[str, datetime] = field(default_factory=dict)
    revoked: frozenset[str] | None = None


class StoreWatch(Protocol):
    """
    Sees what other processes put into the stores that they share with this one. Cheap: it is asked many times a second.
    """

    def look(self) -> StoreChanges:
        """
        What has changed since the last look; the first look tells of nothing but proofs.

        Raises:
            StoreError: the memory of revocations cannot be read. That the cache cannot be is no change of it.

        """

    def remembered(self) -> None:
        """
        Take note that this process has kept a proof of revocation: the next look reads the memory of them, whether or not it was there.
        """

    def close(self) -> None:
        """
        Release files.
        """
