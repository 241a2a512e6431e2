"""
What every worker on identities has at hand: their places, who is asked, and how they stand.

Owns the look at the disk and the plan that follows from it. Changes nothing but what a killed writer left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from secrets import SystemRandom

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.settings import ManagedIdentity
from cftpki_ext.identity.enroller_port import Enroller
from cftpki_ext.identity.issuance.recover import recover
from cftpki_ext.identity.renewal.advice import Adviser, OwnStatus
from cftpki_ext.identity.renewal.attempt import Attempter
from cftpki_ext.identity.renewal.config_digest import stable_text
from cftpki_ext.identity.renewal.facts import facts_of
from cftpki_ext.identity.renewal.key_fault import FileKeyFault, KeyFault
from cftpki_ext.identity.renewal.overview import Overview, overview
from cftpki_ext.identity.renewal.rollout import RolloutDriver
from cftpki_ext.identity.renewal.schedule import Plan, plan
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.layout import Log, Site, site_of
from cftpki_ext.identity.store.state import IdentityState, read_state
from cftpki_ext.ports import Clock


class IdentityContext:
    """
    Identities with their enrollers. For one event loop.
    """

    def __init__(
        self,
        *,
        root: Path,
        identities: Mapping[str, ManagedIdentity],
        enrollers: Mapping[str, Enroller],
        anchors: Callable[[str], tuple[bytes, ...]],
        clock: Clock,
        event: Log,
        host: str,
        own_status: OwnStatus | None = None,
        draw: Callable[[], float] | None = None,
        mark: str = "",
        key_fault: KeyFault | None = None,
    ) -> None:
        self._sites = {name: site_of(root, identity) for name, identity in identities.items()}
        self._enrollers = enrollers
        self._clock = clock
        self._event = event
        self._key_fault = key_fault or FileKeyFault()
        self._host = host
        self._marks = {
            name: sha256(f"{mark}/{stable_text(identity)}".encode()).hexdigest()[:16]
            for name, identity in identities.items()
        }
        self._attempter = Attempter(enrollers=enrollers, clock=clock, event=event, anchors=anchors)
        self._adviser = Adviser(
            enrollers=enrollers,
            clock=clock,
            event=event,
            own_status=own_status,
            draw=draw or SystemRandom().random,
        )
        self._rollout = RolloutDriver(clock=clock, event=event)
        # What who keeps the identities remembers: how they stood, which were cleaned, which actions were told.
        self._seen: dict[str, Overview] = {}
        self._cleaned: set[str] = set()
        self._told: dict[str, object] = {}

    async def overview(self, name: str) -> Overview:
        """
        How an identity stands, read without the lock.

        Raises:
            InputError: there is no such identity.
            StoreError: its state cannot be read.

        """
        site = self._site(name)
        current, state, now_due = await self._look(site)
        return await asyncio.to_thread(overview, site, current, state, now_due, now=self._clock.now())

    def names(self) -> tuple[str, ...]:
        """
        The identities that are kept.
        """
        return tuple(self._sites)

    def _site(self, name: str) -> Site:
        try:
            return self._sites[name]
        except KeyError:
            known = ", ".join(sorted(self._sites)) or "none"
            msg = f"there is no identity {name!r} with enrollers; there are {known}"
            raise InputError(msg) from None

    async def aclose(self) -> None:
        """
        Release the enrollers.
        """
        for enroller in self._enrollers.values():
            await enroller.aclose()

    def _clean(self, site: Site) -> None:
        recover(site, now=self._clock.now(), event=self._event)
        site.journal.clean()
        site.generations.clean(keep=site.identity.keep)

    async def _look(self, site: Site) -> tuple[Generation | None, IdentityState, Plan]:
        current = await asyncio.to_thread(site.generations.current)
        if current is not None:
            current = replace(current, key_fault=await self._key_fault(site, current))
        state = await asyncio.to_thread(read_state, site.directory)
        mark = self._marks[site.identity.name]
        if state.mark != mark:
            # What was tried with another configuration says nothing of this one.
            state = state.model_copy(update={"mark": mark, "failures": 0, "held_back": {}})
        return current, state, self._plan(site, current, state)

    def _plan(self, site: Site, current: Generation | None, state: IdentityState) -> Plan:
        seed = f"{self._host}/{site.identity.name}"
        return plan(
            site.identity.renewal,
            facts_of(site.identity, current, state, now=self._clock.now(), seed=seed),
        )
