"""
What the console looks at: the child process that reads stores and configuration, and gives plain data.

It reads what strangers wrote, and keys of ours to see whether they can be used: so it has no network, begins no programs and
can write no file, and whoever speaks HTTP is another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.bootstrap.configured import Configured, configured
from cftpki_ext.console import stored
from cftpki_ext.console.series import series_of
from cftpki_ext.console.trying import try_policy
from cftpki_ext.core.blocks import block_to_plain
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.settings import ServiceSettings, Settings
from cftpki_ext.doctor.machine import Onlooker
from cftpki_ext.evidence import Row
from cftpki_ext.looking.health import here, lately
from cftpki_ext.looking.partners import (
    NEWEST_RECORDS,
    NoPartnerError,
    Overview,
    exception_data,
    overview_of,
    standing_data,
)
from cftpki_ext.looking.records import NotFoundError
from cftpki_ext.processes.child import Attended, Handler
from cftpki_ext.processes.confine import MIB, Bounds, SystemCalls
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.worker import Role
from cftpki_ext.stores import stored_evidence
from cftpki_ext.support.failures import reason_of

T = TypeVar("T")
Given = Mapping[str, Any]

# No network and no programs; files are read, and none is written.
_BOUNDS = Bounds(memory_bytes=3072 * MIB, descriptors=256, file_bytes=0, calls=SystemCalls.FILES, nice=5)
# Whoever turns pages, or searches, is shown the same for so long.
_YOUNG_S = 30.0
# The evidence's chain is looked through for so long each time: `cftpki audit verify` looks through all of it.
_VERIFY_S, _READ_S = 3.0, 5.0
_PAST = timedelta(days=7)
# How many of the newest records are looked at: the next step where it takes no more processor time than that, as far as can be told.
_STEPS, _AFFORDED_S = (1_000, 5_000, NEWEST_RECORDS), 10.0


def role(name: str) -> Role:
    """
    A child that looks; a few wait for it, and whoever comes then is told to come again.
    """
    return Role(name=name, factory=f"{__name__}:make", bounds=_BOUNDS, queue=8)


def make(setup: Message) -> Handler | Attended:
    """
    Prepare to look.

    Args:
        setup: `config`, the configuration file.

    Returns:
        The handler: `look` and `given` in, `found` or `error` out.

    """
    return Looker(Path(setup.value["config"])).answer


class Looker:
    """
    Looks at one configuration and its state directory, one look at a time.

    Args:
        config: the file, which may have faults.

    """

    def __init__(self, config: Path) -> None:
        self._config = config
        # Made here: later, no pair of sockets can be.
        self._loop = asyncio.new_event_loop()
        self._known: dict[object, tuple[float, Any]] = {}
        self._looks: Mapping[str, Callable[[Given], dict[str, Any]]] = {
            "health": self._health,
            "partners": self._partners,
            "partner": self._partner,
            "verdicts": self._verdicts,
            "verdict": self._verdict,
            "sources": self._sources,
            "identities": self._identities,
            "exceptions": self._exceptions,
            "choices": self._choices,
            "trial": self._trial,
        }

    def answer(self, message: Message) -> Message:
        """
        Look once. What cannot be read is an answer as well.
        """
        try:
            found = self._looks[message.value["look"]](message.value["given"])
        except (NotFoundError, NoPartnerError) as error:
            return Message({"error": str(error), "is_missing": True})
        except CftPkiError as error:
            return Message({"error": str(error)})
        except OSError as error:
            return Message({"error": reason_of(error)})
        return Message({"found": {**found, "at": _text(datetime.now(UTC))}})

    # --- what several looks need ----------------------------------------------------------------------------------

    def _remember(self, key: object, make: Callable[[], T]) -> T:
        now = time.monotonic()
        self._known = {name: one for name, one in self._known.items() if now - one[0] < _YOUNG_S}
        if key not in self._known:
            self._known[key] = (time.monotonic(), make())
        found: T = self._known[key][1]
        return found

    def _configured(self) -> Configured:
        return self._remember("configuration", lambda: configured(self._config))

    def _settings(self) -> Settings:
        """
        The settings; where the configuration has faults, what can be known without it.
        """
        found = self._configured()
        if found.settings is not None:
            return found.settings
        return Settings(service=ServiceSettings(socket=found.places.socket, state=found.places.state))

    def _overview(self) -> Overview:
        return self._remember(
            "partners", lambda: affordable(lambda most: overview_of(self._settings(), None, most=most))
        )

    def _rows(self) -> tuple[Row, ...]:
        return self._remember(
            "rows", lambda: affordable(lambda most: stored.rows(self._settings().service, most))
        )

    # --- the looks ------------------------------------------------------------------------------------------------

    def _health(self, _: Given) -> dict[str, Any]:
        found = self._configured()
        data: dict[str, Any] = {
            "config": {"ok": found.ok, "faults": list(found.faults)},
            "findings": [],
            "records": 0,
            "refused": [],
        }
        if found.settings is None:
            return data
        clock = SystemClock()
        past = lately(found.settings, clock.now() - _PAST, clock=clock, within_s=_READ_S)
        on_disk = self._loop.run_until_complete(
            here(found.settings, past, clock=clock, verify_s=_VERIFY_S, onlooker=Onlooker.READER)
        )
        data["records"] = past.records
        data["findings"] = [stored.finding_data(one) for one in (*past.findings, *on_disk)]
        with contextlib.suppress(CftPkiError):  # that it cannot be read is among the findings
            data["refused"] = stored.newest_refused(self._rows())
        return data

    def _partners(self, given: Given) -> dict[str, Any]:
        return stored.partner_page(self._overview(), given, datetime.now(UTC))

    def _partner(self, given: Given) -> dict[str, Any]:
        one = stored.partner_of(self._overview(), given["fingerprint"])
        return {
            "partner": standing_data(one, datetime.now(UTC)),
            "verdicts": stored.rows_of_partner(self._rows(), one.row.fingerprint),
        }

    def _verdicts(self, given: Given) -> dict[str, Any]:
        return stored.verdict_page(self._settings().service, self._rows(), given)

    def _verdict(self, given: Given) -> dict[str, Any]:
        return stored.verdict_data(self._settings().service, given["id"])

    def _sources(self, _: Given) -> dict[str, Any]:
        def read() -> dict[str, Any]:
            ledger = stored_evidence(self._settings().service)
            if ledger is None:
                return {"series": [], "records": 0}
            with contextlib.closing(ledger):
                return series_of(ledger)

        return self._remember("series", read)

    def _identities(self, _: Given) -> dict[str, Any]:
        return self._loop.run_until_complete(stored.identities(self._settings()))

    def _exceptions(self, _: Given) -> dict[str, Any]:
        now, seen, settings = datetime.now(UTC), self._overview(), self._settings()
        subjects = {one.row.fingerprint: one.row.subject for one in seen.partners}
        used = {one.row.fingerprint: one.row.excepted_times for one in seen.partners}
        return {
            "exceptions": [
                exception_data(name, one, now)
                | {"subject": subjects.get(one.fingerprint), "times": used.get(one.fingerprint, 0)}
                for name, one in seen.exceptions
            ],
            "rows": stored.ending_rows(settings, now),
            "blocks": [block_to_plain(one) | {"in_force": one.holds(now)} for one in seen.book.blocks],
            "audits": sorted(
                name for name, one in settings.trusts.items() if one.policy.enforcement.value == "audit"
            ),
            "config_ok": self._configured().ok,
        }

    def _choices(self, _: Given) -> dict[str, Any]:
        settings = self._settings()
        return {
            "trusts": {name: one.policy.name for name, one in settings.trusts.items()},
            "policies": sorted(settings.policies),
        }

    def _trial(self, given: Given) -> dict[str, Any]:
        return try_policy(self._settings(), given["trust"], given["policy"], timedelta(hours=given["hours"]))


def affordable(read: Callable[[int], T], *, worked: Callable[[], float] = time.process_time) -> T:
    """
    Read as many of the newest records as there is work to spare for.

    Work, not time: how much a page shows must not depend on what else the machine does. How long anybody waits for it is bounded
    by who asks (`seen.look`).

    Args:
        read: reads so many.
        worked: seconds of this process's processor time.

    Returns:
        What it gave for the most that could be afforded.

    """
    begun = worked()
    found = read(_STEPS[0])
    for fewer, most in pairwise(_STEPS):
        took, begun = worked() - begun, worked()
        if took * most / fewer > _AFFORDED_S:
            break
        found = read(most)
    return found


def _text(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
