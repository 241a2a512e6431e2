"""
`cftpki serve` and `cftpki status`: being the service, and asking it how it is.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import click

from cftpki_ext import logs
from cftpki_ext.bootstrap import run_service
from cftpki_ext.cli.options import FILE, config_option, config_path, json_option
from cftpki_ext.cli.render import console, table
from cftpki_ext.config import load
from cftpki_ext.errors import CftPkiError, WireError
from cftpki_ext.files import printable
from cftpki_ext.wire import Frame, Message, Tag, decode, encode

# The service answers STATUS from memory.
TIMEOUT_S = 5.0


class ServiceUnreachableError(CftPkiError):
    """
    Nobody answers at the socket.
    """


@click.command()
@config_option(help_text="The configuration file.")
def serve(config_file: Path | None) -> None:
    """
    Be the service: answer the exit on the unix socket until SIGTERM; SIGHUP reads the configuration again.
    """
    run_service(config_path(config_file), logs.configure)


@click.command()
@config_option(help_text="The configuration file that names the socket.")
@click.option("--socket", "socket_path", type=FILE, help="The socket, without a configuration.")
@json_option
def status(config_file: Path | None, socket_path: Path | None, *, as_json: bool) -> None:
    """
    Ask the running service how it is.
    """
    path = socket_path or load(config_path(config_file)).service.socket
    told = ask_status(path)
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    rows = (
        (name, json.dumps(value) if isinstance(value, dict | list) else value) for name, value in told.items()
    )
    console().print(table(("what", "value"), rows))


def ask_status(path: Path, *, timeout_s: float = TIMEOUT_S) -> dict[str, object]:
    """
    Send STATUS and wait for the answer.

    Args:
        path: the service's socket.
        timeout_s: for the whole exchange.

    Returns:
        What the service says of itself.

    Raises:
        ServiceUnreachableError: no service there, not allowed, or no answer in time.

    """
    deadline = time.monotonic() + timeout_s
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            connection.sendall(encode(Frame(message=Message.STATUS, response=False, sequence=1, fields={})))
            answer = _answer(connection, deadline)
        text = answer.fields.get(Tag.JSON)
        told = json.loads(text) if isinstance(text, str) else None
    except (OSError, ValueError, WireError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        msg = f"no answer at {path}: {printable(reason).lower()}; is the service running (cftpki serve)?"
        raise ServiceUnreachableError(msg) from exc
    if not isinstance(told, dict):
        detail = answer.fields.get(Tag.DETAIL, "no reason given")
        msg = f"the service at {path} does not tell: {printable(str(detail))}"
        raise ServiceUnreachableError(msg)
    return told


def _answer(connection: socket.socket, deadline: float) -> Frame:
    received = b""
    while True:
        found = decode(received)
        if found is not None:
            return found[0]
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            msg = "timed out"
            raise TimeoutError(msg)
        connection.settimeout(left_s)
        more = connection.recv(65536)
        if not more:
            msg = "the connection was closed"
            raise ConnectionError(msg)
        received += more
