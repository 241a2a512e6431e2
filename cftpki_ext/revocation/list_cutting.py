"""
Entries of a large CRL taken apart, a stretch at a time: the content of each, and that a strict parser reads them.

Owns the patterns of `re` that do the work on single entries in native code. Of usual lists one pattern cuts out the contents
at once; what is longer than it passes is left to those of `crl_index`, and to the reader of single elements.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from cryptography import x509 as pyca

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.revocation.crl_index import CONTENT, row_of_entries
from cftpki_ext.x509 import der

# An entry that is longer than this is nobody's.
LONGEST_ENTRY = 512 * 1024
# Tag and length of an element, at most.
_HEADER_OCTETS = 6
# So much of a stretch says which lengths are usual in it: some hundreds of entries, of which one in sixteen is usual.
_SAMPLE_OCTETS = 16 * 1024
_USUAL = 16
# Lengths in one octet, less none at all: an entry has a serial number.
_SHORT = range(1, 128)


@functools.cache
def _entry() -> re.Pattern[bytes]:
    """
    One entry with a length of one octet or two.
    """
    return re.compile(b"\\x30" + CONTENT, re.DOTALL)


class NotIndexableError(CftPkiError):
    """
    A list has no index: it is odd, or not for lists.
    """


class Cutter:
    """
    Cuts the contents out of a list's entries. One for each list: it learns which lengths are usual in it.
    """

    def __init__(self) -> None:
        self._usual: frozenset[int] = frozenset()
        self._pattern = _passing(self._usual)

    def cut(self, content: bytes, left: int, read: Callable[[int], bytes]) -> tuple[bytes, list[bytes]]:
        """
        Take whole entries.

        Args:
            content: where entries follow one another; the last may be cut off.
            left: octets from its beginning to the end of all entries.
            read: gives so many octets from its beginning on, where one entry is longer than `content`.

        Returns:
            What was taken of `content`, and the content of each entry.

        Raises:
            NotIndexableError: an entry is too long.
            DerError: there is no entry.

        """
        sample = Counter(entry[1] for entry in _entry().findall(content, 0, _SAMPLE_OCTETS))
        usual = frozenset(length for length, count in sample.items() if count * _USUAL >= sample.total())
        if not usual <= self._usual:
            self._usual, self._pattern = usual, _passing(usual)
        found: list[bytes] = self._pattern.findall(content)
        if found and not found[-1]:
            found.pop()
        at = sum(map(len, found)) + 2 * len(found)
        while at < len(content):
            behind = row_of_entries(content, at)
            if behind > at:
                found += contents(_entry().findall(content, at, behind))
                at = behind
                continue
            if found and len(content) - at < _HEADER_OCTETS and len(content) < left:
                break
            # One that is longer than what patterns pass, or that does not end here.
            element = der.expect(der.read(content, at, left), der.SEQUENCE, "entry")
            if element.end > len(content):
                if found:
                    break
                if element.end > LONGEST_ENTRY:
                    msg = f"an entry of {element.end} octets"
                    raise NotIndexableError(msg)
                content = read(element.end)
            found.append(content[element.content : element.end])
            at = element.end
        return content[:at], found


def _passing(usual: AbstractSet[int]) -> re.Pattern[bytes]:
    """
    Passes one entry with a length of one octet, which is its group's content; what is no such entry without a group, to the end.

    The usual lengths come first, because alternatives are tried in order.
    """
    lengths = sorted(_SHORT, key=lambda length: (length not in usual, length))
    content = b"|".join(b"(?<=" + re.escape(bytes((n,))) + b").{%d}" % n for n in lengths)
    return re.compile(b"\\x30[\\x01-\\x7f](" + content + b")|.+", re.DOTALL)


def contents(entries: Sequence[bytes]) -> list[bytes]:
    """
    The contents of SEQUENCEs.
    """
    return [entry[2:] if entry[1] < 0x80 else entry[2 + (entry[1] & 0x7F) :] for entry in entries]


class Strictly:
    """
    Reads stretches of a list's entries with a strict parser, each in a list of its own with the same head.

    A whole list is read by it exactly where each of these is, one that has the whole list's end as well, and the list's own three
    lengths are those of DER.

    Args:
        before: what is in front of the entries in the signed part.
        algorithm: the algorithm of that, encoded.

    """

    def __init__(self, before: bytes, algorithm: bytes) -> None:
        self._before = before
        self._signature = algorithm + der.encode(der.BIT_STRING, b"\0")

    def read(self, stretch: bytes, behind: bytes = b"", rest: bytes = b"") -> None:
        """
        Read some entries.

        Args:
            stretch: they.
            behind: what follows the entries in the signed part.
            rest: what follows the signed part; by default an algorithm, and a signature that is none.

        Raises:
            NotIndexableError: the parser does not.

        """
        listed = _header(len(stretch))
        inner = len(self._before) + len(listed) + len(stretch) + len(behind)
        body, rest = _header(inner), rest or self._signature
        outer = _header(len(body) + inner + len(rest))
        try:
            pyca.load_der_x509_crl(b"".join((outer, body, self._before, listed, stretch, behind, rest)))
        except (ValueError, pyca.InvalidVersion) as error:
            msg = "a strict parser does not read it"
            raise NotIndexableError(msg) from error


def _header(length: int) -> bytes:
    """
    Tag and length of a SEQUENCE.
    """
    if length < 0x80:
        return bytes((der.SEQUENCE, length))
    octets = (length.bit_length() + 7) // 8
    return bytes((der.SEQUENCE, 0x80 | octets)) + length.to_bytes(octets, "big")
