"""
Renewal information (RFC 9773): how a certificate is named, and what the CA's answer means. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509

from cftpki_connectors.acme.jose import base64url
from cftpki_connectors.ca.values import printable
from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.enroller_port import RenewalHint

# RFC 9773 4.3: asked every few hours; a CA that says nothing, seconds or months is not followed.
ASK_AGAIN = timedelta(hours=6)
MIN_ASK_AGAIN = timedelta(minutes=1)
MAX_ASK_AGAIN = timedelta(days=1)


def certificate_id(certificate: x509.Certificate) -> str:
    """
    The unique identifier of RFC 9773 4.1: key identifier of the issuer and serial number, as they are in DER.

    Args:
        certificate: with an authority key identifier.

    Returns:
        Two base64url parts, joined by a full stop.

    Raises:
        InputError: it names no key identifier.

    """
    try:
        authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        msg = "the certificate has no authority key identifier"
        raise InputError(msg) from error
    if authority.key_identifier is None:
        msg = "the certificate's authority key identifier holds no key identifier"
        raise InputError(msg)
    serial = certificate.serial_number
    # DER's INTEGER is signed: a serial number whose first bit is set begins with a zero octet.
    content = serial.to_bytes(serial.bit_length() // 8 + 1)
    return f"{base64url(authority.key_identifier)}.{base64url(content)}"


def parse_renewal_info(value: object, *, retry_at: datetime | None, now: datetime) -> RenewalHint | None:
    """
    Read a renewalInfo object.

    Args:
        value: decoded JSON.
        retry_at: what `Retry-After` said.
        now: wall-clock time.

    Returns:
        The hint; `None` where it is none, or the window ends before it starts (RFC 9773 4.2).

    """
    window = value.get("suggestedWindow") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(window, dict):
        return None
    start, end = instant(window.get("start")), instant(window.get("end"))
    if start is None or end is None or end <= start:
        return None
    explanation = value.get("explanationURL")
    again = now + ASK_AGAIN if retry_at is None else retry_at
    return RenewalHint(
        start=start,
        end=end,
        explanation=printable(explanation) if isinstance(explanation, str) else None,
        ask_again_at=min(max(again, now + MIN_ASK_AGAIN), now + MAX_ASK_AGAIN),
    )


def instant(value: object) -> datetime | None:
    """
    An RFC 3339 time, aware; `None` for what is none.
    """
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else None
