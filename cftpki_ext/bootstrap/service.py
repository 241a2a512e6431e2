"""
The service put together from settings: its processes, stores, identities and what runs beside it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cftpki_ext.bootstrap.checker import (
    DEFAULT_SOURCES,
    SystemClock,
    load_sources,
    make_checker,
    make_sources,
    source_kinds,
)
from cftpki_ext.bootstrap.clustering import Parts, make_cluster
from cftpki_ext.bootstrap.exporter import Exporter
from cftpki_ext.bootstrap.notices import make_notices
from cftpki_ext.bootstrap.renewing import OwnCertificates
from cftpki_ext.config import load
from cftpki_ext.core.errors import ConfigError, StoreError
from cftpki_ext.core.log import BatchLog, Log
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.evidence.writer import EvidenceWriter
from cftpki_ext.identity import KeyLoader
from cftpki_ext.identity.serving.doors import DoorsHeard
from cftpki_ext.identity.serving.files import FileIdentities
from cftpki_ext.identity.serving.provider import Identities, KeptIdentities
from cftpki_ext.identity.serving.signers import Signers
from cftpki_ext.ports.evidence import AsyncEvidenceStore
from cftpki_ext.ports.sources import StatusSource
from cftpki_ext.processes.spawning import Nursery
from cftpki_ext.service.audit import LogAudit
from cftpki_ext.service.beside import Doors, beside
from cftpki_ext.service.blocking import Blocking
from cftpki_ext.service.board.driver import VerdictBoard
from cftpki_ext.service.board.native import BoardError, NativeBoard, find_library
from cftpki_ext.service.board.native import load as load_library
from cftpki_ext.service.board.publisher import Publisher
from cftpki_ext.service.board.sessions import Sessions
from cftpki_ext.service.bounded_audit import BoundedAudit
from cftpki_ext.service.children import PRELOAD, Children
from cftpki_ext.service.daemon import Daemon
from cftpki_ext.service.evidence_process import ROLE as EVIDENCE
from cftpki_ext.service.evidence_process import EvidenceProcess, setup_of
from cftpki_ext.service.judging import exchange
from cftpki_ext.service.judging.indexing import IndexInProcess
from cftpki_ext.service.judging.pool import Pool
from cftpki_ext.service.judging.remote import Judges
from cftpki_ext.service.monitoring.sources import SourceStates
from cftpki_ext.service.refresher import Refresher
from cftpki_ext.service.shared import Service
from cftpki_ext.service.watching import Watching
from cftpki_ext.state_directory import evidence_directory
from cftpki_ext.stores import open_blocks, open_gaps, open_sightings, recollect_again, watch_stores
from cftpki_ext.support.collector import nothing_dies
from cftpki_ext.support.logs import SteadyLog, event_log
from cftpki_ext.support.version import version

# What a signer opens keys on tokens with; the library comes with the extra `pkcs11` and is loaded when it is needed.
TOKENS = "cftpki_connectors.pkcs11.keys:open_key"
# After a restart hosts come again within this time, partners whose evidence is at hand most of them.
_SETTLE_S = 1.0


async def _evidence_store(settings: Settings, children: Children, logger: Log) -> AsyncEvidenceStore:
    """
    The ledger; without it the service starts only where the configuration does not ask for evidence.
    """
    try:
        store = EvidenceProcess(
            children.begin(
                EVIDENCE,
                setup=lambda: setup_of(
                    evidence_directory(settings.service), max_bytes=settings.evidence.max_bytes
                ),
            )
        )
        await store.check()
    except StoreError as exc:
        if settings.evidence.required:
            raise
        # The message says it all; a traceback would not.
        logger.error("evidence_unavailable", error=str(exc), detail="verdicts are answered without record")  # noqa: TRY400 - see above
    return store


def make_identities(settings: Settings, logger: Log, keys: KeyLoader) -> Identities:
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


def make_board(service: Service, judges: Judges, identities: Identities) -> VerdictBoard | None:
    """
    The verdict board of a service.

    Args:
        service: whose it is.
        judges: whose verdicts stand.
        identities: whose chains are given.

    Returns:
        The board; `None` where its library is not installed, or cannot be used: hosts then ask for everything.

    """
    path = find_library()
    if path is None:
        service.log.info("board_not_used", detail="its library is not installed")
        return None
    try:
        library = load_library(path)
    except BoardError as error:
        service.log.warning("board_not_used", error=str(error))
        return None
    publisher = Publisher(
        lambda size, entries, trusts: NativeBoard(library, size=size, entries=entries, trusts=trusts),
        settings=service.settings,
        identities=identities,
        log=service.log,
    )
    judges.mirror(publisher, octets=service.settings.service.board_bytes)
    sessions = Sessions(service, publisher, library=library, seen=judges.seen, forget=judges.forget)
    return VerdictBoard(service, publisher, sessions, folder=beside)


def make_blocking(settings: Settings, judges: Judges, logger: Log) -> Blocking:
    """
    The partners that operators have shut out, read before anybody can ask.

    Args:
        settings: name the state directory.
        judges: judge by them, and end what stands where they change.
        logger: is told of each.

    Returns:
        What looks at them.

    """
    blocking = Blocking(open_blocks(settings.service), judges.end_standing, clock=SystemClock(), log=logger)
    judges.blocks = blocking.current
    blocking.look()
    return blocking


def run_service(path: Path, log: Callable[[str], BatchLog], *, metrics: bool = True) -> None:
    """
    Be the service until it is told to stop.

    Args:
        path: the configuration file, read again at SIGHUP.
        log: makes the logger once the configured form is known.
        metrics: serve `[metrics] listen`; by default yes, unless another process does.

    Raises:
        ConfigError: the configuration has faults.
        StoreError: the state directory cannot be used.
        ListenError: the socket cannot be opened.

    """
    nursery = Nursery(PRELOAD)
    with nothing_dies():
        exchange.prepare()  # here once, for every process
    # Now: there is no thread yet, no loop, and nothing secret was read.
    nursery.fork()
    # Asked before the service can hear: the daemon takes it once it listens.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        settings = load(path, forgive_ended=True, apart=True)
        logger = log(settings.service.log_format)
        # The log's first line: whatever it tells later, it tells of this build.
        logger.info("starting", version=version(), config=str(path))
        asyncio.run(_serve(path, settings, nursery, logger, metrics=metrics))
    finally:
        nursery.close()


async def _settled(daemon: Daemon) -> None:
    """
    Wait until those who waited for the service to begin have been answered: what nobody waits for comes after them.
    """
    await daemon.ready.wait()
    await asyncio.sleep(_SETTLE_S)


async def _refresh(daemon: Daemon, refresher: Refresher) -> None:
    """
    Read the partners that are remembered, and renew their evidence, which is due in minutes at the earliest.
    """
    await _settled(daemon)
    await refresher.run()


async def _load_late(daemon: Daemon, sources: Mapping[SourceKind, StatusSource], logger: Log) -> None:
    """
    Import what asks over the network once partners are answered, and before the first has to be asked for.
    """
    await _settled(daemon)
    try:
        await load_sources(sources.values())
        # httpcore looks for this module six times with each request; where there is none, Python would search for it each time.
        if find_spec("sniffio") is None:
            sys.modules["sniffio"] = None  # type: ignore[assignment] # what that means: see importlib
    except ConfigError as error:
        # Whoever has to be asked through it is told 80, and the log names the call as well.
        logger.error("source_not_loaded", error=str(error))  # noqa: TRY400 - the message says it all


def _require_restart(path: Path, settings: Settings, fresh: Settings, kinds: frozenset[SourceKind]) -> None:
    """
    Refuse what a service that runs cannot take over.
    """
    missing = sorted(kind.value for kind in source_kinds(fresh) - kinds)
    if missing:
        raise ConfigError((f"{path}: sources {', '.join(missing)} are new: restart the service",))
    if fresh.cluster != settings.cluster:
        raise ConfigError((f"{path}: [cluster] is another one: restart the service",))


async def _serve(path: Path, settings: Settings, nursery: Nursery, plain: BatchLog, *, metrics: bool) -> None:
    notices, written = make_notices(settings, plain, lambda: service.status())  # noqa: PLW0108 - made below
    logger = SteadyLog(written)
    kinds = source_kinds(settings) | frozenset(DEFAULT_SOURCES)
    sources = make_sources(kinds)
    states = SourceStates(logger, SystemClock(), settings)
    watched = states.watch(sources)
    checker = make_checker(settings, sources=watched, tell=logger.warning)

    def reload() -> Settings:
        fresh = load(path, forgive_ended=True, apart=True)
        _require_restart(path, settings, fresh, kinds)
        return fresh

    def event(name: str, **fields: Any) -> None:
        service.audit.event(name, None, **fields)

    def heard(told: DoorsHeard) -> None:
        service.trail.at_signer(told)

    children = Children(nursery, logger)
    exporter = Exporter(children, path, settings, logger)
    checker.index_by(IndexInProcess(children, logger))
    pool = Pool(children, settings, log=logger)
    judges = Judges(checker, pool, SystemClock())
    blocking = make_blocking(settings, judges, logger)
    keeper = EvidenceWriter(
        await _evidence_store(settings, children, logger),
        settings=lambda: service.settings.evidence,
        log=logger,
        clock=SystemClock(),
        gaps=open_gaps(settings.service, tell=logger.warning),
    )
    doors = Doors(settings.service.socket, lambda: service.settings, logger)
    signers = Signers(
        settings.identities,
        processes=children,
        root=settings.service.state,
        tokens=TOKENS,
        doors=doors,
        heard=heard,
    )
    identities = make_identities(settings, logger, signers)
    renewals = OwnCertificates(
        settings, children=children, judges=judges, identities=identities, event=event, log=logger
    )
    # Not the steady one: a verdict that cannot be told is none.
    audit = BoundedAudit(LogAudit(written, many=written.many), SystemClock())
    refresher = Refresher(
        judges,
        open_sightings(settings.service),
        keeper,
        settings=settings,
        audit=audit,
        log=logger,
        clock=SystemClock(),
    )
    judges.watcher = refresher
    judges.told = states.judged
    parts = Parts(checker=checker, judges=judges, refresher=refresher, settings=lambda: service.settings)
    cluster = make_cluster(settings, parts, SystemClock(), logger)
    service = Service(
        settings=settings,
        checker=judges,
        identities=identities,
        audit=audit,
        keeper=keeper,
        log=logger,
        clock=SystemClock(),
        certificates=renewals.status,
        renewals=renewals.fault,
        processes=children.status,
        refresh=refresher.status,
        blocks=blocking.status,
        notify=notices.status,
        sources=states,
        cluster=cluster.status if cluster is not None else lambda: None,
    )
    service.board = make_board(service, judges, identities)
    service.followers = (renewals.replace, notices.replace_settings, exporter.replace_settings)
    watching = Watching(
        watch_stores(settings.service),
        judges,
        clock=SystemClock(),
        log=logger,
        restore=lambda: recollect_again(settings.service, now=SystemClock().now(), tell=event_log().error),
        also=blocking.look,
    )
    checker.remembered = watching.remembered
    daemon = Daemon(service, reload=reload)
    work = (
        watching.run(),
        keeper.tend(),
        renewals.run(daemon.ready),
        _refresh(daemon, refresher),
        notices.run(),
        audit.run(),
        _load_late(daemon, sources, logger),
        *((exporter.run(daemon.ready),) if metrics else ()),
        *((cluster.run(),) if cluster is not None else ()),
    )
    beside = tuple(map(asyncio.create_task, work))
    try:
        await daemon.run()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await _close(
            exporter.aclose,
            watching.close,
            refresher.aclose,
            keeper.aclose,
            judges.aclose,
            *((cluster.aclose,) if cluster is not None else ()),
            signers.aclose,
            doors.remove,
            children.aclose,
        )


async def _close(*closers: Callable[[], Awaitable[None] | None]) -> None:
    """
    Close one after the other.
    """
    for close in closers:
        closing = close()
        if closing is not None:
            await closing
