"""
Identities from files: a chain (PEM or DER) and a PKCS#8 key, read again when they change.

Owns the checks at load.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from cftpki_ext.core.errors import InputError, KeyUnavailableError
from cftpki_ext.core.identity_settings import AnyIdentity, Identity, TokenIdentity
from cftpki_ext.core.pkcs11_uri import TokenKey
from cftpki_ext.identity import KeyLoader, LoadedIdentity, PrivateKey
from cftpki_ext.identity.serving.watched import WatchedIdentities
from cftpki_ext.identity.store.layout import Log
from cftpki_ext.support.files import FileContent, others_may_use, read_regular
from cftpki_ext.support.pem import certificates
from cftpki_ext.x509.certificate import Certificate, parse_certificate

# Ten certificates of 4 KB with PEM and text around them.
MAX_CHAIN_BYTES = 256 * 1024
# An RSA-16384 key is 13 KB in PEM.
MAX_KEY_BYTES = 64 * 1024
MAX_PASSWORD_BYTES = 1024
MAX_CHAIN_CERTIFICATES = 10

OwnKey = Identity | TokenIdentity
# (where the key is, the leaf's public key, what gives the PIN): see `cftpki_connectors.pkcs11.open_key`.
OpenToken = Callable[[TokenKey, Any, Callable[[], bytes | None]], PrivateKey]
Marks = tuple[tuple[int, ...] | None, ...]


def no_tokens(place: TokenKey, _public: object, _pin: object) -> PrivateKey:
    """
    What opens keys on tokens in a program that has nothing for that.
    """
    msg = f"{place}: this program has no access to tokens"
    raise KeyUnavailableError(msg)


def load_identity(
    identity: OwnKey, *, generation: int, environ: Mapping[str, str], open_token: OpenToken = no_tokens
) -> LoadedIdentity:
    """
    Read and check one identity. Blocking: file reads, and for an encrypted key its key derivation.

    Whether the chain leads to any anchor, and whether it is valid today, is *not* checked: a partner decides
    that, and an expired chain is still better known to the operator than none.

    Args:
        identity: where the files are.
        generation: the number that the result carries.
        environ: where `password_env` is looked up.
        open_token: opens a key on a token.

    Returns:
        The identity: each certificate parses, each is issued (by name) by the next, the key is the leaf's.

    Raises:
        KeyUnavailableError: anything is wrong; the message names the file and never what is in it.

    """
    what = f"identity {identity.name!r}"
    chain = load_chain(identity)
    if isinstance(identity, TokenIdentity):
        key = _token_key(what, identity, chain[0], environ, open_token)
        return LoadedIdentity(
            name=identity.name, generation=generation, chain=chain, key=key, hand_over_key=False
        )
    key = _load_key(what, identity, environ)
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if public != chain[0].spki:
        msg = f"{what}: the key in {identity.key_file} is not the one of the first certificate in {identity.chain_file}"
        raise KeyUnavailableError(msg)
    return LoadedIdentity(
        name=identity.name, generation=generation, chain=chain, key=key, hand_over_key=identity.hand_over_key
    )


def load_chain(identity: OwnKey) -> tuple[Certificate, ...]:
    """
    Read and check the chain of an identity, without its key. Blocking.

    Args:
        identity: where the files are.

    Returns:
        Leaf first; each is issued (by name) by the next.

    Raises:
        KeyUnavailableError: anything is wrong; the message names the file.

    """
    what = f"identity {identity.name!r}"
    try:
        content = read_regular(identity.chain_file, cap=MAX_CHAIN_BYTES, what=f"{what}: chain")
        ders = certificates(content.data, what=f"{what}: {identity.chain_file}")
        chain = tuple(parse_certificate(der) for der in ders)
    except InputError as error:
        msg = str(error) if str(error).startswith(what) else f"{what}: {identity.chain_file}: {error}"
        raise KeyUnavailableError(msg) from error
    if not 1 <= len(chain) <= MAX_CHAIN_CERTIFICATES:
        msg = f"{what}: {identity.chain_file} holds {len(chain)} certificates, 1 to {MAX_CHAIN_CERTIFICATES} expected"
        raise KeyUnavailableError(msg)
    _check_order(what, chain)
    return chain


def _check_order(what: str, chain: tuple[Certificate, ...]) -> None:
    for index, (lower, upper) in enumerate(pairwise(chain)):
        if lower.issuer.key != upper.subject.key:
            msg = (
                f"{what}: certificate {index} is issued by {lower.issuer.text!r}, "
                f"but certificate {index + 1} is {upper.subject.text!r}"
            )
            raise KeyUnavailableError(msg)


def _token_key(
    what: str, identity: TokenIdentity, leaf: Certificate, environ: Mapping[str, str], open_token: OpenToken
) -> PrivateKey:
    public = serialization.load_der_public_key(leaf.spki)
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        msg = f"{what}: keys on tokens are RSA or EC, the certificate's is another"
        raise KeyUnavailableError(msg)

    def pin() -> bytes | None:
        try:
            return _password(what, identity, environ)
        except InputError as error:
            raise KeyUnavailableError(str(error)) from error

    try:
        return open_token(identity.key, public, pin)
    except KeyUnavailableError as error:
        msg = f"{what}: {error}"
        raise type(error)(msg) from error


def _load_key(what: str, identity: Identity, environ: Mapping[str, str]) -> PrivateKey:
    path = identity.key_file
    try:
        content = read_regular(path, cap=MAX_KEY_BYTES, what=f"{what}: key")
        _check_private(what, path, content)
        password = _password(what, identity, environ)
    except InputError as error:
        raise KeyUnavailableError(str(error)) from error
    load = (
        serialization.load_pem_private_key
        if b"-----BEGIN" in content.data
        else serialization.load_der_private_key
    )
    try:
        key = load(content.data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Nothing of the library's message is kept, also below: it is about a private key.
        state = "with the given password" if password is not None else "without a password"
        msg = f"{what}: {path} cannot be read {state}"
        raise KeyUnavailableError(msg) from None
    if not isinstance(
        key,
        rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey,
    ):
        msg = f"{what}: the key in {path} is of a kind that TLS cannot use"
        raise KeyUnavailableError(msg)
    return key


def _check_private(what: str, path: Path, content: FileContent) -> None:
    """
    Owner: us or root. Mode: nobody else's.
    """
    if content.owner not in {0, os.geteuid()}:
        msg = f"{what}: {path} belongs to user {content.owner}, not to this service's user or root"
        raise InputError(msg)
    if others_may_use(content):
        msg = f"{what}: {path} has mode {content.mode:04o}, others may use it; chmod 0600 it"
        raise InputError(msg)


def _password(what: str, identity: OwnKey, environ: Mapping[str, str]) -> bytes | None:
    if identity.password_file is not None:
        content = read_regular(identity.password_file, cap=MAX_PASSWORD_BYTES, what=f"{what}: password")
        _check_private(what, identity.password_file, content)
        return content.data.rstrip(b"\r\n") or None
    if identity.password_env is not None:
        value = environ.get(identity.password_env)
        if value is None:
            msg = f"{what}: environment variable {identity.password_env} is not set"
            raise InputError(msg)
        return value.encode()
    return None


class FileIdentities(WatchedIdentities[OwnKey]):
    """
    The identities from files: these are looked at (not read) at every use; when one has changed, all are read again.
    """

    def __init__(
        self, identities: Mapping[str, AnyIdentity], *, keys: KeyLoader, warning: Log, info: Log
    ) -> None:
        super().__init__(identities, kinds=(Identity, TokenIdentity), keys=keys, warning=warning, info=info)

    def mark(self, identity: OwnKey) -> Marks:
        """
        Which files there are, and as of when.
        """
        return _marks(identity)


def _marks(identity: OwnKey) -> Marks:
    key = identity.key_file if isinstance(identity, Identity) else None
    paths = (identity.chain_file, key, identity.password_file)
    return tuple(mark_of(path) for path in paths if path is not None)


def mark_of(path: Path) -> tuple[int, ...] | None:
    """
    What changes with a file's content, owner or mode; `None` where there is none that can be looked at.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_mode,
        status.st_uid,
    )
