"""
What every row about an identity has, of whatever kind it is.
"""

from __future__ import annotations

from typing import Any, Protocol

from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.renewal.standing import Standing


class Row(Protocol):
    """
    One identity as it is shown.
    """

    @property
    def name(self) -> str:
        """
        As configured.
        """

    @property
    def kind(self) -> str:
        """
        `enrollers`, `files` or `token`.
        """

    @property
    def words(self) -> tuple[Standing, ...]:
        """
        How it stands, the worst first.
        """

    @property
    def alarm(self) -> Standing | None:
        """
        The worst of the words that is an alarm.
        """

    @property
    def trouble(self) -> str | None:
        """
        One line; `None` where all is well.
        """

    def data(self) -> dict[str, Any]:
        """
        Everything, for JSON; the same keys for every kind.
        """


def blank(row: Row) -> dict[str, Any]:
    """
    The keys of every row, with what a row of any kind knows.
    """
    return {
        "name": row.name,
        "kind": row.kind,
        "state": row.words[0].value,
        "states": [word.value for word in row.words],
        "generation": None,
        "certificate": None,
        "stage": None,
        "runway": None,
        "alarm": None if row.alarm is None else row.alarm.value,
        "runway_s": None,
        "next": None,
        "trouble": row.trouble,
        "failures": 0,
        "last_failure": None,
        "hint": None,
        "waiting": None,
        "status": None,
        "open_orders": [],
        "orphans": [],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """
    An identity of which this user may see nothing.
    """

    name: str
    kind: str
    trouble: str | None
    words: tuple[Standing, ...] = (Standing.UNREADABLE,)
    alarm: Standing | None = None

    def data(self) -> dict[str, Any]:
        """
        What is known: that nothing is.
        """
        return blank(self)
