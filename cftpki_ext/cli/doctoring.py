"""
`cftpki doctor`: what would refuse partners, found before partners do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from pathlib import Path

import click

from cftpki_ext.bootstrap.checker import SystemClock, make_sources, source_kinds
from cftpki_ext.cli.found import tell
from cftpki_ext.cli.options import INPUT, Since, config_option, config_path, json_option
from cftpki_ext.cli.render import working
from cftpki_ext.config import load
from cftpki_ext.config.faults import nearest
from cftpki_ext.core.errors import CftPkiError, InputError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Settings, TrustSet
from cftpki_ext.core.values import dataclass
from cftpki_ext.doctor import (
    Finding,
    Level,
    Subject,
    Survey,
    Unanswered,
    chain_of,
    examine_ca,
    examine_identity,
    examine_ledger,
    examine_machine,
    examine_memory,
    examine_past,
    examine_places,
    examine_plain,
    examine_policies,
    examine_service,
    exit_status,
    is_trusted,
    key_of,
    left_out,
    look_back,
    silence_of,
    survey,
    to_ask_for,
    unreadable,
    untrusted_now,
)
from cftpki_ext.identity.enroller_port import Finding as CaFinding
from cftpki_ext.identity.enroller_port import Inspected
from cftpki_ext.identity.renewal.overview import Overview
from cftpki_ext.identity.store.layout import site_of
from cftpki_ext.service.monitoring.asking import ServiceUnreachableError, ask_status
from cftpki_ext.service.renewals import make_enroller, make_manager, managed
from cftpki_ext.stores import revocation_reader, stored_evidence
from cftpki_ext.support import pem
from cftpki_ext.support.files import read_input, shown_name
from cftpki_ext.support.pem import MAX_INPUT_BYTES
from cftpki_ext.support.version import version

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
    past = _past(settings, since)
    chains += past.chains
    if not trust_names:
        found += past.findings
        now = SystemClock().now()
        service = settings.service
        found += examine_service(
            service.socket,
            _status(service.socket),
            version=version(),
            ran_before=past.records > 0,
        )
        found += examine_policies(settings, past.shadows, now=now)
        found += examine_machine(settings, now=now)
        found += examine_places(service.state, managed(settings), now=now)
        found += asyncio.run(_identities(settings))
        found += examine_memory(lambda: stored_evidence(service), lambda: revocation_reader(service), now=now)
        with working("verifying the evidence"):
            found += examine_ledger(lambda: stored_evidence(service), monotonic=SystemClock().monotonic)
    found += asyncio.run(_asked(settings, trusts, chains))
    tell(found, as_json=as_json, show_all=show_all, words=_WORDS)
    ctx.exit(exit_status(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lately:
    """
    What the evidence gave: findings, chains to ask for, and what policies that only audit let in.
    """

    findings: tuple[Finding, ...] = ()
    chains: tuple[tuple[bytes, ...], ...] = ()
    shadows: Mapping[str, Counter[str]] = field(default_factory=dict)
    records: int = 0


def _past(settings: Settings, since: datetime) -> _Lately:
    """
    The last days, as the evidence has them; nothing where there is none yet.
    """
    clock = SystemClock()
    now = clock.now()
    try:
        ledger = stored_evidence(settings.service)
        if ledger is None:
            return _Lately()
        with contextlib.closing(ledger), working("reading the evidence"):
            past = look_back(ledger, now=now, since=since, monotonic=clock.monotonic)
            found = [
                *examine_past(
                    past, now=now, skew=settings.limits.clock_skew, key_of=lambda seen: key_of(seen, ledger)
                )
            ]
            chains = []
            for seen in to_ask_for(past, now=now):
                chain = chain_of(seen, ledger)
                if chain is None:
                    continue  # `audit verify` says what is gone
                chains.append(chain)
                leads = any(
                    is_trusted(chain, trust, limits=settings.limits, now=now)
                    for trust in settings.trusts.values()
                )
                if not (leads or seen.refused):
                    found.append(untrusted_now(seen))
            found += left_out(past, len(chains))
            count = ledger.count()
    except StoreError as exc:
        return _Lately(
            findings=(
                Finding(
                    level=Level.WARN,
                    about="evidence",
                    check="records",
                    detail=f"the last days cannot be read: {exc}",
                    action="run this as the service's user; see cftpki audit verify",
                ),
            )
        )
    return _Lately(findings=tuple(found), chains=tuple(chains), shadows=past.shadows, records=count)


def _status(socket: Path) -> Mapping[str, object] | Unanswered:
    try:
        return ask_status(socket)
    except ServiceUnreachableError as error:
        return silence_of(error)


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
        with working("asking") as moving:

            def progress(url: str) -> None:
                moving(f"asking {printable(url)}")

            given = Survey(sources=sources, clock=SystemClock(), limits=settings.limits, progress=progress)
            return await survey(given, trusts, chains)
    finally:
        for source in sources.values():
            await source.aclose()
