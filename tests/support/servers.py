"""
Real servers on loopback for tests, and evil ones for faults that real ones will not produce.

Each is a context manager that starts the server, waits until it listens, and stops it by its own
process handle (or closes its socket) at the end::

    with nginx(tmp_path, {"ca.crl": crl_der}, "location /moved { return 302 /ca.crl; }") as server:
        server.url("/ca.crl")
    with openssl_ocsp(tmp_path, issuer=issuing_ca, signer=delegate, revoked={leaf.serial: "keyCompromise"},
                      known=[leaf]) as server:
        server.url()
    async with evil(drip(b"HTTP/1.1 200 OK\\r\\n\\r\\n", every_s=1)) as server:
        server.url("/")

`known`, `issuer`, `signer` and `revoked` take what `tests.support.pki` makes. Everything listens on 127.0.0.1, but `openssl ocsp` cannot be kept to it.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives import serialization

from tests.support import ports
from tests.support.ports import free_port

# Ceilings that only a failure reaches: a busy machine gives a process its turn late.
START_S = 60.0
STOP_S = 10.0


class Certified(Protocol):
    """
    What is needed of a certificate made by `tests.support.pki`.
    """

    @property
    def pem(self) -> bytes: ...

    @property
    def serial(self) -> int: ...

    @property
    def key(self) -> Any: ...


@dataclass(slots=True)
class Server:
    """
    A running server: its port, and where its log is.
    """

    port: int
    log: Path | None = None
    scheme: str = "http"
    host: str = "127.0.0.1"
    requests: list[bytes] = field(default_factory=list)  # the heads (and bodies) that an evil server has read

    def url(self, path: str = "/") -> str:
        return f"{self.scheme}://{self.host}:{self.port}{path}"

    def log_lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log is not None and self.log.exists() else []


def wait_until_listening(
    process: subprocess.Popen[bytes],
    log: Path,
    *,
    tcp: tuple[int, ...],
    udp: tuple[int, ...] = (),
    ready: bytes | None = None,
) -> None:
    """
    Wait until the process itself listens on all its ports, or fail with what it has to say.

    A connection that is made from then on is the process's own, and waits in its queue until it is served. A server
    that has more to do before it can answer is waited for until its log holds the word `ready` too.
    """
    end = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end:
        if ports.listening(process.pid, tcp=tcp, udp=udp) and (ready is None or ready in log.read_bytes()):
            return
        time.sleep(0.01)
    process.kill()
    process.wait()
    msg = f"{process.args!r} does not listen on {(*tcp, *udp)}:\n{log.read_text(errors='replace')}"
    raise RuntimeError(msg)


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    port: int,
    log: Path,
    *,
    more: tuple[int, ...] = (),
    udp: tuple[int, ...] = (),
    ready: bytes | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """
    A server process, from when it listens on `port`, `more` TCP ports and `udp` ports to the end of the block.

    It ends with the tests, also where they are killed (PR_SET_PDEATHSIG of prctl(2)).
    """
    command = ["setpriv", "--pdeathsig", "KILL", *command]
    with (
        log.open("ab") as output,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process,
    ):
        wait_until_listening(process, log, tcp=(port, *more), udp=udp, ready=ready)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for_words(log: Path, words: bytes) -> None:
    """
    Wait until a server's log holds these words; what it has seen it may write down a while later.
    """
    end = time.monotonic() + START_S
    while words not in log.read_bytes():
        assert time.monotonic() < end, f"no {words!r} in:\n{log.read_text(errors='replace')}"
        time.sleep(0.01)


_NGINX = """
daemon off;
master_process off;
pid {base}/nginx.pid;
error_log {base}/error.log notice;
worker_rlimit_nofile 1024;
events {{ worker_connections 256; }}
http {{
    access_log {base}/access.log;
    client_body_temp_path {base}/tmp-body;
    proxy_temp_path {base}/tmp-proxy;
    fastcgi_temp_path {base}/tmp-fastcgi;
    uwsgi_temp_path {base}/tmp-uwsgi;
    scgi_temp_path {base}/tmp-scgi;
    types {{ application/pkix-crl crl; application/ocsp-response ors; text/html html; }}
    default_type application/octet-stream;
    server {{
        listen {host}:{port}{tls};
        root {base}/www;
        {locations}
    }}
}}
"""


@contextlib.contextmanager
def nginx(
    tmp_path: Path,
    files: Mapping[str, bytes] | None = None,
    locations: str = "",
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    certificate: Certified | None = None,
) -> Iterator[Server]:
    """
    nginx serving `files`, with more `locations` in its own language; https where it has a certificate.
    """
    port = port or free_port()
    base = tmp_path / f"nginx-{port}"
    (base / "www").mkdir(parents=True)
    for name, content in (files or {}).items():
        (base / "www" / name).write_bytes(content)
    tls = ""
    if certificate is not None:
        write_pem(base / "tls.pem", certificate)
        tls = f" ssl; ssl_certificate {base}/tls.pem; ssl_certificate_key {base}/tls.pem"
    config = base / "nginx.conf"
    config.write_text(_NGINX.format(base=base, host=host, port=port, locations=locations, tls=tls))
    log = base / "output.log"
    with running(["nginx", "-e", base / "error.log", "-p", base, "-c", config], port, log):
        yield Server(port, base / "access.log", scheme="https" if tls else "http", host=host)


def write_pem(path: Path, entity: Certified) -> Path:
    """
    Certificate and PKCS#8 key in one file.
    """
    key = entity.key
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(entity.pem + private)
    path.chmod(0o600)
    return path


@contextlib.contextmanager
def openssl_ocsp(
    tmp_path: Path,
    *,
    issuer: Certified,
    known: Sequence[Certified] = (),
    revoked: Mapping[int, str] | None = None,
    signer: Certified | None = None,
    port: int | None = None,
    options: Sequence[str] = ("-nmin", "60"),
) -> Iterator[Server]:
    """
    `openssl ocsp` as responder of one CA: certificates that are neither known nor revoked are unknown to it.

    By default the CA signs itself and an answer lives for an hour; `options` are more command-line options. It
    listens on all addresses: OpenSSL 3.0 cannot be told which.
    """
    port = port or free_port()
    base = tmp_path / f"ocsp-{port}"
    base.mkdir()
    write_pem(base / "issuer.pem", issuer)
    write_pem(base / "signer.pem", signer or issuer)
    (base / "index.txt").write_text(_index(known, revoked or {}))
    (base / "index.txt.attr").write_text("unique_subject = no\n")
    command: list[str | Path] = [
        "openssl",
        "ocsp",
        "-port",
        str(port),
        "-index",
        base / "index.txt",
    ]
    command += ["-CA", base / "issuer.pem", "-rsigner", base / "signer.pem", "-rkey", base / "signer.pem"]
    log = base / "output.log"
    with running([*command, *options], port, log):
        yield Server(port, log)


def say_anew(responder: Server, known: Sequence[Certified], revoked: Mapping[int, str]) -> None:
    """
    Give a responder that runs another index. It looks whether there is one when it has answered: one answer more is of the old one.
    """
    assert responder.log is not None
    fresh = responder.log.with_name("index.new")
    fresh.write_text(_index(known, revoked))
    fresh.replace(responder.log.with_name("index.txt"))


def _index(known: Sequence[Certified], revoked: Mapping[int, str]) -> str:
    """
    The text database of `openssl ca`: status, end, revocation time and reason, serial, file, subject.
    """
    end, now = "491231235959Z", datetime.now(UTC).strftime("%y%m%d%H%M%SZ")
    lines = [
        f"R\t{end}\t{now},{reason}\t{_hex(serial)}\tunknown\t/CN={_hex(serial)}"
        for serial, reason in revoked.items()
    ]
    lines += [
        f"V\t{end}\t\t{_hex(one.serial)}\tunknown\t/CN={_hex(one.serial)}"
        for one in known
        if one.serial not in revoked
    ]
    return "".join(line + "\n" for line in lines)


def _hex(serial: int) -> str:
    text = f"{serial:X}"
    return text if len(text) % 2 == 0 else "0" + text


# The request that a behaviour is answering. Others come in while it waits: the last one read may be another's.
asked: ContextVar[bytes] = ContextVar("asked")

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def evil(behaviour: Behaviour, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """
    A server that reads one request after another and answers each as `behaviour` wants.

    What it reads is kept in `requests`; the one that is being answered is `asked.get()`. A behaviour that returns keeps the connection open for the next request
    unless it closed the writer.
    """
    server = Server(0, scheme="http" if tls is None else "https")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                request = await _request(reader)
                server.requests.append(request)
                asked.set(request)
                await behaviour(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        # A task that is cancelled before its first step never gets to close what it was given.
        task.add_done_callback(lambda _: writer.close())

    listener = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # closing a transport takes one more round of the loop
        await listener.wait_closed()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return head + await reader.readexactly(length)


def answer(raw: bytes, *, close: bool = False) -> Behaviour:
    """
    Send these very bytes.
    """

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        if close:
            writer.close()

    return behave


def response(body: bytes, *, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> bytes:
    """
    A whole HTTP/1.1 response.
    """
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def silent() -> Behaviour:
    """
    Accept, read, and never answer.
    """

    async def behave(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client gives up

    return behave


def drip(raw: bytes, *, every_s: float = 1.0) -> Behaviour:
    """
    Send one byte at a time, and go on with zeros when there are no more.
    """

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        position = 0
        while not writer.is_closing():
            writer.write(raw[position : position + 1] or b"0")
            await writer.drain()
            position += 1
            await asyncio.sleep(every_s)

    return behave


def endless(head: bytes, piece: bytes) -> Behaviour:
    """
    Send a head, then the same piece for ever (a body without end, or a flood of header lines).
    """

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # drain alone lets nobody else run while the client keeps up

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """
    Behave differently for each request, as the last one for ever.
    """
    left = list(behaviours)

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(reader, writer)

    return behave
