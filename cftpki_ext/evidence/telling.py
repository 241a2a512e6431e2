"""
What the log and STATUS say of the evidence as a whole: whether it was broken, how far it reaches, what went too early.
"""

from __future__ import annotations

import math
from typing import Any

from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import EvidenceSettings
from cftpki_ext.evidence.reach import falls_short, told
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.evidence import Reach

# Between two warnings that the size of the evidence will not last.
_TELL_S = 86400.0
# Between two lines that records were let go before their time.
_TELL_EARLY_S = 3600.0
_INDEX = "taken away from the evidence's index of revocations: the next start restores it from the records"
_EARLY = "younger than evidence.keep, for want of room: raise evidence.max_size"
_EARLY_STRANGERS = "of chains that lead to no anchor, for want of room in their share of evidence.max_size"


class Telling:
    """
    Tells what is found. For one event loop.

    Args:
        log: is told.
        clock: the time.

    """

    def __init__(self, *, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._reach: Reach | None = None
        self._told_breaks: set[str] = set()
        self._told_index = False
        self._early: tuple[int, int] | None = None  # as was told last
        self._tell_again = self._tell_early_again = -math.inf

    def status(self, settings: EvidenceSettings) -> dict[str, Any]:
        """
        What was found last, for STATUS; nothing before the first look.
        """
        return {} if self._reach is None else told(self._reach, settings, now=self._clock.now())

    def heard(self, reach: Reach, settings: EvidenceSettings) -> None:
        """
        Tell what should not be: breaks once each, what went too early once an hour, what will not last once a day.
        """
        self._reach = reach
        for one in reach.breaks:
            if one.id not in self._told_breaks:
                self._told_breaks.add(one.id)
                self._log.error("evidence_broken", kind=one.kind.value, record=one.seq, detail=one.detail)
        if reach.index_lacks and not self._told_index:
            self._log.error("revocation_index_lost", certificates=reach.index_lacks, detail=_INDEX)
        self._told_index = reach.index_lacks > 0
        monotonic = self._clock.monotonic()
        self._tell_of_early(reach, monotonic)
        if monotonic >= self._tell_again and falls_short(reach, settings):
            self._tell_again = monotonic + _TELL_S
            self._log.warning("evidence_short", **told(reach, settings, now=self._clock.now()))

    def _tell_of_early(self, reach: Reach, monotonic: float) -> None:
        now = (reach.early, reach.strangers_early)
        if self._early is None:
            # What went before this service began was told then.
            self._early = now
        if monotonic < self._tell_early_again or now == self._early:
            return
        partners, strangers = (count - before for count, before in zip(now, self._early, strict=True))
        if partners > 0:
            newest = None if reach.early_newest is None else reach.early_newest.isoformat()
            self._log.error("evidence_let_go_early", records=partners, newest=newest, detail=_EARLY)
        if strangers > 0:
            self._log.warning(
                "evidence_of_strangers_let_go_early", records=strangers, detail=_EARLY_STRANGERS
            )
        self._tell_early_again = monotonic + _TELL_EARLY_S
        self._early = now
