"""
The enroller `acme`: `enroller_port.Enroller` for one account at one ACME CA (RFC 8555).

Owns what outlives a call: client, session, account, what is published.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta

from cryptography import x509

from cftpki_connectors.acme.account import Accounts
from cftpki_connectors.acme.ari import certificate_id, parse_renewal_info
from cftpki_connectors.acme.attempt import Attempt, Downloaded
from cftpki_connectors.acme.chains import preferred, to_der
from cftpki_connectors.acme.flow import OrderRecord, Phase, check_names, load_record
from cftpki_connectors.acme.inspection import look
from cftpki_connectors.acme.jose import base64url, signing_key
from cftpki_connectors.acme.options import AcmeOptions
from cftpki_connectors.acme.orders import OrderRequest, Orders
from cftpki_connectors.acme.problems import ProblemError
from cftpki_connectors.acme.publisher import LEASE_S, Publisher
from cftpki_connectors.acme.resources import decode_object, identifiers_of
from cftpki_connectors.acme.session import Session, Signer
from cftpki_connectors.acme.store import AccountStore, BusyError, Lock
from cftpki_connectors.ca.client import CaClient, CaError
from cftpki_connectors.ca.options import with_password
from cftpki_connectors.support.secret_files import secret_text
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
    Pending,
    Progress,
    Relation,
    RenewalHint,
    SaveState,
)
from cftpki_ext.support.files import MAX_PEM_BYTES
from cftpki_ext.support.guarded import read_guarded
from cftpki_ext.x509.reasons import REASON_CODES

# The order goes on: what is published for it stays where it is.
_GOES_ON = frozenset({Fault.UNREACHABLE, Fault.RATE_LIMITED})
# The account may not revoke it, or is none.
_NOT_OURS = frozenset({"unauthorized", "malformed", "accountDoesNotExist"})
# Nobody takes the order up again.
_OVER = frozenset({Fault.REFUSED, Fault.ORDER_LOST})


class AcmeEnroller:
    """
    One account at one ACME CA.

    By default the system's trust store vouches for the CA. Which certificate comes is not judged here: neither
    names nor key nor chain.

    Args:
        options: the table `[enroller.NAME]`.
        context: name, state folder, clock.

    """

    protocol = "acme"

    def __init__(self, options: AcmeOptions, context: EnrollerContext) -> None:
        self.name = context.name
        self._options = options
        self._clock = context.clock
        self._store = AccountStore(context.state, options.directory, context.clock)
        self._publisher = Publisher(options, context.clock)
        self._client: CaClient | None = None
        self._session: Session | None = None
        self._access: tuple[tuple[bytes, ...] | None, str | None] | None = None
        self._replaced: list[CaClient] = []

    async def advance(self, order: Order, state: OrderState, save: SaveState, *, deadline: float) -> Progress:
        """
        Move an order on as far as it goes.

        What was published for it stays for a while when the order goes on, and goes when it is over.
        """
        attempt: Attempt | None = None
        lease_s = LEASE_S
        attended = await self._publisher.hold(order.id)
        try:
            if not state and not self._publisher.busy_besides(order.id):
                await self._change_old_key(deadline)
            async with self._store.locked(Lock.ATTEMPTS, deadline=deadline, shared=True):
                attempt = await self._begin(order, state, save, deadline, attended=attended)
                done = await attempt.run()
            if isinstance(done, Pending):
                lease_s += (done.retry_at - self._clock.now()).total_seconds()
                return done
            await self._release(order, deadline)
            return await self._issued(done, deadline)
        except CaError as error:
            if attempt is not None and error.fault not in _GOES_ON:
                await attempt.withdraw()
            if error.fault in _OVER:
                await self._release(order, deadline)
            return await self._failed(error)
        finally:
            left = () if attempt is None else attempt.record.presented
            self._publisher.release(order.id, left, lease_s=lease_s)

    async def revoke(self, held: Held, *, reason: str, deadline: float) -> Failed | None:
        """
        Revoke (RFC 8555 7.6), signed by the account, and where that may not by the certificate's own key.

        Public CAs take the reason of the account alone: by the certificate's key everything is a compromised key. A
        certificate that is revoked already counts as done.
        """
        code = REASON_CODES.get(reason)
        if code is None:
            return Failed(fault=Fault.MISCONFIGURED, detail=f"{reason!r} is no reason of RFC 5280 5.3.1")
        try:
            session = self._connected()
            directory = await session.directory(deadline=deadline)
            if directory.revoke is None:
                return Failed(
                    fault=Fault.MISCONFIGURED, detail="revoke: the CA's directory names no revokeCert"
                )
            payload = {"certificate": base64url(held.chain[0]), "reason": code}
            if not await self._revoked_by_account(session, directory.revoke, payload, deadline):
                signer = Signer(signing_key(held.key))
                await session.post(directory.revoke, payload, signer=signer, deadline=deadline)
        except ProblemError as error:
            if error.problem.kind == "alreadyRevoked":
                return None
            return error.failed("revoke")
        except CaError as error:
            return error.failed("revoke")
        except InputError as error:
            return Failed(fault=Fault.MISCONFIGURED, detail=f"revoke: {error}")
        return None

    async def _revoked_by_account(
        self, session: Session, url: str, payload: dict[str, object], deadline: float
    ) -> bool:
        """
        Revoke as the account, where there is one; false where the CA does not let it.
        """
        stored = self._store.load()
        if stored.key is None or stored.url is None:
            return False
        try:
            account = await self._accounts(session).establish(deadline=deadline)
            await session.post(url, payload, signer=account.signer, deadline=deadline)
        except CaError as error:
            # Any other word is about the request: by the certificate's key the same would lose its reason.
            about_us = not isinstance(error, ProblemError) or error.problem.kind in _NOT_OURS
            if not about_us or error.fault in _GOES_ON:
                raise
            return False
        return True

    async def renewal_hint(self, held: Held, *, deadline: float) -> RenewalHint | None:
        """
        Ask for renewal information (RFC 9773). Never fatal: a proxy may block it, a CA may answer nonsense.
        """
        try:
            session = self._connected()
            directory = await session.directory(deadline=deadline)
            if directory.renewal_info is None:
                return None
            identifier = certificate_id(x509.load_der_x509_certificate(held.chain[0]))
            answer = await session.get(
                f"{directory.renewal_info.rstrip('/')}/{identifier}", deadline=deadline
            )
            found = decode_object(answer.body, "renewal information")
        except (CaError, InputError, ValueError):
            return None
        now = self._clock.now()
        return parse_renewal_info(found, retry_at=answer.retry_at(now), now=now)

    async def trust_anchors(self, *, deadline: float) -> tuple[bytes, ...]:
        """
        ACME does not tell.
        """
        del deadline
        return ()

    async def roll_over_account_key(self, *, deadline: float) -> Failed | None:
        """
        Change the account's key now (RFC 8555 7.3.5); `None` when it was done.
        """
        try:
            if await self._accounts(self._connected()).roll_over(deadline=deadline):
                return None
        except CaError as error:
            return error.failed("account key")
        return Failed(fault=Fault.REFUSED, detail="account key: the CA cannot change keys")

    async def relation(self) -> Relation:
        """
        The account on the disk, and the roots that the CA's TLS certificate must lead to.
        """
        stored = self._store.load()
        return Relation(
            where=self._options.directory,
            account=stored.url,
            key_since=stored.key_since,
            key_change_open=stored.pending is not None,
            roots=self._roots() or (),
        )

    async def check(self, *, deadline: float) -> tuple[Finding, ...]:
        """
        Look at directory and account. Orders nothing and makes no account.
        """
        try:
            stored, session = self._store.load(), self._connected()
        except CaError as error:
            return (Finding(what="configuration", detail=error.detail, good=False),)
        return await look(self._options, session, self._accounts(session), stored, deadline=deadline)

    async def aclose(self) -> None:
        """
        Release connections and listeners.
        """
        await self._publisher.aclose()
        while self._replaced:
            await self._replaced.pop().aclose()
        if self._client is not None:
            await self._client.aclose()
            self._client = self._session = None

    async def _begin(
        self, order: Order, state: OrderState, save: SaveState, deadline: float, *, attended: bool
    ) -> Attempt:
        """
        Account and record: what there is of the order already, or where a new one begins.
        """
        try:
            record = load_record(state)
        except InputError as error:
            raise CaError(Fault.ORDER_LOST, str(error)) from error
        if record is not None and record.directory != self._options.directory:
            raise CaError(Fault.ORDER_LOST, f"the order is at another CA, {record.directory}")
        check_names(order.names)
        session = self._connected()
        account = await self._accounts(session).establish(deadline=deadline)
        if record is not None and record.account != account.url:
            raise CaError(Fault.ORDER_LOST, "the order belongs to another account")
        fresh = record is None
        if record is None:
            record = OrderRecord(directory=self._options.directory, account=account.url, phase=Phase.ORDERED)
        wanted = await self._order_request(
            order, session, fresh=fresh or record.order is None, deadline=deadline
        )
        return Attempt(
            order=order,
            wanted=wanted,
            account=account,
            orders=Orders(session, account, deadline=deadline),
            store=self._store,
            publisher=self._publisher,
            configured=self._options.configured,
            clock=self._clock,
            deadline=deadline,
            save=save,
            record=record,
            attended=attended,
        )

    async def _change_old_key(self, deadline: float) -> None:
        """
        Change the account's key where it is old and nobody needs it: challenges under way depend on the key.
        """
        accounts = self._accounts(self._connected())
        if accounts.key_is_old():
            with contextlib.suppress(BusyError):
                await accounts.roll_over(deadline=deadline, wait=False)

    async def _release(self, order: Order, deadline: float) -> None:
        """
        The order is over. That this cannot be written down does no harm: it lapses.
        """
        with contextlib.suppress(CaError):
            async with self._store.locked(Lock.ORDERS, deadline=deadline):
                if order.identity in self._store.claims():
                    await self._store.claim(order.identity, None)

    async def _order_request(
        self, order: Order, session: Session, *, fresh: bool, deadline: float
    ) -> OrderRequest:
        directory = await session.directory(deadline=deadline)
        replaces = None
        if fresh and order.current is not None and directory.renewal_info is not None:
            try:
                identifier = certificate_id(x509.load_der_x509_certificate(order.current.chain[0]))
            except (InputError, ValueError):
                identifier = None
            # RFC 9773 5: only the account that ordered a certificate may name it.
            replaces = identifier if identifier in self._store.issued() else None
        life = None if order.lifetime_s is None else timedelta(seconds=order.lifetime_s)
        return OrderRequest(
            identifiers=identifiers_of(order.names),
            profile=self._options.profile,
            replaces=replaces,
            not_after=None if life is None else self._clock.now() + life,
        )

    async def _issued(self, done: Downloaded, deadline: float) -> Issued:
        """
        The chain that is preferred, the others as alternates.
        """
        notes = list(done.notes)
        chosen = 0
        try:
            root = self._preferred_root()
            issuer = self._options.preferred_issuer
            found = preferred(done.chains, root=root, issuer=issuer)
            if found is None and (root is not None or issuer is not None):
                notes.append("no chain leads to the preferred root: the CA's own is taken")
            chosen = found or 0
        except InputError as error:
            notes.append(f"the CA's own chain is taken: {error}")
        try:
            async with self._store.locked(Lock.ORDERS, deadline=deadline):
                await self._store.add_issued(certificate_id(done.chains[chosen][0]))
        except (CaError, InputError) as error:
            notes.append(f"the next renewal will not name what it replaces: {error}")
        alternates = [to_der(chain) for index, chain in enumerate(done.chains) if index != chosen]
        return Issued(
            certificates=to_der(done.chains[chosen]), alternates=tuple(alternates), notes=tuple(notes)
        )

    def _preferred_root(self) -> x509.Certificate | None:
        path = self._options.preferred_root_file
        if path is None:
            return None
        data = read_guarded(path, cap=MAX_PEM_BYTES, what="preferred_root_file").data
        try:
            return x509.load_pem_x509_certificate(data)
        except ValueError as error:
            msg = f"preferred_root_file: {path} holds no certificate"
            raise InputError(msg) from error

    async def _failed(self, error: CaError) -> Failed:
        if isinstance(error, ProblemError) and error.problem.kind == "accountDoesNotExist":
            if not self._options.recreate_account:
                detail = f"{error.detail}; recreate_account = true makes a new one"
                return Failed(fault=Fault.MISCONFIGURED, detail=detail)
            try:
                await self._store.forget_account()
            except CaError as disk:
                return disk.failed("account")
            return Failed(fault=Fault.ORDER_LOST, detail=f"{error.detail}; a new one will be made")
        return Failed(fault=error.fault, detail=error.detail, retry_at=error.retry_at)

    def _accounts(self, session: Session) -> Accounts:
        return Accounts(self._options, self._store, session)

    def _connected(self) -> Session:
        """
        The session; another one where the files of roots or of the proxy's password have changed.
        """
        try:
            access = self._roots(), self._proxy()
        except InputError as error:
            raise CaError(Fault.MISCONFIGURED, str(error)) from error
        if self._session is None or (self._client is not None and self._access != access):
            if self._client is not None:
                # Orders under way end on the old connections.
                self._replaced.append(self._client)
            roots, proxy = access
            self._client = CaClient(clock=self._clock, roots=roots, proxy=proxy)
            self._session = Session(self._client, self._options.directory, self._clock)
            self._access = access
        return self._session

    def _roots(self) -> tuple[bytes, ...] | None:
        path = self._options.root_file
        if path is None:
            return None
        data = read_guarded(path, cap=MAX_PEM_BYTES, what="root_file").data
        try:
            return to_der(tuple(x509.load_pem_x509_certificates(data)))
        except ValueError as error:
            msg = f"root_file: {path} holds no certificate"
            raise InputError(msg) from error

    def _proxy(self) -> str | None:
        proxy, file = self._options.proxy, self._options.proxy_password_file
        if proxy is None or file is None:
            return proxy
        return with_password(proxy, secret_text(file, "proxy_password_file"))
