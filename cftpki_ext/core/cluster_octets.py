"""
The octets that the server of a cluster holds: answers, announcements, what nodes say of themselves.

Owns both forms, their caps and their MAC. Whatever is read here was kept by somebody who may lie: a form that is none of ours
is `None`, never an exception, and what it costs is bounded by its length. Pure.

    answer          token (8) | "CFTA" | form (1) | received, microseconds since 1970 (8) | MAC (32) | octets as received
    announcement    "CFTN" | form (1) | MAC (32) | length of JSON (4) | JSON | each part behind its length (4)

The answer of a large list is `_PARTS`: magic, SHA-256 and size. No CA's answer begins so: those are DER.

The MAC is HMAC-SHA256 by the cluster's secret over all that it vouches for; zeros where there is none.
"""

from __future__ import annotations

import hmac
import json
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from cftpki_ext.core.blocks import block_to_plain, blocks_from_plain
from cftpki_ext.core.cluster import (
    MAX_ANNOUNCED_OCTETS,
    MAX_ROW_OCTETS,
    MAX_VALUE_OCTETS,
    SIGNED,
    Announcement,
    Heard,
    NodeRow,
    Parts,
    RevokedNews,
    SharedAnswer,
    Told,
)
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.vocabulary import SourceKind

FORM = 1
TOKEN_OCTETS = 8
_ANSWER = struct.Struct(">4sBQ32s")
_PARTS = struct.Struct(">16s32sQ")
_PARTS_MAGIC = b"\0cftpki parts 1\n"
_NEWS = struct.Struct(">4sB32sI")
_LENGTH = struct.Struct(">I")
_NO_MAC = bytes(32)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_US = int((datetime(9000, 1, 1, tzinfo=UTC) - _EPOCH) / timedelta(microseconds=1))
# A chain as long as any that is judged, and the proof.
_MOST_PARTS = 65
_LONGEST_NAME = 200
_LONGEST_URL = 4096
# Another node's clock may be ahead of ours by so much; an answer that comes from later proves nothing of its age.
_AHEAD = timedelta(seconds=60)


def write_answer(key: str, raw: bytes, *, received_at: datetime, secret: bytes | None = None) -> bytes:
    """
    An answer as the server holds it, without the token, which the server puts before it.

    Args:
        key: under which name; the MAC is for no other.
        raw: as received.
        received_at: when.
        secret: the cluster's.

    Returns:
        The octets.

    """
    moment = min(max(0, (received_at - _EPOCH) // timedelta(microseconds=1)), _LAST_US)
    return _ANSWER.pack(b"CFTA", FORM, moment, _mac_of_answer(key, raw, moment, secret)) + raw


def read_answer(
    key: str, octets: object, *, now: datetime, secret: bytes | None = None
) -> SharedAnswer | None:
    """
    The other way.

    Args:
        key: under which name it was found.
        octets: what the server sent, the token of its lease before it.
        now: the time.
        secret: the cluster's.

    Returns:
        The answer, unverified, and when it was received where its MAC proves that somebody who knows the secret said so;
        `None` for anything else.

    """
    begin = TOKEN_OCTETS + _ANSWER.size
    if not isinstance(octets, bytes) or not begin < len(octets) <= begin + MAX_VALUE_OCTETS:
        return None
    magic, form, moment, mac = _ANSWER.unpack_from(octets, TOKEN_OCTETS)
    raw = octets[begin:]
    if magic != b"CFTA" or form != FORM:
        return None
    vouched = (
        secret is not None
        and moment <= _LAST_US
        and hmac.compare_digest(mac, _mac_of_answer(key, raw, moment, secret))
    )
    received_at = _EPOCH + timedelta(microseconds=moment) if vouched else None
    if received_at is not None and received_at > now:
        received_at = now if received_at <= now + _AHEAD else None
    return SharedAnswer(raw=_parts_of(raw) or raw, received_at=received_at)


def write_parts(parts: Parts) -> bytes:
    """
    What stands in the place of a large list.
    """
    return _PARTS.pack(_PARTS_MAGIC, bytes.fromhex(parts.digest), parts.size)


def _parts_of(raw: bytes) -> Parts | None:
    if len(raw) != _PARTS.size:
        return None
    magic, digest, size = _PARTS.unpack(raw)
    return Parts(digest=digest.hex(), size=size) if magic == _PARTS_MAGIC and 0 < size < 1 << 40 else None


def _mac_of_answer(key: str, raw: bytes, moment: int, secret: bytes | None) -> bytes:
    if secret is None:
        return _NO_MAC
    said = b"cftpki cluster answer 1\0" + sha256(key.encode()).digest() + struct.pack(">Q", moment)
    return hmac.digest(secret, said + sha256(raw).digest(), "sha256")


def write_announcement(one: Announcement, *, secret: bytes | None = None) -> bytes:
    """
    An announcement as an entry of the stream.

    Args:
        one: the announcement.
        secret: the cluster's.

    Returns:
        The octets.

    Raises:
        InputError: it is too long to be told.

    """
    plain: dict[str, Any] = {
        "told": one.told.value,
        "node": one.node,
        "number": one.number,
        "at": one.at.astimezone(UTC).isoformat(),
    }
    parts: tuple[bytes, ...] = ()
    if one.revoked is not None:
        proof = (one.revoked.raw,) if one.revoked.raw else ()
        plain |= {"kind": one.revoked.kind.value, "url": one.revoked.url, "proof": bool(proof)}
        parts = (*one.revoked.chain, *proof)
    if one.block is not None:
        plain["block"] = block_to_plain(one.block)
    text = json.dumps(plain, separators=(",", ":"), sort_keys=True).encode()
    body = _LENGTH.pack(len(text)) + text + b"".join(_LENGTH.pack(len(part)) + part for part in parts)
    octets = b"CFTN" + bytes([FORM]) + _mac_of_news(body, secret) + body
    if len(octets) > MAX_ANNOUNCED_OCTETS or len(parts) > _MOST_PARTS:
        msg = f"an announcement of {len(octets)} octets is longer than {MAX_ANNOUNCED_OCTETS}"
        raise InputError(msg)
    return octets


def read_announcement(position: str, octets: object, *, secret: bytes | None = None) -> Heard:
    """
    The other way.

    Args:
        position: of the entry.
        octets: what the server sent.
        secret: the cluster's.

    Returns:
        What was heard; without an announcement where the octets are none that this version understands.

    """
    if not isinstance(octets, bytes) or not _NEWS.size <= len(octets) <= MAX_ANNOUNCED_OCTETS:
        return Heard(position=position, announcement=None)
    magic, form, mac, size = _NEWS.unpack_from(octets)
    if magic != b"CFTN" or form != FORM:
        return Heard(position=position, announcement=None)
    body = octets[_NEWS.size - _LENGTH.size :]
    parts = _parts(octets, _NEWS.size + size)
    try:
        made = _announcement(json.loads(octets[_NEWS.size : _NEWS.size + size]), parts or ())
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, InputError):
        made = None
    vouched = secret is not None and hmac.compare_digest(mac, _mac_of_news(body, secret))
    return Heard(
        position=position, announcement=None if parts is None else made, vouched=made is not None and vouched
    )


def _mac_of_news(body: bytes, secret: bytes | None) -> bytes:
    return (
        _NO_MAC
        if secret is None
        else hmac.digest(secret, b"cftpki cluster announcement 1\0" + body, "sha256")
    )


def _parts(octets: bytes, begin: int) -> tuple[bytes, ...] | None:
    found: list[bytes] = []
    while begin < len(octets):
        if len(octets) - begin < _LENGTH.size or len(found) >= _MOST_PARTS:
            return None
        (size,) = _LENGTH.unpack_from(octets, begin)
        begin += _LENGTH.size
        part = octets[begin : begin + size]
        if not size or len(part) != size:
            return None
        found.append(part)
        begin += size
    return tuple(found) if begin == len(octets) else None


def _announcement(plain: Mapping[str, Any], parts: Sequence[bytes]) -> Announcement | None:
    told = Told(plain["told"])
    url = plain.get("url")
    number = plain["number"]
    if type(number) is not int or not 0 <= number < 1 << 63:
        return None
    revoked = None
    if told is Told.REVOKED:
        proof = plain["proof"] is True
        if len(parts) <= proof or not (url is None or (isinstance(url, str) and len(url) <= _LONGEST_URL)):
            return None
        kind = SourceKind(plain["kind"])
        if kind not in SIGNED:  # without a signature, so that nobody could verify it
            return None
        chain = tuple(parts[:-1] if proof else parts)
        revoked = RevokedNews(chain=chain, kind=kind, url=url, raw=parts[-1] if proof else b"")
    block = None
    if told in {Told.BLOCKED, Told.UNBLOCKED}:
        (block,) = blocks_from_plain([plain["block"]])
    return Announcement(
        told=told,
        node=_name(plain["node"]),
        number=number,
        at=_time(plain["at"]),
        revoked=revoked,
        block=block,
    )


def write_row(row: NodeRow) -> bytes:
    """
    What a node says of itself.
    """
    plain = {
        "node": row.node,
        "version": row.version,
        "position": row.position,
        "at": row.at.astimezone(UTC).isoformat(),
        "format": row.format,
    }
    return json.dumps(plain, separators=(",", ":")).encode()


def read_row(octets: object) -> NodeRow | None:
    """
    The other way; `None` for anything else.
    """
    if not isinstance(octets, bytes) or len(octets) > MAX_ROW_OCTETS:
        return None
    try:
        plain = json.loads(octets)
        form = plain["format"]
        if type(form) is not int:
            return None
        return NodeRow(
            node=_name(plain["node"]),
            version=_name(plain["version"]),
            position=_name(plain["position"]),
            at=_time(plain["at"]),
            format=form,
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _name(text: object) -> str:
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_NAME or not text.isprintable():
        msg = "no name"
        raise ValueError(msg)
    return text


def _time(text: object) -> datetime:
    found = datetime.fromisoformat(text) if isinstance(text, str) else None
    if found is None or found.tzinfo is None:
        msg = "no time"
        raise ValueError(msg)
    return found.astimezone(UTC)
