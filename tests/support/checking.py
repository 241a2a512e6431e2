"""
A checker as the service makes it, for tests: real sources, cache and memory of revocations in one folder.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cftpki_cache.disk import DiskStore
from cftpki_cache.location_locks import LocationLocks
from cftpki_cache.memory import MemoryStore
from cftpki_cache.revocations import RevocationMemory
from cftpki_cache.tiered import TieredStore
from cftpki_connectors.fetch.client import Fetcher
from cftpki_connectors.fetch.resolve import Resolver
from cftpki_connectors.registry import load_factories
from cftpki_connectors.status.crl import CrlSource
from cftpki_connectors.status.ocsp import OcspSource
from cftpki_ext.checking.checker import Checker
from cftpki_ext.core.vocabulary import SourceKind


@dataclass(frozen=True)
class ShiftedClock:
    """
    The machine's time, with the wall clock set forward or back.
    """

    by: timedelta = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by

    def monotonic(self) -> float:
        return time.monotonic()


def make_checker(
    folder: Path,
    clock: ShiftedClock | None = None,
    resolver: Resolver | None = None,
    *,
    shared: bool = False,
) -> Checker:
    """
    A checker over `folder`, which another one may use before, after or at the same time.

    With a resolver of its own, names become the addresses that it says. `shared`: it waits for other processes.
    """
    clock = clock or ShiftedClock()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if resolver is None:
        factories = load_factories(["ocsp", "crl"])
        sources = {SourceKind(kind): make(clock) for kind, make in factories.items()}
    else:
        sources = {
            SourceKind.OCSP: OcspSource(clock, Fetcher(resolver=resolver)),
            SourceKind.CRL: CrlSource(clock, Fetcher(resolver=resolver)),
        }
    return Checker(
        sources=sources,
        store=TieredStore(MemoryStore(), DiskStore(folder / "responses")),
        clock=clock,
        proofs=RevocationMemory(folder),
        locks=LocationLocks(folder / "responses") if shared else None,
    )
