"""
The parts that CMP's structures have in common, read from the octets as received, each with its bound.

Pure. Everything here raises `DerError`; whoever reads a whole structure makes a `MalformedMessageError` of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from cftpki_connectors.cmp.values import Info, MalformedMessageError
from cftpki_ext.core.escape import excerpt
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element

# Certificates in one field: a CA with some roots of a rollover and their intermediates has a dozen.
MAX_CERTIFICATES = 64
MAX_TEXTS = 8
_TEXT_CHARACTERS = 200
_MAX_INFO = 32

EXPLICIT = 0xA0

_T = TypeVar("_T")


def reader(read: Callable[[bytes], _T]) -> Callable[[bytes], _T]:
    """
    A function that reads one structure whole, and raises `MalformedMessageError` where it is none.
    """

    @functools.wraps(read)
    def whole(data: bytes) -> _T:
        try:
            return read(data)
        except DerError as error:
            raise MalformedMessageError(str(error)) from error

    return whole


def inner(data: bytes, element: Element) -> Element:
    """
    What an explicit tag is around.
    """
    found = der.children(data, element, most=1)
    if not found:
        msg = f"nothing inside the tag {element.tag:#04x}"
        raise DerError(msg)
    return found[0]


def integer(data: bytes, element: Element) -> int:
    """
    The value of an INTEGER.
    """
    return der.integer(data, der.expect(element, der.INTEGER, "number"))


def certificates(data: bytes, listed: Element) -> tuple[bytes, ...]:
    """
    A SEQUENCE OF CMPCertificate (DER each); they are not looked at.
    """
    found = der.children(data, der.expect(listed, der.SEQUENCE, "certificates"), most=MAX_CERTIFICATES)
    return tuple(der.encoded(data, der.expect(one, der.SEQUENCE, "certificate")) for one in found)


def texts(data: bytes, listed: Element) -> tuple[str, ...]:
    """
    PKIFreeText: printable, the first few, each cut to a line.
    """
    found = []
    for one in der.children(data, der.expect(listed, der.SEQUENCE, "PKIFreeText"))[:MAX_TEXTS]:
        raw = der.content(data, der.expect(one, der.UTF8_STRING, "text"))[: 4 * _TEXT_CHARACTERS]
        found.append(excerpt(raw.decode("utf-8", errors="replace"), _TEXT_CHARACTERS))
    return tuple(text for text in found if text)


def infos(data: bytes, listed: Element) -> tuple[Info, ...]:
    """
    A SEQUENCE OF InfoTypeAndValue; the values are not looked at.
    """
    found = []
    for one in der.children(data, der.expect(listed, der.SEQUENCE, "general information"), most=_MAX_INFO):
        parts = der.children(data, der.expect(one, der.SEQUENCE, "InfoTypeAndValue"), most=2)
        if not parts:
            msg = "InfoTypeAndValue is empty"
            raise DerError(msg)
        value = der.encoded(data, parts[1]) if len(parts) == 2 else None
        found.append(Info(kind=der.oid(data, parts[0]), value=value))
    return tuple(found)
