"""
An enroller that may not be made yet: its place on the disk, a file of its options, its plugin cannot be used now.

Owns the repetition: it is made when it is asked for something, until that works, so that one enroller's fault
stops neither another one nor the service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.identity.enroller_port import (
    Enroller,
    Failed,
    Fault,
    Held,
    Order,
    OrderState,
    Progress,
    RenewalHint,
    SaveState,
)
from cftpki_ext.support.failures import reason_of


class NotMadeError(CftPkiError):
    """
    The enroller cannot be made now; the message says why.
    """


class LateEnroller:
    """
    Stands for an enroller, and makes it when it is needed.

    Args:
        name: as in `[enroller.NAME]`.
        protocol: its type.
        make: blocking; raises whatever is wrong.

    """

    def __init__(self, name: str, protocol: str, make: Callable[[], Enroller]) -> None:
        self.name = name
        self.protocol = protocol
        self._make = make
        self._enroller: Enroller | None = None
        self._turn = asyncio.Lock()

    async def advance(self, order: Order, state: OrderState, save: SaveState, *, deadline: float) -> Progress:
        """
        See `Enroller.advance`.

        Raises:
            NotMadeError: nobody was asked.

        """
        return await (await self._made()).advance(order, state, save, deadline=deadline)

    async def revoke(self, held: Held, *, reason: str, deadline: float) -> Failed | None:
        """
        See `Enroller.revoke`.
        """
        try:
            enroller = await self._made()
        except NotMadeError as error:
            return Failed(fault=Fault.MISCONFIGURED, detail=str(error))
        return await enroller.revoke(held, reason=reason, deadline=deadline)

    async def renewal_hint(self, held: Held, *, deadline: float) -> RenewalHint | None:
        """
        See `Enroller.renewal_hint`.

        Raises:
            NotMadeError: nobody was asked.

        """
        return await (await self._made()).renewal_hint(held, deadline=deadline)

    async def trust_anchors(self, *, deadline: float) -> tuple[bytes, ...]:
        """
        See `Enroller.trust_anchors`.

        Raises:
            NotMadeError: nobody was asked.

        """
        return await (await self._made()).trust_anchors(deadline=deadline)

    async def aclose(self) -> None:
        """
        Release what was made.
        """
        if self._enroller is not None:
            await self._enroller.aclose()

    async def _made(self) -> Enroller:
        async with self._turn:
            if self._enroller is None:
                try:
                    # In the event loop: constructors may bind themselves to it.
                    self._enroller = self._make()
                except CftPkiError as error:
                    raise NotMadeError(str(error)) from error
                except OSError as error:
                    msg = f"{error.filename or self.name}: {reason_of(error)}"
                    raise NotMadeError(msg) from error
                except Exception as error:
                    msg = f"it cannot be made: {type(error).__name__}: {error}"
                    raise NotMadeError(msg) from error
            return self._enroller
