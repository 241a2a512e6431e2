"""
The SCEP enroller (RFC 8894): one order at a time from request to certificate.

Owns the order of steps; trust, messages and plans are the neighbours' business.
"""

from __future__ import annotations

import os
from contextlib import aclosing
from datetime import timedelta
from typing import assert_never

from cftpki_connectors.ca.certificates import spki_of
from cftpki_connectors.ca.certs_only import MalformedBodyError, read_certificates
from cftpki_connectors.ca.client import CaAnswer, CaClient, CaError, printable
from cftpki_connectors.ca.clocks import skew_notes
from cftpki_connectors.ca.identity_files import roots_in
from cftpki_connectors.ca.options import with_password
from cftpki_connectors.ca.order_state import unanswered_note
from cftpki_connectors.scep import exchange, writing
from cftpki_connectors.scep.capabilities import Manner, manner
from cftpki_connectors.scep.credentials import challenge_in
from cftpki_connectors.scep.envelope import opened
from cftpki_connectors.scep.inspection import look
from cftpki_connectors.scep.options import ScepOptions
from cftpki_connectors.scep.outgoing import content_of, signer_for
from cftpki_connectors.scep.plan import Plan, outlook, plan, refused
from cftpki_connectors.scep.reading import AlgorithmError, MessageError, Reply, read_reply
from cftpki_connectors.scep.state import Attempt, resume
from cftpki_connectors.scep.trust import Domain, Trust
from cftpki_connectors.scep.vocabulary import NONCE_BYTES, MessageType, PkiStatus
from cftpki_connectors.scep.writing import Outgoing, Signer
from cftpki_connectors.support import threads
from cftpki_connectors.support.secret_files import secret_text
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass, replace
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
from cftpki_ext.identity.store.private_keys import public_bytes
from cftpki_ext.x509.certificate import Certificate, MalformedCertificateError, parse_certificate

# Failures behind which a certificate may have been issued: a proxy's, or the server's own after the CA's work.
_AMBIGUOUS = frozenset({500, 502, 504})
_LOST = "the CA may have issued a certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """
    What one call of `advance` works with.
    """

    order: Order
    save: SaveState
    deadline: float
    client: CaClient
    challenge: str | None
    domain: Domain
    encrypter: Certificate
    manner: Manner
    hints: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """
    A message that went out: `before` is how far the order was if the CA did not act on it, `after` if it may have.
    """

    plan: Plan
    signer: Signer
    outgoing: Outgoing
    before: Attempt
    after: Attempt


class ScepEnroller:
    """
    Enrols with one SCEP server.

    A first request is signed by a certificate that we make ourselves, with the identity's key where that is RSA and
    else with one that is kept for nothing but that. A renewal is signed by the certificate that is renewed where that can
    work. A pending order is asked for with CertPoll. A request that was sent and never answered may have made a
    certificate that nobody has: it is sent again in the same transaction, which servers may know, and that is told.

    Not done: GetCert and GetCRL, envelopes under a password (RFC 8894 3.1), revocation, which SCEP does not have.
    """

    protocol = "scep"

    def __init__(self, options: ScepOptions, context: EnrollerContext) -> None:
        self.name = context.name
        self._options = options
        self._context = context
        self._clock = context.clock
        self._trust = Trust(options, context)

    async def advance(self, order: Order, state: OrderState, save: SaveState, *, deadline: float) -> Progress:
        """
        Ask for the certificate, or whether it has been decided upon.
        """
        attempt = resume(state, order.csr)
        try:
            challenge = await threads.call(lambda: challenge_in(self._options.challenge_file))
            async with aclosing(await self._client()) as client:
                domain = await self._trust.domain(client, deadline=deadline)
                encrypter = domain.authorities.encrypter
                if encrypter is None:
                    return Failed(fault=Fault.MISCONFIGURED, detail=f"scep: {domain.authorities.objection()}")
                how, hints = manner(
                    domain.capabilities, legacy=self._options.legacy, method=self._options.method
                )
                setting = _Setting(
                    order=order,
                    save=save,
                    deadline=deadline,
                    client=client,
                    challenge=challenge,
                    domain=domain,
                    encrypter=encrypter,
                    manner=how,
                    hints=hints,
                )
                outcome = (
                    self._issued(setting, attempt) if attempt.issued else await self._ask(setting, attempt)
                )
            if isinstance(outcome, Issued):
                self._trust.told()
        except CaError as error:
            return error.failed("scep")
        except InputError as error:
            return Failed(fault=Fault.MISCONFIGURED, detail=f"scep: {printable(str(error))}")
        return outcome

    async def _ask(self, setting: _Setting, attempt: Attempt) -> Progress:
        order = setting.order
        planned = plan(
            order,
            self._options.renewal,
            challenge=setting.challenge is not None,
            capabilities=setting.domain.capabilities,
            authorities=setting.domain.authorities,
            now=self._clock.now(),
        )
        attempt = _noted(attempt, *setting.domain.notes)
        if attempt.operation is MessageType.PKCS_REQ and planned.operation is not MessageType.PKCS_REQ:
            # What was asked once is asked again: the server knows the transaction by it.
            planned = Plan(operation=MessageType.PKCS_REQ, challenge=setting.challenge is not None)
        elif attempt.pending and _signed_by_current(attempt, order):
            # Somebody is deciding: that the certificate in force has come to its end meanwhile changes nothing.
            planned = Plan(operation=MessageType.RENEWAL_REQ, challenge=False)
        elif planned.reasons:
            attempt = _noted(attempt, f"asked with PKCSReq and not RenewalReq: {'; '.join(planned.reasons)}")
        outcome, attempt = await self._submit(setting, planned, attempt)
        if (
            planned.operation is MessageType.RENEWAL_REQ
            and isinstance(outcome, Failed)
            and outcome.fault is Fault.REFUSED
            and setting.challenge is not None
        ):
            note = f"asked with PKCSReq and its password instead: {outcome.detail}"
            again = Plan(operation=MessageType.PKCS_REQ, challenge=True)
            outcome, attempt = await self._submit(setting, again, _noted(attempt, note))
        return outcome

    async def _submit(self, setting: _Setting, planned: Plan, attempt: Attempt) -> tuple[Progress, Attempt]:
        """
        One message and its answer: a request, or a question about the one that is pending.
        """
        folder, now = self._context.state, self._clock.now()
        order = setting.order
        signer = await threads.call(lambda: signer_for(order, planned, attempt, folder=folder, now=now))
        if attempt.operation is not planned.operation or attempt.signer != signer.certificate:
            # Another transaction: the server would not know the old one by this certificate.
            fresh = attempt.round + (attempt.operation is not None)
            attempt = replace(
                attempt, round=fresh, operation=planned.operation, signer=signer.certificate, pending=False
            )
        if attempt.pending:
            planned = Plan(operation=MessageType.CERT_POLL, challenge=False)
        outgoing = Outgoing(
            type=planned.operation,
            transaction=attempt.transaction(setting.order.id),
            nonce=os.urandom(NONCE_BYTES),
        )
        authorities = setting.domain.authorities
        content = content_of(
            order, planned, setting.challenge, issuer=authorities.issuer or setting.encrypter
        )
        envelope = writing.enveloped(content, setting.encrypter.der, setting.manner.cipher)
        message = writing.signed(envelope, signer, outgoing, setting.manner.digest)
        # A question about a pending order issues nothing.
        asks = not attempt.pending
        begun = replace(attempt, unanswered=attempt.unanswered + asks)
        await setting.save(begun.document())
        request = exchange.message_request(self._options, message, post=setting.manner.post)
        try:
            answer = await setting.client.send(request, deadline=setting.deadline)
        except CaError as error:
            if not error.sent:
                await setting.save(attempt.document())
            raise
        sent = _Sent(plan=planned, signer=signer, outgoing=outgoing, before=attempt, after=begun)
        return await self._answered(setting, sent, answer)

    async def _answered(self, setting: _Setting, sent: _Sent, answer: CaAnswer) -> tuple[Progress, Attempt]:
        step, now = sent.plan.operation.text, self._clock.now()
        if answer.status != 200:
            kept = sent.after if answer.status in _AMBIGUOUS else sent.before
            await setting.save(kept.document())
            return exchange.refusal(step, answer, now), kept
        try:
            reply = read_reply(
                answer.body,
                lambda included: self._trust.signers(setting.domain, included),
                sent.outgoing,
                self._options.legacy,
            )
            match reply.status:
                case PkiStatus.PENDING:
                    waiting = replace(sent.before, pending=True)
                    await setting.save(waiting.document())
                    retry_at = now + timedelta(seconds=self._options.poll_s)
                    return Pending(retry_at=retry_at, detail=f"{step}: the CA has not decided yet"), waiting
                case PkiStatus.FAILURE:
                    return await self._refused(setting, sent, reply)
                case PkiStatus.SUCCESS:
                    ders, _ = read_certificates(opened(reply.content, sent.signer, self._options.legacy))
                case _ as never:
                    assert_never(never)
        except AlgorithmError as error:
            detail = f"{step}: {error}; {_LOST}"
            return Failed(fault=Fault.MISCONFIGURED, detail=detail), sent.after
        except (MessageError, MalformedBodyError) as error:
            detail = f"{step}: {printable(str(error))}; {_LOST}"
            return Failed(fault=Fault.UNREACHABLE, detail=detail), sent.after
        if not ders:
            detail = f"{step}: the answer holds no certificate; {_LOST}"
            return Failed(fault=Fault.UNREACHABLE, detail=detail), sent.after
        done = replace(sent.before, issued=tuple(dict.fromkeys(ders)), pending=False)
        done = _noted(done, *skew_notes(answer.date, now))
        await setting.save(done.document())
        return self._issued(setting, done), done

    async def _refused(self, setting: _Setting, sent: _Sent, reply: Reply) -> tuple[Failed, Attempt]:
        """
        The server has ended the transaction: what comes next is another one.
        """
        before = sent.before
        ended = replace(before, round=before.round + 1, operation=None, signer=b"", pending=False)
        await setting.save(ended.document())
        now = self._clock.now()
        failure = refused(reply, sent.plan, unanswered=before.unanswered, hints=setting.hints, now=now)
        return failure, ended

    def _issued(self, setting: _Setting, attempt: Attempt) -> Issued:
        """
        The answer with what completes it: SCEP gives the leaf, GetCACert the rest (RFC 8894 3.3.2.1).
        """
        order, domain = setting.order, setting.domain
        ders = attempt.issued
        spki = public_bytes(order.key)
        leaf = next((one for one in ders if spki_of(one) == spki), None)
        notes = [*domain.notes, *attempt.notes, *unanswered_note(attempt.unanswered)]
        if leaf is None:
            notes.append("no certificate in the answer is for the key that was asked for")
        else:
            given = setting.challenge is not None
            notes.append(outlook(leaf, order, self._options.renewal, challenge=given))
        completing = dict.fromkeys((*domain.authorities.certificates, *domain.came, *domain.believed))
        return Issued(
            certificates=ders,
            extra=tuple(one for one in completing if one not in ders and _is_ca(one)),
            notes=tuple(dict.fromkeys(notes)),
        )

    async def revoke(self, held: Held, *, reason: str, deadline: float) -> Failed | None:
        """
        Not in SCEP.
        """
        del held, reason, deadline
        detail = "scep: SCEP has no revocation: ask the CA's operator, or another interface of the CA"
        return Failed(fault=Fault.MISCONFIGURED, detail=detail)

    async def renewal_hint(self, held: Held, *, deadline: float) -> RenewalHint | None:
        """
        Not in SCEP.
        """
        del held, deadline
        return None

    async def trust_anchors(self, *, deadline: float) -> tuple[bytes, ...]:
        """
        The CAs that the configuration names and the server shows, or that are kept.
        """
        try:
            async with aclosing(await self._client()) as client:
                domain = await self._trust.domain(client, deadline=deadline)
        except (CaError, InputError):
            return ()
        return tuple(one.der for one in domain.authorities.anchors)

    async def relation(self) -> Relation:
        """
        The server, and the CAs that are believed by now.
        """
        kept = await self._trust.kept()
        return Relation(where=self._options.url, roots=tuple(one for one in kept if _is_ca(one)))

    async def check(self, *, deadline: float) -> tuple[Finding, ...]:
        """
        Read the password's file, and ask for what everybody may know.
        """
        try:
            client = await self._client()
        except (CaError, InputError) as error:
            return (Finding(what="credentials", detail=printable(str(error)), good=False),)
        async with aclosing(client):
            return await look(self._options, self._trust, client, deadline=deadline)

    async def aclose(self) -> None:
        """
        Nothing is kept open between calls.
        """

    async def _client(self) -> CaClient:
        """
        Make a client of this attempt: what was changed in the files counts from then on.

        Raises:
            CaError: tls_roots or the proxy cannot be used.
            InputError: the proxy's password cannot be read.

        """
        options = self._options
        roots = None
        if options.tls_roots is not None:
            path = options.tls_roots
            roots = await threads.call(lambda: roots_in(path, "tls_roots"))
        proxy, file = options.proxy, options.proxy_password_file
        if proxy is not None and file is not None:
            proxy = with_password(proxy, await threads.call(lambda: secret_text(file, "proxy_password_file")))
        return CaClient(clock=self._clock, roots=roots, proxy=proxy)


def _signed_by_current(attempt: Attempt, order: Order) -> bool:
    return (
        attempt.operation is MessageType.RENEWAL_REQ
        and order.current is not None
        and not order.revoked
        and order.current.chain[0] == attempt.signer
    )


def _noted(attempt: Attempt, *notes: str) -> Attempt:
    return replace(attempt, notes=tuple(dict.fromkeys((*attempt.notes, *notes))))


def _is_ca(one: bytes) -> bool:
    try:
        return parse_certificate(one).is_ca
    except MalformedCertificateError:
        return False
