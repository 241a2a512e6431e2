"""
The entries of one CRL: is this serial listed, since when, and why (RFC 5280 section 5.3).

Owns the lookup. A direct CRL is searched in native code, so that a list of a million entries costs no Python object
per entry; an indirect CRL, where an entry's issuer is carried on from the entries before it, is indexed once. Both
are only done after the signature was found good. May import x509.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509 as pyca

from cftpki_ext.x509 import der
from cftpki_ext.x509.der import Element
from cftpki_ext.x509.name import Name, parse_name
from cftpki_ext.x509.reasons import CERTIFICATE_HOLD, REASONS, REMOVE_FROM_CRL

_OID_REASON = bytes.fromhex("0603551d15")
_OID_INVALIDITY_DATE = bytes.fromhex("0603551d18")
_OID_CERTIFICATE_ISSUER = bytes.fromhex("0603551d1d")
_OID_HOLD_INSTRUCTION = bytes.fromhex("0603551d17")  # RFC 3280; deprecated, says nothing about the status
_KNOWN = frozenset({_OID_REASON, _OID_INVALIDITY_DATE, _OID_CERTIFICATE_ISSUER, _OID_HOLD_INSTRUCTION})
_KNOWN_OCTETS = 5
_DIRECTORY_NAME = 0xA4  # GeneralName [4], explicit around the Name
_CRITICAL = b"\x01\x01\xff\x04"  # BOOLEAN TRUE, then the OCTET STRING of the extension's value

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
        "_direct",
        "_end",
        "_index",
        "_indirect",
        "_issuer",
        "_list",
        "_start",
        "_unusable",
    )

    def __init__(self, crl: bytes, start: int, end: int, *, issuer: Name, indirect: bool) -> None:
        self._der = crl
        self._start = start
        self._end = end
        self._issuer = issuer
        self._indirect = indirect
        self._direct: bool | None = None
        self._list: pyca.CertificateRevocationList | None = None
        self._index: dict[tuple[str, int], Entry] | None = None
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
            self._load()
            self._unusable = self._look_for_unknown()
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
        listed = self._load()
        encoded = _encode_integer(serial)
        if self._der.find(encoded, self._start, self._end) < 0:  # DER writes an integer in one way only
            return None
        if serial < 0 or not self._is_direct():  # the native search knows neither
            if self._index is None:
                self._index = self._build_index()
            return self._index.get((issuer.key, serial))
        if issuer.key != self._issuer.key or listed.get_revoked_certificate_by_serial_number(serial) is None:
            return None
        worst = max(self._entries_with(encoded), key=_severity, default=None)
        if worst is None:
            msg = f"entry of serial {serial:x} cannot be read"
            raise MalformedEntriesError(msg)
        return worst

    def _is_direct(self) -> bool:
        """
        Whether every entry is about a certificate of the list's own issuer.
        """
        if self._direct is None:
            named = self._der.find(_OID_CERTIFICATE_ISSUER, self._start, self._end) >= 0
            self._direct = not self._indirect and not named
        return self._direct

    def _load(self) -> pyca.CertificateRevocationList:
        # Reads every entry once, natively: a list that is cut or garbled in one place says nothing at all.
        if self._list is None:
            try:
                self._list = pyca.load_der_x509_crl(self._der)
            except ValueError as error:
                msg = f"entries cannot be read: {error}"
                raise MalformedEntriesError(msg) from error
        return self._list

    def _look_for_unknown(self) -> str | None:
        data, start, end = self._der, self._start, self._end
        if not self._indirect and not self._is_direct():
            return "an entry names a certificate issuer, but the list is not an indirect one"
        # Serials and dates may hold these bytes by chance, so an OBJECT IDENTIFIER must end where they begin.
        at = data.find(_CRITICAL, start, end)
        while at >= 0:
            if data[at - _KNOWN_OCTETS : at] not in _KNOWN:
                found = [
                    data[at - size - 2 : at]
                    for size in range(1, min(128, at - start - 1))
                    if data[at - size - 2] == der.OBJECT_IDENTIFIER and data[at - size - 1] == size
                ]
                if found:
                    return f"an entry has an unknown critical extension {found[0].hex()}"
            at = data.find(_CRITICAL, at + 1, end)
        return None

    def _build_index(self) -> dict[tuple[str, int], Entry]:
        self._load()
        index: dict[tuple[str, int], Entry] = {}
        issuers: tuple[Name, ...] = (self._issuer,)
        position = self._start
        while position < self._end:
            element = der.read(self._der, position, self._end)
            position = element.end
            serial, found, named = _read_entry(self._der, element)
            issuers = issuers if named is None else named
            for issuer in issuers:
                key = (issuer.key, serial)
                index[key] = max(found, index.get(key, found), key=_severity)
        return index

    def _entries_with(self, encoded: bytes) -> Iterator[Entry]:
        # Wherever the serial's octets stand at the head of an entry; its header has two to six octets before. What
        # only looks like that inside another entry does no harm: the serial is known to be on the list.
        at = self._der.find(encoded, self._start, self._end)
        while at >= 0:
            for start in range(max(at - 6, self._start), at - 1):
                try:
                    element = der.read(self._der, start, self._end)
                    if element.tag == der.SEQUENCE and element.content == at:
                        yield _read_entry(self._der, element)[1]
                except der.DerError:
                    continue
            at = self._der.find(encoded, at + 1, self._end)


def _severity(entry: Entry) -> int:
    return {REMOVE_FROM_CRL: 0, CERTIFICATE_HOLD: 1}.get(entry.reason, 2)


def _encode_integer(value: int) -> bytes:
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return der.encode(der.INTEGER, value.to_bytes(size, "big", signed=True))


def _read_entry(data: bytes, element: Element) -> tuple[int, Entry, tuple[Name, ...] | None]:
    """
    One entry: serial, what is said of it, and the certificate issuers it names (`None`: those of the entry before).

    By default an entry whose reason cannot be read is a revocation: its serial is on the list.

    Raises:
        DerError: it is no entry, or its certificateIssuer names no distinguished name.

    """
    parts = der.children(data, element)
    if not 2 <= len(parts) <= 3:
        msg = "entry does not have two or three parts"
        raise der.DerError(msg, "RFC 5280 5.1")
    serial = der.integer(data, der.expect(parts[0], der.INTEGER, "serial"))
    revoked_at = der.time(data, parts[1])
    reason = "unspecified"
    issuers: tuple[Name, ...] | None = None
    for extension in der.children(data, parts[2]) if len(parts) == 3 else ():
        fields = der.children(data, extension)
        oid = der.encoded(data, fields[0])
        if oid == _OID_REASON:
            reason = _read_reason(der.content(data, fields[-1]))
        elif oid == _OID_CERTIFICATE_ISSUER:
            issuers = _read_issuers(der.content(data, fields[-1]))
    return serial, Entry(revoked_at=revoked_at, reason=reason), issuers


def _read_reason(value: bytes) -> str:
    if len(value) == 3 and value[:2] == b"\x0a\x01":
        return REASONS.get(value[2], "unspecified")
    return "unspecified"


def _read_issuers(value: bytes) -> tuple[Name, ...]:
    names = tuple(
        parse_name(der.content(value, general))
        for general in der.children(value, der.whole(value))
        if general.tag == _DIRECTORY_NAME
    )
    if not names:
        msg = "certificateIssuer names no distinguished name"
        raise der.DerError(msg, "RFC 5280 5.3.3")
    return names
