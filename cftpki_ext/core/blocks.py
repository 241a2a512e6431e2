"""
Partners that an operator has shut out, as values and as the document that a question carries.

Owns the form, its caps, and the JSON. `decision.blocked` says whom an entry means. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass, replace

# A stolen key is one entry, a CA that sleeps is one entry: hundreds mean that the trust set is the wrong one.
MAX_BLOCKS = 1000
# A name of 8 KiB is the longest that is read; a reason is a sentence.
MAX_WHAT = 8 * 1024 + 16
MAX_REASON = 500
MAX_BY = 200
# What a thousand usual entries take several times over.
MAX_OCTETS = 4 * 1024 * 1024
# Of those that were lifted, the latest are told.
MAX_LIFTED = 200

_HEAD = b"cftpki blocked partners 1 "
_KEYS = frozenset({"what", "reason", "by", "at", "until"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """
    One entry: who is shut out (`decision.blocked.read_blocked`), why, by whom, since when, and until when.

    `until` is the first moment at which it is no longer in force; `None`: until it is lifted.
    """

    what: str
    reason: str
    by: str
    at: datetime
    until: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """
        Whether it is in force. When it was made is not looked at: clocks of several hosts differ.
        """
        return self.until is None or now < self.until


def encode_blocks(blocks: Iterable[Block]) -> bytes | None:
    """
    Some entries as the document that a question carries.

    Args:
        blocks: in any order.

    Returns:
        The document, the same for the same entries; `None` where there are none.

    """
    plain = [block_to_plain(one) for one in sorted(blocks, key=lambda one: (one.what, one.at))]
    return json.dumps(plain, separators=(",", ":"), sort_keys=True).encode() if plain else None


def decode_blocks(document: bytes) -> tuple[Block, ...]:
    """
    The other way, strictly.

    Args:
        document: what `encode_blocks` made.

    Returns:
        The entries.

    Raises:
        InputError: it is anything else. Then nobody knows who is shut out.

    """
    if len(document) > MAX_OCTETS:
        msg = f"list of blocked partners has {len(document)} octets, at most {MAX_OCTETS} are read"
        raise InputError(msg)
    try:
        plain = json.loads(document)
    except (ValueError, RecursionError) as exc:
        msg = "list of blocked partners is no JSON"
        raise InputError(msg) from exc
    return blocks_from_plain(plain)


def block_to_plain(block: Block) -> dict[str, Any]:
    """
    One entry as plain data.
    """
    return {
        "what": block.what,
        "reason": block.reason,
        "by": block.by,
        "at": block.at.isoformat(),
        "until": None if block.until is None else block.until.isoformat(),
    }


def blocks_from_plain(plain: Any) -> tuple[Block, ...]:
    """
    Entries from plain data.

    Raises:
        InputError: there are too many, or one of them is none.

    """
    if not isinstance(plain, list) or len(plain) > MAX_BLOCKS:
        msg = f"list of blocked partners is no list of at most {MAX_BLOCKS} entries"
        raise InputError(msg)
    return tuple(map(_block_from, plain))


def _block_from(plain: Any) -> Block:
    if not isinstance(plain, dict) or plain.keys() != _KEYS:
        msg = "an entry of the list of blocked partners is none of ours"
        raise InputError(msg)
    until = plain["until"]
    return Block(
        what=_text(plain, "what", MAX_WHAT),
        reason=_text(plain, "reason", MAX_REASON),
        by=_text(plain, "by", MAX_BY),
        at=_time(plain["at"]),
        until=None if until is None else _time(until),
    )


def _text(plain: Mapping[str, Any], key: str, most: int) -> str:
    found = plain[key]
    if not isinstance(found, str) or not 0 < len(found) <= most or not found.isprintable():
        msg = f"an entry of the list of blocked partners has no usable {key!r}"
        raise InputError(msg)
    return found


def _time(text: Any) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        pass
    msg = "an entry of the list of blocked partners has a time that is none"
    raise InputError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """
    An entry that is no more: who lifted it, when and why, or what took its place.
    """

    block: Block
    by: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """
    Who is shut out, and who was: all that an operator did, the oldest that was lifted let go of first.

    Entries whose end has come stay until they are lifted: they are told as ended.
    """

    blocks: tuple[Block, ...] = ()
    lifted: tuple[Lifted, ...] = ()

    def with_block(self, block: Block) -> Book:
        """
        The book with one more entry, in place of an earlier one of the same partner.

        Raises:
            InputError: there are as many as can be.

        """
        gone = tuple(
            Lifted(block=one, by=block.by, at=block.at, reason="blocked anew")
            for one in self.blocks
            if one.what == block.what
        )
        blocks = (*(one for one in self.blocks if one.what != block.what), block)
        if len(blocks) > MAX_BLOCKS:
            ended = tuple(one for one in blocks if not one.holds(block.at))
            blocks = tuple(one for one in blocks if one.holds(block.at))
            gone += tuple(
                Lifted(block=one, by=block.by, at=block.at, reason="ended, and made room") for one in ended
            )
        if len(blocks) > MAX_BLOCKS:
            msg = f"{MAX_BLOCKS} partners are blocked, and no more can be: block the CA, or change the trust set"
            raise InputError(msg)
        return replace(self, blocks=blocks, lifted=(*self.lifted, *gone)[-MAX_LIFTED:])

    def without(self, what: str, *, by: str, at: datetime, reason: str) -> Book:
        """
        The book without the entry of a partner.

        Raises:
            InputError: there is none.

        """
        gone = tuple(one for one in self.blocks if one.what == what)
        if not gone:
            msg = f"{what} is not blocked"
            raise InputError(msg)
        lifted = (*self.lifted, *(Lifted(block=one, by=by, at=at, reason=reason) for one in gone))
        return replace(
            self,
            blocks=tuple(one for one in self.blocks if one.what != what),
            lifted=lifted[-MAX_LIFTED:],
        )


def write_book(book: Book) -> bytes:
    """
    The book as a file: its own SHA-256, so that what was changed by chance or by hand is noticed, and JSON.
    """
    plain = {
        "blocks": [block_to_plain(one) for one in book.blocks],
        "lifted": [
            {
                "block": block_to_plain(one.block),
                "by": one.by,
                "at": one.at.isoformat(),
                "reason": one.reason,
            }
            for one in book.lifted
        ],
    }
    body = json.dumps(plain, indent=1, sort_keys=True).encode() + b"\n"
    return _HEAD + sha256(body).hexdigest().encode() + b"\n" + body


def read_book(raw: bytes) -> Book:
    """
    The other way, strictly.

    Args:
        raw: the file.

    Returns:
        The book.

    Raises:
        InputError: it is not as `write_book` wrote it: nobody knows who is shut out.

    """
    head, _, body = raw.partition(b"\n")
    if len(raw) > MAX_OCTETS:
        msg = f"{len(raw)} octets, at most {MAX_OCTETS} are read"
        raise InputError(msg)
    if not head.startswith(_HEAD) or head != _HEAD + sha256(body).hexdigest().encode():
        msg = "its octets are not those that were written"
        raise InputError(msg)
    try:
        plain = json.loads(body)
    except (ValueError, RecursionError) as exc:
        msg = "no JSON"
        raise InputError(msg) from exc
    if not isinstance(plain, dict) or plain.keys() != {"blocks", "lifted"}:
        msg = "none of ours"
        raise InputError(msg)
    lifted = plain["lifted"]
    if not isinstance(lifted, list) or len(lifted) > MAX_LIFTED:
        msg = f"no list of at most {MAX_LIFTED} lifted entries"
        raise InputError(msg)
    return Book(blocks=blocks_from_plain(plain["blocks"]), lifted=tuple(map(_lifted_from, lifted)))


def _lifted_from(plain: Any) -> Lifted:
    if not isinstance(plain, dict) or plain.keys() != {"block", "by", "at", "reason"}:
        msg = "a lifted entry is none of ours"
        raise InputError(msg)
    return Lifted(
        block=_block_from(plain["block"]),
        by=_text(plain, "by", MAX_BY),
        at=_time(plain["at"]),
        reason=_text(plain, "reason", MAX_REASON),
    )
