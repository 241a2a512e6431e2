"""
`cftpki partners block` and `unblock`: shutting a partner out at once, whatever its CA says, and letting it in again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from cftpki_ext.api import chain_of
from cftpki_ext.cli.options import INPUT, Time, config_option, config_path, json_option
from cftpki_ext.cli.owning import may_write
from cftpki_ext.config import load, load_service
from cftpki_ext.core.blocks import MAX_BY, MAX_REASON, Block, Book, block_to_plain
from cftpki_ext.core.errors import ConfigError, InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.vocabulary import Phase
from cftpki_ext.decision.blocked import SPKI, matching, read_blocked
from cftpki_ext.identity.store.operator_log import this_actor
from cftpki_ext.service.blocking import digest_of_list
from cftpki_ext.service.monitoring.asking import ServiceUnreachableError, ask_status
from cftpki_ext.stores import open_blocks
from cftpki_ext.support.files import read_input
from cftpki_ext.support.pem import MAX_INPUT_BYTES
from cftpki_ext.x509.certificate import parse_certificate

# The service looks 20 times a second; one that does not say so by then is stuck, or another program.
TAKEN_S = 3.0
_POLL_S = 0.02
_STOPPED = (
    "no service answers: one that is started takes this before it listens, one that is frozen as soon as it goes on; until then"
    " hosts that were given a board let known partners in, for an hour at the longest"
)
_NOT_TAKEN = "the running service has not said within 3 s that it holds: look at its log, and restart it"

_who_argument = click.argument("who", metavar="[FINGERPRINT|SPKI|NAME]", required=False)
_key_of = click.option(
    "--key-of",
    type=INPUT,
    help="Instead of a name: the key of the first certificate in this file (PEM or DER; - is standard input).",
)
_reason = click.option("--reason", required=True, help="Why, for the evidence and whoever reads it later.")
_lifting = click.option(
    "--reason", default="lifted", show_default=True, help="Why, for whoever reads it later."
)
_until = click.option(
    "--until", type=Time(), help="Until when, e.g. 2027-03-31; by default until it is lifted."
)
_config = config_option(help_text="The configuration that names the state directory and the socket.")


@click.command()
@_who_argument
@_key_of
@_reason
@_until
@_config
@json_option
def block(
    who: str | None,
    *,
    key_of: Path | None,
    reason: str,
    until: datetime | None,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """
    Shut a partner out at once, in every host, whatever its CA says: for a stolen key, for example.

    FINGERPRINT is the SHA-256 of any certificate of its path, its own or a CA's, as openssl prints it; SPKI that of a public
    key (hex, or base64 behind sha256//); NAME a distinguished name (CN=mft,O=Partner,C=FR; CN=mft alone means any with that
    common name), or dns:NAME, email:ADDRESS, uri:URI, ip:ADDRESS. Every policy refuses whom it means, with alert 49.
    """
    now = datetime.now(UTC)
    if until is not None and until <= now:
        msg = f"--until {until.isoformat(timespec='seconds')} is over: nobody would be blocked"
        raise InputError(msg)
    made = Block(what=_meant(who, key_of), reason=_words(reason), by=_who(), at=now, until=until)
    settings = _settings(config_path(config_file))
    may_write(settings)
    open_blocks(settings.service).change(lambda book: book.with_block(made))
    state = _taken(settings)
    if as_json:
        click.echo(json.dumps({"blocked": block_to_plain(made), **state}, indent=2))
        return
    ends = "until it is lifted" if until is None else f"until {until:%Y-%m-%d %H:%MZ}"
    click.echo(f"{printable(made.what)} is blocked {ends}; {state['detail']}")
    for name in state["not_asked"]:
        click.echo(f"cftpki: rule {name!r} leaves certificates to the host: no block counts there", err=True)


@click.command()
@_who_argument
@_key_of
@_lifting
@_config
@json_option
def unblock(
    who: str | None, *, key_of: Path | None, reason: str, config_file: Path | None, as_json: bool
) -> None:
    """
    Let a partner in again that was blocked, in any spelling of what was blocked.
    """
    what, words, by = _meant(who, key_of), _words(reason), _who()
    settings = _settings(config_path(config_file))
    may_write(settings)
    lifted: list[Block] = []

    def lift(book: Book) -> Book:
        found = matching(what, book.blocks)
        if len(found) != 1:
            named = ", ".join(one.what for one in found or book.blocks[:10]) or "nobody"
            how = "means several" if found else "is not blocked"
            msg = f"{what} {how}; blocked: {named}"
            raise InputError(msg)
        lifted[:] = found
        return book.without(found[0].what, by=by, at=datetime.now(UTC), reason=words)

    open_blocks(settings.service).change(lift)
    state = _taken(settings)
    if as_json:
        click.echo(json.dumps({"unblocked": block_to_plain(lifted[0]), **state}, indent=2))
        return
    click.echo(f"{printable(lifted[0].what)} is blocked no more; {state['detail']}")


def _settings(path: Path) -> Settings:
    """
    The configuration; of one with faults only where the service is: a partner must be shut out while somebody edits it.
    """
    try:
        return load(path, forgive_ended=True)
    except ConfigError as error:
        service = load_service(path)
        many = f"{len(error.faults)} faults" if len(error.faults) > 1 else "a fault"
        click.echo(
            f"cftpki: {printable(str(path))} has {many}, see cftpki config check; this is done all the same",
            err=True,
        )
        return Settings(service=service)


def _meant(who: str | None, key_of: Path | None) -> str:
    """
    Who is meant, by name or by a certificate at hand.
    """
    if (who is None) == (key_of is None):
        msg = "name a partner, or a file with its certificate behind --key-of: one of the two"
        raise click.UsageError(msg)
    if key_of is None:
        return read_blocked(who or "")
    data = read_input(key_of, cap=MAX_INPUT_BYTES, what="certificate").data
    return f"{SPKI}:{sha256(parse_certificate(chain_of(data)[0]).spki).hexdigest()}"


def _who() -> str:
    """
    Who runs this command, before root becomes the service's user.
    """
    actor = this_actor()
    sudo = f", by sudo of {actor.sudo_user}" if actor.sudo_user else ""
    return printable(f"{actor.user or 'user'} (uid {actor.uid}{sudo})")[:MAX_BY]


def _words(reason: str) -> str:
    words = printable(reason.strip())
    if not words or len(words) > MAX_REASON:
        msg = f"--reason: one to {MAX_REASON} characters, please; {len(words)} were given"
        raise InputError(msg)
    return words


def _taken(settings: Settings) -> dict[str, Any]:
    """
    Whether the service that runs holds the list as it is, waited for.
    """
    blocks = open_blocks(settings.service)
    end = time.monotonic() + TAKEN_S
    state, detail = "not_taken", _NOT_TAKEN
    while True:
        try:
            told = ask_status(settings.service.socket, timeout_s=TAKEN_S).get("blocks")
        except ServiceUnreachableError:
            state, detail = "stopped", _STOPPED
            break
        wanted = digest_of_list(blocks.document())
        if isinstance(told, Mapping) and told.get("fault") is None and told.get("list", "") == wanted:
            state, detail = "in_force", "the running service holds it"
            break
        if time.monotonic() > end:
            break
        time.sleep(_POLL_S)
    return {"service": state, "detail": detail, "not_asked": list(_unasked(settings))}


def _unasked(settings: Settings) -> tuple[str, ...]:
    """
    The rules under which the host's own PKI judges certificates.
    """
    everywhere = Phase.CHECK_CERTIFICATE not in settings.service.phases
    return tuple(
        rule.name for rule in settings.rules if everywhere or Phase.CHECK_CERTIFICATE in rule.not_handled
    )
