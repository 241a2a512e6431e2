"""
`[console]`: where the console is served, and who may see it.
"""

from __future__ import annotations

import grp
import re
from pathlib import Path
from typing import Annotated

from cryptography.exceptions import UnsupportedAlgorithm
from pydantic import Field

from cftpki_ext.config.client_files import file_of, secret_file
from cftpki_ext.config.credentials import MAX_PASSWORD_BYTES, KeyFiles
from cftpki_ext.config.models import Section
from cftpki_ext.config.sections import Reader
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.settings import ConsoleSettings
from cftpki_ext.support.files import read_regular
from cftpki_ext.support.listening import TcpAddress, read_address

MAX_TOKEN_BYTES = 1024
# 128 bits in hexadecimal: less could be guessed by whoever has the patience.
MIN_TOKEN_CHARACTERS = 32
_PATH = ("console",)
# A name, an IPv4 address, or an IPv6 address in brackets; no port.
_HOST = re.compile(r"\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class ConsoleModel(Section):
    """
    `[console]`.
    """

    listen: str | None = None
    hosts: Annotated[list[str], Field(default_factory=list, max_length=32)]
    group: str | None = None
    certificate: str | None = None
    key: str | None = None
    key_password_file: str | None = None
    token_file: str | None = None
    client_trust: str | None = None


def read_console(reader: Reader, raw: object) -> ConsoleSettings:
    """
    Read `[console]`.

    Args:
        reader: of the file.
        raw: the section.

    Returns:
        The settings; the defaults for what is absent.

    """
    model = reader.validate(ConsoleModel, _PATH, raw)
    for index, host in enumerate(model.hosts):
        if not _HOST.fullmatch(host):
            reader.faults.add(
                (*_PATH, "hosts", index), f"{host!r} is no name or address: no port, IPv6 in brackets"
            )
    if model.group is not None:
        try:
            grp.getgrnam(model.group)
        except (KeyError, ValueError):
            reader.faults.add((*_PATH, "group"), f"there is no group {model.group!r}")
    if model.client_trust is not None and model.client_trust not in reader.names.trusts:
        reader.unknown((*_PATH, "client_trust"), "trust", model.client_trust, reader.names.trusts)
    token = file_of(reader, model.token_file)
    if token is not None:
        _token(reader, token)
    made = ConsoleSettings(
        listen=_listen(reader, model.listen),
        hosts=tuple(host.lower() for host in model.hosts),
        group=model.group,
        token_file=token,
        client_trust=model.client_trust,
        **_certificate(reader, model),
    )
    # What is said of one file is not said of the whole.
    if not reader.faults.within(_PATH):
        _say_unfit(reader, made)
    return made


def _say_unfit(reader: Reader, made: ConsoleSettings) -> None:
    """
    Note that the section as a whole may not be served.
    """
    address = Path("/") if made.listen is None else read_address(made.listen)
    why = unfit(made, address)
    if why is not None:
        reader.faults.add((*_PATH, "listen" if made.listen is not None else "client_trust"), why)


def unfit(settings: ConsoleSettings, address: TcpAddress | Path) -> str | None:
    """
    Why an address may not be served with these settings; `None` where it may.
    """
    if settings.client_trust is not None and settings.certificate is None:
        return "console.client_trust needs console.certificate: client certificates come by TLS"
    if isinstance(address, Path) or address.is_loopback:
        return None
    if settings.certificate is None:
        return f"{address} is not loopback: the console serves it by TLS alone (console.certificate)"
    if settings.token_file is None and settings.client_trust is None:
        return f"{address} is not loopback: say who may see the console (console.token_file, console.client_trust)"
    return None


def _listen(reader: Reader, text: str | None) -> str | None:
    if text is None:
        return None
    # Whatever holds a slash is a path, as in the rest of the file: relative to its directory.
    whole = str(reader.path(text)) if "/" in text else text
    try:
        read_address(whole)
    except ValueError as exc:
        reader.faults.add((*_PATH, "listen"), str(exc))
        return None
    return whole


def _token(reader: Reader, file: Path) -> None:
    path = (*_PATH, "token_file")
    secret_file(reader, path, file, cap=MAX_TOKEN_BYTES, what="token")
    if reader.faults.within(path):
        return
    try:
        length = len(read_regular(file, cap=MAX_TOKEN_BYTES, what="token").data.strip())
    except InputError as exc:
        reader.faults.add(path, str(exc))
        return
    if length < MIN_TOKEN_CHARACTERS:
        reader.faults.add(
            path,
            f"token: {file} has {length} characters, less than {MIN_TOKEN_CHARACTERS}: openssl rand -hex 32",
        )


def _certificate(reader: Reader, model: ConsoleModel) -> dict[str, Path | None]:
    certificate, key = file_of(reader, model.certificate), file_of(reader, model.key)
    password = file_of(reader, model.key_password_file)
    if certificate is None:
        for name in ("key", "key_password_file"):
            if getattr(model, name) is not None:
                reader.faults.add((*_PATH, name), "without certificate means nothing")
        return {}
    if password is not None:
        secret_file(reader, (*_PATH, "key_password_file"), password, cap=MAX_PASSWORD_BYTES, what="password")
    files = KeyFiles(chain_file=certificate, key_file=key or certificate, password_file=password)
    keys = {"chain": "certificate", "key": "key" if key else "certificate"}
    try:
        for name, message in reader.look(files):
            reader.faults.add((*_PATH, keys.get(name, "key_password_file")), message)
    except (ValueError, UnsupportedAlgorithm):
        reader.faults.add((*_PATH, "certificate"), "cannot be used: its key is of a kind that TLS cannot use")
    return {"certificate": certificate, "key": key, "key_password_file": password}
