"""
EST's bodies: base64 as servers really write it, and the certificates in a PKCS#7 that nobody signed.

Pure; every input is bounded. What certificates say is not looked at.
"""

from __future__ import annotations

import base64
import binascii
import re
import warnings

from asn1crypto import cms, parser  # type: ignore[import-untyped]  # it has no stubs
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from cftpki_ext.core.errors import CftPkiError, InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.support import pem
from cftpki_ext.x509 import der

# A CA's list of certificates: some roots of a rollover and their intermediates. A hundred are a mistake.
MAX_CERTIFICATES = 64
# The body of every answer, before and after base64.
MAX_BODY_BYTES = 1024 * 1024
# What only asn1crypto reads: it takes 10 s of CPU for a megabyte of the worst, and real answers have 10 KiB.
MAX_BER_BYTES = 64 * 1024
# libest's server reads no more than this of a request (EST_HTTP_REQ_DATA_MAX); 3.2.0 reads twice as much.
LIBEST_REQUEST_BYTES = 4096
LIBEST_LIMIT = "servers of libest read 4096 or 8192, by version"

_LINE_CHARACTERS = 64
_WHITESPACE = b" \t\r\n\f\v"
# One pass whatever comes, like everything here: an answer of a megabyte must not hold up the handshakes.
_PEM = re.compile(rb"-----BEGIN (PKCS7|CMS|PKCS #7 SIGNED DATA)-----([^-]*+)-----END \1-----")
_CERTIFICATE_PEM = b"-----BEGIN "
_UTF8_MARK = b"\xef\xbb\xbf"
_SIGNED_DATA = "1.2.840.113549.1.7.2"


class MalformedBodyError(CftPkiError):
    """
    A body is not what its operation answers with.
    """


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
        found, bare = _from_der(data)
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


def _from_der(data: bytes) -> tuple[tuple[bytes, ...], str | None]:
    if _is_certificate(data):
        return (data,), "the server sends a bare certificate instead of PKCS#7"
    with warnings.catch_warnings():
        # Where its own parser gives up, cryptography tries OpenSSL's and says that it may stop doing so.
        warnings.simplefilter("ignore")
        try:
            loaded = pkcs7.load_der_pkcs7_certificates(data)
            return tuple(one.public_bytes(Encoding.DER) for one in loaded), None
        except Exception:  # noqa: BLE001  # it refuses certificates it dislikes: they are the gate's business
            return _from_ber(data), None


def _from_ber(data: bytes) -> tuple[bytes, ...]:
    """
    The same by asn1crypto: BER with indefinite lengths, and certificates that cryptography does not load.
    """
    if len(data) > MAX_BER_BYTES:
        msg = f"the body is not the PKCS#7 that is expected; another is read up to {MAX_BER_BYTES} bytes"
        raise MalformedBodyError(msg)
    try:
        info = cms.ContentInfo.load(data, strict=True)
        if info["content_type"].dotted != _SIGNED_DATA:
            return ()
        choices = info["content"]["certificates"]
        if not isinstance(choices, cms.CertificateSet):
            return ()
        _check_number(choices.contents)
        return tuple(one.chosen.dump() for one in choices if one.name == "certificate")
    except MalformedBodyError:
        raise
    except Exception as error:  # asn1crypto raises whatever a damaged structure leads it to
        msg = "the body is neither PKCS#7 nor a certificate"
        raise MalformedBodyError(msg) from error


def _check_number(listed: bytes) -> None:
    """
    Refuse more values than are read before objects are made of them.
    """
    for _ in range(MAX_CERTIFICATES):
        if not listed:
            return
        listed = listed[parser.peek(listed) :]
    if listed:
        msg = f"the answer holds more than the {MAX_CERTIFICATES} certificates that are read"
        raise MalformedBodyError(msg)


def _is_certificate(data: bytes) -> bool:
    """
    Whether a SEQUENCE begins with a SEQUENCE (tbsCertificate) and not with a content type.
    """
    try:
        parts = der.children(data, der.whole(data))
    except der.DerError:
        return False
    return len(parts) == 3 and parts[0].tag == der.SEQUENCE and parts[2].tag == der.BIT_STRING
