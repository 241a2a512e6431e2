"""
The CMP enroller (RFC 9810, RFC 9811, RFC 9483), as the port wants it.

Owns the reading of credentials for each call, and errors as outcomes; `flow` carries orders.
"""

from __future__ import annotations

from cftpki_connectors.ca.client import CaError, printable
from cftpki_connectors.ca.identity_files import certificates_in
from cftpki_connectors.cmp import inspection, revoking
from cftpki_connectors.cmp.credentials import load
from cftpki_connectors.cmp.flow import Flow
from cftpki_connectors.cmp.judging import handed_out
from cftpki_connectors.cmp.options import CmpOptions
from cftpki_connectors.cmp.protection import ProtectionError
from cftpki_connectors.cmp.state import Phase, resume
from cftpki_connectors.support import threads
from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.enroller_port import (
    EnrollerContext,
    Failed,
    Fault,
    Finding,
    Held,
    Order,
    OrderState,
    Progress,
    Relation,
    RenewalHint,
    SaveState,
)


class CmpEnroller:
    """
    Enrols with one CMP server.

    A renewal is an update (kur) signed with the certificate in use where that can work; everything else is protected by
    the configured secret or certificate. Before a certificate is confirmed, the order's own judgement is asked for; one
    that it refuses is refused at the CA too. An order that waits goes on in its transaction, by any process; a request
    that was sent and never answered is made anew in another one, and told.

    Not done: keys made by the CA, certificates encrypted for their owner, nested messages of registration authorities.
    """

    protocol = "cmp"

    def __init__(self, options: CmpOptions, context: EnrollerContext) -> None:
        self.name = context.name
        self._options = options
        self._clock = context.clock

    async def advance(self, order: Order, state: OrderState, save: SaveState, *, deadline: float) -> Progress:
        """
        Ask for the certificate, poll for it, or confirm it.
        """
        attempt = resume(state, order.csr)
        if attempt.phase is Phase.DONE:
            return await handed_out(attempt, order)
        try:
            flow = Flow(
                self._options,
                self._clock,
                await threads.call(lambda: load(self._options, self._clock.now())),
                order=order,
                attempt=attempt,
                save=save,
                deadline=deadline,
            )
            return await flow.advance()
        except CaError as error:
            return error.failed("cmp")
        except (InputError, ProtectionError) as error:
            return Failed(fault=Fault.MISCONFIGURED, detail=f"cmp: {printable(str(error))}")

    async def revoke(self, held: Held, *, reason: str, deadline: float) -> Failed | None:
        """
        Ask the CA to revoke (rr).
        """
        try:
            credentials = await threads.call(lambda: load(self._options, self._clock.now()))
            return await revoking.revoke(
                self._options, credentials, self._clock, held, reason=reason, deadline=deadline
            )
        except CaError as error:
            return error.failed("cmp rr")
        except (InputError, ProtectionError) as error:
            return Failed(fault=Fault.MISCONFIGURED, detail=f"cmp rr: {printable(str(error))}")

    async def renewal_hint(self, held: Held, *, deadline: float) -> RenewalHint | None:
        """
        Not in CMP.
        """
        del held, deadline
        return None

    async def trust_anchors(self, *, deadline: float) -> tuple[bytes, ...]:
        """
        The configured roots: nothing that a server tells is an anchor.
        """
        del deadline
        try:
            return await threads.call(lambda: certificates_in(self._options.roots, "roots"))
        except InputError:
            return ()

    async def relation(self) -> Relation:
        """
        Where the server is, and the configured roots; CMP has no accounts.
        """
        roots = await threads.call(lambda: certificates_in(self._options.roots, "roots"))
        return Relation(where=self._options.url, roots=roots)

    async def check(self, *, deadline: float) -> tuple[Finding, ...]:
        """
        Look at credentials, and ask the CA for its certificates and for successors of its roots.
        """
        return await inspection.look(self._options, self._clock, deadline=deadline)

    async def aclose(self) -> None:
        """
        Nothing stays open between calls.
        """
