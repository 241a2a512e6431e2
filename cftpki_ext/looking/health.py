"""
What the doctor finds without asking a CA: the service, the machine, policies, identities, memory, evidence, the last days.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from pathlib import Path

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.values import dataclass
from cftpki_ext.doctor import (
    Finding,
    Level,
    Subject,
    Unanswered,
    chain_of,
    examine_identity,
    examine_ledger,
    examine_machine,
    examine_memory,
    examine_past,
    examine_places,
    examine_plain,
    examine_policies,
    examine_service,
    is_trusted,
    key_of,
    left_out,
    look_back,
    silence_of,
    to_ask_for,
    unreadable,
    untrusted_now,
)
from cftpki_ext.doctor.ledger import VERIFY_S
from cftpki_ext.doctor.machine import Onlooker
from cftpki_ext.doctor.past import READ_S
from cftpki_ext.identity.renewal.overview import Overview
from cftpki_ext.identity.store.layout import site_of
from cftpki_ext.ports.clock import Clock
from cftpki_ext.service.monitoring.asking import TIMEOUT_S, ServiceUnreachableError, ask_status
from cftpki_ext.service.renewals import make_manager, managed
from cftpki_ext.stores import revocation_reader, stored_evidence
from cftpki_ext.support.version import version


@dataclass(frozen=True, slots=True, kw_only=True)
class Lately:
    """
    What the evidence gave: findings, chains to ask for, and what policies that only audit let in.
    """

    findings: tuple[Finding, ...] = ()
    chains: tuple[tuple[bytes, ...], ...] = ()
    shadows: Mapping[str, Counter[str]] = field(default_factory=dict)
    records: int = 0


def lately(settings: Settings, since: datetime, *, clock: Clock, within_s: float = READ_S) -> Lately:
    """
    The last days, as the evidence has them; nothing where there is none yet.

    Args:
        settings: the configuration.
        since: how far back.
        clock: the time.
        within_s: how long records are read.

    Returns:
        What they tell.

    """
    now = clock.now()
    try:
        ledger = stored_evidence(settings.service)
        if ledger is None:
            return Lately()
        with contextlib.closing(ledger):
            past = look_back(ledger, now=now, since=since, monotonic=clock.monotonic, within_s=within_s)
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
        return Lately(
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
    return Lately(findings=tuple(found), chains=tuple(chains), shadows=past.shadows, records=count)


def ask_service(socket: Path, *, timeout_s: float = TIMEOUT_S) -> Mapping[str, object] | Unanswered:
    """
    What the service says of itself, or why it does not.

    Args:
        socket: where it listens.
        timeout_s: how long it is waited for.

    Returns:
        STATUS, or the kind of silence.

    """
    try:
        return ask_status(socket, timeout_s=timeout_s)
    except ServiceUnreachableError as error:
        return silence_of(error)


def service_findings(
    socket: Path, told: Mapping[str, object] | Unanswered, *, ran_before: bool
) -> tuple[Finding, ...]:
    """
    What is to be said of the service; see `doctor.examine_service`.
    """
    return examine_service(socket, told, version=version(), ran_before=ran_before)


def cluster_findings(told: Mapping[str, object] | Unanswered) -> tuple[Finding, ...]:
    """
    What is to be said of a service's cluster, by its own word; nothing where it has none.
    """
    status, answers = (
        told.get(name) if isinstance(told, Mapping) else None for name in ("cluster", "answers")
    )
    if not isinstance(status, Mapping):
        return ()
    from cftpki_ext.doctor.cluster import examine_node  # noqa: PLC0415 - few have one

    return examine_node(status, answers if isinstance(answers, Mapping) else None)


async def here(
    settings: Settings,
    past: Lately,
    *,
    clock: Clock,
    verify_s: float = VERIFY_S,
    onlooker: Onlooker = Onlooker.WRITER,
) -> tuple[Finding, ...]:
    """
    What is found on this machine, without asking anybody.

    Args:
        settings: the configuration.
        past: from `lately`.
        clock: the time.
        verify_s: how long the chain of records is looked through.
        onlooker: who looks.

    Returns:
        Findings on policies, machine, state directory, identities, memory of revocations and evidence.

    """
    now, service = clock.now(), settings.service
    return (
        *examine_policies(settings, past.shadows, now=now),
        *examine_machine(settings, now=now, onlooker=onlooker),
        *examine_places(service.state, managed(settings), now=now),
        *await _identities(settings, clock),
        *examine_memory(lambda: stored_evidence(service), lambda: revocation_reader(service), now=now),
        *examine_ledger(lambda: stored_evidence(service), monotonic=clock.monotonic, within_s=verify_s),
    )


async def _identities(settings: Settings, clock: Clock) -> list[Finding]:
    """
    How our own certificates stand.
    """
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
    return found


def _quiet(event: str, **fields: object) -> None:
    """
    Looking makes no history.
    """
