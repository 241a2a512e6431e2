"""
The certificates of our own that enrollers keep: what would leave us without one, seen before it happens.

From how an identity stands (`identity.overview`) and what is at its places on the disk. Writes nothing and takes no
lock: a service and a command that work on it are not disturbed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from types import MappingProxyType

from cftpki_ext.core.errors import KeyUnavailableError
from cftpki_ext.core.values import dataclass
from cftpki_ext.doctor.findings import Fact, Finding, Level
from cftpki_ext.identity.enroller_port import Finding as CaFinding
from cftpki_ext.identity.renewal.overview import Overview
from cftpki_ext.identity.renewal.rows import Row
from cftpki_ext.identity.renewal.standing import OVERDUE, Standing
from cftpki_ext.identity.store.layout import Site
from cftpki_ext.path import PathRequest, Purpose, find_path
from cftpki_ext.x509.certificate import Certificate, parse_certificate

# An order that a person must approve takes days; one that nobody has looked at for so long has been forgotten.
LONG_OPEN = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """
    One identity to be looked at. `anchors` are those of its trust set (DER); none where it names no trust set.
    """

    site: Site
    overview: Overview
    anchors: tuple[bytes, ...] | None


def examine_identity(subject: Subject) -> tuple[Finding, ...]:
    """
    Look at one identity.

    Args:
        subject: how it stands, and where it is.

    Returns:
        Findings; one that is well where nothing is wrong with its certificate.

    """
    return (
        *_damage(subject),
        *_certificate(subject),
        *_key(subject),
        *_chain(subject),
        *_renewal(subject),
        *_orders(subject),
    )


def unreadable(name: str, trouble: str) -> Finding:
    """
    An identity of which this user may see nothing.
    """
    return Finding(
        level=Level.FAIL,
        about=f"identity {name}",
        check="records",
        detail=trouble,
        action="run the doctor as the service's user, or as root",
    )


def examine_plain(row: Row) -> Finding:
    """
    Look at an identity that nobody renews.

    Args:
        row: how it stands.

    Returns:
        One finding.

    """
    level = Level.OK
    if row.alarm is not None:
        soon = {Standing.OVERDUE, Standing.LAST_DAY}
        level = Level.WARN if row.alarm in soon else Level.FAIL
    elif row.trouble is not None:
        level = Level.NOTE
    words = ", ".join(word.value.replace("_", " ") for word in row.words)
    return Finding(
        level=level,
        about=f"identity {row.name}",
        check="certificate",
        detail=words if row.trouble is None else f"{words}: {row.trouble}",
        action=""
        if level is Level.OK
        else "put a new chain and its key in place; the service takes them by itself",
    )


def _damage(subject: Subject) -> Iterator[Finding]:
    found = subject.overview
    renewed = (
        f"the service, or cftpki identity renew {found.name}, gets another one; nothing has to be removed"
    )
    if found.damage is not None:
        yield _of(found, Level.FAIL, "records", f"DAMAGED: {found.damage}", renewed)
    elif found.state.given_up is not None:
        detail = f"DAMAGED: {found.state.given_up.detail}; generation {found.current.number if found.current else 'none'} stands in for it"
        yield _of(found, Level.WARN, "records", detail, renewed)
    if found.obstacle is not None:
        yield _of(found, Level.FAIL, "place", "cannot be renewed", found.obstacle)
    for one in found.damaged_orders:
        level = Level.WARN if one.open else Level.NOTE
        yield _of(found, level, f"order {one.id}", one.detail, "nothing: the next renewal puts it aside")
    for fault in found.faults:
        yield _of(found, Level.WARN, "records", fault, "nothing: the next renewal puts it aside")


def examine_ca(name: str, users: Sequence[str], found: Sequence[CaFinding] | None) -> tuple[Finding, ...]:
    """
    What a look at an enroller's CA showed.

    Args:
        name: of the enroller.
        users: the identities that it keeps.
        found: by the enroller; `None` where it was not asked.

    Returns:
        A warning for each thing that somebody has to see to before a certificate comes; else one that is well.

    """
    about = f"enroller {name}"
    if found is None:
        action = "run the doctor as the service's user, and after the service was started once"
        detail = "not asked: this user may not, or its type cannot be"
        return (Finding(level=Level.NOTE, about=about, check="CA", detail=detail, action=action),)
    bad = [one for one in found if not one.good]
    if not bad:
        detail = f"reached; keeps {', '.join(users)}"
        return (Finding(level=Level.OK, about=about, check="CA", detail=detail),)
    action = f"cftpki enroller check {name} has all of it; {', '.join(users)} cannot be renewed there"
    return tuple(
        Finding(level=Level.WARN, about=about, check=one.what, detail=one.detail, action=action)
        for one in bad
    )


def _certificate(subject: Subject) -> Iterator[Finding]:
    found, name = subject.overview, subject.overview.name
    current = found.current
    if current is None:
        yield _of(
            found,
            Level.FAIL,
            "certificate",
            "there is none: sessions that need it are refused",
            f"cftpki identity issue {name}",
        )
        return
    left = current.ends - found.now
    floor = found.plan.floor
    facts: dict[str, Fact] = {
        "generation": current.number,
        "ends": current.ends.isoformat(),
        "left_s": int(left.total_seconds()),
        "floor": None if floor is None else floor.isoformat(),
    }
    detail = f"generation {current.number} is valid to {current.ends.isoformat(timespec='seconds')}"
    level, action = Level.OK, ""
    status = found.state.status
    if status is not None and status.revoked and status.generation == current.number:
        level, detail, action = (
            Level.FAIL,
            f"generation {current.number} is revoked: {status.detail}",
            f"cftpki identity renew {name} --now",
        )
    elif current.leaf.not_before > found.now:
        level, action = Level.FAIL, "wait, or set the clock"
        detail = f"generation {current.number} is valid from {current.leaf.not_before.isoformat()}"
    elif found.alarm is Standing.EXPIRED:
        level, action = Level.FAIL, f"cftpki identity renew {name} --now: partners refuse it"
    elif floor is not None and found.now >= floor:
        level, action = (
            Level.WARN,
            f"cftpki identity show {name} says why; cftpki identity renew {name} --now",
        )
        detail += f", and should have been renewed before {floor.isoformat(timespec='seconds')}"
    yield _of(found, level, "certificate", detail, action, **facts)


def _key(subject: Subject) -> Iterator[Finding]:
    found, current = subject.overview, subject.overview.current
    if current is None:
        return
    owner = current.path.stat().st_uid
    if owner != os.geteuid():
        detail = f"belongs to user {owner}: not looked at"
        yield _of(found, Level.NOTE, "key", detail, "run the doctor as the service's user")
        return
    try:
        current.key(subject.site.password())
    except KeyUnavailableError as error:
        action = f"repair it, or get another: cftpki identity renew {found.name} --now"
        yield _of(found, Level.FAIL, "key", str(error), action)


def _chain(subject: Subject) -> Iterator[Finding]:
    """
    By the anchors of its trust set as they are configured now: they may have changed since the gate let it through.
    """
    found, current = subject.overview, subject.overview.current
    if current is None or subject.anchors is None or current.ends <= found.now:
        return
    result = find_path(
        PathRequest(
            chain=current.chain,
            anchors=tuple(_parsed(subject.anchors)),
            now=max(found.now, current.leaf.not_before),
            purpose=Purpose.ANY,
        )
    )
    if result.faults or not result.trusted:
        detail = result.faults[0].detail if result.faults else "no path to an anchor"
        action = (
            f"put its CA's root into [trust.{subject.site.identity.trust}], or renew it with another enroller"
        )
        yield _of(
            found,
            Level.FAIL,
            "chain",
            f"does not lead to trust {subject.site.identity.trust}: {detail}",
            action,
        )


def _parsed(ders: Sequence[bytes]) -> Iterator[Certificate]:
    return (parse_certificate(der) for der in ders)


def _renewal(subject: Subject) -> Iterator[Finding]:
    found = subject.overview
    if found.state.failures or found.state.waiting is not None or _rollout_errors(found):
        yield _of(
            found,
            Level.WARN,
            "renewal",
            found.trouble or "",
            f"cftpki identity show {found.name}; {_next(found)}",
        )
    elif found.plan.at < found.now - OVERDUE:
        at = found.plan.at.isoformat(timespec="seconds")
        yield _of(
            found,
            Level.WARN,
            "renewal",
            f"is due since {at} ({found.plan.why.value}), and nobody does it",
            "start the service: cftpki serve",
        )


def _rollout_errors(found: Overview) -> bool:
    rollout = found.state.rollout
    return rollout is not None and bool(rollout.hooks.error or rollout.observed.error)


def _next(found: Overview) -> str:
    return f"the next attempt is at {found.plan.at.isoformat(timespec='seconds')}"


def _orders(subject: Subject) -> Iterator[Finding]:
    found = subject.overview
    for record in subject.site.journal.orders():
        if record.outcome is None and record.created_at < found.now - LONG_OPEN:
            yield _of(
                found,
                Level.WARN,
                f"order {record.id}",
                f"is open at {record.enroller} since {record.created_at.isoformat(timespec='seconds')}",
                f"have the CA approve or reject it, or ask again: cftpki identity renew {found.name} --now",
                attempts=record.attempts,
                enroller=record.enroller,
            )
    if found.orphans:
        last = found.orphans[-1]
        yield _of(
            found,
            Level.NOTE,
            "orphans",
            f"{len(found.orphans)} certificates that nobody uses may have been issued, the last by {last.enroller}",
            f"cftpki identity history {found.name}; revoke them at the CA",
            orphans=len(found.orphans),
        )


def _of(
    found: Overview,
    level: Level,
    check: str,
    detail: str,
    action: str = "",
    **facts: Fact,
) -> Finding:
    return Finding(
        level=level,
        about=f"identity {found.name}",
        check=check,
        detail=detail,
        action=action,
        facts=MappingProxyType(dict(facts)),
    )
