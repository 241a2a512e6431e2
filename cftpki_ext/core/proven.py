"""
What evidence and the memory of revocations say of a certificate that was proved revoked.
"""

from __future__ import annotations

from datetime import datetime

from cftpki_ext.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """
    That a statement proves a certificate revoked: by the key of the one and the SHA-256 (hex) of the other.

    `final` is what no newer statement lifts; `ends` is the certificate's notAfter.
    """

    certificate: str
    digest: str
    final: bool
    ends: datetime
