"""
One hearing: the asking for statements about one chain, within one budget.

Owns the order of asking, hedging and the deadline: cache, network, delta CRLs, and the cache's older things last.
Decides nothing: whether a hop is established, and where it may be asked, is what `decide.Examination` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.verdict import HopFinding, HopStatus
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.decision.decide import Examination
from cftpki_ext.ports import Clock, ResponseStore, StatusQuestion, StatusSource
from cftpki_ext.revocation.cache_key import certificate_key, list_key


class Hearing:
    """
    Gathers `heard` for one examination. Never raises for what a network or a cache does.

    A location is asked at most once. What the cache holds counts at once while it is younger than its refresh
    age; what is older only counts where nobody could be asked.
    """

    def __init__(
        self,
        examination: Examination,
        *,
        sources: Mapping[SourceKind, StatusSource],
        store: ResponseStore,
        clock: Clock,
        heard: Sequence[Statement],
    ) -> None:
        """
        Prepare to ask.

        Args:
            examination: what is to be established.
            sources: who is asked, by kind; a kind without a source is never asked.
            store: the cache, only read here.
            clock: the time of waits and ages.
            heard: what is known already.

        """
        self.heard = list(heard)
        self._examination = examination
        self._sources = sources
        self._store = store
        self._clock = clock
        self._young: set[Lookup] = set()
        self._old: dict[int, list[Statement]] = {}
        self._looked: set[Lookup] = set()
        self._asked: set[Lookup] = set()
        limits = examination.question.limits
        self._deadline = clock.monotonic() + (limits.budget_ms - limits.reserve_ms) / 1000

    async def run(self) -> None:
        """
        Ask until every hop is established, nobody is left to ask, or the budget (less its reserve) is used up.
        """
        examination = self._examination
        for lookup in examination.lookups:
            self._look_up(lookup)
        if examination.may_fetch:
            # Every hop has the whole budget: they are asked side by side and share one deadline.
            await asyncio.gather(*(self._ask_hop(hop) for hop in examination.hops if self._is_open(hop)))
        for hop in examination.hops:
            self._bring_old(hop)
            self._deltas(hop)
            self._bring_old(hop)

    def _is_open(self, hop: int) -> bool:
        """
        Whether a hop needs anybody to be asked: most are settled by what the cache had.
        """
        return not self._settled(hop) or any(
            lookup not in self._asked for lookup in self._examination.deltas(self._finding(hop), self.heard)
        )

    async def _ask_hop(self, hop: int) -> None:
        """
        Ask the hop's locations in order; the next starts when one is slow or has not established the status.
        """
        limits = self._examination.question.limits
        running: dict[asyncio.Task[Statement], Lookup] = {}
        deltas: set[Lookup] = set()
        waiting = self._to_ask(hop)
        try:
            while True:
                for lookup in self._deltas(hop):
                    deltas.add(lookup)
                    running[asyncio.create_task(self._ask(lookup))] = lookup
                settled = self._settled(hop)
                if settled and deltas.isdisjoint(running.values()):
                    return
                if waiting and not settled:
                    lookup = waiting.pop(0)
                    if lookup in self._asked:
                        continue
                    self._asked.add(lookup)
                    running[asyncio.create_task(self._ask(lookup))] = lookup
                if not running:
                    # Nobody is left to ask. An old list may still name deltas that nobody was asked for.
                    if self._bring_old(hop):
                        continue
                    return
                left_s = max(0.0, self._deadline - self._clock.monotonic())
                more = bool(waiting) and not settled
                patience_s = min(left_s, limits.hedge_ms / 1000) if more else left_s
                done, _ = await asyncio.wait(running, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del running[task]
                    self.heard.append(task.result())
                if self._clock.monotonic() >= self._deadline:
                    self._out_of_time(running.values(), () if settled else waiting)
                    return
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _to_ask(self, hop: int) -> list[Lookup]:
        """
        The planned locations of a hop, without those whose young statement has established something already.
        """
        said = {s.url for s in self._finding(hop).sources if s.status is not HopStatus.UNDETERMINED}
        return [
            lookup
            for lookup in self._examination.lookups
            if lookup.hop == hop
            and lookup.kind in self._sources
            and not (lookup in self._young and lookup.url in said)
        ]

    def _finding(self, hop: int) -> HopFinding:
        return self._examination.hop(hop, tuple(self.heard))

    def _settled(self, hop: int) -> bool:
        """
        Whether no further source is needed: the status stands, and all that are to agree have spoken.
        """
        finding = self._finding(hop)
        if finding.status is HopStatus.UNDETERMINED:
            return False
        spoken = {s.kind for s in finding.sources if s.status is not HopStatus.UNDETERMINED}
        return spoken.issuperset(self._examination.question.trust.cross_check)

    def _deltas(self, hop: int) -> list[Lookup]:
        """
        The delta CRLs that are to be fetched now. Those that the cache has are heard from there.
        """
        wanted: list[Lookup] = []
        for lookup in self._examination.deltas(self._finding(hop), self.heard):
            if lookup in self._asked:
                continue
            self._asked.add(lookup)
            self._look_up(lookup)
            if lookup in self._young or lookup.kind not in self._sources or not self._examination.may_fetch:
                continue
            if self._clock.monotonic() < self._deadline:
                wanted.append(lookup)
        return wanted

    async def _ask(self, lookup: Lookup) -> Statement:
        question = self._examination.question
        certificate, issuer = self._examination.pair(lookup.hop)
        return await self._sources[lookup.kind].ask(
            StatusQuestion(
                lookup=lookup,
                certificate=certificate,
                issuer=issuer,
                trust=question.trust,
                limits=question.limits,
                deadline=self._deadline,
            )
        )

    def _look_up(self, lookup: Lookup) -> None:
        """
        Hear what the cache has of a location, once: at once where it is young, else when all others were asked.
        """
        if lookup in self._looked:
            return
        self._looked.add(lookup)
        stored = self._store.get(store_key(self._examination, lookup))
        if stored is None:
            return
        statement = Statement(
            kind=lookup.kind,
            origin=Origin.CACHE,
            received_at=stored.received_at,
            hop=lookup.hop,
            url=lookup.url,
            raw=stored.raw,
        )
        limits = self._examination.question.limits
        refresh = limits.crl_refresh if lookup.kind is SourceKind.CRL else limits.ocsp_refresh
        # An age below zero is a clock that was set back: the source is asked.
        if timedelta(0) <= self._clock.now() - stored.received_at < refresh:
            self._young.add(lookup)
            self.heard.append(statement)
        else:
            self._old.setdefault(lookup.hop, []).append(statement)

    def _bring_old(self, hop: int) -> bool:
        """
        Hear what the cache still has of a hop.
        """
        old = self._old.pop(hop, [])
        self.heard.extend(old)
        return bool(old)

    def _out_of_time(self, running: Iterable[Lookup], waiting: Iterable[Lookup]) -> None:
        """
        Note who did not answer in time, and who was not even asked.
        """
        limits = self._examination.question.limits
        details = [(lookup, "no answer within") for lookup in running]
        details += [(lookup, "not asked within") for lookup in waiting if lookup not in self._asked]
        self.heard.extend(
            Statement(
                kind=lookup.kind,
                origin=Origin.NETWORK,
                received_at=self._clock.now(),
                hop=lookup.hop,
                url=lookup.url,
                failure=Cause.TIMED_OUT,
                detail=f"{detail} the budget of {limits.budget_ms} ms",
                elapsed_ms=limits.budget_ms - limits.reserve_ms,
            )
            for lookup, detail in details
        )


def store_key(examination: Examination, lookup: Lookup) -> str:
    """
    The name under which the cache keeps the answer to a lookup.

    Args:
        examination: whose path the lookup speaks of.
        lookup: the location.

    Returns:
        The key, see `response_key`.

    """
    certificate, issuer = examination.pair(lookup.hop)
    if lookup.kind is SourceKind.CRL:
        return list_key(issuer_name=issuer.subject.der, issuer_spki=issuer.spki, url=lookup.url)
    return certificate_key(
        lookup.kind,
        issuer_name=issuer.subject.der,
        issuer_spki=issuer.spki,
        serial=certificate.serial,
        url=lookup.url,
    )
