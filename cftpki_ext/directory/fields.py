"""
What a certificate gives to a search: the fields of a template and their values.

Owns the names of the fields. Values are text as the certificate has it, unescaped. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from types import MappingProxyType

from cftpki_ext.core.errors import InputError
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.der import DerError
from cftpki_ext.x509.dn_text import attribute_type
from cftpki_ext.x509.name import Name

_PARTS = re.compile(r"(subject|issuer)\.([A-Za-z0-9.]+)", re.IGNORECASE)
_ENTRY = re.compile(r"entry\.([A-Za-z][A-Za-z0-9-]*)")
ENTRY = "entry"
# otherName of AD's user principal name ([MS-WCCE] 2.2.2.7.5).
_UPN = "1.3.6.1.4.1.311.20.2.3"


def _octets(serial: int) -> bytes:
    return (
        serial.to_bytes(max(1, (serial.bit_length() + 8) // 8), "big", signed=True).removeprefix(b"\0")
        or b"\0"
    )


def _exact(certificate: Certificate) -> str:
    """
    CertificateExactAssertion in GSER (RFC 4523 section 2.1, RFC 3642): quotation marks are doubled.
    """
    issuer = certificate.issuer.text.replace('"', '""')
    return f'{{ serialNumber {certificate.serial}, issuer rdnSequence:"{issuer}" }}'


_WHOLE: Mapping[str, Callable[[Certificate], str]] = MappingProxyType(
    {
        "subject": lambda one: one.subject.text,
        "issuer": lambda one: one.issuer.text,
        "serial": lambda one: str(one.serial),
        "serial_hex": lambda one: _octets(one.serial).hex(),
        "serial_upper": lambda one: _octets(one.serial).hex().upper(),
        "serial_colons": lambda one: _octets(one.serial).hex(":"),
        "serial_reversed": lambda one: _octets(one.serial)[::-1].hex(),
        "fingerprint": lambda one: one.fingerprint,
        "ski": lambda one: (one.subject_key_id or b"").hex(),
        "certificate_exact": _exact,
    }
)
_SANS = ("san.dns", "san.email", "san.uri", "san.ip", "san.upn")
NAMES = (*_WHOLE, *_SANS)


def check_field(name: str, *, of_entry: bool = False) -> None:
    """
    Make sure that a field is one.

    Args:
        name: as in a template.
        of_entry: it is about a group of an entry that was found: `entry` (its name) and `entry.ATTRIBUTE` are fields, too.

    Raises:
        InputError: it is none, and nothing would ever be found.

    """
    if name in NAMES or (of_entry and (name == ENTRY or _ENTRY.fullmatch(name))):
        return
    parts = _PARTS.fullmatch(name)
    if parts is not None:
        try:
            attribute_type(parts[2])
        except ValueError as error:
            msg = f"{{{name}}}: {error}; write its dotted identifier"
            raise InputError(msg) from error
        return
    more = ", entry, entry.ATTRIBUTE" if of_entry else ""
    msg = f"{{{name}}} is no field: known are subject.PART, issuer.PART, {', '.join(NAMES)}{more}"
    raise InputError(msg)


def attribute_of_entry(name: str) -> str | None:
    """
    The attribute of the entry that a field names, `None` where it names none.
    """
    found = _ENTRY.fullmatch(name)
    return None if found is None else found[1]


def values_of(certificate: Certificate, name: str) -> tuple[str, ...]:
    """
    The values of a field, in their order.

    Args:
        certificate: the partner's.
        name: a field that is one.

    Returns:
        Values, none twice, none empty; none where the certificate has none, or what it has is no text.

    """
    if name in _WHOLE:
        values = [_WHOLE[name](certificate)]
    elif name in _SANS:
        values = _sans(certificate, name.partition(".")[2])
    else:
        parts = _PARTS.fullmatch(name)
        if parts is None:
            return ()
        whole: Name = certificate.subject if parts[1].lower() == "subject" else certificate.issuer
        oid = attribute_type(parts[2])
        values = [text for kind, text in whole.attributes if kind == oid]
    return tuple(dict.fromkeys(filter(None, values)))


def _sans(certificate: Certificate, kind: str) -> list[str]:
    found = []
    for name in certificate.subject_alt_names:
        value = name.value
        if kind == "upn" and name.kind == "other" and isinstance(value, bytes):
            found.append(_principal(value))
        elif name.kind != kind:
            continue
        elif isinstance(value, str):
            found.append(value)
        elif kind == "ip" and isinstance(value, bytes) and len(value) in {4, 16}:
            found.append(str(ip_address(value)))
    return found


def _principal(content: bytes) -> str:
    """
    The user principal name of an otherName; empty where it is another name, or none that can be read.
    """
    try:
        kind = der.read(content, 0, len(content))
        if kind.tag != der.OBJECT_IDENTIFIER or der.oid(content, kind) != _UPN:
            return ""
        wrapped = der.read(content, kind.end, len(content))
        text = der.read(content, wrapped.content, wrapped.end)
        if wrapped.tag != 0xA0 or text.tag != der.UTF8_STRING:
            return ""
        return content[text.content : text.end].decode()
    except (DerError, UnicodeDecodeError):
        return ""
