"""
What others say of the certificate in force: the CA, when to renew it; our own check, whether it is revoked.

Owns how often they are asked and what is made of silence: no opinion, and what was known to be revoked stays so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

from cftpki_ext.enrolment import Enroller, Held, RenewalHint
from cftpki_ext.errors import CftPkiError
from cftpki_ext.identity.generations import Generation
from cftpki_ext.identity.schedule import pick
from cftpki_ext.identity.site import Log, Site
from cftpki_ext.identity.standing import Hint, Standing, Status, write_standing
from cftpki_ext.ports import Clock
from cftpki_ext.settings import ManagedIdentity

# How often each is asked where nobody says otherwise. RFC 9773 4.3 suggests hours; a revocation should be seen in one.
HINT_EVERY = timedelta(hours=6)
STATUS_EVERY = timedelta(hours=1)
STATUS_RETRY = timedelta(minutes=5)
# A CA that wants to be asked all the time is not, nor one forgotten that wants to be left alone.
HINT_AT_MOST_EVERY = timedelta(seconds=5)
HINT_AT_LEAST_EVERY = timedelta(days=1)
CALL_S = 20.0

# Says whether a chain of ours is revoked, and why it thinks so; `None` where it cannot be said.
OwnStatus = Callable[[ManagedIdentity, tuple[bytes, ...]], Awaitable[tuple[bool, str] | None]]


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

    def due(self, site: Site, current: Generation | None, standing: Standing) -> bool:
        """
        Whether somebody should be asked now.
        """
        if current is None:
            return False
        now = self._clock.now()
        return self._hint_due(current, standing, now) or self._status_due(site, current, standing, now)

    async def ask(self, site: Site, current: Generation | None, standing: Standing) -> Standing:
        """
        Ask whoever is due, and write down what they say. Under the lock.

        Args:
            site: of the identity.
            current: the generation in force.
            standing: what is remembered.

        Returns:
            What is remembered now.

        """
        if current is None:
            return standing
        now = self._clock.now()
        changes: dict[str, object] = {}
        if self._hint_due(current, standing, now):
            hint = await self._hint(site, current, standing.hint)
            changes["hint"] = hint
            if hint.ready and (standing.hint is None or hint.explanation != standing.hint.explanation):
                # Something else lies there: what was tried with the one before says nothing of it.
                changes.update(failures=0, held_back={}, waiting=None)
        if self._status_due(site, current, standing, now):
            changes["status"] = await self._status(site, current, standing.status)
        if not changes:
            return standing
        standing = standing.model_copy(update=changes)
        await asyncio.to_thread(write_standing, site.directory, standing)
        return standing

    def _hint_due(self, current: Generation, standing: Standing, now: datetime) -> bool:
        if current.meta.enroller not in self._enrollers:
            return False
        hint = standing.hint
        if hint is None or hint.generation != current.number:
            return True
        # A time further ahead was written by a clock that has been set back since.
        return not now < hint.ask_again_at <= now + HINT_AT_LEAST_EVERY

    def _status_due(self, site: Site, current: Generation, standing: Standing, now: datetime) -> bool:
        if self._own_status is None or site.identity.trust is None:
            return False
        status = standing.status
        if status is None or status.generation != current.number:
            return True
        # One in the future was written by a clock that has been set back since.
        return not status.revoked and not status.checked_at <= now < status.checked_at + STATUS_EVERY

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
            return await enroller.renewal_hint(held, deadline=deadline)
        except CftPkiError as error:
            self._event("renewal_hint_failed", identity=site.identity.name, error=str(error))
        except Exception as error:  # noqa: BLE001 - a third party's adapter; without a hint the lifetime decides
            self._event("renewal_hint_failed", identity=site.identity.name, error=type(error).__name__)
        return None

    async def _status(self, site: Site, current: Generation, known: Status | None) -> Status:
        now = self._clock.now()
        found: tuple[bool, str] | None = None
        if self._own_status is not None:
            try:
                found = await self._own_status(site.identity, tuple(c.der for c in current.chain))
            except CftPkiError as error:
                self._event("own_status_failed", identity=site.identity.name, error=str(error))
        if found is None:
            revoked = known is not None and known.generation == current.number and known.revoked
            # As if it had been asked so long ago that it is asked again soon.
            checked_at = now - STATUS_EVERY + STATUS_RETRY
            return Status(
                generation=current.number, checked_at=checked_at, revoked=revoked, detail="not known"
            )
        revoked, detail = found
        if revoked:
            self._event(
                "own_certificate_revoked",
                identity=site.identity.name,
                generation=current.number,
                detail=detail,
            )
        return Status(generation=current.number, checked_at=now, revoked=revoked, detail=detail)
