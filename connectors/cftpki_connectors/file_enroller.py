"""
The enroller `file`: a chain and a key that someone else puts there, taken over when both are new and fit.

Owns two files and their password. No CA is asked; the port's questions are answered from the disk.
"""

from __future__ import annotations

import asyncio
import os
import re
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from pydantic import BaseModel, ConfigDict

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import (
    IGNORED,
    Enroller,
    EnrollerContext,
    EnrollerPlugin,
    Failed,
    Fault,
    Finding,
    Held,
    Issued,
    Order,
    OrderState,
    Pending,
    PrivateKey,
    Progress,
    Relation,
    RenewalHint,
    SaveState,
)
from cftpki_ext.ports.clock import Clock
from cftpki_ext.support.files import others_may_use, read_regular
from cftpki_ext.support.guarded import read_guarded
from cftpki_ext.support.pem import certificates

MAX_CHAIN_BYTES = 256 * 1024
MAX_KEY_BYTES = 64 * 1024
MAX_PASSWORD_BYTES = 1024
_PKCS12_VERSION = b"\x02\x01\x03\x30"
_KEY_BLOCK = re.compile(
    rb"-----BEGIN (?P<label>(?:[A-Z0-9]{1,12} )?PRIVATE KEY)-----.{1,65536}?-----END (?P=label)-----",
    re.DOTALL,
)
# How often the files are looked at: who copies two of them is done in less.
LOOK_EVERY = timedelta(seconds=15)


class FileOptions(BaseModel):
    """
    `[enroller.NAME]` with `type = "file"`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    chain: Path  # PEM, DER, PKCS#7, or PKCS#12 with its key
    key: Path | None = None  # without one it is in the file of the chain
    password_file: Path | None = None
    anchors: Path | None = None  # roots that the chain must lead to, where the identity names no trust set


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    chain: tuple[bytes, ...]
    key: PrivateKey


class FileEnroller:
    """
    Takes over what lies in two files, or one. Both must fit; a broken pair is told and changes nothing.
    """

    protocol = "file"

    def __init__(self, options: FileOptions, *, name: str, clock: Clock) -> None:
        self.name = name
        self._options = options
        self._clock = clock

    async def advance(self, order: Order, state: OrderState, save: SaveState, *, deadline: float) -> Progress:
        """
        Give what lies there, where it is not what is in use already.
        """
        del state, save, deadline  # nothing is submitted, so nothing can be lost
        try:
            pair = await asyncio.to_thread(_read, self._options)
        except InputError as error:
            return Failed(fault=Fault.MISCONFIGURED, detail=str(error))
        if order.current is not None and order.current.chain[0] == pair.chain[0]:
            detail = (
                f"{self._options.chain} holds the certificate in use: somebody has to put a new one there"
            )
            return Pending(retry_at=self._clock.now() + LOOK_EVERY, detail=detail)
        return Issued(certificates=pair.chain, key=pair.key)

    async def revoke(self, held: Held, *, reason: str, deadline: float) -> Failed | None:
        """
        Files revoke nothing.
        """
        del held, reason, deadline
        return Failed(fault=Fault.MISCONFIGURED, detail="files revoke nothing: ask the CA that issued it")

    async def renewal_hint(self, held: Held, *, deadline: float) -> RenewalHint | None:
        """
        Now, where the files hold something else that is whole; otherwise look again soon.
        """
        del deadline
        now = self._clock.now()
        try:
            pair = await asyncio.to_thread(_read, self._options)
        except InputError as error:
            return self._quiet(held, now, f"{IGNORED}{error}")
        if pair.chain[0] == held.chain[0]:
            return self._quiet(held, now, None)
        found = sha256(pair.chain[0]).hexdigest()[:16]
        return RenewalHint(
            start=now,
            end=now,
            explanation=f"the files hold another certificate, sha256 {found}…",
            ask_again_at=now + LOOK_EVERY,
            ready=True,
        )

    def _quiet(self, held: Held, now: datetime, explanation: str | None) -> RenewalHint:
        end = x509.load_der_x509_certificate(held.chain[0]).not_valid_after_utc
        return RenewalHint(start=end, end=end, explanation=explanation, ask_again_at=now + LOOK_EVERY)

    async def trust_anchors(self, *, deadline: float) -> tuple[bytes, ...]:
        """
        The configured roots.
        """
        del deadline
        if self._options.anchors is None:
            return ()
        try:
            raw = await asyncio.to_thread(
                read_guarded, self._options.anchors, cap=MAX_CHAIN_BYTES, what="anchors"
            )
            return certificates(raw.data, what="anchors")
        except InputError:
            return ()

    async def relation(self) -> Relation:
        """
        The place, and the configured roots.
        """
        return Relation(where=str(self._options.chain), roots=await self.trust_anchors(deadline=0))

    async def check(self, *, deadline: float) -> tuple[Finding, ...]:
        """
        Read the files as for an order.
        """
        del deadline
        try:
            pair = await asyncio.to_thread(_read, self._options)
        except InputError as error:
            return (Finding(what="files", detail=str(error), good=False),)
        end = x509.load_der_x509_certificate(pair.chain[0]).not_valid_after_utc
        detail = f"a chain of {len(pair.chain)} with its key, until {end.isoformat()}"
        return (Finding(what="files", detail=detail, good=end > self._clock.now()),)

    async def aclose(self) -> None:
        """
        Nothing is open.
        """


def _read(options: FileOptions) -> _Pair:
    password = None
    if options.password_file is not None:
        password = _secret(options.password_file, MAX_PASSWORD_BYTES, "password").rstrip(b"\r\n")
    data = read_guarded(options.chain, cap=MAX_CHAIN_BYTES, what="chain").data
    if data[:1] == b"\x30" and _PKCS12_VERSION in data[:12]:
        key, chain = _bundle(_secret(options.chain, MAX_CHAIN_BYTES, "bundle"), password, options.chain)
    else:
        chain = certificates(data, what=f"chain: {options.chain}")
        if not chain:
            msg = f"chain: {options.chain} holds no certificate"
            raise InputError(msg)
        key = _key(options, password)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        msg = f"key: {options.key or options.chain} is neither RSA nor ECDSA"
        raise InputError(msg)
    own = [number for number, der in enumerate(chain) if _public_key(der) == key.public_key()]
    if not own:
        msg = f"key: {options.key or options.chain} is not the key of any certificate in {options.chain}"
        raise InputError(msg)
    # Whatever stands first: ours is the one with our key, and the rest is put in order when it is admitted.
    leaf = chain[own[0]]
    return _Pair(chain=(leaf, *(der for der in chain if der != leaf)), key=key)


def _key(options: FileOptions, password: bytes | None) -> object:
    path = options.key or options.chain
    raw = _secret(path, MAX_KEY_BYTES if options.key else MAX_CHAIN_BYTES, "key")
    block = _KEY_BLOCK.search(raw)
    if block is None and b"-----BEGIN" in raw and b"PRIVATE KEY" not in raw:
        msg = f"key: {path} holds no private key" + ("" if options.key else "; name its file as key")
        raise InputError(msg)
    how = "without a password" if password is None else "with the password in password_file"
    try:
        if block is not None:
            return serialization.load_pem_private_key(block[0], password)
        return serialization.load_der_private_key(raw, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        msg = f"{path} cannot be read as a private key {how}"
        raise InputError(msg) from None


def _bundle(data: bytes, password: bytes | None, path: Path) -> tuple[object, tuple[bytes, ...]]:
    """
    Key and certificates of a PKCS#12 file (RFC 7292).
    """
    how = "without a password" if password is None else "with the password in password_file"
    try:
        found = pkcs12.load_pkcs12(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        msg = f"chain: {path} cannot be read as PKCS#12 {how}"
        raise InputError(msg) from None
    if found.key is None:
        msg = f"chain: {path} is a PKCS#12 file without a key"
        raise InputError(msg)
    held = [found.cert, *found.additional_certs]
    ders = tuple(one.certificate.public_bytes(serialization.Encoding.DER) for one in held if one is not None)
    return found.key, ders


def _public_key(der: bytes) -> object:
    try:
        return x509.load_der_x509_certificate(der).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return None  # of no use to us; what has to be read is read again when it is admitted


def _secret(path: Path, cap: int, what: str) -> bytes:
    content = read_regular(path, cap=cap, what=what)
    if content.owner not in {0, os.geteuid()} or others_may_use(content):
        msg = f"{what}: {path} can be read or written by others (mode {content.mode:04o}): chmod 600 {path}"
        raise InputError(msg)
    return content.data


def _make(options: FileOptions, context: EnrollerContext) -> Enroller:
    return FileEnroller(options, name=context.name, clock=context.clock)


PLUGIN = EnrollerPlugin(protocol="file", options=FileOptions, make=_make)
