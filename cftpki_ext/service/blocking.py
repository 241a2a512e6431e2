"""
Partners that operators have shut out, as the service knows them: at each question, and many times a second.

Owns what is done when the list changes: every verdict that stands ends, here and in every host, before anything is judged
by the new list; and what is told of it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cftpki_ext.core.blocks import Block, decode_blocks
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.log import Log
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.partners import BlockList


class Blocking:
    """
    The list of one state directory. For one event loop.

    Args:
        blocks: the list, which other processes change.
        end_standing: has every verdict that stands end.
        clock: the time.
        log: is told of each entry that comes and goes, and of a list that cannot be read, once.

    """

    def __init__(
        self, blocks: BlockList, end_standing: Callable[[], None], *, clock: Clock, log: Log
    ) -> None:
        self._blocks = blocks
        self._end_standing = end_standing
        self._clock = clock
        self._log = log
        self._taken: bytes | None = None
        self._known: dict[str, Block] = {}
        self._fault: str | None = None

    def current(self) -> bytes | None:
        """
        The entries as a question carries them, `None` where there are none.

        Whatever was decided by another list has ended when this returns, or raises.

        Raises:
            StoreError: the list cannot be read: nobody knows who is shut out, and the caller refuses.

        """
        try:
            document = self._blocks.document()
        except StoreError as error:
            self._unknown(str(error))
            raise
        if document != self._taken or self._fault is not None:
            self._end_standing()
            self._tell(document)
            self._taken, self._fault = document, None
        return document

    def look(self) -> None:
        """
        Look once, also while nobody asks: hosts must not give again what the list forbids.
        """
        try:
            self.current()
        except StoreError:
            return  # told, and nothing stands
        except Exception as error:  # noqa: BLE001 - whatever it is: who is not known to be let in is not let in again
            self._unknown(repr(error))

    def status(self) -> dict[str, Any]:
        """
        For STATUS: how many entries are in force, the digest of the list that holds, and why it cannot be read.
        """
        now = self._clock.now()
        return {
            "in_force": sum(one.holds(now) for one in self._known.values()),
            "ended": sum(not one.holds(now) for one in self._known.values()),
            "list": digest_of_list(self._taken),
            "fault": self._fault,
        }

    def _unknown(self, why: str) -> None:
        """
        Nobody knows who is shut out: nothing stands, and it is told once.
        """
        self._end_standing()
        if self._fault is None:
            self._log.error("blocked_partners_unreadable", error=printable(why))
        self._fault = printable(why)

    def _tell(self, document: bytes | None) -> None:
        before = self._known
        self._known = {one.what: one for one in decode_blocks(document)} if document is not None else {}
        if self._fault is not None:
            self._log.info("blocked_partners_readable", partners=len(self._known))
        for what, one in self._known.items():
            if before.get(what) != one:
                self._log.warning(
                    "partner_blocked",
                    partner=what,
                    reason=one.reason,
                    by=one.by,
                    at=_text(one.at),
                    until=None if one.until is None else _text(one.until),
                )
        for what in before.keys() - self._known.keys():
            self._log.warning("partner_unblocked", partner=what)


def digest_of_list(document: bytes | None) -> str | None:
    """
    By what a list is known to those who wait until it holds.
    """
    return None if document is None else sha256(document).hexdigest()


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
