"""
How far this node has heard, and which blocks all nodes know of: over a restart, and against what the server has.

Owns the form of what is saved, and the decision whether anything was missed. Pure.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterable, Mapping

from cftpki_ext.core.blocks import MAX_BLOCKS, Block, block_to_plain, blocks_from_plain
from cftpki_ext.core.cluster import STREAM_ENTRIES, Beat
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass, replace

# Before the first entry of any stream.
BEGIN = "0-0"
# Of so many nodes it is remembered which flush was the latest: as many as are told of at all. Those who flushed last stay.
MAX_FLUSHES = 64
_MAX_NODE = 200
# Of a file of 4 MiB: the rest is for all that is not a block.
_MAX_AGREED_OCTETS = 3 * 1024 * 1024
_POSITION = re.compile("[0-9]{1,20}-[0-9]{1,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Behind which entry to go on, the blocks that were told to all, and the latest flush of each node (its number).

    `doubt`: something may have been missed, and all evidence is still to be renewed for it. `generation`: which flush counted when
    the server was asked last.
    """

    position: str = BEGIN
    agreed: frozenset[Block] = frozenset()
    flushes: frozenset[tuple[str, int]] = frozenset()
    doubt: bool = False
    generation: int | None = None

    def flushed(self, node: str, number: int) -> Place | None:
        """
        The place after a flush that was vouched for; `None` where that one, or a later one of the node, was heard before.
        """
        known = dict(self.flushes)
        if number <= known.get(node, -1):
            return None
        latest = sorted({**known, node: number}.items(), key=lambda one: one[1])
        return replace(self, flushes=frozenset(latest[-MAX_FLUSHES:]))


class Missed(enum.StrEnum):
    """
    Whether something was told that this node cannot hear any more.
    """

    NOTHING = "nothing"
    TRIMMED = "trimmed"  # more was told than the stream holds, while this node was cut off; or it was emptied meanwhile
    LOST = "lost"  # the server has forgotten what it told: it was emptied, or another one took over that lagged behind


def save_place(place: Place) -> bytes:
    """
    A place as it is saved.
    """
    blocks = sorted(place.agreed, key=lambda one: (one.what, one.at))
    plain = {
        "format": 1,
        "position": place.position,
        "agreed": [block_to_plain(one) for one in blocks],
        "flushes": dict(sorted(place.flushes)),
        "doubt": place.doubt,
        "generation": place.generation,
    }
    return json.dumps(plain, indent=1).encode() + b"\n"


def within(agreed: frozenset[Block]) -> frozenset[Block]:
    """
    The latest of some blocks, no more than are read again.

    One that is not kept is told once more; where it was lifted meanwhile, others are not told that: its partner stays shut out there.
    """
    kept: list[Block] = []
    octets = 0
    for one in sorted(agreed, key=lambda one: (one.at, one.what, one.by, one.reason), reverse=True):
        octets += len(json.dumps([block_to_plain(one)], indent=1))
        if len(kept) == MAX_BLOCKS or octets > _MAX_AGREED_OCTETS:
            break
        kept.append(one)
    return frozenset(kept)


def load_place(octets: bytes | None) -> Place:
    """
    The place that was saved, as far as it can be read.
    """
    return read_place(octets)[0]


def read_place(octets: bytes | None) -> tuple[Place, str | None]:
    """
    The other way.

    Args:
        octets: what was saved; `None` where nothing was.

    Returns:
        The place, and what of it could not be read. Where it is none of ours, it is the beginning: everything is heard again. Blocks that cannot be
        read cost no more than that they are told once more.

    """
    if octets is None:
        return Place(), None
    try:
        plain = json.loads(octets)
        if plain["format"] != 1 or not _POSITION.fullmatch(plain["position"]):
            return Place(), "all of it"
        generation = plain.get("generation")
        place = Place(
            position=plain["position"],
            flushes=_flushes_from(plain.get("flushes", {})),
            doubt=plain.get("doubt") is True,
            generation=generation if type(generation) is int and 0 < generation < 1 << 63 else None,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Place(), "all of it"
    try:
        return replace(place, agreed=frozenset(blocks_from_plain(plain.get("agreed")))), None
    except InputError:
        return place, "blocks that all nodes know of"


def _flushes_from(plain: Mapping[object, object]) -> frozenset[tuple[str, int]]:
    found = [
        (node, number)
        for node, number in plain.items()
        if isinstance(node, str) and len(node) <= _MAX_NODE and type(number) is int
    ]
    return frozenset(sorted(found, key=lambda one: one[1])[-MAX_FLUSHES:])


def order_of(position: str) -> tuple[int, int]:
    """
    A position, so that a later one is greater.
    """
    first, _, second = position.partition("-")
    return int(first), int(second)


def missed(position: str, beat: Beat, generation: int | None = None) -> Missed:
    """
    Compare where a node is with what the server has.

    Args:
        position: of the node.
        beat: the ends of the stream, and which flush counts.
        generation: which flush counted when the server was asked last; `None`: it never was.

    Returns:
        `LOST` where the stream ends before it, `TRIMMED` where it begins behind it. A node that has heard nothing yet
        misses nothing: it has all evidence from its CAs. Where it was there before, a flush counts that is none of those that it is about to hear
        where the server has forgotten: `LOST`.

    """
    if position == BEGIN:
        is_another = generation is not None and beat.generation not in {0, generation}
        return Missed.LOST if is_another and not _is_flushed(beat, generation or 0) else Missed.NOTHING
    if beat.last is None or order_of(beat.last) < order_of(position):
        return Missed.LOST
    if beat.first is None or order_of(beat.first) > order_of(position):
        # Of a stream from which all was trimmed the last position stands, and it is ours: then nothing is missing.
        return Missed.NOTHING if beat.last == position else Missed.TRIMMED
    return Missed.NOTHING


def _is_flushed(beat: Beat, generation: int) -> bool:
    """
    Whether flushes that are in the stream account for the generation: each is one more. One that was lost is a time, far from the one before.
    """
    return beat.first is not None and 0 < beat.generation - generation <= STREAM_ENTRIES


def from_the_end(beat: Beat) -> str:
    """
    Where a node goes on whose position the server does not know: from the beginning of what is there.
    """
    return BEGIN if beat.first is None else before(beat.first)


def before(position: str) -> str:
    """
    The position behind which an entry is the first.
    """
    first, second = order_of(position)
    return f"{first}-{second - 1}" if second else f"{max(0, first - 1)}-{(1 << 64) - 1}" if first else BEGIN


def newest(positions: Iterable[str]) -> str:
    """
    The latest of some positions.
    """
    return max(positions, key=order_of, default=BEGIN)
