"""
What is written down about an order under way, so that another process can go on with its transaction.

Pure.
"""

from __future__ import annotations

import base64
import enum
import hashlib

from cftpki_connectors.ca.order_state import number_of, octets_of, texts_of
from cftpki_connectors.cmp.values import Kind
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import OrderState

# Certificates are written down where they fit beside the rest into 64 KiB of state; the leaf goes first.
_MAX_ISSUED_BYTES = 30 * 1024
_MAX_NOTES = 20
_NOTE_CHARACTERS = 500
_MAX_IDENTIFIER = 64


class Phase(enum.StrEnum):
    """
    Where an order is. `ASKED`: the request went out, and nothing was heard. `CONFIRMING`: our word may have been given.
    """

    NEW = "new"
    ASKED = "asked"
    WAITING = "waiting"
    CONFIRMING = "confirming"
    DONE = "done"


class By(enum.StrEnum):
    """
    What protects the transaction: the certificate that is renewed, or what is configured.
    """

    CURRENT = "current"
    CONFIGURED = "configured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """
    How far an order has come.

    `transaction` and `answered` (the nonce that the server said last) go on where it is taken up again. `request` is
    the number that is polled for, -1 for a whole answer. `unanswered` counts the requests whose answer never came: the CA may have
    issued for each; `doubts` the answers in this transaction that were not to be believed. `issued` is the certificate, then what may complete its chain;
    `refused` is what the CA was told against it, if it was.
    """

    csr: str
    phase: Phase = Phase.NEW
    kind: Kind | None = None
    by: By = By.CONFIGURED
    transaction: bytes = b""
    answered: bytes = b""
    request: int = 0
    unanswered: int = 0
    doubts: int = 0
    notes: tuple[str, ...] = ()
    issued: tuple[bytes, ...] = ()
    refused: str | None = None

    def document(self) -> OrderState:
        """
        As plain JSON values.
        """
        kept: list[str] = []
        for one in self.issued:
            text = base64.b64encode(one).decode()
            if sum(map(len, kept)) + len(text) > _MAX_ISSUED_BYTES:
                break
            kept.append(text)
        return {
            "csr": self.csr,
            "phase": self.phase.value,
            "kind": None if self.kind is None else self.kind.name.lower(),
            "by": self.by.value,
            "transaction": self.transaction.hex(),
            "answered": self.answered.hex(),
            "request": self.request,
            "unanswered": self.unanswered,
            "doubts": self.doubts,
            "notes": [note[:_NOTE_CHARACTERS] for note in self.notes[:_MAX_NOTES]],
            "issued": kept,
            "refused": None if self.refused is None else self.refused[:_NOTE_CHARACTERS],
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
        kind, refused = state["kind"], state.get("refused")
        found = Attempt(
            csr=digest,
            phase=Phase(str(state["phase"])),
            kind=None if kind is None else Kind[str(kind).upper()],
            by=By(str(state["by"])),
            transaction=_identifier(state["transaction"]),
            answered=_identifier(state["answered"]),
            request=number_of(state["request"], least=-1),
            unanswered=number_of(state["unanswered"]),
            doubts=number_of(state["doubts"]),
            notes=texts_of(state["notes"]),
            issued=tuple(octets_of(one) for one in texts_of(state["issued"])),
            refused=None if refused is None else str(refused)[:_NOTE_CHARACTERS],
        )
    except (KeyError, ValueError):
        return new
    whole = {
        Phase.NEW: True,
        Phase.ASKED: True,
        Phase.WAITING: bool(found.transaction and found.kind is not None),
        Phase.CONFIRMING: bool(found.transaction and found.kind is not None and found.issued),
        Phase.DONE: bool(found.issued),
    }
    return found if whole[found.phase] else new


def _identifier(value: object) -> bytes:
    octets = bytes.fromhex(str(value))
    if len(octets) > _MAX_IDENTIFIER:
        msg = "no identifier"
        raise ValueError(msg)
    return octets
