"""
The driver: asks every location once, all side by side, and has the answers judged. Waits, decides nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime, timedelta

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import CertificateFinding
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.doctor.asked import Plan, Target, context_of, plan
from cftpki_ext.doctor.clocks import judge_clocks
from cftpki_ext.doctor.directories import judge_trial, trial_of
from cftpki_ext.doctor.findings import Finding, Level
from cftpki_ext.doctor.judged import Heard, judge_trust
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.sources import StatusQuestion, StatusSource
from cftpki_ext.revocation.judge import judge_certificate
from cftpki_ext.x509.certificate import Certificate, parse_certificate

# Long enough to see how slow a source is, and to get the largest list over a poor line.
PATIENCE_MS = 60_000
# What has not begun by then is not asked: with the patience of the last, a survey takes two minutes at most.
BEGIN_S = 60.0
# A quarter of `PATIENCE_MS` is longer than any handshake waits for a single request.
REQUEST_MS = 15_000
_AT_ONCE = 16

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """
    What is asked, of whom, and by when.
    """

    sources: Mapping[SourceKind, StatusSource]
    clock: Clock
    limits: Limits
    progress: Progress
    begin_s: float = BEGIN_S


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    """
    What all questions share: how many are put at once, until when they may begin, and what servers' clocks say.
    """

    gate: asyncio.Semaphore
    until: float
    unasked: list[str] = field(default_factory=list)
    # By how much each server's clock was ahead of ours.
    ahead: dict[str, list[timedelta]] = field(default_factory=dict)


async def survey(
    given: Survey, trusts: Sequence[TrustSet], chains: Sequence[tuple[bytes, ...]]
) -> tuple[Finding, ...]:
    """
    Ask about every trust set, without cache and memory.

    Args:
        given: sources (not closed here), clock, the configured limits.
        trusts: whom.
        chains: partners' chains (DER, leaf first).

    Returns:
        Findings in the order of the trust sets, then those about the servers' clocks, and what there was no time for.

    """
    room = _Room(gate=asyncio.Semaphore(_AT_ONCE), until=given.clock.monotonic() + given.begin_s)
    found = await asyncio.gather(*(_trust(given, trust, chains, room) for trust in trusts))
    clocks = judge_clocks(room.ahead, limits=given.limits)
    return (*(finding for findings in found for finding in findings), *clocks, *_unasked(room, given))


def _unasked(room: _Room, given: Survey) -> tuple[Finding, ...]:
    if not room.unasked:
        return ()
    detail = f"{len(room.unasked)} questions could not be put within {given.begin_s:.0f} s, first {room.unasked[0]}"
    action = "mend what is slow, or ask for one trust set at a time (--trust)"
    return (Finding(level=Level.WARN, about="sources", check="time", detail=detail, action=action),)


async def _trust(
    given: Survey, trust: TrustSet, chains: Sequence[tuple[bytes, ...]], room: _Room
) -> tuple[Finding, ...]:
    now = given.clock.now()
    serial = secrets.randbits(120) | 1 << 119
    made = plan(trust, chains, limits=given.limits, now=now, serial=serial)
    answers = await asyncio.gather(*(_ask_target(given, made, target, room) for target in made.targets))
    now = given.clock.now()
    everything = tuple(statement for statements in answers for statement in statements or ())
    heard = [
        Heard(
            target=target, finding=_judged(given, made, target, statements, everything), statements=statements
        )
        for target, statements in zip(made.targets, answers, strict=True)
        if statements is not None
    ]
    return (*judge_trust(made, heard, limits=given.limits, now=now), *await _directory(given, trust, room))


async def _directory(given: Survey, trust: TrustSet, room: _Room) -> tuple[Finding, ...]:
    """
    Try the directory of a trust set.
    """
    if trust.directory is None or not trust.anchors:
        return ()
    anchor = parse_certificate(trust.anchors[0], compat=trust.compat, form=trust.form.of_anchors)
    trial = trial_of(trust.directory, f"cftpki-doctor-{secrets.token_hex(8)}")
    asked = [one for one in (trial.base, trial.search) if one is not None]
    said = [await _ask(given, trust, (anchor, anchor), one, room) for one in asked]
    heard = {one.url: one for one in said if one is not None}
    search = heard.get(trial.search.url)
    if search is None:
        return ()  # there was no time for it, which is told
    base = None if trial.base is None else heard.get(trial.base.url)
    return tuple(judge_trial(trust, trust.directory, base, search, given.limits))


def _judged(
    given: Survey,
    made: Plan,
    target: Target,
    statements: tuple[Statement, ...],
    everything: tuple[Statement, ...],
) -> CertificateFinding:
    context = context_of(target, made.trust, everything, limits=given.limits, now=given.clock.now())
    return judge_certificate(context, 0, statements)


async def _ask_target(given: Survey, made: Plan, target: Target, room: _Room) -> tuple[Statement, ...] | None:
    """
    What was heard about one certificate; `None` where not all could be asked in time: silence would be ours.
    """
    heard = await asyncio.gather(
        *(
            _ask(given, made.trust, (target.certificate, target.issuer), lookup, room)
            for lookup in target.lookups
        )
    )
    if any(statement is None for statement in heard):
        return None
    return tuple(one for statement in heard if statement is not None for one in statement.each())


async def _ask(
    given: Survey, trust: TrustSet, about: tuple[Certificate, Certificate], lookup: Lookup, room: _Room
) -> Statement | None:
    source = given.sources.get(lookup.kind)
    if source is None:
        return Statement(
            kind=lookup.kind,
            origin=Origin.NETWORK,
            received_at=given.clock.now(),
            depth=0,
            url=lookup.url,
            failure=Cause.NO_SOURCE,
            detail=f"nobody offers the source {lookup.kind.value!r}",
        )

    def hear_time(origin: str, said: datetime) -> None:
        room.ahead.setdefault(origin, []).append(said - given.clock.now())

    async with room.gate:
        if given.clock.monotonic() > room.until:
            room.unasked.append(lookup.url)
            return None
        given.progress(lookup.url)
        patience_ms = max(PATIENCE_MS, given.limits.budget_ms)
        return await source.ask(
            StatusQuestion(
                lookup=lookup,
                certificate=about[0],
                issuer=about[1],
                trust=trust,
                limits=replace(given.limits, request_ms=max(REQUEST_MS, given.limits.request_ms)),
                deadline=given.clock.monotonic() + patience_ms / 1000,
                hear_time=hear_time,
            )
        )
