"""
How often the configuration was read anew, and what became of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cftpki_ext.core.escape import excerpt

# Faults are a line each, and a file may have hundreds: the log has them all.
_CHARACTERS = 2000


class Reloads:
    """
    The reloads since the start, for STATUS. For one event loop.

    Whoever asks for one (SIGHUP) and wants to know what came of it looks whether `ok` or `failed` has grown.
    """

    def __init__(self) -> None:
        self._ok = 0
        self._failed = 0
        self._last_error: str | None = None
        self._at: datetime | None = None

    def succeeded(self, at: datetime) -> None:
        """
        A configuration was taken over.
        """
        self._ok += 1
        self._last_error, self._at = None, at

    def failed(self, error: str, at: datetime) -> None:
        """
        One was not: the configuration in force stays.
        """
        self._failed += 1
        self._last_error, self._at = excerpt(error, _CHARACTERS), at

    def status(self) -> dict[str, Any]:
        """
        Plain data. `last_error` is that of the last reload, `None` where it succeeded; `at` is when it was.
        """
        return {
            "ok": self._ok,
            "failed": self._failed,
            "last_error": self._last_error,
            "at": None if self._at is None else self._at.isoformat(timespec="seconds"),
        }
