"""
What outlives an order: the account's key and URL, which certificates it got, and whose its open orders are.

Owns the files, one folder for each directory URL, and the locks over them; every change is a new file renamed into place. Knows no network.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cftpki_connectors.acme.jose import SigningKey, load_signing_key
from cftpki_connectors.ca.client import CaError
from cftpki_connectors.support import threads
from cftpki_connectors.support.secret_files import secret_text
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault
from cftpki_ext.ports.clock import Clock
from cftpki_ext.support.failures import reason_of
from cftpki_ext.support.files import read_regular
from cftpki_ext.support.logs import event_log

MAX_FILE_BYTES = 64 * 1024
# Damaged, these count as missing: the CA finds the account by its key, and the next renewal names nothing that it replaces.
_FOUND_AGAIN = frozenset({"account.json", "issued.json"})
# Certificates that a renewal may name as replaced: those of every identity for some generations.
MAX_ISSUED = 256
_LOCK_POLL_S = 0.05


class Lock(enum.StrEnum):
    """
    What only one process and task at a time may do; who needs two takes the upper one first.
    """

    ATTEMPTS = "attempts.lock"  # shared by attempts to move an order on; whoever changes the key is alone
    ORDERS = "orders.lock"  # place an order, or take up one whose URL was lost; what came of it
    ACCOUNT = "lock"  # make or change the account


class BusyError(CaError):
    """
    Somebody else held a lock until the deadline.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """
    An account as it is on the disk. Without `url` the CA may or may not know the key.
    """

    key: SigningKey | None
    pending: SigningKey | None  # a key change that may or may not have come through
    url: str | None
    orders: str | None
    contact: tuple[str, ...]
    key_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """
    An open order that is somebody's, until the CA forgets it.
    """

    order: str
    until: datetime


class AccountStore:
    """
    The folder of one account.

    Args:
        state: the enroller's own folder.
        directory: the CA's directory URL; another URL is another account.
        clock: for waiting.

    """

    def __init__(self, state: Path, directory: str, clock: Clock) -> None:
        self._folder = state / f"account-{hashlib.sha256(directory.encode()).hexdigest()[:16]}"
        self._directory = directory
        self._clock = clock

    @contextlib.asynccontextmanager
    async def locked(
        self, which: Lock = Lock.ACCOUNT, *, deadline: float, shared: bool = False
    ) -> AsyncIterator[None]:
        """
        Hold a lock, over all processes and tasks of this host.

        Raises:
            BusyError: somebody else held it until the deadline.
            CaError: the folder cannot be used.

        """
        with _disk():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._folder / which, flags, 0o600)
        try:
            while not _taken(descriptor, shared=shared):
                if self._clock.monotonic() >= deadline:
                    raise BusyError(Fault.UNREACHABLE, "another process is busy with the account")
                await asyncio.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(descriptor)

    def load(self) -> Stored:
        """
        What is there.

        Raises:
            CaError: a file cannot be read, is not ours, or others can read the key.

        """
        with _disk():
            account = self._json("account.json")
            key_file = self._folder / "key.pem"
            since = datetime.fromtimestamp(key_file.stat().st_mtime, UTC) if key_file.exists() else None
            contact = account.get("contact")
            url, orders = account.get("url"), account.get("orders")
            return Stored(
                key=self._key("key.pem"),
                pending=self._key("key-pending.pem"),
                url=url if isinstance(url, str) else None,
                orders=orders if isinstance(orders, str) else None,
                contact=tuple(map(str, contact)) if isinstance(contact, list) else (),
                key_since=since,
            )

    async def save_key(self, key: SigningKey) -> None:
        """
        Keep a key before the CA hears of it.
        """
        await _on_disk(lambda: self._write("key.pem", key.pem()))

    async def save_pending(self, key: SigningKey) -> None:
        """
        Keep the key that a key change brings, before the CA hears of it.
        """
        await _on_disk(lambda: self._write("key-pending.pem", key.pem()))

    async def promote_pending(self) -> None:
        """
        The key change came through.
        """
        await _on_disk(self._promote)

    async def drop_pending(self) -> None:
        """
        The key change did not come through.
        """
        await _on_disk(lambda: self._remove("key-pending.pem"))

    async def save_account(self, url: str, *, contact: tuple[str, ...], orders: str | None) -> None:
        """
        Keep the account's URL.
        """
        account = {"directory": self._directory, "url": url, "contact": list(contact), "orders": orders}
        await _on_disk(lambda: self._write("account.json", json.dumps(account, indent=1).encode()))

    async def forget_account(self) -> None:
        """
        The CA does not know the account any more. The key stays: a new account may have it.
        """
        await _on_disk(lambda: self._remove("account.json", "issued.json", "claims.json"))

    def issued(self) -> tuple[str, ...]:
        """
        The identifiers (RFC 9773 4.1) of certificates that this account got, the latest last.
        """
        with _disk():
            found = self._json("issued.json").get("certificates")
        return tuple(map(str, found)) if isinstance(found, list) else ()

    async def add_issued(self, identifier: str) -> None:
        """
        Keep that this account got a certificate. Under `Lock.ORDERS`.
        """
        known = [one for one in self.issued() if one != identifier]
        kept = [*known, identifier][-MAX_ISSUED:]
        await _on_disk(lambda: self._write("issued.json", json.dumps({"certificates": kept}).encode()))

    def claims(self) -> Mapping[str, Claim]:
        """
        The open orders by identity; each has one at most.
        """
        with _disk():
            found, now = self._json("claims.json"), self._clock.now()
        try:
            claims = {name: _claim(one) for name, one in found.items()}
        except ValueError as error:
            detail = f"{self._folder / 'claims.json'} cannot be read, remove it: {error}"
            raise CaError(Fault.MISCONFIGURED, detail) from error
        return {identity: claim for identity, claim in claims.items() if claim.until > now}

    async def claim(self, identity: str, claim: Claim | None) -> None:
        """
        Keep whose an order is before it is used, or that it is over. Under `Lock.ORDERS`.
        """
        claims = {name: one for name, one in self.claims().items() if name != identity}
        if claim is not None:
            claims[identity] = claim
        document = {
            name: {"order": one.order, "until": one.until.isoformat()} for name, one in claims.items()
        }
        await _on_disk(lambda: self._write("claims.json", json.dumps(document).encode()))

    def _json(self, name: str) -> dict[str, object]:
        path = self._folder / name
        if not path.exists():
            return {}
        try:
            value = json.loads(read_regular(path, cap=MAX_FILE_BYTES, what=name).data)
        except InputError as error:
            raise CaError(Fault.MISCONFIGURED, f"{path} cannot be read: {reason_of(error)}") from error
        except (ValueError, RecursionError) as error:
            if name not in _FOUND_AGAIN:
                raise CaError(Fault.MISCONFIGURED, f"{path} cannot be read: {reason_of(error)}") from error
            event_log().warning("acme_record_damaged", file=str(path), error=reason_of(error))
            return {}
        return value if isinstance(value, dict) else {}

    def _key(self, name: str) -> SigningKey | None:
        path = self._folder / name
        if not path.exists():
            return None
        try:
            return load_signing_key(secret_text(path, "account key").encode())
        except InputError as error:
            raise CaError(Fault.MISCONFIGURED, f"{path}: {error}") from error

    def _promote(self) -> None:
        (self._folder / "key-pending.pem").replace(self._folder / "key.pem")
        self._sync()

    def _remove(self, *names: str) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)
        self._sync()

    def _write(self, name: str, data: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp makes files 0600, whatever the umask.
        descriptor, partial = tempfile.mkstemp(prefix=".new-", dir=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(partial).replace(self._folder / name)
        except OSError:
            Path(partial).unlink(missing_ok=True)
            raise
        self._sync()

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _claim(value: object) -> Claim:
    match value:
        case {"order": str(order), "until": str(until)}:
            return Claim(order=order, until=datetime.fromisoformat(until))
    msg = f"{value!r} is no order with its end"
    raise ValueError(msg)


def _taken(descriptor: int, *, shared: bool) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    """
    A disk that refuses is the operator's business, not the CA's.
    """
    try:
        yield
    except OSError as error:
        detail = f"the account's folder cannot be used: {error.strerror or error}"
        raise CaError(Fault.MISCONFIGURED, detail) from error


async def _on_disk(work: Callable[[], None]) -> None:
    """
    In a thread: waiting for the disk must not hold up handshakes.
    """
    with _disk():
        await threads.call(work)
