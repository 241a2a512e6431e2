"""
What is written down about an order under way, so that another process can go on with it.

Pure.
"""

from __future__ import annotations

import base64
import hashlib

from cftpki_connectors.ca.order_state import number_of, octets_of, texts_of
from cftpki_connectors.est.request import Operation
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import OrderState

# Certificates are written down where they fit beside the rest into 64 KiB of state.
_MAX_ISSUED_BYTES = 40 * 1024
_MAX_NOTES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """
    How far an order has come.

    `answered` counts the 202s, `unanswered` the requests whose answer never came: the CA may have issued
    for each of them. `issued` is the answer as it came, kept until whoever asked has it in safety.
    """

    csr: str
    operation: Operation | None = None
    answered: int = 0
    unanswered: int = 0
    wishes_known: bool = False
    channel_binding: bool = False
    notes: tuple[str, ...] = ()
    issued: tuple[bytes, ...] = ()

    def document(self) -> OrderState:
        """
        As plain JSON values.
        """
        issued = self.issued if sum(map(len, self.issued)) <= _MAX_ISSUED_BYTES * 3 // 4 else ()
        return {
            "csr": self.csr,
            "operation": None if self.operation is None else self.operation.value,
            "answered": self.answered,
            "unanswered": self.unanswered,
            "wishes_known": self.wishes_known,
            "channel_binding": self.channel_binding,
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
            operation=None if operation is None else Operation(str(operation)),
            answered=number_of(state["answered"]),
            unanswered=number_of(state["unanswered"]),
            wishes_known=state["wishes_known"] is True,
            channel_binding=state["channel_binding"] is True,
            notes=texts_of(state["notes"]),
            issued=tuple(octets_of(one) for one in texts_of(state["issued"])),
        )
    except (KeyError, ValueError):
        return new
