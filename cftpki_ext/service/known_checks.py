"""
What CHECK asks of known partners, by the octets of the request: who asks the same again is understood at once.

Owns that memory. What a request means depends on its fields and on the configuration alone, and holds no verdict: each is judged
as any other, and by the configuration in force.
"""

from __future__ import annotations

from cftpki_ext.core.memo import Memo
from cftpki_ext.core.settings import Settings
from cftpki_ext.exit.steps import NeedVerdict
from cftpki_ext.protocol.codec import Frame, Tag, Value

# A thousand partners with chains of three certificates.
_OCTETS = 8 * 1024 * 1024
# Beside the chain, which is there twice: as it came, and each certificate.
_FIXED = 2 * 1024

_Fields = tuple[tuple[Tag, Value], ...]


class KnownChecks:
    """
    The meaning of CHECK requests that were accepted. For one event loop.

    Args:
        octets: what all of it may take in memory.

    """

    def __init__(self, octets: int = _OCTETS) -> None:
        self._known: Memo[_Fields, NeedVerdict] = Memo(octets)
        self._settings: Settings | None = None

    def find(self, settings: Settings, request: Frame) -> NeedVerdict | None:
        """
        What is asked.

        Args:
            settings: those in force.
            request: a CHECK on a connection without a session.

        Returns:
            What `exit.phases.decide` makes of it; `None` where that has to be asked.

        """
        if settings is not self._settings:
            return None
        return self._known.get(tuple(request.fields.items()))

    def add(self, settings: Settings, request: Frame, need: NeedVerdict) -> None:
        """
        Remember what was asked by somebody who was accepted.

        Args:
            settings: those by which the request was understood.
            request: as in `find`.
            need: what was made of it.

        """
        if settings is not self._settings:
            self._known.clear()
            self._settings = settings
        chain = sum(map(len, need.chain))
        self._known.keep(tuple(request.fields.items()), need, 2 * chain + _FIXED + len(need.staple or b""))
