"""
General names (RFC 5280 4.2.1.6), as certificates, CRLs and name constraints hold them.

Owns `GeneralName`. Imports der and name only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element
from cftpki_ext.x509.name import Name, parse_name

# Anything in an IA5String name outside these is a way to make two readers see two names.
_VISIBLE = re.compile(r"[!-~]*")


@dataclass(frozen=True, slots=True)
class GeneralName:
    """
    A GeneralName (RFC 5280 4.2.1.6).

    `kind` is `dns`, `email`, `uri`, `registered_id` (value: text), `directory` (value: `Name`), `ip` (value:
    the octets), or `other`, `x400`, `edi` (value: the content as received).
    """

    kind: str
    value: str | bytes | Name


def _text(data: bytes, element: Element, what: str) -> str:
    """
    An IA5String name: visible ASCII and nothing else.
    """
    text = data[element.content : element.end].decode("latin-1")
    if not _VISIBLE.fullmatch(text):
        msg = f"{what} has characters that are no visible ASCII"
        raise DerError(msg, "RFC 5280 4.2.1.6")
    return text


_OPAQUE = {0xA0: "other", 0xA3: "x400", 0xA5: "edi"}
_TEXTUAL = {0x81: "email", 0x82: "dns", 0x86: "uri"}


def general_name(data: bytes, element: Element, *, constraint: bool = False) -> GeneralName:
    """
    Read a GeneralName.

    By default an empty text or an address of other than 4 or 16 octets is refused.

    Args:
        data: the buffer.
        element: the tagged element.
        constraint: it is the base of a name constraint: address and mask of 8 or 32 octets, empty allowed.

    Returns:
        The name.

    Raises:
        DerError: it is none.

    """
    rule = "RFC 5280 4.2.1.10" if constraint else "RFC 5280 4.2.1.6"
    tag = element.tag
    kind = _TEXTUAL.get(tag)
    if kind is not None:
        text = _text(data, element, kind)
        if not text and not constraint:
            msg = f"{kind} name is empty"
            raise DerError(msg, rule)
        return GeneralName(kind, text)
    raw = data[element.content : element.end]
    if tag == 0xA4:
        inner = der.children(data, element)
        if len(inner) != 1:
            msg = "directory name is not one name"
            raise DerError(msg, rule)
        return GeneralName("directory", parse_name(der.encoded(data, inner[0])))
    if tag == 0x87:
        if len(raw) not in ((8, 32) if constraint else (4, 16)):
            msg = f"address has {len(raw)} octets"
            raise DerError(msg, rule)
        return GeneralName("ip", raw)
    if tag == 0x88:
        return GeneralName("registered_id", der.dotted(raw))
    if tag in _OPAQUE:
        return GeneralName(_OPAQUE[tag], raw)
    msg = f"tag {tag:#04x} is no general name"
    raise DerError(msg, rule)


def general_names(data: bytes, parent: Element) -> tuple[GeneralName, ...]:
    """
    Read GeneralNames: one or more.

    Args:
        data: the buffer.
        parent: the SEQUENCE (its tag is not looked at, it may be implicit).

    Returns:
        The names, in order.

    Raises:
        DerError: none in it, or one that is no general name.

    """
    names = tuple(general_name(data, child) for child in der.children(data, parent))
    if not names:
        msg = "list of general names is empty"
        raise DerError(msg, "RFC 5280 4.2.1.6")
    return names
