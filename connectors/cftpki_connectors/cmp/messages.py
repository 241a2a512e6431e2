"""
One PKIMessage (RFC 9810 5.1): taken apart, nothing believed yet.

Pure, and bounded. `bodies` reads what the body says, `protection` owns who may be believed.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from cftpki_connectors.cmp.reading import EXPLICIT, certificates, infos, inner, integer, reader, texts
from cftpki_connectors.cmp.values import Header, Message
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element
from cftpki_ext.x509.signed import algorithm

# A chain of ten certificates with large keys has 60 KiB; what is longer is no answer to one request.
MAX_MESSAGE_BYTES = 512 * 1024
# Transaction identifiers and nonces have 16 octets (RFC 9810 5.1.1); others' are longer.
_MAX_IDENTIFIER = 64

_IMPLICIT_CONFIRM = "1.3.6.1.5.5.7.4.13"


@reader
def parse_message(data: bytes) -> Message:
    """
    Take a message apart (RFC 9810 5.1). Who sent it is *not* looked at, nor what its body says.

    Args:
        data: as received.

    Returns:
        Its parts.

    Raises:
        MalformedMessageError: too large, or no PKIMessage in DER.

    """
    if len(data) > MAX_MESSAGE_BYTES:
        msg = f"it has {len(data)} bytes, at most {MAX_MESSAGE_BYTES} are read"
        raise DerError(msg)
    parts = der.children(data, der.whole(data), most=4)
    if len(parts) < 2:
        msg = "PKIMessage without header and body"
        raise DerError(msg)
    header, body = parts[:2]
    if not EXPLICIT <= body.tag <= EXPLICIT + 30:
        msg = f"PKIBody has the tag {body.tag:#04x}"
        raise DerError(msg)
    protection = None
    extra: tuple[bytes, ...] = ()
    last = -1
    for part in parts[2:]:
        number = part.tag - EXPLICIT
        if number not in {0, 1} or number <= last:
            msg = f"PKIMessage with a field {part.tag:#04x} out of place"
            raise DerError(msg)
        last = number
        if number == 0:
            protection = _whole_octets(data, inner(data, part))
        else:
            extra = certificates(data, inner(data, part))
    return Message(
        digest=hashlib.sha256(data).digest(),
        header=_header(data, der.expect(header, der.SEQUENCE, "PKIHeader")),
        tag=body.tag - EXPLICIT,
        body=der.encoded(data, inner(data, body)),
        protected=der.encode(der.SEQUENCE, data[header.start : body.end]),
        protection=protection,
        extra=extra,
    )


def _whole_octets(data: bytes, element: Element) -> bytes:
    octets, unused = der.bit_string(data, der.expect(element, der.BIT_STRING, "PKIProtection"))
    if unused:
        msg = "PKIProtection is not whole octets"
        raise DerError(msg)
    return octets


def _octets(data: bytes, element: Element, what: str) -> bytes:
    content = der.content(data, der.expect(element, der.OCTET_STRING, what))
    if len(content) > _MAX_IDENTIFIER:
        msg = f"{what} has {len(content)} octets, at most {_MAX_IDENTIFIER} are read"
        raise DerError(msg)
    return content


def _directory_name(data: bytes, element: Element) -> bytes | None:
    """
    The Name in a GeneralName, `None` where it is of another form.
    """
    return der.encoded(data, inner(data, element)) if element.tag == EXPLICIT + 4 else None


def _header(data: bytes, element: Element) -> Header:
    parts = der.children(data, element, most=12)
    if len(parts) < 3:
        msg = "PKIHeader without version, sender and recipient"
        raise DerError(msg)
    found: dict[int, Element] = {}
    for part in parts[3:]:
        number = part.tag - EXPLICIT
        if not 0 <= number <= 8 or number <= max(found, default=-1):
            msg = f"PKIHeader with a field {part.tag:#04x} out of place"
            raise DerError(msg)
        found[number] = inner(data, part)

    def octets(number: int, what: str) -> bytes | None:
        return _octets(data, found[number], what) if number in found else None

    general = infos(data, found[8]) if 8 in found else ()
    return Header(
        version=integer(data, parts[0]),
        sender=_directory_name(data, parts[1]),
        time=_time(data, found[0]) if 0 in found else None,
        algorithm=algorithm(data, found[1]) if 1 in found else None,
        sender_key_id=octets(2, "senderKID"),
        transaction=octets(4, "transactionID"),
        sender_nonce=octets(5, "senderNonce"),
        recipient_nonce=octets(6, "recipNonce"),
        texts=texts(data, found[7]) if 7 in found else (),
        implicit_confirm=any(one.kind == _IMPLICIT_CONFIRM for one in general),
    )


def _time(data: bytes, element: Element) -> datetime | None:
    """
    That field decides nothing: one with fractions of seconds, say, is passed over.
    """
    try:
        return der.time(data, der.expect(element, der.GENERALIZED_TIME, "messageTime"))
    except DerError:
        return None
