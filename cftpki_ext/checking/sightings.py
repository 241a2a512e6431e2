"""
Partners that were accepted lately, in the form in which they outlive a restart.

Owns the form. Whatever does not fit it is nobody: what is read decides only whom to judge again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cftpki_ext.checking.held import Held, Partner
from cftpki_ext.core.vocabulary import Direction, SourceKind

# More answers than a path can need, and longer than any text of ours.
_MOST_HELD = 64
_LONGEST_TEXT = 8192
_LENGTH = 4
_MOST_CERTIFICATES = 64
_FIRST, _LAST = datetime(1950, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def document_of(partner: Partner) -> str:
    """
    What is known of a partner, as JSON; its name and when it was seen stand beside it.
    """
    return json.dumps(
        {
            "rule": partner.rule,
            "trust": partner.trust,
            "direction": partner.direction.value,
            "subject": partner.subject[:_LONGEST_TEXT],
            "serial": partner.serial,
            "ends": partner.ends.isoformat(),
            "ending": partner.ending[:_LONGEST_TEXT],
            "held": [
                {
                    "key": one.key,
                    "kind": one.kind.value,
                    "url": one.url,
                    "issuer": one.issuer[:_LONGEST_TEXT],
                    "received_at": one.received_at.isoformat(),
                    "this_update": one.this_update.isoformat(),
                    "next_update": None if one.next_update is None else one.next_update.isoformat(),
                }
                for one in partner.held[:_MOST_HELD]
            ],
        },
        separators=(",", ":"),
    )


def partner_from(name: bytes, seen: float, document: str) -> Partner | None:
    """
    The other way; `None` where the document is none of ours.
    """
    try:
        plain = json.loads(document)
        return Partner(
            name=name,
            rule=_text(plain, "rule"),
            trust=_text(plain, "trust"),
            direction=Direction(plain["direction"]),
            subject=_text(plain, "subject"),
            serial=_text(plain, "serial"),
            ends=_time(plain["ends"]),
            ending=_text(plain, "ending"),
            seen=datetime.fromtimestamp(seen if math.isfinite(seen) else 0.0, UTC),
            held=tuple(map(_held, plain["held"][:_MOST_HELD])),
        )
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        OverflowError,
        OSError,
        RecursionError,
        AttributeError,
    ):
        return None


def _held(plain: Mapping[str, Any]) -> Held:
    next_update = plain["next_update"]
    return Held(
        key=_text(plain, "key"),
        kind=SourceKind(plain["kind"]),
        url=_text(plain, "url"),
        issuer=_text(plain, "issuer"),
        received_at=_time(plain["received_at"]),
        this_update=_time(plain["this_update"]),
        next_update=None if next_update is None else _time(next_update),
    )


def _text(plain: Mapping[str, Any], key: str) -> str:
    found = plain[key]
    if not isinstance(found, str) or len(found) > _LONGEST_TEXT:
        msg = f"{key} is no text of ours"
        raise ValueError(msg)
    return found


def _time(text: str) -> datetime:
    # Far from the ends of the calendar, which arithmetic would leave: a certificate may well end in the year 9999.
    found = datetime.fromisoformat(text)
    return min(max(found.replace(tzinfo=found.tzinfo or UTC), _FIRST), _LAST).astimezone(UTC)


def pack_chain(chain: Sequence[bytes]) -> bytes:
    """
    A chain as octets: each certificate behind its length.
    """
    return b"".join(len(der).to_bytes(_LENGTH, "big") + der for der in chain)


def unpack_chain(octets: bytes, *, most: int) -> tuple[bytes, ...] | None:
    """
    The other way.

    Args:
        octets: what was kept.
        most: octets of a chain that is judged.

    Returns:
        The certificates, unread; `None` where the octets are no chain.

    """
    chain: list[bytes] = []
    begin = 0
    while begin < len(octets) and len(chain) < _MOST_CERTIFICATES:
        length = int.from_bytes(octets[begin : begin + _LENGTH], "big")
        begin += _LENGTH
        der = octets[begin : begin + length]
        if not length or len(der) != length:
            return None
        chain.append(der)
        begin += length
    if not chain or begin != len(octets) or sum(map(len, chain)) > most:
        return None
    return tuple(chain)
