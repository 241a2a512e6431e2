"""
Work of one question, counted: what looking at a stranger's octets may cost.

Owns the unit and the count. One operation is about a microsecond of one core: an element of ASN.1 costs a few, a
signature as many as its key is slow. Counted is what is looked at, whether or not it is remembered from before, so
that the same question always comes to the same end.
"""

from __future__ import annotations

# One element of ASN.1: its header, its place, its value. Names, extensions and policies are elements, too.
ELEMENT = 3
# One octet of text that is neither ASCII nor printable: it is normalised, folded and escaped.
ODD_OCTET = 2
# An object identifier that is longer than those in use: its arcs are taken apart, so many octets for an operation.
LONG_IDENTIFIER = 16
IDENTIFIER_OCTETS = 4
# A certificate of a candidate path, judged: dates, usages, lengths.
JUDGEMENT = 20
# Elements that are compared, and edges of the policy graph, cost a part of an operation each.
COMPARISONS = 4

_UNCOUNTED = 1 << 60


class WorkExceededError(Exception):
    """
    The question costs more than it may. `limit` is what it may cost, in operations, `at` what was being done.
    """

    def __init__(self, limit: int, at: str) -> None:
        super().__init__(f"more than {limit} operations, while {at}")
        self.limit = limit
        self.at = at


class Work:
    """
    Counts the operations of one question.

    Args:
        limit: how many it may cost; 0 for any number, when a decision of the past is made again.

    """

    __slots__ = ("limit", "spent")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spent = 0

    @property
    def left(self) -> int:
        """
        How many operations are left.
        """
        return max(self.limit - self.spent, 0) if self.limit else _UNCOUNTED

    def spend(self, operations: int, at: str) -> None:
        """
        Count operations, best before they are done.

        Args:
            operations: how many.
            at: what they are for, as "reading certificates".

        Raises:
            WorkExceededError: there are not so many left.

        """
        if self.limit and self.spent + operations > self.limit:
            self.spent = self.limit
            raise WorkExceededError(self.limit, at)
        self.spent += operations
