"""
Who has which slots of a cluster of servers, within bounds.

Owns the check of a reply to CLUSTER SLOTS: redis-py's client goes through each range that a server announces, however long it is.
"""

from __future__ import annotations

from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

# As the protocol of Redis has it: CRC16 of a key, modulo.
SLOTS = 16_384
# A row is first slot, last slot, the server that writes, and who follows it: a handful.
_MOST_REPLICAS = 16
_LEAST_WORDS = 3


def bounded_slots(reply: Any, **_: Any) -> Any:
    """
    A reply to CLUSTER SLOTS, as it came.

    Args:
        reply: rows of first slot, last slot, and servers.

    Returns:
        The reply.

    Raises:
        RedisConnectionError: it is none, or has more slots than there are.

    """
    left = SLOTS
    for row in reply if isinstance(reply, list) else (None,):
        if not isinstance(row, list) or not _LEAST_WORDS <= len(row) <= _LEAST_WORDS + _MOST_REPLICAS:
            msg = f"a row of CLUSTER SLOTS is none of two slots and at most {1 + _MOST_REPLICAS} servers"
            raise RedisConnectionError(msg)
        first, last = row[:2]
        if not isinstance(first, int) or not isinstance(last, int) or not 0 <= first <= last < SLOTS:
            msg = f"CLUSTER SLOTS has the slots {first!r:.40} to {last!r:.40}, there are 0 to {SLOTS - 1}"
            raise RedisConnectionError(msg)
        left -= last - first + 1
        if left < 0:
            msg = f"CLUSTER SLOTS has a slot more than once, there are {SLOTS}"
            raise RedisConnectionError(msg)
    return reply
