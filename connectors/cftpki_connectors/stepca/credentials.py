"""
The provisioner's credentials: which files, whose key, and whether the CA can accept what they make.

Owns the reading of key, chain and password files and the look at the CA's list of provisioners.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_connectors.ca.client import CaError, printable
from cftpki_connectors.stepca import planner
from cftpki_connectors.stepca.client import ErrorAnswerError, Provisioner, StepCaClient
from cftpki_connectors.stepca.options import StepCaOptions
from cftpki_connectors.stepca.tokens import (
    MAX_KEY_BYTES,
    Signer,
    jwk_signer,
    jwk_thumbprint,
    load_key,
    thumbprint,
    x5c_signer,
)
from cftpki_connectors.support import threads
from cftpki_connectors.support.secret_files import MAX_PASSWORD_BYTES, secret_bytes
from cftpki_ext.core.errors import InputError, KeyUnavailableError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault, PrivateKey
from cftpki_ext.support.files import MAX_PEM_BYTES
from cftpki_ext.support.guarded import read_guarded


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """
    Who signs tokens for this provisioner, and what the CA lists about it (`None`: the CA does not tell).
    """

    signer: Signer
    listed: Provisioner | None
    until: datetime | None = None  # the end of an X5C chain's leaf: nothing issued by it lasts longer


async def load(
    options: StepCaOptions, client: StepCaClient, *, now: datetime, deadline: float
) -> Credentials:
    """
    Read the files anew and look the provisioner up, so that what the CA would refuse vaguely is told exactly.

    Args:
        options: the provisioner and the files.
        client: a verified one.
        now: for the chain's validity.
        deadline: monotonic seconds.

    Raises:
        CaError: MISCONFIGURED with what is wrong, or the CA was not heard.

    """
    password = None
    if options.password_file is not None:
        path = options.password_file
        password = await threads.call(lambda: _secret(path, "password_file", MAX_PASSWORD_BYTES))
        password = password.removesuffix(b"\n").removesuffix(b"\r")
    listed = await _listed(options, client, deadline)
    if options.chain_file is not None:
        return await _x5c(options, password, listed, now)
    if options.key_file is not None:
        key = await _key_file(options.key_file, password)
        return _jwk(options, key, listed)
    return await _encrypted(options, password, listed, client, deadline)


async def _x5c(
    options: StepCaOptions, password: bytes | None, listed: list[Provisioner] | None, now: datetime
) -> Credentials:
    chain_file, key_file = options.chain_file, options.key_file
    if chain_file is None or key_file is None:  # the options demand both
        raise CaError(Fault.MISCONFIGURED, "chain_file and key_file belong together")
    entry = _only(options, "X5C", listed)
    key = await _key_file(key_file, password)
    chain = await threads.call(lambda: _chain(chain_file))
    leaf = chain[0]
    fault = None
    if not planner.same_key(key, leaf):
        fault = f"the key in {key_file} is not that of the first certificate"
    elif not planner.has_client_auth(leaf):
        fault = "the certificate has no clientAuth, which an X5C provisioner demands"
    elif not _signs(leaf):
        fault = "the certificate's key usage has no digitalSignature, which an X5C provisioner demands"
    elif not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
        fault = (
            f"the certificate is valid from {leaf.not_valid_before_utc} to {leaf.not_valid_after_utc} only"
        )
    if fault is not None:
        raise CaError(Fault.MISCONFIGURED, f"chain_file {chain_file}: {fault}")
    ders = [certificate.public_bytes(Encoding.DER) for certificate in chain]
    signer = x5c_signer(key, chain=ders, provisioner=options.provisioner)
    return Credentials(signer=signer, listed=entry, until=leaf.not_valid_after_utc)


def _jwk(options: StepCaOptions, key: PrivateKey, listed: list[Provisioner] | None) -> Credentials:
    ours = thumbprint(key)
    if listed is None:
        kid, entry = options.kid or ours, None
    else:
        matching = [one for one in _of_kind(options, "JWK", listed) if jwk_thumbprint(one.key) == ours]
        if not matching:
            detail = f"the key in {options.key_file} (thumbprint {ours}) is not that of provisioner {options.provisioner!r}"
            raise CaError(Fault.MISCONFIGURED, detail)
        entry = matching[0]
        kid = entry.kid
    return Credentials(
        signer=jwk_signer(key, provisioner=options.provisioner, kid=kid),
        listed=entry,
    )


async def _encrypted(
    options: StepCaOptions,
    password: bytes | None,
    listed: list[Provisioner] | None,
    client: StepCaClient,
    deadline: float,
) -> Credentials:
    entry = _only(options, "JWK", listed)
    kid = options.kid or (entry.kid if entry is not None else None)
    if kid is None:
        raise CaError(Fault.MISCONFIGURED, "the CA does not list its provisioners: kid or key_file is needed")
    try:
        text = await client.encrypted_key(kid, deadline=deadline)
    except ErrorAnswerError as error:
        if error.status != 404:
            raise
        detail = f"the CA keeps no encrypted key of provisioner {options.provisioner!r}: key_file is needed"
        raise CaError(Fault.MISCONFIGURED, detail) from error
    key = await _decrypt(text, password, f"the key of provisioner {options.provisioner!r}")
    return Credentials(signer=jwk_signer(key, provisioner=options.provisioner, kid=kid), listed=entry)


async def _listed(options: StepCaOptions, client: StepCaClient, deadline: float) -> list[Provisioner] | None:
    """
    The provisioners with our name; `None` where the CA (or a proxy) does not show its list.
    """
    try:
        everybody = await client.provisioners(deadline=deadline)
    except ErrorAnswerError as error:
        if error.fault is Fault.REFUSED:
            return None
        raise
    ours = [one for one in everybody if one.name == options.provisioner]
    if not ours:
        known = printable(", ".join(sorted(f"{one.name} ({one.kind})" for one in everybody))) or "none"
        detail = f"the CA has no provisioner {options.provisioner!r}; it has: {known}"
        raise CaError(Fault.MISCONFIGURED, detail)
    return ours


def _of_kind(options: StepCaOptions, kind: str, listed: Iterable[Provisioner]) -> list[Provisioner]:
    named = list(listed)
    fitting = [one for one in named if one.kind == kind and (options.kid is None or one.kid == options.kid)]
    if not fitting:
        kinds = ", ".join(sorted({printable(one.kind) for one in named}))
        which = f" with kid {options.kid!r}" if options.kid is not None else ""
        needs = "chain_file makes it X5C" if kind == "X5C" else "without chain_file it is JWK"
        detail = f"provisioner {options.provisioner!r} is of type {kinds}, not {kind}{which} ({needs})"
        raise CaError(Fault.MISCONFIGURED, detail)
    return fitting


def _only(options: StepCaOptions, kind: str, listed: list[Provisioner] | None) -> Provisioner | None:
    if listed is None:
        return None
    fitting = _of_kind(options, kind, listed)
    if len(fitting) > 1:
        kids = ", ".join(printable(one.kid) for one in fitting)
        detail = f"provisioner {options.provisioner!r} has {len(fitting)} keys, kid must name one of: {kids}"
        raise CaError(Fault.MISCONFIGURED, detail)
    return fitting[0]


async def _key_file(path: Path, password: bytes | None) -> PrivateKey:
    data = await threads.call(lambda: _secret(path, "key_file", MAX_KEY_BYTES))
    return await _decrypt(data, password, f"key_file {path}")


async def _decrypt(data: bytes, password: bytes | None, what: str) -> PrivateKey:
    """
    In a thread: the rounds of PBKDF2 take longer than a handshake may wait.
    """
    try:
        return await threads.call(lambda: load_key(data, password))
    except KeyUnavailableError as error:
        raise CaError(Fault.MISCONFIGURED, f"{what} {error}") from error


def secret(path: Path, what: str) -> Callable[[], bytes]:
    """
    The reading of a one-line secret, for a thread.
    """
    return lambda: _secret(path, what, MAX_PASSWORD_BYTES).rstrip(b"\r\n")


def _secret(path: Path, what: str, cap: int) -> bytes:
    try:
        return secret_bytes(path, what, cap)
    except InputError as error:
        raise CaError(Fault.MISCONFIGURED, str(error)) from error


def _chain(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(read_guarded(path, cap=MAX_PEM_BYTES, what="chain_file").data)
    except InputError as error:
        raise CaError(Fault.MISCONFIGURED, str(error)) from error
    except (ValueError, x509.InvalidVersion) as error:
        detail = f"chain_file: {path} holds no certificates in PEM, or one that cannot be read"
        raise CaError(Fault.MISCONFIGURED, detail) from error


def _signs(leaf: x509.Certificate) -> bool:
    try:
        return leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        return False  # step-ca reads an absent key usage as none
