"""
The port of the log: an event by its name, and its fields. `support.log_lines` writes it.
"""

from __future__ import annotations

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
