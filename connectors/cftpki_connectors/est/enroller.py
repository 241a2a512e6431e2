"""
The EST enroller (RFC 7030, RFC 8951, RFC 9908): one order at a time from request to certificate.

Owns the order of steps; trust, credentials, bodies and plans are the neighbours' business.
"""

from __future__ import annotations

import dataclasses
from contextlib import aclosing
from datetime import timedelta

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cftpki_connectors.ca.certificates import spki_of
from cftpki_connectors.ca.certs_only import MalformedBodyError
from cftpki_connectors.ca.client import CaAnswer, CaClient, CaError, CaRequest, printable
from cftpki_connectors.ca.clocks import skew_notes
from cftpki_connectors.ca.identity_files import client_fault
from cftpki_connectors.ca.order_state import unanswered_note
from cftpki_connectors.ca.said import first_line
from cftpki_connectors.est import answers, attributes, encoding
from cftpki_connectors.est.credentials import Credentials, load
from cftpki_connectors.est.inspection import look
from cftpki_connectors.est.options import EstOptions
from cftpki_connectors.est.request import Operation, outlook, parse_request
from cftpki_connectors.est.request import plan as plan_of
from cftpki_connectors.est.state import Attempt, resume
from cftpki_connectors.est.trust import Domain, Trust
from cftpki_connectors.support import threads
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import (
    EnrollerContext,
    Failed,
    Fault,
    Finding,
    Held,
    Issued,
    Order,
    OrderState,
    Pending,
    Progress,
    Relation,
    RenewalHint,
    SaveState,
)
from cftpki_ext.x509.certificate import MalformedCertificateError, parse_certificate

_CSRATTRS = "csrattrs"
# Failures behind which a certificate may have been issued: a proxy's, or the server's own after the CA's work.
_AMBIGUOUS = frozenset({500, 502, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """
    What one call of `advance` works with.
    """

    order: Order
    save: SaveState
    deadline: float
    credentials: Credentials
    domain: Domain


class EstEnroller:
    """
    Enrols with one EST server.

    A renewal is authenticated by the certificate that is renewed where that can work, else by the configured
    password and identity; which and why is told in the notes. A 202 is pending: the same request goes out
    again whenever `advance` is called. EST has no word for "was this issued already?": a request that was
    sent and never answered may have made a certificate that nobody has, which is told as well.

    Not done: serverkeygen, fullcmc, and requests bound to the TLS session.
    """

    protocol = "est"

    def __init__(self, options: EstOptions, context: EnrollerContext) -> None:
        self.name = context.name
        self._options = options
        self._clock = context.clock
        self._trust = Trust(options, context)

    async def advance(self, order: Order, state: OrderState, save: SaveState, *, deadline: float) -> Progress:
        """
        Ask for the certificate, or ask again.
        """
        attempt = resume(state, order.csr)
        try:
            credentials = await threads.call(lambda: load(self._options, self._clock.now()))
            domain = await self._trust.domain(identity=credentials.identity, deadline=deadline)
            setting = _Setting(
                order=order, save=save, deadline=deadline, credentials=credentials, domain=domain
            )
            if attempt.issued:
                outcome: Progress = self._issued(setting, attempt, attempt.issued)
            else:
                outcome = await self._ask(setting, attempt)
            if isinstance(outcome, Issued):
                self._trust.told()
        except CaError as error:
            return _explained(error, "est", "it may want a client certificate, or another one")
        except InputError as error:
            return Failed(fault=Fault.MISCONFIGURED, detail=f"est: {printable(str(error))}")
        return outcome

    async def _ask(self, setting: _Setting, attempt: Attempt) -> Progress:
        order = setting.order
        plan = plan_of(order, reenroll=self._options.reenroll, now=self._clock.now())
        operation = plan.operation
        if attempt.operation is Operation.ENROLL:
            # What was asked once is asked again: a server that is deciding knows the request by its URL too.
            operation = Operation.ENROLL
        elif plan.reasons:
            reason = f"asked with simpleenroll and not simplereenroll: {'; '.join(plan.reasons)}"
            attempt = _noted(attempt, reason)
        attempt = dataclasses.replace(attempt, operation=operation)
        if setting.domain.fresh:
            # A change of roots is told once, and this attempt may end without a certificate.
            attempt = _noted(attempt, *setting.domain.notes)
        outcome, attempt = await self._submit(setting, attempt)
        if (
            operation is Operation.REENROLL
            and isinstance(outcome, Failed)
            and outcome.fault in {Fault.REFUSED, Fault.MISCONFIGURED}
            and setting.credentials.present
        ):
            note = f"simplereenroll was refused, asked with simpleenroll instead: {outcome.detail}"
            attempt = dataclasses.replace(_noted(attempt, note), operation=Operation.ENROLL)
            outcome, attempt = await self._submit(setting, attempt)
        return outcome

    async def _submit(self, setting: _Setting, attempt: Attempt) -> tuple[Progress, Attempt]:
        """
        One operation: advice of the server, the request, and its answer.
        """
        operation = attempt.operation or Operation.ENROLL
        client = CaClient(
            clock=self._clock,
            roots=setting.domain.server_roots,
            identity=self._identity(setting, operation),
            proxy=self._options.proxy,
        )
        async with aclosing(client):
            try:
                if operation is Operation.REENROLL and setting.domain.fresh:
                    await self._greet(client, setting)
                if self._options.csrattrs and not attempt.wishes_known:
                    attempt = await self._wishes(client, setting, attempt)
                request = answers.post(self._options, operation.value, setting.order.csr)
                begun = dataclasses.replace(attempt, unanswered=attempt.unanswered + 1)
                await setting.save(begun.document())
                answer = await answers.ask(client, request, setting.credentials, deadline=setting.deadline)
            except CaError as error:
                if not error.sent:
                    await setting.save(attempt.document())
                if error.alert is None:
                    raise
                return self._alerted(setting, operation, error), attempt
        return await self._answer(setting, attempt, begun, request, answer)

    async def _answer(
        self, setting: _Setting, attempt: Attempt, begun: Attempt, request: CaRequest, answer: CaAnswer
    ) -> tuple[Progress, Attempt]:
        now = self._clock.now()
        step = (attempt.operation or Operation.ENROLL).value
        if answer.status == 202:
            attempt = dataclasses.replace(attempt, answered=attempt.answered + 1)
            await setting.save(attempt.document())
            said = first_line(answer)
            return Pending(
                retry_at=answer.retry_at(now) or now + timedelta(seconds=self._options.retry_s),
                detail=f"{step}: the CA has not decided yet" + (f": {said}" if said else ""),
            ), attempt
        if answer.status == 200 and answers.unsupported_content(answer) is None:
            try:
                received = encoding.certificates(answer.body)
            except MalformedBodyError as error:
                detail = f"{step}: HTTP 200, but {error}; the CA may have issued a certificate"
                return Failed(fault=Fault.UNREACHABLE, detail=detail), begun
            notes = [*received.notes, *skew_notes(answer.date, now)]
            if len(request.body) > encoding.LIBEST_REQUEST_BYTES:
                notes.append(f"the request has {len(request.body)} bytes; {encoding.LIBEST_LIMIT}")
            done = dataclasses.replace(attempt, issued=received.ders)
            done = _noted(done, *notes)
            await setting.save(done.document())
            return self._issued(setting, done, received.ders), done
        failure = answers.failed(
            step,
            answer,
            now=now,
            credentials=setting.credentials,
            request_bytes=len(request.body),
            binding_asked=attempt.channel_binding,
        )
        asked = [note for note in attempt.notes if "(csrattrs)" in note]
        if failure.fault is Fault.REFUSED and asked:
            failure = dataclasses.replace(failure, detail="; ".join((failure.detail, *asked)))
        known = begun if answer.status in _AMBIGUOUS else attempt
        await setting.save(known.document())
        return failure, known

    async def _greet(self, client: CaClient, setting: _Setting) -> None:
        """
        Show the certificate once before anything depends on it.

        In TLS 1.3 a server refuses it after the handshake, some by an alert, some by breaking off; beside a
        request, that would leave open whether something was issued. Without it the server was heard just now.

        Raises:
            CaError: with an alert, or REFUSED where the server breaks off.

        """
        try:
            await client.send(answers.get(self._options, "cacerts"), deadline=setting.deadline)
        except CaError as error:
            if error.fault is not Fault.UNREACHABLE or self._clock.monotonic() >= setting.deadline:
                raise
            detail = f"the server breaks off where the certificate in use is shown: {error.detail}"
            raise CaError(Fault.REFUSED, detail, alert="CERTIFICATE_UNKNOWN") from error

    async def _wishes(self, client: CaClient, setting: _Setting, attempt: Attempt) -> Attempt:
        """
        What the server wants to see in a request: advice, so that a failure of this step only leaves a note.
        """
        request = answers.get(self._options, _CSRATTRS)
        try:
            answer = await answers.ask(client, request, setting.credentials, deadline=setting.deadline)
        except CaError as error:
            if error.alert is not None or error.untrusted:
                raise
            return _noted(attempt, f"csrattrs: {error.detail}")
        attempt = dataclasses.replace(attempt, wishes_known=True)
        if answer.status in {204, 404} or (answer.status == 200 and not answer.body.strip()):
            return attempt
        if answer.status != 200:
            said = first_line(answer)
            return _noted(attempt, f"csrattrs: HTTP {answer.status}" + (f": {said}" if said else ""))
        try:
            data, odd = encoding.decode(answer.body)
            asked = attributes.parse_csr_attributes(data)
        except MalformedBodyError as error:
            return _noted(attempt, f"csrattrs: {error}")
        notes = attributes.differences(asked, parse_request(setting.order.csr))
        if asked.channel_binding:
            notes = (
                *notes,
                "the CA lists challengePassword in csrattrs; the request goes without: it cannot be bound to TLS",
            )
        if odd:
            notes = (*notes, f"csrattrs: {odd}")
        return dataclasses.replace(_noted(attempt, *notes), channel_binding=asked.channel_binding)

    def _identity(self, setting: _Setting, operation: Operation) -> Held | None:
        """
        Who we are in TLS (RFC 7030 3.3.2).

        Without any other credentials the certificate in use authenticates a plain enrolment too.
        """
        order = setting.order
        if operation is Operation.REENROLL:
            return order.current
        if setting.credentials.present or order.current is None or order.revoked:
            return setting.credentials.identity
        try:
            leaf = parse_certificate(order.current.chain[0])
        except (MalformedCertificateError, IndexError):
            return None
        usable = client_fault(leaf) is None and leaf.not_before <= self._clock.now() <= leaf.not_after
        return order.current if usable else None

    def _alerted(self, setting: _Setting, operation: Operation, error: CaError) -> Failed:
        """
        The server ended TLS: mostly it does not like our certificate, or that there is none.
        """
        identity = self._identity(setting, operation)
        if identity is None:
            hint = "it may want a client certificate"
        elif identity is setting.credentials.identity:
            hint = "it does not accept the configured certificate"
        else:
            hint = "it does not accept the certificate that is to be renewed"
        return _explained(error, f"est: {operation.value}", hint)

    def _issued(self, setting: _Setting, attempt: Attempt, ders: tuple[bytes, ...]) -> Issued:
        """
        The answer with what completes it: EST gives the leaf alone, /cacerts the rest (RFC 7030 4.2.3).
        """
        order, domain = setting.order, setting.domain
        spki = order.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        leaf = next((one for one in ders if spki_of(one) == spki), None)
        notes = [*domain.notes, *attempt.notes, *unanswered_note(attempt.unanswered)]
        if leaf is None:
            notes.append("no certificate in the answer is for the key that was asked for")
        else:
            notes.append(outlook(leaf, reenroll=self._options.reenroll, others=setting.credentials.present))
        return Issued(
            certificates=ders,
            extra=tuple(one for one in domain.certificates if one not in ders),
            notes=tuple(dict.fromkeys(notes)),
        )

    async def revoke(self, held: Held, *, reason: str, deadline: float) -> Failed | None:
        """
        Not in EST.
        """
        del held, reason, deadline
        detail = "est: EST has no revocation: ask the CA's operator, or another interface of the CA"
        return Failed(fault=Fault.MISCONFIGURED, detail=detail)

    async def renewal_hint(self, held: Held, *, deadline: float) -> RenewalHint | None:
        """
        Not in EST.
        """
        del held, deadline
        return None

    async def trust_anchors(self, *, deadline: float) -> tuple[bytes, ...]:
        """
        The self-signed certificates of /cacerts, over a verified channel now or kept from one.
        """
        try:
            credentials = await threads.call(lambda: load(self._options, self._clock.now()))
            return (await self._trust.domain(identity=credentials.identity, deadline=deadline)).roots
        except CaError:
            return ()

    async def relation(self) -> Relation:
        """
        The CA's roots as they are known; EST has no accounts.
        """
        return Relation(where=self._options.base.rstrip("/"), roots=await self._trust.kept())

    async def check(self, *, deadline: float) -> tuple[Finding, ...]:
        """
        Look at credentials, /cacerts and /csrattrs.
        """
        return await look(self._options, self._trust, self._clock, deadline=deadline)

    async def aclose(self) -> None:
        """
        Nothing stays open between calls.
        """


def _noted(attempt: Attempt, *notes: str) -> Attempt:
    return dataclasses.replace(attempt, notes=tuple(dict.fromkeys((*attempt.notes, *notes))))


def _explained(error: CaError, step: str, hint: str) -> Failed:
    """
    The outcome of an error; where the server ended TLS because of a certificate, an operator has to act.
    """
    failure = error.failed(step)
    if error.alert not in answers.CERTIFICATE_ALERTS:
        return failure
    detail = f"{failure.detail}; {hint} (identity_chain_file, identity_key_file)"
    return dataclasses.replace(failure, fault=Fault.MISCONFIGURED, detail=detail)
