"""
Which enrollers there are: the entry point group `cftpki.enrollers`, ours by the same door as others'.

Owns the loading; imports no enroller by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from cftpki_ext.core.errors import ConfigError
from cftpki_ext.identity.enroller_port import EnrollerPlugin
from cftpki_ext.support.failures import reason_of

GROUP = "cftpki.enrollers"


def known_types(found: Iterable[EntryPoint] | None = None) -> tuple[str, ...]:
    """
    The types that `[enroller.NAME]` may name.
    """
    return tuple(sorted({point.name for point in (entry_points(group=GROUP) if found is None else found)}))


def load_plugin(kind: str, *, found: Iterable[EntryPoint] | None = None) -> EnrollerPlugin:
    """
    Load one type of enroller.

    Two distributions that offer the same type are a fault and not a question of order: who gets our requests
    must not depend on what was installed last.

    Args:
        kind: as in `type`.
        found: the entry points; by default those installed.

    Returns:
        The plugin.

    Raises:
        ConfigError: nobody, or more than one, offers it, or it cannot be loaded.

    """
    points = [
        point for point in (entry_points(group=GROUP) if found is None else found) if point.name == kind
    ]
    if len(points) != 1:
        makers = ", ".join(sorted(point.value for point in points)) or "nobody"
        msg = f"enroller type {kind!r} is offered by {makers}"
        raise ConfigError((msg,))
    try:
        plugin = points[0].load()
    except Exception as error:  # a third party's module may raise anything on import
        msg = f"enroller type {kind!r} ({points[0].value}) cannot be loaded: {reason_of(error)}"
        raise ConfigError((msg,)) from error
    if not isinstance(plugin, EnrollerPlugin):
        msg = f"enroller type {kind!r} ({points[0].value}) is no enroller plugin"
        raise ConfigError((msg,))
    return plugin
