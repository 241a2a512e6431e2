"""
Who we are to a Vault: from the configured way to authenticate to a token that is good now.

Owns logging in, renewing a token before it ends, and giving it back. A token never touches the disk here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from cftpki_connectors.ca.client import CaError
from cftpki_connectors.vault.answers import Login, data_of
from cftpki_connectors.vault.client import ErrorAnswerError, VaultClient
from cftpki_connectors.vault.options import VaultOptions
from cftpki_connectors.vault.secrets import Secrets
from cftpki_ext.identity.enroller_port import Fault
from cftpki_ext.ports.clock import Clock

# A token that ends sooner is not begun with: an order may take that long.
SLACK_S = 30.0
# Of its life, after which a token is renewed.
RENEW_AFTER = 2 / 3
_GIVE_BACK_S = 3.0
_INVALID = frozenset({401, 403})


class Session:
    """
    A token, kept as long as it lives.

    Args:
        options: how we authenticate.
        secrets: reads what that needs.
        clock: the time.

    """

    def __init__(self, options: VaultOptions, secrets: Secrets, clock: Clock) -> None:
        self._options = options
        self._secrets = secrets
        self._clock = clock
        self._login: Login | None = None
        self._since = 0.0

    async def token(self, client: VaultClient, *, deadline: float) -> str:
        """
        A token that lives for a while yet: the one at hand, renewed at two thirds of its life, or a new one.

        Args:
            client: in the namespace of the authentication.
            deadline: monotonic seconds.

        Raises:
            CaError: none is to be had.

        """
        if self._options.token is not None:
            return await self._given(client, deadline)
        held = self._login
        if held is not None and held.renewable and self._is_due(held):
            with contextlib.suppress(CaError):  # a new one is to be had
                held = self._take(await client.renew(held.token, deadline=deadline))
        if held is None or self._left_s(held) < SLACK_S:
            held = self._take(await self._log_in(client, deadline))
        return held.token

    async def keep_alive(self, client: VaultClient, *, deadline: float) -> None:
        """
        Renew a token of the operator's, so that it does not end between two orders; one that cannot be is left as it is.
        """
        if self._options.token is None:
            return
        with contextlib.suppress(CaError):
            token = await self._given(client, deadline)
            if self._login is not None and self._login.renewable:
                self._take(await client.renew(token, deadline=deadline))

    def forget(self) -> None:
        """
        The server does not know the token any more.
        """
        self._login = None

    @property
    def can_log_in(self) -> bool:
        """
        Whether another token is to be had by logging in again.
        """
        return self._options.token is None

    async def give_back(self, client: VaultClient) -> None:
        """
        End a token that we made by logging in: it would live on unused. Whether that comes about matters to nobody.
        """
        held, self._login = self._login, None
        if held is None or not self.can_log_in:
            return
        with contextlib.suppress(CaError):
            await client.give_back(held.token, deadline=self._clock.monotonic() + _GIVE_BACK_S)

    async def _given(self, client: VaultClient, deadline: float) -> str:
        way = self._options.token
        if way is None:
            raise CaError(Fault.MISCONFIGURED, "no token is configured")
        token = await self._secrets.value(
            way.token_file, "token.token_file", way.content, client, pick=_wrapped_token, deadline=deadline
        )
        if self._login is None or self._login.token != token:
            try:
                self._take(await client.look_up(token, deadline=deadline))
            except ErrorAnswerError as error:
                if error.status not in _INVALID:
                    raise
                detail = f"token.token_file {way.token_file}: the server does not take the token, which may have ended ({error.detail})"
                raise CaError(Fault.MISCONFIGURED, detail) from error
        held = self._login
        if held is not None and held.renewable and self._is_due(held):
            # Where it cannot be renewed (a maximum is reached), it may live long enough for this.
            with contextlib.suppress(CaError):
                self._take(await client.renew(token, deadline=deadline))
        return token

    async def _log_in(self, client: VaultClient, deadline: float) -> Login:
        mount, body = await self._proof(client, deadline)
        try:
            return await client.login(mount, body, deadline=deadline)
        except ErrorAnswerError as error:
            if error.fault not in {Fault.REFUSED, Fault.MISCONFIGURED}:
                raise
            # Nothing of an order was refused: who we are is the operator's business.
            detail = f"login by auth/{mount}: {error.detail}"
            raise CaError(Fault.MISCONFIGURED, detail) from error

    async def _proof(self, client: VaultClient, deadline: float) -> tuple[str, Mapping[str, object]]:
        options, secrets = self._options, self._secrets
        if options.approle is not None:
            role = options.approle
            body: dict[str, object] = {"role_id": role.role_id}
            if role.role_id_file is not None:
                body["role_id"] = await secrets.text(role.role_id_file, "approle.role_id_file")
            if role.secret_id_file is not None:
                body["secret_id"] = await secrets.value(
                    role.secret_id_file,
                    "approle.secret_id_file",
                    role.content,
                    client,
                    pick=_wrapped_secret_id,
                    deadline=deadline,
                )
            return role.mount, body
        if options.kubernetes is not None:
            pod = options.kubernetes
            jwt = await secrets.text(pod.jwt_file, "kubernetes.jwt_file")
            return pod.mount, {"role": pod.role, "jwt": jwt}
        if options.certificate is not None:
            own = options.certificate
            return own.mount, {} if own.role is None else {"name": own.role}
        raise CaError(Fault.MISCONFIGURED, "nothing says who we are")

    def _take(self, login: Login) -> Login:
        self._login, self._since = login, self._clock.monotonic()
        return login

    def _left_s(self, login: Login) -> float:
        if not login.lease_s:
            return float("inf")
        return login.lease_s - (self._clock.monotonic() - self._since)

    def _is_due(self, login: Login) -> bool:
        return 0 < self._left_s(login) < login.whole_s * (1 - RENEW_AFTER)


def _wrapped_token(fields: Mapping[str, object]) -> object:
    auth = fields.get("auth")
    return auth.get("client_token") if isinstance(auth, dict) else data_of(fields).get("token")


def _wrapped_secret_id(fields: Mapping[str, object]) -> object:
    return data_of(fields).get("secret_id")
