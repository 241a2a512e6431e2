"""
Who may ask the console, by which name, how, and within which bounds: around every answer.

Owns the headers that keep a page from loading, running or telling anything of or to elsewhere, and the log of who asked.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol

from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.log import Log
from cftpki_ext.core.values import dataclass

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# A page is asked for with a search of 256 characters, percent-encoded.
MAX_TARGET_BYTES = 2048
MAX_HEADERS = 64
# Longer than the longest look; a reader that takes nothing is not waited for either.
REQUEST_S = 60.0
_SHOWN = 200
# What changes a session, and nothing else does.
_POSTED = frozenset({"/login", "/logout"})
# What the form itself needs.
OPEN_PATHS = frozenset({"/login", "/static/console.css", "/static/mark.svg"})
LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::([0-9]{1,5}))?")

HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"cache-control", b"no-store"),
)
_TLS_HEADERS = ((b"strict-transport-security", b"max-age=31536000"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """
    Whether somebody may ask: `who` for the log, else the status and the words of the refusal. `can_leave`: by logging out.
    """

    who: str | None
    status: int = 200
    words: str = ""
    can_leave: bool = False


class Doorkeeper(Protocol):
    """
    Says who asks.
    """

    async def admit(self, scope: Scope) -> Admission:
        """
        Whether a request is of somebody who may see pages.
        """


class Guard:
    """
    The application behind its door.

    Args:
        app: answers.
        doorkeeper: says who asks.
        hosts: the names and addresses by which the console may be asked for, without a port.
        refuse: the page for who is not admitted: the status and the words.
        log: is told of every request.

    """

    def __init__(
        self,
        app: App,
        doorkeeper: Doorkeeper,
        *,
        hosts: Collection[str],
        refuse: Callable[[Admission], App],
        log: Log,
    ) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._hosts = frozenset(host.lower() for host in hosts)
        self._refuse = refuse
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Answer one request.
        """
        if scope["type"] != "http":
            return
        begun, told = time.monotonic(), _Told()
        is_tls = scope.get("scheme") == "https"

        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                told.status = int(message["status"])
                message["headers"] = _headers(message.get("headers", ()), is_tls=is_tls)
            await send(message)

        try:
            async with asyncio.timeout(REQUEST_S):
                await self._answer(scope, receive, sending, told)
        except TimeoutError:
            if told.status == 0:
                await _plain(HTTPStatus.SERVICE_UNAVAILABLE, "there was no answer in time")(
                    scope, receive, sending
                )
        finally:
            # Our own two files come with every page.
            tell = (
                self._log.debug
                if _is_file(scope["path"]) and told.status == HTTPStatus.OK
                else self._log.info
            )
            tell(
                "console_asked",
                who=told.who,
                method=excerpt(scope["method"], 16),
                path=excerpt(_shown_path(scope["path"]), _SHOWN),
                status=told.status,
                ms=round((time.monotonic() - begun) * 1000),
            )

    async def _answer(self, scope: Scope, receive: Receive, send: Send, told: _Told) -> None:
        fault = self._fault(scope)
        if fault is not None:
            await fault(scope, receive, send)
            return
        admission = await self._doorkeeper.admit(scope)
        told.who = admission.who or "nobody"
        scope["state"]["can_leave"] = admission.can_leave
        is_open = scope["path"] in OPEN_PATHS or scope["path"].startswith("/enter/")
        if admission.who is None and not (is_open and admission.status == HTTPStatus.UNAUTHORIZED):
            await self._refuse(admission)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _fault(self, scope: Scope) -> App | None:
        """
        What is wrong with the request itself.
        """
        headers = scope["headers"]
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET_BYTES:
            return _plain(HTTPStatus.REQUEST_URI_TOO_LONG, "this address is too long")
        if len(headers) > MAX_HEADERS:
            return _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "these are too many headers")
        host = _host([value for name, value in headers if name == b"host"])
        if host is None or host not in self._hosts:
            # Also where a name of somebody else's was made to mean this address (DNS rebinding).
            return _plain(
                HTTPStatus.MISDIRECTED_REQUEST, "the console is not served by this name: see [console] hosts"
            )
        if scope["method"] not in {"GET", "HEAD"} and not (
            scope["method"] == "POST" and scope["path"] in _POSTED
        ):
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "the console only shows", (b"allow", b"GET, HEAD"))
        if _is_from_elsewhere(scope):
            return _plain(HTTPStatus.FORBIDDEN, "another site asked for this")
        return None


@dataclass(slots=True)
class _Told:
    """
    What the log is told of a request.
    """

    who: str = "nobody"
    status: int = 0


def _is_file(path: str) -> bool:
    return path.startswith("/static/")


def _shown_path(path: str) -> str:
    """
    A path without the secret of a link.
    """
    return "/enter/…" if path.startswith("/enter/") else path


def _host(values: list[bytes]) -> str | None:
    """
    The name that was asked for, without its port; `None` where there is no single one.
    """
    if len(values) != 1:
        return None
    found = _HOST.fullmatch(values[0].decode("latin-1").lower())
    return None if found is None else found[1]


def _is_from_elsewhere(scope: Scope) -> bool:
    """
    Whether a page of another site asks (Fetch Metadata): it may lead here, and neither embed nor send anything.
    """
    headers = dict(scope["headers"])
    site = headers.get(b"sec-fetch-site", b"none")
    origin = headers.get(b"origin")
    if scope["method"] == "POST":
        if b"sec-fetch-site" in headers:
            # Of a page that tells nobody where it was, `Origin` is null.
            return site not in {b"none", b"same-origin"}
        own = f"{scope['scheme']}://{headers.get(b'host', b'').decode('latin-1')}".lower()
        return origin is not None and origin.decode("latin-1").lower() != own
    if site in {b"none", b"same-origin"}:
        return False
    return headers.get(b"sec-fetch-mode") != b"navigate" or headers.get(b"sec-fetch-dest") != b"document"


def _headers(given: Iterable[tuple[bytes, bytes]], *, is_tls: bool) -> list[tuple[bytes, bytes]]:
    ours = (*HEADERS, *(_TLS_HEADERS if is_tls else ()))
    names = {name for name, _ in ours}
    kept = [(name, value) for name, value in given if name.lower() not in names]
    return [*kept, *ours, (b"date", formatdate(usegmt=True).encode())]


def _plain(status: HTTPStatus, words: str, *more: tuple[bytes, bytes]) -> App:
    """
    An answer in one line; the connection ends with it.
    """
    body = f"{words}\n".encode()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *more,
        ]
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return answer
