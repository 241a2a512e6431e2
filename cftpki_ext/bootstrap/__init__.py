"""
The composition root: settings → stores, sources, checker, service.

The only importer of connectors, and with `stores` of cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from structlog.typing import FilteringBoundLogger

from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.memory import MemoryStore
from cftpki_connectors.registry import load_factories
from cftpki_ext.checking.checker import Checker
from cftpki_ext.config import load
from cftpki_ext.core.errors import ConfigError, StoreError
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.evidence import Record, encode
from cftpki_ext.evidence.writer import EvidenceWriter
from cftpki_ext.identity import KeyLoader
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.serving.files import FileIdentities
from cftpki_ext.identity.serving.provider import Identities, KeptIdentities
from cftpki_ext.identity.serving.signers import Signers
from cftpki_ext.ports import (
    AsyncEvidenceStore,
    EvidenceEntry,
    StatusSource,
)
from cftpki_ext.processes.spawning import Nursery
from cftpki_ext.service.audit import LogAudit
from cftpki_ext.service.children import PRELOAD, Children
from cftpki_ext.service.daemon import Daemon
from cftpki_ext.service.evidence_process import ROLE as EVIDENCE
from cftpki_ext.service.evidence_process import EvidenceProcess, setup_of
from cftpki_ext.service.judging import exchange
from cftpki_ext.service.judging.pool import Pool
from cftpki_ext.service.judging.remote import Judges
from cftpki_ext.service.renewals import Renewals, make_manager, own_status
from cftpki_ext.service.shared import Service
from cftpki_ext.stores import evidence_directory, open_stores, recollect
from cftpki_ext.support.version import version

_log = logging.getLogger(__name__)

# What a signer opens keys on tokens with; the library comes with the extra `pkcs11` and is loaded when it is needed.
TOKENS = "cftpki_connectors.pkcs11.keys:open_key"
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
    return Checker(sources=sources, store=store, clock=SystemClock(), proofs=proofs)


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


async def _evidence_store(
    settings: Settings, children: Children, logger: FilteringBoundLogger
) -> AsyncEvidenceStore:
    """
    The ledger; without it the service starts only where the configuration does not ask for evidence.
    """
    try:
        store = EvidenceProcess(
            children.begin(EVIDENCE, setup=lambda: setup_of(evidence_directory(settings.service)))
        )
        await store.check()
    except StoreError as exc:
        if settings.evidence.required:
            raise
        # The message says it all; a traceback would not.
        logger.error("evidence_unavailable", error=str(exc), detail="verdicts are answered without record")  # noqa: TRY400 - see above
    return store


def make_identities(settings: Settings, logger: FilteringBoundLogger, keys: KeyLoader) -> Identities:
    """
    The certificates of our own, from files and from the state directory.

    Args:
        settings: the configuration.
        logger: is told of each generation that is loaded, or cannot be.
        keys: loads them where they are signed with.

    Returns:
        The provider.

    """
    files = FileIdentities(settings.identities, keys=keys, warning=logger.warning, info=logger.info)
    kept = KeptIdentities(
        settings.service.state, settings.identities, keys=keys, warning=logger.warning, info=logger.info
    )
    return Identities(settings.identities, keys=keys, files=files, kept=kept)


def run_service(path: Path, log: Callable[[str], FilteringBoundLogger]) -> None:
    """
    Be the service until it is told to stop.

    Args:
        path: the configuration file, read again at SIGHUP.
        log: makes the logger once the configured form is known.

    Raises:
        ConfigError: the configuration has faults.
        StoreError: the state directory cannot be used.
        ListenError: the socket cannot be opened.

    """
    nursery = Nursery(PRELOAD)
    exchange.prepare()  # here once, for every process
    # Now: there is no thread yet, no loop, and nothing secret was read.
    nursery.fork()
    try:
        settings = load(path, forgive_ended=True)
        logger = log(settings.service.log_format)
        # The log's first line: whatever it tells later, it tells of this build.
        logger.info("starting", version=version(), config=str(path))
        asyncio.run(_serve(path, settings, nursery, logger))
    finally:
        nursery.close()


async def _serve(path: Path, settings: Settings, nursery: Nursery, logger: FilteringBoundLogger) -> None:
    kinds = source_kinds(settings) | frozenset(DEFAULT_SOURCES)
    checker = make_checker(settings, kinds=kinds, tell=logger.warning)

    def reload() -> Settings:
        fresh = load(path, forgive_ended=True)
        missing = sorted(kind.value for kind in source_kinds(fresh) - kinds)
        if missing:
            raise ConfigError((f"{path}: sources {', '.join(missing)} are new: restart the service",))
        loop.call_soon_threadsafe(renewals.replace, fresh)
        return fresh

    def make_renewals(current: Settings) -> Manager:
        asked = own_status(current, judges, SystemClock())
        return make_manager(
            current,
            clock=SystemClock(),
            event=event,
            own_status=asked,
            key_fault=lambda site, _: identities.fault(site.identity.name),
            plain_fault=lambda identity: identities.fault(identity.name),
        )

    def event(name: str, **fields: Any) -> None:
        service.audit.event(name, None, **fields)

    loop = asyncio.get_running_loop()
    renewals = Renewals(settings, make_renewals, event=event)

    children = Children(nursery, logger)
    pool = Pool(children, settings, log=logger)
    judges = Judges(checker, pool, SystemClock())
    keeper = EvidenceWriter(
        await _evidence_store(settings, children, logger),
        settings=lambda: service.settings.evidence,
        log=logger,
        clock=SystemClock(),
    )
    signers = Signers(settings.identities, processes=children, root=settings.service.state, tokens=TOKENS)
    identities = make_identities(settings, logger, signers)
    service = Service(
        settings=settings,
        checker=judges,
        identities=identities,
        audit=LogAudit(logger),
        keeper=keeper,
        log=logger,
        clock=SystemClock(),
        certificates=renewals.status,
        renewals=renewals.fault,
        processes=children.status,
    )
    tending = asyncio.create_task(keeper.tend())
    renewing = asyncio.create_task(renewals.run())
    try:
        await Daemon(service, reload=reload).run()
    finally:
        tending.cancel()
        renewing.cancel()
        await asyncio.gather(tending, renewing, return_exceptions=True)
        await keeper.aclose()
        await judges.aclose()
        await signers.aclose()
        await children.aclose()
