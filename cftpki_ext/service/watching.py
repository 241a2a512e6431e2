"""
What the service notices by looking many times a second: what other processes put into its stores, and clocks that were set.

Owns the pace, and what is done where the stores cannot be looked at. Every look takes some ten microseconds while nothing
has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Protocol

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.log import Log
from cftpki_ext.ports.changes import StoreChanges, StoreWatch
from cftpki_ext.ports.clock import Clock

# Between two looks: what another process has stored, or a command has flushed, counts no later than 0.1 s after it.
LOOK_S = 0.05
# Between two looks the two clocks part by less, however a time server slews; a pause of the machine is more.
_SET_S = 0.5
_GONE = (
    "somebody emptied, deleted or replaced the memory of revocations; what the evidence proves is put back"
)


class Judges(Protocol):
    """
    Whose verdicts end by what is seen (`cftpki_ext.service.judging.remote.Judges`).
    """

    def learn(self, changes: StoreChanges) -> None:
        """
        Other processes have changed the stores.
        """

    def end_standing(self) -> None:
        """
        Every partner is to be judged anew.
        """


class Watching:
    """
    Looks at stores and clocks. For one event loop.

    Args:
        watch: the stores; closed by `aclose`.
        judges: are told.
        clock: both clocks.
        log: is told of clocks that were set, and of stores that cannot be looked at, once.
        also: what else is looked at, each time; it raises nothing.
        restore: puts back what was taken from the memory of revocations, as far as the evidence proves it, and gives the
            certificates of which it did; in a thread.

    """

    def __init__(
        self,
        watch: StoreWatch,
        judges: Judges,
        *,
        clock: Clock,
        log: Log,
        also: Callable[[], None] = lambda: None,
        restore: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._watch = watch
        self._judges = judges
        self._clock = clock
        self._log = log
        self._also = also
        self._apart = self._offset()
        self._blind = False
        self._restore = restore
        self._revoked: frozenset[str] = frozenset()
        self._restoring: asyncio.Task[None] | None = None
        self._to_restore = False

    async def run(self) -> None:
        """
        Look again and again, until cancelled.
        """
        while True:
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - who does not look does not know what has ended
                with contextlib.suppress(Exception):
                    self._log.error("watching_failed", error=repr(error))
            if self._to_restore and (self._restoring is None or self._restoring.done()):
                self._to_restore = False
                self._restoring = asyncio.create_task(self._put_back())
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """
        Look once.
        """
        self._also()
        apart = self._offset()
        moved, self._apart = apart - self._apart, apart
        if abs(moved) > _SET_S:
            self._judges.end_standing()
            self._log.warning("clock_was_set", seconds=round(moved, 3), detail="every partner is judged anew")
        try:
            changes = self._watch.look()
            self._judges.learn(changes)
            self._miss(changes.revoked)
            if changes.flushed:
                self._log.info("cache_flushed", detail="every partner is judged anew")
        except Exception as error:  # noqa: BLE001 - whatever it is: what cannot be watched must not be answered again
            # Nobody is let in without the memory of revocations.
            self._judges.end_standing()
            if not self._blind:
                words = str(error) if isinstance(error, StoreError) else repr(error)
                self._log.error("stores_cannot_be_watched", error=words)
            self._blind = True
            return
        self._blind = False

    def _miss(self, revoked: frozenset[str] | None) -> None:
        """
        Notice certificates whose proofs somebody has taken away.
        """
        if revoked is None:
            return
        gone, self._revoked = self._revoked - revoked, revoked
        if gone:
            self._to_restore = True
            self._log.error("revocations_gone", certificates=len(gone), detail=_GONE)

    def remembered(self, certificate: str) -> None:
        """
        A proof is kept of a certificate: it is missed also where it is taken away before the next look.
        """
        self._note({certificate})

    def _note(self, certificates: Collection[str]) -> None:
        self._revoked |= frozenset(certificates)
        self._watch.remembered()

    async def _put_back(self) -> None:
        """
        Put back what was taken. It is missed again where it is taken again; what nothing proves is not, and so is missed once.
        """
        try:
            restored = await asyncio.to_thread(self._restore)
            if restored:
                self._note(restored)
        except Exception as error:  # noqa: BLE001 - the watch goes on
            self._log.error("revocations_not_restored", error=repr(error))

    def close(self) -> None:
        """
        Release files.
        """
        self._watch.close()

    def _offset(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()
