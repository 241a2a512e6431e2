"""
The account (RFC 8555 7.3): made once, found again, kept in step with the configuration, its key changed safely.

Owns the order of saving and sending.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key

from cftpki_connectors.acme.jose import SigningKey, bind_account, decode_secret, sign_request, signing_key
from cftpki_connectors.acme.options import AccountKeyKind, AcmeOptions
from cftpki_connectors.acme.problems import ProblemError
from cftpki_connectors.acme.resources import Directory, decode_object, resolved
from cftpki_connectors.acme.session import Session, Signer
from cftpki_connectors.acme.store import AccountStore, Lock, Stored
from cftpki_connectors.ca.client import CaAnswer, CaError, printable
from cftpki_connectors.support.secret_files import secret_text
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault

_VANISHED = "the account has vanished from the disk"
_CURVES = {AccountKeyKind.P256: SECP256R1(), AccountKeyKind.P384: SECP384R1()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    An account that the CA knows.
    """

    signer: Signer
    url: str
    orders: str | None  # the list of its orders, where the CA keeps one


class Accounts:
    """
    The account of one enroller.

    Args:
        options: contact, terms, external account, key.
        store: where it is kept.
        session: to the CA.

    """

    def __init__(self, options: AcmeOptions, store: AccountStore, session: Session) -> None:
        self._options = options
        self._store = store
        self._session = session

    async def establish(self, *, deadline: float) -> Account:
        """
        The account, found on the disk, found at the CA by its key, or made.

        It is read anew each time: another process may have changed the key.

        Raises:
            CaError: the CA will not have us, was not heard, or the configuration lacks what it asks for.

        """
        stored = self._store.load()
        if (
            stored.key is None
            or stored.url is None
            or stored.pending is not None
            or self._contact_changed(stored)
        ):
            async with self._store.locked(deadline=deadline):
                stored = await self._settle(self._store.load(), deadline)
        if stored.key is None or stored.url is None:
            raise CaError(Fault.MISCONFIGURED, _VANISHED)
        return Account(signer=Signer(stored.key, stored.url), url=stored.url, orders=stored.orders)

    def key_is_old(self) -> bool:
        """
        Whether the configuration asks for a key change now.
        """
        days, since = self._options.account_key_days, self._store.load().key_since
        return days is not None and since is not None and self._session.now() - since >= timedelta(days=days)

    async def roll_over(self, *, deadline: float, wait: bool = True) -> bool:
        """
        Change the account's key (RFC 8555 7.3.5).

        The new key is on the disk before the CA hears of it, and takes the old one's place when the CA has
        agreed. What a crash leaves behind is settled first, and counts as the change where the CA has the new
        key. Attempts under way are waited for: they sign with the key that they began with.

        Args:
            deadline: monotonic seconds.
            wait: by default until the deadline for attempts of this and other processes.

        Returns:
            False where the CA cannot do it; the old key then stays.

        Raises:
            BusyError: it was to be done at once, and attempts are under way.
            CaError: no answer came, or a refusal.

        """
        directory = await self._session.directory(deadline=deadline)
        if directory.key_change is None:
            return False
        before = self._store.load().key
        attempts = self._store.locked(Lock.ATTEMPTS, deadline=deadline if wait else 0.0)
        async with attempts, self._store.locked(deadline=deadline):
            # Not sooner: another process may have been killed in the middle of a change while we waited.
            stored = await self._settle(self._store.load(), deadline)
            if stored.key is None or stored.url is None:
                raise CaError(Fault.MISCONFIGURED, _VANISHED)
            if before is not None and stored.key.thumbprint != before.thumbprint:
                return True  # it has just been changed
            return await self._change_key(stored.key, stored.url, directory.key_change, deadline)

    async def _change_key(self, old: SigningKey, account: str, url: str, deadline: float) -> bool:
        new = self._new_key()
        await self._store.save_pending(new)
        payload = json.dumps({"account": account, "oldKey": old.jwk}).encode()
        inner = sign_request(new, url=url, nonce=None, payload=payload)
        try:
            await self._session.post(url, inner, signer=Signer(old, account), deadline=deadline)
        except ProblemError as error:
            if error.fault is Fault.UNREACHABLE and error.status != 501:
                raise  # it may have acted: both keys stay until we know
            await self._store.drop_pending()
            # step-ca offers keyChange and answers 501.
            if error.status == 501:
                return False
            raise
        await self._store.promote_pending()
        return True

    async def _settle(self, stored: Stored, deadline: float) -> Stored:
        if stored.pending is not None:
            await self._settle_pending(stored, stored.pending, deadline)
            stored = self._store.load()
        if stored.key is not None and stored.url is not None:
            if self._contact_changed(stored):
                signer = Signer(stored.key, stored.url)
                await self._session.post(
                    stored.url, {"contact": list(self._options.contact)}, signer=signer, deadline=deadline
                )
                await self._store.save_account(
                    stored.url, contact=self._options.contact, orders=stored.orders
                )
            return self._store.load()
        answer: CaAnswer | None = None
        contact: tuple[str, ...] = ()
        if stored.key is not None:
            # Perhaps the answer to newAccount was lost; an external account binding may be good only once.
            answer = await self._lookup(stored.key, deadline)
        key = stored.key or self._new_key()
        if answer is None:
            await self._store.save_key(key)
            answer, contact = await self._make(key, deadline), self._options.contact
        # What a found account's contact is, the next `establish` puts right.
        await self._save(answer, contact)
        return self._store.load()

    async def _settle_pending(self, stored: Stored, pending: SigningKey, deadline: float) -> None:
        """
        A key change was cut short: the CA knows which key it has.
        """
        answer = await self._lookup(pending, deadline)
        if answer is not None and stored.url in {None, _location(answer)}:
            await self._store.promote_pending()
        else:
            await self._store.drop_pending()

    async def _lookup(self, key: SigningKey, deadline: float) -> CaAnswer | None:
        directory = await self._session.directory(deadline=deadline)
        try:
            return await self._session.post(
                directory.new_account, {"onlyReturnExisting": True}, signer=Signer(key), deadline=deadline
            )
        except ProblemError as error:
            if error.problem.kind == "accountDoesNotExist":
                return None
            raise

    async def _make(self, key: SigningKey, deadline: float) -> CaAnswer:
        directory = await self._session.directory(deadline=deadline)
        payload: dict[str, object] = {}
        if self._options.contact:
            payload["contact"] = list(self._options.contact)
        if directory.terms is not None and not self._options.terms_agreed:
            detail = (
                f"the CA has terms of service, {directory.terms}; terms_agreed = true says that you agree"
            )
            raise CaError(Fault.MISCONFIGURED, detail)
        if self._options.terms_agreed:
            payload["termsOfServiceAgreed"] = True
        binding = self._binding(key, directory)
        if binding is not None:
            payload["externalAccountBinding"] = binding
        return await self._session.post(directory.new_account, payload, signer=Signer(key), deadline=deadline)

    def _binding(self, key: SigningKey, directory: Directory) -> dict[str, object] | None:
        external = self._options.external_account
        if external is None:
            if directory.external_account:
                detail = "the CA asks for an external account: external_account = { kid, secret_file }"
                raise CaError(Fault.MISCONFIGURED, detail)
            return None
        try:
            secret = decode_secret(secret_text(external.secret_file, "secret_file"))
        except InputError as error:
            raise CaError(Fault.MISCONFIGURED, f"external_account: {error}") from error
        return bind_account(key, url=directory.new_account, kid=external.kid, secret=secret)

    async def _save(self, answer: CaAnswer, contact: tuple[str, ...]) -> None:
        url = _location(answer)
        if url is None:
            raise CaError(Fault.UNREACHABLE, "the CA gave the account no URL", sent=True)
        account = _object(answer)
        orders = resolved(answer.url, account.get("orders"))
        if account.get("status") not in {None, "valid"}:
            detail = f"the account is {printable(str(account.get('status')))}"
            raise CaError(Fault.MISCONFIGURED, detail)
        await self._store.save_account(url, contact=contact, orders=orders)

    def _contact_changed(self, stored: Stored) -> bool:
        return stored.url is not None and stored.contact != self._options.contact

    def _new_key(self) -> SigningKey:
        return signing_key(generate_private_key(_CURVES[self._options.account_key]))


def _object(answer: CaAnswer) -> Mapping[str, object]:
    """
    The account in an answer; of what cannot be read nothing hangs but the list of its orders.
    """
    try:
        return decode_object(answer.body, "account")
    except CaError:
        return {}


def _location(answer: CaAnswer) -> str | None:
    return resolved(answer.url, answer.headers.get("location"))
