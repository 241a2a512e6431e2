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

    def reading(self) -> int:
        """
        A descriptor, the caller's, by which what was written can be read while more comes.

        Raises:
            OSError: there is none.

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

    def finish(self, raw: LargeOctets, root: bytes) -> None:
        """
        It is whole, and a list has it from now on.

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

    def begin_index(self) -> IndexWriting:
        """
        An index is to be made.

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


class IndexingAhead(Protocol):
    """
    The index of a list that still comes.
    """

    def more(self, octets: int) -> None:
        """
        So many octets of the list are there.
        """

    async def finish(self, raw: LargeOctets) -> tuple[Indexed, bytes]:
        """
        The list is whole; what came of its index, and the root of that.
        """

    async def close(self) -> None:
        """
        Give up what was not finished, and let go of what it took.
        """


class ListIndexer(Protocol):
    """
    Makes indexes of large lists. `outlasts`: whether others ask here after a question has ended, and find what came late.
    """

    outlasts: bool

    def ahead(self, reading: int, writing: IndexWriting) -> IndexingAhead | None:
        """
        Begin the index of a list that still comes.

        Args:
            reading: a descriptor of what came so far, ours from now on.
            writing: takes the index; the caller's.

        Returns:
            What makes it; `None` where lists are indexed once they are whole.

        """

    async def index(self, raw: LargeOctets, writing: IndexWriting) -> tuple[Indexed, bytes]:
        """
        Write the index of a list; what came of it, and the root of the index.
        """
