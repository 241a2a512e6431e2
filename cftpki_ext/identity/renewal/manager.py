"""
The driver of our own certificates: one tick after another, under one lock per identity.

Owns what happens when something is due: enrollers in their order, what follows an activation, what is remembered
of failures. Decides by `schedule` and `gate`; issues by `order`. A failure of any kind leaves the chain in force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.identity.renewal.operator import Operator
from cftpki_ext.identity.renewal.overview import Overview
from cftpki_ext.identity.renewal.schedule import Plan
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.layout import Site
from cftpki_ext.identity.store.locks import BusyError, locked
from cftpki_ext.identity.store.operator_log import action_data
from cftpki_ext.identity.store.state import IdentityState

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
        async with asyncio.TaskGroup() as group:
            for name in self._sites:
                group.create_task(self._keep(name))

    def seen(self) -> Mapping[str, Overview]:
        """
        How each identity stood at the last tick of `run`; from memory.
        """
        return dict(self._seen)

    async def _keep(self, name: str) -> None:
        told: str | None = None
        while True:
            try:
                await self._tell_actions(name)
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
        current, state, now_due = await self._look(site)
        # Outside the lock: nobody waits for the answer of a source.
        await self._adviser.listen(site, current, state)
        if not self._anything(site, current, state, now_due):
            return now_due
        async with locked(site.directory, wait_s=0):
            await asyncio.to_thread(self._clean, site)
            self._cleaned.add(name)
            current, state, now_due = await self._look(site)
            state = await self._adviser.ask(site, current, state)
            now_due = self._plan(site, current, state)
            if now_due.at <= self._clock.now():
                current, state = await self._attempter.attempt(site, current, state, now_due)
            await self._rollout.carry_on(site, current, state)
            current, state, now_due = await self._look(site)
        return now_due

    def _anything(self, site: Site, current: Generation | None, state: IdentityState, now_due: Plan) -> bool:
        return (
            # A new configuration may have left orders behind.
            site.identity.name not in self._cleaned
            or now_due.at <= self._clock.now()
            or self._rollout.due(site, current, state)
            or self._adviser.due(site, current, state)
        )
