"""
What one entry of a CRL says (RFC 5280 section 5.3), as far as it can be read.

Owns `Entry`. Its serial number alone makes a revocation: details that cannot be read are told to `doubt`, and change
nothing of it.
"""

from __future__ import annotations

from datetime import datetime

from cftpki_ext.core.values import dataclass
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element
from cftpki_ext.x509.loose_time import loose_time
from cftpki_ext.x509.oddity import Odd, ignore
from cftpki_ext.x509.reasons import REASONS

_OID_REASON = bytes.fromhex("0603551d15")
_RULE = "RFC 5280 5.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    One certificate on the list. `reason` is the name in RFC 5280; without the extension it is `unspecified`.

    `revoked_at` is `None` where the date cannot be read.
    """

    revoked_at: datetime | None
    reason: str


def read_entry(data: bytes, element: Element, *, doubt: Odd = ignore) -> Entry:
    """
    What is said of one certificate.

    Args:
        data: the list.
        element: the entry.
        doubt: is told of whatever is not as RFC 5280 has it.

    Returns:
        The entry. One whose reason cannot be read is a revocation.

    Raises:
        DerError: it has no serial number.

    """
    parts = der.children(data, der.expect(element, der.SEQUENCE, "entry"))
    if not parts:
        msg = "entry is empty"
        raise DerError(msg, _RULE)
    der.integer(data, der.expect(parts[0], der.INTEGER, "serial"))
    if not 2 <= len(parts) <= 3:
        doubt("entry does not have two or three parts", _RULE)
    revoked_at = None
    if len(parts) > 1:
        try:
            revoked_at = loose_time(data, parts[1], fraction=doubt, other=doubt)
        except DerError as error:
            doubt(error.detail, error.rule)
    reason = "unspecified"
    if len(parts) > 2:
        try:
            der.expect(parts[2], der.SEQUENCE, "entry's extensions")
            extensions = der.children(data, parts[2])
        except DerError as error:
            doubt(error.detail, error.rule)
            extensions = []
        for extension in extensions:
            oid, value = _extension(data, extension, doubt)
            if oid == _OID_REASON:
                reason = _read_reason(value)
    return Entry(revoked_at=revoked_at, reason=reason)


def _extension(data: bytes, element: Element, doubt: Odd) -> tuple[bytes, bytes]:
    """
    Identifier and value of an extension; empty where it is none.
    """
    try:
        fields = der.children(data, der.expect(element, der.SEQUENCE, "entry's extension"))
        if len(fields) not in (2, 3):
            doubt("extension is not an identifier, a criticality and a value", _RULE)
            return b"", b""
        if len(fields) == 3:
            critical = der.boolean(data, der.expect(fields[1], der.BOOLEAN, "criticality"), odd=doubt)
            if not critical:
                doubt("an entry's extension writes out a default criticality", _RULE)
        der.oid(data, fields[0])
        value = der.expect(fields[-1], der.OCTET_STRING, "value of an entry's extension")
        return der.encoded(data, fields[0]), der.content(data, value)
    except DerError as error:
        doubt(error.detail, error.rule)
        return b"", b""


def _read_reason(value: bytes) -> str:
    if len(value) == 3 and value[:2] == b"\x0a\x01":
        return REASONS.get(value[2], "unspecified")
    return "unspecified"
