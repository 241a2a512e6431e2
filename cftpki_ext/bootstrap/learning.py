"""
What monitoring can learn of a service: from itself, from its configuration, from the disk, each within a bound.

Nothing here needs a configuration without faults, or a key that can be read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.bootstrap.configured import configured
from cftpki_ext.config.places import places_of
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.values import dataclass
from cftpki_ext.service.metrics import Seen
from cftpki_ext.service.monitoring.asking import TIMEOUT_S, Absence, ServiceUnreachableError, ask_status
from cftpki_ext.service.monitoring.bounded import Bounded
from cftpki_ext.service.monitoring.identities import heard
from cftpki_ext.service.renewals import make_manager

# Whoever is asked every few seconds looks at the disk so often, and whenever the configuration has changed.
AGAIN_S = 60.0
# The service's share of the time that a look may take.
_ASKING = 0.8
# A process that looks for us: it begins in a second.
_APART_S = 60.0


class CannotLookError(CftPkiError):
    """
    The process that was to look at the disk did not say what it saw.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """
    What the disk says: whether the service could begin with its configuration, and how the identities stand.

    `config_ok` is `None` where this user cannot know, `identities` where they could not be read.
    """

    config_ok: bool | None
    config_faults: int
    identities: Mapping[str, Mapping[str, Any]] | None


def look(path: Path) -> Disk:
    """
    Look at the disk.

    Keys are read, to see whether they can be used: not for a process that strangers speak to.

    Args:
        path: the configuration file.

    Returns:
        What was seen.

    """
    found = configured(path)
    settings = found.settings
    if settings is None:
        return Disk(config_ok=found.ok, config_faults=len(found.faults), identities=None)

    async def rows() -> dict[str, dict[str, Any]]:
        manager = make_manager(
            settings, clock=SystemClock(), event=lambda _event, **_fields: None, look_only=True
        )
        return {row.name: row.data() for row in await manager.rows()}

    try:
        identities = asyncio.run(rows())
    except (CftPkiError, OSError):
        identities = None
    return Disk(config_ok=found.ok, config_faults=0, identities=identities)


def look_apart(path: Path) -> Disk:
    """
    Look at the disk by a process that ends when it has: no key comes into this one.

    Args:
        path: see `look`.

    Returns:
        What it saw.

    Raises:
        CannotLookError: it did not say.

    """
    program = [sys.executable, "-I", "-B", "-c", "from cftpki_ext.cli import main; main()"]
    command = [*program, "metrics", "--look", "--config", str(path)]
    try:
        done = subprocess.run(  # noqa: S603 - this program, and a path
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_APART_S, check=True
        )
        told = json.loads(done.stdout)
        return Disk(
            config_ok=told["config_ok"], config_faults=told["config_faults"], identities=told["identities"]
        )
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        msg = f"the disk could not be looked at: {type(error).__name__}"
        raise CannotLookError(msg) from error


class Learner:
    """
    Learns what there is to tell, again and again. For any thread.

    Args:
        path: the configuration file.
        socket: the service's socket, whatever the configuration says.
        timeout_s: how long a look may take.
        looks: at the disk.

    """

    def __init__(
        self,
        path: Path,
        *,
        socket: Path | None = None,
        timeout_s: float = TIMEOUT_S,
        looks: Callable[[Path], Disk] = look,
    ) -> None:
        self._path = path
        self._socket = socket
        self._timeout_s = timeout_s
        self._looks = looks
        self._known: tuple[object, float, Disk] | None = None
        self._disk = Bounded(self._look)
        self._status = Bounded(self._ask)

    def learn(self) -> Seen:
        """
        Look now.

        Returns:
            What could be learned; what hangs is told as not known.

        """
        deadline = time.monotonic() + self._timeout_s
        asking = self._status.begin()
        mark = _mark_of(self._path)
        known = self._known
        is_young = known is not None and known[0] == mark and time.monotonic() - known[1] < AGAIN_S
        looking = None if is_young else self._disk.begin()
        status: Mapping[str, Any] | None = None
        absence: Absence | None = None
        try:
            status = asking.result(_left(deadline))
        except ServiceUnreachableError as error:
            absence = error.absence
        except TimeoutError:
            absence = Absence.SILENT
        if looking is not None:
            # Whatever a disk, or what is on it, does: what is not known is not told.
            with contextlib.suppress(Exception):
                looking.result(_left(deadline))
        known = self._known
        # Of a configuration that has changed meanwhile nothing is known yet.
        disk = known[2] if known is not None and known[0] == mark else None
        identities = None if disk is None else disk.identities
        return Seen(
            status=status,
            absence=absence,
            config_ok=None if disk is None else disk.config_ok,
            config_faults=0 if disk is None else disk.config_faults,
            identities=dict(_identities(identities, status)),
            identities_read=identities is not None,
            at=datetime.now(UTC),
        )

    def listen(self) -> str | None:
        """
        Where the configuration says that the numbers are served.
        """
        return places_of(self._path).listen

    def _ask(self) -> dict[str, Any]:
        path = self._socket or places_of(self._path).socket
        # Less than what is waited for it: it says why nothing came.
        return ask_status(path, timeout_s=self._timeout_s * _ASKING)

    def _look(self) -> None:
        mark, at = _mark_of(self._path), time.monotonic()
        self._known = mark, at, self._looks(self._path)


def _identities(
    rows: Mapping[str, Mapping[str, Any]] | None, status: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """
    The identities by the disk and the service; by the service alone where the disk could not be read.
    """
    if rows is None:
        certificates = {} if status is None else status.get("certificates", {})
        rows = {name: {"name": name, **one} for name, one in certificates.items()}
    return {name: heard(dict(row), status) for name, row in rows.items()}


def _mark_of(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic()) + 0.05
