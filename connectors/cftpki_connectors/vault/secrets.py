"""
The operator's secrets: tokens, secret ids and JWTs from files, and what a wrapping token stood for.

Owns the file `unwrapped.json` in the enroller's state folder: a wrapping token can be used once, so what was in it has to
outlive the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from cftpki_connectors.ca.client import CaError
from cftpki_connectors.support import threads
from cftpki_connectors.support.secret_files import secret_bytes, secret_text
from cftpki_connectors.vault.answers import is_token
from cftpki_connectors.vault.client import ErrorAnswerError, VaultClient
from cftpki_connectors.vault.options import Wrapping
from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import EnrollerContext, Fault
from cftpki_ext.identity.store.durable import replace_file

KEPT = "unwrapped.json"
_LOCK = "unwrapping.lock"
_LOCK_POLL_S = 0.05
_MAX_KEPT_BYTES = 64 * 1024

# Finds the secret in what a wrapping token stood for; `None` where it is something else.
Pick = Callable[[Mapping[str, object]], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """
    Which wrapping token was used (SHA-256), and what was in it; without `value` the attempt did not come to its end.
    """

    of: str
    value: str | None


class Secrets:
    """
    Reads secrets anew each time.

    Args:
        context: the state folder and the clock.

    """

    def __init__(self, context: EnrollerContext) -> None:
        self._state = context.state
        self._clock = context.clock

    async def text(self, path: Path, what: str) -> str:
        """
        A secret of one line.

        Raises:
            CaError: MISCONFIGURED: it cannot be read, others can read it, or it is no token.

        """
        try:
            text = await threads.call(lambda: secret_text(path, what))
        except InputError as error:
            raise CaError(Fault.MISCONFIGURED, str(error)) from error
        if not is_token(text):
            msg = f"{what} {path} holds no token: one line of visible characters is needed"
            raise CaError(Fault.MISCONFIGURED, msg)
        return text

    async def value(
        self, path: Path, what: str, content: Wrapping, client: VaultClient, *, pick: Pick, deadline: float
    ) -> str:
        """
        A secret that may be wrapped.

        A wrapping token is used once, under a lock over all processes, and what was in it is on the disk before anybody
        uses it. Another token in the file is another secret.

        Args:
            path: the file.
            what: the option that names it.
            content: whether it is wrapped.
            client: unwraps.
            pick: finds the secret.
            deadline: monotonic seconds.

        Returns:
            The secret.

        Raises:
            CaError: it cannot be had; somebody else may have it.

        """
        text = await self.text(path, what)
        if content is Wrapping.PLAIN:
            return text
        mark = hashlib.sha256(text.encode()).hexdigest()
        async with self._locked(deadline):
            kept = await threads.call(self._load)
            if kept is not None and kept.of == mark and kept.value is not None:
                return kept.value
            tried = kept is not None and kept.of == mark
            # Written first: a disk that is full must not cost what can be had once.
            await self._keep(Kept(of=mark, value=None))
            try:
                fields = await client.unwrap(text, deadline=deadline)
            except ErrorAnswerError as error:
                if error.fault is Fault.UNREACHABLE or error.fault is Fault.RATE_LIMITED:
                    raise
                raise CaError(Fault.MISCONFIGURED, _used(what, path, error.detail, tried=tried)) from error
            value = pick(fields)
            if not isinstance(value, str) or not is_token(value):
                msg = f"{what} {path}: what was wrapped is not what belongs there"
                raise CaError(Fault.MISCONFIGURED, msg)
            await self._keep(Kept(of=mark, value=value))
            return value

    def _load(self) -> Kept | None:
        path = self._state / KEPT
        if not path.exists():
            return None
        try:
            fields = json.loads(secret_bytes(path, "the kept secret", _MAX_KEPT_BYTES))
        except (ValueError, RecursionError, InputError):
            return None  # damaged, or not ours: the wrapping token decides
        match fields:
            case {"of": str(of), "value": None}:
                return Kept(of=of, value=None)
            case {"of": str(of), "value": str(value)} if is_token(value):
                return Kept(of=of, value=value)
        return None

    async def _keep(self, kept: Kept) -> None:
        data = json.dumps({"of": kept.of, "value": kept.value}).encode()
        try:
            await threads.call(lambda: replace_file(self._state / KEPT, data))
        except StoreError as error:
            raise CaError(Fault.MISCONFIGURED, f"the unwrapped secret cannot be kept: {error}") from error

    @contextlib.asynccontextmanager
    async def _locked(self, deadline: float) -> AsyncIterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(self._state / _LOCK, flags, 0o600)
        except OSError as error:
            msg = f"the enroller's folder cannot be used: {(error.strerror or str(error)).lower()}"
            raise CaError(Fault.MISCONFIGURED, msg) from error
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._clock.monotonic() >= deadline:
                        msg = "another process is unwrapping the secret"
                        raise CaError(Fault.UNREACHABLE, msg) from None
                    await asyncio.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(descriptor)


def _used(what: str, path: Path, detail: str, *, tried: bool) -> str:
    if tried:
        return (
            f"{what} {path}: the wrapping token was used in an attempt of ours that was cut short, or has ended "
            f"({detail}): put a new one there, and if you cannot be sure that it was ours, revoke what was in it"
        )
    return (
        f"{what} {path}: the wrapping token has ended or somebody else has used it ({detail}): find out which, revoke what was "
        "in it, and put a new one there"
    )
