"""
Policies that let in whom a strict one would not, and exceptions that end: what is in force and easily forgotten. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from cftpki_ext.core.policy import Action, Depth, Enforcement, Policy, Treatment
from cftpki_ext.core.settings import Settings
from cftpki_ext.doctor.findings import Finding, Level

# An exception that ends is a partner that is refused: long enough before that to find who asked for it.
SOON = timedelta(days=14)
_RENEW = "have the cause mended, or give it another end"


def examine_policies(
    settings: Settings, shadows: Mapping[str, Counter[str]], *, now: datetime
) -> tuple[Finding, ...]:
    """
    Name what trust sets of rules let in besides what is good.

    Args:
        settings: the configuration.
        shadows: by trust set, for which reasons and how often partners were let in only because a policy audits.
        now: what ends are compared with.

    Returns:
        Findings, none for a policy that refuses whatever is not good.

    """
    found: list[Finding] = []
    used = {rule.trust for rule in settings.rules}
    for name, trust in settings.trusts.items():
        if name in used or not used:
            found += _trust(name, trust.policy, shadows.get(name, Counter()), now)
    return tuple(found)


def _trust(name: str, policy: Policy, shadow: Counter[str], now: datetime) -> Iterator[Finding]:
    about, check = f"trust {name}", f"policy {policy.name}"
    if policy.enforcement is Enforcement.AUDIT:
        times = sum(shadow.values())
        words = ", ".join(f"{count} {reason}" for reason, count in shadow.most_common())
        came = f"; it let in {times} in the last days: {words}" if times else ""
        yield Finding(
            level=Level.WARN,
            about=about,
            check=check,
            detail=f"only audits: nobody is refused, revoked partners neither{came}",
            action="set a policy that enforces once these are mended",
            facts={"would_be_refused": times},
        )
    if policy.depth is Depth.LEAF:
        detail = "nobody looks whether CAs are revoked (depth = leaf)"
        yield Finding(level=Level.NOTE, about=about, check=check, detail=detail)
    soft = {
        cause.value: treatment
        for cause, treatment in policy.treatments.items()
        if treatment.action is not Action.REFUSE and (treatment.until is None or now < treatment.until)
    }
    if soft:
        detail = "lets in: " + ", ".join(f"{cause} ({_how(one)})" for cause, one in soft.items())
        yield Finding(level=Level.NOTE, about=about, check=check, detail=detail, facts={"rows": len(soft)})
    for cause, treatment in policy.treatments.items():
        if treatment.until is not None and treatment.action is not Action.REFUSE:
            yield from _ends(about, f"{check}, {cause.value}", "whoever it lets in", treatment.until, now)
    for one in policy.exceptions:
        whose = f"partner {one.fingerprint[:16]} ({one.reason})"
        yield from _ends(about, f"{check}, exception", whose, one.until, now)


def _ends(about: str, check: str, whose: str, until: datetime, now: datetime) -> Iterator[Finding]:
    day = until.isoformat(timespec="minutes")
    facts = {"until": until.isoformat()}
    if now >= until:
        detail = f"{whose}: ended {day}; it refuses since"
        yield Finding(
            level=Level.NOTE,
            about=about,
            check=check,
            detail=detail,
            action="take it out of the file",
            facts=facts,
        )
    elif until - now < SOON:
        detail = f"{whose}: ends {day}, and is refused from then on"
        yield Finding(level=Level.WARN, about=about, check=check, detail=detail, action=_RENEW, facts=facts)
    else:
        yield Finding(
            level=Level.NOTE, about=about, check=check, detail=f"{whose}: let in until {day}", facts=facts
        )


def _how(one: Treatment) -> str:
    parts = [one.action.value]
    if one.max_stale is not None:
        parts.append(f"{one.max_stale} at most")
    if one.until is not None:
        parts.append(f"until {one.until.isoformat(timespec='minutes')}")
    return ", ".join(parts)
