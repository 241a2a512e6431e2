"""
What one enroller is asked to do for one identity, and what came of it.

Owns what asking (`order`) and judging (`admission`) have in common: the circumstances, the anchors, the end of an
order. The caller holds the identity's lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from cftpki_ext.core.escape import printable
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Enroller, Failed
from cftpki_ext.identity.issuance.late import NotMadeError
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.journal import MAX_DETAIL, OrderRecord, Outcome
from cftpki_ext.identity.store.layout import Log, Site
from cftpki_ext.ports.clock import Clock

ANCHORS_S = 20.0
# A third party's adapter that has not come back so long after its deadline never will; meanwhile it holds the identity's
# lock, and nobody renews.
GRACE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Activated:
    """
    A new generation is in force.
    """

    generation: Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """
    Nothing more can be done before `retry_at`; the order stays open.
    """

    order: str
    retry_at: datetime
    detail: str


Result = Activated | Waits | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTask:
    """
    One enroller and one identity, under the lock.

    `current` is the generation in force, `revoked` that it must not be used for anything, `password` what encrypts
    keys at rest. `configured` gives a trust set's anchors by its name.
    """

    site: Site
    enroller: Enroller
    current: Generation | None
    revoked: bool
    password: bytes | None
    clock: Clock
    event: Log
    configured: Callable[[str], tuple[bytes, ...]]

    async def anchors(self) -> tuple[bytes, ...]:
        """
        What the certificate must lead to: the identity's own trust set, by default what the CA tells.

        Returns:
            Certificates (DER); none where the CA tells none or was not heard.

        Raises:
            NotMadeError: there is nobody yet who could be asked.

        """
        trust = self.site.identity.trust
        if trust is not None:
            return self.configured(trust)
        deadline = self.clock.monotonic() + ANCHORS_S
        try:
            async with asyncio.timeout(ANCHORS_S + GRACE_S):
                return await self.enroller.trust_anchors(deadline=deadline)
        except NotMadeError:
            raise
        except Exception as error:  # noqa: BLE001 - a third party's adapter; nothing of it may end the service
            self.event("enroller_broken", enroller=self.enroller.name, error=told(error))
            return ()

    async def close(
        self,
        record: OrderRecord,
        outcome: Outcome,
        detail: str,
        *,
        serial: str | None = None,
        generation: int | None = None,
    ) -> None:
        """
        Write how the order ended, and tell it.

        Args:
            record: the order.
            outcome: how it ended.
            detail: one line for the operator.
            serial: of the certificate, where there is one.
            generation: that it became.

        Raises:
            StoreError: the disk refuses.

        """
        closed = await asyncio.to_thread(
            self.site.journal.close,
            record,
            outcome,
            at=self.clock.now(),
            detail=detail,
            serial=serial,
            generation=generation,
        )
        self.event(
            "identity_order_closed",
            identity=record.identity,
            enroller=record.enroller,
            order=record.id,
            outcome=outcome.value,
            detail=closed.detail,
            serial=serial,
            orphan=closed.orphan,
        )


def line(text: str) -> str:
    """
    What somebody else said, fit for the journal and the log.
    """
    return printable(text)[:MAX_DETAIL]


def told(error: Exception) -> str:
    """
    An exception of an adapter in one line.
    """
    return line(f"{type(error).__name__}: {error}")
