"""
`[notify]`: who is told of what goes wrong, and how.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from cftpki_ext.config.addresses import address_parts, is_protected
from cftpki_ext.config.client_files import certificates_of, file_of, secret_file
from cftpki_ext.config.credentials import MAX_PASSWORD_BYTES
from cftpki_ext.config.models import Choice, Cidr, Duration, Section
from cftpki_ext.config.positions import KeyPath
from cftpki_ext.config.sections import Reader
from cftpki_ext.core.notify import (
    ALL_KINDS,
    AnyReceiver,
    MailReceiver,
    MailSecurity,
    NoticeKind,
    NotifySettings,
    SyslogReceiver,
    WebhookReceiver,
)

# Each is told by itself; more than so many people have a mailing list.
MAX_RECEIVERS = 16
MAX_RECIPIENTS = 20
MAX_TOKEN_BYTES = 16 * 1024
MAX_URL_BYTES = 2048
_PORTS: Mapping[MailSecurity, int] = {
    MailSecurity.STARTTLS: 587,
    MailSecurity.TLS: 465,
    MailSecurity.UNSAFE_PLAIN: 25,
}
# RFC 5424 6.2.1.
FACILITIES = {
    "user": 1,
    "mail": 2,
    "daemon": 3,
    "auth": 4,
    "syslog": 5,
    "authpriv": 10,
    **{f"local{number}": 16 + number for number in range(8)},
}
# What servers take without SMTPUTF8, and nothing that a header could be made of.
_ADDRESS = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?"
)
_HOST = re.compile(r"\[?[A-Za-z0-9_](?:[A-Za-z0-9_.:-]{0,253}[A-Za-z0-9_])?\]?|::1")
_UDP = re.compile(r"udp://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")

Kind = Annotated[NoticeKind, BeforeValidator(Choice({one.value: one for one in sorted(ALL_KINDS)}))]


class NotifyModel(Section):
    """
    `[notify]`.
    """

    # Less than an hour is no reminder, and more than a month none either.
    repeat: Annotated[Duration, Field(ge=timedelta(hours=1), le=timedelta(days=31))] | None = None
    settle: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(hours=1))] | None = None
    exceptions_before: Annotated[Duration, Field(ge=timedelta(0), le=timedelta(days=366))] | None = None
    webhook: dict[str, Any] | None = None
    mail: dict[str, Any] | None = None
    syslog: dict[str, Any] | None = None


class WebhookModel(Section):
    """
    `[notify.webhook.NAME]`.
    """

    only: list[Kind] | None = None
    allow_networks: Annotated[list[Cidr], Field(default_factory=list)]
    url: str | None = None
    url_secret_file: str | None = None
    token_file: str | None = None
    roots: Annotated[list[str], Field(default_factory=list)]
    proxy: str | None = None
    unsafe_plain_http: bool = False


class MailModel(Section):
    """
    `[notify.mail.NAME]`.
    """

    only: list[Kind] | None = None
    allow_networks: Annotated[list[Cidr], Field(default_factory=list)]
    host: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    security: Annotated[MailSecurity, BeforeValidator(Choice({one.value: one for one in MailSecurity}))] = (
        MailSecurity.STARTTLS
    )
    sender: str | None = None
    recipients: list[str] | None = None
    user: str | None = None
    password_file: str | None = None
    roots: Annotated[list[str], Field(default_factory=list)]


class SyslogModel(Section):
    """
    `[notify.syslog.NAME]`.
    """

    only: list[Kind] | None = None
    allow_networks: Annotated[list[Cidr], Field(default_factory=list)]
    address: str = "/dev/log"
    facility: Annotated[int, BeforeValidator(Choice(FACILITIES))] = FACILITIES["daemon"]


def read_notify(reader: Reader, raw: object) -> NotifySettings:
    """
    Read `[notify]`.

    Args:
        reader: of the file.
        raw: the section.

    Returns:
        The settings; nobody is told where it is absent.

    """
    model = reader.validate(NotifyModel, ("notify",), raw)
    made: list[AnyReceiver | None] = []
    names: dict[str, str] = {}
    for kind, read in (("webhook", _webhook), ("mail", _mail), ("syslog", _syslog)):
        for name, section in (getattr(model, kind) or {}).items():
            path = ("notify", kind, name)
            reader.name(path, name)
            if name in names:
                # The log and `cftpki notify test` call them by their names.
                reader.faults.add(path, f"{name!r} is also the name of [notify.{names[name]}.{name}]")
            names.setdefault(name, kind)
            made.append(read(reader, path, name, section))
    if len(made) > MAX_RECEIVERS:
        reader.faults.add(("notify",), f"{len(made)} receivers, at most {MAX_RECEIVERS}")
    given = {
        key: getattr(model, key)
        for key in ("repeat", "settle", "exceptions_before")
        if getattr(model, key) is not None
    }
    return NotifySettings(receivers=tuple(one for one in made if one is not None), **given)


def _webhook(reader: Reader, path: KeyPath, name: str, raw: object) -> WebhookReceiver | None:
    model = reader.validate(WebhookModel, path, raw)
    if (model.url is None) == (model.url_secret_file is None):
        if not reader.faults.within((*path, "url")):
            reader.faults.add(
                (*path, "url"), "needs either 'url' or, where the address is a secret, 'url_secret_file'"
            )
        return None
    if model.url is not None and not _is_webhook(
        reader, (*path, "url"), model.url, plain=model.unsafe_plain_http
    ):
        return None
    if model.proxy is not None and not _is_proxy(model.proxy):
        reader.faults.add((*path, "proxy"), "is no proxy: write http://host:port")
    secret, token = file_of(reader, model.url_secret_file), file_of(reader, model.token_file)
    if secret is not None:
        secret_file(reader, (*path, "url_secret_file"), secret, cap=MAX_URL_BYTES, what="address")
    if token is not None:
        secret_file(reader, (*path, "token_file"), token, cap=MAX_TOKEN_BYTES, what="token")
    return WebhookReceiver(
        name=name,
        kinds=_kinds(model.only),
        allow_networks=tuple(model.allow_networks),
        url=model.url,
        url_secret_file=secret,
        token_file=token,
        roots=certificates_of(reader, (*path, "roots"), model.roots),
        proxy=model.proxy,
        unsafe_plain_http=model.unsafe_plain_http,
    )


def _is_webhook(reader: Reader, path: KeyPath, url: str, *, plain: bool) -> bool:
    parts = address_parts(reader, path, url, f"{url!r} is no https address")
    return parts is not None and is_protected(reader, path, parts, plain=plain)


def _is_proxy(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme == "http" and bool(parts.hostname) and (parts.port or 1) > 0 and text.isprintable()
        )
    except ValueError:
        return False


def _mail(reader: Reader, path: KeyPath, name: str, raw: object) -> MailReceiver | None:
    model = reader.validate(MailModel, path, raw)
    sound = True
    for key in ("host", "sender", "recipients"):
        if not getattr(model, key):
            sound = False
            if not reader.faults.within((*path, key)):
                reader.faults.add((*path, key), f"{key!r} is missing")
    if not sound or model.host is None or model.sender is None or model.recipients is None:
        return None
    if not _HOST.fullmatch(model.host):
        reader.faults.add((*path, "host"), f"{model.host!r} is no host: a name or an address, without port")
    for key, addresses in (("sender", [model.sender]), ("recipients", model.recipients)):
        for address in addresses:
            if not _ADDRESS.fullmatch(address):
                reader.faults.add((*path, key), f"{address!r} is no mail address that every server takes")
    if len(model.recipients) > MAX_RECIPIENTS:
        reader.faults.add((*path, "recipients"), f"more than {MAX_RECIPIENTS}: name a mailing list")
    if (model.user is None) != (model.password_file is None):
        reader.faults.add((*path, "user"), "'user' and 'password_file' go together")
    if model.password_file is not None and model.security is MailSecurity.UNSAFE_PLAIN:
        reader.faults.add(
            (*path, "password_file"), 'would be sent to whoever listens: use security = "starttls"'
        )
    if model.user is not None and not (model.user.isascii() and model.user.isprintable()):
        reader.faults.add((*path, "user"), "must be printable ASCII")
    password = file_of(reader, model.password_file)
    if password is not None:
        secret_file(reader, (*path, "password_file"), password, cap=MAX_PASSWORD_BYTES, what="password")
    return MailReceiver(
        name=name,
        kinds=_kinds(model.only),
        allow_networks=tuple(model.allow_networks),
        host=model.host.strip("[]"),
        port=model.port or _PORTS[model.security],
        security=model.security,
        sender=model.sender,
        recipients=tuple(dict.fromkeys(model.recipients)),
        user=model.user,
        password_file=password,
        roots=certificates_of(reader, (*path, "roots"), model.roots),
    )


def _syslog(reader: Reader, path: KeyPath, name: str, raw: object) -> SyslogReceiver | None:
    model = reader.validate(SyslogModel, path, raw)
    values: dict[str, Any] = {
        "name": name,
        "kinds": _kinds(model.only),
        "allow_networks": tuple(model.allow_networks),
        "facility": model.facility,
    }
    if model.address.startswith("/"):
        if "\0" in model.address or len(model.address.encode()) > 107:
            reader.faults.add((*path, "address"), "is no path of a socket")
            return None
        return SyslogReceiver(path=Path(model.address), **values)
    found = _UDP.fullmatch(model.address)
    port = 514 if found is None or found[2] is None else int(found[2])
    if found is None or not 0 < port < 65536:
        reader.faults.add(
            (*path, "address"), f"{model.address!r} is neither the path of a socket nor udp://host:port"
        )
        return None
    return SyslogReceiver(host=found[1].strip("[]"), port=port, **values)


def _kinds(only: list[NoticeKind] | None) -> frozenset[NoticeKind]:
    return ALL_KINDS if only is None else frozenset(only)
