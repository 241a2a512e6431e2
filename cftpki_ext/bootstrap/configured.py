"""
A configuration in whatever state it is: settings or faults, and where the service is in either case.
"""

from __future__ import annotations

import os
from pathlib import Path

from cftpki_ext.config import load
from cftpki_ext.config.places import Places, places_of
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """
    How a configuration is: `settings` where it can be used, else `faults`.

    `is_judged`: whether that is the service's own view: a user who may not read what it names sees faults that are none.
    """

    places: Places
    settings: Settings | None
    faults: tuple[str, ...] = ()
    is_judged: bool = True

    @property
    def ok(self) -> bool | None:
        """
        Whether the service could begin with it; `None` where this user cannot know.
        """
        return True if self.settings is not None else False if self.is_judged else None


def configured(path: Path) -> Configured:
    """
    Read a configuration, whatever state it is in.

    Args:
        path: the file.

    Returns:
        Settings or faults, and where the service is in either case.

    """
    places = places_of(path)
    try:
        return Configured(places=places, settings=load(path, forgive_ended=True))
    except ConfigError as error:
        return Configured(
            places=places, settings=None, faults=error.faults, is_judged=_is_service_user(places.state)
        )


def _is_service_user(state: Path) -> bool:
    try:
        return os.geteuid() in {0, state.stat().st_uid}
    except OSError:
        return True  # there is no state yet that would be somebody else's
