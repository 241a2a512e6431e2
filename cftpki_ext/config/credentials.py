"""
Looks at the certificate, CRL and key files that a configuration names, and says what is wrong with them.

Reads files, decides nothing about partners, and keeps no key: what was loaded for the comparison is dropped.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.identity_settings import Identity, TokenIdentity
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Form, Leniency
from cftpki_ext.support import pem
from cftpki_ext.support.files import MAX_PEM_BYTES, FileContent, others_may_use, read_input, read_regular
from cftpki_ext.support.wrong_file import wrong_file
from cftpki_ext.x509.certificate import MalformedCertificateError, parse_certificate

# Longest password that is read from a file; the rest of the line would be a mistake.
MAX_PASSWORD_BYTES = 1024


def certificates_in(path: Path, *, what: str, compat: frozenset[Leniency] = frozenset()) -> tuple[bytes, ...]:
    """
    The certificates of one file, each parsed as strictly as a partner's.

    Whether they are CA certificates, or still valid, is *not* checked: that is the path's business.

    Args:
        path: PEM or DER.
        what: a noun for the message.
        compat: leniencies of the trust set.

    Returns:
        DER, in the order of the file; at least one.

    Raises:
        InputError: unreadable, holds no certificate, or one that does not parse.

    """
    content = read_regular(path, cap=MAX_PEM_BYTES, what=what)
    ders = pem.certificates(content.data, what=f"{what}: {path}")
    if not ders:
        msg = f"{what}: {path} holds no certificate"
        raise InputError(msg)
    for number, der in enumerate(ders, start=1):
        try:
            parse_certificate(der, compat=compat)
        except MalformedCertificateError as exc:
            place = f" (number {number} of {len(ders)})" if len(ders) > 1 else ""
            if more := wrong_file(der, path):
                msg = f"{what}: {path} {more}"
                raise InputError(msg) from exc
            msg = f"{what}: {path}{place} is no usable certificate: {exc.fault.detail or exc.fault.reason.value}"
            raise InputError(msg) from exc
    return ders


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """
    The trust anchors of one file: those that can be used, and what is to be said of odd ones and of those left out.
    """

    ders: tuple[bytes, ...]
    notes: tuple[str, ...]


def anchors_in(
    path: Path, *, what: str, compat: frozenset[Leniency] = frozenset(), explain: bool = False
) -> Anchors:
    """
    The trust anchors of one file. An anchor is a name and a key (RFC 5280 6.1.1 (d)): one that is odd is used.

    One that cannot be used is left out, so that a bundle of a hundred is of use without it. Whether they are CA
    certificates, or still valid, is *not* checked: that is the path's business.

    Args:
        path: PEM, DER or a PKCS#7 bundle.
        what: a noun for the message.
        compat: leniencies of the trust set.
        explain: somebody named it on a command line: `-` is standard input, and of a file without certificates is said what
            it is, and which command makes one of it.

    Returns:
        DER in the order of the file, at least one, and the notes.

    Raises:
        InputError: unreadable, holds no certificate, or none that can be used.

    """
    content = (read_input if explain else read_regular)(path, cap=MAX_PEM_BYTES, what=what)
    found = pem.certificates(content.data, what=f"{what}: {path}")
    if not found:
        wrong = wrong_file(content.data, path) if explain else None
        msg = f"{what}: {path} {wrong or 'holds no certificate'}"
        raise InputError(msg)
    usable: list[bytes] = []
    notes: list[str] = []
    faults: list[str] = []
    for number, der in enumerate(found, start=1):
        place = f" number {number} of {len(found)}" if len(found) > 1 else ""
        try:
            anchor = parse_certificate(der, compat=compat, form=Form.COMMON)
        except MalformedCertificateError as exc:
            faults.append(f"{what}: {path}{place} is no usable certificate: {exc.fault.detail}")
            continue
        usable.append(der)
        notes += (
            f"{what}: {path}{place} {anchor.subject.text} is odd, and used: {odd}" for odd in anchor.oddities
        )
    if not usable:
        more = wrong_file(found[0], path)
        msg = f"{what}: {path} {more}" if more else faults[0]
        raise InputError(msg)
    return Anchors(ders=tuple(usable), notes=(*notes, *(f"{fault}; it is left out" for fault in faults)))


def check_crl_file(path: Path, *, cap: int) -> None:
    """
    Make sure that a file holds at least one CRL. Signature, age and scope are *not* checked here.

    Args:
        path: PEM or DER.
        cap: the limit `crl_bytes`.

    Raises:
        InputError: unreadable, too large, or no CRL.

    """
    data = read_regular(path, cap=cap, what="CRL").data
    ders = pem.crls(data, what=f"CRL: {path}")
    if not ders:
        msg = f"CRL: {path} holds no CRL"
        raise InputError(msg)
    for der in ders:
        try:
            x509.load_der_x509_crl(der)
        except ValueError as exc:
            msg = f"CRL: {path} is no CRL"
            raise InputError(msg) from exc


def private_file_fault(path: Path, content: FileContent, *, what: str) -> str | None:
    """
    What is wrong with the permissions of a file that holds a secret.

    Args:
        path: the file.
        content: as it was read.
        what: a noun for the message.

    Returns:
        A clause that says what to do, or `None`.

    """
    if others_may_use(content):
        return f"{what}: {path} can be read or written by others (mode {content.mode:04o}): chmod 600 {path}"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFiles:
    """
    The files of a key of our own. Without `key_file` the key is on a token, and is not looked at.
    """

    chain_file: Path
    key_file: Path | None
    password_file: Path | None
    password_env: str | None = None

    @classmethod
    def of(cls, identity: Identity | TokenIdentity) -> KeyFiles:
        """
        Those of an identity.
        """
        return cls(
            chain_file=identity.chain_file,
            key_file=identity.key_file if isinstance(identity, Identity) else None,
            password_file=identity.password_file,
            password_env=identity.password_env,
        )


# What is wrong with such files: the key of the section that is at fault, and a clause.
FaultsOf = Callable[[KeyFiles], Iterable[tuple[str, str]]]


def key_faults(files: KeyFiles) -> Iterator[tuple[str, str]]:
    """
    Everything that is wrong with chain, key and password of our own. Reads the key: see `apart`.

    The certificate's validity and purpose are *not* checked: an expired one must not keep the service down.

    Args:
        files: where they are, and where the password comes from.

    Yields:
        The key of the section that is at fault, and a clause.

    Raises:
        ValueError: chain or key are of a kind that cannot be compared.
        UnsupportedAlgorithm: see there.

    """
    leaf = yield from _chain_faults(files.chain_file)
    password: bytes | None = None
    try:
        password, fault = _password(files)
        if fault:
            yield fault
    except InputError as exc:
        yield "password_file" if files.password_file else "password_env", str(exc)
        return
    path = files.key_file
    if path is None:
        return
    try:
        content = read_regular(path, cap=MAX_PEM_BYTES, what="key")
    except InputError as exc:
        yield "key", str(exc)
        return
    exposed = private_file_fault(path, content, what="key")
    if exposed:
        yield "key", exposed
    try:
        public = _public_key(content.data, password)
    except TypeError:
        # cryptography's answer to a password that is missing, or that nothing asks for
        if password is None:
            yield "key", f"key: {path} is encrypted: set password_file or password_env"
        else:
            yield "key", f"key: {path} is not encrypted, but a password is set"
    except (ValueError, UnsupportedAlgorithm):
        yield "key", f"key: {path} is no private key, or the password is wrong"
    else:
        if leaf is not None and public != _spki(leaf.public_key()):
            yield "key", f"key: {path} does not belong to the first certificate of {files.chain_file}"


def _chain_faults(path: Path) -> Generator[tuple[str, str], None, x509.Certificate | None]:
    """
    What is wrong with a chain file; gives its leaf where there is one.
    """
    leaf: x509.Certificate | None = None
    try:
        chain = _loaded(path)
        leaf = chain[0]
        if any(lower.issuer != upper.subject for lower, upper in itertools.pairwise(chain)):
            yield "chain", f"chain: {path} is not in order: leaf first, each signed by the next"
    except InputError as exc:
        yield "chain", str(exc)
    return leaf


def _loaded(path: Path) -> list[x509.Certificate]:
    chain = []
    for index, der in enumerate(certificates_in(path, what="chain")):
        try:
            chain.append(x509.load_der_x509_certificate(der))
        except (ValueError, x509.InvalidVersion) as exc:
            msg = f"chain: certificate {index} of {path} cannot be read"
            raise InputError(msg) from exc
    return chain


def _password(identity: KeyFiles) -> tuple[bytes | None, tuple[str, str] | None]:
    if identity.password_file is not None:
        content = read_regular(identity.password_file, cap=MAX_PASSWORD_BYTES, what="password")
        exposed = private_file_fault(identity.password_file, content, what="password")
        return content.data.rstrip(b"\r\n"), ("password_file", exposed) if exposed else None
    if identity.password_env is not None:
        value = os.environb.get(identity.password_env.encode())
        if value is None:
            msg = f"password: environment variable {identity.password_env} is not set"
            raise InputError(msg)
        return value, None
    return None, None


def _public_key(data: bytes, password: bytes | None) -> bytes:
    load = load_pem_private_key if b"-----BEGIN " in data else load_der_private_key
    return _spki(load(data, password).public_key())


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
