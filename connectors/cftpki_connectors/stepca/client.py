"""
The routes of step-ca (0.30), one method each.

Owns bodies, status codes and what they mean; decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote, urlencode

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_connectors.ca.certificates import certificates_in_pem
from cftpki_connectors.ca.client import CaAnswer, CaClient, CaError, CaRequest, printable, status_fault
from cftpki_connectors.ca.said import object_of
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault
from cftpki_ext.ports.clock import Clock

_JSON = frozenset({"application/json"})
# `step` asks for a hundred at a time too; more than fifty pages is a list without end.
_PAGE = 100
_MAX_PAGES = 50


class ErrorAnswerError(CaError):
    """
    The CA answered, with an error. `date` is its clock, where it told.
    """

    def __init__(
        self,
        fault: Fault,
        detail: str,
        *,
        status: int,
        sent: bool,
        retry_at: datetime | None,
        date: datetime | None,
    ) -> None:
        super().__init__(fault, detail, sent=sent, retry_at=retry_at)
        self.status = status
        self.date = date


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioner:
    """
    One entry of the CA's list, as far as it concerns us.
    """

    kind: str
    name: str
    key: Mapping[str, object]
    claims: Mapping[str, object]
    encrypted: bool = False  # the CA keeps its private key, encrypted, for everybody to ask for

    @property
    def kid(self) -> str:
        """
        The id of its key; empty where it has none.
        """
        return str(self.key.get("kid", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """
    A chain as it came (DER), and the CA's clock.
    """

    chain: tuple[bytes, ...]
    date: datetime | None


class StepCaClient:
    """
    Asks one step-ca.

    Every method raises `CaError` where no usable answer came, `ErrorAnswerError` where the CA said no;
    `sent` of either tells whether a certificate may exist nevertheless.

    Args:
        url: the CA's, without a trailing slash.
        http: who does the asking, with the CA's roots and perhaps a client certificate.
        clock: for `Retry-After`.

    """

    def __init__(self, url: str, http: CaClient, clock: Clock) -> None:
        self._url = url
        self._http = http
        self._clock = clock

    async def health(self, *, deadline: float) -> datetime | None:
        """
        Whether the CA is there (and takes our certificate); returns its clock.
        """
        return (await self._get("/health", deadline)).date

    async def roots(self, *, deadline: float) -> tuple[bytes, ...]:
        """
        The roots in use, old and new while they are being changed.
        """
        answer = await self._get("/roots", deadline)
        return certificates(_fields(answer).get("crts"))

    async def provisioners(self, *, deadline: float) -> tuple[Provisioner, ...]:
        """
        All provisioners, page by page.
        """
        found: list[Provisioner] = []
        cursor = ""
        for _ in range(_MAX_PAGES):
            query = {"limit": str(_PAGE)} | ({"cursor": cursor} if cursor else {})
            fields = _fields(await self._get(f"/provisioners?{urlencode(query)}", deadline))
            found += provisioners_in(fields)
            cursor = str(fields.get("nextCursor") or "")
            if not cursor:
                return tuple(found)
        msg = f"the list of provisioners has more than {_MAX_PAGES} pages"
        raise CaError(Fault.MISCONFIGURED, msg)

    async def encrypted_key(self, kid: str, *, deadline: float) -> bytes:
        """
        The private key of a JWK provisioner, encrypted (compact JWE).
        """
        fields = _fields(await self._get(f"/provisioners/{quote(kid, safe='')}/encrypted-key", deadline))
        return str(fields.get("key", "")).encode("utf-8", "replace")

    async def sign(self, csr: bytes, token: str, *, lifetime_s: int | None, deadline: float) -> Granted:
        """
        A certificate for a request (DER), by a token.
        """
        body: dict[str, object] = {"csr": csr_pem(csr), "ott": token}
        if lifetime_s is not None:
            body["notAfter"] = f"{lifetime_s}s"
        return _granted(await self._post("/sign", body, deadline))

    async def renew(self, *, token: str | None = None, deadline: float) -> Granted:
        """
        The same certificate with the same key for another lifetime: that of the TLS session, or that in `token`.
        """
        return _granted(await self._post("/renew", None, deadline, token=token))

    async def rekey(self, csr: bytes, *, deadline: float) -> Granted:
        """
        The certificate of the TLS session for the key of a request; the request's names do not count.
        """
        return _granted(await self._post("/rekey", {"csr": csr_pem(csr)}, deadline))

    async def revoke(
        self, serial: int, *, code: int, reason: str, token: str | None, deadline: float
    ) -> None:
        """
        Revoke by a token, or the certificate of the TLS session itself.
        """
        body: dict[str, object] = {
            "serial": str(serial),
            "reasonCode": code,
            "reason": reason,
            "passive": True,
        }
        if token is not None:
            body["ott"] = token
        await self._post("/revoke", body, deadline)

    async def _get(self, path: str, deadline: float) -> CaAnswer:
        request = CaRequest(url=self._url + path, accepts=_JSON)
        return self._checked(await self._http.send(request, deadline=deadline))

    async def _post(
        self, path: str, body: Mapping[str, object] | None, deadline: float, *, token: str | None = None
    ) -> CaAnswer:
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        content = b"" if body is None else json.dumps(body).encode()
        request = CaRequest(
            url=f"{self._url}/1.0{path}", method="POST", body=content, headers=headers, accepts=_JSON
        )
        return self._checked(await self._http.send(request, deadline=deadline))

    def _checked(self, answer: CaAnswer) -> CaAnswer:
        if 200 <= answer.status < 300:
            return answer
        fault, retry_at = status_fault(answer, self._clock.now())
        if answer.status == 501:
            fault = Fault.REFUSED
        raise ErrorAnswerError(
            fault,
            _said(answer),
            status=answer.status,
            # A server or a proxy that fails may do so after the certificate was signed.
            sent=fault is Fault.UNREACHABLE,
            retry_at=retry_at,
            date=answer.date,
        )


def certificates(pems: object) -> tuple[bytes, ...]:
    """
    DER from a JSON list of PEM texts.

    Raises:
        CaError: no list of certificates, or too many.

    """
    return certificates_in_pem(pems if isinstance(pems, list) else ())


def csr_pem(csr: bytes) -> str:
    """
    A request (DER) as PEM.
    """
    return x509.load_der_x509_csr(csr).public_bytes(Encoding.PEM).decode("ascii")


def root_in(answer: CaAnswer) -> tuple[bytes, ...]:
    """
    The certificate in the answer of `/root/FINGERPRINT`.

    Raises:
        CaError: there is none.

    """
    if answer.status == 404:
        raise CaError(
            Fault.MISCONFIGURED, f"the CA does not know the configured fingerprint: {_said(answer)}"
        )
    if answer.status != 200:
        raise CaError(Fault.UNREACHABLE, _said(answer))
    return certificates([_fields(answer).get("ca")])


def _granted(answer: CaAnswer) -> Granted:
    fields = _fields(answer)
    chain = fields.get("certChain") or [fields.get("crt"), fields.get("ca")]
    return Granted(chain=certificates(chain), date=answer.date)


def provisioners_in(fields: Mapping[str, object]) -> tuple[Provisioner, ...]:
    """
    The provisioners of one page of the list; what is none is left out.
    """
    page = fields.get("provisioners")
    entries = page[:_PAGE] if isinstance(page, list) else []
    return tuple(_provisioner(entry) for entry in entries if isinstance(entry, dict))


def _provisioner(fields: Mapping[str, object]) -> Provisioner:
    key, claims = fields.get("key"), fields.get("claims")
    return Provisioner(
        kind=str(fields.get("type", "")),
        name=str(fields.get("name", "")),
        key=key if isinstance(key, dict) else {},
        claims=claims if isinstance(claims, dict) else {},
        encrypted=bool(fields.get("encryptedKey")),
    )


def _fields(answer: CaAnswer) -> Mapping[str, object]:
    return object_of(answer, "step-ca's")


def _said(answer: CaAnswer) -> str:
    """
    Status, message and request id. The CA's message is vague by design: its log has more, under that id.
    """
    try:
        fields = json.loads(answer.body)
    except (ValueError, RecursionError):
        fields = None
    if isinstance(fields, dict) and "message" in fields:
        said = printable(
            str(fields["message"]).removesuffix(" Please see the certificate authority logs for more info.")
        )
    elif answer.content_type == "text/html":
        said = "an HTML page, perhaps of a proxy or a portal"
    else:
        said = "no reason told"
    identifier = printable(answer.headers.get("x-request-id", ""))[:64]
    return f"HTTP {answer.status}: {said}" + (f" (X-Request-Id {identifier})" if identifier else "")
