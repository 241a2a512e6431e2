"""
The enroller for step-ca: plan, ask, write down, tell.

Owns the order of the steps and what is told to the operator.
"""

from __future__ import annotations

import asyncio
import hashlib

from cryptography import x509

from cftpki_connectors.ca.client import CaClient, CaError
from cftpki_connectors.ca.clocks import skew_notes
from cftpki_connectors.ca.options import with_password
from cftpki_connectors.ca.unanswered import Journal
from cftpki_connectors.ca.values import unknown_reason
from cftpki_connectors.stepca import credentials as credentials_of
from cftpki_connectors.stepca import planner
from cftpki_connectors.stepca.client import ErrorAnswerError, Granted, StepCaClient
from cftpki_connectors.stepca.credentials import Credentials
from cftpki_connectors.stepca.findings import explained
from cftpki_connectors.stepca.inspection import look
from cftpki_connectors.stepca.options import StepCaOptions
from cftpki_connectors.stepca.planner import Way
from cftpki_connectors.stepca.tokens import make_token, renewal_signer
from cftpki_connectors.stepca.trust import Trust
from cftpki_connectors.support import threads
from cftpki_ext.identity.enroller_port import (
    EnrollerContext,
    Failed,
    Fault,
    Finding,
    Held,
    Issued,
    Order,
    OrderState,
    Progress,
    Relation,
    RenewalHint,
    SaveState,
)
from cftpki_ext.x509.reasons import REASON_CODES, REMOVE_FROM_CRL

# removeFromCRL is no reason to revoke for.
REASONS = {name: code for name, code in REASON_CODES.items() if name != REMOVE_FROM_CRL}
# A handshake by TLS 1.3 may lose the CA's alert to a reset; asking again usually finds it.
_GREETINGS = 3
# A CA that certainly did not renew (disabled, revoked, policy, not implemented) may still sign. UNREACHABLE is not
# among them: the answer may be what was lost.
_SIGNS_INSTEAD = frozenset({Fault.REFUSED, Fault.MISCONFIGURED, Fault.ORDER_LOST})
_NOT_TAKEN = (
    "the CA does not take the certificate for TLS ({how}): "
    "it has no clientAuth, has expired, or is not from this CA"
)


class StepCaEnroller:
    """
    One provisioner of one step-ca.

    Args:
        options: the table `[enroller.NAME]`.
        context: name, folder and clock.

    """

    protocol = "stepca"

    def __init__(self, options: StepCaOptions, context: EnrollerContext) -> None:
        self.name = context.name
        self._options = options
        self._clock = context.clock
        self._context = context
        self._trust: Trust | None = None
        # By the roots that they trust and the proxy, with its password, that they go through.
        self._clients: dict[tuple[tuple[bytes, ...], str | None], CaClient] = {}

    async def advance(self, order: Order, state: OrderState, save: SaveState, *, deadline: float) -> Progress:
        """
        Get a certificate in one go: step-ca issues while one waits.
        """
        journal = Journal.of(state)
        try:
            return await self._issue(order, journal, save, deadline)
        except CaError as error:
            failed = journal.fail(error)
            if journal.requests:  # nothing was asked yet: there is nothing to write down
                await save(journal.state())
            return failed

    async def revoke(self, held: Held, *, reason: str, deadline: float) -> Failed | None:
        """
        Revoke by a token of the provisioner, or where that is refused by the certificate itself.
        """
        code = REASONS.get(reason)
        if code is None:
            return unknown_reason(reason, REASONS)
        try:
            await self._revoke(held, code, reason, deadline)
        except CaError as error:
            if isinstance(error, ErrorAnswerError) and "already revoked" in error.detail:
                return None
            return error.failed("revoke")
        return None

    async def renewal_hint(self, held: Held, *, deadline: float) -> RenewalHint | None:  # noqa: ARG002  # the port's signature
        """
        `None`: step-ca has no opinion.
        """
        return None

    async def trust_anchors(self, *, deadline: float) -> tuple[bytes, ...]:
        """
        The CA's roots, with those that we keep for a change; what is kept alone where the CA is not heard.
        """
        try:
            roots = await self._roots(deadline)
        except CaError:
            return ()
        try:
            client = await self._client(deadline)
            await (await self._known()).add(await client.roots(deadline=deadline))
        except CaError:
            return roots
        return await self._roots(deadline)

    async def relation(self) -> Relation:
        """
        The roots that are at hand; a step-ca has no accounts.
        """
        return Relation(where=self._options.url, roots=await (await self._known()).kept())

    async def check(self, *, deadline: float) -> tuple[Finding, ...]:
        """
        Look at the CA and its provisioner; roots that it lists are kept.
        """
        found = await look(
            self._options,
            lambda: self._client(deadline),
            lambda client: self._credentials(client, deadline),
            clock=self._clock,
            deadline=deadline,
        )
        await self.trust_anchors(deadline=deadline)
        return found

    async def aclose(self) -> None:
        """
        Close connections.
        """
        while self._clients:
            await self._clients.popitem()[1].aclose()

    async def _issue(self, order: Order, journal: Journal, save: SaveState, deadline: float) -> Issued:
        chain = journal.chain()
        notes = list(journal.notes)
        if not chain:
            granted, notes = await self._ask(order, journal, save, deadline)
            chain = granted.chain
            notes += skew_notes(granted.date, self._clock.now())
            # Before anything else is asked: a kill from here on must find the certificate.
            journal.keep(chain, notes)
            await save(journal.state())
        notes += journal.orphans()
        notes += await self._rotation_notes(deadline)
        roots = await self._roots(deadline)
        journal.renewal = planner.outlook(
            chain, roots=roots, renewal=self._options.renewal, now=self._clock.now()
        )
        await save(journal.state())
        notes.append(journal.renewal)
        return Issued(certificates=chain, extra=roots, notes=tuple(notes))

    async def _ask(
        self, order: Order, journal: Journal, save: SaveState, deadline: float
    ) -> tuple[Granted, list[str]]:
        roots = await self._roots(deadline)
        planned = planner.plan(order, roots=roots, renewal=self._options.renewal, now=self._clock.now())
        notes = [f"asked by {planned.way.value}: {planned.why}"]
        granted: Granted | None = None
        if planned.way is not Way.SIGN and order.current is not None:
            try:
                granted = await self._renew(
                    planned.way, order, order.current, journal=journal, save=save, deadline=deadline
                )
            except CaError as error:
                if error.fault not in _SIGNS_INSTEAD or error.sent:
                    raise
                journal.settle()
                notes.append(f"{planned.way.value} was refused ({error.detail}), asked by sign instead")
        if granted is None:
            granted = await self._sign(order, journal, save, deadline)
        return granted, notes

    async def _sign(self, order: Order, journal: Journal, save: SaveState, deadline: float) -> Granted:
        client = await self._client(deadline)
        roots = await self._roots(deadline)
        now = self._clock.now()
        credentials = await self._credentials(client, deadline)
        token = make_token(
            credentials.signer,
            audience=self._audience("sign"),
            subject=planner.subject(order),
            names=planner.alternatives(order),
            now=now,
            csr=order.csr,
            root=roots[0],
        )
        journal.begin(Way.SIGN.value, token=token.id, now=now)
        await save(journal.state())
        try:
            return await client.sign(order.csr, token.text, lifetime_s=order.lifetime_s, deadline=deadline)
        except ErrorAnswerError as error:
            raise explained(
                error, order, credentials, options=self._options, now=self._clock.now()
            ) from error

    async def _renew(
        self,
        way: Way,
        order: Order,
        current: Held,
        *,
        journal: Journal,
        save: SaveState,
        deadline: float,
    ) -> Granted:
        now = self._clock.now()
        if way is Way.RENEW_BY_TOKEN:
            leaf = x509.load_der_x509_certificate(current.chain[0])
            token = make_token(
                renewal_signer(current.key, chain=current.chain),
                audience=self._audience("renew"),
                subject=planner.common_name(leaf.subject),
                now=now,
            )
            client = await self._client(deadline)
            journal.begin(way.value, token=token.id, now=now)
            await save(journal.state())
            return await client.renew(token=token.text, deadline=deadline)
        http = await self._open(current, deadline)
        try:
            client = StepCaClient(self._options.url, http, self._clock)
            await self._greet(client, deadline)
            journal.begin(way.value, token=None, now=now)
            await save(journal.state())
            if way is Way.REKEY:
                return await client.rekey(order.csr, deadline=deadline)
            return await client.renew(deadline=deadline)
        finally:
            await http.aclose()

    async def _revoke(self, held: Held, code: int, reason: str, deadline: float) -> None:
        leaf = x509.load_der_x509_certificate(held.chain[0])
        client = await self._client(deadline)
        now = self._clock.now()
        try:
            credentials = await self._credentials(client, deadline)
            token = make_token(
                credentials.signer,
                audience=self._audience("revoke"),
                subject=str(leaf.serial_number),
                now=now,
            )
            await client.revoke(
                leaf.serial_number, code=code, reason=reason, token=token.text, deadline=deadline
            )
        except CaError as error:
            by_itself = planner.has_client_auth(leaf) and error.fault in _SIGNS_INSTEAD
            if not by_itself or "already revoked" in error.detail:
                raise
        else:
            return
        http = await self._open(held, deadline)
        try:
            itself = StepCaClient(self._options.url, http, self._clock)
            await self._greet(itself, deadline)
            await itself.revoke(leaf.serial_number, code=code, reason=reason, token=None, deadline=deadline)
        finally:
            await http.aclose()

    async def _credentials(self, client: StepCaClient, deadline: float) -> Credentials:
        """
        The credentials, or no later than the deadline the word that they cannot be had.
        """
        now, left_s = self._clock.now(), deadline - self._clock.monotonic()
        try:
            async with asyncio.timeout(left_s):
                return await credentials_of.load(self._options, client, now=now, deadline=deadline)
        except TimeoutError as error:
            detail = f"the provisioner's key could not be read within {left_s:.1f} s"
            raise CaError(Fault.UNREACHABLE, detail) from error

    async def _greet(self, client: StepCaClient, deadline: float) -> None:
        """
        See whether the CA takes our certificate before anything is asked, so that a refusal leaves no doubt.

        In TLS 1.3 the alert comes after our side is done with the handshake, and may be lost to a reset.
        """
        for _ in range(_GREETINGS):
            try:
                await client.health(deadline=deadline)
            except CaError as error:
                if error.alert is not None:
                    how = f"alert {error.alert.lower()}"
                    raise CaError(Fault.REFUSED, _NOT_TAKEN.format(how=how)) from error
                failure = error
                if not error.sent:
                    break
            else:
                return
        if failure.sent and await self._hears_strangers(deadline):
            how = "it ends the connection"
            raise CaError(Fault.REFUSED, _NOT_TAKEN.format(how=how)) from failure
        raise CaError(failure.fault, failure.detail, retry_at=failure.retry_at) from failure

    async def _hears_strangers(self, deadline: float) -> bool:
        try:
            await (await self._client(deadline)).health(deadline=deadline)
        except CaError:
            return False
        return True

    async def _rotation_notes(self, deadline: float) -> list[str]:
        """
        Whether the CA is changing its roots. What is asked besides must not cost the certificate.
        """
        try:
            client = await self._client(deadline)
            new = await (await self._known()).add(await client.roots(deadline=deadline))
        except CaError as error:
            return [f"the CA's roots could not be looked at: {error.detail}"]
        return [
            f"the CA has a new root, sha-256 {hashlib.sha256(der).hexdigest()}; the old are kept"
            for der in new
        ]

    def _audience(self, what: str) -> str:
        return f"{self._options.audience or self._options.url}/1.0/{what}"

    async def _client(self, deadline: float) -> StepCaClient:
        """
        One without a certificate of ours. Orders under way keep theirs when the roots change.
        """
        roots, proxy = await self._roots(deadline), await self._proxy_url()
        http = self._clients.get((roots, proxy))
        if http is None:
            http = CaClient(clock=self._clock, roots=roots, proxy=proxy)
            self._clients[roots, proxy] = http
        return StepCaClient(self._options.url, http, self._clock)

    async def _open(self, held: Held, deadline: float) -> CaClient:
        """
        Connections that show a certificate: for one request, never shared.
        """
        roots = await self._roots(deadline)
        return CaClient(clock=self._clock, roots=roots, identity=held, proxy=await self._proxy_url())

    async def _roots(self, deadline: float) -> tuple[bytes, ...]:
        return await (await self._known()).roots(deadline=deadline)

    async def _known(self) -> Trust:
        proxy = await self._proxy_url()
        if self._trust is None:
            self._trust = Trust(self._options, self._context, proxy=proxy)
        self._trust.proxy = proxy
        return self._trust

    async def _proxy_url(self) -> str | None:
        proxy, file = self._options.proxy, self._options.proxy_password_file
        if proxy is None or file is None:
            return proxy
        # Read for each use: a password that was changed counts from then on.
        return with_password(proxy, await threads.call(credentials_of.secret(file, "proxy_password_file")))
