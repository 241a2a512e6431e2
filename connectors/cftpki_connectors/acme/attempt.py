"""
One attempt to move one order on: from what was saved to a certificate, or as far as it goes until the deadline.

Owns the loop around `flow`'s decisions, and the order of saving, publishing and sending.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import field
from datetime import timedelta

from cftpki_connectors.acme.account import Account
from cftpki_connectors.acme.chains import Chain
from cftpki_connectors.acme.flow import (
    Answer,
    OrderRecord,
    Phase,
    Step,
    Task,
    choose_challenge,
    forget_tasks,
    next_step,
    out_of_patience,
    poll_at,
)
from cftpki_connectors.acme.jose import key_authorization
from cftpki_connectors.acme.options import ChallengeKind
from cftpki_connectors.acme.orders import OrderRequest, Orders, Seen
from cftpki_connectors.acme.pauses import RESERVE_S, Pauses
from cftpki_connectors.acme.problems import ProblemError
from cftpki_connectors.acme.publisher import Publisher
from cftpki_connectors.acme.resources import Status
from cftpki_connectors.acme.solver import SolverError
from cftpki_connectors.acme.store import AccountStore, Claim, Lock
from cftpki_connectors.acme.validation import Validation
from cftpki_connectors.ca.client import CaError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault, Order, Pending, SaveState
from cftpki_ext.ports.clock import Clock

# A challenge that could not be published, or a CA that does not see it, is tried again after so long.
TRY_AGAIN = timedelta(seconds=30)
# How long an order is somebody's whose end the CA does not tell.
CLAIM_LIFE = timedelta(days=30)
# An order that was finalized so lately may have a certificate: that the CA does not know it is not believed at once.
FINALIZED_PATIENCE = timedelta(hours=1)
# A certificate that the CA has issued and does not find is waited for until the order ends; so long where it tells no end.
DOWNLOAD_PATIENCE = timedelta(days=1)
# An order that stays "ready" after its CSR was taken is asked so often within an attempt.
MAX_FINALIZE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """
    The chains that came, the CA's own first.
    """

    chains: Sequence[Chain]
    notes: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Attempt:
    """
    What one call of `advance` works with. `record` is always what was saved last.
    """

    order: Order
    wanted: OrderRequest
    account: Account
    orders: Orders
    store: AccountStore
    publisher: Publisher
    configured: tuple[ChallengeKind, ...]
    clock: Clock
    deadline: float
    save: SaveState
    record: OrderRecord
    attended: bool  # what `record.presented` says has been published all the time
    notes: list[str] = field(default_factory=list)

    async def run(self) -> Downloaded | Pending:
        """
        Go on until there is a certificate, or nothing to do but wait.

        Raises:
            CaError: the attempt ended without either.

        """
        interrupted = bool(self.record.presented) and not self.attended
        try:
            return await self._go_on()
        except CaError as error:
            interrupted = interrupted and not out_of_patience(self.record, self.clock.now())
            if interrupted and error.fault is Fault.REFUSED and self.record.phase is not Phase.FINALIZING:
                # That says nothing about the names: a new order may be placed at once.
                detail = f"the CA looked while nobody was there to answer: {error.detail}"
                raise CaError(Fault.ORDER_LOST, detail) from error
            raise

    async def withdraw(self) -> None:
        """
        Take away what was published, and write down that it is gone.
        """
        if self.record.presented:
            self.notes += await self.publisher.withdraw(self.record.presented)
            forgotten = forget_tasks(self.record)
            await self.save(forgotten.to_state())
            self.record = forgotten

    async def _go_on(self) -> Downloaded | Pending:
        """
        The loop of `run`.
        """
        seen = await self._take_up()
        if isinstance(seen, Pending):
            return seen
        since = self.record.finalized_at or self.clock.now()
        finalized = 0
        while True:
            step = next_step(seen.order, seen.now)
            if step is not Step.AUTHORIZE:
                await self.withdraw()
            match step:
                case Step.DOWNLOAD:
                    chains, notes = await self._download(seen)
                    return Downloaded(chains=chains, notes=(*self.notes, *notes))
                case Step.FINALIZE if finalized < MAX_FINALIZE:
                    if self.record.phase is not Phase.FINALIZING:
                        since = self.clock.now()
                        await self._keep(phase=Phase.FINALIZING, finalized_at=since)
                    finalized += 1
                    seen = await self._finalize(seen)
                    if next_step(seen.order, seen.now) is Step.DOWNLOAD:
                        continue
                case Step.AUTHORIZE:
                    pending = await self._authorize(seen)
                    if pending is not None:
                        return pending
                    seen = await self.orders.known(seen.url)
                    if seen.order.status is not Status.PENDING:
                        continue
            again = poll_at(asked=seen.retry_at, since=since, now=self.clock.now())
            if not await self._pauses.until(again):
                return Pending(retry_at=again, detail=f"the order is {seen.order.status.value} at the CA")
            seen = await self.orders.known(seen.url)

    async def _download(self, seen: Seen) -> tuple[Sequence[Chain], tuple[str, ...]]:
        try:
            return await self.orders.download(seen.order.certificate or "")
        except ProblemError as error:
            ends = seen.order.expires or (self.record.finalized_at or seen.now) + DOWNLOAD_PATIENCE
            if error.status == 404 and seen.now < ends:
                # It was issued; another order would be another certificate.
                detail = f"the CA has issued a certificate and does not find it yet: {error.detail}"
                raise CaError(Fault.UNREACHABLE, detail) from error
            if error.fault is Fault.REFUSED:
                # It is there, and nobody will ever use it.
                detail = f"the CA has issued a certificate and does not hand it out: {error.detail}"
                raise CaError(Fault.ORDER_LOST, detail) from error
            raise

    @property
    def _pauses(self) -> Pauses:
        return Pauses(clock=self.clock, deadline=self.deadline)

    async def _take_up(self) -> Seen | Pending:
        """
        The order: the one we know, the one whose answer was lost, or a new one, written down as ours before its use.

        Identities with the same names share the account, and an order belongs to whoever finalizes it: one that
        another of them has is left alone. Between the CA's answer and that note nobody else looks for orders.
        """
        if self.record.order is not None:
            return await self._known_order(self.record.order)
        async with self.store.locked(Lock.ORDERS, deadline=self.deadline):
            claims = dict(self.store.claims())
            own = claims.pop(self.order.identity, None)
            owners = {claim.order: identity for identity, claim in claims.items()}
            seen = None
            if self.record.phase is Phase.ORDERING:
                seen = await self.orders.find(
                    self.wanted, own=None if own is None else own.order, taken=owners.keys()
                )
            if seen is None:
                await self._keep(phase=Phase.ORDERING)
                seen, notes = await self.orders.place(self.wanted)
                self.notes += notes
            if seen.url in owners:
                # RFC 8555 7.4 lets a CA answer with an open order for the same names, and some do.
                detail = (
                    f"the CA answers with the order that identity {owners[seen.url]} has for the same names"
                )
                return Pending(retry_at=self.clock.now() + TRY_AGAIN, detail=detail)
            until = seen.order.expires or self.clock.now() + CLAIM_LIFE
            await self.store.claim(self.order.identity, Claim(order=seen.url, until=until))
        await self._keep(phase=Phase.ORDERED, order=seen.url)
        return seen

    async def _known_order(self, url: str) -> Seen:
        """
        An order of ours. One that was finalized a moment ago is not lost because one machine of the CA does not know it.
        """
        try:
            return await self.orders.known(url)
        except CaError as error:
            finalized = self.record.finalized_at
            young = finalized is not None and finalized <= self.clock.now() < finalized + FINALIZED_PATIENCE
            if error.fault is Fault.ORDER_LOST and young:
                raise CaError(Fault.UNREACHABLE, error.detail) from error
            raise

    async def _finalize(self, seen: Seen) -> Seen:
        try:
            return await self.orders.finalize(seen, self.order.csr)
        except ProblemError as error:
            if error.problem.kind == "serverInternal" and self.order.lifetime_s is not None:
                # step-ca says no more than that where the lifetime is longer than its provisioner allows.
                detail = f"{error.detail}; perhaps the lifetime asked for is more than the CA allows"
                raise CaError(error.fault, detail, sent=True, retry_at=error.retry_at) from error
            raise

    async def _authorize(self, seen: Seen) -> Pending | None:
        """
        Answer what has to be answered; `None` when all is authorized.
        """
        answers: dict[str, Answer] = {}
        for url in seen.order.authorizations:
            authorization, _ = await self.orders.authorization(url)
            answer = choose_challenge(authorization, self.configured)
            if answer is not None:
                answers[url] = answer
        if not answers:
            return None
        under_way = any(answer.challenge.status is Status.PROCESSING for answer in answers.values())
        late = out_of_patience(self.record, self.clock.now())
        tasks = {url: self._task(answer) for url, answer in answers.items()}
        presented = tuple(dict.fromkeys((*self.record.presented, *tasks.values())))
        began = self.record.challenged_at or self.clock.now()
        await self._keep(presented=presented, challenged_at=began)
        try:
            await self.publisher.publish(tuple(tasks.values()), deadline=self.deadline - RESERVE_S)
        except SolverError as error:
            if error.permanent or late:
                raise CaError(Fault.MISCONFIGURED, error.detail) from error
            return Pending(retry_at=self.clock.now() + TRY_AGAIN, detail=error.detail)
        pending = await Validation(self.orders, self._pauses, answers, since=began).run()
        # Only now: where the CA was down for all that time, the challenges have not had their chance.
        if pending is not None and late and not under_way:
            await self._give_up(answers)
        return pending

    async def _give_up(self, answers: dict[str, Answer]) -> None:
        """
        The challenges have had their time: the order is ended at the CA too, so that none is left open.
        """
        for url in answers:
            await self.orders.deactivate(url)
        first = next(iter(answers.values()))
        told = first.challenge.error or "the CA says nothing"
        detail = f"{first.kind} for {first.authorization.name} was not confirmed in time: {told}"
        raise CaError(Fault.REFUSED, detail)

    def _task(self, answer: Answer) -> Task:
        token = answer.challenge.token
        return Task(
            kind=answer.kind,
            identifier=answer.authorization.identifier,
            token=token,
            authorization=key_authorization(token, self.account.signer.key),
        )

    async def _keep(self, **changes: object) -> None:
        changed = dataclasses.replace(self.record, **changes)  # type: ignore[arg-type]  # the fields' own types
        await self.save(changed.to_state())
        self.record = changed
