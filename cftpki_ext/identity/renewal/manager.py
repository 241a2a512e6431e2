"""
The driver of our own certificates: one tick after another, under one lock per identity.

Owns what happens when something is due: enrollers in their order, what follows an activation, what is remembered
of failures. Decides by `schedule` and `gate`; issues by `order`. A failure of any kind leaves the chain in force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.identity.renewal.operator import Operator
from cftpki_ext.identity.renewal.overview import Look, Overview
from cftpki_ext.identity.renewal.rows import Row, Unseen
from cftpki_ext.identity.renewal.schedule import Plan
from cftpki_ext.identity.renewal.standing import Standing, alarm_of, standings
from cftpki_ext.identity.store.layout import Site
from cftpki_ext.identity.store.locks import BusyError
from cftpki_ext.identity.store.operator_log import action_data
from cftpki_ext.support.failures import reason_of

# The wall clock is looked at this often: a clock that jumps, or a machine that slept, is noticed as soon.
TICK_S = 10.0


class Manager(Operator):
    """
    Keeps identities fresh. For one event loop; any number of processes may run one on the same state.
    """

    async def run(self) -> None:
        """
        Tick for ever; cancellation ends it at any point without harm.
        """
        self._attended = True
        async with asyncio.TaskGroup() as group:
            for name in self._sites:
                group.create_task(self._keep(name))
            for name in self._plain:
                group.create_task(self._keep_an_eye(name))

    def seen(self) -> Mapping[str, Row]:
        """
        How each identity stood at the last tick of `run`; from memory.
        """
        return dict(self._seen)

    async def _keep(self, name: str) -> None:
        told: tuple[str | None, str | None] = None, None
        while True:
            faults = await self._fault_of(self._tell_actions, name), await self._fault_of(self.tick, name)
            for said, before in zip(faults, told, strict=True):
                if said is not None and said != before:
                    self._event("identity_not_kept", identity=name, error=said)
            told = faults
            await self._watch(name, faults[1])
            await asyncio.sleep(TICK_S)

    async def _keep_an_eye(self, name: str) -> None:
        while True:
            await self._watch(name, None)
            await asyncio.sleep(TICK_S)

    async def _fault_of(self, work: Callable[[str], Awaitable[object]], name: str) -> str | None:
        """
        Do something for an identity; what goes wrong in it is told, and ends nothing else.
        """
        try:
            await work(name)
        except BusyError:
            return None  # the other process does what is due
        except CftPkiError as error:
            return str(error)
        except OSError as error:
            return reason_of(error)
        except Exception as error:  # noqa: BLE001 - one identity's defect must not end the others'
            return f"{type(error).__name__}: {error}"
        return None

    async def _watch(self, name: str, fault: str | None) -> None:
        """
        See how an identity stands, and call the operator where that is an alarm.
        """
        try:
            found = await self.row(name)
        except Exception as error:  # noqa: BLE001 - as above: what cannot be told must not look well
            found = Unseen(name=name, kind="unknown", trouble=f"{type(error).__name__}: {error}")
        if fault is not None and isinstance(found, Overview) and found.obstacle is None:
            found = replace(found, obstacle=fault)
        if isinstance(found, Unseen):
            # Who keeps it cannot even look: nobody renews it, and it may not be there for partners either.
            blocked = Standing.BLOCKED
            found = replace(found, words=standings(blocked, *found.words), alarm=blocked)
        before = self._seen.get(name)
        self._seen[name] = found
        self._shown(found)
        note = found.plan.note if isinstance(found, Overview) else None
        if note is not None and (not isinstance(before, Overview) or before.plan.note != note):
            self._event("identity_renewal_moved", identity=name, note=note)
        alarm, was = found.alarm, None if before is None else before.alarm
        known = () if before is None else before.words
        # A lesser one that joins a worse one is told as well: a chain may end while an earlier damage is not mended.
        joined = alarm_of(word for word in found.words if word not in known)
        told = alarm if alarm != was else joined
        if told is not None:
            data = found.data()
            self._event(
                "identity_alarm",
                identity=name,
                alarm=told.value,
                states=data["states"],
                runway=data["runway"],
                trouble=found.trouble,
            )
        elif alarm is None and was is not None:
            self._event("identity_alarm_over", identity=name, alarm=was.value)

    async def _tell_actions(self, name: str) -> None:
        """
        Tell what operators did by command since the last time, also before this process began.
        """
        actions = self._sites[name].actions
        mark = await asyncio.to_thread(actions.mark)
        if mark == self._told.get(name):
            return
        for line in await asyncio.to_thread(actions.untold):
            self._event("operator_action", identity=name, **action_data(line))
            await asyncio.to_thread(actions.tell, line)
        self._told[name] = mark

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
        look = await self._look(site)
        # Outside the lock: nobody waits for the answer of a source.
        await self._adviser.listen(site, look.current, look.state)
        if not await asyncio.to_thread(self._anything, site, look):
            return look.plan
        async with self._held(site, wait_s=0):
            await asyncio.to_thread(self._clean, site)
            self._cleaned.add(name)
            look = await self._look(site)
            if await asyncio.to_thread(self._fallen_back, site, look):
                look = await self._look(site)
            current = look.current
            state = await self._adviser.ask(site, current, look.state)
            now_due = self._plan(site, current, state)
            if self._is_due(name, now_due):
                with self._broken.noted(name, self._clock.now):
                    current, state = await self._attempter.attempt(site, current, state, now_due)
            await self._rollout.carry_on(site, current, state)
            return (await self._look(site)).plan

    def _anything(self, site: Site, look: Look) -> bool:
        return (
            # A new configuration may have left orders behind.
            site.identity.name not in self._cleaned
            or self._is_due(site.identity.name, look.plan)
            or bool(look.faults)
            or any(not one.set_aside for one in site.journal.damaged())
            or self._rollout.due(site, look.current, look.state)
            or self._adviser.due(site, look.current, look.state)
        )

    def _is_due(self, name: str, now_due: Plan) -> bool:
        now = self._clock.now()
        return now_due.at <= now and not self._broken.holds(name, now)
