"""
A store whose large lists are files (`lists`): under their key stands what they are, not they.

Owns the reference: magic, SHA-256 and size. An answer of a source never begins so: it is DER.
"""

from __future__ import annotations

import logging
import struct
from datetime import datetime

from cftpki_cache.lists import ListFiles
from cftpki_cache.tiered import TieredStore
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.ports.responses import StoredResponse

_log = logging.getLogger(__name__)

_REFERENCE = struct.Struct(">16s32sQ")
_MAGIC = b"\0cftpki list 1\n\0"


class ListedStore:
    """
    A `ListStore` that takes and gives large lists as `LargeOctets`.

    Args:
        inner: keeps all others, and the references. Closed with this one.
        lists: where the lists are.

    """

    def __init__(self, inner: TieredStore, lists: ListFiles) -> None:
        self._inner = inner
        self.lists = lists

    def get(self, key: str) -> StoredResponse | None:
        """
        See `ResponseStore`. A list whose file is gone is a miss.
        """
        return self._opened(self._inner.get(key))

    def look_below(self, key: str) -> StoredResponse | None:
        """
        See `SharedStore`.
        """
        return self._opened(self._inner.look_below(key))

    def _opened(self, found: StoredResponse | None) -> StoredResponse | None:
        named = _named(found)
        if found is None or named is None:
            return found
        raw = self.lists.open(*named)
        return None if raw is None else StoredResponse(raw=raw, received_at=found.received_at)

    def at_hand(self, key: str) -> StoredResponse | None:
        """
        See `LastingStore`.
        """
        found = self._inner.at_hand(key)
        named = _named(found)
        if found is None or named is None:
            return found
        raw = self.lists.at_hand(*named)
        return None if raw is None else StoredResponse(raw=raw, received_at=found.received_at)

    def hold(self, key: str, raw: bytes, *, received_at: datetime, keep_s: int) -> None:
        """
        See `LastingStore`.
        """
        self._inner.hold(key, raw, received_at=received_at, keep_s=keep_s)

    def write(self, key: str, raw: bytes, *, received_at: datetime, keep_s: int) -> None:
        """
        See `LastingStore`.
        """
        self._inner.write(key, raw, received_at=received_at, keep_s=keep_s)

    def put(self, key: str, raw: bytes, *, received_at: datetime, keep_s: int) -> None:
        """
        See `ResponseStore`.
        """
        self._inner.put(key, raw, received_at=received_at, keep_s=keep_s)

    def hold_list(self, key: str, raw: LargeOctets, *, received_at: datetime, keep_s: int) -> None:
        """
        See `ListStore`. A list is at hand from its file, whatever name that has.
        """
        self.lists.hold(raw)
        self._inner.hold(key, _reference(raw), received_at=received_at, keep_s=keep_s)

    def write_list(self, key: str, raw: LargeOctets, *, received_at: datetime, keep_s: int) -> None:
        """
        See `ListStore`. The list stands on the disk before anything names it, and the one before it goes after that.
        """
        before = _named(self._inner.below(key))
        try:
            self.lists.keep(raw)
        except OSError as error:
            _log.warning("a large list is not kept on the disk: %s", error)
            return
        self._inner.write(key, _reference(raw), received_at=received_at, keep_s=keep_s)
        if before is not None and before[0] != raw.digest:
            self.lists.forget(before[0])

    def let_go(self, key: str | None = None) -> None:
        """
        See `LastingStore`.
        """
        self._inner.let_go(key)

    def drop(self, key: str) -> None:
        """
        See `ResponseStore`.
        """
        self._inner.drop(key)

    def close(self) -> None:
        """
        See `ResponseStore`.
        """
        self._inner.close()


def _reference(raw: LargeOctets) -> bytes:
    return _REFERENCE.pack(_MAGIC, bytes.fromhex(raw.digest), len(raw))


def _named(found: StoredResponse | None) -> tuple[str, int] | None:
    """
    Digest and size of the list that a stored answer refers to, if it does.
    """
    if found is None or not isinstance(found.raw, bytes) or len(found.raw) != _REFERENCE.size:
        return None
    magic, digest, size = _REFERENCE.unpack(found.raw)
    return (digest.hex(), size) if magic == _MAGIC else None
