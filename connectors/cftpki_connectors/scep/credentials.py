"""
Who we are to a SCEP server: the challenge password, and the key that answers are encrypted to.

Owns the file `envelope.key.pem` in the enroller's state folder. The password's file is read anew for every attempt.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from cftpki_connectors.scep.writing import MAX_CHALLENGE_CHARACTERS
from cftpki_connectors.support.secret_files import MAX_PASSWORD_BYTES, secret_bytes
from cftpki_ext.core.errors import InputError, KeyUnavailableError, StoreError
from cftpki_ext.identity.enroller_port import KeyKind
from cftpki_ext.identity.store.durable import make_directory, sync_directory, write_new
from cftpki_ext.identity.store.private_keys import from_pem, make_key, to_pem

FILE_NAME = "envelope.key.pem"
# What a killed process left behind, swept away once there is a key.
_PARTIAL = ".envelope-"


def challenge_in(path: Path | None) -> str | None:
    """
    The password on the first line of its file. Blocking.

    Args:
        path: the file; `None` where none is configured.

    Returns:
        The password, `None` where none is configured.

    Raises:
        InputError: it cannot be read, is exposed, empty, too long, or no text. The message never holds it.

    """
    if path is None:
        return None
    try:
        text = secret_bytes(path, "challenge_file", MAX_PASSWORD_BYTES).decode()
    except UnicodeDecodeError:
        msg = f"challenge_file {path} is not UTF-8"
        raise InputError(msg) from None
    password = text.strip("\r\n")
    if not password or "\n" in password or len(password) > MAX_CHALLENGE_CHARACTERS:
        msg = f"challenge_file {path} must hold one line with at most {MAX_CHALLENGE_CHARACTERS} characters"
        raise InputError(msg)
    return password


def envelope_key(folder: Path) -> rsa.RSAPrivateKey:
    """
    The RSA key that signs first requests and opens their answers, where the identity's own key cannot. Blocking.

    It is made once for an enroller. What it opens are certificates, which are public: whoever has it can read when we
    get one, and nothing else.

    Args:
        folder: the enroller's state.

    Returns:
        The key, which is on the disk.

    Raises:
        InputError: it cannot be read or kept.

    """
    path = folder / FILE_NAME
    try:
        if not path.exists():
            _make(path)
        for left in folder.glob(f"{_PARTIAL}*"):
            left.unlink(missing_ok=True)
        key = from_pem(path, None)
    except (KeyUnavailableError, StoreError, OSError) as error:
        msg = f"the key for answers cannot be used: {error}; if it is damaged, remove it"
        raise InputError(msg) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        msg = f"the key for answers in {path} is not RSA: remove it"
        raise InputError(msg)
    return key


def _make(path: Path) -> None:
    """
    Whoever comes first makes it: several identities may begin at once, in processes of their own.
    """
    make_directory(path.parent)
    partial = path.parent / f"{_PARTIAL}{secrets.token_hex(8)}"
    write_new(partial, to_pem(make_key(KeyKind.RSA2048), None))
    # Somebody else was first, and may have swept ours away already.
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        os.link(partial, path)
    sync_directory(path.parent)
