"""
Where the entries of one CRL are (RFC 5280 section 5.1), found without an object for each of them.

Owns the walk over the encoded entries: patterns of `re` pass whole entries in native code, by their lengths, so that
what a serial number or a date happens to hold is never taken for structure. Kept are the offset of each 1024th entry
and, of an indirect list, which entry named the certificate issuer there. The bytes were read by a strict parser
before, as a list of entries.
"""

from __future__ import annotations

import functools
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator

from cftpki_ext.x509 import der
from cftpki_ext.x509.der import Element

# Entries between two offsets that are kept: eight octets for some 40 KB of list, and a walk of 0.1 ms between them.
_STRIDE = 1024

# So many places that only look like the serial number are looked at one by one; each costs some microseconds.
_PATIENCE = 256

# Contents of up to 255 octets; what is longer has three octets of length or more, and is passed one by one. Lengths
# near those of an entry with a serial number of 16 octets come first, because alternatives are tried in order.
_USUAL = 40
_SHORT = sorted(range(128), key=lambda length: abs(length - _USUAL))
_LONG = range(128, 256)
_LENGTH = rb"(?:[\x00-\x7f]|\x81.|\x82..|\x83...|\x84....)"
_CERTIFICATE_ISSUER_OID = b"\x06\x03\x55\x1d\x1d"
_CERTIFICATE_ISSUER = re.escape(_CERTIFICATE_ISSUER_OID)
# cRLReason, holdInstruction, invalidityDate, certificateIssuer (RFC 5280 5.3; the second of RFC 3280).
KNOWN = frozenset(b"\x06\x03\x55\x1d" + bytes((last,)) for last in (0x15, 0x17, 0x18, 0x1D))


def _content() -> bytes:
    """
    A length with the content that it announces, as a pattern.
    """
    short = [re.escape(bytes((n,))) + b".{%d}" % n for n in _SHORT]
    long = [b"\\x81" + re.escape(bytes((n,))) + b".{%d}" % n for n in _LONG]
    return b"(?:" + b"|".join(short + long) + b")"


# The length and the content of what is not long.
CONTENT = _content()


def _row(what: bytes, times: bytes) -> bytes:
    """
    As many of something as there are, and no fewer.

    An atomic group: a possessive quantifier behind a group matches what is not there in Python before 3.11.5, which
    Debian 12 has (python/cpython#106052).
    """
    return b"(?>(?:" + what + b")" + times + b")"


_UNKNOWN = rb"(?!\x06\x03\x55\x1d[\x15\x17\x18\x1d])\x06" + CONTENT + rb"\x01\x01\xff"


def _without(extension: bytes) -> bytes:
    """
    An entry that has no extension which begins so. An extension begins with its identifier, an entry with a serial.
    """
    begin = rb"\x30" + _LENGTH
    time = rb"(?:\x17\x0d.{13}|\x18\x0f.{15}|[\x17\x18]" + CONTENT + b")"
    other = rb"\x30(?=" + _LENGTH + rb"\x06)(?!" + _LENGTH + extension + b")" + CONTENT
    entry = begin + rb"\x02" + CONTENT + time + _row(begin + _row(other, b"+"), b"?")
    return b"(?>" + entry + b")(?!(?:" + begin + b")?" + begin + rb"\x06)"


@functools.cache
def _entries() -> re.Pattern[bytes]:
    """
    One to `_STRIDE` entries, whatever they hold.
    """
    return re.compile(_row(b"\\x30" + CONTENT, b"{1,%d}" % _STRIDE), re.DOTALL)


@functools.cache
def _naming() -> re.Pattern[bytes]:
    """
    A stretch of entries; its group is where the last one begins that has a certificateIssuer.
    """
    without = _without(_CERTIFICATE_ISSUER)
    return re.compile(_row(without + rb"|(\x30)" + CONTENT, b"*"), re.DOTALL)


@functools.cache
def _up_to(extension: bytes) -> re.Pattern[bytes]:
    """
    Entries before the first one that has an extension which begins so.
    """
    return re.compile(_row(_without(extension), b"*"), re.DOTALL)


def row_of_entries(data: bytes, begin: int) -> int:
    """
    Behind the whole entries that follow one another from a place on, up to one that is too long for the patterns.
    """
    behind, pattern = begin, _entries()
    while (found := pattern.match(data, behind)) is not None:
        behind = found.end()
    return behind


@functools.cache
def _ending() -> re.Pattern[bytes]:
    """
    An entry whose last extension, and no other, is a certificateIssuer; its group is the value.
    """
    time = rb"[\x17\x18]" + CONTENT
    extension = rb"\x30" + _LENGTH
    other = rb"(?!" + extension + _CERTIFICATE_ISSUER + rb")\x30(?=" + _LENGTH + rb"\x06)" + CONTENT
    last = extension + _CERTIFICATE_ISSUER + rb"(?:\x01\x01.)?(\x04" + CONTENT + b")"
    begin = rb"\x30" + _LENGTH
    return re.compile(
        begin + rb"\x02" + CONTENT + time + begin + _row(other, b"*") + last + rb"\Z", re.DOTALL
    )


def value_of_issuer(entry: bytes) -> bytes | None:
    """
    The value of an entry's certificateIssuer where its place is the usual one, the last; `None` says nothing.

    Args:
        entry: that a strict parser reads.

    """
    found = _ending().match(entry)
    if found is None:
        return None
    value = found.group(1)
    return value[2:] if value[1] < 0x80 else value[3:]


def _is_issuer(oid: bytes, _critical: bool) -> bool:  # noqa: FBT001  # one of two shapes of the same question
    return oid == _CERTIFICATE_ISSUER_OID


def _is_unknown(oid: bytes, critical: bool) -> bool:  # noqa: FBT001
    return critical and oid not in KNOWN


class EntryIndex:
    """
    Finds entries by the octets of their serial number.

    Args:
        data: the whole list.
        start: where its first entry begins.
        end: behind its last entry.
        indirect: whether entries may name the issuers of certificates.

    Raises:
        DerError: what is there is no row of SEQUENCEs.

    """

    __slots__ = ("_data", "_end", "_naming", "_start", "_starts")

    def __init__(self, data: bytes, start: int, end: int, *, indirect: bool) -> None:
        self._data = data
        self._start = start
        self._end = end
        self._starts = array("Q")
        # The entry whose certificateIssuer holds where a stretch begins; 0 (no entry's place) for none.
        self._naming = array("Q") if indirect else None
        position, naming = start, 0
        while position < end:
            self._starts.append(position)
            behind = self._stretch(position, end)
            if self._naming is not None:
                self._naming.append(naming)
                naming = self._last_naming(position, behind) or naming
            position = behind

    @property
    def names_issuers(self) -> bool:
        """
        Whether entries may name the issuers of certificates.
        """
        return self._naming is not None

    def _stretch(self, position: int, end: int) -> int:
        """
        Behind the entries that begin at `position` and end before `end`: at most `_STRIDE`, at least one.
        """
        found = _entries().match(self._data, position, end)
        if found is not None:
            return found.end()
        return self._entry(position).end

    def _last_naming(self, begin: int, end: int) -> int:
        """
        The last entry of a stretch that has a certificateIssuer; 0 for none.
        """
        if self._data.find(_CERTIFICATE_ISSUER_OID, begin, end) < 0:
            return 0
        found = _naming().match(self._data, begin, end)
        if found is not None and found.end() == end:
            return max(found.start(1), 0)
        # An entry that is longer than what the patterns pass is a stretch of its own.
        element = der.read(self._data, begin, self._end)
        return begin if self._extends(element, _is_issuer) else 0

    def _extends(self, entry: Element, matches: Callable[[bytes, bool], bool]) -> bool:
        """
        Whether an entry too long for the patterns has an extension of some identifier and criticality.
        """
        parts = der.children(self._data, entry)
        for extension in der.children(self._data, parts[2]) if len(parts) > 2 else ():
            fields = der.children(self._data, extension)
            critical = len(fields) > 2 and der.content(self._data, fields[1]) == b"\xff"
            if matches(der.encoded(self._data, fields[0]), critical):
                return True
        return False

    def _holding(self, at: int, begin: int) -> int:
        """
        Where the entry begins that an offset lies in; `begin` is where an entry before it does.
        """
        stretch = max(begin, self._starts[bisect_right(self._starts, at) - 1])
        found = _entries().match(self._data, stretch, at)
        return stretch if found is None else found.end()

    def find(self, serial: bytes) -> Iterator[tuple[Element, int]]:
        """
        The entries of a serial number.

        Args:
            serial: the whole INTEGER, header included. DER has one way to write it.

        Yields:
            Each entry, and where the one begins that names the issuer of its certificate (0: the list's own issuer).

        Raises:
            DerError: an entry is none.

        """
        boundary, wrong = self._start, 0
        at = self._data.find(serial, self._start, self._end)
        while at >= 0 and wrong < _PATIENCE:
            boundary = self._holding(at, boundary)
            entry = self._entry(boundary)
            if entry.content == at:
                yield entry, self._issuer_of(entry)
            else:
                wrong += 1
            # Whatever else of this entry looks like the serial number is none; the next one is behind it.
            boundary = entry.end
            at = self._data.find(serial, boundary, self._end)
        if at >= 0:
            yield from self._find_among_false(serial, boundary)

    def _find_among_false(self, serial: bytes, position: int) -> Iterator[tuple[Element, int]]:
        """
        The same for a list that is full of what looks like the serial number.
        """
        others = re.compile(_row(rb"\x30(?!" + _LENGTH + re.escape(serial) + b")" + CONTENT, b"*"), re.DOTALL)
        while position < self._end:
            found = others.match(self._data, position, self._end)
            position = position if found is None else found.end()
            if position >= self._end:
                return
            entry = self._entry(position)
            if self._data.startswith(serial, entry.content):
                yield entry, self._issuer_of(entry)
            position = entry.end

    def _entry(self, position: int) -> Element:
        return der.expect(der.read(self._data, position, self._end), der.SEQUENCE, "entry")

    def _issuer_of(self, entry: Element) -> int:
        if self._naming is None:
            return 0
        stretch = bisect_right(self._starts, entry.start) - 1
        return self._last_naming(self._starts[stretch], entry.end) or self._naming[stretch]

    def first_naming(self) -> Element | None:
        """
        The first entry that has a certificateIssuer.
        """
        return self._first(_CERTIFICATE_ISSUER, _is_issuer)

    def first_unknown(self) -> Element | None:
        """
        The first entry that has a critical extension which is none of RFC 5280's.
        """
        return self._first(_UNKNOWN, _is_unknown)

    def _first(self, extension: bytes, matches: Callable[[bytes, bool], bool]) -> Element | None:
        pattern, position = _up_to(extension), self._start
        while position < self._end:
            found = pattern.match(self._data, position, self._end)
            position = position if found is None else found.end()
            if position >= self._end:
                break
            entry = self._entry(position)
            if self._extends(entry, matches):
                return entry
            position = entry.end
        return None
