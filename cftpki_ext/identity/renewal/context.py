"""
What every worker on identities has at hand: their places, who is asked, and how they stand.

Owns the look at the disk and the plan that follows from it. Changes nothing but what a killed writer left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from secrets import SystemRandom

from cftpki_ext.core.errors import CftPkiError, InputError, PassingError, StoreError
from cftpki_ext.core.identity_settings import ManagedIdentity
from cftpki_ext.identity.enroller_port import Enroller
from cftpki_ext.identity.issuance.recover import recover
from cftpki_ext.identity.renewal.advice import Adviser, OwnStatus
from cftpki_ext.identity.renewal.attempt import Attempter
from cftpki_ext.identity.renewal.broken import BrokenAttempts
from cftpki_ext.identity.renewal.config_digest import stable_text
from cftpki_ext.identity.renewal.facts import facts_of
from cftpki_ext.identity.renewal.key_fault import FileKeyFault, KeyFault
from cftpki_ext.identity.renewal.overview import Look, Overview, overview
from cftpki_ext.identity.renewal.plain import FileFault, PlainFault, PlainIdentity, kind_of, plain_overview
from cftpki_ext.identity.renewal.rollout import RolloutDriver
from cftpki_ext.identity.renewal.rows import Row, Unseen
from cftpki_ext.identity.renewal.schedule import Plan, plan
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.journal import MAX_DETAIL
from cftpki_ext.identity.store.layout import Log, Site, site_of
from cftpki_ext.identity.store.locks import locked
from cftpki_ext.identity.store.mending import misplaced, set_aside
from cftpki_ext.identity.store.operator_log import Actor
from cftpki_ext.identity.store.owners import obstacle
from cftpki_ext.identity.store.state import (
    NAME as STATE,
)
from cftpki_ext.identity.store.state import (
    GivenUp,
    IdentityState,
    Rollout,
    look_at_state,
    write_state,
)
from cftpki_ext.ports.clock import Clock


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
        plain: Mapping[str, PlainIdentity] | None = None,
        plain_fault: PlainFault | None = None,
        by: Actor | None = None,
        shown: Callable[[Row], None] = lambda _: None,
    ) -> None:
        self._root = root
        self._attended = False
        self._by = by
        self._plain = plain or {}
        self._plain_fault = plain_fault or FileFault(root)
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
        self._seen: dict[str, Row] = {}
        self._shown = shown
        self._cleaned: set[str] = set()
        self._told: dict[str, object] = {}
        self._broken = BrokenAttempts()

    async def overview(self, name: str) -> Overview:
        """
        How an identity that enrollers keep stands, read without the lock.

        Raises:
            InputError: there is no such identity.
            StoreError: this user may not look.

        """
        site = self._site(name)
        look = await self._look(site)
        return await asyncio.to_thread(overview, site, look, now=self._clock.now(), attended=self._attended)

    async def row(self, name: str) -> Row:
        """
        How an identity of any kind stands. What is wrong with it is in the row.

        Raises:
            InputError: there is no such identity.

        """
        if name in self._plain:
            return await self._plain_row(name)
        self._site(name)
        try:
            return await self.overview(name)
        except (CftPkiError, OSError) as error:
            return Unseen(name=name, kind="enrollers", trouble=str(error))

    async def rows(self) -> tuple[Row, ...]:
        """
        How each identity stands, whatever is wrong with another.
        """
        return tuple([await self.row(name) for name in sorted((*self._sites, *self._plain))])

    async def _plain_row(self, name: str) -> Row:
        identity = self._plain[name]
        try:
            fault = await self._plain_fault(identity)
            return await asyncio.to_thread(plain_overview, identity, fault, now=self._clock.now())
        except (CftPkiError, OSError) as error:
            return Unseen(name=name, kind=kind_of(identity), trouble=str(error))

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

    @contextlib.asynccontextmanager
    async def _held(self, site: Site, *, wait_s: float) -> AsyncIterator[None]:
        """
        Hold the identity's lock, with everything that is damaged put out of the way.
        """
        name = site.identity.name

        def busy(process: int | None) -> None:
            if wait_s > 0:
                self._event("identity_busy", identity=name, process=process)

        async with locked(site.directory, wait_s=wait_s, busy=busy):
            await asyncio.to_thread(self._put_aside, site)
            yield

    def _put_aside(self, site: Site) -> None:
        name = site.identity.name
        wrong = misplaced(site.directory)
        state = site.directory / STATE
        if state not in wrong and look_at_state(site.directory)[1] is not None:
            wrong = (*wrong, state)
        for path in set_aside(wrong):
            self._event("identity_damage_put_aside", identity=name, path=str(path), detail="was none of ours")
        for one in site.journal.set_damaged_aside():
            self._event(
                "identity_damage_put_aside", identity=name, order=one.id, orphan=one.open, detail=one.detail
            )

    def _fallen_back(self, site: Site, look: Look) -> bool:
        """
        Put the newest earlier generation that can be used in force in place of one that cannot. Under the lock.

        It stands in until another one is issued, which is due at once.
        """
        why = look.damage if look.current is None else look.current.key_fault
        if why is None:
            return False
        state, now = look.state, self._clock.now()
        target = site.generations.usable(
            site.password(),
            now=now,
            before=look.number,
            without=frozenset({*state.revoked, look.number or 0}),
        )
        if target is None:
            return False
        site.generations.activate(target.number)
        changed = {
            "given_up": GivenUp(generation=look.number, detail=why[:MAX_DETAIL]),
            "rollout": Rollout(generation=target.number, activated_at=now),
            "hint": None,
            "status": None,
            "kept_back": None,
        }
        write_state(site.directory, state.model_copy(update=changed))
        self._event(
            "identity_fell_back",
            identity=site.identity.name,
            generation=target.number,
            given_up=look.number,
            detail=why,
        )
        return True

    async def _look(self, site: Site) -> Look:
        found = await asyncio.to_thread(site.generations.look)
        current = found.generation
        if current is not None:
            current = replace(current, key_fault=await self._key_fault(site, current))
        state, fault = await asyncio.to_thread(look_at_state, site.directory)
        mark = self._marks[site.identity.name]
        if state.mark != mark:
            # What was tried with another configuration says nothing of this one.
            waiting = state.waiting
            if waiting is not None:  # its order is asked for at once, or given up for what is wanted now
                waiting = waiting.model_copy(update={"retry_at": self._clock.now()})
            changed = {"mark": mark, "failures": 0, "held_back": {}, "replaced": 0, "waiting": waiting}
            state = state.model_copy(update=changed)
        damage = found.damage
        if damage is not None and found.number is None and await asyncio.to_thread(_all_open, site):
            damage = None  # killed before its first certificate was put in force: that is taken up again
        faults = [f"{path} is none of ours" for path in misplaced(site.directory) if path.name != "current"]
        if fault is not None and not any(STATE in one for one in faults):
            faults.append(fault)
        return Look(
            current=current,
            state=state,
            plan=self._plan(site, current, state),
            number=found.number,
            damage=damage,
            faults=tuple(faults),
            obstacle=await asyncio.to_thread(obstacle, self._root, site.directory),
        )

    def _plan(self, site: Site, current: Generation | None, state: IdentityState) -> Plan:
        seed = f"{self._host}/{site.identity.name}"
        return plan(
            site.identity.renewal,
            facts_of(site.identity, current, state, now=self._clock.now(), seed=seed),
        )


def _all_open(site: Site) -> bool:
    """
    Whether every generation that is there comes from an order that is not at its end.
    """
    orders = {record.id for record in site.journal.open_orders().values()}
    for number in site.generations.numbers():
        try:
            if site.generations.read(number).meta.order not in orders:
                return False
        except PassingError:
            raise
        except StoreError:
            return False
    return True
