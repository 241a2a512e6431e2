"""
What an order with step-ca leaves behind: which requests may have made a certificate that we never saw.

step-ca has no order that could be asked for again: each request is a new one. So it is written down before it
is made, and whoever takes the order up again knows. Pure; plain JSON values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cftpki_ext.enrolment import OrderState

# Older ones are dropped: the log has them.
MAX_UNANSWERED = 20


@dataclass(slots=True)
class Journal:
    """
    The state of one order: how many requests were made, the one under way, and those without an answer.
    """

    requests: int = 0
    under_way: str | None = None
    unanswered: list[str] = field(default_factory=list)
    renewal: str | None = None

    @classmethod
    def of(cls, state: OrderState) -> Journal:
        """
        Read a state. A request that was under way when it was saved has no answer any more.
        """
        requests, unanswered, under_way = (state.get(k) for k in ("requests", "unanswered", "under_way"))
        journal = cls(
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

    def lose(self) -> None:
        """
        There was no answer, and the CA may have acted.
        """
        if self.under_way is not None:
            self.unanswered = [*self.unanswered, self.under_way][-MAX_UNANSWERED:]
            self.under_way = None

    def state(self) -> OrderState:
        """
        What is to be saved.
        """
        return {
            "requests": self.requests,
            "under_way": self.under_way,
            "unanswered": list(self.unanswered),
            "renewal": self.renewal,
        }

    def orphans(self) -> tuple[str, ...]:
        """
        One line for each certificate that may exist at the CA and was never received.
        """
        return tuple(
            f"possible orphan: {entry} was not answered, the CA may have issued a certificate for it"
            for entry in self.unanswered
        )
