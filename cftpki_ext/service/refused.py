"""
Connections that are refused: how often that is told, how long the next answer takes, how many may wait.

Pure: times are arguments. A user who connects in a loop gets one answer a second, one line in the log a minute with
the number of the others, and a bounded number of descriptors.
"""

from __future__ import annotations

from dataclasses import field

from cftpki_ext.core.values import dataclass

TELL_EVERY_S = 60.0
# Who comes again within this time waits so long for the answer.
PAUSE_S = 1.0
# Connections that wait for their refusal; those beyond are closed without one.
MOST_WAITING = 32
# Kinds of refusals that are remembered: users of this machine, and the bound of connections.
_MOST_KINDS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """
    What to do with one refused connection. `tell`: log it, with `others` that were not told of since the last time.
    """

    tell: bool
    others: int
    pause_s: float


@dataclass(slots=True)
class _Kind:
    told_at: float
    seen_at: float
    untold: int = 0


@dataclass(slots=True)
class Refusals:
    """
    Those of one service.
    """

    waiting: int = 0
    _kinds: dict[str, _Kind] = field(default_factory=dict)

    def treat(self, kind: str, now: float) -> Treatment:
        """
        Decide about one more.

        Args:
            kind: what it is refused for.
            now: monotonic seconds.

        Returns:
            The treatment.

        """
        known = self._kinds.get(kind)
        if known is None:
            if len(self._kinds) >= _MOST_KINDS:
                del self._kinds[min(self._kinds, key=lambda one: self._kinds[one].seen_at)]
            self._kinds[kind] = _Kind(told_at=now, seen_at=now)
            return Treatment(tell=True, others=0, pause_s=0.0)
        again = now - known.seen_at < PAUSE_S
        known.seen_at = now
        if now - known.told_at < TELL_EVERY_S:
            known.untold += 1
            return Treatment(tell=False, others=0, pause_s=PAUSE_S if again else 0.0)
        others, known.untold, known.told_at = known.untold, 0, now
        return Treatment(tell=True, others=others, pause_s=PAUSE_S if again else 0.0)
