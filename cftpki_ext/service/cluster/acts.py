"""
What a node does with what it hears from the others: the ways in which a service is acted on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import field
from typing import Protocol

from cftpki_ext.core.cluster import RevokedNews
from cftpki_ext.core.values import dataclass
from cftpki_ext.ports.partners import BlockList
from cftpki_ext.service.cluster.revocations import Proof


class Verifier(Protocol):
    """
    Verifies what is announced.
    """

    async def __call__(self, news: RevokedNews, *, heard_s: float, again: bool = False) -> Proof:
        """
        See `Revocations.hear`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Acts:
    """
    What this node does with what it hears.

    `revoked` verifies and remembers (see `Revocations.hear`), and raises `CftPkiError` where that could not be done now; `flush` empties the cache; `doubt`:
    everything is to be renewed, since something may have been missed.
    """

    revoked: Verifier
    flush: Callable[[], Awaitable[None]]
    doubt: Callable[[], None]
    blocks: BlockList = field()
