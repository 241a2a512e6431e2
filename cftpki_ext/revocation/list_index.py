"""
The index of one large CRL: its entries sorted by serial number, in pages that are verified when they are read.

Owns the form (docs/adr/0026): pages first, then one part that names the SHA-256 of the list, holds everything of it but
the entries, and has a digest of each page; its own SHA-256 is the *root*. Who trusts the root need trust nothing else, and
reads a few kilobytes to answer for one serial number. Pure: `read` gives octets of the index, wherever it is.
"""

from __future__ import annotations

import json
import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b, sha256
from itertools import accumulate, pairwise

from cftpki_ext.core.octets import OctetsIndex, ReadOctets, UnreadableOctetsError
from cftpki_ext.core.values import dataclass

# The numbers in it are this machine's: an index is made where it is used, and made anew elsewhere.
MAGIC = b"CFTLIX1" + sys.byteorder[:1].encode()
# Magic, where the part with the root begins, and how long it is.
_END = struct.Struct("<8sQQ")
# Where a page begins, how long it is, how many records it has, its digest.
PAGE = struct.Struct("<QII16s")
_LENGTH = struct.Struct("<I")
DIGEST_OCTETS = 16
# The issuer of a record's certificate, behind it: the number of a certificateIssuer, 0 for the list's own issuer.
NAMING = struct.Struct("<I")
# Of a list of 1 GiB with small pages: less than a twentieth of it.
_MOST_OCTETS = 64 * 1024 * 1024
# What of a list is beside its entries.
MOST_SURROUNDINGS = 512 * 1024


class DamagedIndexError(UnreadableOctetsError):
    """
    An index is not as its root says, or cannot be read.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    What an index says of its list beside the entries.

    Args:
        digest: SHA-256 of the list, hex.
        size: of the list, in octets.
        head: its beginning, up to where the entries are.
        tail: what is behind them.
        signed: the digest of its signed part, by the hash of its own signature algorithm.
        named: whether entries may name the issuers of certificates.
        unusable: why "not listed" must not be concluded from its entries, or `None`.
        entries: how many there are.

    """

    digest: str
    size: int
    head: bytes
    tail: bytes
    signed: bytes
    named: bool
    unusable: str | None
    entries: int


def page_of(ends: array[int], content: bytes) -> bytes:
    """
    The octets of a page.

    Args:
        ends: where in `content` its first record begins, where each ends: in the order in which they are found again.
        content: all records, one after the other.

    Returns:
        Their number, where each begins and the last one ends (counted from anywhere), and they.

    """
    return b"".join((_LENGTH.pack(len(ends) - 1), ends, content[ends[0] : ends[-1]]))


def page_digest(page: bytes) -> bytes:
    """
    What a page is known by.
    """
    return blake2b(page, digest_size=DIGEST_OCTETS).digest()


def close_index(
    facts: Facts, pages: Sequence[bytes], keys: Sequence[bytes], names: Sequence[bytes], written: int
) -> tuple[bytes, bytes]:
    """
    The last part of an index.

    Args:
        facts: of the list.
        pages: of entries, each packed by `PAGE`.
        keys: the serial number (a whole INTEGER) of each page's first entry.
        names: pages of the values of certificateIssuer, packed like the others.
        written: octets of pages before it.

    Returns:
        The octets, and the root.

    """
    table, lengths, blob = b"".join(pages), array("I", map(len, keys)).tobytes(), b"".join(keys)
    more = b"".join(names)
    said = json.dumps(
        {
            "digest": facts.digest,
            "size": facts.size,
            "signed": facts.signed.hex(),
            "named": facts.named,
            "unusable": facts.unusable,
            "entries": facts.entries,
            "parts": [len(facts.head), len(facts.tail), len(table), len(lengths), len(blob), len(more)],
        }
    ).encode()
    part = b"".join((_LENGTH.pack(len(said)), said, facts.head, facts.tail, table, lengths, blob, more))
    return part + _END.pack(MAGIC, written, len(part)), sha256(part).digest()


class ListIndex:
    """
    An index that is open.

    Args:
        index: where it is, with its root.
        digest: SHA-256 of the list that it must be of, hex.

    Raises:
        DamagedIndexError: it is not the one of this root and this list.

    """

    __slots__ = ("_keys", "_names", "_pages", "_read", "_size", "facts")

    def __init__(self, index: OctetsIndex, digest: str) -> None:
        self._read = index.read
        self._size = index.size
        part = _last_part(index)
        try:
            self.facts, table, lengths, blob, names = _taken_apart(part)
            self._pages = list(PAGE.iter_unpack(table))
            self._names = list(PAGE.iter_unpack(names))
            ends = list(accumulate(array("I", lengths), initial=0))
            self._keys = [blob[a:b] for a, b in pairwise(ends)]
        except (ValueError, KeyError, TypeError, RecursionError, struct.error) as error:
            msg = f"the index cannot be read: {error!r:.100}"
            raise DamagedIndexError(msg) from error
        if self.facts.digest != digest or len(self._keys) != len(self._pages):
            msg = "the index is of another list"
            raise DamagedIndexError(msg)

    @property
    def octets(self) -> int:
        """
        About what it takes in memory while it is open.
        """
        return (
            sum(map(len, self._keys)) + 160 * len(self._pages) + len(self.facts.head) + len(self.facts.tail)
        )

    def find(self, serial: bytes) -> Iterator[tuple[bytes, int]]:
        """
        The entries of a serial number.

        Args:
            serial: the whole INTEGER, header included.

        Yields:
            The content of each entry's SEQUENCE, and the number of the certificateIssuer that holds for it (0: none).

        Raises:
            DamagedIndexError: a page is not as the root says.

        """
        size = len(serial)
        first = max(bisect_left(self._keys, serial) - 1, 0)
        for number in range(first, bisect_right(self._keys, serial)):
            page, offsets = self._page(self._pages[number])
            begin = len(page) - offsets[-1]

            def starts(
                record: int, page: bytes = page, begin: int = begin, at: memoryview = offsets
            ) -> bytes:
                return page[begin + at[record] : begin + at[record] + size]

            count = len(offsets) - 1
            record = bisect_left(range(count), serial, key=starts)
            while record < count and starts(record) == serial:
                content = page[begin + offsets[record] : begin + offsets[record + 1]]
                if self.facts.named:
                    yield content[: -NAMING.size], NAMING.unpack(content[-NAMING.size :])[0]
                else:
                    yield content, 0
                record += 1

    def name(self, number: int) -> bytes:
        """
        The value of a certificateIssuer.

        Args:
            number: from `find`, 1 or more.

        Raises:
            DamagedIndexError: there is none, or its page is not as the root says.

        """
        left = number - 1
        for row in self._names:
            if left < row[2]:
                page, offsets = self._page(row)
                begin = len(page) - offsets[-1]
                return page[begin + offsets[left] : begin + offsets[left + 1]]
            left -= row[2]
        msg = f"the index has no issuer {number}"
        raise DamagedIndexError(msg)

    def _page(self, row: tuple[int, int, int, bytes]) -> tuple[bytes, memoryview]:
        offset, length, count, digest = row
        if offset + length > self._size or 8 + 4 * count > length:
            msg = f"the index has no page at {offset}"
            raise DamagedIndexError(msg)
        page = _bytes(self._read, offset, length)
        if page_digest(page) != digest:
            msg = f"the index is damaged at {offset}"
            raise DamagedIndexError(msg)
        return page, memoryview(page)[4 : 8 + 4 * count].cast("I")


def _bytes(read: ReadOctets, offset: int, length: int) -> bytes:
    found = read(offset, length)
    if len(found) != length:
        msg = f"the index ends at {offset + len(found)}"
        raise DamagedIndexError(msg)
    return found


def _last_part(index: OctetsIndex) -> bytes:
    if index.size < _END.size:
        msg = f"an index of {index.size} octets"
        raise DamagedIndexError(msg)
    magic, begin, length = _END.unpack(_bytes(index.read, index.size - _END.size, _END.size))
    if magic != MAGIC or begin + length + _END.size != index.size or length > _MOST_OCTETS:
        msg = "an index of another form, or one that was cut off"
        raise DamagedIndexError(msg)
    part = _bytes(index.read, begin, length)
    if sha256(part).digest() != index.root:
        msg = "the index has another root"
        raise DamagedIndexError(msg)
    return part


def _taken_apart(part: bytes) -> tuple[Facts, bytes, bytes, bytes, bytes]:
    (length,) = _LENGTH.unpack_from(part)
    begin = _LENGTH.size + length
    said = json.loads(part[_LENGTH.size : begin])
    cut = []
    for size in said["parts"]:
        cut.append(part[begin : begin + size])
        begin += size
    head, tail, table, lengths, blob, names = cut
    facts = Facts(
        digest=said["digest"],
        size=said["size"],
        head=head,
        tail=tail,
        signed=bytes.fromhex(said["signed"]),
        named=said["named"],
        unusable=said["unusable"],
        entries=said["entries"],
    )
    return facts, table, lengths, blob, names
