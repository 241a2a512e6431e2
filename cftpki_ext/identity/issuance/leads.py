"""
Whether whoever signs a CA's messages (CMP, say) leads to the roots that are configured. Pure.

Owns the question as enrollers put it; `path` judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cftpki_ext.path import PathRequest, Purpose, find_path
from cftpki_ext.x509.certificate import Certificate, MalformedCertificateError, parse_certificate

# What came along with a message; each may cost a signature check.
MAX_CERTIFICATES = 40


def fault_of_path(leaf: bytes, others: Sequence[bytes], roots: Sequence[bytes], now: datetime) -> str | None:
    """
    Judge the path of a certificate that signs.

    What it may be used for is *not* looked at, nor is revocation.

    Args:
        leaf: DER.
        others: certificates that may complete the path, DER; what cannot be read is passed over.
        roots: the anchors, DER.
        now: the wall-clock time.

    Returns:
        What is wrong with it, `None` where it leads to one of the roots.

    """
    try:
        certificate = parse_certificate(leaf)
    except MalformedCertificateError as error:
        return str(error)
    anchors = tuple(_readable(roots))
    if not anchors:
        return "there is no root"
    result = find_path(
        PathRequest(
            chain=(certificate, *_readable(others[:MAX_CERTIFICATES])),
            anchors=anchors,
            now=now,
            purpose=Purpose.ANY,
        )
    )
    if result.valid:
        return None
    fault = result.faults[0]
    return f"{fault.detail} ({fault.rule})"


def _readable(ders: Sequence[bytes]) -> list[Certificate]:
    found = []
    for der in ders:
        try:
            found.append(parse_certificate(der))
        except MalformedCertificateError:
            continue
    return found
