"""
Distinguished names as people copy them: from openssl, from Windows, from our own output (RFC 4514).

Owns the grammar of the text, and how a value is written into one. Pure.
"""

from __future__ import annotations

import re

from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError
from cftpki_ext.x509.name import LABELS, Name, parse_name
from cftpki_ext.x509.oddity import ignore

_CHARACTERS = 8 * 1024
# What openssl (long and short), Windows and RFC 4514 call the attributes, in capitals; and what we call them.
_OIDS = {label.upper(): oid for oid, label in LABELS.items()} | {
    "E": "1.2.840.113549.1.9.1",
    "EMAIL": "1.2.840.113549.1.9.1",
    "S": "2.5.4.8",
    "STATE": "2.5.4.8",
    "G": "2.5.4.42",
    "GIVENNAME": "2.5.4.42",
    "SURNAME": "2.5.4.4",
    "T": "2.5.4.12",
    "I": "2.5.4.43",
    "COMMONNAME": "2.5.4.3",
    "COUNTRYNAME": "2.5.4.6",
    "LOCALITYNAME": "2.5.4.7",
    "STATEORPROVINCENAME": "2.5.4.8",
    "STREETADDRESS": "2.5.4.9",
    "ORGANIZATIONNAME": "2.5.4.10",
    "ORGANIZATIONALUNITNAME": "2.5.4.11",
    "DOMAINCOMPONENT": "0.9.2342.19200300.100.1.25",
    "USERID": "0.9.2342.19200300.100.1.1",
    "DESCRIPTION": "2.5.4.13",
    "POSTALCODE": "2.5.4.17",
    "BUSINESSCATEGORY": "2.5.4.15",
}
_PREFIX = re.compile(r"\s*(?:subject|issuer)\s*[=:]\s*(?=[/A-Za-z0-9])", re.IGNORECASE)
_SPACED = re.compile(r"(?<!\\)[,;] ")
_SLASH = re.compile(r"/(?=[A-Za-z0-9. ]+=)")
_DOTTED = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,38})){1,32}")
# A value in quotes (openssl, Windows), or one with escapes (RFC 4514 2.4).
_VALUE = r'"(?:[^"\\]|\\.)*"|(?:[^,;+"\\]|\\.)*'
_PART = re.compile(rf"\s*(?P<label>[A-Za-z0-9.]+)\s*=\s*(?P<value>{_VALUE})\s*(?P<end>[,;+]|$)", re.DOTALL)
_ESCAPE = re.compile(rb"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)

_AROUND = re.compile(r"(?<!\\)\s*([,=+])\s*")
_MEANING = frozenset(b'"+,;<>\\=#/')

_Relative = list[tuple[str, bytes]]


def names_of(text: str) -> tuple[Name, ...]:
    """
    The names that a text may mean: as RFC 4514 and Windows have it (most specific part first), and as openssl has it.

    By default, without blanks behind the commas, it is RFC 4514's. With slashes it is openssl's. With blanks behind the
    commas both Windows and openssl print it, in opposite orders: then it means either.

    Args:
        text: for instance `CN=mft,O=Partner,C=FR`, `C = FR, O = Partner, CN = mft` or `/C=FR/O=Partner/CN=mft`; attribute
            types by name or dotted identifier, values with escapes or in quotes.

    Returns:
        One or two names; none where the text is no distinguished name.

    """
    if len(text) > _CHARACTERS:
        return ()
    prefix = _PREFIX.match(text)
    body = text[prefix.end() :] if prefix is not None and "=" in text[prefix.end() :] else text
    try:
        parts = _slashed(body) if body.startswith("/") else _separated(body)
        if not parts:
            return ()
        forward = body.startswith("/")
        names = [] if forward else [_name(list(reversed(parts)))]
        if forward or _SPACED.search(body) is not None:
            names.append(_name(parts))
    except (DerError, ValueError):
        return ()
    return tuple({name.key: name for name in names}.values())


def attribute_type(label: str) -> str:
    """
    The dotted identifier of an attribute type by its name (any spelling of `names_of`), or as it is.

    Raises:
        ValueError: nobody knows a type of that name.

    """
    return _oid(label)


def same_name(one: str, other: str) -> bool:
    """
    Whether two texts are the same distinguished name (RFC 5280 7.1), in the spelling of RFC 4514.

    Attribute types that are not known here are compared as they are spelt. By default what is no name is no other one's
    equal, but that of the same text.

    Args:
        one: RFC 4514 text.
        other: likewise.

    Returns:
        Whether they are.

    """
    if spelt(one) == spelt(other):
        return True
    found, wanted = names_of(one)[:1], names_of(other)[:1]
    return bool(found) and bool(wanted) and found[0].key == wanted[0].key


def spelt(text: str) -> str:
    """
    A distinguished name without regard to capitals and to blanks around its separators, to be compared quickly.
    """
    lowered = text.strip().lower()
    return _AROUND.sub(r"\1", lowered) if " " in lowered else lowered


def escaped(value: str) -> str:
    """
    A value as it stands in a distinguished name (RFC 4514 2.4): whatever could mean more than itself in hexadecimal.
    """
    octets = value.encode("utf-8", "surrogatepass")
    last = len(octets) - 1
    return "".join(
        f"\\{octet:02X}"
        if octet in _MEANING or octet < 0x20 or octet >= 0x7F or (octet == 0x20 and place in {0, last})
        else chr(octet)
        for place, octet in enumerate(octets)
    )


def _name(parts: list[_Relative]) -> Name:
    encoded = b"".join(
        der.encode(
            der.SET,
            *sorted(der.encode(der.SEQUENCE, der.encode_oid(oid), value) for oid, value in part),
        )
        for part in parts
    )
    return parse_name(der.encode(der.SEQUENCE, encoded), odd=ignore)


def _slashed(text: str) -> list[_Relative]:
    """
    `/C=FR/O=Partner/CN=mft`, as `openssl -nameopt compat` has it.
    """
    found = []
    for part in _SLASH.split(text)[1:]:
        label, _, value = part.partition("=")
        if not value.strip():
            msg = "a value is empty"
            raise ValueError(msg)
        found.append([(_oid(label.strip()), der.encode(der.UTF8_STRING, value.strip().encode()))])
    return found


def _separated(text: str) -> list[_Relative]:
    found: list[_Relative] = [[]]
    position = 0
    while True:
        match = _PART.match(text, position)
        if match is None:
            msg = "no part of a distinguished name"
            raise ValueError(msg)
        found[-1].append((_oid(match["label"]), _value(match["value"])))
        position = match.end()
        if not match["end"]:
            return found
        if match["end"] != "+":
            found.append([])


def _oid(label: str) -> str:
    dotted = label[4:] if label.upper().startswith("OID.") else label
    if _DOTTED.fullmatch(dotted):
        return dotted
    return _OIDS[label.upper()] if label.upper() in _OIDS else _unknown(label)


def _unknown(label: str) -> str:
    msg = f"{label} is no attribute type"
    raise ValueError(msg)


def _value(text: str) -> bytes:
    """
    The encoded value: of `#` and hex digits the very octets, else UTF-8 text without escapes.
    """
    if text.startswith("#"):
        raw = bytes.fromhex(text[1:].strip())
        der.whole(raw, raw[0] if raw else 0)
        return raw
    quoted = len(text) > 1 and text.startswith('"') and text.endswith('"')
    inner = text[1:-1] if quoted else _trimmed(text)
    raw = _ESCAPE.sub(_unescaped, inner.encode())
    if not raw:
        msg = "a value is empty"
        raise ValueError(msg)
    raw.decode()
    return der.encode(der.UTF8_STRING, raw)


def _trimmed(text: str) -> str:
    """
    Without the blanks behind it that no backslash keeps.
    """
    bare = text.rstrip(" ")
    kept = len(bare) < len(text) and (len(bare) - len(bare.rstrip("\\"))) % 2 == 1
    return f"{bare} " if kept else bare


def _unescaped(match: re.Match[bytes]) -> bytes:
    said = match[1]
    return bytes.fromhex(said.decode()) if len(said) == 2 else said
