"""
The enroller for Vault and OpenBao: who we are, ask, write down, tell.

Owns the order of the steps and what is told to the operator.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from cftpki_connectors.ca.certificates import is_root
from cftpki_connectors.ca.client import CaClient, CaError
from cftpki_connectors.ca.clocks import skew_notes
from cftpki_connectors.ca.connections import Connections, Surroundings, with_password_in
from cftpki_connectors.ca.identity_files import client_identity_in, roots_in
from cftpki_connectors.ca.unanswered import Journal
from cftpki_connectors.ca.values import unknown_reason
from cftpki_connectors.support import threads
from cftpki_connectors.vault.answers import Granted
from cftpki_connectors.vault.client import ErrorAnswerError, VaultClient
from cftpki_connectors.vault.inspection import look
from cftpki_connectors.vault.options import Keys, VaultOptions
from cftpki_connectors.vault.request import body_of, explained, path_of
from cftpki_connectors.vault.secrets import Secrets
from cftpki_connectors.vault.session import Session
from cftpki_ext.core.errors import InputError
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
from cftpki_ext.x509.certificate import MalformedCertificateError, parse_certificate
from cftpki_ext.x509.reasons import REASON_CODES

T = TypeVar("T")

_FORBIDDEN = 403


class VaultEnroller:
    """
    One role of one PKI mount.

    Args:
        options: the table `[enroller.NAME]`.
        context: name, folder and clock.

    """

    protocol = "vault"

    def __init__(self, options: VaultOptions, context: EnrollerContext) -> None:
        self.name = context.name
        self._options = options
        self._clock = context.clock
        self._session = Session(options, Secrets(context), context.clock)
        self._connections = Connections(context.clock)

    async def advance(self, order: Order, state: OrderState, save: SaveState, *, deadline: float) -> Progress:
        """
        Get a certificate in one go: the server issues while one waits.
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
        Revoke by the certificate itself, which need not be stored there. The server keeps no reason.
        """
        if reason not in REASON_CODES:
            return unknown_reason(reason, REASON_CODES)
        mount = self._options.mount
        try:
            await self._authorised(
                lambda client, token: client.revoke(mount, held.chain[0], token, deadline=deadline),
                f"update on {mount}/revoke",
                deadline,
            )
        except CaError as error:
            if "already revoked" in error.detail:
                return None
            return error.failed("revoke")
        return None

    async def renewal_hint(self, held: Held, *, deadline: float) -> RenewalHint | None:  # noqa: ARG002  # the port's signature
        """
        `None`: the server has no opinion. A token that was given to us is kept alive meanwhile.
        """
        if self._options.token is not None:
            with contextlib.suppress(CaError):
                await self._session.keep_alive(await self._auth(deadline), deadline=deadline)
        return None

    async def trust_anchors(self, *, deadline: float) -> tuple[bytes, ...]:
        """
        The roots of all issuers of the mount, so that a new one is known before it signs; empty where none is heard.
        """
        try:
            return await self._roots(deadline)
        except CaError:
            return ()

    async def relation(self) -> Relation:
        """
        Where we ask; nothing is kept of the server.
        """
        namespace = "" if self._options.namespace is None else f"{self._options.namespace}/"
        return Relation(where=f"{self._options.url}/v1/{namespace}{path_of(self._options)}")

    async def check(self, *, deadline: float) -> tuple[Finding, ...]:
        """
        Health, login, role and issuers; nothing is signed.
        """
        return await look(
            self._options,
            lambda: self._pki(deadline),
            lambda ask: self._authorised(ask, "read on the role", deadline),
            clock=self._clock,
            deadline=deadline,
        )

    async def aclose(self) -> None:
        """
        Give the token back and close connections.
        """
        http = self._connections.current
        if http is not None:
            await self._session.give_back(self._speaker(http, self._auth_namespace))
        await self._connections.aclose()

    async def _issue(self, order: Order, journal: Journal, save: SaveState, deadline: float) -> Issued:
        chain = journal.chain()
        notes = list(journal.notes)
        key = None
        if not chain:
            granted = await self._ask(order, journal, save, deadline)
            chain, key = granted.chain, granted.key
            notes = [*granted.warnings, *skew_notes(granted.date, self._clock.now())]
            if key is None:
                # Before anything else is asked: a kill from here on must find the certificate. A key that the server made
                # is written with the certificate and nowhere else.
                journal.keep(chain, notes)
                await save(journal.state())
        notes += journal.orphans()
        notes += _rotation(order, chain)
        roots = await self.trust_anchors(deadline=deadline)
        return Issued(certificates=chain, extra=roots, notes=tuple(notes), key=key)

    async def _ask(self, order: Order, journal: Journal, save: SaveState, deadline: float) -> Granted:
        options = self._options
        path, body = path_of(options), body_of(order, options.keys)
        what = "sign" if options.keys is Keys.OURS else "issue"

        async def ask(client: VaultClient, token: str) -> Granted:
            journal.begin(what, token=None, now=self._clock.now())
            await save(journal.state())
            try:
                granted = await client.sign(path, body, token, deadline=deadline)
            except ErrorAnswerError as error:
                if not error.sent:
                    journal.settle()
                raise
            return granted

        # Logging in comes first, so that what is not sure is the certificate's request alone.
        try:
            granted = await self._authorised(ask, f"update on {path}", deadline)
        except ErrorAnswerError as error:
            fault = Fault.MISCONFIGURED if "unknown role" in error.detail else error.fault
            raise CaError(fault, explained(error.detail), sent=error.sent, retry_at=error.retry_at) from error
        if options.keys is Keys.SERVER and granted.key is None:
            msg = "the server sent no key with the certificate that it made"
            raise CaError(Fault.MISCONFIGURED, msg, sent=True)
        if options.keys is Keys.OURS and granted.key is not None:
            msg = "the server sent a key, which was not asked for"
            raise CaError(Fault.MISCONFIGURED, msg, sent=True)
        return granted

    async def _authorised(
        self, ask: Callable[[VaultClient, str], Awaitable[T]], wanted: str, deadline: float
    ) -> T:
        """
        Ask with a token; once more with a new one where the server does not know it any more.

        A 403 is the answer to both a token that has ended and a policy that forbids: a second one is the policy's.
        """
        client = await self._pki(deadline)
        token = await self._session.token(await self._auth(deadline), deadline=deadline)
        try:
            return await ask(client, token)
        except ErrorAnswerError as error:
            if error.status != _FORBIDDEN:
                raise
            self._session.forget()
        token = await self._session.token(await self._auth(deadline), deadline=deadline)
        try:
            return await ask(client, token)
        except ErrorAnswerError as error:
            if error.status != _FORBIDDEN:
                raise
            detail = f"{error.detail}: no policy of the token allows {wanted}"
            raise CaError(Fault.MISCONFIGURED, detail) from error

    async def _roots(self, deadline: float) -> tuple[bytes, ...]:
        client, mount = await self._pki(deadline), self._options.mount
        found: list[bytes] = []
        for reference in await client.issuers(mount, deadline=deadline):
            with contextlib.suppress(CaError):  # one that cannot be read hides no other
                found += await client.issuer_chain(mount, reference, deadline=deadline)
        return tuple(der for der in dict.fromkeys(found) if is_root(der))

    @property
    def _auth_namespace(self) -> str | None:
        return self._options.auth_namespace or self._options.namespace

    async def _pki(self, deadline: float) -> VaultClient:
        return self._speaker(await self._http(deadline), self._options.namespace)

    async def _auth(self, deadline: float) -> VaultClient:
        return self._speaker(await self._http(deadline), self._auth_namespace)

    def _speaker(self, http: CaClient, namespace: str | None) -> VaultClient:
        return VaultClient(self._options.url, http, namespace=namespace, clock=self._clock)

    async def _http(self, deadline: float) -> CaClient:  # noqa: ARG002  # reading files is bounded by the whole attempt
        """
        Connections by the roots, the proxy and our own certificate as their files are now.
        """
        before = self._connections.current
        http = self._connections.by(await threads.call(lambda: self._surroundings(self._clock.now())))
        if before is not None and http is not before:
            self._session.forget()  # a token may be bound to the certificate that it was had by
        return http

    def _surroundings(self, now: datetime) -> Surroundings:
        options = self._options
        roots = None if options.root_file is None else roots_in(options.root_file, "root_file")
        identity = None
        try:
            proxy = with_password_in(options.proxy, options.proxy_password_file)
            if options.certificate is not None:
                own = options.certificate
                identity = client_identity_in(
                    own.chain_file, own.key_file, own.password_file, prefix="certificate.", now=now
                )
        except InputError as error:
            raise CaError(Fault.MISCONFIGURED, str(error)) from error
        return Surroundings(roots=roots, identity=identity, proxy=proxy)


def _rotation(order: Order, chain: tuple[bytes, ...]) -> tuple[str, ...]:
    """
    Whether another issuer signs than signed the certificate in use.
    """
    if order.current is None:
        return ()
    try:
        before, now = parse_certificate(order.current.chain[0]), parse_certificate(chain[0])
    except MalformedCertificateError:
        return ()
    if (before.issuer.text, before.authority_key_id) == (now.issuer.text, now.authority_key_id):
        return ()
    return (f"another issuer signs now: {now.issuer.text}, until now {before.issuer.text}",)
