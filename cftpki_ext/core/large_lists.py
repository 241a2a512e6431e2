"""
What is asked of whoever keeps large lists and makes their indexes: the ports of `core.octets.LargeOctets`.
"""

from __future__ import annotations

import enum
from typing import Protocol

from cftpki_ext.core.octets import LargeOctets


class Spooling(Protocol):
    """
    Large octets on their way from a source, written and hashed piece by piece. For one thread at a time.
    """

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """
        Take some more.

        Raises:
            OSError: nothing takes them.

        """

    def finish(self) -> LargeOctets:
        """
        That was all.

        Raises:
            OSError: they cannot be read.

        """

    def close(self) -> None:
        """
        Give up what was not finished.
        """


class Spool(Protocol):
    """
    Where large octets are put while they come.
    """

    def begin(self) -> Spooling:
        """
        New ones come.
        """


class IndexWriting(Protocol):
    """
    The index of a large list on its way.

    Args:
        target: a descriptor of a new file, for the index.
        scratch: a descriptor of another, for what is in between.

    """

    target: int
    scratch: int

    def finish(self, root: bytes) -> None:
        """
        It is whole, and the list has it from now on.

        Raises:
            OSError: it cannot be kept.

        """

    def close(self) -> None:
        """
        Close both, and give up what was not finished.
        """


class LargeStore(Spool, Protocol):
    """
    Where large lists are, with their indexes.
    """

    def hold(self, raw: LargeOctets) -> None:
        """
        Have a list at hand for a while: who receives the same once more is given this one, with its index.
        """

    def begin_index(self, raw: LargeOctets) -> IndexWriting:
        """
        An index of a list is to be made.

        Raises:
            OSError: there is no place for it.

        """

    def forget_index(self, raw: LargeOctets) -> None:
        """
        Let go of an index that turned out to be damaged.
        """

    def forget(self, digest: str) -> None:
        """
        Let go of a list that turned out to be damaged, by its SHA-256 (hex).
        """


class Indexed(enum.Enum):
    """
    What came of making an index.
    """

    DONE = "done"
    ODD = "odd"  # the list can have none
    DAMAGED = "damaged"  # the list is not what its digest says
    FAILED = "failed"  # another time, perhaps


class ListIndexer(Protocol):
    """
    Makes indexes of large lists. `outlasts`: whether others ask here after a question has ended, and find what came late.
    """

    outlasts: bool

    async def index(self, raw: LargeOctets, writing: IndexWriting) -> tuple[Indexed, bytes]:
        """
        Write the index of a list; what came of it, and the root of the index.
        """
