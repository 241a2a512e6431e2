"""
One order at a CMP server, from request to confirmed certificate (RFC 9483 4.1, 4.4).

Owns the order of steps, and what is written down before each; messages and their protection are the neighbours' business.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from cftpki_connectors.ca.client import CaError
from cftpki_connectors.ca.clocks import skew_notes
from cftpki_connectors.cmp import writing
from cftpki_connectors.cmp.bodies import parse_cert_reply, parse_error
from cftpki_connectors.cmp.chains import completing, confirmation_of, lacks_issuer
from cftpki_connectors.cmp.credentials import Credentials, usable
from cftpki_connectors.cmp.general import General
from cftpki_connectors.cmp.judging import handed_out, objection_to
from cftpki_connectors.cmp.options import CmpOptions, Confirmation
from cftpki_connectors.cmp.protection import Means, Secret, signer
from cftpki_connectors.cmp.state import Attempt, By, Phase
from cftpki_connectors.cmp.status import fault_of, granted, words
from cftpki_connectors.cmp.transaction import OPERATIONS, Transaction, check_after, read, undecided, waits
from cftpki_connectors.cmp.values import CertResponse, Kind, Message, Outcome, Status
from cftpki_connectors.support import threads
from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.enroller_port import Failed, Fault, Issued, Order, Pending, Progress, SaveState
from cftpki_ext.ports.clock import Clock

_REPLIES = {Kind.IR: Kind.IP, Kind.CR: Kind.CP, Kind.P10CR: Kind.CP, Kind.KUR: Kind.KUP}
# Answers in an open transaction that were not to be believed, before another one begins.
_MAX_DOUBTS = 3
_WHOLE = -1  # polled for: the whole answer, and not one certificate of it
_NOT_ASKED = "the server answers with something that was not asked"


class Flow:
    """
    Carries one order on as far as it goes.

    Every method that sends something has saved before what it is about to do. All of them raise `CaError` where nothing came that
    is to be believed, and `InputError` where the configuration lacks what protects the order's messages.

    Args:
        options: what is configured.
        clock: for deadlines, validity and times in messages.
        credentials: as they are now.
        order: what is wanted.
        attempt: how far it has come.
        save: writes that down.
        deadline: monotonic seconds.

    """

    def __init__(
        self,
        options: CmpOptions,
        clock: Clock,
        credentials: Credentials,
        *,
        order: Order,
        attempt: Attempt,
        save: SaveState,
        deadline: float,
    ) -> None:
        self._options = options
        self._clock = clock
        self._credentials = credentials
        self._order = order
        self._attempt = attempt
        self._save = save
        self._deadline = deadline

    async def advance(self) -> Progress:
        """
        Ask for the certificate, poll for it, or confirm it, whatever comes next. An order that has it is handed out before.
        """
        if self._attempt.phase not in {Phase.WAITING, Phase.CONFIRMING}:
            return await self._ask()
        if self._attempt.by is By.CURRENT and (self._order.current is None or self._order.revoked):
            detail = "cmp: the certificate that protected the order's first message protects nothing any more"
            return Failed(fault=Fault.ORDER_LOST, detail=detail)
        try:
            transaction = self._transaction(again=True)
            if self._attempt.phase is Phase.WAITING:
                return await self._poll(transaction)
            return await self._confirm(transaction, again=True)
        except CaError as error:
            return await self._doubted(error)

    async def _doubted(self, error: CaError) -> Failed:
        """
        Give a transaction up in which only errors come that nobody has protected: servers that forgot it answer so.
        """
        if not _unbelievable(error):
            return error.failed("cmp")
        self._change(doubts=self._attempt.doubts + 1)
        await self._keep()
        if self._attempt.doubts < _MAX_DOUBTS:
            return error.failed("cmp")
        detail = f"cmp: no answer in this transaction was to be believed for {_MAX_DOUBTS} attempts: {error.detail}"
        return Failed(fault=Fault.ORDER_LOST, detail=detail)

    async def _ask(self) -> Progress:
        """
        One request; where an update is refused and there is another way to say who we are, a second one.
        """
        order, word = self._order, self._options.request.value
        current, fault = usable(None if order.revoked else order.current, self._clock.now())
        if self._options.update and current is not None and fault is None:
            refusal = await self._update()
            if not isinstance(refusal, str):
                return refusal
            self._note(f"the update (kur) was refused, asked with {word} instead: {refusal}")
        elif self._options.update and order.current is not None:
            why = "is revoked" if order.revoked else fault
            self._note(f"asked with {word} and not kur: the certificate in use {why}")
        by = By.CONFIGURED
        if not self._credentials.present:
            if current is None or fault is not None:
                detail = (
                    "cmp: nothing can protect the request: set secret_file, or identity_chain_file and "
                    "identity_key_file"
                )
                return Failed(fault=Fault.MISCONFIGURED, detail=detail)
            by = By.CURRENT
        return await self._submit(self._options.request.kind, by)

    async def _update(self) -> Progress | str:
        """
        What came of an update, or why it was refused where something else can be tried.
        """
        try:
            outcome = await self._submit(Kind.KUR, By.CURRENT)
        except CaError as error:
            # A server that does not know the certificate mostly says so in an error that nobody has protected.
            if not (_unbelievable(error) and self._credentials.present):
                raise
            return error.detail
        refused = isinstance(outcome, Failed) and outcome.fault in {Fault.REFUSED, Fault.MISCONFIGURED}
        if isinstance(outcome, Failed) and refused and self._credentials.present:
            return outcome.detail
        return outcome

    async def _submit(self, kind: Kind, by: By) -> Progress:
        """
        A request in a transaction of its own, and its answer.
        """
        self._change(kind=kind, by=by, phase=Phase.NEW, answered=b"", doubts=0, refused=None)
        body = await threads.call(lambda: self._request(kind))
        infos = [] if self._options.profile is None else [writing.cert_profile(self._options.profile)]
        if self._options.confirmation is Confirmation.IMPLICIT:
            infos.append(writing.implicit_confirm())
        transaction = self._transaction()
        before = self._attempt
        self._change(phase=Phase.ASKED, transaction=transaction.identifier, unanswered=before.unanswered + 1)
        await self._keep()
        try:
            answer = await transaction.ask(body, deadline=self._deadline, infos=tuple(infos))
        except CaError as error:
            if not error.sent:
                self._attempt = before
                await self._keep()
            raise
        self._change(phase=Phase.NEW, unanswered=before.unanswered)
        return await self._heard(transaction, answer)

    def _request(self, kind: Kind) -> bytes:
        order = self._order
        not_after = None
        if order.lifetime_s is not None:
            not_after = self._clock.now() + timedelta(seconds=order.lifetime_s)
        old = usable(order.current, self._clock.now())[0] if kind is Kind.KUR else None
        return writing.certificate_request(
            kind,
            writing.read_request(order.csr),
            order.key,
            old=old,
            issuer=self._credentials.issuer or (None if old is None else old.issuer.der),
            not_after=not_after,
        )

    async def _poll(self, transaction: Transaction) -> Progress:
        answer = await transaction.ask(writing.poll_request(self._attempt.request), deadline=self._deadline)
        if not waits(answer):
            return await self._heard(transaction, answer)
        self._change(answered=transaction.answered)
        await self._keep()
        later = check_after(answer, self._attempt.request) if answer.kind is Kind.POLLREP else None
        return Pending(
            retry_at=self._clock.now() + (later or timedelta(seconds=self._options.retry_s)),
            detail=undecided(answer),
        )

    async def _heard(self, transaction: Transaction, answer: Message) -> Progress:
        """
        What an answer to the request says, or to a poll for it.
        """
        kind = self._attempt.kind or Kind.IR
        self._change(answered=transaction.answered)
        self._look_at_clock(answer)
        if waits(answer):
            return await self._wait(transaction, _WHOLE)
        if answer.kind is Kind.ERROR:
            return await self._failed(read(parse_error, answer))
        if answer.kind is not _REPLIES[kind]:
            return Failed(fault=Fault.UNREACHABLE, detail=f"cmp {self._name}: {_NOT_ASKED}")
        reply = read(parse_cert_reply, answer)
        numbers = {0, _WHOLE} if kind is Kind.P10CR else {0}
        response = next((one for one in reply.responses if one.request in numbers), None)
        if response is None:
            detail = f"cmp {self._name}: the server answers another request than ours"
            return Failed(fault=Fault.UNREACHABLE, detail=detail)
        if response.status.outcome is Outcome.WAITING:
            return await self._wait(transaction, response.request)
        if not granted(response.status):
            return await self._failed(response.status)
        # RFC 9483 4.1.5: caPubs count with ir and a shared secret; even then they only complete a chain here.
        told = answer.kind is Kind.IP and self._attempt.by is By.CONFIGURED and self._credentials.secret
        return await self._received(
            transaction, answer, response, authorities=reply.authorities if told else ()
        )

    async def _wait(self, transaction: Transaction, request: int) -> Progress:
        """
        Write down that the server has the request, and ask when to come back.
        """
        if self._attempt.phase is Phase.WAITING and self._attempt.request == request:
            # It was polled for, and comes with the same word instead of a time.
            await self._keep()
            retry_at = self._clock.now() + timedelta(seconds=self._options.retry_s)
            return Pending(retry_at=retry_at, detail="cmp: the CA has not decided yet")
        self._change(phase=Phase.WAITING, request=request)
        await self._keep()
        return await self._poll(transaction)

    async def _failed(self, status: Status) -> Failed:
        fault = fault_of(status, under_way=self._attempt.phase is Phase.WAITING)
        detail = f"cmp {self._name}: {words(status)}"
        # The transaction is over; another attempt is another one.
        self._change(phase=Phase.NEW)
        await self._keep()
        return Failed(fault=fault, detail=detail)

    async def _received(
        self,
        transaction: Transaction,
        answer: Message,
        response: CertResponse,
        *,
        authorities: tuple[bytes, ...],
    ) -> Progress:
        if response.certificate is None:
            how = "encrypted for its owner, which is not supported" if response.encrypted else "missing"
            detail = f"cmp {self._name}: the CA says that it has issued a certificate, which is {how}"
            return Failed(fault=Fault.REFUSED, detail=detail)
        if response.status.outcome is Outcome.GRANTED_WITH_MODS:
            self._note(f"issued with changes: {words(response.status)}")
        extra = completing(response.certificate, answer.extra, authorities)
        self._change(request=response.request, issued=(response.certificate, *extra))
        if answer.header.implicit_confirm and self._options.confirmation is Confirmation.IMPLICIT:
            return await self._done("the CA waits for no confirmation")
        return await self._confirm(transaction)

    async def _confirm(self, transaction: Transaction, *, again: bool = False) -> Progress:
        """
        Say whether the certificate is taken (RFC 9810 5.3.18), after everything that speaks against it was heard.

        Whether a confirmation that nobody answered has arrived is not known: where the server does not know the
        transaction any more then, the certificate may be revoked by now, and another order begins.
        """
        self._change(phase=Phase.CONFIRMING)
        await self._keep()
        await self._complete()
        # A no that may have been heard is never taken back: the CA may have revoked by now.
        objection = self._attempt.refused
        if objection is None:
            objection = await objection_to(self._attempt, self._order)
            if objection is not None:
                self._change(refused=objection)
                await self._keep()
        body, version = confirmation_of(self._attempt.issued[0], self._attempt.request, refusal=objection)
        answer = await transaction.ask_patiently(body, deadline=self._deadline, version=version)
        if answer.kind is Kind.PKICONF:
            return await self._done("confirmed" if objection is None else f"refused at the CA: {objection}")
        if answer.kind is not Kind.ERROR:
            return Failed(fault=Fault.UNREACHABLE, detail=f"cmp certConf: {_NOT_ASKED}")
        status = read(parse_error, answer)
        if objection is not None:
            return await self._done(f"refused at the CA, which does not take it: {words(status)}")
        fault = fault_of(status, under_way=True)
        detail = f"cmp certConf: {words(status)}"
        if again and fault is not Fault.UNREACHABLE:
            detail += "; it was sent before, and nobody knows whether it counts"
            fault = Fault.ORDER_LOST
        return Failed(fault=fault, detail=detail)

    async def _complete(self) -> None:
        """
        Ask for the CA's own certificates where a link of the chain is missing.
        """
        credentials = self._credentials
        if not lacks_issuer(self._attempt.issued, credentials.believed.roots):
            return
        general = General(
            options=self._options, credentials=credentials, means=self._means(), clock=self._clock
        )
        try:
            told = await general.ca_certificates(deadline=self._deadline)
        except CaError as error:
            self._note(f"the chain lacks a CA, and the server does not tell its certificates: {error.detail}")
            return
        leaf, *others = self._attempt.issued
        self._change(issued=(leaf, *completing(leaf, others, told)))

    async def _done(self, note: str) -> Issued | Failed:
        self._note(note)
        self._change(phase=Phase.DONE)
        await self._keep()
        return await handed_out(self._attempt, self._order)

    def _means(self) -> Means:
        """
        What protects this order's messages.
        """
        means: Means | None
        if self._attempt.by is By.CONFIGURED:
            means = self._credentials.means
        else:
            means = None if self._order.current is None else signer(self._order.current)
        if means is None:
            msg = "what protected the order's first message is not there any more"
            raise InputError(msg)
        if isinstance(means, Secret):
            means = dataclasses.replace(means, sender=writing.read_request(self._order.csr).subject)
        return means

    def _transaction(self, *, again: bool = False) -> Transaction:
        attempt = self._attempt
        about = usable(self._order.current, self._clock.now())[0] if attempt.by is By.CURRENT else None
        return Transaction(
            self._options,
            self._credentials,
            self._means(),
            self._clock,
            recipient=self._credentials.addressed(about),
            operation=OPERATIONS[attempt.kind or Kind.IR],
            identifier=attempt.transaction if again else b"",
            answered=attempt.answered if again else b"",
        )

    @property
    def _name(self) -> str:
        return (self._attempt.kind or Kind.IR).name.lower()

    def _look_at_clock(self, answer: Message) -> None:
        self._note(*skew_notes(answer.header.time, self._clock.now()))

    def _change(self, **fields: object) -> None:
        self._attempt = dataclasses.replace(self._attempt, **fields)  # type: ignore[arg-type]  # fields of Attempt

    def _note(self, *notes: str) -> None:
        self._change(notes=tuple(dict.fromkeys((*self._attempt.notes, *notes))))

    async def _keep(self) -> None:
        await self._save(self._attempt.document())


def _unbelievable(error: CaError) -> bool:
    """
    Whether an answer came that was not to be believed; a server that TLS does not let us trust was not asked.
    """
    return error.untrusted and error.sent
