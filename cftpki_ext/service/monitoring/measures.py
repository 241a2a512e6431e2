"""
What the service counts of its verdicts and calls: by rule, outcome, reason and tier, and how long they took.

Owns the bounds: names come from the configuration and from tables, and of a configuration that is changed all the time not without end.
"""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from typing import Any

from cftpki_ext.core.vocabulary import Origin
from cftpki_ext.evidence import Door, Row
from cftpki_ext.service.judging.remote import Judged
from cftpki_ext.service.monitoring.latencies import Latencies

# Rules, outcomes, reasons and tiers that were seen together.
_MOST = 300
_OTHER = "(others)"
_REFRESH = Door.REFRESH.value


class Tier(enum.StrEnum):
    """
    What answered.

    `BOARD` the host itself, `STANDING` a verdict that stands, `CACHE` answers that were at hand, `CLUSTER` what another
    node had asked, `NETWORK` a CA that was asked; `NONE`: nobody had to be asked.
    """

    BOARD = "board"
    STANDING = "standing"
    CACHE = "cache"
    CLUSTER = "cluster"
    NETWORK = "network"
    NONE = "none"


class Outcome(enum.StrEnum):
    """
    What became of a partner. `WOULD_BE_REFUSED`: let in only because its policy audits.
    """

    ACCEPTED = "accepted"
    ACCEPTED_WITH_WARNINGS = "accepted_with_warnings"
    WOULD_BE_REFUSED = "would_be_refused"
    REFUSED = "refused"


def tier_of(judged: Judged) -> Tier:
    """
    What answered a question that came to the service.

    Args:
        judged: its verdict.

    Returns:
        The tier; one answer from the network makes it `NETWORK`.

    """
    if judged.stored is not None and judged.stored.repeats is not None:
        return Tier.STANDING
    origins = {one.origin for one in judged.statements}
    if Origin.NETWORK in origins:
        return Tier.NETWORK
    if Origin.CLUSTER in origins:
        return Tier.CLUSTER
    return Tier.CACHE if origins else Tier.NONE


class Measures:
    """
    The counts since the start, for STATUS. For one event loop.
    """

    def __init__(self) -> None:
        self._verdicts: Counter[tuple[str, str, str, str]] = Counter()
        self._verdict_s: defaultdict[str, Latencies] = defaultdict(Latencies)
        self._request_s: defaultdict[str, Latencies] = defaultdict(Latencies)

    def verdict(self, row: Row, tier: Tier, seconds: float | None = None) -> None:
        """
        Count a verdict; one that was found ahead let nobody in and refused nobody.

        Args:
            row: what it says.
            tier: what answered.
            seconds: how long the call took until then; `None` where a host answered by itself.

        """
        if row.door == _REFRESH:
            return
        if row.refused:
            outcome, reason = Outcome.REFUSED, row.reason or ""
        elif row.would_refuse is not None:
            outcome, reason = Outcome.WOULD_BE_REFUSED, row.would_refuse
        else:
            outcome, reason = Outcome.ACCEPTED_WITH_WARNINGS if row.warned else Outcome.ACCEPTED, ""
        # Both are texts as they are.
        key: tuple[str, str, str, str] = (row.rule or "", outcome, reason, tier)
        if key not in self._verdicts and len(self._verdicts) >= _MOST:
            key = (_OTHER, outcome, reason, tier)
        self._verdicts[key] += 1
        if seconds is not None:
            self._verdict_s[tier].add(seconds)

    def request(self, message: str, seconds: float) -> None:
        """
        Count a call of the exit.

        Args:
            message: its name.
            seconds: how long its answer took.

        """
        self._request_s[message].add(seconds)

    def status(self) -> dict[str, Any]:
        """
        Plain data. `verdicts` are rows: rule, outcome, reason, tier, how many.
        """
        return {
            "verdicts": [[*key, count] for key, count in sorted(self._verdicts.items())],
            "verdict_seconds": {tier: one.status() for tier, one in sorted(self._verdict_s.items())},
            "request_seconds": {name: one.status() for name, one in sorted(self._request_s.items())},
        }
