"""
Distinguished names: as received, as compared (RFC 5280 7.1) and as shown (RFC 4514).

Owns `Name`.
"""

from __future__ import annotations

import re
import unicodedata

from cftpki_ext.core.values import dataclass
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element
from cftpki_ext.x509.oddity import Odd, ignore, refuse

COMMON_NAME = "2.5.4.3"
EMAIL_ADDRESS = "1.2.840.113549.1.9.1"

_RULE = "RFC 5280 4.1.2.4"
ALPHABET = "X.680 41.4"
SET_ORDER = "X.690 11.6"
_PRINTABLE = re.compile(rb"[A-Za-z0-9 '()+,./:=?-]*")
# A real name has fewer than twenty attributes; the bound keeps a hostile one from costing time.
_ATTRIBUTES = 128
# Real names have some hundred octets, and a CRL could bring one of megabytes.
_OCTETS = 8 * 1024

# Marks that follow one letter: real text has a few; UAX #15 (Stream-Safe Text Format) allows 30. Sorting more of them
# costs the square of their number.
_MARKS = 30

_SPECIAL = re.compile(r'[,+"\\<>;]')

_CODECS = {
    der.UTF8_STRING: "utf-8",
    der.PRINTABLE_STRING: "ascii",
    # ISO 8859-1 is what issuers put into TeletexString; compared as text, a constraint cannot be dodged by it.
    der.T61_STRING: "latin-1",
    der.IA5_STRING: "ascii",
    der.VISIBLE_STRING: "ascii",
    0x12: "ascii",  # NumericString
    der.BMP_STRING: "utf-16-be",
    der.UNIVERSAL_STRING: "utf-32-be",
}

LABELS = {
    COMMON_NAME: "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.42": "GN",
    "2.5.4.43": "initials",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "2.5.4.97": "organizationIdentifier",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    EMAIL_ADDRESS: "emailAddress",
}


@dataclass(frozen=True, slots=True)
class Name:
    """
    A distinguished name. Two names are the same for chaining when their `key` is the same.

    `rdns` are the normalised RDNs, root first: a name lies within a subtree when the subtree's `rdns` are a
    prefix of its own. `attributes` are (object identifier, text) for those values that are text.
    """

    der: bytes
    key: str
    text: str
    rdns: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]


def _prepared(text: str) -> str:
    """
    The string as compared (RFC 4518, RFC 5280 7.1): folded, compatibility-composed, spaces made one.

    Control and format characters map to nothing, so that none is left in the result: the separators of
    `Name.key` cannot be forged.
    """
    if not text.isascii():
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    else:
        folded = text.lower()
    if not folded.isprintable():
        folded = "".join(
            " " if c in "\t\n\v\f\r\x85" or unicodedata.category(c) in ("Zs", "Zl", "Zp") else c
            for c in folded
            if c in "\t\n\v\f\r\x85" or unicodedata.category(c) not in ("Cc", "Cf")
        )
    return " ".join(folded.split())


def _longest_run_of_marks(text: str) -> int:
    """
    How many characters follow each other that combine with what is before them.
    """
    longest = run = 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        longest = max(longest, run)
    return longest


def _shown(text: str) -> str:
    """
    An attribute value escaped as RFC 4514 2.4 asks; what is not printable as hex octets of its UTF-8.
    """
    escaped = _SPECIAL.sub(r"\\\g<0>", text)
    if escaped[:1] in ("#", " "):
        escaped = "\\" + escaped
    if escaped.endswith(" ") and len(text) > 1:
        escaped = escaped[:-1] + "\\ "
    if escaped.isprintable():
        return escaped
    return "".join(
        c if c.isprintable() else "".join(f"\\{octet:02X}" for octet in c.encode("utf-8", "surrogatepass"))
        for c in escaped
    )


def _attribute(data: bytes, element: Element, odd: Odd) -> tuple[str, str, str | None, str]:
    """
    One AttributeTypeAndValue: identifier, compared form, text where it is text, shown form.
    """
    parts = der.children(data, der.expect(element, der.SEQUENCE, "attribute"))
    if len(parts) != 2:
        msg = "attribute is not a pair of type and value"
        raise DerError(msg, _RULE)
    oid = der.oid(data, parts[0])
    value = parts[1]
    raw = data[value.content : value.end]
    codec = _CODECS.get(value.tag)
    if codec is None:
        shown = f"#{data[value.start : value.end].hex()}"
        return oid, f"{oid}{shown}", None, f"{oid}={shown}"
    if value.tag == der.PRINTABLE_STRING and not _PRINTABLE.fullmatch(raw):
        odd(f"value of attribute {oid} has characters that no PrintableString has", ALPHABET)
    try:
        text = raw.decode(codec)
    except UnicodeDecodeError as error:
        msg = f"value of attribute {oid} is not valid {codec}"
        if codec != "ascii":
            raise DerError(msg, _RULE) from error
        odd(msg, _RULE)
        # Which letters are meant is anybody's guess: compared by its octets, and equal to no text.
        shown = f"#{data[value.start : value.end].hex()}"
        return oid, f"{oid}{shown}", None, f"{LABELS.get(oid, oid)}={_shown(raw.decode('latin-1'))}"
    if not text:
        odd(f"value of attribute {oid} is empty", _RULE)
    if not text.isascii() and _longest_run_of_marks(text) > _MARKS:
        msg = f"value of attribute {oid} has more than {_MARKS} combining marks in a row"
        raise DerError(msg, "UAX #15 (Stream-Safe Text)")
    return oid, f"{oid}={_prepared(text)}", text, f"{LABELS.get(oid, oid)}={_shown(text)}"


def _relative(encoded: bytes, odd: Odd) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """
    One RelativeDistinguishedName: its compared form, its shown form, its text attributes.
    """
    parts = der.children(encoded, der.whole(encoded, der.SET))
    if not parts:
        odd("relative distinguished name is empty", _RULE)
    if len(parts) > _ATTRIBUTES:
        msg = "name has too many attributes"
        raise DerError(msg, _RULE)
    if len(parts) > 1:
        values = [der.encoded(encoded, part) for part in parts]
        if values != sorted(values):
            odd("attributes of a relative distinguished name are not in order", SET_ORDER)
    attributes = [_attribute(encoded, part, odd) for part in parts]
    key = "\x1f".join(sorted(attribute[1] for attribute in attributes))
    shown = "+".join(attribute[3] for attribute in attributes)
    return key, shown, tuple((a[0], a[2]) for a in attributes if a[2] is not None)


def parse_name(encoded: bytes, *, odd: Odd = refuse) -> Name:
    """
    Parse a Name.

    By default a name has at most 8 KiB, and an empty name is a name (a subject may be empty); who may not have one checks that. Lengths
    and alphabets of attribute values are not checked. Values of any string type are compared as text.

    Args:
        encoded: the whole RDNSequence, header included.
        odd: is told of letters outside a string type's alphabet, of empty values and relative names, and of a SET
            that is not in DER's order.

    Returns:
        The name.

    Raises:
        DerError: it is none, or (by default) an odd one.

    """
    if len(encoded) > _OCTETS:
        msg = f"name has {len(encoded)} octets, at most {_OCTETS} are read"
        raise DerError(msg, _RULE)
    parts = der.children(encoded, der.whole(encoded))
    if len(parts) > _ATTRIBUTES:
        msg = "name has too many attributes"
        raise DerError(msg, _RULE)
    keys = []
    shown = []
    attributes: list[tuple[str, str]] = []
    for part in parts:
        key, text, found = _relative(encoded[part.start : part.end], odd)
        keys.append(key)
        shown.append(text)
        attributes += found
    return Name(
        der=encoded,
        key="\x1e".join(keys),
        text=",".join(reversed(shown)),
        rdns=tuple(keys),
        attributes=tuple(attributes),
    )


def name_with(issuer: Name, relative: bytes) -> Name:
    """
    The name that a relative name makes under an issuer (RFC 5280 4.2.1.13, nameRelativeToCRLIssuer).

    Args:
        issuer: the name it is relative to.
        relative: the content of the RelativeDistinguishedName, without its header.

    Returns:
        The joined name.

    Raises:
        DerError: the relative name is none.

    """
    outer = der.whole(issuer.der)
    return parse_name(
        der.encode(der.SEQUENCE, issuer.der[outer.content : outer.end], der.encode(der.SET, relative)),
        odd=ignore,
    )
