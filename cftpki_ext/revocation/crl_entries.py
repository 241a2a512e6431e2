"""
The entries of one CRL: is this serial listed, since when, and why (RFC 5280 section 5.3).

Owns the lookup, which costs no Python object per entry (`crl_index` finds them), and what an entry says. Both are only
done after the signature was found good. May import x509 and crl_index.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509 as pyca

from cftpki_ext.revocation.crl_index import KNOWN, EntryIndex
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import Element
from cftpki_ext.x509.name import Name, parse_name
from cftpki_ext.x509.reasons import CERTIFICATE_HOLD, REASONS, REMOVE_FROM_CRL

_OID_REASON = bytes.fromhex("0603551d15")
_OID_CERTIFICATE_ISSUER = bytes.fromhex("0603551d1d")
_DIRECTORY_NAME = 0xA4  # GeneralName [4], explicit around the Name
# BOOLEAN TRUE and the OCTET STRING of an extension's value, behind none of the identifiers of RFC 5280.
_PERHAPS_UNKNOWN = re.compile(rb"\x01\x01\xff\x04(?<!\x06\x03\x55\x1d[\x15\x17\x18\x1d]\x01\x01\xff\x04)")
# A certificateIssuer is the name of one CA (RFC 5280 5.3.3), perhaps also under names it had before. Those behind so
# many are compared by their octets only: each costs a microsecond then, and not ten.
_ISSUERS = 64

# How many answers one list remembers: partners that come again are answered without another search.
_REMEMBERED = 4096


class MalformedEntriesError(ValueError):
    """
    The list of entries is not what RFC 5280 section 5.1 says: nothing can be read from this CRL.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    One certificate on the list. `reason` is the name in RFC 5280; without the extension it is `unspecified`.
    """

    revoked_at: datetime
    reason: str


class Entries:
    """
    The revokedCertificates of one CRL, searched by issuer and serial.

    By default nothing is read before the first question. Not checked here: whether the CRL is authentic.
    """

    __slots__ = (
        "_answers",
        "_checked",
        "_der",
        "_end",
        "_index_kept",
        "_indirect",
        "_issuer",
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
        self._checked = False
        self._unusable: str | None = None

    def unusable(self) -> str | None:
        """
        Why "not listed" must not be concluded from these entries, or `None`.

        An entry with a critical extension that is not understood spoils the whole list (RFC 5280 5.3), whichever
        certificate it is for; a certificateIssuer in a list that is not indirect makes the issuers doubtful.

        Raises:
            MalformedEntriesError: the entries cannot be read.

        """
        if not self._checked:
            try:
                self._unusable = self._look_for_unknown()
            except der.DerError as error:
                msg = f"entries cannot be read: {error}"
                raise MalformedEntriesError(msg) from error
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
            MalformedEntriesError: the entries cannot be read.

        """
        question = (issuer.key, serial)
        if question in self._answers:
            return self._answers[question]
        try:
            answer = self._search(issuer, serial)
        except der.DerError as error:
            msg = f"entries cannot be read: {error}"
            raise MalformedEntriesError(msg) from error
        if len(self._answers) >= _REMEMBERED:
            self._answers.clear()
        self._answers[question] = answer
        return answer

    def _search(self, issuer: Name, serial: int) -> Entry | None:
        found = [
            _read_entry(self._der, element)
            for element, naming in self._index().find(_encode_integer(serial))
            if self._is_issuer(issuer, naming)
        ]
        return max(found, key=_severity, default=None)

    def _is_issuer(self, issuer: Name, naming: int) -> bool:
        """
        Whether entries are about an issuer's certificates by the entry that named their issuer (0: none did).
        """
        if not naming:
            return issuer.key == self._issuer.key
        names = _named_issuers(self._der, der.read(self._der, naming, self._end))
        if issuer.der in names or any(parse_name(name).key == issuer.key for name in names[:_ISSUERS]):
            return True
        if len(names) > _ISSUERS:
            msg = f"certificateIssuer has {len(names)} names, {_ISSUERS} are compared"
            raise der.DerError(msg, "RFC 5280 5.3.3")
        return False

    def _index(self) -> EntryIndex:
        if self._index_kept is None:
            # Reads every entry once, natively: a list that is cut or garbled in one place says nothing at all.
            try:
                pyca.load_der_x509_crl(self._der)
            except ValueError as error:
                msg = f"entries cannot be read: {error}"
                raise MalformedEntriesError(msg) from error
            named = self._indirect or self._der.find(_OID_CERTIFICATE_ISSUER, self._start, self._end) >= 0
            self._index_kept = EntryIndex(self._der, self._start, self._end, indirect=named)
        return self._index_kept

    def _look_for_unknown(self) -> str | None:
        index = self._index()
        if not self._indirect and index.names_issuers and index.first_naming() is not None:
            return "an entry names a certificate issuer, but the list is not an indirect one"
        # Serials may hold these bytes by chance: only then every entry is taken apart.
        if _PERHAPS_UNKNOWN.search(self._der, self._start, self._end) is None:
            return None
        entry = index.first_unknown()
        if entry is None:
            return None
        return f"an entry has an unknown critical extension {_first_unknown(self._der, entry)}"


def _severity(entry: Entry) -> int:
    return {REMOVE_FROM_CRL: 0, CERTIFICATE_HOLD: 1}.get(entry.reason, 2)


def _encode_integer(value: int) -> bytes:
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


def _read_entry(data: bytes, element: Element) -> Entry:
    """
    What is said of one certificate.

    By default an entry whose reason cannot be read is a revocation: its serial is on the list.

    Raises:
        DerError: it is no entry.

    """
    parts, extensions = _extensions(data, element)
    revoked_at = der.time(data, parts[1])
    reason = "unspecified"
    for fields in extensions:
        if der.encoded(data, fields[0]) == _OID_REASON:
            reason = _read_reason(der.content(data, fields[-1]))
    return Entry(revoked_at=revoked_at, reason=reason)


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


def _read_reason(value: bytes) -> str:
    if len(value) == 3 and value[:2] == b"\x0a\x01":
        return REASONS.get(value[2], "unspecified")
    return "unspecified"


def _named_issuers(data: bytes, element: Element) -> tuple[bytes, ...]:
    """
    The distinguished names in an entry's certificateIssuer (RFC 5280 5.3.3), as received.

    Raises:
        DerError: there is none.

    """
    _, extensions = _extensions(data, element)
    for fields in extensions:
        if der.encoded(data, fields[0]) == _OID_CERTIFICATE_ISSUER:
            value = der.content(data, fields[-1])
            listed = der.children(value, der.whole(value))
            names = tuple(der.content(value, name) for name in listed if name.tag == _DIRECTORY_NAME)
            if names:
                return names
    msg = "certificateIssuer names no distinguished name"
    raise der.DerError(msg, "RFC 5280 5.3.3")
