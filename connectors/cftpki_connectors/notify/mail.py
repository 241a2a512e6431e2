"""
Notices by mail: smtplib in a thread of its own, held to what one message may cost.

smtplib bounds each wait and each line, but neither an exchange nor an answer: a server that drips, or that never ends its
answer, would keep thread and memory. So every octet is counted, and the socket is shut down at the deadline.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import smtplib
import socket
import ssl
import time
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from cftpki_connectors.fetch.resolve import Resolver, SystemResolver
from cftpki_connectors.notify.reach import addresses, guard_for
from cftpki_connectors.notify.words import subject_of, text_of
from cftpki_connectors.support.httpx_client import client_tls, private_tls
from cftpki_connectors.support.secret_files import secret_text
from cftpki_connectors.support.threads import Lane
from cftpki_ext.core.errors import InputError, NotTakenError
from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.notify import MailReceiver, MailSecurity, NoticeMessage
from cftpki_ext.support.failures import reason_of
from cftpki_ext.support.logs import event_log

# All that a server says in one session; ours are some hundred octets.
MAX_ANSWER_BYTES = 64 * 1024
# One mail server at a time hangs for each receiver; more than these are not configured (`config.notify`).
_THREADS = 16
_CHARACTERS = 200
_lane = Lane(_THREADS, "sending mail")


class MailSender:
    """
    Sends to one mail server. The password is read from its file for each message.

    Args:
        receiver: the settings.
        resolver: finds the server's addresses.

    """

    def __init__(self, receiver: MailReceiver, *, resolver: Resolver | None = None) -> None:
        self._receiver = receiver
        self._own = None if resolver is not None else SystemResolver()
        self._resolver: Resolver = resolver or self._own or SystemResolver()

    async def send(self, message: NoticeMessage, *, deadline: float) -> None:
        """
        See `ports.NoticeSender`.
        """
        one = self._receiver
        guard = guard_for(one.host, one.port, one.allow_networks)
        found = await addresses(one.host, one.port, guard, self._resolver)
        session = _Session(one, found, deadline)
        try:
            await _lane.call(lambda: session.send(message))
        except asyncio.CancelledError:
            session.abort()  # the thread ends with its socket
            raise

    async def aclose(self) -> None:
        """
        Wait for no name.
        """
        if self._own is not None:
            await self._own.aclose()


class _Session:
    """
    One message to one server, in a thread.
    """

    def __init__(
        self, receiver: MailReceiver, found: Sequence[IPv4Address | IPv6Address], deadline: float
    ) -> None:
        self._receiver = receiver
        self._addresses = found
        self._deadline = deadline
        # The connection under whatever lies over it: what ends it ends TLS and its handshake as well.
        self._below: socket.socket | None = None
        self._aborted = False

    def abort(self) -> None:
        """
        End it from another thread.
        """
        self._aborted = True
        below = self._below
        if below is not None:
            with contextlib.suppress(OSError):
                below.shutdown(socket.SHUT_RDWR)

    def send(self, message: NoticeMessage) -> None:
        one, password = self._receiver, None
        try:
            if one.password_file is not None:
                password = secret_text(one.password_file, "password_file")
            self._exchange(message, password)
        except smtplib.SMTPResponseException as error:
            msg = (
                f"{one.host} answers {error.smtp_code} {_said(error.smtp_error, one.user, password)}".rstrip()
            )
            raise NotTakenError(msg) from None
        except smtplib.SMTPRecipientsRefused as error:
            refused = ", ".join(
                f"{who}: {code} {_said(text, one.user, password)}"
                for who, (code, text) in error.recipients.items()
            )
            msg = f"{one.host} refuses every recipient: {excerpt(refused, _CHARACTERS)}"
            raise NotTakenError(msg) from None
        except (smtplib.SMTPException, OSError, ValueError, InputError) as error:
            words = str(error) if isinstance(error, smtplib.SMTPException | InputError) else reason_of(error)
            words = "no answer in time" if self._aborted else words
            msg = f"{one.host} did not take it: {excerpt(words, _CHARACTERS)}"
            # Not "from error": a traceback could show what was sent to it.
            raise NotTakenError(msg) from None
        finally:
            if self._below is not None:
                self._below.close()

    def _exchange(self, message: NoticeMessage, password: str | None) -> None:
        one = self._receiver
        tls = None if one.security is MailSecurity.UNSAFE_PLAIN else _tls(one)
        smtp = _Smtp(self, tls if one.security is MailSecurity.TLS else None, message.host)
        try:
            smtp.begin(one.host, one.port)
            smtp.ehlo_or_helo_if_needed()
            if one.security is MailSecurity.STARTTLS and tls is not None:
                # Raises where the server offers none: nothing is sent in the open.
                smtp.starttls(context=tls)
                smtp.ehlo()
            if one.user is not None and password is not None:
                smtp.login(one.user, password)
            refused = smtp.send_message(_mail(one, message), one.sender, one.recipients)
            with contextlib.suppress(smtplib.SMTPException, OSError):  # it has been taken, whatever comes now
                smtp.quit()
        finally:
            smtp.close()
        if refused:
            # The others have it: sent again, it would come to them again and again.
            event_log().warning("notice_recipients_refused", receiver=one.name, recipients=sorted(refused))

    def connect(self) -> socket.socket:
        last: OSError = OSError("no address")
        for address in self._addresses[:4]:
            try:
                made = socket.create_connection((str(address), self._receiver.port), timeout=self.left_s())
            except OSError as error:
                last = error
                continue
            self._below = made.dup()
            if self._aborted:
                self.abort()
            return made
        raise last

    def left_s(self) -> float:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s


class _Smtp(smtplib.SMTP):
    """
    smtplib that connects where it may, counts what it is told, and never asks the network for our own name.
    """

    def __init__(self, session: _Session, tls: ssl.SSLContext | None, host: str) -> None:
        self._session = session
        self._tls_at_once = tls
        self._told = 0
        # The name is what EHLO says; without it smtplib looks ours up, and waits for that.
        super().__init__(local_hostname=host if host.isascii() and " " not in host else "localhost")

    def begin(self, host: str, port: int) -> None:
        self._host = host  # what the server's certificate must name  # type: ignore[misc]
        code, text = self.connect(host, port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, text)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # noqa: ARG002 - smtplib's signature
        made = self._session.connect()
        return (
            made if self._tls_at_once is None else self._tls_at_once.wrap_socket(made, server_hostname=host)
        )

    def getreply(self) -> tuple[int, bytes]:
        if self.sock is not None:
            self.sock.settimeout(self._session.left_s())
        if self.file is None and self.sock is not None:
            self.file = _Counted(self.sock.makefile("rb"), self)
        return super().getreply()

    def count(self, octets: int) -> None:
        self._told += octets
        if self._told > MAX_ANSWER_BYTES:
            msg = f"the server says more than {MAX_ANSWER_BYTES} octets"
            raise OSError(msg)


class _Counted:
    """
    The file that smtplib reads lines from.
    """

    def __init__(self, inner: Any, smtp: _Smtp) -> None:
        self._inner = inner
        self._smtp = smtp

    def readline(self, size: int = -1) -> bytes:
        line: bytes = self._inner.readline(size)
        self._smtp.count(len(line))
        return line

    def close(self) -> None:
        self._inner.close()


def _tls(receiver: MailReceiver) -> ssl.SSLContext:
    context = private_tls(receiver.roots) if receiver.roots else client_tls()
    if not receiver.roots:
        context.load_default_certs()
    # ALPN names HTTP there; a mail server has no business with it.
    context.set_alpn_protocols([])
    return context


def _mail(receiver: MailReceiver, message: NoticeMessage) -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["From"] = receiver.sender
    mail["To"] = ", ".join(receiver.recipients)
    mail["Subject"] = subject_of(message)
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = f"<{message.id}@{receiver.sender.rpartition('@')[2]}>"
    # No automatic answer is wanted (RFC 3834).
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(f"{text_of(message)}\n\nSent by cftpki on {message.host}.\n", cte="base64")
    return mail


def _said(text: object, user: str | None, password: str | None) -> str:
    """
    A server's words, unless they repeat what it was told in confidence.
    """
    words = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    if password is not None:
        told = (password, f"\0{user}\0{password}")
        forms = {password, *(base64.b64encode(one.encode()).decode().rstrip("=") for one in told)}
        if any(form in words for form in forms):
            return ""
    return excerpt(words, _CHARACTERS)
