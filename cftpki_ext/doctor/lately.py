"""
What the last days mean: who is refused for a cause of ours, what has changed for a partner, whom to ask for now. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from cftpki_ext.core.verdict import Reason
from cftpki_ext.doctor.findings import Fact, Finding, Level
from cftpki_ext.doctor.past import MAX_PARTNERS, Past, Seen, rank_of

KeyOf = Callable[[Seen], bytes | None]

# Partners whose change is told, and chains that are asked for again.
_TOLD = 20
MOST_CHAINS = 100
# Refusals for these are our outage, or our configuration's, and no partner's fault.
_OURS = frozenset(
    one.value
    for one in (Reason.STATUS_NOT_ESTABLISHED, Reason.INTERNAL_ERROR, Reason.NO_RULE, Reason.TOO_COMPLEX)
)
# As they should be.
_RIGHTLY = frozenset(one.value for one in (Reason.REVOKED, Reason.ON_HOLD))
# What clocks of processes on one machine, and a record that waits for the disk, differ by.
_AHEAD = timedelta(seconds=2)


def examine_past(past: Past, *, now: datetime, skew: timedelta, key_of: KeyOf) -> tuple[Finding, ...]:
    """
    Say who was turned away, and since when, and what has changed since it was let in.

    Args:
        past: what the evidence tells.
        now: the time.
        skew: what clocks may differ by.
        key_of: gives a partner's public key, or `None` where it is not known.

    Returns:
        Findings.

    """
    return (*_reading(past), *_clock(past, now, skew), *_refusals(past), *_changes(past, now, key_of))


def _reading(past: Past) -> Iterator[Finding]:
    if past.unreadable:
        detail = f"{past.unreadable} records cannot be read"
        yield _of(
            Level.WARN, "evidence", "records", detail, "see cftpki audit verify", unreadable=past.unreadable
        )
    if past.read_to is not None:
        detail = (
            f"{past.records} records were read, back to {_minute(past.read_to)}; there was no time for more"
        )
        yield _of(Level.NOTE, "evidence", "records", detail, "see cftpki audit list", records=past.records)


def _clock(past: Past, now: datetime, skew: timedelta) -> Iterator[Finding]:
    if past.newest is None or past.newest - now <= _AHEAD:
        return
    ahead_s = int((past.newest - now).total_seconds())
    yield _of(
        Level.FAIL if past.newest - now > skew else Level.WARN,
        "clocks",
        "this machine",
        f"the newest record was kept {ahead_s} s from now: the clock was set back, or was ahead then",
        "set this machine's clock: timedatectl",
        ahead_s=-ahead_s,
    )


def _refusals(past: Past) -> Iterator[Finding]:
    for (reason, causes), found in sorted(past.refusals.items(), key=lambda item: rank_of(item[0][0])):
        newest = found.newest
        known = past.partners.get(newest.row.partner)
        # Whoever came again and was let in since is no longer refused for it.
        holds = known is None or known.last.at <= newest.at
        level, action = Level.WARN, f"see cftpki explain {newest.row.id}"
        if reason in _RIGHTLY:
            level, action = Level.NOTE, f"nothing: rightly refused (cftpki explain {newest.row.id})"
        elif reason in _OURS and holds:
            level = Level.FAIL
        detail = f"{found.times} in the last hour"
        detail += f" ({causes})" if causes else ""
        detail += f", the newest {_minute(newest.at)}: {newest.row.partner}: {newest.row.summary}"
        detail += "" if holds or reason in _RIGHTLY else "; let in again since"
        yield _of(level, "refusals", reason, detail, action, times=found.times, verdict=newest.row.id)


def _changes(past: Past, now: datetime, key_of: KeyOf) -> Iterator[Finding]:
    """
    Partners that were let in before and are not now: what differs.
    """
    lost = [
        (name, one, one.accepted)
        for name, one in past.partners.items()
        if one.last.refused and one.accepted is not None
    ]
    lost.sort(key=lambda item: item[1].last.at, reverse=True)
    for name, partner, accepted in lost[:_TOLD]:
        changed = differences(accepted, partner.last, key_of)
        detail = f"last accepted {_ago(accepted.at, now)}, refused {_ago(partner.last.at, now)} ({partner.last.row.reason})"
        detail += (
            f"; since then: {', '.join(changed)}" if changed else "; the same certificate by the same rule"
        )
        rightly = partner.last.row.reason in _RIGHTLY
        yield _of(
            Level.NOTE if rightly else Level.WARN,
            f"partner {name}",
            "what changed",
            detail,
            "" if rightly else _advice(partner.last, changed),
            accepted=accepted.row.id,
            refused=partner.last.row.id,
        )
    if len(lost) > _TOLD:
        yield _of(
            Level.NOTE,
            "partners",
            "what changed",
            f"{len(lost) - _TOLD} more were accepted before and are not now",
        )


def differences(before: Seen, after: Seen, key_of: KeyOf) -> tuple[str, ...]:
    """
    What differs between two verdicts of one partner, for a person.

    Args:
        before: when it was let in.
        after: when it was not.
        key_of: gives a partner's public key, or `None` where it is not known.

    Returns:
        The differences, the most telling first.

    """
    found: list[str] = []
    if before.issuer != after.issuer:
        found.append(f"issuer {before.issuer} -> {after.issuer}")
    if before.row.fingerprint != after.row.fingerprint:
        found.append(f"new certificate (serial {before.row.serial} -> {after.row.serial})")
        old_key, new_key = key_of(before), key_of(after)
        if old_key is not None and new_key is not None:
            found.append("the same key" if old_key == new_key else "key changed")
    for what, old, new in (
        ("rule", before.row.rule, after.row.rule),
        ("trust set", before.row.trust, after.row.trust),
        ("policy", before.row.policy, after.row.policy),
        ("address", before.row.remote, after.row.remote),
    ):
        if old != new:
            found.append(f"{what} {old or '-'} -> {new or '-'}")
    if before.causes != after.causes:
        found.append(f"status {', '.join(before.causes) or 'good'} -> {', '.join(after.causes) or 'good'}")
    if before.row.fingerprint == after.row.fingerprint and after.ends is not None and after.at >= after.ends:
        found.append(f"its certificate ended {_minute(after.ends)}")
    return tuple(found)


def _advice(last: Seen, changed: Sequence[str]) -> str:
    if any(one.startswith("issuer") for one in changed) and last.row.reason == Reason.NO_PATH.value:
        return "its new CA is in no trust set: make sure of it, and add it"
    if last.row.reason == Reason.NOT_ALLOWED.value:
        return "the rule lists another certificate of it: see [rule.partners]"
    return f"see cftpki explain {last.row.id}"


def to_ask_for(past: Past, *, now: datetime) -> tuple[Seen, ...]:
    """
    Whose chains to ask for: somebody for each way by which partners came, then others, the newest first.

    Left out are those whose certificate has ended since, and those that were refused for what no source can change.

    Args:
        past: what the evidence tells.
        now: the time.

    Returns:
        At most `MOST_CHAINS`.

    """
    ways = sorted(past.ways.values(), key=lambda one: one.at, reverse=True)
    # Of each partner only the newest chain is asked for: an older one may have ended or been replaced.
    latest = {one.last.row.fingerprint for one in past.partners.values()}
    others = sorted((one.last for one in past.partners.values()), key=lambda one: one.at, reverse=True)
    chosen: dict[str | None, Seen] = {}
    for seen in (*ways, *others):
        if seen.refused and seen.row.reason not in _OURS:
            continue
        if (seen.ends is not None and seen.ends <= now) or seen.row.fingerprint not in latest:
            continue
        chosen.setdefault(seen.row.fingerprint, seen)
        if len(chosen) >= MOST_CHAINS:
            break
    return tuple(chosen.values())


def left_out(past: Past, asked: int) -> tuple[Finding, ...]:
    """
    Say how many partners' chains are asked for.

    Args:
        past: what the evidence tells.
        asked: how many are.

    Returns:
        One finding.

    """
    total = len(past.partners)
    more = "or more " if total >= MAX_PARTNERS else ""
    detail = f"{total} {more}partners came in the last days; {asked} of their chains are asked for, one for each CA and address first"
    return (_of(Level.OK, "evidence", "partners", detail, partners=total, asked=asked),)


def untrusted_now(seen: Seen) -> Finding:
    """
    A partner that was let in, and that no trust set leads to any more.

    Args:
        seen: its newest verdict.

    Returns:
        The finding.

    """
    return _of(
        Level.FAIL,
        f"partner {seen.row.partner}",
        "path",
        f"was let in {_minute(seen.at)} by trust set {seen.row.trust}; no trust set leads to its CA now",
        "the configuration has changed since: add its CA, or mind that it is refused",
        verdict=seen.row.id,
    )


def _ago(at: datetime, now: datetime) -> str:
    """
    When, as one says it on the telephone.
    """
    days = (now.date() - at.date()).days
    when = "today" if days == 0 else "yesterday" if days == 1 else f"{days} days ago"
    return f"{when} at {at:%H:%M}Z" if 0 <= days <= 1 else f"{when} ({_minute(at)})"


def _minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%MZ")


def _of(level: Level, about: str, check: str, detail: str, action: str = "", **facts: Fact) -> Finding:
    return Finding(level=level, about=about, check=check, detail=detail, action=action, facts=facts)
