"""
Which status sources there are: the entry point group `cftpki.status_sources`, ours by the same door as others'.

Owns the loading; imports no source by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from cftpki_ext.core.errors import ConfigError
from cftpki_ext.ports import Clock, StatusSource
from cftpki_ext.support.failures import reason_of

GROUP = "cftpki.status_sources"

# An entry point's name is the kind as in `trust.sources`, its object makes a source from a clock.
StatusSourceFactory = Callable[[Clock], StatusSource]


def load_factories(
    kinds: Iterable[str], *, found: Iterable[EntryPoint] | None = None
) -> Mapping[str, StatusSourceFactory]:
    """
    Load the factories of some kinds, and of those only.

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
            factory = points[0].load()
        except Exception as error:  # noqa: BLE001  # a third party's module may raise anything on import
            faults.append(f"status source {kind!r} ({points[0].value}) cannot be loaded: {reason_of(error)}")
            continue
        if not callable(factory):
            faults.append(f"status source {kind!r} ({points[0].value}) is no factory")
            continue
        factories[kind] = factory
    if faults:
        raise ConfigError(tuple(faults))
    return MappingProxyType(factories)
