"""
What is written down about an order under way, so that another process can go on with it.

Pure. No secrets: the password is read from its file whenever a request is made.
"""

from __future__ import annotations

import base64
import hashlib

from cftpki_connectors.ca.order_state import number_of, octets_of, texts_of
from cftpki_connectors.scep.vocabulary import MessageType
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import OrderState

# Certificates are written down where they fit beside the rest into 64 KiB of state.
_MAX_ISSUED_BYTES = 30 * 1024
_MAX_NOTES = 20
# 160 bits, of the characters that every server keeps (RFC 8894 3.2.1.1).
_TRANSACTION_DIGITS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """
    How far an order has come.

    `round` counts the transactions that the server ended by a refusal. `operation` is what the present one asks,
    `signer` the certificate (DER) that it is signed with: the server knows the transaction by both. `pending` says that
    the server has it; `unanswered` counts the requests whose answer never came. `issued` is the answer, kept until
    whoever asked has it in safety.
    """

    csr: str
    round: int = 0
    operation: MessageType | None = None
    signer: bytes = b""
    pending: bool = False
    unanswered: int = 0
    notes: tuple[str, ...] = ()
    issued: tuple[bytes, ...] = ()

    def transaction(self, order: str) -> str:
        """
        The transactionID: the same after a restart, another for each request that is not the same.
        """
        operation = "" if self.operation is None else self.operation.value
        text = f"{order} {self.csr} {operation} {self.round}"
        return hashlib.sha256(text.encode()).hexdigest()[:_TRANSACTION_DIGITS].upper()

    def document(self) -> OrderState:
        """
        As plain JSON values.
        """
        issued = self.issued if sum(map(len, self.issued)) <= _MAX_ISSUED_BYTES else ()
        return {
            "csr": self.csr,
            "round": self.round,
            "operation": None if self.operation is None else self.operation.value,
            "signer": base64.b64encode(self.signer).decode(),
            "pending": self.pending,
            "unanswered": self.unanswered,
            "notes": list(self.notes[:_MAX_NOTES]),
            "issued": [base64.b64encode(one).decode() for one in issued],
        }


def resume(state: OrderState, csr: bytes) -> Attempt:
    """
    The attempt that a state tells of; a new one where the state is empty, of another request, or unreadable.
    """
    digest = hashlib.sha256(csr).hexdigest()
    new = Attempt(csr=digest)
    if state.get("csr") != digest:
        return new
    try:
        operation = state["operation"]
        return Attempt(
            csr=digest,
            round=number_of(state["round"]),
            operation=None if operation is None else MessageType(str(operation)),
            signer=octets_of(str(state["signer"])),
            pending=state["pending"] is True,
            unanswered=number_of(state["unanswered"]),
            notes=texts_of(state["notes"]),
            issued=tuple(octets_of(one) for one in texts_of(state["issued"])),
        )
    except (KeyError, ValueError):
        return new
