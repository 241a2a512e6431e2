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
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from cftpki_connectors.ca.client import CaAnswer, CaError, CaRequest, printable
from cftpki_connectors.est.options import EstOptions, HttpAuth
from cftpki_connectors.est.request import client_fault
from cftpki_connectors.support.secret_files import MAX_PASSWORD_BYTES, secret_bytes
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault, Held
from cftpki_ext.support import pem
from cftpki_ext.support.files import MAX_PEM_BYTES
from cftpki_ext.support.guarded import read_guarded
from cftpki_ext.x509.certificate import MalformedCertificateError, parse_certificate

# An RSA-4096 key in PEM has 3.3 KB.
MAX_KEY_BYTES = 64 * 1024

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


def roots_in(path: Path, what: str) -> tuple[bytes, ...]:
    """
    The certificates of a file of roots.

    Raises:
        CaError: MISCONFIGURED: unreadable, or holds none.

    """
    try:
        found = pem.certificates(read_guarded(path, cap=MAX_PEM_BYTES, what=what).data, what=what)
    except InputError as error:
        raise CaError(Fault.MISCONFIGURED, printable(str(error))) from error
    if not found:
        raise CaError(Fault.MISCONFIGURED, f"{what} {path} holds no certificate")
    return found


def _identity(options: EstOptions, chain_file: Path, key_file: Path, now: datetime) -> Held:
    chain = roots_in(chain_file, "identity_chain_file")
    password = None
    if options.identity_password_file is not None:
        secret = secret_bytes(options.identity_password_file, "identity_password_file", MAX_PASSWORD_BYTES)
        password = secret.rstrip(b"\r\n")
    data = secret_bytes(key_file, "identity_key_file", MAX_KEY_BYTES)
    load_key = load_pem_private_key if data.lstrip().startswith(b"-----") else load_der_private_key
    try:
        key = load_key(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        msg = f"identity_key_file {key_file} is no private key, or its password is missing or wrong"
        raise InputError(msg) from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        msg = f"identity_key_file {key_file} is neither RSA nor ECDSA"
        raise InputError(msg)
    try:
        leaf = parse_certificate(chain[0])
    except MalformedCertificateError as error:
        msg = f"identity_chain_file {chain_file}: {error}"
        raise InputError(msg) from error
    fault = client_fault(leaf)
    if leaf.spki != key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        fault = f"is not that of the key in {key_file}"
    elif not leaf.not_before <= now <= leaf.not_after:
        fault = f"is valid from {leaf.not_before} to {leaf.not_after} only"
    if fault is not None:
        msg = f"identity_chain_file {chain_file}: its first certificate {fault}"
        raise InputError(msg)
    return Held(chain=chain, key=key)


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
