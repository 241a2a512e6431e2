"""
What the core asks of who remembers partners: those that were accepted lately, and those that operators have blocked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cftpki_ext.core.blocks import Book
from cftpki_ext.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """
    A partner as it is remembered over a restart: its name, when it was last accepted, what is known of it, and its chain.

    `document` is JSON and `chain` the octets of its certificates; both are as whoever reads them wrote them, or not at
    all: they are verified again. `chain` is `None` where the one that is kept stays.
    """

    name: bytes
    seen: float
    document: str
    chain: bytes | None = None


class BlockList(Protocol):
    """
    Keeps the partners that operators have shut out. What is written is on the disk; what cannot be read is an error, never nobody.
    """

    def document(self) -> bytes | None:
        """
        The entries (`core.blocks.encode_blocks`) as they are at this moment, `None` where there are none. Cheap.

        Raises:
            StoreError: they cannot be read, or are gone: then nobody knows who is shut out, and the caller refuses.

        """

    def book(self) -> Book:
        """
        All that operators did.

        Raises:
            StoreError: see `document`.

        """

    def change(self, edit: Callable[[Book], Book]) -> Book:
        """
        Change the book in one step, one process at a time.

        Args:
            edit: makes the new book of the one there is; what it raises changes nothing.

        Returns:
            The new book, on the disk.

        Raises:
            StoreError: it cannot be read, or the disk refuses.

        """


class SightingStore(Protocol):
    """
    Keeps the partners that were accepted lately. Knows no PKI rules. May be used from several threads.

    Never raises for a full, read-only or corrupt disk: it forgets, logs once, and goes on.
    """

    def latest(self, most: int) -> tuple[Sighting, ...]:
        """
        The `most` that were seen last, without chains, the one not seen for longest first; others are forgotten.
        """

    def chain(self, name: bytes) -> bytes | None:
        """
        The chain of a partner.
        """

    def write(self, sightings: Sequence[Sighting], forgotten: Sequence[bytes]) -> None:
        """
        Keep some, in place of what was known of them, and forget others.
        """

    def close(self) -> None:
        """
        Release files.
        """
