"""
Verdicts counted by what they have in common: partner, rule, policy, reason or day; and what a replay changes, counted.

Pure.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cftpki_ext.core.values import dataclass
from cftpki_ext.evidence.listing import Row
from cftpki_ext.evidence.record import Door


class By(enum.StrEnum):
    """
    What verdicts are grouped by.
    """

    PARTNER = "partner"
    RULE = "rule"
    POLICY = "policy"
    REASON = "reason"
    DAY = "day"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """
    What several verdicts have in common, and how many of them were what. Times are RFC 3339.

    `warned` and `excepted` are among the accepted; `last_id` is the newest verdict's.
    """

    name: str
    fingerprints: int
    serial: str | None
    first: str
    last: str
    accepted: int
    refused: int
    warned: int
    excepted: int
    last_answer: str
    last_id: str

    def data(self) -> dict[str, Any]:
        """
        The group as plain data.
        """
        return {name: getattr(self, name) for name in _FIELDS}


_FIELDS = (
    *("name", "fingerprints", "serial", "first", "last", "accepted", "refused", "warned", "excepted"),
    *("last_answer", "last_id"),
)


class _Counted:
    """
    A group that is being counted.
    """

    __slots__ = ("accepted", "excepted", "fingerprints", "first", "last", "name", "refused", "warned")

    def __init__(self, name: str, row: Row) -> None:
        self.name, self.first, self.last = name, row, row
        self.fingerprints: set[str | None] = set()
        self.accepted = self.refused = self.warned = self.excepted = 0

    def add(self, row: Row) -> None:
        # Several processes write one ledger, and verdicts that were reached at once come in any order.
        self.first = min(self.first, row, key=_time)
        self.last = max(self.last, row, key=_time)
        self.fingerprints.add(row.fingerprint)
        self.refused += row.refused
        self.accepted += not row.refused
        self.warned += row.warned and not row.refused
        self.excepted += row.by_exception and not row.refused


class Groups:
    """
    Counts verdicts by what they have in common.

    Args:
        by: what that is. A partner is who has one subject: its certificates follow each other.

    """

    def __init__(self, by: By) -> None:
        self._by = by
        self._counted: dict[str, _Counted] = {}

    def add(self, row: Row) -> None:
        """
        Count one verdict; one that was found ahead let nobody in and refused nobody.
        """
        if row.door == Door.REFRESH.value:
            return
        name = _name(row, self._by)
        found = self._counted.get(name)
        if found is None:
            found = self._counted[name] = _Counted(name, row)
        found.add(row)

    def found(self) -> tuple[Group, ...]:
        """
        The groups, those with refusals first, then by name; days by time.
        """
        made = [
            Group(
                name=one.name,
                fingerprints=len(one.fingerprints - {None}),
                serial=one.last.serial,
                first=one.first.at,
                last=one.last.at,
                accepted=one.accepted,
                refused=one.refused,
                warned=one.warned,
                excepted=one.excepted,
                last_answer=answer_of(one.last),
                last_id=one.last.id,
            )
            for one in self._counted.values()
        ]
        key = (lambda one: (0, one.name)) if self._by is By.DAY else (lambda one: (-one.refused, one.name))
        return tuple(sorted(made, key=key))


def _time(row: Row) -> tuple[str, str]:
    return row.at, row.id


def _name(row: Row, by: By) -> str:
    match by:
        case By.PARTNER:
            return row.partner
        case By.RULE:
            return row.rule or "(no rule)"
        case By.POLICY:
            return row.policy
        case By.REASON:
            return row.reason or (f"audit: {row.would_refuse}" if row.would_refuse else "accepted")
        case By.DAY:
            return row.at[:10]


def answer_of(row: Row) -> str:
    """
    What was answered, in a few words: with the alert and the reason, or what a policy that only audits would have refused.
    """
    if row.refused:
        return f"refused {row.alert} {row.reason}"
    if row.would_refuse:
        return f"accepted (audit: {row.would_refuse})"
    if row.by_exception:
        return "accepted by exception"
    return "accepted, warned" if row.warned else "accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    Verdicts that came out otherwise in the same way: how many, of how many partners, and one of them to look at.
    """

    recorded: str
    now: str
    times: int
    partners: int
    example: str


class Changes:
    """
    Counts what a replay changes.
    """

    def __init__(self) -> None:
        self._times: Counter[tuple[str, str]] = Counter()
        self._partners: dict[tuple[str, str], set[str]] = {}
        self._example: dict[tuple[str, str], str] = {}

    def add(self, row: Row, recorded: str, now: str) -> None:
        """
        Count one verdict.

        Args:
            row: of the record.
            recorded: what was answered.
            now: what would be.

        """
        key = (recorded, now)
        self._times[key] += 1
        self._partners.setdefault(key, set()).add(row.fingerprint or row.partner)
        self._example.setdefault(key, row.id)

    def found(self) -> Sequence[Change]:
        """
        The changes, the most frequent first.
        """
        return [
            Change(
                recorded=key[0],
                now=key[1],
                times=times,
                partners=len(self._partners[key]),
                example=self._example[key],
            )
            for key, times in self._times.most_common()
        ]


def shares(values: Mapping[str, int]) -> str:
    """
    Counts as words, the largest first: `3 revoked, 1 expired`.
    """
    return ", ".join(
        f"{count} {name}" for name, count in sorted(values.items(), key=lambda one: (-one[1], one[0]))
    )
