"""
Notices put together from settings: what sends to each receiver, and the log that they are told of events by.

Adapters are imported when somebody is to be told (docs/adr/0030-start-up.md).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.log import BatchLog
from cftpki_ext.core.notify import AnyReceiver, MailReceiver, SyslogReceiver, WebhookReceiver
from cftpki_ext.core.settings import Settings
from cftpki_ext.ports.notices import NoticeSender
from cftpki_ext.service.notices.driver import Notices
from cftpki_ext.support.logs import SteadyLog

Listener = Callable[[str, Mapping[str, Any]], None]


def make_sender(receiver: AnyReceiver) -> NoticeSender:
    """
    What sends to one receiver.

    Args:
        receiver: its settings.

    Returns:
        The sender, to be closed.

    """
    match receiver:
        case WebhookReceiver():
            from cftpki_connectors.notify.webhook import WebhookSender  # noqa: PLC0415 - see the module

            return WebhookSender(receiver)
        case MailReceiver():
            from cftpki_connectors.notify.mail import MailSender  # noqa: PLC0415 - see the module

            return MailSender(receiver)
        case SyslogReceiver():
            from cftpki_connectors.notify.syslog import SyslogSender  # noqa: PLC0415 - see the module

            return SyslogSender(receiver)


def host_name() -> str:
    """
    The machine's name, printable.
    """
    return excerpt(socket.gethostname(), 255) or "localhost"


def make_notices(
    settings: Settings, log: BatchLog, status: Callable[[], Mapping[str, Any]]
) -> tuple[Notices, HeardLog]:
    """
    The notices of a service. Nobody waits for those who are told, and no fault of theirs is anybody else's.

    Args:
        settings: in force.
        log: writes.
        status: what the service tells of itself.

    Returns:
        The notices, to be run, and a log that writes as before and lets them hear.

    """
    notices = Notices(
        settings,
        status=status,
        make=make_sender,
        log=SteadyLog(log),
        clock=SystemClock(),
        host=host_name(),
    )
    return notices, HeardLog(log, notices.hear)


class HeardLog:
    """
    A log whose events somebody else hears of as well. What the log raises goes on; the listener never raises.

    Args:
        log: writes.
        listener: is told of each event, before it is written: a full disk is what somebody should hear of.

    """

    def __init__(self, log: BatchLog, listener: Listener) -> None:
        self._log = log
        self._listener = listener

    def debug(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._log.debug(event, **fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._log.info(event, **fields)

    def many(self, events: Sequence[tuple[str, Mapping[str, Any]]], /) -> None:
        """
        See `core.log.BatchLog`; all of them are as they should be.
        """
        self._log.many(events)

    def warning(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._listener(event, fields)
        self._log.warning(event, **fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._listener(event, fields)
        self._log.error(event, **fields)
