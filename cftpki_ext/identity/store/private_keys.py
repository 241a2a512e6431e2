"""
Private keys of ours as they are on the disk: PKCS#8 in PEM, encrypted where a password is configured.

Owns their form at rest. The files themselves are written by `durable` with mode 0600.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cftpki_ext.core.errors import InputError, KeyUnavailableError, PassingError
from cftpki_ext.core.vocabulary import KeyKind
from cftpki_ext.identity.enroller_port import PrivateKey
from cftpki_ext.support.files import is_passing, others_may_use, read_regular

MAX_KEY_BYTES = 64 * 1024
MAX_PASSWORD_BYTES = 1024
_RSA_BITS = {KeyKind.RSA2048: 2048, KeyKind.RSA3072: 3072, KeyKind.RSA4096: 4096}


def make_key(kind: KeyKind) -> PrivateKey:
    """
    Make a key. RSA takes a tenth of a second and more.

    Args:
        kind: algorithm and size.

    Returns:
        A secret that is nowhere yet but in memory.

    """
    if kind in _RSA_BITS:
        return rsa.generate_private_key(65537, _RSA_BITS[kind])
    return ec.generate_private_key(ec.SECP256R1() if kind is KeyKind.P256 else ec.SECP384R1())


def key_kind(key: object) -> str:
    """
    The kind of a private or public key in our words, e.g. `rsa2048`; other keys by their type's name.
    """
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return f"rsa{key.key_size}"
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return f"p{key.curve.key_size}"
    return type(key).__name__


def public_bytes(key: PrivateKey) -> bytes:
    """
    The SubjectPublicKeyInfo of a key (DER).
    """
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def to_pem(key: PrivateKey, password: bytes | None) -> bytes:
    """
    A key as it is stored.

    Args:
        key: the secret.
        password: encrypts it; without one it is in the clear and only the file's mode protects it.

    Returns:
        PKCS#8 in PEM.

    """
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        protection = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def from_pem(path: Path, password: bytes | None) -> PrivateKey:
    """
    Read a key that `to_pem` wrote. One in the clear is taken also where a password is configured by now.

    Args:
        path: the file: ours, and nobody else's to read.
        password: where it is encrypted.

    Returns:
        The secret.

    Raises:
        KeyUnavailableError: unreadable, exposed, wrong password; the message holds nothing of the key.
        PassingError: nobody can look now: the key may well be good.

    """
    try:
        content = read_regular(path, cap=MAX_KEY_BYTES, what="key")
    except InputError as error:
        if is_passing(error):
            raise PassingError(str(error)) from error
        raise KeyUnavailableError(str(error)) from error
    # Not root's either: a command of root's reads as the owner of the state what he could not, and a link leads anywhere.
    if content.owner != os.geteuid() or content.mode & 0o077:
        msg = f"key: {path} belongs to user {content.owner} with mode {content.mode:04o}; ours with 0600 expected"
        raise KeyUnavailableError(msg)
    encrypted = b"ENCRYPTED" in content.data[:64]
    try:
        key = serialization.load_pem_private_key(content.data, password if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        state = "without a password" if password is None else "with the configured password"
        msg = f"key: {path} cannot be read {state}"
        raise KeyUnavailableError(msg) from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        msg = f"key: {path} is neither RSA nor ECDSA"
        raise KeyUnavailableError(msg)
    return key


def read_password(path: Path | None) -> bytes | None:
    """
    The password that encrypts keys at rest.

    Args:
        path: the configured file, or none.

    Returns:
        Its first line's bytes, `None` where no file is configured.

    Raises:
        KeyUnavailableError: unreadable, exposed to others, or empty: then no key is written at all.
        PassingError: nobody can look now.

    """
    if path is None:
        return None
    try:
        content = read_regular(path, cap=MAX_PASSWORD_BYTES, what="password")
    except InputError as error:
        if is_passing(error):
            raise PassingError(str(error)) from error
        raise KeyUnavailableError(str(error)) from error
    if others_may_use(content):
        msg = f"password: {path} can be read or written by others (mode {content.mode:04o}): chmod 600 {path}"
        raise KeyUnavailableError(msg)
    password = content.data.rstrip(b"\r\n")
    if not password:
        msg = f"password: {path} is empty"
        raise KeyUnavailableError(msg)
    return password
