"""
The entries of one CRL: is this serial listed, since when, and why (RFC 5280 section 5.3).

More than 400 lines: what one entry means, for lists that are read whole and for those with an index.

Owns the lookup, which costs no Python object per entry (`crl_index` finds them, `crl_entry` reads one). It is only
done after the signature was found good. What a strict parser does not read is searched all the same, because bad news
counts in any form: only its silence says nothing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from datetime import UTC, datetime
from typing import Protocol

from cryptography import x509 as pyca

from cftpki_ext.core.values import dataclass
from cftpki_ext.revocation.crl_entry import Entry, read_entry
from cftpki_ext.revocation.crl_index import KNOWN, EntryIndex
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import Element
from cftpki_ext.x509.name import Name, parse_name
from cftpki_ext.x509.oddity import Oddities, ignore
from cftpki_ext.x509.reasons import CERTIFICATE_HOLD, REMOVE_FROM_CRL

_OID_CERTIFICATE_ISSUER = bytes.fromhex("0603551d1d")
_DIRECTORY_NAME = 0xA4  # GeneralName [4], explicit around the Name
# BOOLEAN TRUE and the OCTET STRING of an extension's value, behind none of the identifiers of RFC 5280.
_PERHAPS_UNKNOWN = re.compile(rb"\x01\x01\xff\x04(?<!\x06\x03\x55\x1d[\x15\x17\x18\x1d]\x01\x01\xff\x04)")
# A certificateIssuer is the name of one CA (RFC 5280 5.3.3), perhaps also under names it had before. Those behind so
# many are compared by their octets only: each costs a microsecond then, and not ten.
_ISSUERS = 64

NAMES_WITHOUT_LEAVE = "an entry names a certificate issuer, but the list is not an indirect one"
# Entries that the strict parser does not read are read one by one, some 200,000 in a second; of more, silence says nothing.
_OWN_READING_OCTETS = 8 * 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# How many answers one list remembers: partners that come again are answered without another search.
_REMEMBERED = 4096


class MalformedEntriesError(ValueError):
    """
    The entries about one serial number are not what RFC 5280 section 5.1 says.
    """


class ListedEntries(Protocol):
    """
    The revokedCertificates of one CRL, wherever they are.
    """

    @property
    def unread(self) -> bool:
        """
        Whether the entries are no row of entries, so that nobody can say who is among them.
        """

    @property
    def strict(self) -> bool:
        """
        Whether a strict parser reads the list.
        """

    def unusable(self) -> str | None:
        """
        Why "not listed" must not be concluded from these entries, or `None`.
        """

    def find(self, issuer: Name, serial: int) -> Entry | None:
        """
        The entry of one certificate, or `None`; the worse one where a serial is there twice.

        Raises:
            MalformedEntriesError: whether it has one cannot be said.

        """


class Entries:
    """
    The revokedCertificates of one CRL, searched by issuer and serial.

    By default nothing is read before the first question. Not checked here: whether the CRL is authentic.
    """

    __slots__ = (
        "_answers",
        "_broken",
        "_checked",
        "_der",
        "_doubts",
        "_end",
        "_index_kept",
        "_indirect",
        "_issuer",
        "_row",
        "_start",
        "_unusable",
    )

    def __init__(self, crl: bytes, start: int, end: int, *, issuer: Name, indirect: bool) -> None:
        self._der = crl
        self._start = start
        self._end = end
        self._issuer = issuer
        self._indirect = indirect
        self._index_kept: EntryIndex | None = None
        self._answers: dict[tuple[str, int], Entry | None] = {}
        self._broken = False
        self._row = end
        self._doubts = Oddities()
        self._checked = False
        self._unusable: str | None = None

    @property
    def unread(self) -> bool:
        """
        Whether the entries are no row of entries, so that nobody can say who is among them.
        """
        self._index()
        return self._row < self._end

    @property
    def strict(self) -> bool:
        """
        Whether a strict parser reads the list.
        """
        self._index()
        return not self._broken

    def unusable(self) -> str | None:
        """
        Why "not listed" must not be concluded from these entries, or `None`.

        An entry with a critical extension that is not understood spoils the whole list (RFC 5280 5.3), whichever
        certificate it is for; a certificateIssuer in a list that is not indirect makes the issuers doubtful, and so
        does an entry that cannot be read or is not of the form that RFC 5280 has.
        """
        if not self._checked:
            try:
                unknown = self._look_for_unknown()
            except der.DerError as error:
                unknown = f"entries cannot be read: {error}"
            wrong = self._read_by_ourselves() if self._broken else None
            doubts = (f"entries cannot be read: {doubt.detail}" for doubt in self._doubts)
            self._unusable = wrong or next(doubts, unknown)
            self._checked = True
        return self._unusable

    def find(self, issuer: Name, serial: int) -> Entry | None:
        """
        The entry of one certificate.

        Where a serial is there twice the worse entry counts. A reason code outside RFC 5280 counts as unspecified.

        Args:
            issuer: the issuer of the certificate.
            serial: its serial number, of any length.

        Returns:
            The entry, or `None` where the list has none.

        Raises:
            MalformedEntriesError: whether it has one cannot be said.

        """
        question = (issuer.key, serial)
        if question in self._answers:
            return self._answers[question]
        answer = self._search(issuer, serial)
        if len(self._answers) >= _REMEMBERED:
            self._answers.clear()
        self._answers[question] = answer
        return answer

    def _search(self, issuer: Name, serial: int) -> Entry | None:
        said = Said()
        try:
            for element, naming in self._index().find(encode_integer(serial)):
                with said.doubting():
                    if self._is_issuer(issuer, naming):
                        said.found.append(read_entry(self._der, element))
        except der.DerError as error:
            said.errors.append(str(error))
        return said.worst()

    def _is_issuer(self, issuer: Name, naming: int) -> bool:
        """
        Whether entries are about an issuer's certificates by the entry that named their issuer (0: none did).
        """
        if not naming:
            return issuer.key == self._issuer.key
        return is_among(issuer, _named_issuers(self._der, der.read(self._der, naming, self._end)))

    def _index(self) -> EntryIndex:
        if self._index_kept is None:
            try:
                # Reads every entry once, natively.
                pyca.load_der_x509_crl(self._der)
            except (ValueError, pyca.InvalidVersion):
                self._broken = True
            end = self._row = self._end_of_row() if self._broken else self._end
            named = self._indirect or self._der.find(_OID_CERTIFICATE_ISSUER, self._start, end) >= 0
            self._index_kept = EntryIndex(self._der, self._start, end, indirect=named)
        return self._index_kept

    def _end_of_row(self) -> int:
        """
        Behind the last of the entries that follow one another from the first on.
        """
        position = self._start
        try:
            while position < self._end:
                element = der.read(self._der, position, self._end)
                position = der.expect(element, der.SEQUENCE, "entry").end
        except der.DerError as error:
            self._doubts(error.detail, error.rule)
        return position

    def _read_by_ourselves(self) -> str | None:
        """
        What is wrong with the entries of a list that the strict parser does not read, or `None`: its header is odd.
        """
        if self._end - self._start > _OWN_READING_OCTETS:
            return "entries cannot be read by a strict parser, and are too many to be read otherwise"
        position = self._start
        while position < self._end and not self._doubts:
            try:
                element = der.read(self._der, position, self._end)
                read_entry(self._der, element, doubt=self._doubts)
                position = element.end
            except der.DerError as error:
                self._doubts(error.detail, error.rule)
        return None

    def _look_for_unknown(self) -> str | None:
        index = self._index()
        if not self._indirect and index.names_issuers and index.first_naming() is not None:
            return NAMES_WITHOUT_LEAVE
        # Serials may hold these bytes by chance: only then every entry is taken apart.
        if _PERHAPS_UNKNOWN.search(self._der, self._start, self._end) is None:
            return None
        return _name_unknown(self._der, index.first_unknown())


def _name_unknown(data: bytes, entry: Element | None) -> str | None:
    if entry is None:
        return None
    return f"an entry has an unknown critical extension {_first_unknown(data, entry)}"


def unknown_critical(entries: bytes) -> str | None:
    """
    Why "not listed" must not be concluded from some entries: the first that has an extension that is not understood.

    Args:
        entries: one after the other, as a strict parser reads them.

    Returns:
        The clause, or `None`.

    Raises:
        DerError: they are none.

    """
    if _PERHAPS_UNKNOWN.search(entries) is None:
        return None
    return _name_unknown(entries, EntryIndex(entries, 0, len(entries), indirect=False).first_unknown())


@dataclass(slots=True)
class Said:
    """
    What the entries of one certificate say, in any order, and what of them cannot be read.
    """

    found: list[Entry] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def doubting(self) -> Iterator[None]:
        """
        Note an entry that cannot be read, and go on.
        """
        try:
            yield
        except der.DerError as error:
            self.errors.append(str(error))

    def worst(self) -> Entry | None:
        """
        The entry that counts: a revocation before a hold, then the earlier one.

        Raises:
            MalformedEntriesError: nothing was found, and something could not be read.

        """
        if not self.found and self.errors:
            msg = f"entries cannot be read: {min(self.errors)}"
            raise MalformedEntriesError(msg)
        return max(self.found, key=_weight, default=None)


def _weight(entry: Entry) -> tuple[int, float, str]:
    severity = {REMOVE_FROM_CRL: 0, CERTIFICATE_HOLD: 1}.get(entry.reason, 2)
    since = 0.0 if entry.revoked_at is None else (entry.revoked_at - _EPOCH).total_seconds()
    return severity, -since, entry.reason


def encode_integer(value: int) -> bytes:
    """
    A serial number as DER has it, header included.
    """
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return der.encode(der.INTEGER, value.to_bytes(size, "big", signed=True))


def _extensions(data: bytes, element: Element) -> tuple[list[Element], list[list[Element]]]:
    """
    The parts of an entry, and the fields of each of its extensions.
    """
    parts = der.children(data, element)
    if not 2 <= len(parts) <= 3:
        msg = "entry does not have two or three parts"
        raise der.DerError(msg, "RFC 5280 5.1")
    listed = der.children(data, parts[2]) if len(parts) == 3 else []
    return parts, [der.children(data, extension) for extension in listed]


def _first_unknown(data: bytes, element: Element) -> str:
    """
    The identifier of an entry's first extension that is critical and not known.
    """
    _, extensions = _extensions(data, element)
    unknown = (
        der.oid(data, fields[0])
        for fields in extensions
        if len(fields) == 3 and der.encoded(data, fields[0]) not in KNOWN
    )
    return next(unknown, "")


def is_among(issuer: Name, names: Sequence[bytes]) -> bool:
    """
    Whether a certificateIssuer is about an issuer's certificates.

    Args:
        issuer: the issuer.
        names: from `names_in`.

    Raises:
        DerError: there are too many names to say.

    """
    if issuer.der in names or any(
        parse_name(name, odd=ignore).key == issuer.key for name in names[:_ISSUERS]
    ):
        return True
    if len(names) > _ISSUERS:
        msg = f"certificateIssuer has {len(names)} names, {_ISSUERS} are compared"
        raise der.DerError(msg, "RFC 5280 5.3.3")
    return False


def issuer_values(data: bytes, element: Element) -> tuple[bytes, ...]:
    """
    The values of each certificateIssuer of an entry (RFC 5280 5.3.3); one at most where it is well made.

    Raises:
        DerError: it is no entry.

    """
    _, extensions = _extensions(data, element)
    return tuple(
        der.content(data, fields[-1])
        for fields in extensions
        if der.encoded(data, fields[0]) == _OID_CERTIFICATE_ISSUER
    )


def names_in(values: Iterable[bytes]) -> tuple[bytes, ...]:
    """
    The distinguished names in the first of some values of certificateIssuer that has any, as received.

    Raises:
        DerError: there is none.

    """
    for value in values:
        listed = der.children(value, der.whole(value))
        names = tuple(der.content(value, name) for name in listed if name.tag == _DIRECTORY_NAME)
        if names:
            return names
    msg = "certificateIssuer names no distinguished name"
    raise der.DerError(msg, "RFC 5280 5.3.3")


def _named_issuers(data: bytes, element: Element) -> tuple[bytes, ...]:
    """
    The distinguished names in an entry's certificateIssuer, as received.

    Raises:
        DerError: there is none.

    """
    return names_in(issuer_values(data, element))
