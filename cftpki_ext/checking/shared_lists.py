"""
Large lists between nodes, in parts: never whole in memory, and verified as a whole before anybody looks at them.

A list that came is what its digest says, or it did not come. Whose it is and whether it is signed is judged as of any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from cftpki_ext.core.cluster import PART_OCTETS, Parts
from cftpki_ext.core.large_lists import Spool
from cftpki_ext.core.octets import LargeOctets, UnreadableOctetsError
from cftpki_ext.ports.cluster import SharedTier


async def gather(
    tier: SharedTier, key: str, parts: Parts, spool: Spool, *, in_time: Callable[[], bool]
) -> LargeOctets | None:
    """
    Get a list part by part.

    Args:
        tier: has the parts.
        key: under which name.
        parts: which list; its size is within what may be received.
        spool: where it is put.
        in_time: whether anybody still waits.

    Returns:
        The list; `None` where a part is missing, has another length, or the whole is another list.

    """
    spooling = await asyncio.to_thread(spool.begin)
    try:
        left = parts.size
        for number in range(parts.count):
            octets = await tier.find_part(key, parts, number) if in_time() else None
            if octets is None or len(octets) != min(left, PART_OCTETS):
                return None
            await asyncio.to_thread(spooling.write, octets)
            left -= len(octets)
        found = await asyncio.to_thread(spooling.finish)
    except OSError:
        return None
    finally:
        await asyncio.to_thread(spooling.close)
    return found if (found.digest, len(found)) == (parts.digest, parts.size) else None


async def scatter(tier: SharedTier, key: str, raw: LargeOctets, *, keep_s: int) -> Parts | None:
    """
    Put a list part by part.

    Args:
        tier: takes the parts.
        key: under which name.
        raw: the list.
        keep_s: for how many seconds.

    Returns:
        What says where it is, to be put once all parts are there; `None` where one could not be put.

    """
    parts = Parts(digest=raw.digest, size=len(raw))
    cuts = _cut(raw)
    for number in range(parts.count):
        try:
            octets = await asyncio.to_thread(next, cuts, b"")
        except UnreadableOctetsError:
            return None
        if not octets or not await tier.put_part(key, parts, number, octets, keep_s=keep_s):
            return None
    return parts


def _cut(raw: LargeOctets) -> Iterator[bytes]:
    held = bytearray()
    for piece in raw.pieces():
        held += piece
        while len(held) >= PART_OCTETS:
            yield bytes(held[:PART_OCTETS])
            del held[:PART_OCTETS]
    if held:
        yield bytes(held)
