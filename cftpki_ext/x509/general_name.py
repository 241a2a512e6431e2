"""
General names (RFC 5280 4.2.1.6), as certificates, CRLs and name constraints hold them.

Owns `GeneralName`.
"""

from __future__ import annotations

import re

from cftpki_ext.core.values import dataclass
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element
from cftpki_ext.x509.name import ALPHABET, SET_ORDER, Name, parse_name
from cftpki_ext.x509.oddity import Odd, refuse

# Anything in an IA5String name outside these is a way to make two readers see two names.
_VISIBLE = re.compile(r"[!-~]*")


@dataclass(frozen=True, slots=True)
class GeneralName:
    """
    A GeneralName (RFC 5280 4.2.1.6).

    `kind` is `dns`, `email`, `uri`, `registered_id` (value: text), `directory` (value: `Name`), `ip` (value:
    the octets), or `other`, `x400`, `edi` (value: the content as received). A text that is none of its kind is there
    as octets, so that it equals no text and lies in no subtree; `unreadable` is a name of no kind at all.
    """

    kind: str
    value: str | bytes | Name


def _text(data: bytes, element: Element, kind: str, odd: Odd) -> str | bytes:
    """
    An IA5String name: visible ASCII and nothing else.
    """
    raw = data[element.content : element.end]
    text = raw.decode("latin-1")
    if _VISIBLE.fullmatch(text):
        return text
    odd(f"{kind} has characters that are no visible ASCII", "RFC 5280 4.2.1.6")
    # With blanks a URI still has one meaning: the host of its authority part, if it has one.
    return text if kind == "uri" and _VISIBLE.fullmatch(text.replace(" ", "")) else raw


_OPAQUE = {0xA0: "other", 0xA3: "x400", 0xA5: "edi"}
UNREADABLE = "unreadable"
_TEXTUAL = {0x81: "email", 0x82: "dns", 0x86: "uri"}


def general_name(
    data: bytes, element: Element, *, constraint: bool = False, odd: Odd = refuse
) -> GeneralName:
    """
    Read a GeneralName.

    By default an empty text or an address of other than 4 or 16 octets is refused.

    Args:
        data: the buffer.
        element: the tagged element.
        constraint: it is the base of a name constraint: address and mask of 8 or 32 octets, empty allowed.
        odd: is told of a text or an address that is none of its kind.

    Returns:
        The name.

    Raises:
        DerError: it is none.

    """
    rule = "RFC 5280 4.2.1.10" if constraint else "RFC 5280 4.2.1.6"
    tag = element.tag
    kind = _TEXTUAL.get(tag)
    if kind is not None:
        text = _text(data, element, kind, odd)
        if not text and not constraint:
            odd(f"{kind} name is empty", rule)
        return GeneralName(kind, text)
    raw = data[element.content : element.end]
    if tag == 0xA4:
        inner = der.children(data, element)
        if len(inner) != 1:
            msg = "directory name is not one name"
            raise DerError(msg, rule)
        return GeneralName("directory", parse_name(der.encoded(data, inner[0]), odd=_but_spelling(odd)))
    if tag == 0x87:
        if len(raw) not in ((8, 32) if constraint else (4, 16)):
            odd(f"address has {len(raw)} octets", rule)
        return GeneralName("ip", raw)
    if tag == 0x88:
        return GeneralName("registered_id", der.dotted(raw))
    if tag in _OPAQUE:
        return GeneralName(_OPAQUE[tag], raw)
    msg = f"tag {tag:#04x} is no general name"
    raise DerError(msg, rule)


def _but_spelling(odd: Odd) -> Odd:
    """
    The same, but for how a directory name among others is spelled: only subject and issuer are held to that.
    """

    def told(detail: str, rule: str) -> None:
        if rule not in (ALPHABET, SET_ORDER):
            odd(detail, rule)

    return told


def general_names(data: bytes, parent: Element, *, odd: Odd = refuse) -> tuple[GeneralName, ...]:
    """
    Read GeneralNames: one or more.

    Args:
        data: the buffer.
        parent: the SEQUENCE (its tag is not looked at, it may be implicit).
        odd: is told of an empty list, and of a name that cannot be read, which then is an `UNREADABLE` one.

    Returns:
        The names, in order.

    Raises:
        DerError: no list, or (by default) none in it, or one that is no general name.

    """
    names = []
    for child in der.children(data, parent):
        try:
            names.append(general_name(data, child, odd=odd))
        except DerError as error:
            odd(error.detail, error.rule)
            names.append(GeneralName(UNREADABLE, der.encoded(data, child)))
    if not names:
        odd("list of general names is empty", "RFC 5280 4.2.1.6")
    return tuple(names)


def usable_uri(name: GeneralName) -> str | None:
    """
    The URI of a location that can be asked, or `None`: blanks as they are sent (RFC 3986 2.1), none around it.

    AD CS writes the name of a CA into its locations as it is, and Windows asks for it so.

    Args:
        name: of an access description or a distribution point.

    Returns:
        The URI, without blanks.

    """
    if name.kind != "uri" or not isinstance(name.value, str):
        return None
    return name.value.strip(" ").replace(" ", "%20") or None
