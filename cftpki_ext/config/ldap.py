"""
`[trust.NAME.ldap]` → `source_settings.LdapAccess`: that directories may be asked, which, and who we say we are there.

Looks at the files that are named, asks nobody.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field

from cftpki_ext.config.client_files import certificates_of, client_files, file_of, secret_file
from cftpki_ext.config.credentials import MAX_PASSWORD_BYTES
from cftpki_ext.config.models import Section
from cftpki_ext.config.positions import KeyPath
from cftpki_ext.config.sections import Reader
from cftpki_ext.config.units import is_ldap_server
from cftpki_ext.core.settings import TrustSet
from cftpki_ext.core.source_settings import LdapAccess

# Where one is down the next is asked: more than a few will not be reached within a handshake.
MAX_SERVERS = 4


class LdapModel(Section):
    """
    `[trust.NAME.ldap]`.
    """

    servers: list[str] = Field(default_factory=list)
    starttls: bool = False
    roots: list[str] = Field(default_factory=list)
    bind_dn: str | None = None
    password_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    client_password_file: str | None = None


def with_ldap(reader: Reader, trust: TrustSet, raw: object) -> TrustSet:
    """
    A trust set with what its table `ldap` says.

    Args:
        reader: notes the faults.
        trust: as read so far.
        raw: the trust set's section as tomllib read it.

    Returns:
        The trust set; LDAP is not allowed where there is no table.

    """
    section = raw.get("ldap") if isinstance(raw, dict) else None
    if section is None:
        return trust
    path: KeyPath = ("trust", trust.name, "ldap")
    model = reader.validate(LdapModel, path, section)
    return replace(trust, ldap=access_of(reader, path, model))


def access_of(reader: Reader, path: KeyPath, model: LdapModel) -> LdapAccess:
    """
    How directories are asked, by a table that says so.

    Args:
        reader: notes the faults.
        path: the table.
        model: what it says.

    Returns:
        The access; servers that are none are left out.

    """
    for index, server in enumerate(model.servers):
        if not is_ldap_server(server):
            reader.faults.add(
                (*path, "servers", index),
                f"{server!r} is no directory server: ldap://host or ldaps://host, with a port or without",
            )
    if len(model.servers) > MAX_SERVERS:
        reader.faults.add((*path, "servers"), f"names {len(model.servers)} servers, at most {MAX_SERVERS}")
    _who_we_are(reader, path, model)
    password = file_of(reader, model.password_file)
    if password is not None:
        secret_file(reader, (*path, "password_file"), password, cap=MAX_PASSWORD_BYTES, what="password")
    return LdapAccess(
        servers=tuple(server for server in model.servers if is_ldap_server(server)),
        starttls=model.starttls,
        roots=certificates_of(reader, (*path, "roots"), model.roots),
        bind_dn=model.bind_dn,
        password_file=password,
        **client_files(reader, path, model),
    )


def _who_we_are(reader: Reader, path: KeyPath, model: LdapModel) -> None:
    told: dict[str, Any] = {"bind_dn": model.bind_dn, "client_certificate": model.client_certificate}
    keys = [key for key, value in told.items() if value is not None]
    if len(keys) == 2:
        reader.faults.add((*path, "bind_dn"), "is a second name beside client_certificate: keep one of them")
    if model.bind_dn == "":
        reader.faults.add((*path, "bind_dn"), "is empty: leave it out to be nobody")
    elif model.bind_dn is not None and model.password_file is None:
        reader.faults.add((*path, "password_file"), "is missing: a name without a password is nobody")
    elif model.bind_dn is None and model.password_file is not None:
        reader.faults.add((*path, "password_file"), "without bind_dn means nothing")
    for key in keys:
        if not model.servers:
            reader.faults.add((*path, key), "is told to nobody: name the servers that may know it in servers")
        elif not model.starttls and any(server.lower().startswith("ldap://") for server in model.servers):
            reader.faults.add(
                (*path, key), "is told by TLS only: write ldaps:// in servers, or set starttls = true"
            )
