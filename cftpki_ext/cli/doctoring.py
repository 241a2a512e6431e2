"""
`cftpki doctor`: what would refuse partners, found before partners do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import click

from cftpki_ext.bootstrap.checker import SystemClock, make_sources, source_kinds
from cftpki_ext.cli.found import tell
from cftpki_ext.cli.options import INPUT, Since, config_option, config_path, json_option
from cftpki_ext.cli.render import working
from cftpki_ext.config import load
from cftpki_ext.config.faults import nearest
from cftpki_ext.core.errors import CftPkiError, InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Settings, TrustSet
from cftpki_ext.doctor import (
    Finding,
    Level,
    Survey,
    Unanswered,
    examine_ca,
    exit_status,
    survey,
)
from cftpki_ext.identity.enroller_port import Finding as CaFinding
from cftpki_ext.identity.enroller_port import Inspected
from cftpki_ext.looking.health import ask_service, here, lately, service_findings
from cftpki_ext.service.renewals import make_enroller, managed
from cftpki_ext.support import pem
from cftpki_ext.support.files import read_input, shown_name
from cftpki_ext.support.pem import MAX_INPUT_BYTES

# For one CA: long enough for a slow one, DNS and TLS included.
CA_S = 30.0
_WORDS = {Level.FAIL: "would refuse partners", Level.WARN: "look at the warnings", Level.OK: "well"}


@click.command()
@config_option(help_text="The configuration file.")
@click.option("--trust", "trust_names", multiple=True, help="Only this trust set.")
@click.option(
    "--chain",
    "chain_files",
    type=INPUT,
    multiple=True,
    help="A partner's chain, whose locations are asked too.",
)
@click.option(
    "--since",
    type=Since(),
    default="7d",
    show_default=True,
    help="Ask for partners that came since then, as the evidence has them.",
)
@click.option("--all", "show_all", is_flag=True, help="Show what is well, too.")
@json_option
@click.pass_context
def doctor(
    ctx: click.Context,
    *,
    config_file: Path | None,
    trust_names: tuple[str, ...],
    chain_files: tuple[Path, ...],
    since: datetime,
    show_all: bool,
    as_json: bool,
) -> None:
    """
    Ask every source of the configuration and of the last days' partners, the service and this machine; name what refuses.

    The exit status is 0 where nothing would refuse partners, 1 where something would, 2 for faults of the configuration
    or the call. Cache and memory of the service are neither used nor changed.
    """
    settings = load(config_path(config_file))
    trusts = _chosen(settings, trust_names)
    chains = [
        pem.certificates(read_input(file, cap=MAX_INPUT_BYTES, what="chain").data, what="chain")
        for file in chain_files
    ]
    for file, chain in zip(chain_files, chains, strict=True):
        if not chain:
            msg = f"chain: {shown_name(file)} holds no certificate"
            raise InputError(msg)
    found: list[Finding] = []
    with working("reading the evidence"):
        past = lately(settings, since, clock=SystemClock())
    chains += past.chains
    if not trust_names:
        found += past.findings
        socket = settings.service.socket
        told = ask_service(socket)
        found += service_findings(socket, told, ran_before=past.records > 0)
        found += _cluster(settings, told)
        with working("verifying the evidence"):
            found += asyncio.run(here(settings, past, clock=SystemClock()))
        found += asyncio.run(_cas(settings))
    found += asyncio.run(_asked(settings, trusts, chains))
    tell(found, as_json=as_json, show_all=show_all, words=_WORDS)
    ctx.exit(exit_status(found))


def _chosen(settings: Settings, names: Sequence[str]) -> tuple[TrustSet, ...]:
    for name in names:
        if name not in settings.trusts:
            near = nearest(name, settings.trusts)
            hint = f' (did you mean "{near}"?)' if near else ""
            msg = f"there is no trust set {printable(name)!r}{hint}"
            raise InputError(msg)
    return tuple(trust for name, trust in settings.trusts.items() if not names or name in names)


def _cluster(settings: Settings, told: Mapping[str, object] | Unanswered) -> tuple[Finding, ...]:
    """
    How the server stands that nodes share, where there is one; what looks is loaded for it alone.
    """
    if settings.cluster is None:
        return ()
    from cftpki_ext.bootstrap.clustering import probe_server  # noqa: PLC0415 - see above
    from cftpki_ext.doctor.cluster import examine_cluster  # noqa: PLC0415

    clock = SystemClock()
    with working("asking the server that nodes share"):
        probe = probe_server(settings.cluster, clock)
    status, answers = (
        told.get(name) if isinstance(told, Mapping) else None for name in ("cluster", "answers")
    )
    return examine_cluster(
        settings.cluster,
        probe,
        status if isinstance(status, Mapping) else None,
        limits=settings.limits,
        now=clock.now(),
        answers=answers if isinstance(answers, Mapping) else None,
    )


async def _cas(settings: Settings) -> list[Finding]:
    """
    Whether the CAs of our own certificates would have us; all that is asked of them orders nothing.
    """
    users: dict[str, list[str]] = {}
    for name, identity in managed(settings).items():
        for enroller in identity.enrollers:
            users.setdefault(enroller, []).append(name)
    asked = await asyncio.gather(*(_ca(settings, name, of) for name, of in sorted(users.items())))
    return [finding for findings in asked for finding in findings]


async def _ca(settings: Settings, name: str, users: Sequence[str]) -> tuple[Finding, ...]:
    state = settings.service.state
    # What a first contact writes (pinned roots) the service must be able to read.
    if not state.exists() or state.stat().st_uid != os.geteuid():
        return examine_ca(name, users, None)
    clock = SystemClock()
    try:
        async with contextlib.aclosing(make_enroller(settings, name, clock=clock)) as enroller:
            if not isinstance(enroller, Inspected):
                return examine_ca(name, users, None)
            return examine_ca(name, users, await enroller.check(deadline=clock.monotonic() + CA_S))
    except (CftPkiError, OSError) as error:
        return examine_ca(name, users, [CaFinding(what="state", detail=str(error), good=False)])


async def _asked(
    settings: Settings, trusts: Sequence[TrustSet], chains: Sequence[tuple[bytes, ...]]
) -> tuple[Finding, ...]:
    sources = make_sources(source_kinds(settings))
    try:
        with working("asking") as moving:

            def progress(url: str) -> None:
                moving(f"asking {printable(url)}")

            given = Survey(sources=sources, clock=SystemClock(), limits=settings.limits, progress=progress)
            return await survey(given, trusts, chains)
    finally:
        for source in sources.values():
            await source.aclose()
