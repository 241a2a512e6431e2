"""
The port of the log: an event by its name, and its fields. `support.log_lines` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Log(Protocol):
    """
    Takes events; a name (`identity_not_kept`) and what there is to say of it. Writes foreign text escaped.
    """

    def debug(self, event: str, /, **fields: Any) -> Any:
        """
        What only somebody who looks for a fault wants to see.
        """

    def info(self, event: str, /, **fields: Any) -> Any:
        """
        What goes as it should.
        """

    def warning(self, event: str, /, **fields: Any) -> Any:
        """
        What should not happen, and is tried again or does no harm yet.
        """

    def error(self, event: str, /, **fields: Any) -> Any:
        """
        What somebody has to look at.
        """


class BatchLog(Log, Protocol):
    """
    A log that takes many events at once, for much less than each costs by itself.
    """

    def many(self, events: Sequence[tuple[str, Mapping[str, Any]]], /) -> Any:
        """
        What goes as it should: names and fields, in order.
        """
