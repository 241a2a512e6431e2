"""
The routes of Vault and OpenBao that we need, one method each.

Owns bodies, status codes and what they mean; decides nothing, and reads no file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_connectors.ca.certificates import certificates_in_pem
from cftpki_connectors.ca.client import CaAnswer, CaClient, CaError, CaRequest, printable
from cftpki_connectors.vault.answers import (
    HEALTH_STATUSES,
    Granted,
    Health,
    Login,
    data_of,
    fault_of,
    fields_of,
    granted,
    is_configuration,
    lease,
    login_of,
    texts_of,
    words_of,
)
from cftpki_ext.identity.enroller_port import Fault
from cftpki_ext.ports.clock import Clock

_JSON = frozenset({"application/json"})
# Rotations leave an old issuer or two; a mount with more serves somebody else besides.
MAX_ISSUERS = 16


class ErrorAnswerError(CaError):
    """
    The server answered, with an error. `texts` are its own words.
    """

    def __init__(
        self,
        fault: Fault,
        detail: str,
        *,
        status: int,
        texts: tuple[str, ...],
        sent: bool,
        retry_at: datetime | None,
    ) -> None:
        super().__init__(fault, detail, sent=sent, retry_at=retry_at)
        self.status = status
        self.texts = texts


class VaultClient:
    """
    Asks one server.

    Every method raises `CaError` where no usable answer came, `ErrorAnswerError` where the server said no; `sent` of
    either tells whether a certificate may exist nevertheless.

    Args:
        url: the server's, without /v1 and slash.
        http: who does the asking.
        namespace: in which; `None` for the root.
        clock: for `Retry-After`.

    """

    def __init__(self, url: str, http: CaClient, *, namespace: str | None, clock: Clock) -> None:
        self._url = url
        self._http = http
        self._namespace = namespace
        self._clock = clock

    async def health(self, *, deadline: float) -> Health:
        """
        How the server is; that it is sealed or a standby is an answer too.
        """
        # It is for the root namespace alone.
        answer = await self._http.send(
            CaRequest(url=f"{self._url}/v1/sys/health", headers=_headers()), deadline=deadline
        )
        if answer.status not in HEALTH_STATUSES:
            raise self._error(answer)
        fields = fields_of(answer)
        return Health(
            initialized=fields.get("initialized") is True,
            sealed=fields.get("sealed") is True,
            standby=fields.get("standby") is True,
            version=printable(str(fields.get("version", "")))[:64],
            date=answer.date,
        )

    async def login(self, mount: str, body: Mapping[str, object], *, deadline: float) -> Login:
        """
        A token for what proves who we are.
        """
        return login_of(fields_of(await self._post(f"auth/{mount}/login", body, None, deadline)))

    async def renew(self, token: str, *, deadline: float) -> Login:
        """
        The same token for another while.
        """
        return login_of(fields_of(await self._post("auth/token/renew-self", {}, token, deadline)))

    async def look_up(self, token: str, *, deadline: float) -> Login:
        """
        How long a token lives still.
        """
        data = data_of(fields_of(await self._get("auth/token/lookup-self", token, deadline)))
        left_s, whole_s = lease(data.get("ttl")), lease(data.get("creation_ttl"))
        return Login(
            token=token, lease_s=left_s, whole_s=max(left_s, whole_s), renewable=data.get("renewable") is True
        )

    async def give_back(self, token: str, *, deadline: float) -> None:
        """
        End a token.
        """
        await self._post("auth/token/revoke-self", {}, token, deadline)

    async def unwrap(self, token: str, *, deadline: float) -> Mapping[str, object]:
        """
        What a wrapping token stands for. It can be had once.
        """
        return fields_of(await self._post("sys/wrapping/unwrap", {}, token, deadline))

    async def sign(self, path: str, body: Mapping[str, object], token: str, *, deadline: float) -> Granted:
        """
        A certificate, by `…/sign/ROLE` or `…/issue/ROLE`.
        """
        return granted(await self._post(path, body, token, deadline))

    async def revoke(self, mount: str, certificate: bytes, token: str, *, deadline: float) -> None:
        """
        Revoke a certificate (DER), also one that the server has not stored. One that is revoked already stays so.
        """
        pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode("ascii")
        await self._post(f"{mount}/revoke", {"certificate": pem}, token, deadline)

    async def role(self, mount: str, role: str, token: str, *, deadline: float) -> Mapping[str, object]:
        """
        What a role allows.
        """
        return data_of(fields_of(await self._get(f"{mount}/roles/{role}", token, deadline)))

    async def issuers(self, mount: str, *, deadline: float) -> tuple[str, ...]:
        """
        The identifiers of a mount's issuers; everybody may ask.
        """
        data = data_of(fields_of(await self._get(f"{mount}/issuers?list=true", None, deadline)))
        keys = data.get("keys")
        listed = keys[:MAX_ISSUERS] if isinstance(keys, list) else []
        return tuple(
            key for key in listed if isinstance(key, str) and key.isascii() and key.replace("-", "").isalnum()
        )

    async def issuer_chain(self, mount: str, reference: str, *, deadline: float) -> tuple[bytes, ...]:
        """
        An issuer with those above it (DER), as far as the server knows them; everybody may ask.
        """
        fields = fields_of(await self._get(f"{mount}/issuer/{reference}/json", None, deadline))
        data = data_of(fields)
        return tuple(
            dict.fromkeys(certificates_in_pem([data.get("certificate"), *texts_of(data.get("ca_chain"))]))
        )

    async def _get(self, path: str, token: str | None, deadline: float) -> CaAnswer:
        request = CaRequest(url=f"{self._url}/v1/{path}", headers=self._fields(token), accepts=_JSON)
        return self._checked(await self._http.send(request, deadline=deadline))

    async def _post(
        self, path: str, body: Mapping[str, object], token: str | None, deadline: float
    ) -> CaAnswer:
        headers = self._fields(token) | {"Content-Type": "application/json"}
        request = CaRequest(
            url=f"{self._url}/v1/{path}",
            method="POST",
            body=json.dumps(body).encode(),
            headers=headers,
            accepts=_JSON,
        )
        return self._checked(await self._http.send(request, deadline=deadline))

    def _fields(self, token: str | None) -> dict[str, str]:
        headers = _headers()
        if self._namespace is not None:
            headers["X-Vault-Namespace"] = self._namespace
        if token is not None:
            headers["X-Vault-Token"] = token
        return headers

    def _checked(self, answer: CaAnswer) -> CaAnswer:
        if 200 <= answer.status < 300:
            return answer
        raise self._error(answer)

    def _error(self, answer: CaAnswer) -> ErrorAnswerError:
        fault, retry_at = fault_of(answer, self._clock.now())
        texts = words_of(answer)
        configured = is_configuration(texts)
        said = "; ".join(texts) or _STATUS_WORDS.get(answer.status, "no reason told")
        return ErrorAnswerError(
            Fault.MISCONFIGURED if configured else fault,
            f"HTTP {answer.status}: {said}",
            status=answer.status,
            texts=texts,
            # A server that fails, or a proxy before it, may do so after the certificate was made.
            sent=fault is Fault.UNREACHABLE and answer.status not in _NOT_DONE and not configured,
            retry_at=retry_at,
        )


_STATUS_WORDS = {
    403: "permission denied",
    404: "there is no such mount, role or issuer",
    412: "this node has not heard of the token yet",
    429: "too many requests",
    472: "a secondary for disaster recovery, which answers nothing",
    473: "a standby for performance, which answers nothing",
    501: "the server is not initialized",
    503: "the server is sealed, or in maintenance",
}
# Statuses with which the server says that it did nothing.
_NOT_DONE = frozenset({412, 429, 472, 473, 501, 503})


def _headers() -> dict[str, str]:
    # Against requests that somebody else's server is tricked into: some servers insist on it.
    return {"X-Vault-Request": "true"}
