"""
The HTTPS client of the enrollers: one CA, whom we trust by named roots, and whom we may tell who we are.

Owns everything between a URL and bytes for step-ca, ACME, EST and SCEP: trust, pinned bootstrap, client certificates, caps,
the wall clock, redirects, and the one mapping from third-party exceptions to `enroller_port.Fault`. Judges no
content. Unlike `fetch` it never reads what a certificate names, so it needs no guard of addresses.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import urljoin

import httpcore
import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cftpki_connectors.ca.values import (
    PROXY_AUTHENTICATION,
    CaAnswer,
    CaError,
    CaRequest,
    Channel,
    http_date,
    printable,
    retry_after,
    status_fault,
)
from cftpki_connectors.support.httpx_client import (
    HEADERS,
    REDIRECTS,
    body_within,
    client_tls,
    no_cookies,
    objection,
    tls_errors,
    unverified_tls,
)
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault, Held
from cftpki_ext.ports.clock import Clock
from cftpki_ext.support.failures import reason_of

__all__ = [
    "CaAnswer",
    "CaClient",
    "CaError",
    "CaRequest",
    "Channel",
    "Progress",
    "fetch_pinned",
    "fetch_unverified",
    "http_date",
    "mapped",
    "printable",
    "retry_after",
    "status_fault",
    "tls_context",
]


# One request with its redirects: many servers ask a CA behind them. One that drips must not take all of the attempt's time.
REQUEST_S = 120.0
# X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED: it may as well be our clock.
_BY_THE_CLOCK = frozenset({9, 10})


class CaClient:
    """
    Talks to one CA over TLS 1.2 or newer.

    Only https, but for requests of `Channel.ANY`. The server's certificate must lead to one of `roots` and carry the URL's host; the system's
    trust store counts only where `roots` is `None`. The revocation status of the CA's own TLS certificate is
    not asked for. The environment's proxies and netrc are not looked at, cookies are not kept, POSTs are never
    redirected and never repeated.

    Args:
        clock: its monotonic seconds are those of `deadline`.
        roots: trust anchors (DER); `None` for the system's.
        identity: our certificate and key, shown when the server asks for one.
        proxy: `http://[user:password@]host:port`, used as a tunnel; by default none.

    Raises:
        CaError: `roots` or `identity` cannot be used by OpenSSL.

    """

    def __init__(
        self,
        *,
        clock: Clock,
        roots: tuple[bytes, ...] | None,
        identity: Held | None = None,
        proxy: str | None = None,
    ) -> None:
        self._clock = clock
        self._client = _client(tls_context(roots, identity), proxy)

    async def send(self, request: CaRequest, *, deadline: float) -> CaAnswer:
        """
        Send one request and read the answer.

        Args:
            request: what to ask.
            deadline: monotonic seconds; holds for DNS, connecting, redirects and reading together, for which
                there are never more than `REQUEST_S`.

        Returns:
            The answer, its body at most `request.max_bytes` long.

        Raises:
            CaError: nothing usable came.

        """
        return await _send(self._client, request, self._clock, deadline)

    async def aclose(self) -> None:
        """
        Close all connections.
        """
        await self._client.aclose()


async def fetch_pinned(
    request: CaRequest,
    *,
    fingerprint: str,
    certificates: Callable[[CaAnswer], Iterable[bytes]],
    clock: Clock,
    deadline: float,
    proxy: str | None = None,
) -> bytes:
    """
    Get a root certificate from a CA that is not trusted yet, and believe it by its fingerprint only.

    The server's certificate is not verified: nothing of what comes is used but the one certificate whose
    SHA-256 is `fingerprint`. No secret may be in `request`.

    Args:
        request: where the root is to be had.
        fingerprint: SHA-256 of the root's DER, 64 hex digits.
        certificates: the certificates (DER) in an answer; raises `CaError` where the answer has none to give.
        clock: for `deadline`.
        deadline: monotonic seconds.
        proxy: as for `CaClient`.

    Returns:
        The root (DER).

    Raises:
        CaError: not reached, or no certificate with that fingerprint came.

    """
    answer = await fetch_unverified(request, clock=clock, deadline=deadline, proxy=proxy)
    seen = []
    for certificate in certificates(answer):
        digest = hashlib.sha256(certificate).hexdigest()
        if digest == fingerprint:
            return certificate
        seen.append(digest)
    found = ", ".join(seen[:3]) or "none"
    detail = (
        f"no certificate with the configured fingerprint {fingerprint} came (sha-256 of what came: {found})"
    )
    raise CaError(Fault.MISCONFIGURED, detail)


async def fetch_unverified(
    request: CaRequest, *, clock: Clock, deadline: float, proxy: str | None = None
) -> CaAnswer:
    """
    Ask a server whose certificate is not verified: anybody may have answered.

    Only for what carries its own proof: a root with a known fingerprint, a new root that the old one signed.
    No secret may be in `request`.

    Args:
        request: what to ask.
        clock: for `deadline`.
        deadline: monotonic seconds.
        proxy: as for `CaClient`.

    Returns:
        The answer, as with `CaClient.send`.

    Raises:
        CaError: nothing usable came.

    """
    client = _client(unverified_tls(), proxy)
    try:
        return await _send(client, request, clock, deadline)
    finally:
        await client.aclose()


def tls_context(roots: tuple[bytes, ...] | None, identity: Held | None) -> ssl.SSLContext:
    """
    TLS towards a CA as `client_tls` has it, verified against `roots` only (`None`: the system's).

    Raises:
        CaError: OpenSSL cannot use a root or the identity.

    """
    context = client_tls()
    try:
        if roots is None:
            context.load_default_certs()
        elif roots:
            context.load_verify_locations(cadata=b"".join(roots))
        if identity is not None:
            _load_identity(context, identity)
    except (ssl.SSLError, ValueError) as error:
        detail = f"cannot be used for TLS: {reason_of(error)}"
        raise CaError(Fault.MISCONFIGURED, detail) from error
    return context


def _load_identity(context: ssl.SSLContext, identity: Held) -> None:
    """
    OpenSSL's bindings read keys from files only: this one lives in memory and has no name.
    """
    chain = (x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in identity.chain)
    key = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.memfd_create("identity", os.MFD_CLOEXEC), "wb", buffering=0) as file:
        file.write(b"".join([*chain, key]))
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")


def _client(context: ssl.SSLContext, proxy: str | None) -> httpx.AsyncClient:
    try:
        through = None if proxy is None else httpx.Proxy(proxy)
        if through is not None and through.url.scheme == "https":
            through.ssl_context = tls_context(None, None)
        return httpx.AsyncClient(
            verify=context,
            proxy=through,
            trust_env=False,
            timeout=None,  # noqa: S113  # one deadline over everything, see _send
            cookies=no_cookies(),
            follow_redirects=False,
        )
    except (ValueError, httpx.InvalidURL) as error:
        # The text is not shown: a proxy's URL may hold a password.
        raise CaError(Fault.MISCONFIGURED, "the proxy's URL cannot be used") from error


@dataclass(slots=True)
class Progress:
    """
    How far a request came, for the words of an error.
    """

    clock: Clock
    step: str = "connecting"
    sent: bool = False

    async def trace(self, event: str, info: Mapping[str, object]) -> None:
        """
        Note httpcore's step. A tunnel's CONNECT goes to the proxy: the CA has seen nothing of it.
        """
        request = info.get("request")
        if event == "http11.send_request_headers.started" and isinstance(request, httpcore.Request):
            self.sent = request.method != b"CONNECT"
            self.step = "waiting for the answer" if self.sent else "waiting for the proxy"


async def _send(client: httpx.AsyncClient, request: CaRequest, clock: Clock, deadline: float) -> CaAnswer:
    left_s = min(deadline - clock.monotonic(), REQUEST_S)
    progress = Progress(clock)
    if left_s <= 0:
        raise CaError(Fault.UNREACHABLE, "no time left")
    try:
        async with asyncio.timeout(left_s):
            return await _follow(client, request, progress)
    except TimeoutError:
        detail = f"no whole answer within {left_s:.1f} s, {progress.step}"
        raise CaError(Fault.UNREACHABLE, detail, sent=progress.sent) from None


async def _follow(client: httpx.AsyncClient, request: CaRequest, progress: Progress) -> CaAnswer:
    url = request.url
    for _ in range(request.redirects + 1):
        answer = await _exchange(client, request, url, progress)
        location = answer.headers.get("location")
        if answer.status not in REDIRECTS or location is None:
            return answer
        if request.method != "GET" or request.redirects == 0:
            detail = f"HTTP {answer.status} to {printable(location)!r}, which is not followed"
            # What it sends elsewhere it may have done before.
            raise CaError(Fault.MISCONFIGURED, detail, sent=request.method != "GET")
        try:
            url = urljoin(url, location)
        except ValueError as error:
            raise CaError(Fault.MISCONFIGURED, "redirected to what is no URL") from error
    raise CaError(Fault.MISCONFIGURED, f"redirected more than {request.redirects} times")


async def _exchange(client: httpx.AsyncClient, request: CaRequest, url: str, progress: Progress) -> CaAnswer:
    with mapped(progress):
        outgoing = httpx.Request(
            request.method,
            url,
            headers={**HEADERS, **request.headers},
            content=request.body or None,
            extensions={"trace": progress.trace},
        )
        if (
            outgoing.url.scheme not in request.channel.value
            or not outgoing.url.host
            or not 0 < (outgoing.url.port or 443) < 65536
        ):
            wanted = " or ".join(sorted(request.channel.value, reverse=True))
            raise CaError(Fault.MISCONFIGURED, f"{printable(url)!r} is not {wanted}")
        response = await client.send(outgoing, stream=True)
        try:
            head = CaAnswer(status=response.status_code, headers=response.headers, body=b"", url=url)
            # Which error statuses say what is the protocol's business.
            wrong = objection(
                response.headers,
                success=response.is_success,
                accepts=request.accepts,
                max_bytes=request.max_bytes,
            )
            if wrong is not None:
                detail = f"HTTP {head.status} with {wrong.detail}"
                raise CaError(Fault.UNREACHABLE, detail, sent=True)
            body = await body_within(response, request.max_bytes)
            if body is None:
                detail = f"the answer has more than {request.max_bytes} bytes"
                raise CaError(Fault.UNREACHABLE, detail, sent=True)
            return dataclasses.replace(head, body=body)
        finally:
            await response.aclose()


@contextlib.contextmanager
def mapped(progress: Progress) -> Iterator[None]:
    """
    The one place where third-party exceptions become faults, as `CaError`.
    """
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError) as error:
        detail = f"cannot be sent: {_reason(error)}"
        raise CaError(Fault.MISCONFIGURED, detail) from error
    except httpx.ProxyError as error:
        needs_operator = str(error).startswith(str(PROXY_AUTHENTICATION))
        fault = Fault.MISCONFIGURED if needs_operator else Fault.UNREACHABLE
        raise CaError(fault, f"the proxy answers {_reason(error)}") from error
    except (httpx.HTTPError, OSError) as error:
        tls = next(iter(tls_errors(error)), None)
        if isinstance(tls, ssl.SSLCertVerificationError):
            detail = f"the CA's server certificate is not trusted: {printable(tls.verify_message)}"
            if tls.verify_code in _BY_THE_CLOCK:
                now = progress.clock.now().isoformat(timespec="seconds")
                detail += f" by this host's clock, which says {now}; one of the two is wrong"
            raise CaError(Fault.MISCONFIGURED, detail, untrusted=True) from error
        alert = None if tls is None else _alert(tls)
        if alert is not None:
            detail = f"the CA ended the TLS session with alert {alert.lower()}"
            raise CaError(Fault.REFUSED, detail, alert=alert) from error
        detail = _reason(error)
        if isinstance(error, httpx.ConnectError):
            # The client says only that all attempts failed; who was asked, and why it failed, lie below.
            detail = f"no connection to {printable(error.request.url.host)}: {_errno(error) or detail}"
        raise CaError(Fault.UNREACHABLE, detail, sent=progress.sent) from error


def _alert(error: ssl.SSLError) -> str | None:
    """
    `BAD_CERTIFICATE` from OpenSSL's `SSLV3_ALERT_BAD_CERTIFICATE` or `TLSV1_ALERT_…`, `TLSV13_ALERT_…`.
    """
    _, found, name = (error.reason or "").partition("_ALERT_")
    return name if found else None


def _errno(error: BaseException) -> str | None:
    """
    What the operating system said below an exception, in its words; of several addresses, the first.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, BaseExceptionGroup):
            link = link.exceptions[0]
        if isinstance(link, OSError) and link.errno is not None and link.errno > 0:
            return printable(f"{os.strerror(link.errno).lower()} ({link.strerror})")
        link = link.__cause__ or link.__context__
    return None


def _reason(error: BaseException) -> str:
    return reason_of(error)
