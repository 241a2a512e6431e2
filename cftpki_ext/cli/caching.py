"""
`cftpki cache …`: what is kept on the disk.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import click

from cftpki_ext.bootstrap.checker import SystemClock, make_checker
from cftpki_ext.cli.options import INPUT, config_option, config_path, json_option
from cftpki_ext.cli.owning import go_on_as_owner
from cftpki_ext.cli.render import console, table, working
from cftpki_ext.config import load
from cftpki_ext.config.units import format_size
from cftpki_ext.core.errors import CftPkiError, InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Settings, TrustSet
from cftpki_ext.core.verdict import CertificateStatus, Verdict
from cftpki_ext.core.vocabulary import Direction, SourceKind
from cftpki_ext.decision.question import Question
from cftpki_ext.stores import cache_usage, flush_cache, known_partners
from cftpki_ext.support import pem
from cftpki_ext.support.files import read_input, shown_name
from cftpki_ext.support.pem import MAX_INPUT_BYTES

# Longer than any list takes that a handshake could then use.
WARM_MS = 600_000


# A service looks twenty times a second.
NOTICED_S = 10.0
_LOOK_S = 0.05


class ServiceNotToldError(CftPkiError):
    """
    A service runs, and what a command did has not reached it.
    """


@click.group()
def cache() -> None:
    """
    Look at the cache of OCSP responses and CRLs, or empty it. What is known to be revoked stays known.
    """


@cache.command()
@config_option(help_text="The configuration file.")
@json_option
def stats(config_file: Path | None, *, as_json: bool) -> None:
    """
    Show what the cache holds.
    """
    service = load(config_path(config_file)).service
    usage = cache_usage(service)
    data = {
        "directory": str(usage.directory),
        "entries": usage.entries,
        "bytes": usage.bytes,
        "max_bytes": service.cache_bytes,
        "partners": known_partners(service),
    }
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return
    data["max_bytes"] = format_size(service.cache_bytes)
    console().print(table(("what", "value"), data.items()))


@cache.command()
@config_option(help_text="The configuration file.")
@click.option(
    "--cluster", "everywhere", is_flag=True, help="At all nodes of the cluster, and what they share."
)
def flush(config_file: Path | None, *, everywhere: bool) -> None:
    """
    Forget every cached response; each is asked for again when it is needed.

    A running service forgets them, too, and judges every partner anew: that is waited for. Status 1 where a service
    answers and does not take notice. With --cluster the other nodes are told once this one has forgotten; that they have is
    not waited for, and a node that is cut off forgets when it is back.
    """
    settings = load(config_path(config_file))
    if everywhere and settings.cluster is None:
        msg = "--cluster: the configuration has no [cluster]"
        raise InputError(msg)
    go_on_as_owner(settings)
    _flush_here(settings)
    if everywhere:
        # Only who tells a cluster loads what does.
        from cftpki_ext.bootstrap.clustering import tell_flushed  # noqa: PLC0415

        tell_flushed(settings, SystemClock())
        click.echo("the other nodes are told")
    elif settings.cluster is not None:
        click.echo("other nodes share what they were answered: --cluster forgets that, too")


def _flush_here(settings: Settings) -> None:
    before = _flushes(settings.service.socket)
    count = flush_cache(settings.service)
    click.echo(f"forgot {count} responses")
    if before is None:
        click.echo(
            f"no service answers at {printable(str(settings.service.socket))}: none has to forget anything"
        )
        return
    with working("waiting for the service"):
        noticed = _noticed(settings.service.socket, before)
    if not noticed:
        msg = f"the service at {settings.service.socket} has not said within {NOTICED_S:.0f} s that it forgot them: restart it"
        raise ServiceNotToldError(msg)
    click.echo("the service has forgotten them, and judges every partner anew")


@cache.command()
@click.argument("chains", type=INPUT, nargs=-1, required=True)
@click.option("--trust", "trust_name", help="The trust set; may be left out where there is only one.")
@config_option(help_text="The configuration file.")
@click.pass_context
def warm(
    ctx: click.Context, /, chains: tuple[Path, ...], *, trust_name: str | None, config_file: Path | None
) -> None:
    """
    Fetch ahead what handshakes with the partners of CHAINS will need, however long it takes. - is standard input.

    For CRLs that are too large to be got within a handshake: run it from a timer, more often than crl_refresh.
    Every CA certificate in a chain is covered too; one partner of each CA is enough. The exit status is 0 where
    every status was established (also "revoked"), else 1.
    """
    settings = load(config_path(config_file))
    trust = _trust(settings, trust_name)
    missing = False
    read = [(shown_name(file), read_input(file, cap=MAX_INPUT_BYTES, what="chain").data) for file in chains]
    go_on_as_owner(settings)
    for name, data in read:
        with working(f"warming for {name}"):
            verdict = asyncio.run(_warm(settings, trust, pem.certificates(data, what="chain")))
        for line, established in _warmed(verdict):
            click.echo(f"{name}: {printable(line)}")
            missing = missing or not established
    ctx.exit(int(missing))


def _flushes(socket: Path) -> int | None:
    """
    How often a service that runs has noticed an emptied cache; `None` where none answers.
    """
    # Only who asks a service loads what asks it.
    from cftpki_ext.service.monitoring.asking import ServiceUnreachableError, ask_status  # noqa: PLC0415

    try:
        judging = ask_status(socket).get("judging")
    except ServiceUnreachableError:
        return None
    found = judging.get("flushes") if isinstance(judging, dict) else None
    return found if isinstance(found, int) else 0  # of an earlier version, which does not say


def _noticed(socket: Path, before: int) -> bool:
    """
    Wait until a service has noticed one more; one that ended meanwhile has nothing left to forget.
    """
    until = time.monotonic() + NOTICED_S
    while (now := _flushes(socket)) is not None and now <= before:
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_S)
    return True


def _trust(settings: Settings, name: str | None) -> TrustSet:
    """
    The trust set that is meant; of its sources only the lists, where it has any.
    """
    if name is None and len(settings.trusts) == 1:
        name = next(iter(settings.trusts))
    if name is None or name not in settings.trusts:
        msg = f"--trust: name one of {', '.join(settings.trusts)}"
        raise InputError(msg)
    trust = settings.trusts[name]
    kinds = {SourceKind.CRL, *((SourceKind.REST,) if trust.api_crls else ())}
    lists = tuple(kind for kind in trust.sources if kind in kinds)
    # Otherwise a quick responder would end the search before the list is there.
    return replace(trust, sources=lists or trust.sources, cross_check=(), directory=None)


async def _warm(settings: Settings, trust: TrustSet, chain: tuple[bytes, ...]) -> Verdict:
    limits = replace(
        settings.limits,
        budget_ms=WARM_MS,
        request_ms=WARM_MS // 10,
        hedge_ms=WARM_MS // 10,
        crl_refresh=timedelta(0),
    )
    clock = SystemClock()
    question = Question(
        chain=chain, direction=Direction.SERVER, trust=trust, limits=limits, at=clock.now(), rule=None
    )
    checker = make_checker(settings)
    try:
        return await checker.check(question)
    finally:
        await checker.aclose()


def _warmed(verdict: Verdict) -> list[tuple[str, bool]]:
    if not verdict.evidence.findings:
        return [(verdict.summary, False)]
    lines = []
    for finding in verdict.evidence.findings:
        status = finding.status.value if finding.cause is None else f"{finding.cause.value}: {finding.detail}"
        sources = ", ".join(
            f"{source.kind.value} {source.elapsed_ms} ms"
            for source in finding.sources
            if source.kind is not SourceKind.REST
        )
        lines.append(
            (
                f"{finding.subject}: {status} ({sources or 'nobody asked'})",
                finding.status is not CertificateStatus.UNDETERMINED,
            )
        )
    return lines
