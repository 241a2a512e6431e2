"""
Talking to one ACME server: the directory, nonces, signed requests (RFC 8555 section 6).

Owns nonces and their storms. Decides nothing about orders.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from datetime import datetime

from cftpki_connectors.acme.jose import SigningKey, sign_request
from cftpki_connectors.acme.problems import ProblemError, problem_error
from cftpki_connectors.acme.resources import Directory, decode_object, parse_directory
from cftpki_connectors.ca.client import CaAnswer, CaClient, CaError, CaRequest, printable
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault
from cftpki_ext.ports.clock import Clock

# A server that loses two nonces of three is passed with certainty enough (1 in 170 000), one that takes none is not.
MAX_NONCE_TRIES = 30
# More than the requests that are ever under way at once.
MAX_NONCES = 16
# Servers forget nonces after some minutes; an old one costs a request.
NONCE_LIFE_S = 240.0
# A CA that moves its resources is noticed after so long.
DIRECTORY_LIFE_S = 3600.0
_NONCE_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@dataclass(frozen=True, slots=True)
class Signer:
    """
    Who signs: a key, and the account's URL where the server knows the account.
    """

    key: SigningKey
    kid: str | None = None


class Session:
    """
    One CA over one client. Nonces are taken from every answer, errors included.

    Args:
        client: sends.
        directory_url: where everything begins.
        clock: for `Retry-After` and the age of nonces.

    """

    def __init__(self, client: CaClient, directory_url: str, clock: Clock) -> None:
        self._client = client
        self._url = directory_url
        self._clock = clock
        self._nonces: deque[tuple[str, float]] = deque(maxlen=MAX_NONCES)
        self._directory: tuple[Directory, float] | None = None

    def now(self) -> datetime:
        """
        The wall-clock time.
        """
        return self._clock.now()

    def has_time(self, pause_s: float, deadline: float) -> bool:
        """
        Whether there is time for a pause and a request after it.
        """
        return self._clock.monotonic() + pause_s + 1.0 < deadline

    async def directory(self, *, deadline: float) -> Directory:
        """
        The CA's directory, asked again once an hour.

        Raises:
            CaError: not reached, or it is none.

        """
        if self._directory is not None and self._clock.monotonic() - self._directory[1] < DIRECTORY_LIFE_S:
            return self._directory[0]
        answer = await self._send(CaRequest(url=self._url, redirects=3), deadline)
        if answer.status != 200:
            error = problem_error(answer, self.now())
            # A path that leads nowhere stays so; what stands behind 5xx comes back.
            fault = Fault.MISCONFIGURED if error.fault is Fault.REFUSED else error.fault
            detail = f"directory {printable(self._url)}: {error.detail}"
            raise CaError(fault, detail, retry_at=error.retry_at)
        try:
            directory = parse_directory(decode_object(answer.body, "directory"), base=answer.url)
        except CaError as error:
            raise CaError(Fault.MISCONFIGURED, f"directory {printable(self._url)}: {error.detail}") from error
        self._directory = directory, self._clock.monotonic()
        return directory

    async def get(self, url: str, *, deadline: float) -> CaAnswer:
        """
        An unsigned GET (RFC 9773 4).

        Raises:
            CaError: nothing usable came; `ProblemError` where the CA answers with an error.

        """
        answer = await self._send(CaRequest(url=url, redirects=1), deadline)
        if answer.status != 200:
            raise problem_error(answer, self.now())
        return answer

    async def post(
        self,
        url: str,
        payload: Mapping[str, object] | None,
        *,
        signer: Signer,
        deadline: float,
    ) -> CaAnswer:
        """
        A signed request.

        It is repeated only where the CA says that it did not look at it (badNonce). Any content type but HTML will do:
        what came is judged by what it is.

        Args:
            url: where to.
            payload: what; `None` for POST-as-GET.
            signer: who.
            deadline: monotonic seconds.

        Returns:
            An answer of success.

        Raises:
            CaError: nothing usable came; `ProblemError` where the CA answers with an error.

        """
        body = b"" if payload is None else json.dumps(payload).encode()
        error: ProblemError | None = None
        for _ in range(MAX_NONCE_TRIES):
            nonce = await self._nonce(deadline)
            signed = sign_request(signer.key, url=url, nonce=nonce, payload=body, kid=signer.kid)
            request = CaRequest(
                url=url,
                method="POST",
                body=json.dumps(signed).encode(),
                # Exactly this: step-ca refuses even a charset.
                headers={"Content-Type": "application/jose+json"},
            )
            answer = await self._send(request, deadline)
            if 200 <= answer.status < 300:
                return answer
            error = problem_error(answer, self.now())
            if error.problem.kind != "badNonce":
                raise error
        detail = f"no nonce was good in {MAX_NONCE_TRIES} tries"
        raise CaError(Fault.UNREACHABLE, detail, sent=True) from error

    async def _nonce(self, deadline: float) -> str:
        nonce = self._kept_nonce()
        if nonce is None:
            directory = await self.directory(deadline=deadline)
            nonce = self._kept_nonce()  # perhaps the directory itself brought one
        if nonce is None:
            answer = await self._send(CaRequest(url=directory.new_nonce, method="HEAD"), deadline)
            if not 200 <= answer.status < 300:
                raise problem_error(answer, self.now())
            nonce = self._kept_nonce()
        if nonce is None:
            raise CaError(Fault.UNREACHABLE, "the CA's newNonce gave no nonce")
        return nonce

    def _kept_nonce(self) -> str | None:
        oldest = self._clock.monotonic() - NONCE_LIFE_S
        while self._nonces:
            nonce, born = self._nonces.pop()
            if born >= oldest:
                return nonce
        return None

    async def _send(self, request: CaRequest, deadline: float) -> CaAnswer:
        answer = await self._client.send(request, deadline=deadline)
        nonce = answer.headers.get("replay-nonce", "")
        # RFC 8555 6.5.1: what is not base64url is ignored.
        if 0 < len(nonce) <= 1024 and _NONCE_CHARACTERS.issuperset(nonce):
            self._nonces.append((nonce, self._clock.monotonic()))
        return answer
