"""
What the core asks of the server that the nodes of a cluster share, and of where a node keeps its place in what is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from cftpki_ext.core.cluster import (
    Announcement,
    Beat,
    Heard,
    Lease,
    NodeRow,
    NoLease,
    Parts,
    Refusal,
    SharedAnswer,
)


class SharedTier(Protocol):
    """
    What the nodes of a cluster share of what CAs said: octets by the names of the cache, and who asks a location for all.

    Knows octets, no PKI rules. Never raises for what a server or a network does, and takes no longer than it is configured
    to: what cannot be found is not there. Whatever comes back may be anything: whoever uses it verifies it.
    """

    async def find(self, key: str) -> SharedAnswer | None:
        """
        What was put under a name, unverified.
        """

    async def put(
        self, key: str, raw: bytes, *, received_at: datetime, keep_s: int, lease: Lease | NoLease | None
    ) -> bool:
        """
        Have others find an answer, unless one is there that was asked for later, by a lease; ends the lease.

        Returns:
            Whether it is there now.

        """

    async def find_part(self, key: str, parts: Parts, number: int) -> bytes | None:
        """
        One part of a large list, unverified.
        """

    async def put_part(self, key: str, parts: Parts, number: int, octets: bytes, *, keep_s: int) -> bool:
        """
        Have others find one part of a large list; whether it is there now.
        """

    async def put_parts(
        self, key: str, parts: Parts, *, received_at: datetime, keep_s: int, lease: Lease | NoLease | None
    ) -> bool:
        """
        See `put`, of a large list whose parts are there.
        """

    async def take(self, key: str) -> Lease | Refusal:
        """
        Take the right to ask a location for all nodes.
        """

    async def hold(self, key: str, lease: Lease) -> bool:
        """
        Keep a lease for another `LEASE_S`; whether it still is ours.
        """

    async def give_back(self, key: str, lease: Lease) -> None:
        """
        End a lease.
        """


class PlaceStore(Protocol):
    """
    Keeps where a node was in what a cluster tells, as octets.
    """

    def load(self) -> bytes | None:
        """
        What was saved last; `None` where nothing was, or it cannot be read.
        """

    def save(self, octets: bytes) -> None:
        """
        Save in one step.

        Raises:
            StoreError: the disk refuses.

        """


class ClusterServer(SharedTier, Protocol):
    """
    The server that nodes share, whole: besides what a check needs, what nodes tell each other.
    """

    @property
    def up(self) -> bool:
        """
        Whether it answered when it was last asked.
        """

    @property
    def has_secret(self) -> bool:
        """
        Whether nodes vouch for what they say.
        """

    async def beat(self, row: NodeRow, told: str | None = None) -> Beat | None:
        """
        Say that this node is there, and learn what the server has; `None` where it does not answer.

        Args:
            row: what the node says of itself.
            told: the position of what it told last.

        """

    def flushed(self) -> None:
        """
        Use nothing that is shared before a `beat` has told which flush counts: our cache is about to be emptied, like all others.
        """

    async def heard_since(self, position: str) -> tuple[Heard, ...] | None:
        """
        The announcements behind a position, in their order, some at a time; `None` where the server does not answer.
        """

    async def announce(self, one: Announcement) -> str | None:
        """
        Tell all nodes; the position, `None` where it could not be told.

        Raises:
            InputError: it is longer than anything that is told.

        """

    def status(self) -> Mapping[str, object]:
        """
        For STATUS: whether it answers, since when, why not, and what was counted.
        """

    async def aclose(self) -> None:
        """
        Release connections.
        """
