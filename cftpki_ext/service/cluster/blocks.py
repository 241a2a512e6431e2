"""
Blocks that travel: what an operator did here is told to all, and what one did elsewhere is done here.

Owns who wins. An entry is told whole, and lifting names the entry that is lifted, so that an old message that comes once more
blocks nobody whose entry was lifted, and lifts no newer entry. Whoever nobody lifted stays out at every node. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cftpki_ext.core.blocks import MAX_BY, MAX_LIFTED, Block, Book, Lifted
from cftpki_ext.core.cluster import Told
from cftpki_ext.core.values import replace

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_tell(here: Iterable[Block], agreed: Iterable[Block]) -> tuple[tuple[Told, Block], ...]:
    """
    What was done here that the others do not know.

    Args:
        here: the entries of this node.
        agreed: those that all nodes were told of.

    Returns:
        New entries, and those that were lifted. One that another took the place of is not told as lifted: its partner is still
        shut out.

    """
    now, before = frozenset(here), frozenset(agreed)
    names = {one.what for one in now}
    added = sorted(now - before, key=_order)
    gone = sorted((one for one in before - now if one.what not in names), key=_order)
    return (*((Told.BLOCKED, one) for one in added), *((Told.UNBLOCKED, one) for one in gone))


def with_told(book: Book, told: Told, block: Block, *, node: str, at: datetime) -> Book:
    """
    The book of this node after something that was done at another.

    Args:
        book: as it is.
        told: `BLOCKED` or `UNBLOCKED`.
        block: the entry.
        node: where it was done.
        at: when, by that node's clock.

    Returns:
        The book; the same where nothing is to be done.

    Raises:
        InputError: there are as many entries as can be.

    """
    there = next((one for one in book.blocks if one.what == block.what), None)
    lifted = any(one.block == block for one in book.lifted)
    if told is Told.BLOCKED:
        # The one that lasts longest stays, lest one that ends, or has ended, lets in whom another shuts out. Of equals the
        # earlier: what another operator did later, and perhaps lifts, must not take its place.
        if lifted or (there is not None and _precedence(there) <= _precedence(block)):
            return book
        return book.with_block(block)
    by, reason = f"{block.by} at {node}"[:MAX_BY], "lifted at another node"
    if there == block:
        return book.without(block.what, by=by, at=at, reason=reason)
    if lifted:
        return book
    # It may come later than what lifts it: then it does not come at all.
    gone = Lifted(block=block, by=by, at=at, reason=reason)
    return replace(book, lifted=(*book.lifted, gone)[-MAX_LIFTED:])


def agreed_after(agreed: frozenset[Block], told: Told, block: Block) -> frozenset[Block]:
    """
    What all nodes were told of, after one more.
    """
    return agreed | {block} if told is Told.BLOCKED else agreed - {block}


def _precedence(block: Block) -> tuple[bool, timedelta, tuple[datetime, str, str, str]]:
    """
    The least of several entries of one partner is the one that holds: without an end, or the latest one, and then the earliest.
    """
    return block.until is not None, _EPOCH - (block.until or _EPOCH), _order(block)


def _order(block: Block) -> tuple[datetime, str, str, str]:
    return block.at, block.what, block.by, block.reason
