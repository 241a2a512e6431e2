"""
Our own certificates in a process: enrollers from the settings, a manager over them, and its life beside a service.

Owns the construction and the change of configuration. Enrollers come by entry points, so that no adapter is
imported by name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Protocol

from cftpki_ext.core.settings import ManagedIdentity, Settings
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import HopFinding, HopStatus, Verdict
from cftpki_ext.core.vocabulary import Direction, Usage
from cftpki_ext.decision.decide import Question
from cftpki_ext.identity.enroller_port import Enroller, EnrollerContext
from cftpki_ext.identity.issuance.plugins import load_plugin
from cftpki_ext.identity.renewal.advice import Found, OwnStatus
from cftpki_ext.identity.renewal.config_digest import stable_text
from cftpki_ext.identity.renewal.key_fault import KeyFault
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.store.durable import make_directory
from cftpki_ext.identity.store.layout import Log
from cftpki_ext.ports import Clock


def managed(settings: Settings) -> Mapping[str, ManagedIdentity]:
    """
    The identities that enrollers keep.
    """
    return {name: one for name, one in settings.identities.items() if isinstance(one, ManagedIdentity)}


def make_enroller(settings: Settings, name: str, *, clock: Clock, look_only: bool = False) -> Enroller:
    """
    Make one enroller of a configuration.

    Args:
        settings: the configuration.
        name: as in `[enroller.NAME]`.
        clock: the time.
        look_only: write nothing: the CA must not be asked for anything.

    Returns:
        The enroller; the caller closes it.

    Raises:
        ConfigError: the plugin cannot be loaded.
        StoreError: the state directory cannot be written.

    """
    state = settings.service.state / "enrollers" / name
    if not look_only:
        make_directory(state)
    one = settings.enrollers[name]
    enroller: Enroller = load_plugin(one.type).make(
        one.options, EnrollerContext(name=name, state=state, clock=clock)
    )
    return enroller


def make_manager(
    settings: Settings,
    *,
    clock: Clock,
    event: Log,
    own_status: OwnStatus | None = None,
    look_only: bool = False,
    key_fault: KeyFault | None = None,
) -> Manager:
    """
    Make the manager of a configuration, with the enrollers that its identities name and no others.

    Args:
        settings: the configuration.
        clock: the time.
        event: the audit trail.
        own_status: whether a chain of ours is revoked; by default nobody looks.
        look_only: make no enrollers and write nothing: only `overview` may be asked.
        key_fault: why a key in force cannot be used; by default its files are looked at.

    Returns:
        The manager, which owns its enrollers.

    Raises:
        ConfigError: a plugin cannot be loaded.
        StoreError: the state directory cannot be written.

    """
    identities = managed(settings)
    wanted = sorted({name for identity in identities.values() for name in identity.enrollers})
    enrollers: dict[str, Enroller] = {}
    for name in () if look_only else wanted:
        enrollers[name] = make_enroller(settings, name, clock=clock)
    mark = sha256(stable_text([settings.enrollers[name] for name in wanted]).encode()).hexdigest()
    return Manager(
        root=settings.service.state,
        identities=identities,
        enrollers=enrollers,
        anchors=lambda trust: settings.trusts[trust].anchors,
        clock=clock,
        event=event,
        host=socket.gethostname(),
        own_status=own_status,
        mark=mark,
        key_fault=key_fault,
    )


class Checks(Protocol):
    """
    Judges chains, and says what it heard.
    """

    async def check_with_statements(
        self, question: Question, handed_in: Sequence[Statement] = (), *, remember: bool = True
    ) -> tuple[Verdict, tuple[Statement, ...]]:
        """
        See `cftpki_ext.checking.checker.Checker`.
        """


def own_status(settings: Settings, checker: Checks, clock: Clock) -> OwnStatus:
    """
    Our own check of our own certificates, by the trust set that the identity names.

    Args:
        settings: the configuration.
        checker: judges, with its cache and its memory of revocations.
        clock: the time.

    Returns:
        A function that says revoked, not revoked, or nothing where that cannot be established by what is young.

    """

    async def ask(identity: ManagedIdentity, chain: tuple[bytes, ...], max_age: timedelta) -> Found | None:
        if identity.trust is None:
            return None
        since = clock.now() - max_age
        limits = settings.limits
        # As a partner sees it: who is connected to by us is a server, who connects to us is a client.
        direction = Direction.CLIENT if Usage.SERVER in identity.usages else Direction.SERVER
        question = Question(
            chain=chain,
            direction=direction,
            trust=settings.trusts[identity.trust],
            limits=replace(
                limits,
                crl_refresh=min(limits.crl_refresh, max_age),
                ocsp_refresh=min(limits.ocsp_refresh, max_age),
            ),
            at=clock.now(),
            rule=None,
        )
        # No partner's verdict: no evidence is kept, and the identity's own standing remembers what comes of it.
        verdict, statements = await checker.check_with_statements(question, remember=False)
        # What was established, not what a policy makes of it: one that only audits accepts what is revoked.
        bad = [finding for finding in verdict.evidence.hops if finding.status is HopStatus.REVOKED]
        if bad:
            worst = min(bad, key=lambda finding: finding.hop)
            return Found(revoked=worst.hop == 0, above=worst.hop > 0, detail=_said(worst))
        young = {
            sha256(one.raw).hexdigest()
            for one in statements
            if one.raw is not None and one.received_at >= since
        }
        for finding in verdict.evidence.hops:
            heard = {one.digest for one in finding.sources if one.status is HopStatus.GOOD}
            if finding.hop == 0 and finding.status is HopStatus.GOOD and heard & young:
                return Found(revoked=False, detail=_said(finding))
        return None

    return ask


class Renewals:
    """
    The manager as a task of the service, made anew when the configuration changes. For one event loop.
    """

    def __init__(self, settings: Settings, make: Callable[[Settings], Manager], *, event: Log) -> None:
        self._settings = settings
        self._make = make
        self._event = event
        self._changed = asyncio.Event()
        self._manager: Manager | None = None

    def replace(self, settings: Settings) -> None:
        """
        Take over a new configuration: what is under way is cut off and taken up again from the journal.
        """
        self._settings = settings
        self._changed.set()

    async def run(self) -> None:
        """
        Keep the identities of the configuration in force, until it is cancelled.
        """
        while True:
            self._changed.clear()
            keeping = asyncio.create_task(self._keep(self._settings))
            try:
                await self._changed.wait()
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)

    async def _keep(self, settings: Settings) -> None:
        if not managed(settings):
            return
        try:
            manager = self._make(settings)
        except Exception as error:  # noqa: BLE001 - a third party's constructor; the service goes on with what it has
            self._event("renewals_not_started", error=f"{type(error).__name__}: {error}")
            return
        self._manager = manager
        try:
            await manager.run()
        finally:
            self._manager = None
            await manager.aclose()

    def status(self) -> Mapping[str, object]:
        """
        Until when each identity can live without its CA, for STATUS; from memory.
        """
        seen = {} if self._manager is None else self._manager.seen()
        return {name: _short(overview.data()) for name, overview in seen.items()}


def _short(data: Mapping[str, object]) -> dict[str, object]:
    return {key: data[key] for key in ("stage", "runway", "runway_s", "alarm", "trouble")}


def _said(finding: HopFinding) -> str:
    detail = finding.detail or finding.status.value
    return f"{finding.subject}: {detail}"
