"""
`cftpki notify`: whether those who are to be told of trouble can be.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from cftpki_ext.bootstrap.notices import host_name, make_sender
from cftpki_ext.cli.options import config_option, config_path, json_option
from cftpki_ext.cli.render import Text, console, table, working
from cftpki_ext.config import load
from cftpki_ext.config.faults import nearest
from cftpki_ext.core.errors import CftPkiError, InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.notify import AnyReceiver, Condition, Notice, NoticeKind, NoticeMessage, NoticeState
from cftpki_ext.core.values import dataclass
from cftpki_ext.support.failures import reason_of

NOT_DONE = 1
# As long as the service waits for a receiver.
SEND_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    receiver: str
    kind: str
    error: str | None
    elapsed_ms: int


@click.group()
def notify() -> None:
    """
    Look after those who are told of trouble (`[notify]`).
    """


@notify.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@config_option(help_text="The configuration that names the receivers.")
@json_option
@click.pass_context
def test(ctx: click.Context, *, names: tuple[str, ...], config_file: Path | None, as_json: bool) -> None:
    """
    Send a message to each receiver, or to those that are named. Status 0 where all of them took it, else 1.

    Run it as the service's user, who can read the files with passwords and tokens.
    """
    receivers = _chosen(load(config_path(config_file), forgive_ended=True).notify.receivers, names)
    with working("sending"):
        outcomes = asyncio.run(_send_all(receivers))
    if as_json:
        click.echo(
            json.dumps(
                [
                    {
                        "receiver": one.receiver,
                        "kind": one.kind,
                        "taken": one.error is None,
                        "error": one.error,
                        "elapsed_ms": one.elapsed_ms,
                    }
                    for one in outcomes
                ],
                indent=2,
            )
        )
    else:
        rows = (
            (
                one.receiver,
                one.kind,
                Text("taken", style="green") if one.error is None else Text("not taken", style="bold red"),
                f"{one.elapsed_ms} ms",
                one.error or "",
            )
            for one in outcomes
        )
        console().print(table(("receiver", "kind", "message", "after", "why"), rows))
    if any(one.error is not None for one in outcomes):
        ctx.exit(NOT_DONE)


def _chosen(receivers: Sequence[AnyReceiver], names: Sequence[str]) -> tuple[AnyReceiver, ...]:
    known = {one.name: one for one in receivers}
    if not known:
        msg = "nobody is told of anything: the configuration has no receiver (docs/notices.md)"
        raise InputError(msg)
    for name in names:
        if name not in known:
            near = nearest(name, known)
            hint = f' (did you mean "{near}"?)' if near else ""
            msg = f"there is no receiver {printable(name)!r}{hint}"
            raise InputError(msg)
    return tuple(one for name, one in known.items() if not names or name in names)


async def _send_all(receivers: Sequence[AnyReceiver]) -> list[_Outcome]:
    return list(await asyncio.gather(*map(_send, receivers)))


async def _send(receiver: AnyReceiver) -> _Outcome:
    text = "this is a test: nothing is wrong, and nothing will be said of it again"
    condition = Condition(kind=NoticeKind.TEST, about=receiver.name, text=text)
    message = NoticeMessage(
        id=secrets.token_hex(16),
        at=datetime.now(UTC),
        host=host_name(),
        notices=(Notice(state=NoticeState.BEGUN, condition=condition),),
    )
    begun, error = time.monotonic(), None
    try:
        async with contextlib.aclosing(make_sender(receiver)) as sender, asyncio.timeout(SEND_S):
            await sender.send(message, deadline=begun + SEND_S)
    except TimeoutError:
        error = f"no answer within {SEND_S:.0f} s"
    except CftPkiError as exc:
        error = str(exc)
    except Exception as exc:  # noqa: BLE001 - the boundary: the others are told all the same
        error = reason_of(exc)
    kind = type(receiver).__name__.removesuffix("Receiver").lower()
    elapsed_ms = int((time.monotonic() - begun) * 1000)
    return _Outcome(receiver=receiver.name, kind=kind, error=error, elapsed_ms=elapsed_ms)
