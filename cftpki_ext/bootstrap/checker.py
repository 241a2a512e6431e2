"""
What decides in the process of a command, or of a Python program: sources, stores and clock put together from settings.

Loads nothing of the service: a command that judges one chain starts without it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.memory import MemoryStore
from cftpki_connectors.registry import load_factories
from cftpki_ext.checking.checker import Checker
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.evidence import Record, encode
from cftpki_ext.ports import EvidenceEntry, StatusSource
from cftpki_ext.stores import evidence_directory, location_locks, open_stores, recollect

_log = logging.getLogger(__name__)
DEFAULT_SOURCES = (SourceKind.OCSP, SourceKind.CRL)


@dataclass(frozen=True, slots=True)
class SystemClock:
    """
    The machine's clocks.
    """

    def now(self) -> datetime:
        """
        The wall-clock time in UTC.
        """
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """
        Seconds that only ever grow.
        """
        return time.monotonic()


def make_sources(kinds: Iterable[SourceKind]) -> Mapping[SourceKind, StatusSource]:
    """
    Make the status sources of some kinds, ours and third parties' by the same door.

    Args:
        kinds: what trust sets name in `sources`.

    Returns:
        kind → source, to be closed by its owner.

    Raises:
        ConfigError: nobody, or more than one distribution, offers a kind.

    """
    clock = SystemClock()
    factories = load_factories(sorted({kind.value for kind in kinds}))
    return {SourceKind(kind): factory(clock) for kind, factory in factories.items()}


def require_sources(settings: Settings) -> None:
    """
    Make sure that every kind of source that the settings name can be loaded, without making any.

    Args:
        settings: the configuration.

    Raises:
        ConfigError: nobody, or more than one distribution, offers a kind, or it cannot be loaded.

    """
    load_factories(sorted(kind.value for kind in source_kinds(settings)))


def _warn(event: str, **fields: object) -> None:
    _log.warning("%s %s", event, " ".join(f"{name}={value}" for name, value in fields.items()))


def make_checker(
    settings: Settings | None,
    *,
    fetch: bool = True,
    kinds: Iterable[SourceKind] | None = None,
    tell: Callable[..., None] = _warn,
) -> Checker:
    """
    Make a checker for the command line, the Python door, or the service.

    Without settings nothing outlives the call. With settings, the cache and the memory of revocations in the
    state directory are used, so that what one door has learnt every door knows. Revocations that the memory lacks
    and the evidence proves are put back first (`evidence.restore`).

    Args:
        settings: the configuration, or none.
        fetch: whether the network may be asked.
        kinds: the sources that are wanted; by default those that the settings' trust sets name.
        tell: is told by event and fields when the memory of revocations was not whole.

    Returns:
        The checker, which owns its sources and stores.

    Raises:
        ConfigError: a source cannot be loaded.
        StoreError: the state directory cannot be used: without its memory of revocations nobody is judged.

    """
    if kinds is None:
        kinds = DEFAULT_SOURCES if settings is None else source_kinds(settings)
    sources = make_sources(kinds) if fetch else {}
    if settings is None:
        return Checker(sources=sources, store=MemoryStore(), clock=SystemClock())
    store, proofs = open_stores(settings.service)
    try:
        recollect(
            settings.service,
            proofs,
            required=settings.evidence.required,
            now=SystemClock().now(),
            tell=tell,
        )
    except StoreError:
        store.close()
        proofs.close()
        raise
    locks = location_locks(settings.service)
    return Checker(sources=sources, store=store, clock=SystemClock(), proofs=proofs, locks=locks)


def source_kinds(settings: Settings) -> frozenset[SourceKind]:
    """
    The kinds of source that the settings need; the usual ones where there is no trust set at all.
    """
    named = frozenset(
        kind for trust in settings.trusts.values() for kind in (*trust.sources, *trust.cross_check)
    )
    if any(trust.api_crls for trust in settings.trusts.values()):
        named |= {SourceKind.CRL}  # an API that answers with a CRL is asked by the source of CRLs
    return named if settings.trusts else frozenset(DEFAULT_SOURCES)


def keep_record(settings: Settings, record: Record) -> str:
    """
    Keep one record in the ledger of a configuration, for the doors that decide in their own process.

    Args:
        settings: the configuration.
        record: the decision.

    Returns:
        The record's hash in the chain (hex).

    Raises:
        StoreError: it could not be kept.

    """
    stored = encode(record)
    with contextlib.closing(EvidenceLedger(evidence_directory(settings.service))) as ledger:
        (digest,) = ledger.append(
            (
                EvidenceEntry(
                    id=record.verdict.id,
                    kept_at=SystemClock().now(),
                    document=stored.document,
                    blobs=stored.blobs,
                    revoked=stored.revoked,
                ),
            )
        )
    return digest
