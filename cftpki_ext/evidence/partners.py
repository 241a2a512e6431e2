"""
Who the partners are and how they stand, from stored records and from what is remembered of those that were accepted lately.

Owns the row of one partner and how rows of several places become one. Pure; bounded, however many come by.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.verdict import CertificateStatus, Reason, Status
from cftpki_ext.evidence.again import plain_of, repeated_by
from cftpki_ext.evidence.record import MAX_DOCUMENT_BYTES, Door

# Twice the partners that are refreshed; strangers that were refused push out the one not seen for longest.
MAX_PARTNERS = 20_000
# A partner that comes again and again repeats one record for an hour at most.
_REPEATED = 4096
# Of a text that somebody else chose: a certificate has room for names of tens of thousands of characters. `cftpki explain` has them whole.
MOST_CHARACTERS = 1024
_WORST = (
    CertificateStatus.REVOKED.value,
    CertificateStatus.ON_HOLD.value,
    CertificateStatus.UNDETERMINED.value,
    CertificateStatus.GOOD.value,
)
# How `decision.blocked` names the entry that a fault is about.
_BLOCK = "block "
_BY_EXCEPTION = "accepted by the exception of policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartnerRow:
    """
    One partner, by the SHA-256 of its certificate. Times are aware; texts are as the partner chose them, up to `MOST_CHARACTERS`.

    `last_at` and what follows are of the newest verdict; `source` is whose word it rests on. `excepted_at` is when an
    exception let it in last, and `excepted` what the verdict said of it; `blocked` is what the newest verdict says it was
    blocked by.
    """

    fingerprint: str
    subject: str
    serial: str | None = None
    ends: datetime | None = None
    rule: str | None = None
    trust: str | None = None
    last_at: datetime | None = None
    status: str | None = None
    reason: str | None = None
    alert: int = 0
    verdict_id: str | None = None
    summary: str = ""
    source: str | None = None
    accepted_at: datetime | None = None
    refused_at: datetime | None = None
    verdicts: int = 0
    excepted_at: datetime | None = None
    excepted: str | None = None
    excepted_times: int = 0
    blocked: tuple[str, ...] = ()


class Partners:
    """
    The rows, as records and memories come in, in any order.
    """

    def __init__(self, most: int = MAX_PARTNERS) -> None:
        self._most = most
        self._rows: OrderedDict[str, PartnerRow] = OrderedDict()
        self._repeated: OrderedDict[str, PartnerRow | None] = OrderedDict()
        self.let_go = 0

    def add_record(self, document: bytes, blob: Callable[[str], bytes | None]) -> None:
        """
        Take a stored record into account. One that was found ahead counts where it refuses.

        Args:
            document: what `encode` or `again` made.
            blob: gives the bytes of a SHA-256 (hex).

        Raises:
            StoreError: it is no document of ours. What it says is believed: `audit verify` tells whether it was touched.

        """
        try:
            plain = plain_of(document)
            digest = repeated_by(plain)
            row = _row_of(plain) if digest is None else self._repeated_row(digest, blob)
            if row is None:
                return
            if digest is not None:
                at = _time(plain["at"])
                row = replace(row, last_at=at, verdict_id=str(plain["id"]), accepted_at=at)
            door = str(plain["asked"]["door"])
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as exc:
            msg = f"evidence document cannot be read: {type(exc).__name__}"
            raise StoreError(msg) from exc
        if door != Door.REFRESH.value or row.status != Status.ACCEPTED.value:
            self.add(row)

    def add(self, row: PartnerRow) -> None:
        """
        Take a row into account: the newest says how the partner stands, the others add what it lacks.
        """
        row = _cut(row)
        before = self._rows.pop(row.fingerprint, None)
        self._rows[row.fingerprint] = row if before is None else _joined(before, row)
        if len(self._rows) > self._most:
            self._rows.popitem(last=False)
            self.let_go += 1

    @property
    def rows(self) -> tuple[PartnerRow, ...]:
        """
        The rows, the one that was seen last first.
        """
        never = datetime.min.replace(tzinfo=UTC)
        return tuple(
            sorted(self._rows.values(), key=lambda row: (row.last_at or never, row.fingerprint), reverse=True)
        )

    def _repeated_row(self, digest: str, blob: Callable[[str], bytes | None]) -> PartnerRow | None:
        """
        The row of a record that others repeat. The row alone is kept: the document may be long.
        """
        if digest not in self._repeated:
            raw = blob(digest)
            if raw is not None and (len(raw) > MAX_DOCUMENT_BYTES or sha256(raw).hexdigest() != digest):
                raw = None
            whole = None if raw is None else json.loads(raw)
            row = _row_of(whole) if isinstance(whole, dict) else None
            self._repeated[digest] = None if row is None else _cut(row)
            if len(self._repeated) > _REPEATED:
                self._repeated.popitem(last=False)
        self._repeated.move_to_end(digest)
        return self._repeated[digest]


def _row_of(data: Mapping[str, Any]) -> PartnerRow | None:
    """
    The row of a whole document; `None` where no certificate was judged.
    """
    verdict = data["verdict"]
    evidence = verdict["evidence"]
    if not evidence["path"]:
        return None
    leaf = evidence["path"][0]
    at = _time(evidence["decided_at"])
    accepted = verdict["status"] == Status.ACCEPTED.value
    excepted = any(row["excepted"] for row in evidence.get("rows", ()))
    said = next((one for one in verdict["warnings"] if one.startswith(_BY_EXCEPTION)), None)
    return PartnerRow(
        fingerprint=str(leaf["fingerprint"]),
        subject=str(leaf["subject"]),
        serial=str(leaf["serial"]),
        ends=None if leaf["not_after"] is None else _time(leaf["not_after"]),
        rule=evidence["rule"],
        trust=evidence["trust"],
        last_at=at,
        status=str(verdict["status"]),
        reason=verdict["reason"],
        alert=int(verdict["alert"]),
        verdict_id=str(verdict["id"]),
        summary=str(verdict["summary"]),
        source=_source_of(evidence["hops"]),
        accepted_at=at if accepted else None,
        refused_at=None if accepted else at,
        verdicts=1,
        excepted_at=at if excepted and accepted else None,
        excepted=said if excepted and accepted else None,
        excepted_times=int(excepted and accepted),
        blocked=tuple(
            fault["rule"].removeprefix(_BLOCK)
            for fault in evidence["faults"]
            if fault["reason"] == Reason.BLOCKED.value and fault["rule"].startswith(_BLOCK)
        ),
    )


def _source_of(findings: Iterable[Mapping[str, Any]]) -> str | None:
    """
    Whose word a stored verdict rests on, as `core.verdict.deciding_source` has it.
    """
    for worst in sorted(findings, key=lambda one: (_WORST.index(one["status"]), one["hop"]))[:1]:
        for source in worst["sources"]:
            if source["status"] == worst["status"]:
                return " ".join(filter(None, (source["kind"], source["origin"], source["url"])))
    return None


def _joined(one: PartnerRow, other: PartnerRow) -> PartnerRow:
    newer, older = (other, one) if _later(one.last_at, other.last_at) == other.last_at else (one, other)
    excepted = newer if _later(newer.excepted_at, older.excepted_at) == newer.excepted_at else older
    return replace(
        newer,
        serial=newer.serial or older.serial,
        ends=newer.ends or older.ends,
        source=newer.source or older.source,
        verdict_id=newer.verdict_id or (older.verdict_id if older.status == newer.status else None),
        summary=newer.summary or (older.summary if older.status == newer.status else ""),
        accepted_at=_later(newer.accepted_at, older.accepted_at),
        refused_at=_later(newer.refused_at, older.refused_at),
        verdicts=newer.verdicts + older.verdicts,
        excepted_at=excepted.excepted_at,
        excepted=excepted.excepted,
        excepted_times=newer.excepted_times + older.excepted_times,
    )


def _cut(row: PartnerRow) -> PartnerRow:
    """
    The row without what is long of the texts that partners and CAs wrote.
    """
    texts = (row.subject, row.serial, row.summary, row.source, row.excepted)
    if all(text is None or len(text) <= MOST_CHARACTERS for text in texts):
        return row
    return replace(
        row,
        subject=_short(row.subject),
        serial=None if row.serial is None else _short(row.serial),
        summary=_short(row.summary),
        source=None if row.source is None else _short(row.source),
        excepted=None if row.excepted is None else _short(row.excepted),
    )


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((at for at in (one, other) if at is not None), default=None)


def _time(text: Any) -> datetime:
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
