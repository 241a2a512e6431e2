"""
What an order leaves behind at a CA without orders: which requests may have made a certificate that we never saw.

step-ca, Vault and EJBCA issue while one waits, and each request is a new one. So it is written down before it
is made, and whoever takes the order up again knows. Pure; plain JSON values.
"""

from __future__ import annotations

import base64
from dataclasses import field
from datetime import datetime

from cftpki_connectors.ca.values import CaError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Failed, OrderState

# Older ones are dropped: the log has them.
MAX_UNANSWERED = 20
# A chain is 2 to 12 KB in base64; a larger one is not kept here, so that the order's state stays within its bound.
MAX_GRANTED_CHARS = 40_000


@dataclass(slots=True)
class Journal:
    """
    The state of one order: how many requests were made, the one under way, and those without an answer.
    """

    requests: int = 0
    under_way: str | None = None
    unanswered: list[str] = field(default_factory=list)
    renewal: str | None = None
    granted: list[str] = field(default_factory=list)  # the answer, base64 of DER
    notes: list[str] = field(default_factory=list)  # how it was asked for

    @classmethod
    def of(cls, state: OrderState) -> Journal:
        """
        Read a state. A request that was under way when it was saved has no answer any more.
        """
        requests, unanswered, under_way = (state.get(k) for k in ("requests", "unanswered", "under_way"))
        granted, notes = state.get("granted"), state.get("notes")
        journal = cls(
            granted=[str(entry) for entry in granted] if isinstance(granted, list) else [],
            notes=[str(entry) for entry in notes] if isinstance(notes, list) else [],
            requests=requests if isinstance(requests, int) else 0,
            unanswered=[str(entry) for entry in unanswered] if isinstance(unanswered, list) else [],
            under_way=under_way if isinstance(under_way, str) else None,
        )
        journal.lose()
        return journal

    def begin(self, way: str, *, token: str | None, now: datetime) -> None:
        """
        A request is about to be made. `token` is its id, as the CA's log has it.
        """
        self.requests += 1
        by = "" if token is None else f", token {token}"
        self.under_way = f"{way} at {now.isoformat(timespec='seconds')}{by}"

    def settle(self) -> None:
        """
        The answer came: the certificate, or a clear no.
        """
        self.under_way = None

    def keep(self, chain: tuple[bytes, ...], notes: list[str]) -> None:
        """
        The certificate came: with the next save a kill cannot lose it any more.
        """
        granted = [base64.b64encode(der).decode() for der in chain]
        if sum(map(len, granted)) <= MAX_GRANTED_CHARS:
            self.granted, self.notes, self.under_way = granted, list(notes), None

    def chain(self) -> tuple[bytes, ...]:
        """
        The certificate that came before a kill; empty where none did.
        """
        return tuple(base64.b64decode(text) for text in self.granted)

    def lose(self) -> None:
        """
        There was no answer, and the CA may have acted.
        """
        if self.under_way is not None:
            self.unanswered = [*self.unanswered, self.under_way][-MAX_UNANSWERED:]
            self.under_way = None

    def fail(self, error: CaError, *, lost: bool = True) -> Failed:
        """
        The outcome of an attempt that an error ended, and in the state whether the CA may have acted on the request.

        Args:
            error: what ended it.
            lost: whether a request whose answer is missing may have made a certificate.

        """
        step = self.under_way.partition(" ")[0] if self.under_way else "before asking"
        orphan = "; the CA may have issued nevertheless" if error.sent and self.under_way else ""
        if error.sent and lost:
            self.lose()
        else:
            self.settle()
        return Failed(fault=error.fault, detail=f"{step}: {error.detail}{orphan}", retry_at=error.retry_at)

    def state(self) -> OrderState:
        """
        What is to be saved.
        """
        return {
            "requests": self.requests,
            "under_way": self.under_way,
            "unanswered": list(self.unanswered),
            "renewal": self.renewal,
            "granted": list(self.granted),
            "notes": list(self.notes),
        }

    def orphans(self) -> tuple[str, ...]:
        """
        One line for each certificate that may exist at the CA and was never received.
        """
        return tuple(
            f"possible orphan: {entry} was not answered, the CA may have issued a certificate for it"
            for entry in self.unanswered
        )
