"""
What an operator may do by command: renew, roll back, revoke, check. Each is written down before and after it.

Owns these four. A command and a running service come to terms by the identity's lock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

from cftpki_ext.core.errors import InputError, KeyUnavailableError, PassingError, StoreError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Enroller, Failed, Fault, Held
from cftpki_ext.identity.issuance.recover import rolled_back
from cftpki_ext.identity.renewal.context import IdentityContext
from cftpki_ext.identity.renewal.overview import Look
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.layout import Site
from cftpki_ext.identity.store.operator_log import Actor, this_actor
from cftpki_ext.identity.store.state import IdentityState, Status, write_state

# A revocation asked for by the operator.
CALL_S = 20.0
KEY_COMPROMISE = "keyCompromise"


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
    not_taken_over: str | None = None  # what failed after it was put in force: it is repeated


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """
    What our own check says now of a generation; `revoked` is `None` where it could not be established.
    """

    identity: str
    generation: int
    revoked: bool | None
    detail: str


@dataclass(slots=True)
class _Result:
    """
    What an action came to, for its second line.
    """

    detail: str = "done"
    failed: bool = False


class Operator(IdentityContext):
    """
    Does what an operator asks for.
    """

    async def renew(
        self, name: str, *, force: bool, wait_s: float, by: Actor | None = None, command: str = "renew"
    ) -> Renewal:
        """
        An operator's word: do what is due, or renew now whatever the schedule, windows and waits say.

        An order that is open is taken up again and asked for at once. Two who force at the same time get one
        certificate: what was issued since the call began counts.

        Args:
            name: of the identity.
            force: now.
            wait_s: for another process that works on it.
            by: who asks; by default who runs this process.
            command: as the operator calls it.

        Returns:
            What came of it.

        Raises:
            BusyError: another process kept at it for longer.
            StoreError: the state cannot be read or written.
            KeyUnavailableError: the key or its password cannot be read.

        """
        site = self._site(name)
        pointed = site.generations.pointer()
        asked = "now" if force else "if due"
        async with self._held(site, wait_s=wait_s), self._recorded(site, command, asked, by) as result:
            done = await self._renew(site, pointed, force=force)
            done = replace(done, not_taken_over=await self._taken_over(site))
            result.failed = done.failed or done.not_taken_over is not None
            result.detail = f"{done.detail}; generation {done.generation or 'none'}"
            if done.not_taken_over is not None:
                result.detail += f"; {done.not_taken_over}"
        return done

    async def _taken_over(self, site: Site) -> str | None:
        """
        Run the hooks that have not run to their end yet, also where they would wait, and say what fails. Under the lock.
        """
        look = await self._look(site)
        state = await self._rollout.carry_on(site, look.current, look.state, at_once=True)
        error = None if state.rollout is None else state.rollout.hooks.error
        return None if error is None else f"hooks: {error}"

    async def _renew(self, site: Site, pointed: str | None, *, force: bool) -> Renewal:
        name = site.identity.name
        await asyncio.to_thread(self._clean, site)
        look = await self._look(site)
        stands_in = look.state.given_up is not None
        if look.current is not None and not stands_in and site.generations.pointer() != pointed:
            number = look.current.number
            return Renewal(identity=name, generation=number, issued=True, detail="renewed by another process")
        if await asyncio.to_thread(self._fallen_back, site, look):
            look = await self._look(site)
        state, now_due = look.state, look.plan
        before = None if look.current is None else look.current.number
        if not force:
            # Where no service runs, this is what asks the CA when it would like to renew.
            state = await self._adviser.ask(site, look.current, state)
            now_due = self._plan(site, look.current, state)
        if not force and now_due.at > self._clock.now():
            detail = f"not due before {now_due.at.isoformat(timespec='seconds')} ({now_due.detail})"
            return Renewal(identity=name, generation=before, issued=False, detail=detail)
        current, state = await self._attempter.attempt(site, look.current, state, now_due, force=force)
        after = None if current is None else current.number
        if after != before:
            return Renewal(
                identity=name, generation=after, issued=True, detail="issued" if before is None else "renewed"
            )
        failure, waiting = state.last_failure, state.waiting
        if waiting is not None:
            detail = f"{waiting.enroller}: {waiting.detail}; next at {waiting.retry_at.isoformat(timespec='seconds')}"
            return Renewal(identity=name, generation=after, issued=False, detail=detail)
        detail = "no enroller was asked" if failure is None else f"{failure.enroller}: {failure.detail}"
        return Renewal(identity=name, generation=after, issued=False, detail=detail, failed=True)

    async def rollback(
        self, name: str, *, to: int | None, wait_s: float, by: Actor | None = None
    ) -> Generation:
        """
        Put an earlier generation in force again; it is then kept until the safety limit.

        Args:
            name: of the identity.
            to: its number; by default the newest before the one in force that is not known to be revoked.
            wait_s: for another process that works on it.
            by: who asks; by default who runs this process.

        Returns:
            The generation.

        Raises:
            InputError: there is none, or it has ended or is known to be revoked.
            StoreError: it cannot be read, or the pointer not be written.
            KeyUnavailableError: its key cannot be read.

        """
        site = self._site(name)
        asked = "to the one before" if to is None else f"to {to}"
        async with (
            self._held(site, wait_s=wait_s),
            self._recorded(site, "rollback", asked, by) as result,
        ):
            await asyncio.to_thread(self._clean, site)
            look = await self._look(site)
            state = look.state
            target = await asyncio.to_thread(self._earlier, site, look, to)
            # The intention first: where a kill comes after the flip, the next one who looks finishes it (`recover`).
            state = state.model_copy(update={"going_back": target.number})
            await asyncio.to_thread(write_state, site.directory, state)
            await asyncio.to_thread(site.generations.activate, target.number)
            state = rolled_back(state, target.number, self._clock.now())
            await asyncio.to_thread(write_state, site.directory, state)
            not_taken_over = await self._taken_over(site)
            result.failed = not_taken_over is not None
            before = look.number or "none"
            result.detail = f"generation {target.number} is in force, before it {before}"
            if not_taken_over is not None:
                result.detail += f"; {not_taken_over}"
        return target

    def _earlier(self, site: Site, look: Look, to: int | None) -> Generation:
        name, numbers, state = site.identity.name, site.generations.numbers(), look.state
        if to is None:
            # Where what is in force is lost with its number, every other one is an earlier one.
            earlier = [n for n in numbers if look.number is None or n < look.number]
            earlier = earlier if look.number is not None or look.damage is not None else []
            lost = _revoked_keys(site, state)
            good = [n for n in earlier if n not in state.revoked and _is_whole(site, n)]
            good = [n for n in good if site.generations.read(n).leaf.spki not in lost]
            if not good:
                which = " that is whole and not revoked" if earlier else ""
                msg = f"identity {name!r} has no earlier generation{which}"
                raise InputError(msg)
            to = good[-1]
        if to not in numbers:
            msg = f"identity {name!r} has no generation {to}; there are {', '.join(map(str, numbers)) or 'none'}"
            raise InputError(msg)
        if to in state.revoked:
            msg = f"generation {to} is revoked; a new one: cftpki identity renew {name} --now"
            raise InputError(msg)
        target = site.generations.read(to)
        if target.leaf.spki in _revoked_keys(site, state):
            msg = (
                f"generation {to} has the key of a revoked one; a new one: cftpki identity renew {name} --now"
            )
            raise InputError(msg)
        if target.ends <= self._clock.now():
            msg = f"generation {to} ended {target.ends.isoformat()}; an expired chain never replaces another"
            raise InputError(msg)
        target.key(site.password())
        return target

    async def revoke(
        self, name: str, *, number: int | None, reason: str, wait_s: float, by: Actor | None = None
    ) -> Failed | None:
        """
        Ask the CA to revoke a generation's certificate. Of the one in force, a successor with a new key is due.

        A compromised key (`keyCompromise`) takes every generation with the same key with it, the one in force too.

        Args:
            name: of the identity.
            number: of the generation; by default the one in force.
            reason: RFC 5280 5.3.1.
            wait_s: for another process that works on it.
            by: who asks; by default who runs this process.

        Returns:
            `None` when it is revoked, else why not.

        Raises:
            InputError: there is no such generation, or its enroller is not configured any more.
            StoreError: the state cannot be read or written.
            KeyUnavailableError: its key cannot be read.

        """
        site = self._site(name)
        asked = f"generation {'in force' if number is None else number}, {reason}"
        async with self._held(site, wait_s=wait_s), self._recorded(site, "revoke", asked, by) as result:
            look = await self._look(site)
            current, state = look.current, look.state
            chosen = current if number is None else await asyncio.to_thread(site.generations.read, number)
            if chosen is None:
                msg = f"identity {name!r} has no certificate"
                raise InputError(msg)
            enroller = self._enrollers.get(chosen.meta.enroller)
            if enroller is None:
                msg = f"generation {chosen.number} came from {chosen.meta.enroller!r}, which is not configured any more"
                raise InputError(msg)
            failed = await self._revoked(site, enroller, chosen, reason)
            result.failed = failed is not None
            result.detail = f"generation {chosen.number}: {'revoked' if failed is None else failed.detail}"
            if failed is None:
                same = await asyncio.to_thread(_same_key, site, chosen) if reason == KEY_COMPROMISE else ()
                numbers = {chosen.number, *(one.number for one in same)}
                changes: dict[str, object] = {"revoked": state.revoked | numbers}
                if current is not None and current.number in numbers:
                    status = Status(
                        generation=current.number,
                        checked_at=self._clock.now(),
                        revoked=True,
                        detail=f"revoked by the operator: {reason}",
                    )
                    changes.update(status=status, waiting=None, held_back={})
                # Before the CA is asked about the others: what is known here must not depend on its answers.
                await asyncio.to_thread(write_state, site.directory, state.model_copy(update=changes))
                for one in same:
                    try:
                        other = await self._revoked(site, self._enrollers.get(one.meta.enroller), one, reason)
                    except KeyUnavailableError as error:  # the others are revoked all the same
                        other = Failed(fault=Fault.MISCONFIGURED, detail=str(error))
                    result.detail += f"; generation {one.number}, of the same key: "
                    result.detail += "revoked" if other is None else other.detail
                    result.failed = result.failed or other is not None
                    if other is not None and failed is None:
                        detail = f"generation {one.number}, of the same key: {other.detail}"
                        failed = Failed(fault=other.fault, detail=detail)
        return failed

    async def _revoked(
        self, site: Site, enroller: Enroller | None, generation: Generation, reason: str
    ) -> Failed | None:
        """
        Ask the CA of one generation.
        """
        if enroller is None:
            detail = f"{generation.meta.enroller!r} is not configured any more"
            return Failed(fault=Fault.MISCONFIGURED, detail=detail)
        held = Held(chain=tuple(c.der for c in generation.chain), key=generation.key(site.password()))
        return await enroller.revoke(held, reason=reason, deadline=self._clock.monotonic() + CALL_S)

    async def check(self, name: str, *, wait_s: float, by: Actor | None = None) -> Checked:
        """
        Ask now whether the certificate in force is revoked. Where it is, a successor with a new key is due at once.

        What was heard before does not count. The lock is not held while others are asked.

        Args:
            name: of the identity.
            wait_s: for another process that works on it.
            by: who asks; by default who runs this process.

        Returns:
            What is known now.

        Raises:
            InputError: there is no certificate, or no trust set to check it by.
            StoreError: the state cannot be read or written.

        """
        site = self._site(name)
        if site.identity.trust is None:
            msg = f"set identity.{name}.trust: without a trust set nobody says whether it is revoked"
            raise InputError(msg)
        look = await self._look(site)
        current = look.current
        if current is None:
            msg = f"identity {name!r} has no certificate"
            raise InputError(msg)
        said = await self._adviser.check(site, current, look.state, max_age=timedelta(0))
        async with (
            self._held(site, wait_s=wait_s),
            self._recorded(site, "check", f"generation {current.number}", by) as result,
        ):
            look = await self._look(site)
            await self._adviser.write(site, look.current, look.state)
            revoked = True if said.revoked else None if said.unknown else False
            result.detail = {True: "revoked", False: "not revoked", None: "not established"}[revoked]
            result.failed = revoked is None
        return Checked(identity=name, generation=current.number, revoked=revoked, detail=said.detail)

    @contextlib.asynccontextmanager
    async def _recorded(
        self, site: Site, command: str, detail: str, by: Actor | None
    ) -> AsyncIterator[_Result]:
        """
        Write an action down before it is done and after it, under the lock.
        """
        actions, now = site.actions, self._clock.now
        by = by or self._by or this_actor()
        begun = await asyncio.to_thread(actions.begin, command, by, at=now(), detail=detail)
        result = _Result()
        try:
            yield result
        except Exception as error:
            said = str(error) or type(error).__name__
            await asyncio.to_thread(actions.end, begun, at=now(), detail=said, failed=True)
            raise
        await asyncio.to_thread(actions.end, begun, at=now(), detail=result.detail, failed=result.failed)


def _is_whole(site: Site, number: int) -> bool:
    return any(one.number == number for one in _readable(site))


def _readable(site: Site) -> list[Generation]:
    """
    The generations that are whole.
    """
    found = []
    for number in site.generations.numbers():
        try:
            found.append(site.generations.read(number))
        except PassingError:  # it may have the key that is asked about
            raise
        except (StoreError, InputError):
            continue
    return found


def _same_key(site: Site, chosen: Generation) -> tuple[Generation, ...]:
    """
    The other generations with its key.
    """
    return tuple(
        one for one in _readable(site) if one.leaf.spki == chosen.leaf.spki and one.number != chosen.number
    )


def _revoked_keys(site: Site, state: IdentityState) -> frozenset[bytes]:
    """
    The public keys of generations that are known to be revoked: a certificate that is good has no better key.
    """
    return frozenset(one.leaf.spki for one in _readable(site) if one.number in state.revoked)
