"""
How often the log says the same: a number of lines at once, then some a minute, and how many were left out.

Pure: times are arguments. Causes come from the program, or are bounded by whoever names them.
"""

from __future__ import annotations

from collections import OrderedDict

from cftpki_ext.core.values import dataclass

_MOST_CAUSES = 1024


@dataclass(slots=True)
class _Cause:
    left: float
    at: float
    untold: int = 0


class LineBudget:
    """
    The budgets of many causes.

    Args:
        burst: lines that may come at once.
        every_s: one more after so long.

    """

    def __init__(self, *, burst: int, every_s: float) -> None:
        self._burst = burst
        self._every_s = every_s
        self._causes: OrderedDict[str, _Cause] = OrderedDict()

    def ask(self, cause: str, now: float, *, lines: int = 1) -> int | None:
        """
        Ask for lines of a cause.

        Args:
            cause: why there would be one.
            now: monotonic seconds.
            lines: how many it takes.

        Returns:
            How many were left out since the last one that was written; `None` where this one is to be left out.

        """
        found = self._causes.get(cause)
        if found is None:
            found = self._causes[cause] = _Cause(left=float(self._burst), at=now)
            if len(self._causes) > _MOST_CAUSES:
                self._causes.popitem(last=False)
        self._causes.move_to_end(cause)
        found.left = min(float(self._burst), found.left + max(0.0, now - found.at) / self._every_s)
        found.at = now
        if found.left < 1.0:
            found.untold += lines
            return None
        found.left -= lines
        untold, found.untold = found.untold, 0
        return untold

    def is_spent(self, cause: str) -> bool:
        """
        Whether lines of a cause are being left out.
        """
        found = self._causes.get(cause)
        return found is not None and found.untold > 0

    def refund(self, cause: str) -> None:
        """
        Let a cause begin anew.
        """
        found = self._causes.get(cause)
        if found is not None:
            found.left = float(self._burst)

    def untold(self) -> dict[str, int]:
        """
        What was left out and not told of, by cause; it counts as told from now on.
        """
        found = {name: cause.untold for name, cause in self._causes.items() if cause.untold}
        for name in found:
            self._causes[name].untold = 0
        return found
