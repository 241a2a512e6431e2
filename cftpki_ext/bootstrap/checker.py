"""
What decides in the process of a command, or of a Python program: sources, stores and clock put together from settings.

Loads nothing of the service, no source before one is to be asked, and what outlives the call (`bootstrap.kept`) only where
there is a state directory: a command that judges one chain starts without them (docs/adr/0030-start-up.md).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from cftpki_cache.memory import MemoryStore
from cftpki_ext.checking.checker import Checker
from cftpki_ext.core.settings import Settings, TrustSet
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.ports.sources import StatusSource

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

    # Seconds that only ever grow. Asked nine times for each partner: without a call of ours in between.
    monotonic = staticmethod(time.monotonic)


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
    from cftpki_connectors.registry import load_factories  # noqa: PLC0415 - see the module

    clock = SystemClock()
    factories = load_factories(sorted({kind.value for kind in kinds}))
    return {SourceKind(kind): factory(clock) for kind, factory in factories.items()}


async def load_sources(sources: Iterable[StatusSource]) -> None:
    """
    Make sources of ours that are made when they are first asked, before anybody asks.

    Args:
        sources: from `make_sources`.

    """
    from cftpki_connectors.registry import LaterSource  # noqa: PLC0415 - see the module

    for source in sources:
        if isinstance(source, LaterSource):
            await source.load()


def require_sources(settings: Settings) -> None:
    """
    Make sure that every kind of source that the settings name can be loaded, without making any.

    Args:
        settings: the configuration.

    Raises:
        ConfigError: nobody, or more than one distribution, offers a kind, or it cannot be loaded.

    """
    from cftpki_connectors.registry import load_factories  # noqa: PLC0415 - see the module

    load_factories(sorted(kind.value for kind in source_kinds(settings)))


def _warn(event: str, **fields: object) -> None:
    _log.warning("%s %s", event, " ".join(f"{name}={value}" for name, value in fields.items()))


def make_checker(
    settings: Settings | None,
    *,
    fetch: bool = True,
    sources: Mapping[SourceKind, StatusSource] | None = None,
    trusts: Iterable[TrustSet] = (),
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
        sources: those that are asked, by kind; by default such as the settings' trust sets name, and these.
        trusts: trust sets that the settings need not have.
        tell: is told by event and fields when the memory of revocations was not whole.

    Returns:
        The checker, which owns its sources and stores.

    Raises:
        ConfigError: a source cannot be loaded.
        StoreError: the state directory cannot be used: without its memory of revocations nobody is judged.

    """
    if not fetch:
        sources = {}
    elif sources is None:
        named = DEFAULT_SOURCES if settings is None else source_kinds(settings)
        sources = make_sources({*named, *kinds_of(trusts)})
    if settings is None:
        return Checker(sources=sources, store=MemoryStore(), clock=SystemClock())
    from cftpki_ext.bootstrap.kept import open_kept  # noqa: PLC0415 - see the module

    kept = open_kept(settings, now=SystemClock().now(), tell=tell)
    return Checker(
        sources=sources, store=kept.store, clock=SystemClock(), proofs=kept.proofs, locks=kept.locks
    )


def source_kinds(settings: Settings) -> frozenset[SourceKind]:
    """
    The kinds of source that the settings need; the usual ones where there is no trust set at all.
    """
    return kinds_of(settings.trusts.values()) if settings.trusts else frozenset(DEFAULT_SOURCES)


def kinds_of(trusts: Iterable[TrustSet]) -> frozenset[SourceKind]:
    """
    The kinds of source that trust sets need.
    """
    named: set[SourceKind] = set()
    for trust in trusts:
        named |= {*trust.sources, *trust.cross_check}
        if trust.api_crls:
            named.add(SourceKind.CRL)  # an API that answers with a CRL is asked by the source of CRLs
        if trust.directory is not None:
            named.add(SourceKind.DIRECTORY)
    return frozenset(named)
