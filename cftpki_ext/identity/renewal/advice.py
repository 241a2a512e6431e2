"""
What others say of the certificate in force: the CA, when to renew it; our own check, whether it is revoked.

Owns how often they are asked and what is made of silence: no opinion, and what was known to be revoked stays so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.identity_settings import ManagedIdentity
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Enroller, Held, RenewalHint
from cftpki_ext.identity.issuance.task import GRACE_S
from cftpki_ext.identity.renewal.schedule import pick
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.layout import Log, Site
from cftpki_ext.identity.store.state import Hint, IdentityState, Status, write_state
from cftpki_ext.ports.clock import Clock

# How often the CA is asked where it does not say. RFC 9773 4.3 suggests hours.
HINT_EVERY = timedelta(hours=6)
# Our own check that could not say anything is repeated so soon, and never later than it would be anyway.
STATUS_RETRY = timedelta(minutes=1)
# Machines that were set up together do not ask together: up to so much earlier.
JITTER_SHARE = 1 / 10
# A CA that wants to be asked all the time is not, nor one forgotten that wants to be left alone.
HINT_AT_MOST_EVERY = timedelta(seconds=5)
HINT_AT_LEAST_EVERY = timedelta(days=1)
CALL_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """
    What our own check says of a chain of ours: the leaf is revoked, or a CA `above` it is, or neither.
    """

    revoked: bool
    detail: str
    above: bool = False


# Asked by statements that are at most so old; `None` where it cannot be said.
OwnStatus = Callable[[ManagedIdentity, tuple[bytes, ...], timedelta], Awaitable[Found | None]]


class Adviser:
    """
    Asks what is due to be asked, and remembers the answers.
    """

    def __init__(
        self,
        *,
        enrollers: Mapping[str, Enroller],
        clock: Clock,
        event: Log,
        own_status: OwnStatus | None,
        draw: Callable[[], float],
    ) -> None:
        self._enrollers = enrollers
        self._clock = clock
        self._event = event
        self._own_status = own_status
        self._draw = draw
        self._heard: dict[str, Status] = {}  # of our own check, to be written down under the lock

    def due(self, site: Site, current: Generation | None, state: IdentityState) -> bool:
        """
        Whether somebody should be asked now.
        """
        if current is None:
            return False
        now = self._clock.now()
        return self._hint_due(current, state, now) or self._unwritten(site, current, state) is not None

    async def ask(self, site: Site, current: Generation | None, state: IdentityState) -> IdentityState:
        """
        Ask whoever is due, and write down what they say. Under the lock.

        Args:
            site: of the identity.
            current: the generation in force.
            state: what is remembered.

        Returns:
            What is remembered now.

        """
        if current is None:
            return state
        now = self._clock.now()
        changes: dict[str, object] = {}
        if self._hint_due(current, state, now):
            hint = await self._hint(site, current, state.hint)
            changes["hint"] = hint
            if hint.ready and (state.hint is None or hint.explanation != state.hint.explanation):
                # Something else lies there: what was tried with the one before says nothing of it.
                changes.update(failures=0, held_back={}, waiting=None)
        if changes:
            state = state.model_copy(update=changes)
            await asyncio.to_thread(write_state, site.directory, state)
        return await self.write(site, current, state)

    async def write(self, site: Site, current: Generation | None, state: IdentityState) -> IdentityState:
        """
        Write down what our own check said, where that is new. Under the lock.

        Args:
            site: of the identity.
            current: the generation in force.
            state: what is remembered.

        Returns:
            What is remembered now.

        """
        heard = None if current is None else self._unwritten(site, current, state)
        if heard is None:
            return state
        changes: dict[str, object] = {"status": heard}
        if heard.revoked:
            # Patience with a CA was for a certificate that is good.
            changes.update(held_back={}, waiting=None, revoked=state.revoked | {heard.generation})
        state = state.model_copy(update=changes)
        await asyncio.to_thread(write_state, site.directory, state)
        return state

    def _hint_due(self, current: Generation, state: IdentityState, now: datetime) -> bool:
        if current.meta.enroller not in self._enrollers:
            return False
        hint = state.hint
        if hint is None or hint.generation != current.number:
            return True
        # A time further ahead was written by a clock that has been set back since.
        return not now < hint.ask_again_at <= now + HINT_AT_LEAST_EVERY

    async def listen(self, site: Site, current: Generation | None, state: IdentityState) -> None:
        """
        Make our own check where it is due. Not under the lock: what it says is written down by `ask`.

        Args:
            site: of the identity.
            current: the generation in force.
            state: what is remembered.

        """
        if current is None or self._own_status is None or site.identity.trust is None:
            return
        known = self._known(site, current, state)
        now, every = self._clock.now(), site.identity.check_every
        if known is not None:
            soon = min(known.ask_again_at or known.checked_at, known.checked_at + every)
            # One in the future was written by a clock that has been set back since.
            if known.revoked or known.checked_at <= now < soon:
                return
        # Twice in the interval at most: what somebody else has heard meanwhile counts while it is young.
        await self.check(site, current, state, max_age=every / 2)

    async def check(
        self, site: Site, current: Generation, state: IdentityState, *, max_age: timedelta
    ) -> Status:
        """
        Make our own check now. What could not be heard changes nothing but when it is asked again.

        Args:
            site: of the identity.
            current: the generation in force.
            state: what is remembered.
            max_age: of what others have heard before; zero asks anew.

        Returns:
            What is known now; `ask` writes it down.

        """
        found: Found | None = None
        if self._own_status is not None:
            try:
                found = await self._own_status(site.identity, tuple(c.der for c in current.chain), max_age)
            except CftPkiError as error:
                self._event("own_status_failed", identity=site.identity.name, error=str(error))
        now, every = self._clock.now(), site.identity.check_every
        known = self._known(site, current, state)
        unknown = found is None
        if found is None:
            revoked = known is not None and known.revoked
            above = known is not None and known.above
            found = Found(revoked=revoked, above=above, detail="not known")
            every = min(every, STATUS_RETRY)
        elif found.revoked or (found.above and not (known is not None and known.above)):
            self._event(
                "own_certificate_revoked" if found.revoked else "own_chain_revoked",
                identity=site.identity.name,
                generation=current.number,
                detail=found.detail,
            )
        status = Status(
            generation=current.number,
            checked_at=now,
            revoked=found.revoked,
            above=found.above,
            detail=found.detail,
            unknown=unknown,
            ask_again_at=now + every * (1 - JITTER_SHARE * self._draw()),
        )
        self._heard[site.identity.name] = status
        return status

    def _known(self, site: Site, current: Generation, state: IdentityState) -> Status | None:
        """
        The newest that our own check said of the certificate in force.
        """
        unwritten = self._unwritten(site, current, state)
        status = state.status
        if unwritten is not None or status is None:
            return unwritten
        return status if status.generation == current.number else None

    def _unwritten(self, site: Site, current: Generation, state: IdentityState) -> Status | None:
        heard, status = self._heard.get(site.identity.name), state.status
        now = self._clock.now()
        if heard is None or heard.generation != current.number or heard.checked_at > now:
            return None
        if status is None or status.generation != current.number:
            return heard
        # What is known to be revoked stays so. Else the newer counts, and no clock that has been set back since.
        newer = heard.checked_at > status.checked_at or status.checked_at > now
        return heard if newer and not status.revoked else None

    async def _hint(self, site: Site, current: Generation, known: Hint | None) -> Hint:
        now = self._clock.now()
        if known is None or known.generation != current.number:
            known = Hint(
                generation=current.number,
                picked=None,
                start=None,
                end=None,
                explanation=None,
                ask_again_at=now,
            )
        told = await self._told(site, current)
        if told is None:
            return known.model_copy(update={"ask_again_at": now + HINT_EVERY})
        picked = known.picked
        if picked is None or (known.start, known.end) != (told.start, told.end):
            picked = pick(told.start, told.end, draw=self._draw())
            if known.picked is None or told.explanation != known.explanation:
                self._event(
                    "renewal_hint",
                    identity=site.identity.name,
                    generation=current.number,
                    picked=picked.isoformat(),
                    explanation=told.explanation,
                )
        return Hint(
            generation=current.number,
            picked=picked,
            start=told.start,
            end=told.end,
            explanation=told.explanation,
            ready=told.ready,
            ask_again_at=min(max(told.ask_again_at, now + HINT_AT_MOST_EVERY), now + HINT_AT_LEAST_EVERY),
        )

    async def _told(self, site: Site, current: Generation) -> RenewalHint | None:
        enroller = self._enrollers[current.meta.enroller]
        deadline = self._clock.monotonic() + CALL_S
        try:
            key = await asyncio.to_thread(current.key, site.password())
            held = Held(chain=tuple(certificate.der for certificate in current.chain), key=key)
            async with asyncio.timeout(CALL_S + GRACE_S):
                return await enroller.renewal_hint(held, deadline=deadline)
        except CftPkiError as error:
            self._event("renewal_hint_failed", identity=site.identity.name, error=str(error))
        except Exception as error:  # noqa: BLE001 - a third party's adapter; without a hint the lifetime decides
            self._event("renewal_hint_failed", identity=site.identity.name, error=type(error).__name__)
        return None
