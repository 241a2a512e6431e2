"""
Asking a server of which nobody knows yet what it speaks: who it is by its TLS certificate, and bounded questions.

Owns the bounds of `cftpki enroller find` and the adapter of `recognition.Explorer`. Reads no protocol.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from cftpki_connectors.ca.client import CaAnswer, CaError, CaRequest, Channel, Progress, mapped, printable
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault
from cftpki_ext.identity.recognition import Heard, Trusted, TrustedBy
from cftpki_ext.ports.clock import Clock

# One question. A server that speaks a protocol tells so at once; what is slow is told apart by the operator.
PROBE_S = 10.0
# Of one plug-in: a handful of usual addresses, and what a directory leads to.
MAX_QUESTIONS = 24
# A directory, a list of provisioners, a CA's certificates.
MAX_PROBE_BYTES = 256 * 1024
MAX_REDIRECTS = 3
# Of a chain that a server shows; real ones have four.
MAX_SHOWN = 16

# OpenSSL's names of the alerts with which a server ends a session that has no client certificate.
CERTIFICATE_WANTED = frozenset({"CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "BAD_CERTIFICATE"})

# Sends a request by a deadline, in monotonic seconds.
Send = Callable[[CaRequest, float], Awaitable[CaAnswer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    The server that the operator names. `base` has no slash at the end.
    """

    base: str
    origin: str
    host: str
    port: int


def target_of(url: str) -> Target:
    """
    Read the URL of a server.

    Args:
        url: http or https, perhaps with a path; a query or fragment is no part of where a server is.

    Raises:
        ValueError: it is no such URL; the text says why.

    """
    parts = urlsplit(url)
    if parts.scheme not in Channel.ANY.value or not parts.hostname:
        msg = "a URL is needed, as in https://ca.corp.example"
        raise ValueError(msg)
    if parts.username is not None or parts.password is not None:
        msg = "the URL has no user or password: nothing is asked with credentials"
        raise ValueError(msg)
    if parts.query or parts.fragment:
        msg = "the URL has no query or fragment"
        raise ValueError(msg)
    port = parts.port or (443 if parts.scheme == "https" else 80)  # raises ValueError for what is no port
    origin = f"{parts.scheme}://{parts.netloc}"
    return Target(base=origin + parts.path.rstrip("/"), origin=origin, host=parts.hostname, port=port)


async def shake_hands(
    target: Target, context: ssl.SSLContext, *, clock: Clock, deadline: float
) -> tuple[bytes, ...]:
    """
    Make a TLS connection and end it: who the server is, before anything is asked of it.

    Args:
        target: the server.
        context: verifies the server, or does not (`unverified_tls`).
        clock: for the deadline.
        deadline: monotonic seconds.

    Returns:
        The certificates (DER) that the server shows, its own first; verified or not, as `context` does.

    Raises:
        CaError: there is no server, or it is not trusted.

    """
    left_s = min(deadline - clock.monotonic(), PROBE_S)
    try:
        with mapped(Progress(clock)):
            async with asyncio.timeout(left_s):
                _, writer = await asyncio.open_connection(
                    target.host, target.port, ssl=context, server_hostname=target.host
                )
    except TimeoutError:
        msg = f"no TLS handshake within {left_s:.1f} s"
        raise CaError(Fault.UNREACHABLE, msg) from None
    try:
        return _presented(writer.get_extra_info("ssl_object"))[:MAX_SHOWN]
    finally:
        writer.transport.abort()


def _presented(connection: Any) -> tuple[bytes, ...]:
    public = getattr(connection, "get_unverified_chain", None)  # from Python 3.13 on
    if public is not None:
        return tuple(bytes(one) for one in public())
    inner = connection._sslobj.get_unverified_chain() or ()  # noqa: SLF001  # the same function, not public yet
    return tuple(ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in inner)


class CaExplorer:
    """
    One plug-in's questions to one server; see `recognition.Explorer`.

    Args:
        target: the server.
        trust: by what it was verified.
        send: how a question is sent; without any credential.
        clock: for deadlines.
        deadline: monotonic seconds, of all questions together.

    """

    def __init__(self, target: Target, *, trust: Trusted, send: Send, clock: Clock, deadline: float) -> None:
        self.url = target.base
        self.origin = target.origin
        self.trust = trust
        self._send = send
        self._clock = clock
        self._deadline = deadline
        self._questions = 0
        # The server ended a session because it wants a client certificate before it answers anything.
        self.closed = False
        self._heard: dict[str, list[str]] = {}

    async def get(self, url: str) -> Heard | None:
        """
        See `recognition.Explorer`.
        """
        # Who may be anybody does not send us on to where only we can go.
        redirects = 0 if self.trust.by is TrustedBy.NOTHING else MAX_REDIRECTS
        return await self._ask(self._request(url, redirects=redirects))

    async def post(self, url: str, body: bytes, *, content_type: str) -> Heard | None:
        """
        See `recognition.Explorer`.
        """
        headers = {"Content-Type": content_type}
        return await self._ask(self._request(url, method="POST", body=body, headers=headers))

    def _request(self, url: str, **more: Any) -> CaRequest:
        # Whoever verified a server over TLS is not led to one that anybody may be.
        channel = Channel.ANY if self.trust.by is TrustedBy.NOTHING else Channel.TLS
        return CaRequest(url=url, max_bytes=MAX_PROBE_BYTES, channel=channel, **more)

    def noted(self) -> str:
        """
        What became of the questions, in one line: each outcome, and where.
        """
        told = (
            f"{what} at {', '.join(places[:3])}" + (f" and {len(places) - 3} more" if len(places) > 3 else "")
            for what, places in self._heard.items()
        )
        return "; ".join(told) or "nothing was asked"

    async def _ask(self, request: CaRequest) -> Heard | None:
        url = request.url
        if self._questions >= MAX_QUESTIONS:
            self._note(f"not asked, {MAX_QUESTIONS} questions are the limit", url)
            return None
        if not url.startswith(self.origin + "/"):
            self._note("not asked, another host than was named", url)
            return None
        self._questions += 1
        deadline = min(self._deadline, self._clock.monotonic() + PROBE_S)
        try:
            answer = await self._send(request, deadline)
        except CaError as error:
            self.closed = self.closed or error.alert in CERTIFICATE_WANTED
            self._note(error.detail, url)
            return None
        self._note(f"HTTP {answer.status}", url)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Heard(status=answer.status, headers=headers, body=answer.body, url=answer.url)

    def _note(self, what: str, url: str) -> None:
        self._heard.setdefault(printable(what), []).append(printable(url.removeprefix(self.origin)) or "/")
