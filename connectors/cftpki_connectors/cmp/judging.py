"""
What our own judgement has against a certificate, and what is handed out once the CA has heard it.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cftpki_connectors.ca.order_state import unanswered_note
from cftpki_connectors.cmp.chains import for_key
from cftpki_connectors.cmp.state import Attempt
from cftpki_ext.identity.enroller_port import Failed, Fault, Issued, Order


async def objection_to(attempt: Attempt, order: Order) -> str | None:
    """
    What the order's own judgement has against the certificate; that it is for our key is looked at in any case.
    """
    spki = order.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if not for_key(attempt.issued[0], spki):
        return "it is not for the key that was asked for"
    return None if order.objection is None else await order.objection(issued(attempt))


async def handed_out(attempt: Attempt, order: Order) -> Issued | Failed:
    """
    The answer of an attempt that is done.

    Where the CA was told no, it may have revoked the certificate: one that our judgement would take by now is not handed
    out. One that it still refuses is, so that the order's end says all that is wrong with it.
    """
    if attempt.refused is None or await objection_to(attempt, order) is not None:
        return issued(attempt)
    detail = f"cmp: the certificate was refused at the CA, and is not taken any more: {attempt.refused}"
    return Failed(fault=Fault.REFUSED, detail=detail)


def issued(attempt: Attempt) -> Issued:
    """
    The certificate of an attempt that has one, with what completes its chain and what is to be told.
    """
    notes = (*attempt.notes, *unanswered_note(attempt.unanswered))
    return Issued(
        certificates=attempt.issued[:1], extra=attempt.issued[1:], notes=tuple(dict.fromkeys(notes))
    )
