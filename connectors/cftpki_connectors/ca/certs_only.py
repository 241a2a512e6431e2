"""
Certificates in a CMS that nobody signed ("certs-only", RFC 5272 4.1), as EST and SCEP hand them out.

Pure; every input is bounded. What certificates say is not looked at.
"""

from __future__ import annotations

import warnings

from asn1crypto import cms, parser  # type: ignore[import-untyped]  # it has no stubs
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from cftpki_connectors.ca.values import MAX_CERTIFICATES
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.x509 import der

# What only asn1crypto reads: it takes 10 s of CPU for a megabyte of the worst, and real answers have 10 KiB.
MAX_BER_BYTES = 64 * 1024

_SIGNED_DATA = "1.2.840.113549.1.7.2"


class MalformedBodyError(CftPkiError):
    """
    A body is not what its operation answers with.
    """


def read_certificates(data: bytes) -> tuple[tuple[bytes, ...], str | None]:
    """
    The certificates of a degenerate PKCS#7 or CMS, DER or BER; one bare certificate is taken with a note.

    Signatures and the order of certificates are not checked, duplicates are left in.

    Args:
        data: as received, at most some megabytes.

    Returns:
        The certificates (DER), perhaps none, and what was odd.

    Raises:
        MalformedBodyError: no such thing, or more than `MAX_CERTIFICATES` where asn1crypto has to read it.

    """
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
