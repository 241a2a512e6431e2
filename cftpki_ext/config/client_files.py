"""
The files by which we say who we are at somebody's server, and by which we know whose it is: looked at, not kept.

Shared by the tables of a trust set that name an access.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm

from cftpki_ext.config.credentials import KeyFiles, certificates_in, private_file_fault
from cftpki_ext.config.positions import KeyPath
from cftpki_ext.config.sections import Reader
from cftpki_ext.core.errors import InputError
from cftpki_ext.support.files import read_regular


class ClientFiles(Protocol):
    """
    The keys that such a table has.
    """

    @property
    def client_certificate(self) -> str | None:
        """
        PEM, leaf first.
        """

    @property
    def client_key(self) -> str | None:
        """
        Its key; without it, it is in the same file.
        """

    @property
    def client_password_file(self) -> str | None:
        """
        What the key is encrypted with.
        """


def client_files(reader: Reader, path: KeyPath, model: ClientFiles) -> dict[str, Path | None]:
    """
    The files of a client certificate, by the names that the settings have for them.

    Args:
        reader: notes the faults.
        path: the table.
        model: what it says.

    Returns:
        Names and paths; nothing where there is no client certificate.

    """
    certificate, key = file_of(reader, model.client_certificate), file_of(reader, model.client_key)
    password = file_of(reader, model.client_password_file)
    if certificate is None:
        for name in ("client_key", "client_password_file"):
            if getattr(model, name) is not None:
                reader.faults.add((*path, name), "without client_certificate means nothing")
        return {}
    files = KeyFiles(chain_file=certificate, key_file=key or certificate, password_file=password)
    keys = {"chain": "client_certificate", "key": "client_key" if key else "client_certificate"}
    named = {
        "client_certificate": certificate,
        "client_key": key,
        "client_password_file": password,
    }
    try:
        for name, message in reader.look(files):
            reader.faults.add((*path, keys.get(name, "client_password_file")), message)
    except (ValueError, UnsupportedAlgorithm):
        reader.faults.add(
            (*path, "client_certificate"), "cannot be used: its key is of a kind that TLS cannot use"
        )
    for name, file in named.items():
        if file is not None and not reader.faults.within((*path, name)):
            reader.guarded((*path, name), file)
    return named


def file_of(reader: Reader, text: str | None) -> Path | None:
    """
    A path as written, where there is one.
    """
    return None if text is None else reader.path(text)


def certificates_of(reader: Reader, path: KeyPath, files: list[str]) -> tuple[bytes, ...]:
    """
    The roots in some files (DER), none twice.
    """
    roots: list[bytes] = []
    for index, file in enumerate(files):
        reader.guarded((*path, index), reader.path(file))
        try:
            roots.extend(certificates_in(reader.path(file), what="root"))
        except InputError as exc:
            reader.faults.add((*path, index), str(exc))
    return tuple(dict.fromkeys(roots))


def secret_file(reader: Reader, path: KeyPath, file: Path, *, cap: int, what: str) -> None:
    """
    Note what is wrong with the file of a secret: it cannot be read, is empty, or others can read it too.

    Args:
        reader: notes the faults.
        path: the key that names it.
        file: the file.
        cap: its most bytes.
        what: what it holds.

    """
    try:
        content = read_regular(file, cap=cap, what=what)
    except InputError as exc:
        reader.faults.add(path, str(exc))
        return
    exposed = private_file_fault(file, content, what=what)
    if exposed:
        reader.faults.add(path, exposed)
    else:
        reader.guarded(path, file)
    if not content.data.strip():
        reader.faults.add(path, f"{what}: {file} is empty")
