"""
`cftpki cache …`: what is kept on the disk.
"""

from __future__ import annotations

import asyncio
import json
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
from cftpki_ext.core.errors import InputError
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
def flush(config_file: Path | None) -> None:
    """
    Forget every cached response; each is asked for again when it is needed.

    A running service forgets them within a tenth of a second, and judges every partner anew.
    """
    settings = load(config_path(config_file))
    go_on_as_owner(settings)
    count = flush_cache(settings.service)
    click.echo(f"forgot {count} responses")


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
    return replace(trust, sources=lists or trust.sources, cross_check=())


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
