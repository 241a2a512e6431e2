"""
Notices to the system log: a datagram each, to a unix socket in the form of syslog(3), or by UDP in that of RFC 5424.
"""

from __future__ import annotations

import os
import socket
from datetime import UTC
from typing import Any

from cftpki_connectors.fetch.resolve import Resolver, SystemResolver
from cftpki_connectors.notify.reach import addresses, guard_for
from cftpki_connectors.notify.words import line_of
from cftpki_ext.core.errors import NotTakenError
from cftpki_ext.core.notify import Notice, NoticeMessage, NoticeState, SyslogReceiver
from cftpki_ext.support.failures import reason_of

# RFC 5426 3.2: what every receiver should take.
MAX_DATAGRAM = 2048
# RFC 5424 6.2.1: what is wrong, and what is over.
_ERROR, _NOTICE = 3, 5
# RFC 5424 6.3.2: names of our own would need a number from IANA.
_NO_DATA = "-"
_BOM = "\ufeff"


class SyslogSender:
    """
    Sends to one system log. Nothing waits: what the socket does not take at once is tried again later.

    Args:
        receiver: the settings.
        resolver: finds the addresses of a host.

    """

    def __init__(self, receiver: SyslogReceiver, *, resolver: Resolver | None = None) -> None:
        self._receiver = receiver
        self._own = None if resolver is not None else SystemResolver()
        self._resolver: Resolver = resolver or self._own or SystemResolver()

    async def send(self, message: NoticeMessage, *, deadline: float) -> None:  # noqa: ARG002 - nothing waits but the name
        """
        See `ports.NoticeSender`. By UDP nobody knows whether it arrives.
        """
        one = self._receiver
        lines = [_datagram(one, message, notice) for notice in message.notices]
        family, to = await self._to()
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.settimeout(0)
                client.connect(to)
                for line in lines:
                    client.send(line)
        except OSError as error:
            where = one.path if one.path is not None else one.host
            msg = f"{where} did not take it: {reason_of(error)}"
            raise NotTakenError(msg) from error

    async def aclose(self) -> None:
        """
        Wait for no name.
        """
        if self._own is not None:
            await self._own.aclose()

    async def _to(self) -> tuple[socket.AddressFamily, Any]:
        one = self._receiver
        if one.path is not None:
            return socket.AF_UNIX, str(one.path)
        guard = guard_for(one.host, one.port, one.allow_networks)
        address = (await addresses(one.host, one.port, guard, self._resolver))[0]
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        return family, (str(address), one.port)


def _datagram(receiver: SyslogReceiver, message: NoticeMessage, notice: Notice) -> bytes:
    severity = _NOTICE if notice.state is NoticeState.OVER else _ERROR
    priority = receiver.facility * 8 + severity
    line = line_of(notice)
    if receiver.path is not None:
        # What syslog(3) writes: the local time without a zone, no host.
        head = f"<{priority}>{message.at.astimezone():%b %e %H:%M:%S} cftpki[{os.getpid()}]: "
        return _cut(head, line)
    at = message.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    named = message.host.isascii() and message.host.isprintable() and " " not in message.host
    host = message.host if named and message.host else "-"
    kind = notice.condition.kind.value
    head = f"<{priority}>1 {at} {host[:255]} cftpki {os.getpid()} {kind[:32]} {_NO_DATA} "
    return _cut(head, f"{_BOM}{line}")


def _cut(head: str, line: str) -> bytes:
    """
    A whole number of characters within the datagram.
    """
    raw = f"{head}{line}".encode()
    return raw if len(raw) <= MAX_DATAGRAM else raw[:MAX_DATAGRAM].decode(errors="ignore").encode()
