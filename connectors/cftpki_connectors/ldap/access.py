"""
Who a directory is, and who we say we are there: TLS, and the secrets, each read from its file when it is needed.
"""

from __future__ import annotations

import ssl
from dataclasses import field
from pathlib import Path

from cftpki_connectors.fetch.ldap_url import parse_server
from cftpki_connectors.fetch.url import Target
from cftpki_connectors.support import threads
from cftpki_connectors.support.httpx_client import client_tls
from cftpki_connectors.support.secret_files import MAX_PASSWORD_BYTES, secret_bytes
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.source_settings import LdapAccess
from cftpki_ext.core.values import dataclass
from cftpki_ext.support.failures import reason_of

_Stamp = tuple[tuple[int, ...] | None, ...]


class UnusableFileError(InputError):
    """
    A file of ours cannot be used.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """
    Who we say we are: by a name and a password, or (neither is set) by the certificate of the TLS connection.
    """

    dn: str | None = None
    password: str | None = field(default=None, repr=False)


def is_ours(access: LdapAccess, target: Target) -> bool:
    """
    Whether a server is one of those that are told who we are: the configured ones, at their very ports.
    """
    return any(parse_server(server).origin == target.origin for server in access.servers)


async def login_of(access: LdapAccess, table: str) -> Login | None:
    """
    Who we say we are; `None` for nobody.

    Args:
        access: names the password.
        table: of the configuration, where the access stands, for the message: `trust.NAME.ldap`.

    Returns:
        The login.

    Raises:
        UnusableFileError: the password cannot be read, or others can read it too.

    """
    if access.bind_dn is None or access.password_file is None:
        return None if access.client_certificate is None else Login()
    path, key = access.password_file, f"{table}.password_file"
    try:
        octets = await threads.call(lambda: secret_bytes(path, key, MAX_PASSWORD_BYTES))
        password = octets.rstrip(b"\r\n").decode()
    except (InputError, OSError) as error:
        raise UnusableFileError(str(error) if isinstance(error, InputError) else reason_of(error)) from error
    except UnicodeDecodeError as error:
        msg = f"{key}: {path} is no UTF-8"
        raise UnusableFileError(msg) from error
    if not password:
        # A name without a password is nobody at all (RFC 4513 5.1.2), and some servers say "success".
        msg = f"{key}: {path} is empty"
        raise UnusableFileError(msg)
    return Login(dn=access.bind_dn, password=password)


class Contexts:
    """
    TLS towards directories, made again when a file of our certificate changes.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[LdapAccess, tuple[bytes, ...], bool], tuple[_Stamp, ssl.SSLContext]] = {}

    async def of(
        self, access: LdapAccess, https_roots: tuple[bytes, ...], *, ours: bool, table: str
    ) -> ssl.SSLContext:
        """
        TLS for one server.

        Args:
            access: its roots, or none.
            https_roots: those of the trust set, where `access` has none; else the system's trust store.
            ours: whether the server is told who we are.
            table: of the configuration, where the access stands, for the message.

        Returns:
            The context; it verifies name and certificate.

        Raises:
            UnusableFileError: OpenSSL cannot use a root, or our certificate or key.

        """
        roots = access.roots or https_roots
        key = access, roots, ours
        stamp = await threads.call(lambda: _stamp(access) if ours else ())
        made = self._made.get(key)
        if made is None or made[0] != stamp:
            made = stamp, await threads.call(lambda: _context(access, roots, ours=ours, table=table))
            self._made[key] = made
        return made[1]


def _context(access: LdapAccess, roots: tuple[bytes, ...], *, ours: bool, table: str) -> ssl.SSLContext:
    context = client_tls()
    context.set_alpn_protocols([])
    try:
        if roots:
            context.load_verify_locations(cadata=b"".join(roots))
        else:
            context.load_default_certs()
        if ours and access.client_certificate is not None:
            password = b""
            if access.client_password_file is not None:
                path, key = access.client_password_file, f"{table}.client_password_file"
                password = secret_bytes(path, key, MAX_PASSWORD_BYTES).rstrip(b"\r\n")
            # A password is always given: without one OpenSSL would ask the terminal.
            context.load_cert_chain(access.client_certificate, access.client_key, lambda: password)
    except (InputError, OSError, ssl.SSLError, ValueError) as error:
        why = str(error) if isinstance(error, InputError) else reason_of(error)
        msg = f"cannot be used for TLS to the directory: {why}"
        raise UnusableFileError(msg) from error
    return context


def _stamp(access: LdapAccess) -> _Stamp:
    """
    What changes when the files of our client certificate do.
    """
    return tuple(
        None if path is None else _state(path)
        for path in (access.client_certificate, access.client_key, access.client_password_file)
    )


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
