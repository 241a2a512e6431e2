"""
What breaks the letter of an encoding: as an error where it leaves the meaning open, as a note where it does not.

Owns `DerError`, `Oddity` and the two ways to take one: `refuse` and `Oddities`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cftpki_ext.core.values import dataclass

# A hostile object can be odd in thousands of places; one dozen tells a person enough.
_KEPT = 12


class DerError(ValueError):
    """
    The bytes break an encoding or structure rule; `rule` names the clause.
    """

    def __init__(self, detail: str, rule: str = "X.690 (DER)") -> None:
        super().__init__(detail)
        self.detail = detail
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Oddity:
    """
    One departure from the letter of a standard that leaves one meaning, and the clause it departs from.
    """

    detail: str
    rule: str

    def __str__(self) -> str:
        """
        As evidence has it.
        """
        return f"{self.detail} ({self.rule})"


# What a parser is handed to say "odd, and yet clear" to: a clause for a person, and the rule.
Odd = Callable[[str, str], None]


def refuse(detail: str, rule: str) -> None:
    """
    Take an oddity as an error: the letter counts.

    Args:
        detail: what is odd.
        rule: the clause.

    Raises:
        DerError: always.

    """
    raise DerError(detail, rule)


class Oddities:
    """
    Take oddities as notes: an `Odd` that remembers the first dozen, each once.
    """

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[Oddity, None] = {}

    def __call__(self, detail: str, rule: str) -> None:
        """
        Note one.
        """
        if len(self._found) < _KEPT:
            self._found[Oddity(detail, rule)] = None

    def __iter__(self) -> Iterator[Oddity]:
        """
        In the order in which they were met.
        """
        return iter(self._found)

    def __bool__(self) -> bool:
        """
        Whether there is any.
        """
        return bool(self._found)


def ignore(_detail: str, _rule: str) -> None:
    """
    Take an oddity as nothing: whoever reads the same thing elsewhere tells of it.
    """
