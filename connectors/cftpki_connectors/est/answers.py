"""
Asking one EST operation, HTTP authentication included, and what an answer that is no success means.

Owns requests' fields and the mapping from EST's statuses to `enroller_port.Fault`.
"""

from __future__ import annotations

import dataclasses
import re
from datetime import datetime
from types import MappingProxyType

import httpx

from cftpki_connectors.ca.client import CaAnswer, CaClient, CaRequest, printable, status_fault
from cftpki_connectors.ca.said import TEXT_BYTES, first_line
from cftpki_connectors.est.credentials import Credentials, authorization
from cftpki_connectors.est.encoding import LIBEST_LIMIT, LIBEST_REQUEST_BYTES, MAX_BODY_BYTES, encode
from cftpki_connectors.est.options import EstOptions
from cftpki_ext.identity.enroller_port import Failed, Fault

# TLS alerts with which a server refuses our certificate, or the lack of one.
CERTIFICATE_ALERTS = frozenset(
    {
        "ACCESS_DENIED",
        "BAD_CERTIFICATE",
        "CERTIFICATE_EXPIRED",
        "CERTIFICATE_REQUIRED",
        "CERTIFICATE_REVOKED",
        "CERTIFICATE_UNKNOWN",
        "HANDSHAKE_FAILURE",
        "UNKNOWN_CA",
        "UNSUPPORTED_CERTIFICATE",
    }
)

_PROOF = re.compile(rb"proof.of.possession|tls.?unique|channel.binding|challenge.?password", re.IGNORECASE)


def get(options: EstOptions, operation: str) -> CaRequest:
    """
    The request of an operation without a body. A CA behind a GET may be reached by a redirect.
    """
    return CaRequest(url=options.base + operation, headers=_fields(), max_bytes=MAX_BODY_BYTES, redirects=3)


def post(options: EstOptions, operation: str, csr: bytes) -> CaRequest:
    """
    The request of an enrolment (RFC 7030 4.2.1).
    """
    headers = _fields() | {
        "Content-Type": "application/pkcs10",
        # It means nothing in HTTP (RFC 8951 section 3); older servers insist on it.
        "Content-Transfer-Encoding": "base64",
    }
    return CaRequest(
        url=options.base + operation,
        method="POST",
        body=encode(csr),
        headers=MappingProxyType(headers),
        max_bytes=MAX_BODY_BYTES,
    )


def _fields() -> dict[str, str]:
    # libest closes after an error without saying so: a connection kept would die under the next request.
    return {"Connection": "close"}


async def ask(client: CaClient, request: CaRequest, credentials: Credentials, *, deadline: float) -> CaAnswer:
    """
    Send a request, and once more with the password where the server asks for it.

    The password is never sent unasked: the server chooses the scheme.

    Args:
        client: a verified one.
        request: what to ask.
        credentials: what we have.
        deadline: monotonic seconds.

    Returns:
        The answer, a second 401 too.

    Raises:
        CaError: nothing usable came, or the challenge cannot be answered.

    """
    answer = await client.send(request, deadline=deadline)
    if answer.status != httpx.codes.UNAUTHORIZED:
        return answer
    header = authorization(credentials, request, answer)
    if header is None:
        return answer
    headers = MappingProxyType({**request.headers, "Authorization": header})
    # A redirect would carry the password to whoever it names.
    return await client.send(dataclasses.replace(request, headers=headers, redirects=0), deadline=deadline)


def failed(
    step: str,
    answer: CaAnswer,
    *,
    now: datetime,
    credentials: Credentials,
    request_bytes: int = 0,
    binding_asked: bool = False,
) -> Failed:
    """
    What an answer means that is neither a certificate nor "later".

    Args:
        step: the operation.
        answer: what came.
        now: for `Retry-After`.
        credentials: whether there was a password to try.
        request_bytes: size of the body that was sent.
        binding_asked: whether csrattrs lists challengePassword.

    Returns:
        The fault, with the first line of what the server says.

    """
    said = first_line(answer)
    detail = f"{step}: HTTP {answer.status}" + (f": {said}" if said else "")
    fault, retry_at = status_fault(answer, now)
    refused = answer.status in {400, 401, 403}
    if refused and (binding_asked or _PROOF.search(answer.body[:TEXT_BYTES])):
        fault = Fault.MISCONFIGURED
        detail += (
            "; the server wants the request bound to the TLS session (challengePassword, RFC 7030 3.5), which "
            "this connector cannot do: let the server do without"
        )
    elif answer.status == httpx.codes.UNAUTHORIZED:
        fault = Fault.MISCONFIGURED
        detail += f"; {_unauthorized(answer, credentials)}"
    elif answer.status == httpx.codes.NOT_FOUND:
        fault = Fault.MISCONFIGURED
        detail += "; is the label right?"
    elif answer.status == httpx.codes.FORBIDDEN:
        detail += f"; {_forbidden(credentials)}"
    elif answer.status in {405, 415, 501}:
        fault = Fault.MISCONFIGURED
    elif 200 <= answer.status < 300:
        # Something answers that is no EST server, or one that does what was not asked for.
        fault = Fault.MISCONFIGURED if _unsupported(answer) else Fault.UNREACHABLE
        detail = f"{step}: {_unsupported(answer) or f'HTTP {answer.status}, which EST does not know'}"
    if request_bytes > LIBEST_REQUEST_BYTES and answer.status in {400, 413, 500}:
        detail += (
            f"; the request has {request_bytes} bytes ({LIBEST_LIMIT}): fewer names or a smaller key may help"
        )
    return Failed(fault=fault, detail=detail, retry_at=retry_at)


def _unauthorized(answer: CaAnswer, credentials: Credentials) -> str:
    challenge = printable(answer.headers.get("www-authenticate", ""))[:80]
    if credentials.username is not None and challenge:
        return f"user {credentials.username!r} or the password is not accepted ({challenge!r})"
    if challenge:
        return f"the server wants {challenge!r}: set username and password_file"
    return (
        "the server names no way to authenticate: it wants another user, or a client certificate "
        "(identity_chain_file, identity_key_file) that it knows"
    )


def _forbidden(credentials: Credentials) -> str:
    if credentials.identity is None:
        return "it may want a client certificate (identity_chain_file, identity_key_file)"
    return (
        "the server, or the web server before it, may not accept the configured client certificate "
        "(identity_chain_file), or not have asked for it"
    )


def unsupported_content(answer: CaAnswer) -> str | None:
    """
    Why a 200 holds something that is not for us: what serverkeygen and fullcmc answer with (RFC 7030 4.3, 4.4).
    """
    return _unsupported(answer)


def _unsupported(answer: CaAnswer) -> str | None:
    field = answer.headers.get("content-type", "").lower()
    if answer.content_type == "multipart/mixed":
        return "the server made a key itself (serverkeygen), which is not supported: keys are made here"
    if "smime-type=cmc-response" in field.replace(" ", "").replace('"', ""):
        return "the server answers in full CMC, which is not supported"
    return None
