"""
Why a certificate is revoked: the names and numbers of RFC 5280.

Owns these tables; whoever writes a reason, reads one or asks for one takes it from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CERTIFICATE_HOLD = "certificateHold"
REMOVE_FROM_CRL = "removeFromCRL"

# CRLReason (RFC 5280 5.3.1); 7 is not used.
REASONS: Mapping[int, str] = MappingProxyType(
    {
        0: "unspecified",
        1: "keyCompromise",
        2: "cACompromise",
        3: "affiliationChanged",
        4: "superseded",
        5: "cessationOfOperation",
        6: CERTIFICATE_HOLD,
        8: REMOVE_FROM_CRL,
        9: "privilegeWithdrawn",
        10: "aACompromise",
    }
)
REASON_CODES: Mapping[str, int] = MappingProxyType({name: code for code, name in REASONS.items()})

# The bits of ReasonFlags (RFC 5280 4.2.1.13), in their order; bit 0 is unused.
REASON_FLAGS = (
    "unused",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    CERTIFICATE_HOLD,
    "privilegeWithdrawn",
    "aACompromise",
)
# Those that together make a full answer.
ALL_REASONS = frozenset(REASON_FLAGS[1:])
