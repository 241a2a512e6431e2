"""
What a test needs around an enroller: clocks, orders, and a memory of what was saved.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_ext.identity.enroller_port import EnrollerContext, Held, Issued, Names, Order, OrderState, Usage
from tests.support import pki


@dataclass(slots=True)
class SystemClock:
    """
    The machine's time, wrong by `ahead`.
    """

    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()


class KilledError(Exception):
    """
    The process ends here, as far as the order is concerned.
    """


@dataclass(slots=True)
class Saves:
    """
    The journal of an order: all states that were saved. `killed_at` is the number of the save that never returns.
    """

    states: list[OrderState] = field(default_factory=list)
    killed_at: int | None = None

    async def __call__(self, state: OrderState) -> None:
        if self.killed_at == len(self.states):
            raise KilledError
        self.states.append(dict(state))

    @property
    def last(self) -> OrderState:
        return self.states[-1] if self.states else {}


def in_s(seconds: float) -> float:
    """
    A deadline.
    """
    return time.monotonic() + seconds


def context(folder: Path, *, name: str = "corp", ahead: timedelta = timedelta(0)) -> EnrollerContext:
    """
    An enroller's surroundings, with a state folder of its own in `folder`.
    """
    state = folder / f"state-{name}"
    state.mkdir(mode=0o700, exist_ok=True)
    return EnrollerContext(name=name, state=state, clock=SystemClock(ahead))


def make_order(
    *alternatives: str, private: Any = None, common_name: str | None = None, **changes: Any
) -> Order:
    """
    An order for DNS names and addresses, with a request that names them too.
    """
    private = private if private is not None else pki.key("ec", 700)
    addresses = tuple(ip_address(name) for name in alternatives if name[0].isdigit() or ":" in name)
    dns = tuple(name for name in alternatives if not (name[0].isdigit() or ":" in name))
    subject = [] if common_name is None else [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]
    general = [*map(x509.DNSName, dns), *map(x509.IPAddress, addresses)]
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(subject))
        .add_extension(x509.SubjectAlternativeName(general), critical=False)
        .sign(private, hashes.SHA256())
    )
    fields: dict[str, Any] = {
        "id": "order-1",
        "identity": "mft",
        "names": Names(common_name=common_name, dns=dns, addresses=addresses),
        "usages": frozenset(Usage),
        "key": private,
        "csr": csr.public_bytes(Encoding.DER),
    }
    return Order(**(fields | changes))


def held(issued: Issued, order: Order) -> Held:
    """
    What was issued, as something to renew.
    """
    return Held(chain=issued.certificates, key=order.key)


def leaf_of(issued: Issued) -> x509.Certificate:
    """
    The first certificate.
    """
    return x509.load_der_x509_certificate(issued.certificates[0])
