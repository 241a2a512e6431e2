"""
Our own certificates in a process: enrollers from the settings, a manager over them, and its life beside a service.

Owns the construction and the change of configuration. Enrollers come by entry points, so that no adapter is
imported by name.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Protocol

from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.identity_settings import Identity, ManagedIdentity, TokenIdentity
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import CertificateFinding, CertificateStatus, Verdict
from cftpki_ext.core.vocabulary import Direction, Usage
from cftpki_ext.decision.question import Question
from cftpki_ext.identity.enroller_port import Enroller, EnrollerContext
from cftpki_ext.identity.issuance.late import LateEnroller
from cftpki_ext.identity.issuance.plugins import load_plugin
from cftpki_ext.identity.renewal.advice import Found, OwnStatus
from cftpki_ext.identity.renewal.config_digest import stable_text
from cftpki_ext.identity.renewal.key_fault import KeyFault
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.renewal.plain import PlainFault, PlainIdentity
from cftpki_ext.identity.renewal.rows import Row, Unseen
from cftpki_ext.identity.renewal.standing import Standing
from cftpki_ext.identity.store.durable import make_directory
from cftpki_ext.identity.store.layout import Log
from cftpki_ext.identity.store.operator_log import Actor
from cftpki_ext.identity.store.owners import not_ours
from cftpki_ext.ports.clock import Clock

# What could not be started is tried again: soon, as most faults of a disk pass, and then once a minute.
FIRST_RESTART_S = 5.0
LONGEST_RESTART_S = 60.0


def managed(settings: Settings) -> Mapping[str, ManagedIdentity]:
    """
    The identities that enrollers keep.
    """
    return {name: one for name, one in settings.identities.items() if isinstance(one, ManagedIdentity)}


def plain(settings: Settings) -> Mapping[str, PlainIdentity]:
    """
    The identities that nobody renews: from files and tokens.
    """
    return {
        name: one for name, one in settings.identities.items() if isinstance(one, Identity | TokenIdentity)
    }


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
        StoreError: the state directory cannot be written, or the enroller's folder there is not ours alone.

    """
    state = settings.service.state / "enrollers" / name
    if not look_only:
        make_directory(state)
        # Its account's key, kept roots: whoever could write them would say who the CA is.
        why = not_ours(state, owner=os.geteuid())
        if why is not None:
            raise StoreError(why)
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
    plain_fault: PlainFault | None = None,
    by: Actor | None = None,
    shown: Callable[[Row], None] = lambda _: None,
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
        by: who gives commands; by default who runs this process.
        plain_fault: why an identity from files or a token cannot be used; by default its files are looked at.
        shown: told how an identity stands, each time that `run` has looked.

    Returns:
        The manager, which owns its enrollers. One that cannot be made now is made when it is asked.

    """
    identities = managed(settings)
    wanted = sorted({name for identity in identities.values() for name in identity.enrollers})
    enrollers: dict[str, Enroller] = {}
    for name in () if look_only else wanted:
        make = partial(make_enroller, settings, name, clock=clock)
        enrollers[name] = LateEnroller(name, settings.enrollers[name].type, make)
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
        plain=plain(settings),
        plain_fault=plain_fault,
        by=by,
        shown=shown,
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
            trust=replace(settings.trusts[identity.trust], directory=None),  # we are no partner of ours
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
        bad = [
            finding for finding in verdict.evidence.findings if finding.status is CertificateStatus.REVOKED
        ]
        if bad:
            worst = min(bad, key=lambda finding: finding.depth)
            return Found(revoked=worst.depth == 0, above=worst.depth > 0, detail=_said(worst))
        young = {digest_of(one.raw) for one in statements if one.raw is not None and one.received_at >= since}
        for finding in verdict.evidence.findings:
            heard = {one.digest for one in finding.sources if one.status is CertificateStatus.GOOD}
            if finding.depth == 0 and finding.status is CertificateStatus.GOOD and heard & young:
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
        self._fault: str | None = None

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
        """
        What cannot be started, or ended by itself, is started again.
        """
        if not settings.identities:
            return
        wait_s = FIRST_RESTART_S
        while True:
            begun = asyncio.get_running_loop().time()
            try:
                await self._run(settings)
            except Exception as error:  # noqa: BLE001 - a disk's, a third party's: renewals must not end for ever
                self._fault = f"{type(error).__name__}: {error}"
                self._event("renewals_not_started", error=self._fault)
            if asyncio.get_running_loop().time() - begun > LONGEST_RESTART_S:
                wait_s = FIRST_RESTART_S  # it ran for a while
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_RESTART_S)

    async def _run(self, settings: Settings) -> None:
        manager = self._make(settings)
        self._manager, self._fault = manager, None
        try:
            await manager.run()
        finally:
            self._manager = None
            await manager.aclose()

    def status(self) -> Mapping[str, object]:
        """
        How each identity stands, for STATUS; from memory. Where renewals do not run, each says so.
        """
        seen = {} if self._manager is None else self._manager.seen()
        told = {name: short(row) for name, row in seen.items()}
        return told if self._fault is None else {**told, **blocked(self._settings, self._fault)}

    def fault(self) -> str | None:
        """
        Why renewals do not run now, `None` where they do, or where there is nothing to keep.
        """
        return self._fault


def short(row: Row) -> dict[str, object]:
    """
    What STATUS says of an identity.
    """
    keys = ("kind", "state", "states", "stage", "runway", "runway_s", "alarm", "trouble")
    data = row.data()
    return {key: data[key] for key in keys}


def blocked(settings: Settings, fault: str) -> Mapping[str, Mapping[str, object]]:
    """
    What STATUS says of identities that nobody keeps now.

    Args:
        settings: those that name the identities.
        fault: why.

    """
    told = {}
    for name, identity in settings.identities.items():
        kind = "enrollers" if isinstance(identity, ManagedIdentity) else "files"
        alarm = Standing.BLOCKED
        told[name] = short(Unseen(name=name, kind=kind, trouble=fault, words=(alarm,), alarm=alarm))
    return told


def _said(finding: CertificateFinding) -> str:
    detail = finding.detail or finding.status.value
    return f"{finding.subject}: {detail}"
