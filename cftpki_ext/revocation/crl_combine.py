"""
What several CRLs together say of one certificate: RFC 5280 sections 5.2.4 and 6.3.3 (c) and (i) to (l).

Owns the combination: reasons added up over lists, deltas on their bases, holds and their release, revocation that no
list takes back. Pure.
"""

from __future__ import annotations

from datetime import datetime

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import CertificateStatus
from cftpki_ext.revocation.crl_entry import Entry
from cftpki_ext.revocation.crl_parse import CrlView
from cftpki_ext.revocation.crl_signer import Signer
from cftpki_ext.x509.reasons import ALL_REASONS, CERTIFICATE_HOLD, REMOVE_FROM_CRL

# Which cause speaks for a certificate on which nothing was established. First those that say most of what is at hand: an
# authentic list in scope that is only too old, then what is wrong with the others, then how asking failed.
_CAUSE_RANK = (
    Cause.STALE,
    Cause.BAD_SIGNATURE,
    Cause.MALFORMED,
    Cause.UNREADABLE,
    Cause.TOO_LARGE,
    Cause.WRONG_SCOPE,
    Cause.FORBIDDEN_URL,
)


@dataclass(slots=True, kw_only=True, eq=False)
class Heard:
    """
    One statement on its way through the checks. `cause` is why "not listed" must not be concluded from it.

    `view` is set once it was read, `signer` once it is known to be authentic, `entry` where it has the serial.
    """

    statement: Statement
    view: CrlView | None = None
    signer: Signer | None = None
    entry: Entry | None = None
    reasons: frozenset[str] = frozenset()
    cause: Cause | None = None
    detail: str = ""
    expired: bool = False  # the cause is nextUpdate alone, which a fresh delta makes up for
    doubtful: bool = False  # nothing good follows from its form or its signature
    foreign: bool = False  # not about this certificate at all
    status: CertificateStatus = CertificateStatus.UNDETERMINED

    def refuse(self, cause: Cause, detail: str) -> None:
        """
        Note why nothing good follows from this statement.
        """
        self.cause = cause
        self.detail = detail


def combine(heard: list[Heard], now: datetime) -> tuple[CertificateStatus, Cause | None, str]:
    """
    Weigh all lists against each other, and give each its own status.

    An authentic list with the serial counts however old it is, and only a hold is ever lifted. "Not listed" counts
    from lists without a `cause`, when their reasons together are all reasons.

    Args:
        heard: all statements, checked one by one; those with a signer are authentic.
        now: the time of the decision.

    Returns:
        The status, the cause where it is undetermined, and a clause for a person.

    """
    authentic = [item for item in heard if item.signer is not None]
    covered: frozenset[str] = frozenset()
    bases: list[Heard] = []
    newest = _newest_by_scope(authentic, now)
    for item in authentic:
        if item.view is None or _is_delta(item):
            continue
        if item.expired and any(_extends(delta, item) for delta in authentic):
            item.cause, item.detail = None, "past its nextUpdate, continued by a delta"
        scope = _scope(item.view)
        if item.cause is None and item.entry is None and newest.get(scope, _age(item.view)) > _age(item.view):
            item.refuse(Cause.STALE, "a newer list of the same scope is at hand")
        elif item.cause is None:
            bases.append(item)
    hold: Heard | None = None
    for item in authentic:
        entry = item.entry
        if entry is None or (_is_delta(item) and entry.reason == REMOVE_FROM_CRL):
            continue
        if entry.reason != CERTIFICATE_HOLD:
            item.status = CertificateStatus.REVOKED
        elif not _is_lifted(item, authentic, bases):
            item.status = CertificateStatus.ON_HOLD
            hold = item
        elif item not in bases or not any(_takes_back(delta, item) for delta in authentic):
            item.refuse(Cause.STALE, "a newer list of the same scope no longer has this hold")
            bases = [base for base in bases if base is not item]
    revoked = next((item for item in authentic if item.status is CertificateStatus.REVOKED), None)
    if revoked is not None or hold is not None:
        for item in authentic:
            if item.cause is None and item.entry is None:
                item.refuse(Cause.STALE, "another list has the serial")
    if revoked is not None and revoked.entry is not None:
        return (
            CertificateStatus.REVOKED,
            None,
            f"revoked{_since(revoked.entry, ' at')} ({revoked.entry.reason})",
        )
    if hold is not None and hold.entry is not None:
        return CertificateStatus.ON_HOLD, None, f"on hold{_since(hold.entry, ' since')}"
    for base in bases:
        covered |= base.reasons
    if covered >= ALL_REASONS:
        _mark_good(bases, authentic)
        return CertificateStatus.GOOD, None, ""
    for item in authentic:
        if item.cause is None:
            item.refuse(Cause.WRONG_SCOPE, _what_is_missing(item, covered))
    cause, detail = _speaking_cause(heard)
    return CertificateStatus.UNDETERMINED, cause, detail


def _since(entry: Entry, word: str) -> str:
    return "" if entry.revoked_at is None else f"{word} {entry.revoked_at.isoformat()}"


def _mark_good(bases: list[Heard], authentic: list[Heard]) -> None:
    for item in authentic:
        if item in bases or (
            _is_delta(item) and item.cause is None and any(_extends(item, base) for base in bases)
        ):
            item.status = CertificateStatus.GOOD
        elif item.cause is None:
            item.refuse(Cause.WRONG_SCOPE, "a delta without the list that it belongs to")


def _what_is_missing(item: Heard, covered: frozenset[str]) -> str:
    if _is_delta(item):
        return "a delta without the list that it belongs to"
    return f"the lists at hand do not cover the reasons {', '.join(sorted(ALL_REASONS - covered))}"


def _speaking_cause(heard: list[Heard]) -> tuple[Cause, str]:
    if not heard:
        return Cause.NO_SOURCE, "no CRL at hand"
    last = len(_CAUSE_RANK)

    def rank(item: Heard) -> int:
        if item.foreign:
            return last + 1
        return _CAUSE_RANK.index(item.cause) if item.cause in _CAUSE_RANK else last

    first = min(heard, key=rank)
    return first.cause or Cause.MALFORMED, first.detail


def _is_delta(item: Heard) -> bool:
    return item.view is not None and item.view.base_number is not None


def _same_scope(one: Heard, other: Heard) -> bool:
    a, b = one.view, other.view
    return a is not None and b is not None and _scope(a) == _scope(b)


def _is_newer(one: Heard, other: Heard) -> bool:
    """
    Newer by its date and, where both lists have one, by its number too.
    """
    a, b = one.view, other.view
    if a is None or b is None or a.this_update <= b.this_update:
        return False
    return a.number is None or b.number is None or a.number > b.number


def _belongs(delta: Heard, base: Heard) -> bool:
    """
    RFC 5280 5.2.4 and 6.3.3 (c): same issuer, scope and key, and numbers and dates in order.
    """
    d, b = delta.view, base.view
    if d is None or b is None or delta.signer is None or base.signer is None:
        return False
    if d.base_number is None or d.number is None or b.base_number is not None or b.number is None:
        return False
    return (
        _same_scope(delta, base)
        and d.authority_key_id == b.authority_key_id
        and delta.signer.certificate.spki == base.signer.certificate.spki
        and d.base_number <= b.number < d.number
        and b.this_update <= d.this_update
    )


def _extends(delta: Heard, base: Heard) -> bool:
    return delta.cause is None and _belongs(delta, base)


def _takes_back(delta: Heard, item: Heard) -> bool:
    """
    Whether a delta says removeFromCRL of what a list, or an older delta of the same key and scope, holds.
    """
    d, i = delta.view, item.view
    if delta.entry is None or delta.entry.reason != REMOVE_FROM_CRL or delta.cause is not None:
        return False
    if d is None or i is None or delta.signer is None or item.signer is None:
        return False
    if not _is_delta(item):
        return _belongs(delta, item)
    return (
        _same_scope(delta, item)
        and delta.signer.certificate.spki == item.signer.certificate.spki
        and _is_newer(delta, item)
    )


def _scope(view: CrlView) -> tuple[str, bytes | None]:
    """
    What two lists have in common of which one replaces the other.
    """
    return view.issuer.key, view.idp_der


def _age(view: CrlView) -> tuple[datetime, int]:
    return view.this_update, view.number or 0


def _newest_by_scope(
    authentic: list[Heard], now: datetime
) -> dict[tuple[str, bytes | None], tuple[datetime, int]]:
    """
    The age of the newest complete list of each scope: the silence of an older one no longer counts.

    In one pass, because a file may hold a thousand lists.
    """
    newest: dict[tuple[str, bytes | None], tuple[datetime, int]] = {}
    for item in authentic:
        view = item.view
        if view is None or item.doubtful:
            continue  # nothing good follows from it, so that it replaces nothing either
        if not _is_delta(item) and view.this_update <= now:
            scope, age = _scope(view), _age(view)
            newest[scope] = max(age, newest.get(scope, age))
    return newest


def _is_lifted(item: Heard, authentic: list[Heard], bases: list[Heard]) -> bool:
    """
    Whether a hold was released: by removeFromCRL in a delta, or by a newer list that is without it.
    """
    if any(_takes_back(delta, item) for delta in authentic):
        return True
    return any(base.entry is None and _same_scope(base, item) and _is_newer(base, item) for base in bases)
