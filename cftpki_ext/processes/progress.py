"""
Whether a child that has something to do does it: stopped (SIGSTOP, a debugger), or asleep without using the processor.

Owns the judgement. A child that is runnable and gets no processor is only slow, and one that waits for the disk may be so:
replacing those would make matters worse.
"""

from __future__ import annotations

import enum
from pathlib import Path

from cftpki_ext.core.values import dataclass

# So often a child with an unanswered call is looked at; so many times in a row it must be found still.
LOOK_S = 0.05
LOOKS = 4


class Watch(enum.Enum):
    """
    What a role's child never does while it has a call to answer.
    """

    NOTHING = "nothing"  # it may wait for whatever it likes
    STOPPED = "stopped"  # be stopped
    IDLE = "idle"  # be stopped, or sleep: it has only to compute


@dataclass(frozen=True, slots=True)
class Seen:
    """
    A process at one moment: its state as the kernel names it (proc_pid_stat(5)), and the processor time that it has used.
    """

    state: str
    ticks: int


def look(pid: int) -> Seen | None:
    """
    Look at a process.

    Args:
        pid: its id.

    Returns:
        What is seen; `None` where it is gone, or not shown to us.

    """
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
        return Seen(fields[0], int(fields[11]) + int(fields[12]))
    except (OSError, IndexError, ValueError):
        return None


class Stillness:
    """
    How often in a row a child was found still over one call.

    Args:
        watch: what counts.

    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._call: int | None = None
        self._ticks = -1
        self._times = 0

    def add(self, call: int, seen: Seen | None) -> bool:
        """
        Add what was seen.

        Args:
            call: the oldest call that it has not answered.
            seen: of `look`.

        Returns:
            Whether it was still so often that nothing more is to be expected of it.

        """
        if seen is None or not self._is_still(call, seen):
            self._times = 0
        else:
            self._times += 1
        self._call = call
        self._ticks = -1 if seen is None else seen.ticks
        return self._times >= LOOKS

    def _is_still(self, call: int, seen: Seen) -> bool:
        if self._watch is Watch.NOTHING:
            return False
        if seen.state in {"T", "t"}:
            return True
        if self._watch is Watch.STOPPED:
            return False
        return seen.state == "S" and (call, seen.ticks) == (self._call, self._ticks)
