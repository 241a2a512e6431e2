"""
Who we are to an EST server: the password and the identity of the connector's own, read anew for every attempt.

Owns the reading of those files and the answer to an HTTP challenge.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import field
from datetime import datetime
from pathlib import Path

import httpx

from cftpki_connectors.ca.client import CaAnswer, CaError, CaRequest, printable
from cftpki_connectors.ca.identity_files import client_identity_in
from cftpki_connectors.est.options import EstOptions, HttpAuth
from cftpki_connectors.support.secret_files import MAX_PASSWORD_BYTES, secret_bytes
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault, Held

_SCHEME = re.compile(r"(?:^|,)\s*(basic|digest|bearer|negotiate)(?=\s|,|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """
    A password, an identity of the connector's own, both, or neither.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    http_auth: HttpAuth = HttpAuth.ANY
    identity: Held | None = field(default=None, repr=False)

    @property
    def present(self) -> bool:
        """
        Whether there is something besides the certificate that is renewed.
        """
        return self.username is not None or self.identity is not None


def load(options: EstOptions, now: datetime) -> Credentials:
    """
    Read the files.

    Args:
        options: which files.
        now: the identity must be valid then.

    Raises:
        CaError: MISCONFIGURED, with the file and what is wrong with it.

    """
    try:
        password = None
        if options.password_file is not None:
            password = secret_bytes(options.password_file, "password_file", MAX_PASSWORD_BYTES).decode()
        identity = None
        if options.identity_chain_file is not None and options.identity_key_file is not None:
            identity = _identity(options, options.identity_chain_file, options.identity_key_file, now)
    except (InputError, UnicodeDecodeError) as error:
        raise CaError(Fault.MISCONFIGURED, printable(str(error))) from error
    return Credentials(
        username=options.username,
        password=None if password is None else password.rstrip("\r\n"),
        http_auth=options.http_auth,
        identity=identity,
    )


def _identity(options: EstOptions, chain_file: Path, key_file: Path, now: datetime) -> Held:
    return client_identity_in(
        chain_file, key_file, options.identity_password_file, prefix="identity_", now=now
    )


def authorization(credentials: Credentials, request: CaRequest, answer: CaAnswer) -> str | None:
    """
    The `Authorization` that a 401 asks for (RFC 7616, RFC 7617), Digest before Basic.

    Only for answers of a verified server: Basic is the password itself.

    Args:
        credentials: what we have.
        request: as it was sent.
        answer: the 401.

    Returns:
        The field's value, `None` where no user is configured or nothing that we can do is offered.

    Raises:
        CaError: MISCONFIGURED: the challenge cannot be used, or `http_auth` forbids what is offered.

    """
    if credentials.username is None or credentials.password is None:
        return None
    challenge = answer.headers.get("www-authenticate", "")  # several fields are joined by commas
    offered = {match[1].lower(): match.start(1) for match in _SCHEME.finditer(challenge[:4096])}
    outgoing = httpx.Request(request.method, request.url)
    if "digest" in offered:
        headers = {"www-authenticate": "Digest" + challenge[offered["digest"] + len("digest") :]}
        digest = httpx.DigestAuth(credentials.username, credentials.password)
        try:
            reply = httpx.Response(401, headers=headers, request=outgoing)
            return _run(digest.auth_flow(outgoing), reply)
        except Exception as error:  # httpx checks little of a challenge, and ends its generator at a bare one
            detail = "the server's Digest challenge cannot be answered (RFC 7616 3.3)"
            raise CaError(Fault.MISCONFIGURED, detail) from error
    if "basic" in offered:
        if credentials.http_auth is HttpAuth.DIGEST:
            detail = 'the server offers only Basic, and http_auth = "digest" forbids it'
            raise CaError(Fault.MISCONFIGURED, detail)
        basic = httpx.BasicAuth(credentials.username, credentials.password)
        return next(basic.auth_flow(outgoing)).headers["authorization"]
    return None


def _run(flow: Generator[httpx.Request, httpx.Response, None], reply: httpx.Response) -> str:
    next(flow)
    return flow.send(reply).headers["authorization"]
