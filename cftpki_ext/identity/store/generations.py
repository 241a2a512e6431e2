"""
Generations of an identity on the disk: a directory each, and one pointer that flips by rename.

    DIRECTORY/current -> generations/0007
    DIRECTORY/generations/0007/{key.pem,chain.pem,meta.json}

Owns this layout. A generation is complete and on the disk before it has its name, and the pointer names only such;
readers follow the pointer once and then read from one directory. Writers hold the identity's lock.

More than 400 lines: one layout, with each way in which it may not be whole beside what reads it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cftpki_ext.core.errors import InputError, KeyUnavailableError, PassingError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import PrivateKey
from cftpki_ext.identity.store.durable import (
    DIRECTORY_MODE,
    PARTIAL,
    make_directory,
    partial_name,
    point,
    sync_directory,
    write_new,
)
from cftpki_ext.identity.store.owners import denied, owned_by_us
from cftpki_ext.identity.store.private_keys import from_pem, public_bytes, to_pem
from cftpki_ext.support.failures import reason_of
from cftpki_ext.support.files import is_passing, read_regular
from cftpki_ext.support.pem import certificates
from cftpki_ext.x509.certificate import Certificate, parse_certificate

MAX_CHAIN_BYTES = 256 * 1024
MAX_META_BYTES = 64 * 1024
_NUMBER = re.compile(r"[0-9]{4,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """
    What is known of a generation besides its bytes. `order` is the order that it came from.
    """

    number: int
    order: str
    enroller: str
    written_at: datetime
    own_key: bool = True  # else somebody else made it
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """
    One generation without its key.
    """

    meta: Meta
    chain: tuple[Certificate, ...]  # leaf first
    path: Path
    key_fault: str | None = None  # why its key cannot be used, where somebody has looked

    @property
    def number(self) -> int:
        """
        Its number; they only grow.
        """
        return self.meta.number

    @property
    def leaf(self) -> Certificate:
        """
        Our certificate.
        """
        return self.chain[0]

    @property
    def ends(self) -> datetime:
        """
        When the first certificate of the chain ends.
        """
        return min(certificate.not_after for certificate in self.chain)

    def key(self, password: bytes | None) -> PrivateKey:
        """
        The private key, checked to be the leaf's.

        Raises:
            KeyUnavailableError: unreadable, exposed, or another one.

        """
        key = from_pem(self.path / "key.pem", password)
        if public_bytes(key) != self.leaf.spki:
            msg = f"key: {self.path / 'key.pem'} is not the key of its certificate"
            raise KeyUnavailableError(msg)
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """
    What `current` leads to.

    With `damage` there is no generation: what is in force by its name, and `number` where it has one, is not whole.
    Neither means that nothing was ever put in force.
    """

    generation: Generation | None = None
    number: int | None = None
    damage: str | None = None


class Generations:
    """
    The generations of one identity. Blocking: reads and synchronous writes.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._all = directory / "generations"
        self._pointer = directory / "current"

    def pointer(self) -> str | None:
        """
        What `current` points to: a text that changes when the generation does. One system call.
        """
        try:
            return os.readlink(self._pointer)  # noqa: PTH115 - asked at every handshake: no Path is made
        except OSError:
            return None

    def current(self) -> Generation | None:
        """
        The generation in force, or `None` where there is none yet.

        Raises:
            StoreError: the pointer names something that cannot be read.

        """
        found = self.look()
        if found.damage is not None:
            raise StoreError(found.damage)
        return found.generation

    def look(self) -> InForce:
        """
        What is in force, with damage as a value: what is not whole is as good as missing, and said to be so.

        Raises:
            StoreError: this user may not look.
            PassingError: nobody can look now.

        """
        try:
            target = os.readlink(self._pointer)  # noqa: PTH115 - as text
        except FileNotFoundError:
            if not self.numbers():
                return InForce()
            return InForce(damage=f"{self._pointer} is gone, generations are there")
        except PermissionError as error:
            raise denied(self.directory, error) from error
        except OSError as error:
            if is_passing(error):
                raise _not_now(self._pointer, error) from error
            return InForce(damage=f"{self._pointer} is no symbolic link")
        name = target.rpartition("/")[2]
        if not _NUMBER.fullmatch(name):
            return InForce(damage=f"{self._pointer} points to {printable(target)!r}, which is no generation")
        number = int(name)
        try:
            return InForce(generation=self.read(number), number=number)
        except PassingError:
            raise
        except StoreError as error:
            cause = error.__cause__
            why = None if cause is None else cause.__cause__
            if isinstance(why, PermissionError) and not owned_by_us(self.directory):
                raise denied(self.directory, why) from error
            return InForce(number=number, damage=str(error))

    def numbers(self) -> list[int]:
        """
        The numbers that are there, rising.

        Raises:
            PassingError: nobody can look now.

        """
        try:
            names = [entry.name for entry in self._all.iterdir()]
        except OSError as error:
            if is_passing(error):
                raise _not_now(self._all, error) from error
            return []
        return sorted(int(name) for name in names if _NUMBER.fullmatch(name))

    def read(self, number: int) -> Generation:
        """
        One generation, checked: each certificate parses, and meta data are there.

        Raises:
            StoreError: it is not there or not whole.
            PassingError: nobody can look now: it may well be whole.

        """
        path = self._all / f"{number:04d}"
        try:
            raw = read_regular(path / "chain.pem", cap=MAX_CHAIN_BYTES, what="chain").data
            chain = tuple(parse_certificate(der) for der in certificates(raw, what="chain"))
            meta = _meta(read_regular(path / "meta.json", cap=MAX_META_BYTES, what="meta data").data)
        except InputError as error:
            if is_passing(error):
                raise _not_now(path, error) from error
            msg = f"generation {path} is not whole: {error}"
            raise StoreError(msg) from error
        except (ValueError, KeyError, TypeError) as error:
            msg = f"generation {path} is not whole: meta.json cannot be read"
            raise StoreError(msg) from error
        if not chain or meta.number != number:
            msg = f"generation {path} is not whole: no certificate, or another one's meta data"
            raise StoreError(msg)
        return Generation(meta=meta, chain=chain, path=path)

    def usable(
        self, password: bytes | None, *, now: datetime, before: int | None, without: Collection[int]
    ) -> Generation | None:
        """
        The newest generation that could be put in force: whole, valid now, its key at hand.

        Args:
            password: of keys at rest.
            now: the wall-clock time.
            before: only those with smaller numbers; `None` takes any.
            without: the numbers that nobody goes back to.

        Returns:
            The generation, `None` where there is none.

        """
        for one in self._readable():
            if one.number in without or (before is not None and one.number >= before):
                continue
            if one.leaf.not_before <= now < one.ends:
                with contextlib.suppress(KeyUnavailableError):
                    one.key(password)
                    return one
        return None

    def of_order(self, order: str) -> Generation | None:
        """
        The generation that came from an order, where it was written already.
        """
        return next((one for one in self._readable() if one.meta.order == order), None)

    def of_leaf(self, leaf: Certificate) -> Generation | None:
        """
        The newest generation with this very certificate, where there is one.
        """
        return next((one for one in self._readable() if one.leaf == leaf), None)

    def _readable(self) -> Iterator[Generation]:
        """
        The newest first.
        """
        for number in reversed(self.numbers()):
            try:
                yield self.read(number)
            except PassingError:
                raise
            except StoreError:
                continue

    def write(
        self,
        chain: tuple[Certificate, ...],
        key: PrivateKey,
        *,
        password: bytes | None,
        order: str,
        enroller: str,
        at: datetime,
        own_key: bool = True,
        notes: tuple[str, ...] = (),
        above: int = 0,
    ) -> Generation:
        """
        Write the next generation. It is not in force until `activate`.

        Args:
            chain: leaf first.
            key: the leaf's.
            password: encrypts the key at rest.
            order: where it came from.
            enroller: by whom.
            at: now.
            own_key: whether we made the key.
            notes: for the operator.
            above: a number that was given before, also where nothing shows it any more.

        Returns:
            The generation, on the disk.

        Raises:
            StoreError: the disk refuses; nothing is visible then.

        """
        make_directory(self._all)
        # Numbers only grow, also after one was lost: they stand in records of what was done, and was revoked.
        number = max(*self.numbers(), self._pointed() or 0, above, 0) + 1
        partial = partial_name(self._all)
        path = self._all / f"{number:04d}"
        meta = Meta(
            number=number, order=order, enroller=enroller, written_at=at, own_key=own_key, notes=notes
        )
        leaf = chain[0]
        document = {
            "version": 1,
            "generation": number,
            "order": order,
            "enroller": enroller,
            "written_at": at.isoformat(),
            "own_key": own_key,
            "notes": list(notes),
            # For people and scripts; what we decide by is read from the certificate.
            "subject": leaf.subject.text,
            "serial": leaf.serial_hex,
            "sha256": leaf.fingerprint,
            "not_before": leaf.not_before.isoformat(),
            "not_after": leaf.not_after.isoformat(),
        }
        try:
            partial.mkdir(mode=DIRECTORY_MODE)
            write_new(partial / "key.pem", to_pem(key, password))
            write_new(partial / "chain.pem", b"".join(_pem(certificate.der) for certificate in chain))
            write_new(partial / "meta.json", json.dumps(document, indent=2).encode() + b"\n")
            sync_directory(partial)
            partial.rename(path)
            sync_directory(self._all)
        except (OSError, StoreError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            msg = f"generation {path} could not be written: {error}"
            raise StoreError(msg) from error
        return Generation(meta=meta, chain=chain, path=path)

    def activate(self, number: int) -> None:
        """
        Put a generation in force: one rename.

        Raises:
            StoreError: it is not whole, or the disk refuses; the one in force stays.

        """
        point(self._pointer, f"generations/{self.read(number).path.name}")

    def clean(self, *, keep: int) -> None:
        """
        Remove what a killed writer left behind, and all but the newest generations. Under the lock.

        Args:
            keep: how many generations stay; the one in force always does.

        """
        for directory in (self.directory, self._all):
            # A stray that cannot be removed is in nobody's way.
            with contextlib.suppress(OSError):
                for left in directory.glob(f"{PARTIAL}*"):
                    if left.is_dir() and not left.is_symlink():
                        shutil.rmtree(left, ignore_errors=True)
                    else:
                        left.unlink(missing_ok=True)
        whole = [one.number for one in self._readable()][:keep]
        in_force = self._pointed()
        if len(whole) < keep:
            return
        for number in self.numbers():
            # What is damaged goes with those of its age.
            if number == in_force or number >= min(whole):
                continue
            # Out of the readers' sight first, so that a kill leaves no half of it.
            gone = partial_name(self._all)
            with contextlib.suppress(OSError):
                (self._all / f"{number:04d}").rename(gone)
                shutil.rmtree(gone, ignore_errors=True)

    def _pointed(self) -> int | None:
        name = (self.pointer() or "").rpartition("/")[2]
        return int(name) if _NUMBER.fullmatch(name) else None


def _not_now(path: Path, error: Exception) -> PassingError:
    return PassingError(f"{path} cannot be read now: {reason_of(error)}")


def _meta(raw: bytes) -> Meta:
    document: Any = json.loads(raw)
    return Meta(
        number=int(document["generation"]),
        order=str(document["order"]),
        enroller=str(document["enroller"]),
        written_at=datetime.fromisoformat(document["written_at"]),
        own_key=document.get("own_key", True) is True,
        notes=tuple(str(note) for note in document.get("notes", ())),
    )


def _pem(der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = b"\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return b"-----BEGIN CERTIFICATE-----\n" + lines + b"\n-----END CERTIFICATE-----\n"
