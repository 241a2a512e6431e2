"""
What a library or the operating system says went wrong, in words for a person.

Owns the translation: no text of a parser, no number of a line in somebody's source, no representation of an object.
The exception itself travels by `raise … from`.
"""

from __future__ import annotations

import binascii
import json
import os
import re
import ssl
from collections.abc import Iterator

from cftpki_ext.core.escape import printable

# Says that something failed and not what: the reason lies below it.
_NOTHING_SAID = re.compile(r"$|\[|All connection attempts failed|Multiple exceptions")
_ERRNO = re.compile(r"\[Errno (\d+)\]")
# h11 shows the octets that it stumbled over.
_OCTETS = re.compile(r":?\s*(?:bytearray\(|b['\"]).*", re.DOTALL)
# cryptography, asn1crypto and OpenSSL's decoders, in their own notation.
_NOTATION = re.compile(r"ParseError|ASN\.?1|deserializ|Unable to load|Error parsing|_ssl\.c", re.IGNORECASE)
# Deeper than any chain of exceptions that is no circle.
_MOST_LINKS = 32


def reason_of(error: BaseException) -> str:
    """
    Why something failed: a lower-case clause without the library's own notation.

    Args:
        error: of the operating system, OpenSSL, an HTTP or DNS client, or a decoder.

    Returns:
        One printable line; where nothing is known, the kind of the exception.

    """
    for link in _links(error):
        said = _known(link)
        if said is not None:
            return printable(said)
    numbers = _ERRNO.findall(str(error))
    if numbers:
        return printable(os.strerror(int(numbers[0])).lower())
    return type(error).__name__


def _links(error: BaseException) -> Iterator[BaseException]:
    """
    The exception and what lies below it, outermost first; of several at once, the first.
    """
    link: BaseException | None = error
    for _ in range(_MOST_LINKS):
        if isinstance(link, BaseExceptionGroup):
            link = link.exceptions[0]
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__


def _known(error: BaseException) -> str | None:
    match error:
        case ssl.SSLCertVerificationError():
            return f"certificate verify failed: {error.verify_message}"
        case ssl.SSLError():
            return _tls(error)
        case json.JSONDecodeError():
            return f"not JSON (line {error.lineno}, column {error.colno})"
        case UnicodeDecodeError():
            return f"not {error.encoding.upper()} text (octet {error.start})"
        case UnicodeEncodeError():
            return f"holds a character that {error.encoding.upper()} does not have"
        case binascii.Error():
            return "not base64"
        case RecursionError():
            return "nested too deeply"
        case OSError() if error.errno is not None and error.errno > 0:
            return os.strerror(error.errno).lower()
        case OSError() if error.strerror:  # of getaddrinfo(3), whose numbers are its own
            return str(error.strerror).lower()
        case TimeoutError():
            return "timed out"
    text = _OCTETS.sub("", str(error)).strip().rstrip(".")
    if _NOTHING_SAID.match(text):
        return None
    return "its structure cannot be read" if _NOTATION.search(text) else f"{text[:1].lower()}{text[1:]}"


def _tls(error: ssl.SSLError) -> str:
    words = (error.reason or "").lower().replace("_", " ")
    _, alert, name = words.partition(" alert ")
    if alert:
        return f"the peer ended the TLS session with alert {name.replace(' ', '_')}"
    return f"TLS: {words}" if words else "OpenSSL cannot use it"
