"""
Which roots of a step-ca are believed: the pinned one, and those that it vouched for later.

Owns the file `roots-FINGERPRINT.pem` in the enroller's state folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_connectors.ca.client import CaError, CaRequest, fetch_pinned
from cftpki_connectors.stepca.client import root_in
from cftpki_connectors.stepca.options import StepCaOptions
from cftpki_connectors.support import threads
from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.enroller_port import EnrollerContext, Fault
from cftpki_ext.support.files import MAX_PEM_BYTES, read_regular
from cftpki_ext.support.guarded import read_guarded
from cftpki_ext.support.logs import event_log

# A CA that changes its root once a year for its whole life has fewer; one that names hundreds is ill.
MAX_ROOTS = 32


class Trust:
    """
    The roots of one step-ca.

    By default there is the root whose fingerprint is configured, got from the CA itself and kept. Roots that
    the CA lists over a channel verified by these are added and kept beside them, so that a change of roots
    needs nobody; none is ever dropped before it expires. A root file replaces the first step.

    Args:
        options: fingerprint, root file, URL.
        context: the state folder and the clock.
        proxy: with its password.

    """

    def __init__(self, options: StepCaOptions, context: EnrollerContext, *, proxy: str | None) -> None:
        self._options = options
        self._context = context
        self.proxy = proxy
        self._roots: tuple[bytes, ...] = ()
        self._log = event_log(enroller=context.name)

    async def roots(self, *, deadline: float) -> tuple[bytes, ...]:
        """
        The roots to verify the CA with, the configured one first.

        Raises:
            CaError: none is at hand and the CA did not give the one with the fingerprint.

        """
        if not self._roots or self._options.root_file is not None:
            # A file of roots is read again each time: what was changed in it counts from then on.
            first = await self._first(deadline)
            kept = await threads.call(self._load)
            self._roots = tuple(dict.fromkeys((*first, *kept)))
        return self._roots

    async def kept(self) -> tuple[bytes, ...]:
        """
        The roots that are at hand without asking the CA.

        Raises:
            CaError: the root file cannot be read.

        """
        first = () if self._options.root_file is None else await self._first(deadline=0)
        return tuple(dict.fromkeys((*first, *await threads.call(self._load))))

    async def add(self, listed: Iterable[bytes]) -> tuple[bytes, ...]:
        """
        Take over roots that came over a verified channel.

        Returns:
            Those that are new. They are on the disk when this returns.

        Raises:
            CaError: they cannot be kept, or are too many.

        """
        new = tuple(der for der in dict.fromkeys(listed) if der not in self._roots and _is_ca(der))
        if not new:
            return ()
        together = (*self._roots, *new)
        if len(together) > MAX_ROOTS:
            detail = f"the CA lists {len(together)} roots, {MAX_ROOTS} are taken"
            raise CaError(Fault.MISCONFIGURED, detail)
        await threads.call(lambda: self._keep(together))
        self._roots = together
        for der in new:
            self._log.warning(
                "enroller_root_added", fingerprint=hashlib.sha256(der).hexdigest(), kept=len(together)
            )
        return new

    async def _first(self, deadline: float) -> tuple[bytes, ...]:
        path, fingerprint = self._options.root_file, self._options.fingerprint
        if path is not None:
            roots = _parse(await threads.call(lambda: _read(path)))
            pinned = [der for der in roots if hashlib.sha256(der).hexdigest() == fingerprint]
            if fingerprint is not None and not pinned:
                detail = f"root_file {path} has no certificate with the configured fingerprint {fingerprint}"
                raise CaError(Fault.MISCONFIGURED, detail)
            return tuple(pinned) or roots
        if fingerprint is None:  # the options demand one of them
            raise CaError(Fault.MISCONFIGURED, "neither fingerprint nor root_file is configured")
        for der in await threads.call(self._load):
            if hashlib.sha256(der).hexdigest() == fingerprint:
                return (der,)
        root = await fetch_pinned(
            CaRequest(url=f"{self._options.url}/root/{fingerprint}"),
            fingerprint=fingerprint,
            certificates=root_in,
            clock=self._context.clock,
            deadline=deadline,
            proxy=self.proxy,
        )
        await threads.call(lambda: self._keep((root,)))
        self._log.info("enroller_root_pinned", fingerprint=fingerprint)
        return (root,)

    @property
    def _file(self) -> Path:
        """
        Named after what is configured: roots that another CA vouched for do not count.
        """
        pin = self._options.fingerprint or hashlib.sha256(str(self._options.root_file).encode()).hexdigest()
        return self._context.state / f"roots-{pin[:32]}.pem"

    def _load(self) -> tuple[bytes, ...]:
        """
        What was kept and has not expired. A file that somebody else could have written is not believed.
        """
        if not self._file.exists():
            return ()
        try:
            content = read_regular(self._file, cap=MAX_PEM_BYTES, what="kept roots")
            if content.owner != os.geteuid() or content.mode & 0o022:
                self._log.error(
                    "enroller_roots_not_believed", file=str(self._file), reason="writable by others"
                )
                return ()
            now = self._context.clock.now()
            return tuple(
                der
                for der in _parse(content.data)
                if x509.load_der_x509_certificate(der).not_valid_after_utc > now
            )
        except (InputError, CaError) as error:
            self._log.error(
                "enroller_roots_not_believed", file=str(self._file), reason=str(error)
            )  # one line
            return ()

    def _keep(self, roots: tuple[bytes, ...]) -> None:
        text = b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in roots)
        try:
            self._context.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(self._file, text)
        except OSError as error:
            detail = f"the roots cannot be kept in {self._context.state}: {error.strerror}"
            raise CaError(Fault.MISCONFIGURED, detail) from error


def _replace(path: Path, data: bytes) -> None:
    """
    All or nothing, and on the disk when this returns.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> bytes:
    try:
        return read_guarded(path, cap=MAX_PEM_BYTES, what="root_file").data
    except InputError as error:
        raise CaError(Fault.MISCONFIGURED, str(error)) from error


def _parse(data: bytes) -> tuple[bytes, ...]:
    try:
        return tuple(c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(data))
    except (ValueError, x509.InvalidVersion) as error:
        raise CaError(Fault.MISCONFIGURED, "the file of roots holds no certificates in PEM") from error


def _is_ca(der: bytes) -> bool:
    try:
        extension = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(
            x509.BasicConstraints
        )
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.InvalidVersion):
        return False
    return extension.value.ca
