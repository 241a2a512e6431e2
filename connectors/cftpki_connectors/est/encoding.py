"""
EST's bodies: base64 as servers really write it, and the certificates in a PKCS#7 that nobody signed.

Pure; every input is bounded. What certificates say is not looked at.
"""

from __future__ import annotations

import base64
import binascii
import re

from cftpki_connectors.ca.certs_only import MalformedBodyError, read_certificates
from cftpki_connectors.ca.values import MAX_CERTIFICATES
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.support import pem

# The body of every answer, before and after base64.
MAX_BODY_BYTES = 1024 * 1024
# libest's server reads no more than this of a request (EST_HTTP_REQ_DATA_MAX); 3.2.0 reads twice as much.
LIBEST_REQUEST_BYTES = 4096
LIBEST_LIMIT = "servers of libest read 4096 or 8192, by version"

_LINE_CHARACTERS = 64
_WHITESPACE = b" \t\r\n\f\v"
# One pass whatever comes, like everything here: an answer of a megabyte must not hold up the handshakes.
_PEM = re.compile(rb"-----BEGIN (PKCS7|CMS|PKCS #7 SIGNED DATA)-----([^-]*+)-----END \1-----")
_CERTIFICATE_PEM = b"-----BEGIN "
_UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """
    The certificates of an answer (DER) in the order in which they came, and what was odd about it.
    """

    ders: tuple[bytes, ...]
    notes: tuple[str, ...] = ()


def encode(data: bytes) -> bytes:
    """
    Base64 as every server reads it: lines of 64 characters with CRLF (libest answers 400 to one long line).
    """
    text = base64.b64encode(data)
    lines = (text[start : start + _LINE_CHARACTERS] for start in range(0, len(text), _LINE_CHARACTERS))
    return b"".join(line + b"\r\n" for line in lines)


def decode(body: bytes) -> tuple[bytes, str | None]:
    """
    The binary content of a body (RFC 8951 section 3.1), however it is transferred.

    By default base64 with any line length and any ASCII white space; missing padding, raw DER and PEM
    around it are taken with a note. `Content-Transfer-Encoding` is never looked at: it says nothing.

    Args:
        body: as received.

    Returns:
        The bytes, and what was odd.

    Raises:
        MalformedBodyError: empty, too large, or none of these.

    """
    if len(body) > MAX_BODY_BYTES:
        msg = f"the body has {len(body)} bytes, {MAX_BODY_BYTES} are read"
        raise MalformedBodyError(msg)
    if body[:1] == b"\x30":
        # No base64 of a SEQUENCE begins with the digit 0: it would be an M.
        return body, "the server sends DER without base64"
    pem = _PEM.search(body)
    text = (pem[2] if pem else body).removeprefix(_UTF8_MARK).translate(None, delete=_WHITESPACE)
    text = text.rstrip(b"\x00")  # libest's csrattrs ends with the NUL of its C string
    if not text:
        msg = "the body is empty"
        raise MalformedBodyError(msg)
    missing = -len(text) % 4
    try:
        data = binascii.a2b_base64(text + b"=" * missing, strict_mode=True)
    except binascii.Error as error:
        msg = "the body is not base64"
        raise MalformedBodyError(msg) from error
    if pem:
        return data, "the server sends PEM instead of bare base64"
    return data, "the server leaves out the padding of its base64" if missing else None


def certificates(body: bytes) -> Certificates:
    """
    The certificates of a certs-only answer (RFC 7030 4.1.3, 4.2.3).

    By default a degenerate PKCS#7, DER or BER. One bare certificate, and certificates in PEM, are taken with
    a note. Signatures and the order of certificates are not checked.

    Args:
        body: as received.

    Returns:
        At least one certificate, duplicates left out.

    Raises:
        MalformedBodyError: no such thing, none in it, or more than `MAX_CERTIFICATES`.

    """
    if _CERTIFICATE_PEM in body[:MAX_BODY_BYTES] and not _PEM.search(body[:MAX_BODY_BYTES]):
        found, note = _from_pem(body), "the server sends certificates in PEM instead of PKCS#7"
    else:
        data, odd = decode(body)
        found, bare = read_certificates(data)
        note = "; ".join(part for part in (odd, bare) if part)
    if not found:
        msg = "the answer holds no certificate"
        raise MalformedBodyError(msg)
    if len(found) > MAX_CERTIFICATES:
        msg = f"the answer holds {len(found)} certificates, {MAX_CERTIFICATES} are read"
        raise MalformedBodyError(msg)
    return Certificates(ders=tuple(dict.fromkeys(found)), notes=(note,) if note else ())


def _from_pem(body: bytes) -> tuple[bytes, ...]:
    if len(body) > MAX_BODY_BYTES:
        msg = f"the body has {len(body)} bytes, {MAX_BODY_BYTES} are read"
        raise MalformedBodyError(msg)
    try:
        return pem.certificates(body, what="the answer")
    except InputError as error:
        raise MalformedBodyError(str(error)) from error
