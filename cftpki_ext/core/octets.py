"""
Octets that are too many to be carried about: they stay where they are, and are read in parts.

Owns `LargeOctets`, what is known of them without reading any: their SHA-256 and how many they are. Two of them are the
same where their digests are. Knows no file: whoever has one derives from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cftpki_ext.core.errors import CftPkiError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

_PIECE_OCTETS = 1024 * 1024

# Gives so many octets from an offset on; fewer only at the end.
ReadOctets = Callable[[int, int], bytes]


class UnreadableOctetsError(CftPkiError):
    """
    Octets that should be there cannot be read, or are others.
    """


class OctetsIndex:
    """
    What was written beside a large list to find its entries: how it is read, how long it is, and its root.

    Args:
        read: gives parts of it.
        size: in octets.
        root: SHA-256 of the part that vouches for all others, as whoever owns it vouches for.

    """

    __slots__ = ("damaged", "read", "root", "size")

    def __init__(self, read: ReadOctets, size: int, root: bytes) -> None:
        self.read = read
        self.size = size
        self.root = root
        # Set by whoever finds a part that is not as the root has it.
        self.damaged = False


class LargeOctets(ABC):
    """
    Octets that are read in parts.

    Args:
        digest: SHA-256, lower-case hexadecimal.
        size: how many they are.

    """

    def __init__(self, *, digest: str, size: int) -> None:
        self.digest = digest
        self._size = size
        self.index: OctetsIndex | None = None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """
        How pydantic takes them: as they are.
        """
        from pydantic_core.core_schema import is_instance_schema  # noqa: PLC0415 - docs/adr/0030-start-up.md

        del source, handler
        return is_instance_schema(LargeOctets)

    def __len__(self) -> int:
        """
        How many they are.
        """
        return self._size

    def __eq__(self, other: object) -> bool:
        """
        Whether they are the same, by their digest.
        """
        return isinstance(other, LargeOctets) and other.digest == self.digest

    def __hash__(self) -> int:
        """
        Of the digest.
        """
        return hash(self.digest)

    @abstractmethod
    def read(self, offset: int, count: int) -> bytes:
        """
        A part of them, shorter only where they end.

        Raises:
            UnreadableOctetsError: it cannot be read.

        """

    def pieces(self) -> Iterator[bytes]:
        """
        All of them, in order.

        Raises:
            UnreadableOctetsError: they cannot be read, or are fewer than they were.

        """
        for offset in range(0, self._size, _PIECE_OCTETS):
            wanted = min(_PIECE_OCTETS, self._size - offset)
            piece = self.read(offset, wanted)
            if len(piece) != wanted:
                msg = f"{offset + len(piece)} of {self._size} octets are left of {self.digest[:16]}"
                raise UnreadableOctetsError(msg)
            yield piece

    def is_whole(self) -> bool:
        """
        Whether they can be read and are what their digest says.
        """
        state = sha256()
        try:
            for piece in self.pieces():
                state.update(piece)
        except UnreadableOctetsError:
            return False
        return state.hexdigest() == self.digest

    def whole(self) -> bytes:
        """
        All of them in memory, for those who cannot do with less.

        Raises:
            UnreadableOctetsError: they cannot be read, or their digest is another one.

        """
        raw = b"".join(self.pieces())
        if sha256(raw).hexdigest() != self.digest:
            msg = f"the octets of {self.digest[:16]} are others now"
            raise UnreadableOctetsError(msg)
        return raw


def whole_of(raw: bytes | LargeOctets) -> bytes:
    """
    Octets in memory, wherever they are.

    Raises:
        UnreadableOctetsError: see `LargeOctets.whole`.

    """
    return raw.whole() if isinstance(raw, LargeOctets) else raw
