"""
The journal of orders: written before each step, so that a kill at any point finds order and key again.

    DIRECTORY/journal/ID.json      what was ordered, of whom, how far it is, how it ended
    DIRECTORY/journal/ID.key.pem   its key, until the certificate has a generation of its own
    DIRECTORY/journal/ID.damaged   a record that cannot be read, set aside; its key stays as long as it does

Owns these files. For each enroller at most one order is open; it is taken up again before another one is begun.
Writers hold the identity's lock.

More than 400 lines: one file format, with what is done about a damaged one beside what reads it.
"""

from __future__ import annotations

import contextlib
import enum
import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from cftpki_ext.core.errors import InputError, PassingError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import KeyKind, Usage
from cftpki_ext.identity.enroller_port import MAX_STATE_BYTES, Issued, Names, PrivateKey
from cftpki_ext.identity.store.durable import make_directory, replace_file, sync_directory, write_new
from cftpki_ext.identity.store.owners import denied, owned_by_us
from cftpki_ext.identity.store.private_keys import from_pem, to_pem
from cftpki_ext.support.files import is_passing, read_regular

# State, a chain with alternates, roots: in base64.
MAX_RECORD_BYTES = 4 * 1024 * 1024
MAX_DETAIL = 500
# How many ended orders are kept, for `identity history` and for the search for orphans.
KEPT_ORDERS = 50
# Damaged records, which may have a key: for whoever looks for what the CA issued.
KEPT_DAMAGED = 10
_JSON = ".json"
_KEY = ".key.pem"
_DAMAGED = ".damaged"


class OversizedError(StoreError):
    """
    What should be kept of an order is more than could be read again. Nothing was written.
    """


class Outcome(enum.StrEnum):
    """
    How an order ended.
    """

    ACTIVATED = "activated"
    REJECTED = "rejected"  # issued, but not what was asked for: never put to use
    REFUSED = "refused"  # the CA said no
    LOST = "lost"  # the CA does not know it any more
    SUPERSEDED = "superseded"  # the configuration asks for something else by now
    ABANDONED = "abandoned"  # the configuration does not name its enroller any more


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64", defer_build=True)


class Received(_Record):
    """
    What the CA sent, kept before anything is made of it.
    """

    certificates: tuple[bytes, ...]
    alternates: tuple[tuple[bytes, ...], ...] = ()
    extra: tuple[bytes, ...] = ()
    notes: tuple[str, ...] = ()
    own_key: bool = True  # else the key came with the certificates, and replaced the order's

    def issued(self) -> Issued:
        """
        As the enroller gave it, but for the key.
        """
        return Issued(
            certificates=self.certificates, alternates=self.alternates, extra=self.extra, notes=self.notes
        )


class OrderRecord(_Record):
    """
    One order, as it is on the disk.
    """

    version: int = 1
    id: str
    identity: str
    enroller: str
    created_at: datetime
    common_name: str | None
    dns: tuple[str, ...]
    addresses: tuple[IPv4Address | IPv6Address, ...]
    usages: tuple[Usage, ...]
    key: KeyKind
    csr: bytes
    lifetime_s: int | None = None
    anchors: tuple[bytes, ...] = ()
    replaces: int | None = None  # the generation that was in force
    state: dict[str, JsonValue] = {}
    attempts: int = 0
    submitted_at: datetime | None = None  # before this, no CA has heard of the order
    received: Received | None = None
    outcome: Outcome | None = None
    detail: str = ""
    serial: str | None = None
    generation: int | None = None
    closed_at: datetime | None = None

    @property
    def names(self) -> Names:
        """
        What it is for.
        """
        return Names(common_name=self.common_name, dns=self.dns, addresses=self.addresses)

    @property
    def orphan(self) -> bool:
        """
        Whether the CA has, or may have, issued a certificate that nobody uses. `serial` names it where known.
        """
        unused = {Outcome.REJECTED, Outcome.LOST, Outcome.SUPERSEDED, Outcome.ABANDONED}
        return self.outcome in unused and self.submitted_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedOrder:
    """
    A record that cannot be read. With a key beside it the order may be open: a CA may have issued for it.
    """

    id: str
    path: Path
    at: datetime  # when it was last written
    detail: str
    open: bool
    set_aside: bool


class Journal:
    """
    The orders of one identity. Blocking: reads and synchronous writes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "journal"

    def begin(self, record: OrderRecord, key: PrivateKey, *, password: bytes | None) -> None:
        """
        Write a new order with its key. Nothing may be asked of a CA before this returns.

        Raises:
            StoreError: the disk refuses.

        """
        make_directory(self._directory)
        write_new(self._path(record.id, _KEY), to_pem(key, password))
        # The record last: a key without one was never shown to anybody.
        write_new(self._directory / f".new-{record.id}", _encode(record))
        try:
            (self._directory / f".new-{record.id}").rename(self._path(record.id, _JSON))
            sync_directory(self._directory)
        except OSError as error:
            msg = f"journal {self._directory}: {(error.strerror or str(error)).lower()}"
            raise StoreError(msg) from error

    def save(self, record: OrderRecord) -> None:
        """
        Write how far an order is.

        Raises:
            StoreError: the disk refuses.
            OversizedError: it could not be read again.

        """
        replace_file(self._path(record.id, _JSON), _encode(record))

    def receive(self, record: OrderRecord, issued: Issued, *, password: bytes | None) -> OrderRecord:
        """
        Write what the CA sent, before anything is made of it.

        Args:
            record: the order.
            issued: unverified; a key that came with it takes the place of the order's.
            password: encrypts such a key.

        Returns:
            The order as it is now.

        """
        if issued.key is not None:
            replace_file(self._path(record.id, _KEY), to_pem(issued.key, password))
        received = Received(
            certificates=issued.certificates,
            alternates=issued.alternates,
            extra=issued.extra,
            notes=issued.notes,
            own_key=issued.key is None,
        )
        changed = record.model_copy(update={"received": received})
        self.save(changed)
        return changed

    def key(self, record: OrderRecord, *, password: bytes | None) -> PrivateKey:
        """
        The key of an open order.

        Raises:
            KeyUnavailableError: unreadable, exposed, or the password is another one.

        """
        return from_pem(self._path(record.id, _KEY), password)

    def close(
        self,
        record: OrderRecord,
        outcome: Outcome,
        *,
        at: datetime,
        detail: str = "",
        serial: str | None = None,
        generation: int | None = None,
    ) -> OrderRecord:
        """
        Write how an order ended, and forget its key: what is in force has it in its own folder.

        Args:
            record: the order.
            outcome: how it ended.
            at: now.
            detail: one line for the operator.
            serial: of the certificate, where there is one.
            generation: that it became.

        Returns:
            The order as it is now.

        """
        closed = record.model_copy(
            update={
                "outcome": outcome,
                "detail": detail[:MAX_DETAIL],
                "serial": serial,
                "generation": generation,
                "closed_at": at,
            }
        )
        self.save(closed)
        self._path(record.id, _KEY).unlink(missing_ok=True)
        return closed

    def orders(self) -> tuple[OrderRecord, ...]:
        """
        The orders that can be read, oldest first; `damaged` has the others.

        Raises:
            StoreError: this user may not look, or nobody can now.

        """
        return self._scan()[0]

    def damaged(self) -> tuple[DamagedOrder, ...]:
        """
        The records that cannot be read, oldest first, also those that were set aside.

        Raises:
            StoreError: this user may not look, or nobody can now.

        """
        return self._scan()[1]

    def _scan(self) -> tuple[tuple[OrderRecord, ...], tuple[DamagedOrder, ...]]:
        orders, damaged = [], []
        names = self._names()
        for name in sorted(names):
            path = self._directory / name
            if name.startswith(".") or not name.endswith((_JSON, _DAMAGED)):
                continue
            detail = "its record could not be read, and was set aside"
            if name.endswith(_JSON):
                try:
                    orders.append(_decode(path))
                except PassingError:
                    raise
                except StoreError as error:
                    cause = error.__cause__ and error.__cause__.__cause__
                    if isinstance(cause, PermissionError) and not owned_by_us(self._directory):
                        raise denied(self._directory, cause) from error
                    detail = str(error)
                else:
                    continue
            with contextlib.suppress(OSError):  # gone meanwhile
                order = name.rpartition(".")[0]
                damaged.append(
                    DamagedOrder(
                        id=order,
                        path=path,
                        at=datetime.fromtimestamp(path.lstat().st_mtime, UTC),
                        detail=detail,
                        open=f"{order}{_KEY}" in names,
                        set_aside=name.endswith(_DAMAGED),
                    )
                )
        return tuple(orders), tuple(damaged)

    def _names(self) -> frozenset[str]:
        try:
            return frozenset(os.listdir(self._directory))  # noqa: PTH208 - names, not paths
        except PermissionError as error:
            raise denied(self._directory, error) from error
        except OSError as error:
            if is_passing(error):
                msg = f"{self._directory} cannot be read now: {(error.strerror or str(error)).lower()}"
                raise PassingError(msg) from error
            return frozenset()  # none yet, or something else in its place

    def open_orders(self) -> Mapping[str, OrderRecord]:
        """
        The order that is open at each enroller.
        """
        return {record.enroller: record for record in self.orders() if record.outcome is None}

    def last_generation(self) -> int:
        """
        The largest number of a generation that came from an order; 0 where none did.
        """
        return max((record.generation or record.replaces or 0 for record in self.orders()), default=0)

    def set_damaged_aside(self) -> tuple[DamagedOrder, ...]:
        """
        Put records that cannot be read out of the way, with their keys. Under the lock.

        Returns:
            Those that were put aside now.

        Raises:
            StoreError: the disk refuses.

        """
        fresh = tuple(one for one in self.damaged() if not one.set_aside)
        try:
            for one in fresh:
                one.path.rename(self._path(one.id, _DAMAGED))
            if fresh:
                sync_directory(self._directory)
        except OSError as error:
            msg = f"journal {self._directory}: {(error.strerror or str(error)).lower()}"
            raise StoreError(msg) from error
        return fresh

    def clean(self) -> None:
        """
        Remove what a killed writer left behind, and the oldest of the ended orders. Under the lock.

        A stray that cannot be removed is in nobody's way.
        """
        orders, damaged = self._scan()
        ended = [record for record in orders if record.outcome is not None]
        for record in ended[:-KEPT_ORDERS]:
            _remove(self._path(record.id, _KEY))
            _remove(self._path(record.id, _JSON))
        aside = [one for one in damaged if one.set_aside]
        for one in aside[:-KEPT_DAMAGED]:
            _remove(one.path)
        wanted = {record.id for record in orders if record.outcome is None}
        wanted |= {one.id for one in damaged if not one.set_aside} | {one.id for one in aside[-KEPT_DAMAGED:]}
        for name in self._names():
            stray = name.endswith(_KEY) and name.removesuffix(_KEY) not in wanted
            if stray or name.startswith(".new-"):
                _remove(self._directory / name)

    def _path(self, order: str, suffix: str) -> Path:
        return self._directory / f"{order}{suffix}"


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def new_id(at: datetime) -> str:
    """
    A name for an order: sorted by time, and nobody else's.
    """
    return f"{at:%Y%m%dT%H%M%S}{at.microsecond:06d}-{secrets.token_hex(6)}"


def seconds(lifetime: timedelta | None) -> int | None:
    """
    A lifetime as it stands in an order.
    """
    return None if lifetime is None else int(lifetime.total_seconds())


def checked_state(state: Mapping[str, object]) -> dict[str, Any]:
    """
    What an enroller wants kept, as plain JSON values.

    Args:
        state: of the enroller.

    Returns:
        A copy.

    Raises:
        StoreError: it is no JSON.
        OversizedError: it is larger than an order may be.

    """
    try:
        copy = _State.model_validate({"value": dict(state)})
        size = len(copy.model_dump_json())
    except ValidationError as error:
        msg = f"an enroller's state is no JSON: {error.errors()[0]['msg']}"
        raise StoreError(msg) from error
    if size > MAX_STATE_BYTES:
        msg = f"an enroller's state has {size} bytes, at most {MAX_STATE_BYTES} are kept"
        raise OversizedError(msg)
    return copy.value


class _State(BaseModel):
    value: dict[str, JsonValue]


def _encode(record: OrderRecord) -> bytes:
    data = record.model_dump_json(indent=1).encode() + b"\n"
    if len(data) > MAX_RECORD_BYTES:
        msg = f"order {record.id} with its answer has {len(data)} bytes, at most {MAX_RECORD_BYTES} are kept"
        raise OversizedError(msg)
    return data


def _first_fault(error: ValidationError) -> str:
    """
    The first field that is not as it was written, without the library's words.
    """
    place = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]
    return (
        f"field {printable('.'.join(map(str, place)))!r} is missing or not as it was written"
        if place
        else "no JSON"
    )


def _decode(path: Path) -> OrderRecord:
    try:
        raw = read_regular(path, cap=MAX_RECORD_BYTES, what="order").data
        record = OrderRecord.model_validate_json(raw)
    except InputError as error:
        if is_passing(error):
            msg = f"order {path} cannot be read now: {error}"
            raise PassingError(msg) from error
        msg = f"order {path} cannot be read: {error}"
        raise StoreError(msg) from error
    except ValidationError as error:
        msg = f"order {path} cannot be read: {_first_fault(error)}"
        raise StoreError(msg) from error
    if record.id != path.name.removesuffix(_JSON):
        # Its key is found by its id: a copy under another name would lead to a file anywhere.
        msg = f"order {path} cannot be read: it says that it is {printable(record.id)!r}"
        raise StoreError(msg)
    return record
