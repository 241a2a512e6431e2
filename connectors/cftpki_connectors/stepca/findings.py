"""
What we can see ourselves when step-ca says a vague no, and about its clock.

Pure: times are arguments.
"""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import urlsplit

from cftpki_connectors.ca.client import CaError
from cftpki_connectors.ca.clocks import SKEW_SEEN, SKEW_TOLD, skew_text
from cftpki_connectors.stepca.client import ErrorAnswerError
from cftpki_connectors.stepca.credentials import Credentials
from cftpki_connectors.stepca.options import StepCaOptions
from cftpki_ext.identity.enroller_port import Order

_UNAUTHORIZED = 401
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_MAX_DURATION = 64  # characters: longer than any that Go writes
_TERM = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(h|ms|m|s|us|µs|ns)")


def explained(
    error: ErrorAnswerError, order: Order, credentials: Credentials, *, options: StepCaOptions, now: datetime
) -> CaError:
    """
    The refusal of a signature with everything that may be its reason.

    What the CA says is deliberately vague; its log has the reason under the request id.

    Args:
        error: the CA's answer.
        order: what was asked for.
        credentials: by what.
        options: where.
        now: our time when the answer came.

    Returns:
        The same fault with a longer detail.

    """
    told = [error.detail]
    ahead = None if error.date is None else now - error.date
    if error.status == _UNAUTHORIZED and ahead is not None:
        if ahead < -SKEW_SEEN:
            told.append(
                f"{skew_text(ahead)}, and a token dated before the CA's start is refused: set the clock"
            )
        elif ahead > SKEW_TOLD:
            told.append(f"{skew_text(ahead)}: set the clock")
    if credentials.listed is not None and order.lifetime_s is not None:
        limit_s = go_seconds(str(credentials.listed.claims.get("maxTLSCertDuration", "")))
        if limit_s is not None and order.lifetime_s > limit_s:
            told.append(f"{order.lifetime_s} s are asked for, the provisioner's limit is {limit_s:.0f} s")
    if credentials.until is not None and order.lifetime_s is not None:
        left_s = (credentials.until - now).total_seconds()
        if order.lifetime_s > left_s:
            told.append(f"{order.lifetime_s} s are asked for, the chain in chain_file ends in {left_s:.0f} s")
    if error.status == _UNAUTHORIZED:
        host = urlsplit(options.audience or options.url).hostname
        told.append(f"{host!r} must be among the CA's dnsNames (option audience names another one)")
    return CaError(error.fault, "; ".join(told), sent=error.sent, retry_at=error.retry_at)


def go_seconds(text: str) -> float | None:
    """
    A Go duration like `24h0m0s`; `None` for what is none.
    """
    terms = _TERM.findall(text) if len(text) <= _MAX_DURATION else []
    if not terms or "".join(number + unit for number, unit in terms) != text:
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in terms)
