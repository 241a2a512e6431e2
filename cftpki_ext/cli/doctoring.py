"""
`cftpki doctor`: what would refuse partners, found before partners do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cftpki_ext.bootstrap.checker import SystemClock, make_sources, source_kinds
from cftpki_ext.cli.options import FILE, config_option, config_path, json_option
from cftpki_ext.cli.render import Text, console, table, working
from cftpki_ext.config import load
from cftpki_ext.config.faults import nearest
from cftpki_ext.core.errors import CftPkiError, InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Settings, TrustSet
from cftpki_ext.doctor import (
    Finding,
    Level,
    Subject,
    Survey,
    examine_ca,
    examine_identity,
    examine_machine,
    examine_memory,
    examine_places,
    examine_plain,
    exit_status,
    survey,
    unreadable,
)
from cftpki_ext.identity.enroller_port import Finding as CaFinding
from cftpki_ext.identity.enroller_port import Inspected
from cftpki_ext.identity.renewal.overview import Overview
from cftpki_ext.identity.store.layout import site_of
from cftpki_ext.service.renewals import make_enroller, make_manager, managed
from cftpki_ext.stores import revocation_reader, stored_evidence
from cftpki_ext.support import pem
from cftpki_ext.support.files import read_regular
from cftpki_ext.support.pem import MAX_INPUT_BYTES

# For one CA: long enough for a slow one, DNS and TLS included.
CA_S = 30.0
_STYLES = {Level.OK: "green", Level.NOTE: "cyan", Level.WARN: "yellow", Level.FAIL: "bold red"}


@click.command()
@config_option(help_text="The configuration file.")
@click.option("--trust", "trust_names", multiple=True, help="Only this trust set.")
@click.option(
    "--chain",
    "chain_files",
    type=FILE,
    multiple=True,
    help="A partner's chain, whose locations are asked too.",
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
    show_all: bool,
    as_json: bool,
) -> None:
    """
    Ask every configured trust set and responder, look at this machine, and name what would refuse partners.

    The exit status is 0 where nothing would, 1 where something would, 2 for faults of the configuration or the
    call. Cache and memory of the service are neither used nor changed.
    """
    settings = load(config_path(config_file))
    trusts = _chosen(settings, trust_names)
    chains = [
        pem.certificates(read_regular(file, cap=MAX_INPUT_BYTES, what="chain").data, what="chain")
        for file in chain_files
    ]
    for file, chain in zip(chain_files, chains, strict=True):
        if not chain:
            msg = f"chain: {printable(str(file))} holds no certificate"
            raise InputError(msg)
    found: list[Finding] = []
    if not trust_names:
        now = SystemClock().now()
        service = settings.service
        found += examine_machine(settings, now=now)
        found += examine_places(service.state, managed(settings), now=now)
        found += asyncio.run(_identities(settings))
        found += examine_memory(lambda: stored_evidence(service), lambda: revocation_reader(service), now=now)
    found += asyncio.run(_asked(settings, trusts, chains))
    if as_json:
        click.echo(json.dumps([_data(finding) for finding in found], indent=2))
    else:
        _show(found, show_all=show_all)
    ctx.exit(exit_status(found))


def _chosen(settings: Settings, names: Sequence[str]) -> tuple[TrustSet, ...]:
    for name in names:
        if name not in settings.trusts:
            near = nearest(name, settings.trusts)
            hint = f' (did you mean "{near}"?)' if near else ""
            msg = f"there is no trust set {printable(name)!r}{hint}"
            raise InputError(msg)
    return tuple(trust for name, trust in settings.trusts.items() if not names or name in names)


async def _identities(settings: Settings) -> list[Finding]:
    """
    How our own certificates stand, and whether their CAs would have us; all that is asked of these orders nothing.
    """
    clock = SystemClock()
    found: list[Finding] = []
    async with contextlib.aclosing(
        make_manager(settings, clock=clock, event=_quiet, look_only=True)
    ) as manager:
        for row in await manager.rows():
            identity = managed(settings).get(row.name)
            if identity is None:
                found.append(examine_plain(row))
            elif not isinstance(row, Overview):
                found.append(unreadable(row.name, row.trouble or ""))
            else:
                anchors = None if identity.trust is None else settings.trusts[identity.trust].anchors
                site = site_of(settings.service.state, identity)
                found += examine_identity(Subject(site=site, overview=row, anchors=anchors))
    users: dict[str, list[str]] = {}
    for name, identity in managed(settings).items():
        for enroller in identity.enrollers:
            users.setdefault(enroller, []).append(name)
    asked = await asyncio.gather(*(_ca(settings, name, of) for name, of in sorted(users.items())))
    return [*found, *(finding for findings in asked for finding in findings)]


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


def _quiet(event: str, **fields: object) -> None:
    """
    Looking makes no history.
    """


async def _asked(
    settings: Settings, trusts: Sequence[TrustSet], chains: Sequence[tuple[bytes, ...]]
) -> tuple[Finding, ...]:
    sources = make_sources(source_kinds(settings))
    try:
        with working("asking") as tell:

            def progress(url: str) -> None:
                tell(f"asking {printable(url)}")

            given = Survey(sources=sources, clock=SystemClock(), limits=settings.limits, progress=progress)
            return await survey(given, trusts, chains)
    finally:
        for source in sources.values():
            await source.aclose()


def _data(finding: Finding) -> dict[str, Any]:
    return {
        "level": finding.level.name.lower(),
        "about": finding.about,
        "check": finding.check,
        "detail": finding.detail,
        "action": finding.action,
        "facts": dict(finding.facts),
    }


def _show(found: Sequence[Finding], *, show_all: bool) -> None:
    shown = [finding for finding in found if show_all or finding.level is not Level.OK]
    out = console()
    if shown:
        rows = (
            (
                Text(finding.level.name.lower(), style=_STYLES[finding.level]),
                finding.about,
                finding.check,
                finding.detail,
                finding.action,
            )
            for finding in sorted(shown, key=lambda finding: -finding.level)
        )
        out.print(table(("", "about", "what", "found", "do"), rows))
    counts = Counter(finding.level for finding in found)
    summary = ", ".join(f"{counts[level]} {level.name.lower()}" for level in sorted(Level, reverse=True))
    out.print(Text(("would refuse partners: " if counts[Level.FAIL] else "well: ") + summary))
