"""
Making the index of one large CRL (`list_index`), in memory that does not grow with it, perhaps while the rest of it still comes.

Owns the order of the work: stretches of the list are hashed, taken apart, read by a strict parser, sorted and written to a scratch
file; once all of it is there they are merged, and pages are written. Reads and writes through what it is handed. What is odd
has no index (`NotIndexableError`) and is judged as it was before there was any: whole.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import accumulate
from typing import cast

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.octets import LargeOctets, ReadOctets, UnreadableOctetsError
from cftpki_ext.revocation.crl_entries import NAMES_WITHOUT_LEAVE, issuer_values, unknown_critical
from cftpki_ext.revocation.crl_index import row_of_entries, value_of_issuer
from cftpki_ext.revocation.list_cutting import LONGEST_ENTRY, Cutter, NotIndexableError
from cftpki_ext.revocation.list_index import (
    MOST_SURROUNDINGS,
    NAMING,
    PAGE,
    Facts,
    close_index,
    page_digest,
    page_of,
)
from cftpki_ext.revocation.list_places import BESIDE, Front, as_odd, front_of, place_of_end
from cftpki_ext.revocation.list_sorting import Runs, Scratch
from cftpki_ext.x509 import der

__all__ = ["Indexing", "NamesIssuersError", "NotIndexableError", "index_list", "prepare_indexing"]

# So much of the list is read, taken apart and sorted at once: some 50,000 entries, of 80 octets each with their objects.
_STRETCH = 2 * 1024 * 1024
# Records of a page: about two pages of the disk.
_PAGE_OCTETS = 6 * 1024
_PAGE_RECORDS = 128
# Different certificateIssuers, in the order of entries, that are told apart in memory.
_MOST_NAMES = 65_536
_ANOTHER = "the list is another one than it was"
_CERTIFICATE_ISSUER = b"\x06\x03\x55\x1d\x1d"


class NamesIssuersError(CftPkiError):
    """
    An entry may name the issuer of its certificate, which every record of an index has to say then.
    """


def index_list(
    raw: LargeOctets, write: Callable[[bytes], object], scratch: Scratch, *, written: int = 0
) -> bytes:
    """
    Make the index of a list. Its signature is not looked at.

    Args:
        raw: the list.
        write: takes the index, piece by piece.
        scratch: a file for what is in between.
        written: how many octets that has already, which nobody needs.

    Returns:
        The root of the index (`list_index`).

    Raises:
        NotIndexableError: it can have none.
        UnreadableOctetsError: the list cannot be read, or is another one than it was.
        OSError: what is written cannot be.

    """
    indexing = Indexing(raw.read, write, scratch, written=written)
    try:
        return indexing.finish(raw.digest, len(raw))
    except NamesIssuersError:
        again = Indexing(raw.read, write, scratch, written=indexing.written, named=True)
        return again.finish(raw.digest, len(raw))


def prepare_indexing() -> None:
    """
    Make what takes entries apart, which is the same for every list.
    """
    row_of_entries(b"", 0)
    value_of_issuer(b"")


class _Pages:
    """
    Pages as they are written, and the rows about them.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self.written = 0

    def add(self, records: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """
        Write records as pages; the row and the first record of each.
        """
        ends = array("I", accumulate(map(len, records), initial=0))
        content, pages = b"".join(records), []
        each = max(1, min(_PAGE_RECORDS, _PAGE_OCTETS * len(records) // max(len(content), 1)))
        for begin in range(0, len(records), each):
            page = page_of(ends[begin : begin + each + 1], content)
            pages.append(page)
            row = PAGE.pack(self.written, len(page), min(each, len(records) - begin), page_digest(page))
            self.written += len(page)
            yield row, records[begin]
        self._write(b"".join(pages))


class Indexing:
    """
    An index on its way, which may be begun before all of its list is there.

    Args:
        read: gives parts of the list.
        write: takes the index, piece by piece; nothing before `finish`.
        scratch: a file for what is in between.
        written: how many octets that has already, which nobody needs.
        named: whether entries may name the issuers of certificates; by default it is an error if one does.

    """

    def __init__(
        self,
        read: ReadOctets,
        write: Callable[[bytes], object],
        scratch: Scratch,
        *,
        written: int = 0,
        named: bool = False,
    ) -> None:
        self._read = read
        self._write = write
        self._runs = Runs(scratch, written)
        self._named = named
        self._cutter = Cutter()
        self._front: Front | None = None
        self._whole = sha256()
        self._at = 0
        self._stretch = b""
        self._unknown: str | None = None
        self._names: dict[bytes, int] = {}
        self._naming = 0
        self._count = 0

    @property
    def written(self) -> int:
        """
        How many octets the scratch file has.
        """
        return self._runs.written

    def advance(self, size: int) -> None:
        """
        Work on what is there.

        Args:
            size: so many octets of the list are; more than what is beside its entries, where they are not all.

        Raises:
            NotIndexableError: the list can have no index.
            NamesIssuersError: an entry may name an issuer.
            UnreadableOctetsError: the list cannot be read.
            OSError: what is written cannot be.

        """
        with as_odd():
            front = self._front
            if front is None:
                front = self._front = front_of(self._exactly(0, min(size, MOST_SURROUNDINGS)))
                self._at = front.listed.content
                self._whole.update(front.head)
                front.signed.update(front.head[front.body.start :])
            # In what is taken at once there is one whole entry at the least.
            enough = max(_STRETCH, LONGEST_ENTRY)
            while self._at < front.listed.end and size >= min(self._at + enough, front.listed.end):
                self._take(front)

    def _take(self, front: Front) -> None:
        """
        Take one stretch of entries.
        """
        begin, left = self._at, front.listed.end - self._at
        content = self._exactly(begin, min(_STRETCH, left))
        stretch, found = self._cutter.cut(content, left, lambda count: self._exactly(begin, count))
        self._whole.update(stretch)
        front.signed.update(stretch)
        if not self._named and _CERTIFICATE_ISSUER in stretch:
            raise NamesIssuersError
        front.strictly.read(stretch)
        if self._unknown is None:
            self._unknown = unknown_critical(stretch)
        self._count += len(found)
        self._runs.add(self._with_issuers(found) if self._named else found)
        self._at += len(stretch)
        self._stretch = stretch

    def _exactly(self, offset: int, count: int) -> bytes:
        """
        Octets that should be there.
        """
        found = self._read(offset, count)
        if len(found) != count:
            msg = f"the list ends at {offset + len(found)}"
            raise UnreadableOctetsError(msg)
        return found

    def _with_issuers(self, found: Sequence[bytes]) -> list[bytes]:
        """
        The contents of some entries, each with the number of the issuer that holds for it.
        """
        records: list[bytes] = []
        suffix, begin = NAMING.pack(self._naming), 0
        for at in [n for n, content in enumerate(found) if _CERTIFICATE_ISSUER in content]:
            value = _issuer_of(der.encode(der.SEQUENCE, found[at]))
            if value is None:
                continue
            records += [content + suffix for content in found[begin:at]]
            self._naming = self._names.setdefault(value, len(self._names) + 1)
            if len(self._names) > _MOST_NAMES:
                msg = f"entries name more than {_MOST_NAMES} issuers"
                raise NotIndexableError(msg)
            suffix, begin = NAMING.pack(self._naming), at
        records += [content + suffix for content in found[begin:]]
        return records

    def finish(self, digest: str, size: int) -> bytes:
        """
        The list is whole.

        Args:
            digest: its SHA-256, hex.
            size: in octets.

        Returns:
            The root of the index (`list_index`).

        Raises:
            NotIndexableError: the list can have no index.
            NamesIssuersError: an entry may name an issuer.
            UnreadableOctetsError: the list cannot be read, or what was read has another digest.
            OSError: what is written cannot be.

        """
        self.advance(size)
        with as_odd():
            front = cast("Front", self._front)
            if self._at < front.listed.end:
                msg = "no CRL: it is cut off"
                raise NotIndexableError(msg)
            tail = self._exactly(self._at, min(size - self._at, MOST_SURROUNDINGS + 1))
            if len(front.head) + len(tail) > MOST_SURROUNDINGS:
                raise NotIndexableError(BESIDE)
            self._whole.update(tail)
            # What the index has must be what was signed, whatever was read at which moment.
            if self._whole.hexdigest() != digest:
                raise UnreadableOctetsError(_ANOTHER)
            indirect, behind = place_of_end(front, tail, size)
            if indirect and not self._named:
                raise NamesIssuersError
            front.signed.update(tail[:behind])
            front.strictly.read(self._stretch, tail[:behind], tail[behind:])
        return self._written_out(
            Facts(
                digest=digest,
                size=size,
                head=front.head,
                tail=tail,
                signed=front.signed.finalize(),
                named=self._named,
                unusable=NAMES_WITHOUT_LEAVE if self._names and not indirect else self._unknown,
                entries=self._count,
            )
        )

    def _written_out(self, facts: Facts) -> bytes:
        """
        Write the index; its root.
        """
        pages, rows, keys = _Pages(self._write), [], []
        for records in self._runs.sorted():
            for row, first in pages.add(records):
                rows.append(row)
                keys.append(first[: der.read(first, 0, len(first)).end])
        names = [row for row, _ in pages.add(list(self._names))]
        last, root = close_index(facts, rows, keys, names, pages.written)
        self._write(last)
        return root


def _issuer_of(entry: bytes) -> bytes | None:
    """
    The value of an entry's certificateIssuer, if it has one.
    """
    found = value_of_issuer(entry)
    if found is not None:
        return found
    values = issuer_values(entry, der.whole(entry))
    if len(values) > 1:
        msg = "an entry names its certificate's issuer twice"
        raise NotIndexableError(msg)
    return values[0] if values else None
