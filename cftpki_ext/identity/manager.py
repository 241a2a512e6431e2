"""
The driver of our own certificates: one tick after another, under one lock per identity.

Owns what happens when something is due: enrollers in their order, what follows an activation, what is remembered
of failures. Decides by `schedule` and `gate`; issues by `issue`. A failure of any kind leaves the chain in force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from secrets import SystemRandom

from cftpki_ext.enrolment import Enroller, Failed, Held
from cftpki_ext.errors import CftPkiError, InputError
from cftpki_ext.identity.advice import Adviser, OwnStatus
from cftpki_ext.identity.attempt import Attempter
from cftpki_ext.identity.generations import Generation
from cftpki_ext.identity.locks import BusyError, locked
from cftpki_ext.identity.overview import Overview, overview
from cftpki_ext.identity.plans import facts_of
from cftpki_ext.identity.rollout import RolloutDriver
from cftpki_ext.identity.schedule import Plan, plan
from cftpki_ext.identity.settle import settle
from cftpki_ext.identity.site import Log, Site, site_of
from cftpki_ext.identity.standing import Rollout, Standing, Status, read_standing, write_standing
from cftpki_ext.ports import Clock
from cftpki_ext.settings import ManagedIdentity

# The wall clock is looked at this often: a clock that jumps, or a machine that slept, is noticed as soon.
TICK_S = 10.0
# A revocation asked for by the operator.
CALL_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """
    What an operator's call came to: the generation in force, and the failure or wait where it is the old one.
    """

    identity: str
    generation: int | None
    issued: bool
    detail: str
    failed: bool = False


class Manager:
    """
    Keeps identities fresh. For one event loop; any number of processes may run one on the same state.
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
    ) -> None:
        self._sites = {name: site_of(root, identity) for name, identity in identities.items()}
        self._enrollers = enrollers
        self._clock = clock
        self._event = event
        self._host = host
        self._marks = {
            name: sha256(f"{mark}/{_told_alike(identity)}".encode()).hexdigest()[:16]
            for name, identity in identities.items()
        }
        self._seen: dict[str, Overview] = {}
        self._attempter = Attempter(enrollers=enrollers, clock=clock, event=event, anchors=anchors)
        self._adviser = Adviser(
            enrollers=enrollers,
            clock=clock,
            event=event,
            own_status=own_status,
            draw=draw or SystemRandom().random,
        )
        self._rollout = RolloutDriver(clock=clock, event=event)

    async def run(self) -> None:
        """
        Tick for ever; cancellation ends it at any point without harm.
        """
        async with asyncio.TaskGroup() as group:
            for name in self._sites:
                group.create_task(self._keep(name))

    def seen(self) -> Mapping[str, Overview]:
        """
        How each identity stood at the last tick of `run`; from memory.
        """
        return dict(self._seen)

    async def aclose(self) -> None:
        """
        Release the enrollers.
        """
        for enroller in self._enrollers.values():
            await enroller.aclose()

    async def _keep(self, name: str) -> None:
        told: str | None = None
        while True:
            try:
                await self.tick(name)
                self._watch(await self.overview(name))
                told = None
            except BusyError:
                told = None  # the other process does what is due
            except CftPkiError as error:
                if str(error) != told:
                    told = str(error)
                    self._event("identity_not_kept", identity=name, error=told)
            except Exception as error:  # noqa: BLE001 - one identity's defect must not end the others'
                self._event("identity_not_kept", identity=name, error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(TICK_S)

    def _watch(self, found: Overview) -> None:
        before = self._seen.get(found.name)
        self._seen[found.name] = found
        if found.alarm is not None and (before is None or before.alarm != found.alarm):
            self._event(
                "identity_alarm",
                identity=found.name,
                alarm=found.alarm.value,
                runway=None if found.runway is None else found.runway.isoformat(),
                trouble=found.trouble,
            )

    async def tick(self, name: str) -> Plan:
        """
        Do what is due now for one identity, if anything is.

        Args:
            name: of the identity.

        Returns:
            The plan after it.

        Raises:
            BusyError: another process works on it, and something was due.
            StoreError: the state cannot be read or written.
            KeyUnavailableError: the key or its password cannot be read.

        """
        site = self._sites[name]
        current, standing, now_due = await self._look(site)
        if not self._anything(site, current, standing, now_due):
            return now_due
        async with locked(site.directory, wait_s=0):
            await asyncio.to_thread(self._clean, site)
            current, standing, now_due = await self._look(site)
            standing = await self._adviser.ask(site, current, standing)
            now_due = self._plan(site, current, standing)
            if now_due.at <= self._clock.now():
                current, standing = await self._attempter.attempt(site, current, standing, now_due)
            await self._rollout.carry_on(site, current, standing)
            current, standing, now_due = await self._look(site)
        return now_due

    async def renew(self, name: str, *, force: bool, wait_s: float) -> Renewal:
        """
        An operator's word: do what is due, or renew now whatever the schedule, windows and waits say.

        An order that is open is taken up again and asked for at once. Two who force at the same time get one
        certificate: what was issued since the call began counts.

        Args:
            name: of the identity.
            force: now.
            wait_s: for another process that works on it.

        Returns:
            What came of it.

        Raises:
            BusyError: another process kept at it for longer.
            StoreError: the state cannot be read or written.
            KeyUnavailableError: the key or its password cannot be read.

        """
        site = self._site(name)
        pointed = site.generations.pointer()
        async with locked(site.directory, wait_s=wait_s):
            await asyncio.to_thread(self._clean, site)
            current, standing, now_due = await self._look(site)
            if current is not None and site.generations.pointer() != pointed:
                return Renewal(
                    identity=name, generation=current.number, issued=True, detail="renewed by another process"
                )
            if not force and now_due.at > self._clock.now():
                detail = f"not due before {now_due.at.isoformat(timespec='seconds')} ({now_due.detail})"
                number = None if current is None else current.number
                return Renewal(identity=name, generation=number, issued=False, detail=detail)
            before = None if current is None else current.number
            self._event(
                "identity_renewal_asked", identity=name, generation=before, by="operator", force=force
            )
            current, standing = await self._attempter.attempt(site, current, standing, now_due, force=force)
            standing = await self._rollout.carry_on(site, current, standing)
        after = None if current is None else current.number
        if after != before:
            return Renewal(identity=name, generation=after, issued=True, detail="renewed")
        failure, waiting = standing.last_failure, standing.waiting
        if waiting is not None:
            detail = f"{waiting.enroller}: {waiting.detail}; next at {waiting.retry_at.isoformat(timespec='seconds')}"
            return Renewal(identity=name, generation=after, issued=False, detail=detail)
        detail = "no enroller was asked" if failure is None else f"{failure.enroller}: {failure.detail}"
        return Renewal(identity=name, generation=after, issued=False, detail=detail, failed=True)

    async def rollback(self, name: str, *, to: int | None, wait_s: float) -> Generation:
        """
        Put an earlier generation in force again; it is then kept until the safety limit.

        Args:
            name: of the identity.
            to: its number; by default the newest before the one in force.
            wait_s: for another process that works on it.

        Returns:
            The generation.

        Raises:
            InputError: there is none, or it has ended.
            StoreError: it cannot be read, or the pointer not be written.
            KeyUnavailableError: its key cannot be read.

        """
        site = self._site(name)
        async with locked(site.directory, wait_s=wait_s):
            await asyncio.to_thread(self._clean, site)
            current, standing, _ = await self._look(site)
            numbers = site.generations.numbers()
            if to is None:
                earlier = [n for n in numbers if current is not None and n < current.number]
                if not earlier:
                    msg = f"identity {name!r} has no earlier generation"
                    raise InputError(msg)
                to = earlier[-1]
            if to not in numbers:
                msg = f"identity {name!r} has no generation {to}; there are {', '.join(map(str, numbers)) or 'none'}"
                raise InputError(msg)
            target = await asyncio.to_thread(site.generations.read, to)
            if target.ends <= self._clock.now():
                msg = f"generation {to} ended {target.ends.isoformat()}; an expired chain never replaces another"
                raise InputError(msg)
            target.key(site.password())
            await asyncio.to_thread(site.generations.activate, to)
            before = None if current is None else current.number
            self._event("identity_rolled_back", identity=name, generation=to, before=before)
            standing = standing.model_copy(
                update={
                    "kept_back": to,
                    # An attempt that was under way must not undo what the operator wants.
                    "under_way": False,
                    "failures": 0,
                    "waiting": None,
                    "rollout": Rollout(generation=to, activated_at=self._clock.now()),
                }
            )
            await asyncio.to_thread(write_standing, site.directory, standing)
            await self._rollout.carry_on(site, target, standing)
        return target

    async def revoke(self, name: str, *, number: int | None, reason: str, wait_s: float) -> Failed | None:
        """
        Ask the CA to revoke a generation's certificate. Of the one in force, a successor with a new key is due.

        Args:
            name: of the identity.
            number: of the generation; by default the one in force.
            reason: RFC 5280 5.3.1.
            wait_s: for another process that works on it.

        Returns:
            `None` when it is revoked, else why not.

        Raises:
            InputError: there is no such generation, or its enroller is not configured any more.
            StoreError: the state cannot be read or written.
            KeyUnavailableError: its key cannot be read.

        """
        site = self._site(name)
        async with locked(site.directory, wait_s=wait_s):
            current, standing, _ = await self._look(site)
            chosen = current if number is None else await asyncio.to_thread(site.generations.read, number)
            if chosen is None:
                msg = f"identity {name!r} has no certificate"
                raise InputError(msg)
            enroller = self._enrollers.get(chosen.meta.enroller)
            if enroller is None:
                msg = f"generation {chosen.number} came from {chosen.meta.enroller!r}, which is not configured any more"
                raise InputError(msg)
            held = Held(chain=tuple(c.der for c in chosen.chain), key=chosen.key(site.password()))
            failed = await enroller.revoke(held, reason=reason, deadline=self._clock.monotonic() + CALL_S)
            detail = None if failed is None else failed.detail
            self._event(
                "identity_revoked", identity=name, generation=chosen.number, reason=reason, error=detail
            )
            if failed is None and current is not None and chosen.number == current.number:
                status = Status(
                    generation=chosen.number,
                    checked_at=self._clock.now(),
                    revoked=True,
                    detail=f"revoked by the operator: {reason}",
                )
                standing = standing.model_copy(update={"status": status, "waiting": None, "held_back": {}})
                await asyncio.to_thread(write_standing, site.directory, standing)
        return failed

    async def overview(self, name: str) -> Overview:
        """
        How an identity stands, read without the lock.

        Raises:
            InputError: there is no such identity.
            StoreError: its state cannot be read.

        """
        site = self._site(name)
        current, standing, now_due = await self._look(site)
        return await asyncio.to_thread(overview, site, current, standing, now_due, now=self._clock.now())

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

    def _clean(self, site: Site) -> None:
        settle(site, now=self._clock.now())
        site.journal.clean()
        site.generations.clean(keep=site.identity.keep)

    async def _look(self, site: Site) -> tuple[Generation | None, Standing, Plan]:
        current = await asyncio.to_thread(site.generations.current)
        standing = await asyncio.to_thread(read_standing, site.directory)
        mark = self._marks[site.identity.name]
        if standing.mark != mark:
            # What was tried with another configuration says nothing of this one.
            standing = standing.model_copy(update={"mark": mark, "failures": 0, "held_back": {}})
        return current, standing, self._plan(site, current, standing)

    def _plan(self, site: Site, current: Generation | None, standing: Standing) -> Plan:
        seed = f"{self._host}/{site.identity.name}"
        return plan(
            site.identity.renewal,
            facts_of(site.identity, current, standing, now=self._clock.now(), seed=seed),
        )

    def _anything(self, site: Site, current: Generation | None, standing: Standing, now_due: Plan) -> bool:
        return (
            now_due.at <= self._clock.now()
            or self._rollout.due(site, current, standing)
            or self._adviser.due(site, current, standing)
        )


def _told_alike(identity: ManagedIdentity) -> str:
    """
    The configuration as a text that is the same in every process: the order of a set is not.
    """
    values = ((field.name, getattr(identity, field.name)) for field in fields(identity))
    return repr([(name, sorted(value) if isinstance(value, frozenset) else value) for name, value in values])
