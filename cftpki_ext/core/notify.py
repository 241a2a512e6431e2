"""
What people are told of without a monitoring system, and to whom: the settings of `[notify]`, and the values of a message.

Pure data. What is due is decided in `service.notices`, what a receiver is sent in `cftpki_connectors.notify`.
"""

from __future__ import annotations

import enum
from dataclasses import field
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from cftpki_ext.core.values import dataclass


class NoticeKind(enum.StrEnum):
    """
    What somebody is told of.
    """

    REVOKED_PARTNER = "revoked_partner"  # one whose certificate is revoked came, or was found to be
    SOURCE_DOWN = "source_down"
    EVIDENCE_ENDS = "evidence_ends"  # a list or answer that partners rest on ends, and there is no newer one
    EXCEPTION_ENDS = "exception_ends"
    IDENTITY = "identity"  # a certificate of ours: ended, revoked, not renewed, its key unusable
    LEDGER = "ledger"  # the evidence, or the memory of revocations, is not what was written
    EVIDENCE_SHORT = "evidence_short"  # it goes before it is as old as it is to be kept
    EVIDENCE_LOST = "evidence_lost"  # records could not be kept
    CONFIGURATION = "configuration"  # a reload failed: what is in the file is not in force
    TEST = "test"


class NoticeState(enum.StrEnum):
    """
    What is said of it.
    """

    BEGUN = "begun"
    HOLDS = "holds"  # said again each day
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """
    Something that is wrong: `kind` and `about` tell it from others, `text` is one sentence for a person.
    """

    kind: NoticeKind
    about: str
    text: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """
    One line of a message.
    """

    state: NoticeState
    condition: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeMessage:
    """
    What is sent to one receiver at once. `more` notices had no room. All text is printable.
    """

    id: str
    at: datetime
    host: str
    notices: tuple[Notice, ...]
    more: int = 0


class MailSecurity(enum.StrEnum):
    """
    How mail goes to its server. `UNSAFE_PLAIN`: whoever is on the way reads and changes it; no password goes that way.
    """

    STARTTLS = "starttls"
    TLS = "tls"
    UNSAFE_PLAIN = "unsafe_plain"


ALL_KINDS = frozenset(NoticeKind) - {NoticeKind.TEST}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """
    What all receivers have: a name, what they are told of, and the networks that are not public and they may be in.
    """

    name: str
    kinds: frozenset[NoticeKind] = ALL_KINDS
    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookReceiver(Receiver):
    """
    A URL that takes JSON by POST. Exactly one of `url` and `url_secret_file` is set.

    By default the system's trust store says who answers; with `roots` (DER) only they count. `token_file` holds what
    goes into `Authorization: Bearer`.
    """

    url: str | None = None
    url_secret_file: Path | None = None
    token_file: Path | None = None
    roots: tuple[bytes, ...] = ()
    proxy: str | None = None
    unsafe_plain_http: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MailReceiver(Receiver):
    """
    A mail server that takes mail for some recipients. A password goes only to a server that is known by TLS.
    """

    host: str
    port: int
    security: MailSecurity = MailSecurity.STARTTLS
    sender: str
    recipients: tuple[str, ...]
    user: str | None = None
    password_file: Path | None = None
    roots: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogReceiver(Receiver):
    """
    A system log: a unix socket (`path`), as syslog(3) writes to, or `host` and `port` by UDP in the form of RFC 5424.
    """

    path: Path | None = None
    host: str = ""
    port: int = 514
    facility: int = 3  # daemon


AnyReceiver = WebhookReceiver | MailReceiver | SyslogReceiver


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifySettings:
    """
    `[notify]`: by default nobody is told.
    """

    receivers: tuple[AnyReceiver, ...] = field(default=())
    # What goes on is said again so often.
    repeat: timedelta = timedelta(hours=24)
    # What begins waits so long for what begins with it; what is over must be so for as long before it is said.
    settle: timedelta = timedelta(seconds=30)
    # Exceptions are told of so long before their end.
    exceptions_before: timedelta = timedelta(days=7)
