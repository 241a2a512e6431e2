"""
`[cluster]`: the server that nodes share.
"""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import Field

from cftpki_ext.config.client_files import certificates_of, client_files, file_of, secret_file
from cftpki_ext.config.credentials import MAX_PASSWORD_BYTES
from cftpki_ext.config.models import Duration, Section, Size
from cftpki_ext.config.positions import KeyPath
from cftpki_ext.config.sections import Reader
from cftpki_ext.core.cluster import Address, ClusterSettings, Layout
from cftpki_ext.core.errors import InputError
from cftpki_ext.support.files import read_regular

LEAST_SECRET_BYTES, MAX_SECRET_BYTES = 32, 4096
MAX_ADDRESSES = 32
_SCHEMES = {
    f"{scheme}{layout}": (kind, scheme == "rediss")
    for scheme in ("redis", "rediss")
    for layout, kind in (("", Layout.SERVER), ("+sentinel", Layout.SENTINEL), ("+cluster", Layout.CLUSTER))
}
_PORTS = {Layout.SERVER: 6379, Layout.SENTINEL: 26379, Layout.CLUSTER: 6379}
_ADDRESS = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?))(?::([0-9]{1,5}))?"
)
# What may stand in a key of the server without meaning anything there.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_FORM = "rediss://user@host:port, rediss+sentinel://user@host:port,host:port/service, rediss+cluster://user@host:port,host:port"


class ClusterModel(Section):
    """
    `[cluster]`.
    """

    url: str | None = None
    password_file: str | None = None
    sentinel_user: str | None = None
    sentinel_password_file: str | None = None
    name: str | None = None
    node: str | None = None
    secret_file: str | None = None
    roots: Annotated[list[str], Field(default_factory=list)]
    client_certificate: str | None = None
    client_key: str | None = None
    client_password_file: str | None = None
    # Shorter than a server in the next room takes under load is never; longer, a handshake could not wait for.
    patience: Annotated[Duration, Field(ge=timedelta(milliseconds=5), le=timedelta(seconds=2))] | None = None
    max_size: Annotated[Size, Field(ge=1 << 20, le=1 << 40)] | None = None
    unsafe_plain: bool = False


def read_cluster(reader: Reader, raw: object) -> ClusterSettings | None:
    """
    Read `[cluster]`.

    Args:
        reader: of the file.
        raw: the section.

    Returns:
        The settings; `None` where they have faults.

    """
    path: KeyPath = ("cluster",)
    model = reader.validate(ClusterModel, path, raw)
    if model.url is None:
        if not reader.faults.within((*path, "url")):
            reader.faults.add((*path, "url"), f"'url' is missing: {_FORM}")
        return None
    found = _read_url(reader, (*path, "url"), model.url)
    if found is None:
        return None
    if not found["tls"] and not model.unsafe_plain and not all(map(_is_loopback, found["addresses"])):
        reader.faults.add(
            (*path, "url"),
            "is not rediss://: whoever is on the way reads the password, and blocks partners by it"
            " (unsafe_plain = true on a test network)",
        )
    if found["user"] is not None and model.password_file is None:
        reader.faults.add((*path, "password_file"), "is missing: the URL names a user")
    for key in ("name", "node"):
        text = getattr(model, key)
        if text is not None and not _NAME.fullmatch(text):
            reader.faults.add((*path, key), f"{text!r} is no name of letters, digits, '.', '_' and '-'")
    if found["layout"] is not Layout.SENTINEL:
        for key in ("sentinel_user", "sentinel_password_file"):
            if getattr(model, key) is not None:
                reader.faults.add((*path, key), "without sentinels in the URL means nothing")
    secrets: dict[str, Any] = {
        key: file_of(reader, getattr(model, key))
        for key in ("password_file", "sentinel_password_file", "secret_file")
    }
    for key, file in secrets.items():
        if file is not None:
            cap = MAX_SECRET_BYTES if key == "secret_file" else MAX_PASSWORD_BYTES
            secret_file(reader, (*path, key), file, cap=cap, what=key.removesuffix("_file").replace("_", " "))
    _secret_is_long(reader, (*path, "secret_file"), model)
    given: dict[str, Any] = {
        key: getattr(model, key)
        for key in ("name", "node", "patience", "sentinel_user")
        if getattr(model, key) is not None
    }
    if model.max_size is not None:
        given["max_bytes"] = model.max_size
    files: dict[str, Any] = client_files(reader, path, model)
    return ClusterSettings(
        **found,
        **secrets,
        **given,
        **files,
        roots=certificates_of(reader, (*path, "roots"), model.roots),
    )


def _secret_is_long(reader: Reader, path: KeyPath, model: ClusterModel) -> None:
    file = file_of(reader, model.secret_file)
    if file is None or reader.faults.within(path):
        return
    try:
        secret = read_regular(file, cap=MAX_SECRET_BYTES, what="secret").data.strip()
    except InputError:
        return  # told already
    if len(secret) < LEAST_SECRET_BYTES:
        reader.faults.add(
            path, f"{file} has {len(secret)} octets, at least {LEAST_SECRET_BYTES}: openssl rand -hex 32"
        )


def _read_url(reader: Reader, path: KeyPath, url: str) -> dict[str, Any] | None:
    def fault(message: str) -> None:
        reader.faults.add(path, message)

    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in _SCHEMES or not url.isascii() or not url.isprintable():
        fault(f"{url!r} is no address of a server: {_FORM}")
        return None
    layout, tls = _SCHEMES[parts.scheme]
    who, at, where = parts.netloc.rpartition("@")
    if ":" in who:
        fault("holds a password: secrets come from files (password_file)")
        return None
    if parts.query or parts.fragment:
        fault("holds options: they are keys of [cluster]")
        return None
    addresses = [_address(text, _PORTS[layout]) for text in where.split(",")]
    if None in addresses or len(addresses) > MAX_ADDRESSES or (at and not who):
        fault(f"{url!r} is no address of a server: {_FORM}")
        return None
    if layout is Layout.SERVER and len(addresses) > 1:
        fault("names several servers: those of a cluster are rediss+cluster://, Sentinels rediss+sentinel://")
        return None
    names = [unquote(part) for part in parts.path.strip("/").split("/") if part]
    service = names.pop(0) if layout is Layout.SENTINEL and names else None
    if layout is Layout.SENTINEL and (service is None or not _NAME.fullmatch(service)):
        fault("names no service behind the Sentinels: rediss+sentinel://host:port,host:port/service")
        return None
    database = names.pop(0) if names and layout is not Layout.CLUSTER else "0"
    if names or not database.isdigit() or len(database) > 5:
        fault(f"has a path that is no number of a database: {parts.path!r}")
        return None
    return {
        "layout": layout,
        "tls": tls,
        "addresses": tuple(addresses),
        "user": unquote(who) or None,
        "service": service,
        "database": int(database),
    }


def _address(text: str, port: int) -> Address | None:
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return None
    number = port if found[3] is None else int(found[3])
    return Address(host=found[1] or found[2], port=number) if 0 < number < 65536 else None


def _is_loopback(address: Address) -> bool:
    try:
        return ip_address(address.host).is_loopback
    except ValueError:
        return address.host == "localhost"
