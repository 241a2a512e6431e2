"""
The short record of a verdict that was given again: whose it repeats, when, and to whom.

Owns that form. It names the repeated record's document by its SHA-256, and the ledger keeps those bytes, with all that
they name, for as long as anything repeats them. Pure.

In octets: what `Repeated.head` says (a mark, the verdict's id, the SHA-256), then as `_varint` the microseconds of `at` behind the
time in the id (zigzag), the door, what of the following is there, and each of that in the order of `_put_asked`. Records of 0.1.0 and
those whose id is none of ours are JSON, and are read all the same.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from cftpki_ext.core.errors import StoreError
from cftpki_ext.evidence.record import (
    FORMAT,
    MAX_DOCUMENT_BYTES,
    Asked,
    Door,
    RecordBytes,
    asked_text,
    parsed,
)
from cftpki_ext.ports.evidence import SHORT_MARK, Repeated

_AGAIN = "again"
_HEAD_OCTETS = 1 + 16 + 32
_ID_TIME_OCTETS = 6
# Numbers of the host are 64 bits wide; a time behind its id's by more than this is no time.
_VARINT_BITS = 70
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# What has no number here is written as JSON.
_DOORS: Mapping[Door, int] = MappingProxyType(
    {Door.EXIT: 0, Door.SOCKET: 1, Door.CLI: 2, Door.PYTHON: 3, Door.REFRESH: 4}
)
_DOOR_OF = MappingProxyType({number: door for door, number in _DOORS.items()})
# What is there: one bit each.
_PROFILE, _REMOTE_TEXT, _REMOTE_4, _REMOTE_6, _REMOTE_PORT, _PORT, _TASK, _SESSION = (
    1 << n for n in range(8)
)
_NAME_HEX, _NAME_TEXT = 1, 2
_SESSION_NAME = re.compile(r"(?:[0-9a-f]{2})+")
# Partners' addresses whose octets are remembered.
_ADDRESSES = 1024
_CHANGED = "a field is missing or not as it was written"


def again(repeated: Repeated, *, verdict_id: str, at: datetime, asked: Asked) -> RecordBytes:
    """
    The record of a verdict that was given again.

    Args:
        repeated: the record that it repeats; the ledger has it.
        verdict_id: its own id.
        at: when.
        asked: by whom.

    Returns:
        The stored form.

    """
    head = repeated.head(verdict_id)
    # Every one of 64 bits, and none below zero.
    numbers = asked.remote_port | asked.port | (asked.host_task or 0) | (asked.host_session or 0)
    if head is None or asked.door not in _DOORS or numbers >> 64:
        document = _as_json(repeated, verdict_id, at, asked)
    else:
        document = head + _rest(head, at, asked)
    return RecordBytes(document=document, blobs={}, repeats=repeated)


def _as_json(repeated: Repeated, verdict_id: str, at: datetime, asked: Asked) -> bytes:
    text = (
        f'{{"{_AGAIN}":"{repeated.document}","asked":{asked_text(asked)},"at":{json.dumps(_moment(at))},'
        f'"format":{FORMAT},"id":{json.dumps(verdict_id)}}}'
    )
    return text.encode()


def plain_of(document: bytes) -> dict[str, Any]:
    """
    What a stored document of either form says, as plain data; see `completed`.

    Args:
        document: the stored document.

    Returns:
        The data, the number of its format included.

    Raises:
        StoreError: it is too long, or of another format.
        ValueError: it is none of ours.

    """
    if document[:1] != SHORT_MARK:
        return parsed(document)
    if len(document) > MAX_DOCUMENT_BYTES or len(document) < _HEAD_OCTETS:
        msg = f"a short record of {len(document)} bytes is none of ours"
        raise StoreError(msg)
    reader = _Octets(document, _HEAD_OCTETS)
    zigzag = reader.varint()
    behind = (zigzag >> 1) ^ -(zigzag & 1)
    begun = int.from_bytes(document[1 : 1 + _ID_TIME_OCTETS]) * 1000
    try:
        at = _EPOCH + (begun + behind) * _MICROSECOND
    except OverflowError as exc:
        raise ValueError(_CHANGED) from exc
    return {
        _AGAIN: document[17:_HEAD_OCTETS].hex(),
        "asked": _asked(reader),
        "at": _moment(at),
        "format": FORMAT,
        "id": document[1:17].hex(),
    }


def readable(document: bytes) -> bytes:
    """
    A stored document as JSON, for a person.

    Raises:
        StoreError: it is too long, or of another format.
        ValueError: it is none of ours.

    """
    if document[:1] != SHORT_MARK:
        return document
    return json.dumps(plain_of(document), sort_keys=True, separators=(",", ":")).encode()


def repeated_by(plain: Mapping[str, Any]) -> str | None:
    """
    The SHA-256 (hex) of the document that a stored document repeats, `None` where it repeats none.
    """
    digest = plain.get(_AGAIN)
    return digest if isinstance(digest, str) else None


def completed(plain: dict[str, Any], blob: Callable[[str], bytes | None], *, cap: int) -> dict[str, Any]:
    """
    A stored document as plain data, whole: where it repeats another one, that one with its own time, asker and id.

    Args:
        plain: what the document says, its format included.
        blob: gives the bytes of a SHA-256 (hex), or `None` where they are gone.
        cap: octets of a document that are read.

    Returns:
        The document; ages of what was heard are those at its own time.

    Raises:
        StoreError: what it repeats is missing or was changed, or repeats another one.
        ValueError: it is none of ours.

    """
    if _AGAIN not in plain:
        return plain
    digest = repeated_by(plain)
    raw = None if digest is None else blob(digest)
    if raw is None or len(raw) > cap or sha256(raw).hexdigest() != digest:
        msg = f"the record that it repeats ({digest!r:.70}) is missing or was changed"
        raise StoreError(msg)
    whole = json.loads(raw)
    if not isinstance(whole, dict) or _AGAIN in whole:
        msg = "it repeats what is no record"
        raise StoreError(msg)
    try:
        evidence = whole["verdict"]["evidence"]
        older = datetime.fromisoformat(plain["at"]) - datetime.fromisoformat(evidence["decided_at"])
        whole["asked"] = plain["asked"]
        whole["question"]["at"] = evidence["decided_at"] = plain["at"]
        whole["verdict"]["id"] = plain["id"]
        for finding in (*evidence["hops"], *evidence.get("beside", ())):
            for source in finding["sources"]:
                if source["age_s"] is not None:
                    source["age_s"] += int(older.total_seconds())
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(_CHANGED) from exc
    return whole


def _rest(head: bytes, at: datetime, asked: Asked) -> bytes:
    """
    What follows the head: when, and by whom.
    """
    begun = int.from_bytes(head[1 : 1 + _ID_TIME_OCTETS]) * 1000
    behind = (at - _EPOCH) // _MICROSECOND - begun
    return _varint(behind << 1 if behind >= 0 else (-behind << 1) - 1) + _put_asked(asked)


def _put_asked(asked: Asked) -> bytes:
    there, remote = _remote(asked.remote)
    session, name = _session(asked.session)
    rest = remote
    if asked.profile is not None:
        there |= _PROFILE
        rest = _text(asked.profile) + remote
    if asked.remote_port:
        there |= _REMOTE_PORT
        rest += _varint(asked.remote_port)
    if asked.port:
        there |= _PORT
        rest += _varint(asked.port)
    if asked.host_task is not None:
        there |= _TASK
        rest += _varint(asked.host_task)
    if asked.host_session is not None:
        there |= _SESSION
        rest += _varint(asked.host_session)
    return bytes((_DOORS[asked.door] | session << 4, there)) + rest + name


def _asked(reader: _Octets) -> dict[str, Any]:
    """
    Who asked, as `evidence.record.asked_text` says it.
    """
    (first,), (there,) = reader.take(1), reader.take(1)
    door, session = _DOOR_OF.get(first & 15), first >> 4
    kind = there & (_REMOTE_TEXT | _REMOTE_4 | _REMOTE_6)
    if door is None or session > _NAME_TEXT or kind.bit_count() > 1:
        raise ValueError(_CHANGED)
    profile = reader.text() if there & _PROFILE else None
    remote = ""
    if kind == _REMOTE_TEXT:
        remote = reader.text()
    elif kind:
        remote = str(ipaddress.ip_address(reader.take(4 if kind == _REMOTE_4 else 16)))
    remote_port, port, task, number = (
        reader.varint() if there & bit else None for bit in (_REMOTE_PORT, _PORT, _TASK, _SESSION)
    )
    name = None
    if session:
        name = reader.text() if session == _NAME_TEXT else reader.take(reader.varint()).hex()
    reader.end()
    return {
        "door": door.value,
        "host_session": number,
        "host_task": task,
        "port": port or 0,
        "profile": profile,
        "remote": remote,
        "remote_port": remote_port or 0,
        "session": name,
    }


@lru_cache(maxsize=_ADDRESSES)
def _remote(remote: str) -> tuple[int, bytes]:
    """
    An address in few octets where it comes back as it was written.
    """
    if not remote:
        return 0, b""
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return _REMOTE_TEXT, _text(remote)
    if str(ipaddress.ip_address(address.packed)) != remote:
        return _REMOTE_TEXT, _text(remote)
    return (_REMOTE_4 if address.version == 4 else _REMOTE_6), address.packed


def _session(name: str | None) -> tuple[int, bytes]:
    if name is None:
        return 0, b""
    if _SESSION_NAME.fullmatch(name):
        raw = bytes.fromhex(name)
        return _NAME_HEX, _varint(len(raw)) + raw
    return _NAME_TEXT, _text(name)


def _text(text: str) -> bytes:
    raw = text.encode(errors="surrogatepass")
    return _varint(len(raw)) + raw


def _varint(number: int) -> bytes:
    """
    Seven bits in each octet, the lowest first; all but the last have the highest bit.
    """
    if number < 128:
        return bytes((number,))
    octets = bytearray()
    while number > 127:
        octets.append(number & 127 | 128)
        number >>= 7
    octets.append(number)
    return bytes(octets)


class _Octets:
    """
    A short record's octets, read from the front.
    """

    def __init__(self, raw: bytes, at: int) -> None:
        self._raw = raw
        self._at = at

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._raw):
            raise ValueError(_CHANGED)
        found = self._raw[self._at : end]
        self._at = end
        return found

    def varint(self) -> int:
        number = 0
        for shift in range(0, _VARINT_BITS, 7):
            (octet,) = self.take(1)
            number |= (octet & 127) << shift
            if octet < 128:
                return number
        raise ValueError(_CHANGED)

    def text(self) -> str:
        return self.take(self.varint()).decode(errors="surrogatepass")

    def end(self) -> None:
        if self._at != len(self._raw):
            raise ValueError(_CHANGED)


def _moment(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
