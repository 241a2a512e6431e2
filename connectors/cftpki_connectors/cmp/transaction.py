"""
One transaction with a CMP server: messages out, answers back, believed only where they are what this one waits for.

Owns nonces, identifiers, the HTTP transfer (RFC 9811), and waiting for answers that come later (RFC 9483 4.4).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from types import MappingProxyType
from typing import TypeVar

from cftpki_connectors.ca.client import (
    CaAnswer,
    CaClient,
    CaError,
    CaRequest,
    Channel,
    printable,
    status_fault,
)
from cftpki_connectors.cmp import protection, writing
from cftpki_connectors.cmp.bodies import parse_error, parse_poll_reply
from cftpki_connectors.cmp.credentials import Credentials
from cftpki_connectors.cmp.messages import MAX_MESSAGE_BYTES, parse_message
from cftpki_connectors.cmp.options import CmpOptions
from cftpki_connectors.cmp.protection import Means, ProtectionError, Secret
from cftpki_connectors.cmp.status import words
from cftpki_connectors.cmp.values import Kind, MalformedMessageError, Message, Outcome
from cftpki_connectors.support import threads
from cftpki_ext.core.escape import excerpt
from cftpki_ext.identity.enroller_port import Fault
from cftpki_ext.ports.clock import Clock

_NONCE_OCTETS = 16
_CONTENT_TYPE = "application/pkixcmp"
# A server may name any time; one beyond this is a mistake, one below is asked for by nobody who means it well.
MAX_CHECK_AFTER = timedelta(days=7)
MIN_CHECK_AFTER = timedelta(seconds=1)
# Where an answer that is not a certificate is waited for, it is waited for here.
_PATIENCE_S = 60.0

OPERATIONS = MappingProxyType(
    {
        Kind.IR: "initialization",
        Kind.CR: "certification",
        Kind.KUR: "keyupdate",
        Kind.P10CR: "pkcs10",
        Kind.RR: "revocation",
    }
)


_T = TypeVar("_T")


class Transaction:
    """
    Talks to one server about one thing.

    Nothing that is not protected by the server is believed: what an unprotected error says is told as not verified,
    and changes nothing. An answer must carry the transaction's identifier and the nonce of the message it answers.

    Args:
        options: where the server is.
        credentials: whose answers count.
        means: what protects our messages.
        clock: for deadlines, and the time in messages.
        recipient: the Name of the CA (DER).
        operation: the path segment (RFC 9483 6.1) under which all of it is said.
        identifier: of a transaction that is taken up again.
        answered: the nonce that the server said last in it.

    """

    def __init__(
        self,
        options: CmpOptions,
        credentials: Credentials,
        means: Means,
        clock: Clock,
        *,
        recipient: bytes,
        operation: str,
        identifier: bytes = b"",
        answered: bytes = b"",
    ) -> None:
        self._options = options
        self._credentials = credentials
        self._means = means
        self._clock = clock
        self._recipient = recipient
        self._url = options.target(operation)
        self.identifier = identifier or secrets.token_bytes(_NONCE_OCTETS)
        self.answered = answered

    async def ask(
        self, body: bytes, *, deadline: float, infos: tuple[bytes, ...] = (), version: int = 2
    ) -> Message:
        """
        Send one message and read the answer, an error of the server's too.

        Args:
            body: the PKIBody.
            deadline: monotonic seconds.
            infos: generalInfo of the header.
            version: pvno.

        Returns:
            The answer, which is the server's.

        Raises:
            CaError: nothing came that is to be believed.

        """
        nonce = secrets.token_bytes(_NONCE_OCTETS)
        data = await threads.call(lambda: self._written(body, nonce, infos, version))
        request = CaRequest(
            url=self._url,
            method="POST",
            body=data,
            headers=MappingProxyType({"Content-Type": _CONTENT_TYPE, "Connection": "close"}),
            max_bytes=MAX_MESSAGE_BYTES,
            channel=Channel.ANY,
        )
        # Without TLS nobody's store is read.
        roots = self._credentials.tls_roots if self._url.startswith("https:") else ()
        client = CaClient(clock=self._clock, roots=roots, proxy=self._credentials.proxy)
        async with aclosing(client):
            answer = await client.send(request, deadline=deadline)
        found = await threads.call(lambda: self._believed(answer, nonce))
        self.answered = found.header.sender_nonce or b""
        return found

    async def ask_patiently(
        self, body: bytes, *, deadline: float, infos: tuple[bytes, ...] = (), version: int = 2
    ) -> Message:
        """
        As `ask`, and where the answer is to come later (RFC 9483 4.4), poll for it for a minute.

        Raises:
            CaError: as `ask`; UNREACHABLE with a time where it takes longer.

        """
        until = min(deadline, self._clock.monotonic() + _PATIENCE_S)
        answer = await self.ask(body, deadline=deadline, infos=infos, version=version)
        # Each round but the first waits, so that there are few of them.
        while waits(answer):
            answer = await self.ask(writing.poll_request(-1), deadline=deadline)
            if not waits(answer):
                break
            later = check_after(answer, -1) if answer.kind is Kind.POLLREP else None
            wait_s = self._options.retry_s if later is None else later.total_seconds()
            if self._clock.monotonic() + wait_s >= until:
                detail = "the server has not decided yet"
                retry_at = self._clock.now() + timedelta(seconds=wait_s)
                raise CaError(Fault.UNREACHABLE, detail, sent=True, retry_at=retry_at)
            await asyncio.sleep(wait_s)
        return answer

    def _written(self, body: bytes, nonce: bytes, infos: tuple[bytes, ...], version: int) -> bytes:
        means = self._means
        identifier = means.begin()
        head = writing.header(
            writing.Fields(
                sender=means.sender,
                recipient=self._recipient,
                time=self._clock.now(),
                algorithm=identifier,
                key_id=means.key_id,
                transaction=self.identifier,
                nonce=nonce,
                answered=self.answered or None,
                infos=infos,
                version=version,
            )
        )
        protected = writing.sequence(head, body)
        return writing.message(head, body, means.protect(identifier, protected), means.chain)

    def _believed(self, answer: CaAnswer, nonce: bytes) -> Message:
        if answer.status != 200 and answer.content_type != _CONTENT_TYPE:
            fault, retry_at = status_fault(answer, self._clock.now())
            wrong_place = answer.status in {404, 405, 415}
            hint = "; is the path (label, operations) right?" if wrong_place else ""
            # HTTP is nobody's word here: an order is not refused by it.
            fault = Fault.MISCONFIGURED if fault is Fault.REFUSED else fault
            # Below 500 nobody has looked into the message.
            sent = answer.status >= 500 or answer.status < 400 or answer.status == 408
            raise CaError(fault, f"HTTP {answer.status}{hint}", sent=sent, retry_at=retry_at)
        try:
            message = parse_message(answer.body)
        except MalformedMessageError as error:
            detail = f"HTTP {answer.status}, but no CMP message: {printable(str(error))}"
            raise CaError(Fault.UNREACHABLE, detail, sent=True) from error
        self._check(message, nonce)
        return message

    def _check(self, message: Message, nonce: bytes) -> None:
        secret = self._means.secret if isinstance(self._means, Secret) else None
        try:
            protection.check(
                message, secret=secret, believed=self._credentials.believed, now=self._clock.now()
            )
        except ProtectionError as error:
            detail = f"the server's answer is not believed: {error}"
            if message.kind is Kind.ERROR:
                # Anybody may have sent it; mostly it is a server that does not know our secret or certificate.
                detail = (
                    f"the server answers with an error that is not verified, since {error}: {_said(message)}"
                )
                raise CaError(Fault.UNREACHABLE, detail, sent=True, untrusted=True) from error
            raise CaError(Fault.MISCONFIGURED, detail, sent=True, untrusted=True) from error
        header = message.header
        wrong = None
        if header.transaction != self.identifier:
            wrong = "it belongs to another transaction"
        elif header.recipient_nonce != nonce:
            wrong = "it answers another message"
        elif not header.sender_nonce:
            wrong = "it has no nonce"
        elif header.version not in {2, 3}:
            wrong = "its version is not 2 or 3"
        if wrong is not None:
            raise CaError(Fault.UNREACHABLE, f"the server's answer is not believed: {wrong}", sent=True)


def read(reader: Callable[[bytes], _T], message: Message) -> _T:
    """
    The body of a message that is the server's.

    Raises:
        CaError: it is not what it says it is.

    """
    try:
        return reader(message.body)
    except MalformedMessageError as error:
        detail = f"the server's answer cannot be read: {printable(str(error))}"
        raise CaError(Fault.UNREACHABLE, detail, sent=True) from error


def waits(message: Message) -> bool:
    """
    Whether the server says that its answer comes later.

    Raises:
        CaError: the message cannot be read.

    """
    return message.kind is Kind.POLLREP or (
        message.kind is Kind.ERROR and read(parse_error, message).outcome is Outcome.WAITING
    )


def check_after(message: Message, request: int) -> timedelta | None:
    """
    When a pollRep wants to be asked again, within bounds; `None` where it says nothing of that request.

    Raises:
        CaError: the message cannot be read.

    """
    for one in read(parse_poll_reply, message):
        if one.request == request:
            return timedelta(
                seconds=min(
                    max(one.after_s, MIN_CHECK_AFTER.total_seconds()), MAX_CHECK_AFTER.total_seconds()
                )
            )
    return None


def undecided(message: Message) -> str:
    """
    What an answer that is to come later says to an operator, with the server's reason where it gives one.

    Raises:
        CaError: the message cannot be read.

    """
    replies = read(parse_poll_reply, message) if message.kind is Kind.POLLREP else ()
    said = "; ".join(text for one in replies for text in one.texts)
    return "cmp: the CA has not decided yet" + (f": {excerpt(said, 200)}" if said else "")


def _said(message: Message) -> str:
    try:
        return words(parse_error(message.body))
    except MalformedMessageError:
        return "it cannot be read"
