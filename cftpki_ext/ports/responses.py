"""
What the core asks of the cache: responses as received, by name, and a lock for each location. Each docstring is a contract.

The adapters are in `cache/cftpki_cache`: in memory, on the disk, both, and large lists in files.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, runtime_checkable

from cftpki_ext.core.large_lists import LargeStore
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """
    Bytes from a store, unverified, with when they were received from their source.
    """

    raw: bytes | LargeOctets
    received_at: datetime


class ResponseStore(Protocol):
    """
    Keeps raw responses by key. Knows bytes and ages, no PKI rules.

    A store never raises for a full, read-only or corrupt disk: it forgets, logs once, and goes on. What it
    returns is exactly what was put under that key (a digest is kept beside it), or nothing.
    """

    def get(self, key: str) -> StoredResponse | None:
        """
        The bytes under `key`, or `None`.
        """

    def put(self, key: str, raw: bytes, *, received_at: datetime, keep_s: int) -> None:
        """
        Keep `raw` for at most `keep_s` seconds, replacing what was there.
        """

    def drop(self, key: str) -> None:
        """
        Forget `key` (the bytes turned out to be unusable).
        """

    def close(self) -> None:
        """
        Release files.
        """


@runtime_checkable
class LastingStore(ResponseStore, Protocol):
    """
    A store that waits for a disk, and may be used from several threads: whoever must not wait asks what is at hand.
    """

    def at_hand(self, key: str) -> StoredResponse | None:
        """
        The bytes under `key` where they are in memory; `None` says nothing.
        """

    def hold(self, key: str, raw: bytes, *, received_at: datetime, keep_s: int) -> None:
        """
        The part of `put` that waits for nothing; `write` follows.
        """

    def let_go(self, key: str | None = None) -> None:
        """
        Have nothing at hand under `key`, or at all: the next look is at the disk.
        """

    def write(self, key: str, raw: bytes, *, received_at: datetime, keep_s: int) -> None:
        """
        The part of `put` that waits for the disk. What is at hand stays: something newer may have come meanwhile.
        """


@runtime_checkable
class SharedStore(LastingStore, Protocol):
    """
    A store whose lasting part other processes write as well.
    """

    def look_below(self, key: str) -> StoredResponse | None:
        """
        The newest of what is in memory and what the lasting part has now, which then is in memory, too.
        """


@runtime_checkable
class ListStore(LastingStore, Protocol):
    """
    A store that keeps large lists as files: what it gives under a key may be `LargeOctets`.

    Args:
        lists: where they are.

    """

    lists: LargeStore

    def hold_list(self, key: str, raw: LargeOctets, *, received_at: datetime, keep_s: int) -> None:
        """
        See `hold`.
        """

    def write_list(self, key: str, raw: LargeOctets, *, received_at: datetime, keep_s: int) -> None:
        """
        See `write`.
        """


class LocationLocks(Protocol):
    """
    Locks that processes which share a cache take before they ask a location. For any thread; they end with their holder.

    What cannot be locked is free: the location is asked more often than need be, and nothing else happens.
    """

    def take(self, name: str) -> bool:
        """
        Take the lock of a location (as the cache names it) without waiting; `False` while another process has it.
        """

    def give_back(self, name: str) -> None:
        """
        Give back what `take` gave.
        """

    def close(self) -> None:
        """
        Release all.
        """
