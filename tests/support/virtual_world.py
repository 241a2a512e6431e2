"""
A checker in virtual time, with everything around it made here: waiting costs no time, every moment can be asserted.

Owns the small PKI of one partner, its sources, the cache, the memory of revocations and the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from cftpki_ext.checking.checker import Checker
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.octets import whole_of
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.question import Question
from cftpki_ext.ports.responses import StoredResponse
from cftpki_ext.ports.sources import StatusQuestion
from tests.support.pki import NOW, Entity, issue, make_crl, make_ocsp_response, make_root

MINUTE = timedelta(minutes=1)
OCSP, CRL, REST = SourceKind.OCSP, SourceKind.CRL, SourceKind.REST
ROOT = make_root("Root")
CA = issue(ROOT, "CA", ca=True, crl_urls=["http://root/crl"])
LEAF = issue(CA, "partner", eku=["clientAuth"], ocsp_urls=["http://ca/ocsp"], crl_urls=["http://ca/crl"])
GOOD, REVOKED = make_ocsp_response(CA, LEAF), make_ocsp_response(CA, LEAF, "revoked", reason=1)
HELD = make_ocsp_response(CA, LEAF, "revoked", reason=6)
LIST, ROOT_LIST = make_crl(CA), make_crl(ROOT)
EVER = float("inf")


# Its insides are nobody's interface: what is looked at is in no stub.
_Selecting: Any = asyncio.SelectorEventLoop


class VirtualLoop(_Selecting):
    """
    An event loop whose time jumps to the next timer as soon as nothing is left to run.
    """

    virtual_s = 0.0

    def time(self) -> float:
        return self.virtual_s

    def stand_still(self, seconds: float) -> None:
        """
        Time passes and nothing of the loop is run.
        """
        self.virtual_s += seconds

    def _run_once(self) -> None:
        if not self._ready:
            # One that was cancelled ends no wait: the loop would sleep for real until the next.
            first = min(
                (timer._when for timer in self._scheduled if not timer._cancelled), default=self.virtual_s
            )
            self.virtual_s = max(self.virtual_s, first)
        super()._run_once()


@dataclass
class Clock:
    """
    Follows the loop; `ahead` is how far the wall clock was set forward.
    """

    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        return NOW + self.ahead + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


@dataclass
class Source:
    """
    Answers by URL: what, and after how many seconds. Notes when it was asked, and what was cancelled.
    """

    kind: SourceKind
    clock: Clock
    answers: Mapping[str, tuple[float, bytes | Cause]]
    asked: list[tuple[str, float]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    closed: bool = False
    nonce: bytes | None = None
    gives_up: bool = False  # at the question's deadline, by a timer of its own, as the real ones do

    async def ask(self, question: StatusQuestion) -> Statement:
        url = question.lookup.url
        self.asked.append((url, self.clock.monotonic()))
        delay_s, answer = self.answers.get(url, (0, Cause.UNREACHABLE))
        try:
            async with asyncio.timeout_at(question.deadline if self.gives_up else None):
                await (asyncio.sleep(delay_s) if delay_s < EVER else asyncio.Event().wait())
        except asyncio.CancelledError:
            self.cancelled.append(url)
            raise
        except TimeoutError:
            answer = Cause.TIMED_OUT
        raw, failure = (answer, None) if isinstance(answer, bytes) else (None, answer)
        return Statement(
            kind=self.kind,
            origin=Origin.NETWORK,
            received_at=self.clock.now(),
            depth=question.lookup.depth,
            url=url,
            raw=raw,
            failure=failure,
            nonce=self.nonce,
        )

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class Store:
    """
    A cache that keeps everything, and how long it was told to.
    """

    kept: dict[str, StoredResponse] = field(default_factory=dict)
    seconds: dict[str, int] = field(default_factory=dict)

    def get(self, key: str) -> StoredResponse | None:
        return self.kept.get(key)

    def put(self, key: str, raw: bytes, *, received_at: datetime, keep_s: int) -> None:
        self.kept[key] = StoredResponse(raw=raw, received_at=received_at)
        self.seconds[key] = keep_s

    def drop(self, key: str) -> None:
        self.kept.pop(key, None)

    def close(self) -> None:
        pass

    @property
    def raws(self) -> list[bytes]:
        return [whole_of(kept.raw) for kept in self.kept.values()]


@dataclass
class Proofs:
    """
    A memory of revocations, perhaps a broken one.
    """

    kept: dict[str, list[Statement]] = field(default_factory=dict)
    unreadable: bool = False
    full: bool = False

    def recall(self, certificate: str) -> tuple[Statement, ...]:
        if self.unreadable:
            msg = "memory of revocations cannot be read"
            raise StoreError(msg)
        return tuple(
            replace(s, origin=Origin.KNOWN_REVOKED, depth=None) for s in self.kept.get(certificate, [])
        )

    def state(self) -> int:
        return sum(map(len, self.kept.values()))

    def remember(self, certificate: str, statement: Statement) -> None:
        if self.full:
            msg = "proof of revocation could not be kept: disk full"
            raise StoreError(msg)
        self.kept.setdefault(certificate, []).append(statement)

    def close(self) -> None:
        pass


@dataclass
class World:
    """
    One checker with everything around it. `answers` are (kind, URL) → (seconds, answer).
    """

    answers: Mapping[tuple[SourceKind, str], tuple[float, bytes | Cause]] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    store: Store = field(default_factory=Store)
    proofs: Proofs = field(default_factory=Proofs)
    leaf: Entity = LEAF
    chain: tuple[Entity, ...] = ()  # instead of leaf and CA
    anchors: tuple[Entity, ...] = (ROOT,)
    trust: dict[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    kinds: tuple[SourceKind, ...] = (OCSP, CRL, REST, SourceKind.DIRECTORY)
    nonce: bytes | None = None  # what is sent with each question
    stalls: tuple[tuple[float, float], ...] = ()  # when this process stands still, and for how long
    gives_up: bool = False
    sources: dict[SourceKind, Source] = field(default_factory=dict)

    def check(
        self,
        *,
        handed_in: tuple[Statement, ...] = (),
        **question: Any,
    ) -> Verdict:
        """
        Check once from time 0. `took` is how long it was.
        """
        return self.judge(handed_in=handed_in, **question)[0]

    def judge(
        self,
        *,
        handed_in: tuple[Statement, ...] = (),
        **question: Any,
    ) -> tuple[Verdict, tuple[Statement, ...], Question]:
        """
        Check once, and give what it rests on as well.
        """
        self.sources = {
            kind: Source(
                kind,
                self.clock,
                {u: a for (k, u), a in self.answers.items() if k is kind},
                nonce=self.nonce,
                gives_up=self.gives_up,
            )
            for kind in self.kinds
        }

        async def run() -> tuple[Verdict, tuple[Statement, ...], Question]:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            for at_s, for_s in self.stalls:
                loop.call_at(at_s, loop.stand_still, for_s)
            checker = Checker(sources=self.sources, store=self.store, clock=self.clock, proofs=self.proofs)
            asked = Question(
                **{
                    "chain": tuple(one.der for one in self.chain or (self.leaf, CA)),
                    "direction": Direction.SERVER,
                    "trust": TrustSet(name="t", anchors=tuple(one.der for one in self.anchors), **self.trust),
                    "limits": self.limits,
                    "at": self.clock.now(),
                    "rule": None,
                    **question,
                }
            )
            verdict, statements = await checker.check_with_statements(asked, handed_in)
            self.took = self.clock.monotonic()
            return verdict, statements, asked

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(run())

    def asked(self, kind: SourceKind) -> list[tuple[str, float]]:
        return [(url, round(at, 3)) for url, at in self.sources[kind].asked]


def world(**answers: Any) -> World:
    """
    A world where the root's CRL is at hand at once, and the leaf's OCSP and CRL answer as said.
    """
    ocsp, crl = answers.pop("ocsp", (0, GOOD)), answers.pop("crl", (0, LIST))
    made = {
        (OCSP, "http://ca/ocsp"): ocsp,
        (CRL, "http://ca/crl"): crl,
        (CRL, "http://root/crl"): (0, ROOT_LIST),
    }
    return World(answers={**made, **answers.pop("more", {})}, **answers)
