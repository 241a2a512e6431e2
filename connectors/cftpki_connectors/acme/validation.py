"""
Waiting for the CA to look at our answers: each challenge is triggered, and again where the CA leaves that to us.

Owns triggering and polling of authorizations. What is published stays published while this waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from cftpki_connectors.acme.flow import Answer, dead_authorization, poll_at, retrigger_pause
from cftpki_connectors.acme.orders import Orders
from cftpki_connectors.acme.pauses import Pauses
from cftpki_connectors.acme.problems import Problem, ProblemError
from cftpki_connectors.acme.resources import Authorization, Status
from cftpki_connectors.ca.client import CaError
from cftpki_ext.identity.enroller_port import Fault, Pending
from cftpki_ext.support.logs import event_log

# What the CA says is logged when it lasts so long, and when it says something else: an attempt may take ten minutes.
TOLD_AFTER = timedelta(seconds=30)
# An attempt that ends while the CA is still looking: the next one comes no sooner.
MIN_PENDING = timedelta(seconds=5)


class Validation:
    """
    The authorizations of one order that wait for the CA.

    Args:
        orders: asks.
        pauses: the time there is.
        answers: by the authorization's URL, each published already.
        since: when the first of them was triggered, perhaps in an earlier attempt.

    """

    def __init__(
        self,
        orders: Orders,
        pauses: Pauses,
        answers: Mapping[str, Answer],
        *,
        since: datetime | None = None,
    ) -> None:
        self._orders = orders
        self._since = pauses.clock.now() if since is None else since
        self._pauses = pauses
        self._waiting = dict(answers)
        self._times = dict.fromkeys(answers, 0)
        self._due: dict[str, datetime] = {}  # challenges that the CA leaves pending: when to trigger again
        self._refusals: dict[str, ProblemError] = {}
        self._told: dict[str, Problem] = {}
        self._logged: str | None = None
        self._log = event_log()

    async def run(self) -> Pending | None:
        """
        Trigger and wait.

        Returns:
            `None` when all are valid, else when to come back.

        Raises:
            CaError: one failed.

        """
        since = self._pauses.clock.now()
        for url, answer in self._waiting.items():
            # One that the CA is looking at already, before a restart of ours, is not triggered twice.
            if answer.challenge.status is Status.PENDING:
                await self._trigger(url)
        while True:
            asked = await self._look()
            if not self._waiting:
                return None
            now = self._pauses.clock.now()
            self._tell(now - since)
            again = min([poll_at(asked=asked, since=since, now=now), *self._due.values()])
            if not await self._pauses.until(again):
                return Pending(retry_at=max(again, now + MIN_PENDING), detail=self._detail())
            for url, due in tuple(self._due.items()):
                if due <= self._pauses.clock.now():
                    await self._trigger(url)

    async def _trigger(self, url: str) -> None:
        self._times[url] += 1
        self._due.pop(url, None)
        try:
            await self._orders.trigger(self._waiting[url].challenge.url)
        except ProblemError as error:
            if error.fault in {Fault.UNREACHABLE, Fault.RATE_LIMITED}:
                raise
            # Perhaps it is decided already: the authorization tells.
            self._refusals[url] = error

    async def _look(self) -> datetime | None:
        """
        Read every authorization that waits; the soonest time that the CA names for one of them.
        """
        asked: list[datetime] = []
        for url, answer in tuple(self._waiting.items()):
            authorization, retry_at = await self._orders.authorization(url)
            if authorization.status is Status.VALID:
                del self._waiting[url]
                self._due.pop(url, None)
                continue
            if authorization.status is not Status.PENDING:
                raise dead_authorization(authorization)
            self._still_pending(url, answer, authorization)
            if retry_at is not None:
                asked.append(retry_at)
        return min(asked, default=None)

    def _still_pending(self, url: str, answer: Answer, authorization: Authorization) -> None:
        challenge = next((one for one in authorization.challenges if one.url == answer.challenge.url), None)
        if challenge is None or challenge.status is Status.INVALID:
            raise dead_authorization(authorization)
        if challenge.status is not Status.PENDING:
            return
        if challenge.error is not None:
            # step-ca: it has looked, did not get through, and will not look again by itself.
            self._told[url] = challenge.error
            now = self._pauses.clock.now()
            self._due.setdefault(url, now + retrigger_pause(self._times[url] - 1, now - self._since))
        elif url in self._refusals:
            raise CaError(self._refusals[url].fault, self._refusals[url].detail)

    def _tell(self, lasted: timedelta) -> None:
        detail = self._detail()
        if lasted >= TOLD_AFTER and detail != self._logged:
            self._log.warning(
                "enroller_waits_for_validation", detail=detail, seconds=int(lasted.total_seconds())
            )
            self._logged = detail

    def _detail(self) -> str:
        url, answer = next(iter(self._waiting.items()))
        what = f"{answer.kind} for {answer.authorization.name}"
        if url in self._told:
            return f"{what} is not confirmed yet: {self._told[url]}"
        return f"the CA is looking at {what}"
