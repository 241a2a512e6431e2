"""
What the tests of CRLs compare: the statuses by short names, reasons of entries, numbered lists.
"""

from __future__ import annotations

from cftpki_ext.core.verdict import CertificateStatus
from tests.support.forged_crl import (
    HOUR,
    number,
    reason,
    time,
)
from tests.support.pki import NOW

GOOD, REVOKED, HELD, OPEN = (
    CertificateStatus.GOOD,
    CertificateStatus.REVOKED,
    CertificateStatus.ON_HOLD,
    CertificateStatus.UNDETERMINED,
)
HOLD, REMOVE, KEY = reason(6), reason(8), reason(1)


def numbered(crl, value, *more, at=NOW - HOUR, entries=()):
    """
    The list with another number, date and entries.
    """
    return crl.but(extensions=(number(value), *more), this_update=time(at), entries=tuple(entries))


def outcome(judged):
    return judged.status, judged.cause
