"""
Making the index of one large CRL (`list_index`), in memory that does not grow with the list.

Owns the taking apart: stretches of the list are read by a strict parser, sorted and written to a scratch file, and merged range
by range; work on single entries is left to `re`, `sorted` and slices. Reads and writes through what it is handed. What
is odd has no index (`NotIndexableError`) and is judged as it was before there was any: whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import cast

from cryptography import x509 as pyca

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.octets import LargeOctets, UnreadableOctetsError
from cftpki_ext.revocation.crl_entries import NAMES_WITHOUT_LEAVE, issuer_values, unknown_critical
from cftpki_ext.revocation.crl_index import CONTENT, row_of_entries, value_of_issuer
from cftpki_ext.revocation.crl_parse import MalformedCrlError, Outline, Surroundings, outline
from cftpki_ext.revocation.list_index import (
    MOST_SURROUNDINGS,
    NAMING,
    PAGE,
    Facts,
    close_index,
    page_digest,
    page_of,
)
from cftpki_ext.revocation.list_sorting import Runs, Scratch
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError
from cftpki_ext.x509.signed import hash_of

# So much of the list is read, taken apart and sorted at once: some 50,000 entries, of 80 octets each with their objects.
_STRETCH = 2 * 1024 * 1024
# Of what is beside its entries so much is read at once.
_WINDOW = 64 * 1024
# An entry that is longer than this is nobody's.
_LONGEST_ENTRY = 512 * 1024
# Tag and length of an element, at most.
_HEADER_OCTETS = 6
# Records of a page: about two pages of the disk.
_PAGE_OCTETS = 6 * 1024
_PAGE_RECORDS = 128
# Different certificateIssuers, in the order of entries, that are told apart in memory.
_MOST_NAMES = 65_536
_ANOTHER = "the list is another one than it was"
_CERTIFICATE_ISSUER = b"\x06\x03\x55\x1d\x1d"
_ENTRY = re.compile(b"\\x30" + CONTENT, re.DOTALL)


class NotIndexableError(CftPkiError):
    """
    A list has no index: it is odd, or not for lists.
    """


def index_list(raw: LargeOctets, write: Callable[[bytes], object], scratch: Scratch) -> bytes:
    """
    Make the index of a list. Its signature is not looked at.

    Args:
        raw: the list.
        write: takes the index, piece by piece.
        scratch: an empty file.

    Returns:
        The root of the index (`list_index`).

    Raises:
        NotIndexableError: it can have none.
        UnreadableOctetsError: the list cannot be read, or is another one than it was.
        OSError: what is written cannot be.

    """
    try:
        return _Making(raw, write, scratch).make()
    except (MalformedCrlError, DerError) as error:
        raise NotIndexableError(str(error)) from error


def prepare_indexing() -> None:
    """
    Make what takes entries apart, which is the same for every list.
    """
    row_of_entries(b"", 0)
    value_of_issuer(b"")


class _Window:
    """
    A list as bytes that are read where they are looked at.
    """

    def __init__(self, raw: LargeOctets) -> None:
        self._raw = raw
        self._begin = 0
        self._held = b""

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, place: int | slice) -> int | bytes:
        begin, end, _ = (slice(place, place + 1) if isinstance(place, int) else place).indices(len(self._raw))
        if not self._begin <= begin <= end <= self._begin + len(self._held):
            if end - begin > MOST_SURROUNDINGS:
                msg = f"{end - begin} octets beside the entries"
                raise NotIndexableError(msg)
            self._begin, self._held = begin, self._raw.read(begin, max(end - begin, _WINDOW))
        moved = begin - self._begin
        return self._held[moved] if isinstance(place, int) else self._held[moved : end - self._begin]


class _Pages:
    """
    Pages as they are written, and the rows about them.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self.written = 0

    def add(self, records: Sequence[bytes]) -> bytes:
        """
        Write a page; the row about it.
        """
        page = page_of(records)
        self._write(page)
        row = PAGE.pack(self.written, len(page), len(records), page_digest(page))
        self.written += len(page)
        return row

    def all_of(self, records: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """
        Write records as pages; the row and the first record of each.
        """
        octets = sum(map(len, records))
        each = max(1, min(_PAGE_RECORDS, _PAGE_OCTETS * len(records) // max(octets, 1)))
        for begin in range(0, len(records), each):
            yield self.add(records[begin : begin + each]), records[begin]


class _Making:
    def __init__(self, raw: LargeOctets, write: Callable[[bytes], object], scratch: Scratch) -> None:
        self._raw = raw
        self._pages = _Pages(write)
        self._write = write
        self._runs = Runs(scratch)
        self._data = cast("bytes", _Window(raw))
        self._outline: Outline = outline(self._data)
        self._unknown: str | None = None
        self._names: dict[bytes, int] = {}
        self._naming = 0
        self._count = 0

    def make(self) -> bytes:
        listed = self._outline.entries
        if listed is None or listed.content == listed.end:
            msg = "a list without entries"
            raise NotIndexableError(msg)
        head, tail = self._data[: listed.content], self._data[listed.end :]
        if len(head) + len(tail) > MOST_SURROUNDINGS:
            msg = f"{len(head) + len(tail)} octets beside the entries"
            raise NotIndexableError(msg)
        # From here on it is taken from what goes into the index, and not read again.
        around = cast("bytes", Surroundings(head, tail, len(self._raw)))
        if outline(around) != self._outline:
            raise UnreadableOctetsError(_ANOTHER)
        signed, named = self._hashed(listed.content, listed.end)
        named = named or self._outline.indirect
        strictly = _Strictly(around, self._outline, listed)
        begin, used = listed.content, sha256(head)
        while begin < listed.end:
            stretch, found = self._stretch(begin, listed.end)
            used.update(stretch)
            strictly.read(stretch)
            self._runs.add(self._take(stretch, found, named=named))
            begin += len(stretch)
        used.update(tail)
        # The entries were read after the list was hashed: what the index has must be what was signed.
        if used.hexdigest() != self._raw.digest:
            raise UnreadableOctetsError(_ANOTHER)
        rows, keys = [], []
        for records in self._runs.sorted():
            for row, first in self._pages.all_of(records):
                rows.append(row)
                keys.append(first[: der.read(first, 0, len(first)).end])
        names = [row for row, _ in self._pages.all_of(list(self._names))] if self._names else []
        facts = Facts(
            digest=self._raw.digest,
            size=len(self._raw),
            head=head,
            tail=tail,
            signed=signed,
            named=named,
            unusable=NAMES_WITHOUT_LEAVE if self._names and not self._outline.indirect else self._unknown,
            entries=self._count,
        )
        last, root = close_index(facts, rows, keys, names, self._pages.written)
        self._write(last)
        return root

    def _hashed(self, begin: int, end: int) -> tuple[bytes, bool]:
        """
        The digest of the signed part, and whether an entry may name an issuer; the list's own digest is compared.
        """
        digest = hash_of(self._outline.algorithm)
        if digest is None:
            msg = "its signature algorithm takes the whole list"
            raise NotIndexableError(msg)
        body, whole, at, before, named = self._outline.body, sha256(), 0, b"", False
        for piece in self._raw.pieces():
            whole.update(piece)
            digest.update(piece[max(body.start - at, 0) : max(body.end - at, 0)])
            if not named:
                joined, moved = before + piece, at - len(before)
                named = joined.find(_CERTIFICATE_ISSUER, max(begin - moved, 0), max(end - moved, 0)) >= 0
                before = piece[-len(_CERTIFICATE_ISSUER) + 1 :]
            at += len(piece)
        if whole.hexdigest() != self._raw.digest:
            raise UnreadableOctetsError(_ANOTHER)
        return digest.finalize(), named

    def _stretch(self, begin: int, end: int) -> tuple[bytes, list[bytes]]:
        """
        Whole entries from a place on: one after the other, and each for itself.
        """
        content = self._raw.read(begin, min(_STRETCH, end - begin))
        found: list[bytes] = []
        at = 0
        while at < len(content):
            behind = row_of_entries(content, at)
            if behind > at:
                found += _ENTRY.findall(content, at, behind)
                at = behind
                continue
            if found and len(content) - at < _HEADER_OCTETS and len(content) < end - begin:
                break
            # One that is longer than what patterns pass, or that does not end here.
            element = der.expect(der.read(content, at, end - begin), der.SEQUENCE, "entry")
            if element.end > len(content):
                if found:
                    break
                if element.end > _LONGEST_ENTRY:
                    msg = f"an entry of {element.end} octets"
                    raise NotIndexableError(msg)
                content = self._raw.read(begin, element.end)
            found.append(content[element.start : element.end])
            at = element.end
        return content[:at], found

    def _take(self, stretch: bytes, found: Sequence[bytes], *, named: bool) -> list[bytes]:
        """
        The records of some entries: their contents, each with the issuer that holds for it where entries name any.
        """
        if self._unknown is None:
            self._unknown = unknown_critical(stretch)
        self._count += len(found)
        if not named:
            return _contents(found)
        records: list[bytes] = []
        suffix, begin = NAMING.pack(self._naming), 0
        for at in [n for n, entry in enumerate(found) if _CERTIFICATE_ISSUER in entry]:
            value = _issuer_of(found[at])
            if value is None:
                continue
            records += [content + suffix for content in _contents(found[begin:at])]
            self._naming = self._names.setdefault(value, len(self._names) + 1)
            if len(self._names) > _MOST_NAMES:
                msg = f"entries name more than {_MOST_NAMES} issuers"
                raise NotIndexableError(msg)
            suffix, begin = NAMING.pack(self._naming), at
        records += [content + suffix for content in _contents(found[begin:])]
        return records


def _contents(entries: Sequence[bytes]) -> list[bytes]:
    """
    The contents of SEQUENCEs.
    """
    short = [entry[2:] for entry in entries if entry[1] < 0x80]
    if len(short) == len(entries):
        return short
    return [entry[2:] if entry[1] < 0x80 else entry[2 + (entry[1] & 0x7F) :] for entry in entries]


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


class _Strictly:
    """
    Reads stretches of a list's entries with a strict parser, each in a list of its own with the same head and tail.

    A whole list is read by it exactly where each of these is, and its own three lengths are those of DER.
    """

    def __init__(self, data: bytes, found: Outline, listed: der.Element) -> None:
        whole, body = der.whole(data), found.body
        self._before = data[body.content : listed.start]
        self._behind = data[listed.end : body.end]
        self._rest = data[body.end : whole.end]

    def read(self, stretch: bytes) -> None:
        """
        Read some entries.

        Raises:
            NotIndexableError: the parser does not.

        """
        listed = der.encode(der.SEQUENCE, stretch)
        body = der.encode(der.SEQUENCE, self._before, listed, self._behind)
        try:
            pyca.load_der_x509_crl(der.encode(der.SEQUENCE, body, self._rest))
        except (ValueError, pyca.InvalidVersion) as error:
            msg = "a strict parser does not read it"
            raise NotIndexableError(msg) from error
