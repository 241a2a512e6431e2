"""
Asking a CMP server to revoke a certificate (rr, RFC 9483 4.2).

Owns the choice of what protects that request, and what its answers mean.
"""

from __future__ import annotations

from cftpki_connectors.ca.client import CaError
from cftpki_connectors.cmp import writing
from cftpki_connectors.cmp.bodies import parse_error, parse_revocation_reply
from cftpki_connectors.cmp.credentials import Credentials, usable
from cftpki_connectors.cmp.options import CmpOptions
from cftpki_connectors.cmp.protection import signer
from cftpki_connectors.cmp.status import fault_of, revoked, words
from cftpki_connectors.cmp.transaction import OPERATIONS, Transaction, read
from cftpki_connectors.cmp.values import Kind, Message, Status
from cftpki_ext.identity.enroller_port import Failed, Fault, Held
from cftpki_ext.ports.clock import Clock


async def revoke(
    options: CmpOptions, credentials: Credentials, clock: Clock, held: Held, *, reason: str, deadline: float
) -> Failed | None:
    """
    Ask for a revocation, signed with the certificate itself where it can sign, else as configured.

    Args:
        options: where the server is.
        credentials: what else may protect the request.
        clock: for deadlines and validity.
        held: the certificate with its key.
        reason: a name of RFC 5280 5.3.1.
        deadline: monotonic seconds.

    Returns:
        `None` where the certificate is revoked, also where it was before.

    Raises:
        CaError: nothing came that is to be believed.
        InputError: there is no such reason.

    """
    leaf, fault = usable(held, clock.now())
    if leaf is None:
        return Failed(fault=Fault.MISCONFIGURED, detail="cmp rr: the certificate cannot be read")
    means = credentials.means if fault is not None else signer(held)
    if means is None:
        detail = f"cmp rr: nothing can protect the request: the certificate {fault}"
        return Failed(fault=Fault.MISCONFIGURED, detail=detail)
    body = writing.revocation_request(leaf, reason)
    transaction = Transaction(
        options,
        credentials,
        means,
        clock,
        recipient=credentials.addressed(leaf),
        operation=OPERATIONS[Kind.RR],
    )
    status = _status(await transaction.ask_patiently(body, deadline=deadline))
    return None if revoked(status) else Failed(fault=fault_of(status), detail=f"cmp rr: {words(status)}")


def _status(answer: Message) -> Status:
    if answer.kind is Kind.ERROR:
        return read(parse_error, answer)
    statuses = read(parse_revocation_reply, answer) if answer.kind is Kind.RP else ()
    if len(statuses) != 1:
        raise CaError(Fault.UNREACHABLE, "the server answers with something that was not asked", sent=True)
    return statuses[0]
