"""
Private keys looked at by another process: what it read of them is gone with it.

The service's front must never hold a private key, not even in memory that it has given back. It checks its configuration
all the same: a fork looks while there is one thread, a program of its own later.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm

from cftpki_ext.config.credentials import KeyFiles, key_faults

# One slow disk; whoever reloads waits for it.
_WITHIN_S = 60.0
_UNUSABLE = "unusable"


def faults_found_apart(files: KeyFiles) -> Iterator[tuple[str, str]]:
    """
    As `credentials.key_faults`, by another process. One that ends without an answer is a fault.

    Args:
        files: see there.

    Yields:
        See there.

    Raises:
        ValueError: chain or key are of a kind that cannot be compared.

    """
    try:
        answer = json.loads(_forked(files) if threading.active_count() == 1 else _executed(files))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        yield "key", f"key: {files.key_file or files.chain_file} cannot be looked at: {error}"
        return
    if answer == _UNUSABLE:
        raise ValueError(_UNUSABLE)
    for key, message in answer:
        yield str(key), str(message)


def _look(files: KeyFiles) -> bytes:
    try:
        found: object = list(key_faults(files))
    except (ValueError, UnsupportedAlgorithm):
        # Nothing of the message is kept: it may be about a private key.
        found = _UNUSABLE
    return json.dumps(found).encode()


def _forked(files: KeyFiles) -> bytes:
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        _answer(theirs, files)
    os.close(theirs)
    try:
        with open(ours, "rb") as answer:  # noqa: PTH123 - a descriptor
            return answer.read()
    finally:
        os.waitpid(pid, 0)


def _answer(number: int, files: KeyFiles) -> NoReturn:
    try:
        answer = _look(files)
        while answer:
            answer = answer[os.write(number, answer) :]
    finally:
        # Nothing that the parent has begun is ended here, and no buffer of its is written twice.
        os._exit(0)


def _executed(files: KeyFiles) -> bytes:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "cftpki_ext.config.apart"],
        input=json.dumps(_plain(files)).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=_WITHIN_S,
        check=True,
    )
    return done.stdout


def _plain(files: KeyFiles) -> dict[str, str | None]:
    def text(path: Path | None) -> str | None:
        return None if path is None else str(path.absolute())

    return {
        "chain_file": text(files.chain_file),
        "key_file": text(files.key_file),
        "password_file": text(files.password_file),
        "password_env": files.password_env,
    }


def _files_of(plain: dict[str, Any]) -> KeyFiles:
    def path(name: str) -> Path | None:
        return None if plain[name] is None else Path(plain[name])

    return KeyFiles(
        chain_file=Path(plain["chain_file"]),
        key_file=path("key_file"),
        password_file=path("password_file"),
        password_env=plain["password_env"],
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(_look(_files_of(json.load(sys.stdin))))
