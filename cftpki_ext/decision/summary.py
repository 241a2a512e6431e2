"""
What a verdict says to a person: one line each, in plain words, safe for a log.

Owns the wording; decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cftpki_ext.core.alerts import Alert
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.escape import printable
from cftpki_ext.core.verdict import CertificateFinding, CertificateStatus, Fault, PathEntry, Reason, at_depth
from cftpki_ext.x509.certificate import Certificate

# A summary is one line of a log and one field of the wire (1 KiB of UTF-8).
_SUMMARY_CHARACTERS = 250


def refusal(certificates: Sequence[Certificate], fault: Fault, alert: int) -> str:
    """
    The line about a refusal: alert, which certificate, what about it.

    Args:
        certificates: the path, or what was presented where there is none.
        fault: the one that decides.
        alert: the alert's number.

    Returns:
        One printable line.

    """
    where = ""
    if fault.depth is not None:
        known = fault.depth < len(certificates) and fault.reason is not Reason.MALFORMED
        where = f"{at_depth(fault.depth, certificates[fault.depth].label if known else '')}, "
    elif certificates:
        where = f"{certificates[0].label}, "
    return shorten(f"refused {alert} {Alert(alert).name.lower()}: {where}{fault.detail}")


def acceptance(
    path: Sequence[Certificate],
    findings: Sequence[CertificateFinding],
    by_directory: CertificateFinding | None = None,
    *,
    path_only: bool,
) -> str:
    """
    The line about an acceptance: whom, and on whose word.

    Args:
        path: leaf first.
        findings: of the certificates whose status was judged.
        by_directory: what the directory says of the partner, where there is one.
        path_only: revocation was left out.

    Returns:
        One printable line.

    """
    subject = path[0].label
    if path_only:
        return shorten(f"accepted: {subject}, by its path alone; revocation was left out on request")
    words = "; ".join(
        f"{at_depth(f.depth)} {f.detail}"
        if f.status is CertificateStatus.GOOD
        else f"{at_depth(f.depth)} by policy, {(f.cause or Cause.NO_SOURCE).value}"
        for f in findings
    )
    known = f"; {by_directory.detail}" if by_directory is not None else ""
    return shorten(f"accepted: {subject}{f'; {words}' if words else ', trusted itself'}{known}")


def shorten(text: str) -> str:
    """
    The text without anything unprintable, cut to the length of a summary.
    """
    clean = printable(text)
    return clean if len(clean) <= _SUMMARY_CHARACTERS else f"{clean[: _SUMMARY_CHARACTERS - 1]}…"


def entry(certificate: Certificate) -> PathEntry:
    """
    A certificate of the path as evidence.
    """
    return PathEntry(
        subject=certificate.subject.text,
        issuer=certificate.issuer.text,
        serial=certificate.serial_hex,
        fingerprint=certificate.fingerprint,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
    )


def moment(at: datetime) -> str:
    """
    A time as a person reads it, in UTC.
    """
    return at.strftime("%Y-%m-%d %H:%M:%SZ")


def age_text(length: timedelta) -> str:
    """
    How old something is, roughly, as a person says it.
    """
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def span(length: timedelta) -> str:
    """
    A length of time in hours.
    """
    return f"{length.total_seconds() / 3600:g} h"
