"""
What happened lately, from the service's events: what is no state of anything, and somebody must hear of all the same.

Owns which events these are, and how long they are told of: until a day went by without another one. Pure; bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from cftpki_ext.core.alerts import alert_for
from cftpki_ext.core.notify import Condition, NoticeKind
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Reason
from cftpki_ext.service.notices.standing import made

# What did not come again for so long is over.
QUIET = timedelta(hours=24)
# Of each kind, told apart: partners, mostly.
MOST = 100

Fields = Mapping[str, Any]
# Which condition an event is; `None` where it is none.
Reader = Callable[[Fields], "tuple[NoticeKind, str, str] | None"]

# What a policy that only audits says of a partner that it should have refused as revoked.
_AUDITED = f"audit: would have been refused {alert_for(Reason.REVOKED)} "
_BAD = frozenset({Reason.REVOKED.value, Reason.ON_HOLD.value})


@dataclass(slots=True)
class _Happened:
    condition: Condition
    first: datetime
    last: datetime
    times: int


class Heard:
    """
    What was heard of. For one event loop.
    """

    def __init__(self) -> None:
        self._happened: OrderedDict[tuple[NoticeKind, str], _Happened] = OrderedDict()

    def hear(self, event: str, fields: Fields, now: datetime) -> bool:
        """
        Take an event of the log.

        Args:
            event: its name.
            fields: what it says.
            now: the time.

        Returns:
            Whether it is one to tell of that was not known.

        """
        reader = READERS.get(event)
        found = None if reader is None else reader(fields)
        if found is None:
            return False
        kind, about, text = found
        known = self._happened.pop((kind, about), None)
        condition = made(kind, about, text)
        self._happened[kind, about] = _Happened(
            condition, now if known is None else known.first, now, 1 if known is None else known.times + 1
        )
        if known is None:
            same = [key for key in self._happened if key[0] is kind]
            for key in same[: max(0, len(same) - MOST)]:
                del self._happened[key]
        return known is None

    def conditions(self, now: datetime) -> tuple[Condition, ...]:
        """
        What is told of now.
        """
        for key in [key for key, one in self._happened.items() if now - one.last >= QUIET]:
            del self._happened[key]
        return tuple(_told(one) for one in self._happened.values())


def _told(one: _Happened) -> Condition:
    condition = one.condition
    if one.times > 1:
        last = one.last.strftime("%Y-%m-%d %H:%MZ")
        condition = made(condition.kind, condition.about, f"{one.times} times, last {last}: {condition.text}")
    return Condition(kind=condition.kind, about=condition.about, text=condition.text, since=one.first)


def _verdict(fields: Fields) -> tuple[NoticeKind, str, str] | None:
    partner, serial = fields.get("partner"), fields.get("serial")
    warnings = fields.get("warnings")
    if isinstance(warnings, list) and any(str(one).startswith(_AUDITED) for one in warnings):
        text = f"revoked partner {partner} (serial {serial}) was LET IN: policy {fields.get('policy')} only audits"
        return NoticeKind.REVOKED_PARTNER, f"{partner} {serial}", text
    if fields.get("reason") not in _BAD:
        return None
    where = f", which came from {fields['remote']}" if fields.get("remote") else ""
    text = f"revoked partner {partner} (serial {serial}){where}, was refused: {fields.get('summary')}"
    return NoticeKind.REVOKED_PARTNER, f"{partner} {serial}", text


def _ledger(about: str, words: str) -> Reader:
    def read(fields: Fields) -> tuple[NoticeKind, str, str]:
        detail = fields.get("detail") or fields.get("error") or ""
        return NoticeKind.LEDGER, about, f"{words}: {detail}" if detail else words

    return read


def _lost(fields: Fields) -> tuple[NoticeKind, str, str]:
    return NoticeKind.EVIDENCE_LOST, "evidence", f"records of verdicts cannot be kept: {fields.get('error')}"


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "verdict": _verdict,
        "evidence_not_kept": _lost,
        "evidence_broken": _ledger("break", "the evidence was found broken"),
        "evidence_behind": _ledger("behind", "the evidence is older than what is known to be revoked"),
        "revocations_lost": _ledger("revocations", "revocations that were seen have no proof any more"),
        "revocations_restored": _ledger(
            "restored", "the memory of revocations had been lost, and was restored"
        ),
    }
)
