"""
An enroller without a network whose CA keeps its books in a file, so that it outlives the processes that ask it.

`ScriptedCa(folder)` issues at once. `plan` is a list of what the next calls of `advance` do instead, taken from the
front: "pending", "unreachable", "unavailable", "rate_limited", "refused", "misconfigured", "lost", "wrong_key", "fewer_names",
"short", "shuffled", "other_root", "future", "expired", "raise", "issue".

The books count orders and certificates: an order is opened once per order id, and finalised once; what was finalised
is handed out again, as an ACME server does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key

from cftpki_ext.identity.enroller_port import Failed, Fault, Issued, Pending, RenewalHint
from cftpki_ext.identity.store.durable import replace_file
from tests.support import pki

DAY = timedelta(days=1)


class TestClock:
    """
    A clock that stands where it was put; monotonic seconds follow it.
    """

    __test__ = False

    def __init__(self, now: datetime) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def advance(self, delta: timedelta) -> None:
        self.time += delta


@dataclass
class ScriptedCa:
    folder: Path
    root: Any
    issuing: Any
    clock: Any
    name: str = "corp"
    protocol: str = "scripted"
    lifetime: timedelta = 30 * DAY
    backdate: timedelta = timedelta(minutes=1)
    ends_at: datetime | None = None  # of the issuing CA: no certificate lives longer
    retry_after: timedelta = timedelta(hours=3)
    pending_for: timedelta = timedelta(hours=1)
    plan: list[str] = field(default_factory=list)
    hint: RenewalHint | None = None
    step: Callable[[str], None] = lambda _where: None
    calls: int = 0
    orders_seen: list[Any] = field(default_factory=list)
    revoked: list[int] = field(default_factory=list)
    anchors: bool = True
    other: Any = None

    def books(self) -> dict[str, Any]:
        try:
            return json.loads((self.folder / "books.json").read_text())
        except FileNotFoundError:
            return {"orders": {}, "certificates": []}

    def _write(self, books: dict[str, Any]) -> None:
        self.folder.mkdir(exist_ok=True)
        replace_file(self.folder / "books.json", json.dumps(books).encode())

    async def advance(self, order, state, save, *, deadline):
        del deadline
        self.calls += 1
        self.orders_seen.append(order)
        self.step("called")
        what = self.plan.pop(0) if self.plan else "issue"
        if what == "raise":
            msg = "a defect of the adapter"
            raise RuntimeError(msg)
        if what == "unreachable":
            return Failed(fault=Fault.UNREACHABLE, detail="connection refused")
        if what == "misconfigured":
            return Failed(fault=Fault.MISCONFIGURED, detail="wrong password")
        if what == "rate_limited":
            retry_at = self.clock.now() + self.retry_after
            return Failed(fault=Fault.RATE_LIMITED, detail="too many", retry_at=retry_at)
        if what == "unavailable":
            retry_at = self.clock.now() + self.retry_after
            return Failed(fault=Fault.UNREACHABLE, detail="HTTP 503", retry_at=retry_at)
        if not state:
            await save({"step": "opening"})
            self.step("saved opening")
        url = state.get("url") or f"order/{order.id}"
        books = self.books()
        books["orders"].setdefault(url, {"csr": order.csr.hex(), "serial": None})
        if books["orders"][url]["csr"] != order.csr.hex():
            return Failed(fault=Fault.REFUSED, detail="another request for the same order")
        self._write(books)
        self.step("opened")
        await save({"step": "open", "url": url})
        self.step("saved open")
        if what == "refused":
            return Failed(fault=Fault.REFUSED, detail="policy says no")
        if what == "lost":
            return Failed(fault=Fault.ORDER_LOST, detail="no such order")
        if what == "pending":
            return Pending(retry_at=self.clock.now() + self.pending_for, detail="somebody has to approve")
        books = self.books()
        entry = books["orders"][url]
        if entry["serial"] is None:
            ders = [der.hex() for der in self._issue(order, what)]
            entry["serial"] = ders
            books["certificates"].append(url)
            self._write(books)
        self.step("finalised")
        await save({"step": "finalised", "url": url})
        self.step("saved finalised")
        certificates = tuple(bytes.fromhex(text) for text in entry["serial"])
        return Issued(certificates=certificates, extra=(self.issuing.der,))

    def _issue(self, order, what):
        csr = x509.load_der_x509_csr(order.csr)
        now = self.clock.now().replace(microsecond=0)
        begins, lifetime = now - self.backdate, self.lifetime + self.backdate - timedelta(minutes=1)
        if self.ends_at is not None:
            lifetime = min(lifetime, self.ends_at - begins)
        names = [f"dns:{name}" for name in order.names.dns] + [f"ip:{a}" for a in order.names.addresses]
        if what == "fewer_names":
            names = names[:1]
        if what == "short":
            lifetime = timedelta(hours=1)
        if what == "future":
            begins = now + timedelta(hours=2)
        if what == "expired":
            begins, lifetime = now - 2 * DAY, DAY
        private = pki.key("ec", "another") if what == "wrong_key" else _PublicOnly(csr.public_key())
        eku = [f"{usage}Auth" for usage in sorted(order.usages)]
        issuer = self.other if what == "other_root" else self.issuing
        leaf = pki.issue(
            issuer,
            order.names.common_name or "",
            private=private,
            san=names,
            eku=eku,
            usage=["digitalSignature", "keyEncipherment"],
            not_before=begins,
            not_after=begins + lifetime,
            serial=x509.random_serial_number(),
        )
        if what == "shuffled":
            return [self.root.der, self.issuing.der, leaf.der, self.issuing.der]
        return [leaf.der]

    async def revoke(self, held, *, reason, deadline):
        del reason, deadline
        self.revoked.append(x509.load_der_x509_certificate(held.chain[0]).serial_number)

    async def renewal_hint(self, held, *, deadline):
        del held, deadline
        return self.hint

    async def trust_anchors(self, *, deadline):
        del deadline
        return (self.root.der,) if self.anchors else ()

    async def aclose(self):
        pass


class _PublicOnly:
    """
    What `pki.issue` needs of a subject's key: its public half.
    """

    def __init__(self, public: Any) -> None:
        self._public = public

    def public_key(self) -> Any:
        return self._public


def make_ca(folder: Path, clock: Any, *, saved: Path | None = None, **options: Any) -> ScriptedCa:
    """
    A CA with a root and an issuing CA; with `saved` they are the same in every process.
    """
    start = datetime(2026, 1, 1, tzinfo=UTC)
    keys = [pki.key("ec", f"scripted {which}") for which in ("root", "issuing")]
    if saved is not None:
        keys = [
            load_der_private_key((saved / f"{which}.der").read_bytes(), None) for which in ("root", "issuing")
        ]
    root = pki.issue(None, "Scripted Root", ca=True, private=keys[0], not_before=start, serial=1)
    issuing = pki.issue(root, "Scripted Issuing", ca=True, private=keys[1], not_before=start, serial=2)
    other = pki.make_root("Another Root", not_before=start)
    return ScriptedCa(folder=folder, root=root, issuing=issuing, clock=clock, other=other, **options)
