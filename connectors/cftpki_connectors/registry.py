"""
Which status sources there are: the entry point group `cftpki.status_sources`, ours by the same door as others'.

Owns the loading; imports no source by name. Ours are loaded when one is asked for the first time: HTTP and LDAP take longer
to import than a chain takes to be judged (docs/adr/0030-start-up.md). Others' are loaded at once, since they may be broken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from types import MappingProxyType

from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.statement import Statement
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.sources import StatusQuestion, StatusSource
from cftpki_ext.support.failures import reason_of

GROUP = "cftpki.status_sources"
# The distribution that this module is part of.
_OURS = "cftpki-ext"

# An entry point's name is the kind as in `trust.sources`, its object makes a source from a clock.
StatusSourceFactory = Callable[[Clock], StatusSource]


def load_factories(
    kinds: Iterable[str], *, found: Iterable[EntryPoint] | None = None
) -> Mapping[str, StatusSourceFactory]:
    """
    The factories of some kinds, and of those only.

    Two distributions that offer the same kind are a fault and not a question of order: which code judges
    partners must not depend on what was installed last.

    Args:
        kinds: names as in `trust.sources`.
        found: the entry points; by default those installed.

    Returns:
        kind → factory.

    Raises:
        ConfigError: kinds that nobody or more than one offers, or that cannot be loaded; all of them at once.

    """
    offered: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP) if found is None else found:
        offered.setdefault(point.name, []).append(point)
    factories: dict[str, StatusSourceFactory] = {}
    faults: list[str] = []
    for kind in dict.fromkeys(kinds):
        points = offered.get(kind, [])
        if len(points) != 1:
            makers = ", ".join(sorted(point.value for point in points)) or "nobody"
            known = ", ".join(sorted(offered)) or "none"
            faults.append(f"status source {kind!r} is offered by {makers}; known kinds: {known}")
            continue
        try:
            if _is_ours(points[0]):
                factories[kind] = _later(points[0])
                continue
            factory = points[0].load()
        except Exception as error:  # noqa: BLE001  # a third party's module may raise anything on import
            faults.append(_not_loaded(points[0], error))
            continue
        if not callable(factory):
            faults.append(f"status source {kind!r} ({points[0].value}) is no factory")
            continue
        factories[kind] = factory
    if faults:
        raise ConfigError(tuple(faults))
    return MappingProxyType(factories)


def _is_ours(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == _OURS


def _not_loaded(point: EntryPoint, error: Exception) -> str:
    return f"status source {point.name!r} ({point.value}) cannot be loaded: {reason_of(error)}"


def _later(point: EntryPoint) -> StatusSourceFactory:
    """
    A factory of what is loaded later.

    Raises:
        ModuleNotFoundError: there is no such module.

    """
    if find_spec(point.module) is None:
        msg = f"No module named {point.module!r}"
        raise ModuleNotFoundError(msg, name=point.module)
    return lambda clock: LaterSource(point, clock)


class LaterSource:
    """
    One of our sources that is made when it is asked for the first time, or `load` is called.

    Args:
        point: its entry point.
        clock: what it is made with.

    """

    def __init__(self, point: EntryPoint, clock: Clock) -> None:
        self._point = point
        self._clock = clock
        self._made: StatusSource | None = None
        self._making = asyncio.Lock()

    async def load(self) -> StatusSource:
        """
        Make the source, if it is not made yet; importing is done in a thread, beside what the loop has to do.

        Returns:
            The source.

        Raises:
            ConfigError: it cannot be loaded: something that it needs is not installed.

        """
        if self._made is not None:
            return self._made
        try:
            factory: StatusSourceFactory = await asyncio.to_thread(self._point.load)
        except Exception as error:  # whatever an import raises
            raise ConfigError((_not_loaded(self._point, error),)) from error
        async with self._making:  # others may have waited for the same import
            if self._made is None:
                self._made = factory(self._clock)
            return self._made

    async def ask(self, question: StatusQuestion) -> Statement:
        """
        See `ports.StatusSource`; one that cannot be loaded raises `ConfigError`, and nothing is decided.
        """
        return await (self._made or await self.load()).ask(question)

    async def aclose(self) -> None:
        """
        See `ports.StatusSource`.
        """
        if self._made is not None:
            await self._made.aclose()
