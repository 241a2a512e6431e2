"""
What follows an activation: the hooks, then the look at the host's own listeners. Repeated until it works.

Owns the retries. Nothing here issues anything: a host that does not take a certificate gets no second one.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from cftpki_ext.identity.renewal.activation import observe
from cftpki_ext.identity.renewal.hooks import run_hooks
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.layout import Log, Site
from cftpki_ext.identity.store.state import IdentityState, Rollout, Task, write_state
from cftpki_ext.ports.clock import Clock

# At once, then after 10, 20, 40 … seconds: a host that restarts is back in minutes, one that is down is not pressed.
FIRST_RETRY = timedelta(seconds=10)
LONGEST_RETRY = timedelta(hours=1)
MAX_ERROR = 500


class RolloutDriver:
    """
    Carries on with what follows the activation of a generation.
    """

    def __init__(self, *, clock: Clock, event: Log) -> None:
        self._clock = clock
        self._event = event

    def due(self, site: Site, current: Generation | None, state: IdentityState) -> bool:
        """
        Whether there is something to do now.
        """
        if current is None:
            return False
        rollout = state.rollout
        if rollout is None or rollout.generation != current.number:
            return True
        identity, now = site.identity, self._clock.now()
        if identity.hooks.commands and rollout.hooks.done_at is None:
            return _due(rollout.hooks, now)
        return bool(identity.observe) and _due(rollout.observed, now)

    async def carry_on(
        self, site: Site, current: Generation | None, state: IdentityState, *, at_once: bool = False
    ) -> IdentityState:
        """
        Do what is due, and write down what came of it. Under the lock.

        Args:
            site: of the identity.
            current: the generation in force.
            state: what is remembered.
            at_once: repeat what failed now, whatever was to be waited for.

        Returns:
            What is remembered now.

        """
        if current is None:
            return state
        rollout = state.rollout
        if rollout is None or rollout.generation != current.number:
            # A kill came between the flip and this record.
            rollout = Rollout(generation=current.number, activated_at=self._clock.now())
        identity = site.identity
        hooks, observed = rollout.hooks, rollout.observed
        now = self._clock.now()
        if identity.hooks.commands and (_due(hooks, now) or (at_once and hooks.done_at is None)):
            error = await run_hooks(identity.hooks, identity.name, current)
            hooks = self._tried("identity_hooks_run", identity.name, current, hooks, error)
        taken = hooks.done_at is not None or not identity.hooks.commands
        if identity.observe and taken and _due(observed, self._clock.now()):
            server_name = next((name for name in identity.dns if not name.startswith("*.")), None)
            error = await observe(identity.observe, current, server_name=server_name)
            observed = self._tried("identity_observed", identity.name, current, observed, error)
        changed = rollout.model_copy(update={"hooks": hooks, "observed": observed})
        if changed == state.rollout:
            return state
        state = state.model_copy(update={"rollout": changed})
        await asyncio.to_thread(write_state, site.directory, state)
        return state

    def _tried(
        self, event: str, identity: str, generation: Generation, task: Task, error: str | None
    ) -> Task:
        now = self._clock.now()
        self._event(event, identity=identity, generation=generation.number, error=error)
        if error is None:
            return Task(done_at=now, attempts=task.attempts + 1)
        wait = min(FIRST_RETRY * (1 << min(task.attempts, 16)), LONGEST_RETRY)
        return Task(attempts=task.attempts + 1, next_at=now + wait, error=error[:MAX_ERROR])


def _due(task: Task, now: datetime) -> bool:
    if task.done_at is not None or task.next_at is None:
        return task.done_at is None
    # A time further ahead was written by a clock that has been set back since.
    return not now < task.next_at <= now + LONGEST_RETRY
