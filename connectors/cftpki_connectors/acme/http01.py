"""
http-01 (RFC 8555 8.3): by a responder of our own, a web server's folder, or a hook.

Owns the responder, which knows one path for each challenge and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from cftpki_connectors.acme.flow import Task
from cftpki_connectors.acme.hook import Hook
from cftpki_connectors.acme.listening import Door, listening_socket, stop_listening
from cftpki_connectors.acme.options import Http01, endpoint
from cftpki_connectors.acme.resources import Identifier
from cftpki_connectors.acme.solver import Solver, SolverError
from cftpki_connectors.ca.client import printable
from cftpki_ext.ports.clock import Clock
from cftpki_ext.support.failures import reason_of

PREFIX = "/.well-known/acme-challenge/"
# A CA's request has some hundred bytes; nobody else has anything to say here.
MAX_HEAD_BYTES = 8192
HEAD_S = 10.0
# Publishing somewhere else takes a moment: looked for again after so long.
_LOOK_AGAIN_S = 0.5
LOOKED_FOR_S = 60.0
_MAX_BODY_BYTES = 4096


class Responder:
    """
    Answers GET and HEAD for the exact path of a challenge under way; bound only while there is one.

    Args:
        listen: `address:port`.

    """

    def __init__(self, listen: str) -> None:
        self._host, self._port = endpoint(listen)
        self._answers: dict[str, bytes] = {}
        self._server: asyncio.Server | None = None
        self._door = Door()
        self._changing = asyncio.Lock()

    @property
    def bound(self) -> tuple[str, int] | None:
        """
        The address at which it can be asked from here, `None` while it is not bound.
        """
        if self._server is None or not self._server.sockets:
            return None
        address = self._server.sockets[0].getsockname()
        return reachable(str(address[0])), int(address[1])

    async def add(self, token: str, authorization: str) -> None:
        """
        Answer for one more token.

        Raises:
            SolverError: the address cannot be bound.

        """
        async with self._changing:
            self._answers[PREFIX + token] = authorization.encode()
            if self._server is None:
                try:
                    self._server = await asyncio.start_server(
                        self._serve, sock=listening_socket(self._host, self._port), limit=MAX_HEAD_BYTES
                    )
                except OSError as error:
                    del self._answers[PREFIX + token]
                    raise unbound(self._host, self._port, error) from error

    async def remove(self, token: str) -> None:
        """
        Answer no more for a token; the last one closes the door.
        """
        async with self._changing:
            self._answers.pop(PREFIX + token, None)
            if not self._answers:
                await self._close()

    async def aclose(self) -> None:
        """
        Answer nothing any more.
        """
        async with self._changing:
            self._answers.clear()
            await self._close()

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            # Not waited for: whoever is still connected is let go within HEAD_S.
            await stop_listening(server)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._door.enter(writer)
        try:
            async with asyncio.timeout(HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever that was does not speak HTTP, or went away
        finally:
            self._door.leave(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, head: bytes) -> bytes:
        line = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(line) != 3 or not line[2].startswith("HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST, b"", with_body=True)
        method, target, _ = line
        if method not in {"GET", "HEAD"}:
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, b"", with_body=True)
        body = self._answers.get(target)
        status = HTTPStatus.NOT_FOUND if body is None else HTTPStatus.OK
        return _response(status, body or b"", with_body=method == "GET")


class ListenerSolver:
    """
    http-01 by our own responder; before the CA is told, it is asked once at its own address.
    """

    def __init__(self, options: Http01, listen: str, clock: Clock) -> None:
        self._responder = Responder(listen)
        self._check = options.check
        self._clock = clock

    async def present(self, task: Task, *, deadline: float) -> None:
        """
        Bind, if nobody has, and answer.
        """
        del deadline  # binding does not wait
        await self._responder.add(task.token, task.authorization)

    async def ready(self, task: Task, *, deadline: float) -> None:
        """
        Ask ourselves, or under the URL that is configured.
        """
        if self._check == "":
            return
        bound = self._responder.bound
        if self._check is not None:
            base = self._check.replace("{identifier}", in_url(task.identifier))
        elif bound is not None:
            base = f"http://{_bracketed(bound[0])}:{bound[1]}"
        else:
            msg = "the responder is not bound"
            raise SolverError(msg)
        await look(base, task, deadline=deadline, clock=self._clock)

    async def cleanup(self, task: Task, *, deadline: float) -> None:
        """
        Answer no more; the last one unbinds.
        """
        del deadline
        await self._responder.remove(task.token)

    async def aclose(self) -> None:
        """
        Unbind.
        """
        await self._responder.aclose()


class WebrootSolver:
    """
    http-01 by a file in a web server's document root. The file is world-readable, the web server is not us.
    """

    def __init__(self, options: Http01, webroot: Path, clock: Clock) -> None:
        self._folder = webroot / PREFIX.strip("/")
        self._base = "http://{identifier}" if options.check is None else options.check
        self._clock = clock

    async def present(self, task: Task, *, deadline: float) -> None:
        """
        Write the file, whole from the first moment.
        """
        del deadline
        try:
            self._write(task)
        except OSError as error:
            detail = f"webroot {self._folder}: {error.strerror or error}"
            raise SolverError(detail, permanent=True) from error

    async def ready(self, task: Task, *, deadline: float) -> None:
        """
        Look for it where the CA will.
        """
        if self._base:
            base = self._base.replace("{identifier}", in_url(task.identifier))
            await look(base, task, deadline=deadline, clock=self._clock)

    async def cleanup(self, task: Task, *, deadline: float) -> None:
        """
        Remove the file.
        """
        del deadline
        try:
            (self._folder / task.token).unlink(missing_ok=True)
        except OSError as error:
            detail = f"webroot {self._folder}: {error.strerror or error}"
            raise SolverError(detail) from error

    async def aclose(self) -> None:
        """
        Nothing is held.
        """

    def _write(self, task: Task) -> None:
        for folder in (self._folder.parent, self._folder):
            if not folder.is_dir():
                folder.mkdir(parents=True)
                folder.chmod(0o755)  # the service's umask would shut the web server out
        descriptor, partial = tempfile.mkstemp(prefix=".new-", dir=self._folder)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), 0o644)
            stream.write(task.authorization.encode())
        Path(partial).replace(self._folder / task.token)


class HookSolver:
    """
    http-01 by a program: `present|cleanup URL-PATH KEY-AUTHORIZATION`.
    """

    def __init__(self, options: Http01, argv: tuple[str, ...], clock: Clock) -> None:
        self._hook = Hook(argv, options.hook_timeout_s, clock)
        self._base = "http://{identifier}" if options.check is None else options.check
        self._clock = clock

    async def present(self, task: Task, *, deadline: float) -> None:
        """
        Have it published.
        """
        await self._run("present", task, deadline)

    async def ready(self, task: Task, *, deadline: float) -> None:
        """
        Look for it where the CA will.
        """
        if self._base:
            base = self._base.replace("{identifier}", in_url(task.identifier))
            await look(base, task, deadline=deadline, clock=self._clock)

    async def cleanup(self, task: Task, *, deadline: float) -> None:
        """
        Have it taken away.
        """
        await self._run("cleanup", task, deadline)

    async def aclose(self) -> None:
        """
        Nothing is held.
        """

    async def _run(self, action: str, task: Task, deadline: float) -> None:
        await self._hook.run(
            action,
            PREFIX + task.token,
            task.authorization,
            deadline=deadline,
            challenge=task.kind.value,
            identifier=task.identifier.value,
            token=task.token,
        )


def make_http01(options: Http01, clock: Clock) -> Solver:
    """
    The solver that the table asks for.
    """
    if options.listen is not None:
        return ListenerSolver(options, options.listen, clock)
    if options.webroot is not None:
        return WebrootSolver(options, options.webroot, clock)
    return HookSolver(options, options.hook or (), clock)


async def look(base: str, task: Task, *, deadline: float, clock: Clock) -> None:
    """
    Look for the answer as the CA would, until it is there. A redirect is left for the CA to follow.

    Raises:
        SolverError: it was not there until the deadline, or for a minute: somebody wants to know then.

    """
    url = base + PREFIX + task.token
    deadline = min(deadline, clock.monotonic() + LOOKED_FOR_S)
    while True:
        wrong = await _difference(url, task.authorization.encode())
        if wrong is None:
            return
        if clock.monotonic() + _LOOK_AGAIN_S >= deadline:
            shown = f"{urlsplit(base).netloc}{PREFIX}…"
            detail = f"http-01 for {task.identifier.value}: {printable(shown)} {wrong}"
            raise SolverError(detail)
        await asyncio.sleep(_LOOK_AGAIN_S)


async def _difference(url: str, expected: bytes) -> str | None:
    try:
        async with (
            httpx.AsyncClient(
                trust_env=False, timeout=3.0, headers={"Accept-Encoding": "identity"}
            ) as client,
            client.stream("GET", url) as response,
        ):
            if response.is_redirect:
                return None
            if response.status_code != httpx.codes.OK:
                return f"answers HTTP {response.status_code}"
            body = b""
            async for part in response.aiter_bytes():  # some compress unasked, which no CA minds
                body += part
                if len(body) > _MAX_BODY_BYTES:
                    break
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return f"cannot be asked: {reason_of(error)}"
    # Trailing white space is allowed, RFC 8555 8.3.
    return None if body.rstrip() == expected else "answers something else"


def in_url(identifier: Identifier) -> str:
    """
    The identifier as host of a URL.
    """
    return _bracketed(identifier.value) if identifier.kind == "ip" else identifier.value


def reachable(address: str) -> str:
    """
    Where a listener at `address` can be reached from this machine.
    """
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104  # compared, not bound


def unbound(host: str, port: int, error: OSError) -> SolverError:
    """
    A listener could not be opened: another order may hold the port for a while, a lacking right stays.
    """
    detail = f"{host}:{port} cannot be listened on: {error.strerror or error}"
    return SolverError(detail, permanent=isinstance(error, PermissionError))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _response(status: HTTPStatus, body: bytes, *, with_body: bool) -> bytes:
    head = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/octet-stream",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(["Allow: GET, HEAD"] if status is HTTPStatus.METHOD_NOT_ALLOWED else []),
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + (body if with_body else b"")
