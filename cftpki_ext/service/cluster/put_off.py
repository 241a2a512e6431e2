"""
Revocations that this node verifies later: in memory, in the order in which they were heard.

Owns the bounds. Pure.
"""

from __future__ import annotations

from itertools import islice

from cftpki_ext.core.cluster import RevokedNews
from cftpki_ext.core.values import dataclass
from cftpki_ext.service.cluster.place import before, order_of

# What comes beyond has all evidence renewed. A chain has some thousand octets.
_MOST, _MOST_OCTETS = 1024, 4 * 1024 * 1024


@dataclass(slots=True)
class Later:
    """
    A revocation that is verified later: where it stands, when it was heard (monotonic), and how often nobody could judge it.
    """

    position: str
    told_by: str
    news: RevokedNews
    heard_s: float
    tries: int = 0

    @property
    def octets(self) -> int:
        """
        What it costs.
        """
        return sum(map(len, self.news.chain)) + len(self.news.raw)


class PutOff:
    """
    Those that wait. For one event loop.
    """

    def __init__(self) -> None:
        self._waiting: dict[RevokedNews, Later] = {}
        self._octets = 0

    def __len__(self) -> int:
        """
        How many.
        """
        return len(self._waiting)

    def add(self, one: Later) -> bool:
        """
        Keep one; whether it is kept now: there may be too many.
        """
        if one.news in self._waiting:
            return True
        if len(self) >= _MOST or self._octets + one.octets > _MOST_OCTETS:
            return False
        self._waiting[one.news] = one
        self._octets += one.octets
        return True

    def first(self, count: int) -> tuple[Later, ...]:
        """
        Those that have waited longest.
        """
        return tuple(islice(self._waiting.values(), count))

    def drop(self, one: Later) -> None:
        """
        Let go of one that waits.
        """
        del self._waiting[one.news]
        self._octets -= one.octets

    def heard_again_from(self, position: str) -> str:
        """
        Behind which entry a restart goes on, so that it hears them again.

        Args:
            position: behind which this node goes on.

        """
        first = next(iter(self._waiting.values()), None)
        # One that was heard ahead of an entry that cannot be done is behind this node's position.
        return position if first is None else min(position, before(first.position), key=order_of)
