"""
Lists in memory that are read in parts, as those in files are, and their indexes.
"""

from __future__ import annotations

import functools
import io
from hashlib import sha256

from cftpki_ext.core.octets import LargeOctets, OctetsIndex, ReadOctets
from cftpki_ext.revocation.list_indexing import Indexing, NamesIssuersError, NotIndexableError, index_list
from cftpki_ext.revocation.list_sorting import Scratch


class Held(LargeOctets):
    """
    A list in memory that is read in parts.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(digest=sha256(content).hexdigest(), size=len(content))
        self.content = content

    def read(self, offset: int, count: int) -> bytes:
        """
        See `LargeOctets`.
        """
        return self.content[offset : offset + count]


def reading(content: bytes) -> ReadOctets:
    """
    Gives parts of some octets.
    """
    return lambda offset, count: content[offset : offset + count]


def scratch() -> Scratch:
    """
    A scratch file in memory.
    """
    held = io.BytesIO()

    def read(offset: int, count: int) -> bytes:
        return held.getbuffer()[offset : offset + count].tobytes()

    return Scratch(write=held.write, read=read)


def index_of(content: bytes) -> tuple[bytes, bytes]:
    """
    The index of a list, and its root.
    """
    written = io.BytesIO()
    root = index_list(Held(content), written.write, scratch())
    return written.getvalue(), root


def begun_early(content: bytes) -> bytes | None:
    """
    The root of an index that is begun when half of its list is there; `None` where it cannot be begun so.
    """
    held = Held(content)
    indexing = Indexing(held.read, io.BytesIO().write, scratch())
    try:
        indexing.advance(len(content) // 2)
        return indexing.finish(held.digest, len(content))
    except (NotIndexableError, NamesIssuersError):
        return None


def indexed(content: bytes) -> Held:
    """
    A list with its index.
    """
    held = Held(content)
    index, root = index_of(content)
    held.index = OctetsIndex(reading(index), len(index), root)
    return held


@functools.cache
def indexed_where_it_can_be(content: bytes) -> Held:
    """
    A list with its index, or one that is read in parts and has none.
    """
    try:
        return indexed(content)
    except NotIndexableError:
        return Held(content)
