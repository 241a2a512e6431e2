"""
The pages: which address shows what.

Reads queries leniently: what is none of the choices is the first of them, and what is too long is cut.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from cftpki_ext.console.blocks import Cell, Mark, Note, Page, Text
from cftpki_ext.console.doorkeepers import cookie_of, peer_of
from cftpki_ext.console.guarding import Admission, App
from cftpki_ext.console.rendering import Asked, Renderer, statics
from cftpki_ext.console.seen import TRIAL_S, NotSeenError, Remembered, ServiceWatch, look
from cftpki_ext.console.sessions import Attempts, Link, Sessions, same
from cftpki_ext.console.stored import ANSWERS, FILTERS, finding_data
from cftpki_ext.console.views.cluster import cluster_page
from cftpki_ext.console.views.exceptions import exceptions_page
from cftpki_ext.console.views.identities import identities_page
from cftpki_ext.console.views.now import now_page
from cftpki_ext.console.views.partners import partner_page, partners_page
from cftpki_ext.console.views.sources import sources_page
from cftpki_ext.console.views.trial import SPANS, trial_page
from cftpki_ext.console.views.verdicts import verdict_page, verdicts_page
from cftpki_ext.core.log import Log
from cftpki_ext.core.values import dataclass
from cftpki_ext.processes.worker import Worker

_CHARACTERS = 256
_MOST_PAGES = 10_000
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_VERDICT = re.compile(r"[0-9a-f]{6,128}")
# A form with one field, and how long its octets may be on their way.
_FORM_BYTES, _FORM_S = 4096, 10.0

Shown = Callable[[Request], Awaitable[Page]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """
    How somebody logs in.

    `token` gives what the file holds, `None` where only the printed link counts; `told` is told of the next link once one was used.
    """

    sessions: Sessions
    attempts: Attempts
    link: Link | None
    token: Callable[[], bytes | None]
    cookie: str
    is_secure: bool
    told: Callable[[Link], None]
    log: Log


class Pages:
    """
    The console's pages.

    Args:
        service: asks the service.
        looker: looks at the stores.
        trier: tries policies, one at a time.
        renderer: makes HTML.
        login: where somebody has to log in.

    """

    def __init__(
        self,
        *,
        service: ServiceWatch,
        looker: Worker,
        trier: Worker,
        renderer: Renderer,
        login: Login | None,
    ) -> None:
        self._service = service
        self._looker = looker
        self._trier = trier
        self._renderer = renderer
        self._login = login
        self._health = Remembered(lambda: look(looker, "health"))

    def app(self) -> App:
        """
        The application, without its door.
        """
        shown = {
            "/": self._now,
            "/partners": self._partners,
            "/partners/{fingerprint}": self._partner,
            "/verdicts": self._verdicts,
            "/verdicts/{verdict_id}": self._verdict,
            "/sources": self._sources,
            "/cluster": self._cluster,
            "/identities": self._identities,
            "/exceptions": self._exceptions,
            "/trial": self._trial,
        }
        routes = [Route(path, self._endpoint(show)) for path, show in shown.items()]
        routes += [Route(path, _static(*file)) for path, file in statics().items()]
        if self._login is not None:
            routes += [
                Route("/login", self._log_in, methods=["GET", "POST"]),
                Route("/logout", self._log_out, methods=["POST"]),
                Route("/enter/{key}", self._enter, methods=["GET"]),
            ]
        handlers: Any = {HTTPException: self._no_page}
        return Starlette(routes=routes, exception_handlers=handlers)

    async def warm(self) -> None:
        """
        Look once before anybody asks.
        """
        try:
            await self._health.get()
        except NotSeenError:
            return  # whoever asks is told

    def refused(self, admission: Admission) -> App:
        """
        What somebody sees who may not see pages.
        """
        if admission.status == HTTPStatus.UNAUTHORIZED and self._login is not None:
            body = self._renderer.login(None if self._login.token() else _BY_LINK)
            return HTMLResponse(body, status_code=admission.status)
        lead = Note(mark=Mark.FAIL, text=admission.words)
        page = Page(title="Not admitted", here="", lead=lead, blocks=(), status=int(admission.status))
        asked = Asked(path="/", query={}, refreshes=False, can_leave=False)
        return HTMLResponse(self._renderer.page(page, asked), status_code=page.status)

    # --- pages ----------------------------------------------------------------------------------------------------

    async def _now(self, request: Request) -> Page:
        service = asyncio.create_task(self._service.ask())
        health, trouble = None, None
        try:
            health = await self._health.get()
        except NotSeenError as error:
            trouble = str(error)
        told = await service
        ran_before = health is None or health["records"] > 0
        return now_page(
            service=[finding_data(one) for one in told.findings(ran_before=ran_before)],
            status=told.status,
            health=health,
            trouble=trouble,
            show_all=request.query_params.get("all") == "1",
        )

    async def _partners(self, request: Request) -> Page:
        asked: dict[str, Any] = {
            "q": _text(request, "q"),
            "show": _choice(request, "show", FILTERS),
            "page": _number(request, "page"),
        }
        return partners_page(await look(self._looker, "partners", **asked), asked)

    async def _partner(self, request: Request) -> Page:
        fingerprint = request.path_params["fingerprint"]
        if not _FINGERPRINT.fullmatch(fingerprint):
            msg = "this is no fingerprint: 64 hexadecimal digits"
            raise NotSeenError(msg, HTTPStatus.NOT_FOUND)
        return partner_page(await look(self._looker, "partner", fingerprint=fingerprint))

    async def _verdicts(self, request: Request) -> Page:
        asked: dict[str, Any] = {
            "q": _text(request, "q"),
            "answer": _choice(request, "answer", ANSWERS),
            "page": _number(request, "page"),
        }
        return verdicts_page(await look(self._looker, "verdicts", **asked), asked)

    async def _verdict(self, request: Request) -> Page:
        verdict_id = request.path_params["verdict_id"]
        if not _VERDICT.fullmatch(verdict_id):
            msg = "this is no verdict's id: 32 hexadecimal digits, or their beginning"
            raise NotSeenError(msg, HTTPStatus.NOT_FOUND)
        return verdict_page(await look(self._looker, "verdict", id=verdict_id))

    async def _sources(self, request: Request) -> Page:
        del request
        data, told = await asyncio.gather(look(self._looker, "sources"), self._service.ask())
        return sources_page(data, told.status, now=datetime.now(UTC))

    async def _cluster(self, request: Request) -> Page:
        del request
        told = await self._service.ask()
        return cluster_page(told.status, at=datetime.now(UTC).isoformat(timespec="seconds"))

    async def _identities(self, request: Request) -> Page:
        del request
        data, told = await asyncio.gather(look(self._looker, "identities"), self._service.ask())
        return identities_page(data, told.status, now=datetime.now(UTC))

    async def _exceptions(self, request: Request) -> Page:
        del request
        return exceptions_page(await look(self._looker, "exceptions"))

    async def _trial(self, request: Request) -> Page:
        choices = await look(self._looker, "choices")
        hours = str(_number(request, "hours"))
        spans = tuple(str(hours) for hours, _ in SPANS)
        asked: dict[str, Any] = {
            "trust": _text(request, "trust"),
            "policy": _text(request, "policy"),
            "hours": int(hours if hours in spans else spans[1]),
        }
        data = None
        if asked["trust"] and asked["policy"]:
            data = await look(self._trier, "trial", within_s=TRIAL_S, **asked)
        return trial_page(choices, asked, data)

    def _endpoint(self, show: Shown) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                page = await show(request)
            except NotSeenError as error:
                page = _trouble(str(error), error.status)
            return self._html(request, page)

        return answer

    def _html(self, request: Request, page: Page) -> Response:
        query = {
            name: value[:_CHARACTERS] for name, value in request.query_params.items() if name != "refresh"
        }
        asked = Asked(
            path="/" + request.url.path.lstrip("/"),  # with two slashes it would name another host
            query=query,
            refreshes="refresh" in request.query_params,
            can_leave=bool(getattr(request.state, "can_leave", False)),
        )
        return HTMLResponse(self._renderer.page(page, asked), status_code=page.status)

    async def _no_page(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
        words = "there is no such page" if status == HTTPStatus.NOT_FOUND else "this cannot be answered"
        return self._html(request, _trouble(words, status))

    # --- logging in -----------------------------------------------------------------------------------------------

    async def _log_in(self, request: Request) -> Response:
        login = self._login
        if login is None or request.method != "POST":
            return HTMLResponse(self._renderer.login(None))
        # Read first: of several forms at once each is counted before the next one is looked at.
        given = await _token(request)
        address, now = peer_of(request.scope).address, time.monotonic()
        wait_s = login.attempts.wait_s(address, now)
        if wait_s > 0:
            return HTMLResponse(
                self._renderer.login(f"too many wrong tokens: wait {wait_s:.0f} s"),
                status_code=HTTPStatus.TOO_MANY_REQUESTS,
                headers={"Retry-After": str(int(wait_s) + 1)},
            )
        wanted = login.token()
        if wanted is None or given is None or not same(given, wanted):
            login.attempts.wrong(address, now)
            login.log.warning("console_login_failed", address=address)
            return HTMLResponse(
                self._renderer.login("this is not the token"), status_code=HTTPStatus.UNAUTHORIZED
            )
        login.log.info("console_login", address=address, by="token")
        return self._entered(login)

    async def _enter(self, request: Request) -> Response:
        login = self._login
        address = peer_of(request.scope).address
        if request.method != "GET" or login is None or login.link is None:
            return self._html(request, _trouble("there is no such page", HTTPStatus.NOT_FOUND))
        # Nobody guesses 256 bits; if wrong ones had to wait, any user of the machine could shut out who has the right one.
        if not login.link.use(request.path_params["key"]):
            login.log.warning("console_login_failed", address=address)
            return HTMLResponse(self._renderer.login(_USED), status_code=HTTPStatus.UNAUTHORIZED)
        login.log.info("console_login", address=address, by="link")
        login.told(login.link)
        return self._entered(login)

    async def _log_out(self, request: Request) -> Response:
        response = RedirectResponse("/login", status_code=HTTPStatus.SEE_OTHER)
        if self._login is not None:
            value = cookie_of(request.scope, self._login.cookie)
            if value is not None:
                self._login.sessions.end(value)
            response.delete_cookie(
                self._login.cookie, path="/", secure=self._login.is_secure, httponly=True, samesite="strict"
            )
        return response

    @staticmethod
    def _entered(login: Login) -> Response:
        response = RedirectResponse("/", status_code=HTTPStatus.SEE_OTHER)
        response.set_cookie(
            login.cookie,
            login.sessions.begin(time.monotonic()),
            path="/",
            secure=login.is_secure,
            httponly=True,
            samesite="strict",
        )
        return response


_USED = "this link was used, or is of a console that has ended: its log has the next one"
_BY_LINK = "open the link that the console has printed: its log has it"


def _trouble(words: str, status: int) -> Page:
    return Page(
        title="Not shown",
        here="",
        lead=Note(mark=Mark.FAIL, text=words),
        blocks=(Text(text="How all is:", link=Cell(text="the first page", href="/")),),
        status=int(status),
    )


def _static(octets: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        del request
        return Response(octets, media_type=kind)

    return answer


async def _token(request: Request) -> bytes | None:
    """
    The field `token` of a form; `None` where there is no single one, or the form is too long or too slow.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(_FORM_S):
            async for piece in request.stream():
                body += piece
                if len(body) > _FORM_BYTES:
                    return None
    except (TimeoutError, ClientDisconnect):
        return None
    try:
        found = parse_qs(body.decode("ascii"), max_num_fields=4, strict_parsing=True).get("token", [])
    except ValueError:
        return None
    return found[0].strip().encode("utf-8", "surrogatepass") if len(found) == 1 else None


def _text(request: Request, name: str) -> str:
    return request.query_params.get(name, "").strip()[:_CHARACTERS]


def _choice(request: Request, name: str, known: tuple[str, ...]) -> str:
    given = request.query_params.get(name, known[0])
    return given if given in known else known[0]


def _number(request: Request, name: str) -> int:
    given = request.query_params.get(name, "1")
    return min(max(int(given), 1), _MOST_PAGES) if re.fullmatch(r"[0-9]{1,6}", given) else 1
