"""
Many verdicts at a glance: one row each, and their tally, from live verdicts and from stored documents alike.

Pure. A row is read from a document without making its record anew, so that a year's ledger is listed quickly.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import RANK, Reason, Status, Verdict, strongest
from cftpki_ext.evidence.reading import data_of
from cftpki_ext.evidence.record import Asked, Door

# Partners that are remembered by name for the list of those who would be refused.
MAX_PARTNERS = 1024
_NO_PARTNER = "(no certificate)"
_EXCEPTED = " exception"
# Asked for each verdict, and the value of an enumeration is two calls of functions.
_ACCEPTED, _REFRESH = Status.ACCEPTED.value, Door.REFRESH.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One verdict. `would_refuse` is set where a policy that only audits let in whom it found a fault with.
    """

    id: str
    at: str  # RFC 3339
    status: str
    reason: str | None
    alert: int
    would_refuse: str | None
    warned: bool
    partner: str
    serial: str | None
    fingerprint: str | None
    rule: str | None
    trust: str | None
    policy: str
    door: str
    remote: str
    summary: str
    policy_rows: tuple[str, ...] = ()  # each cause and what its row did, as "older_good accept_warn"

    @property
    def refused(self) -> bool:
        """
        Whether the partner was turned away.
        """
        return self.status != _ACCEPTED

    @property
    def by_exception(self) -> bool:
        """
        Whether an exception of the partner did what a row of the policy did not.
        """
        return any(row.endswith(_EXCEPTED) for row in self.policy_rows)


def row_of(verdict: Verdict, asked: Asked) -> Row:
    """
    The row of a verdict.

    Args:
        verdict: any verdict.
        asked: through which door, and by whom.

    Returns:
        The row.

    """
    evidence = verdict.evidence
    leaf = evidence.path[0] if evidence.path else None
    return Row(
        id=verdict.id,
        at=evidence.decided_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        status=verdict.status.value,
        reason=verdict.reason.value if verdict.reason else None,
        alert=verdict.alert,
        would_refuse=_text(would_refuse(verdict)),
        warned=bool(verdict.warnings),
        partner=leaf.subject if leaf else _NO_PARTNER,
        serial=leaf.serial if leaf else None,
        fingerprint=leaf.fingerprint if leaf else None,
        rule=evidence.rule,
        trust=evidence.trust,
        policy=evidence.policy,
        door=asked.door.value,
        remote=asked.remote,
        summary=verdict.summary,
        policy_rows=tuple(
            _row_text(row.cause.value, row.action.value, excepted=row.excepted) for row in evidence.rows
        ),
    )


def _row_text(cause: str, action: str, *, excepted: bool) -> str:
    """
    One applied row of the policy: an exception of the partner did what the row did not.
    """
    return f"{cause}{_EXCEPTED}" if excepted else f"{cause} {action}"


def would_refuse(verdict: Verdict) -> Reason | None:
    """
    Why an accepted verdict would have been a refusal, had its policy enforced; `None` where it would not.
    """
    if not verdict.accepted:
        return None
    deciding = strongest(verdict.evidence.faults)
    return deciding.reason if deciding else None


def row_from(document: bytes, blob: Callable[[str], bytes | None]) -> Row:
    """
    The row of a stored record.

    Args:
        document: what `encode` or `again` made.
        blob: gives the bytes of a SHA-256 (hex): where the record repeats another one, that one's.

    Returns:
        The row; what the document says is believed, `audit verify` tells whether it was touched.

    Raises:
        StoreError: it is no document of ours.

    """
    data = data_of(document, blob)
    try:
        verdict, asked = data["verdict"], data["asked"]
        evidence = verdict["evidence"]
        leaf: Mapping[str, Any] = evidence["path"][0] if evidence["path"] else {}
        reasons = {fault["reason"] for fault in evidence["faults"]}
        accepted = verdict["status"] == Status.ACCEPTED.value
        shadow = next((reason.value for reason in RANK if reason.value in reasons), None)
        return Row(
            id=verdict["id"],
            at=_milliseconds(evidence["decided_at"]),
            status=verdict["status"],
            reason=verdict["reason"],
            alert=verdict["alert"],
            would_refuse=shadow if accepted else None,
            warned=bool(verdict["warnings"]),
            partner=leaf.get("subject", _NO_PARTNER),
            serial=leaf.get("serial"),
            fingerprint=leaf.get("fingerprint"),
            rule=evidence["rule"],
            trust=evidence["trust"],
            policy=evidence["policy"],
            door=asked["door"],
            remote=asked["remote"],
            summary=verdict["summary"],
            policy_rows=tuple(
                _row_text(row["cause"], row["action"], excepted=row["excepted"])
                for row in evidence.get("rows", ())
            ),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as exc:
        msg = f"evidence document cannot be read: {type(exc).__name__}"
        raise StoreError(msg) from exc


@dataclass(slots=True)
class Shadow:
    """
    One partner whom an auditing policy would have refused for one reason.
    """

    partner: str
    fingerprint: str | None
    reason: str
    times: int
    last_id: str
    last_at: str


class Tally:
    """
    Counts of verdicts, and who would have been refused. Bounded, however many partners come by.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.accepted = 0
        self.warned = 0
        self.refused: Counter[str] = Counter()
        self.would_refuse: Counter[str] = Counter()
        self.policy_rows: Counter[str] = Counter()
        self._shadows: OrderedDict[tuple[str, str], Shadow] = OrderedDict()
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """
        Count one verdict; one that was found ahead let nobody in and refused nobody.
        """
        if row.door == _REFRESH:
            return
        if row.policy_rows:
            self.policy_rows.update(row.policy_rows)
        if row.refused:
            self.refused[row.reason or Reason.INTERNAL_ERROR.value] += 1
            return
        self.accepted += 1
        self.warned += row.warned
        if row.would_refuse is None:
            return
        self.would_refuse[row.would_refuse] += 1
        key = (row.fingerprint or row.partner, row.would_refuse)
        before = self._shadows.pop(key, None)
        # Ids sort by time; verdicts that were reached at once may come in any order.
        later = before if before is not None and before.last_id > row.id else None
        self._shadows[key] = Shadow(
            partner=row.partner,
            fingerprint=row.fingerprint,
            reason=row.would_refuse,
            times=1 + (before.times if before else 0),
            last_id=row.id if later is None else later.last_id,
            last_at=row.at if later is None else later.last_at,
        )
        if len(self._shadows) > MAX_PARTNERS:
            self._shadows.popitem(last=False)

    @property
    def shadows(self) -> tuple[Shadow, ...]:
        """
        Who would have been refused, the latest first.
        """
        return tuple(reversed(self._shadows.values()))

    def counts(self) -> dict[str, Any]:
        """
        The counts as plain data.
        """
        return {
            "accepted": self.accepted,
            "accepted_with_warnings": self.warned,
            "refused": dict(self.refused),
            "would_be_refused": dict(self.would_refuse),
            "policy_rows": dict(self.policy_rows),
        }


def _text(reason: Reason | None) -> str | None:
    return None if reason is None else reason.value


def _milliseconds(text: str) -> str:
    return datetime.fromisoformat(text).isoformat(timespec="milliseconds").replace("+00:00", "Z")
