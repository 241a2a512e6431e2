"""
What holds now, by the service's own state (STATUS) and settings: plain data in, conditions out. Pure.

What is not as this version writes it is as good as not there: no fault of a report may hide another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.notify import Condition, NoticeKind
from cftpki_ext.core.policy import Action
from cftpki_ext.core.settings import Settings

TEXT_CHARACTERS = 400
# Of evidence that cannot be renewed: one failure is a server that was begun anew.
_FAILURES = 2


def standing(status: Mapping[str, Any], settings: Settings, *, now: datetime) -> tuple[Condition, ...]:
    """
    Everything that is wrong by the service's state.

    Args:
        status: what it tells of itself.
        settings: in force.
        now: the time.

    Returns:
        Conditions, in no order.

    """
    return (
        *_identities(status),
        *_sources(status),
        *_ending(status),
        *_exceptions(settings, now),
        *_evidence(status),
        *_reloads(status),
    )


def _identities(status: Mapping[str, Any]) -> Iterator[Condition]:
    for name, one in _items(status.get("certificates")):
        alarm = one.get("alarm")
        if alarm is not None:
            trouble = one.get("trouble")
            text = f"identity {name}: {alarm}" + (f": {trouble}" if trouble else "")
            yield made(NoticeKind.IDENTITY, f"{name} {alarm}", text)
    for name, one in _items(status.get("signers")):
        if one.get("error") is not None:
            text = f"identity {name}: its key cannot be used: {one['error']}"
            yield made(NoticeKind.IDENTITY, f"{name} key", text)
    renewals = _table(status.get("renewals"))
    if renewals.get("running") is False:
        text = f"nobody renews our certificates: {renewals.get('fault')}"
        yield made(NoticeKind.IDENTITY, "renewals", text)


def _sources(status: Mapping[str, Any]) -> Iterator[Condition]:
    for one in map(_table, _list(_table(status.get("sources")).get("locations"))):
        if one.get("up") is False:
            kind, trust, url = (str(one.get(key, "")) for key in ("kind", "trust", "location"))
            text = (
                f"source {kind} {url} of trust set {trust} is down: {one.get('cause')}: {one.get('detail')}"
            )
            yield made(NoticeKind.SOURCE_DOWN, f"{trust} {kind} {url}", text, since=one.get("since"))


def _ending(status: Mapping[str, Any]) -> Iterator[Condition]:
    for one in map(_table, _list(_table(status.get("refresh")).get("troubles"))):
        failures = one.get("failures")
        if isinstance(failures, int) and failures < _FAILURES:
            continue
        text = (
            f"what {one.get('location')} says ends {one.get('ends')} and cannot be renewed: {one.get('detail')}; "
            f"{one.get('partners')} partners rest on it"
        )
        yield made(NoticeKind.EVIDENCE_ENDS, str(one.get("location")), text, since=one.get("since"))


def _exceptions(settings: Settings, now: datetime) -> Iterator[Condition]:
    before = settings.notify.exceptions_before
    for policy in {trust.policy.name: trust.policy for trust in settings.trusts.values()}.values():
        for one in policy.exceptions:
            if one.until - before <= now < one.until:
                text = (
                    f"exception of policy {policy.name} for partner {one.fingerprint} ({one.reason}) ends "
                    f"{_minute(one.until)}: it is refused from then on"
                )
                yield made(
                    NoticeKind.EXCEPTION_ENDS, f"{policy.name} {one.fingerprint} {_minute(one.until)}", text
                )
        for cause, treatment in policy.treatments.items():
            until = treatment.until
            if until is None or treatment.action is Action.REFUSE or not until - before <= now < until:
                continue
            text = f"policy {policy.name} lets in for {cause.value} until {_minute(until)}, and refuses from then on"
            yield made(NoticeKind.EXCEPTION_ENDS, f"{policy.name} {cause.value} {_minute(until)}", text)


def _evidence(status: Mapping[str, Any]) -> Iterator[Condition]:
    evidence = _table(status.get("evidence"))
    if evidence.get("warning") is not None:
        text = f"the evidence is shorter than promised: {evidence['warning']}"
        yield made(NoticeKind.EVIDENCE_SHORT, "evidence", text)


def _reloads(status: Mapping[str, Any]) -> Iterator[Condition]:
    error = _table(status.get("reloads")).get("last_error")
    if error is not None:
        text = f"the configuration could not be read anew, and the old one stays in force: {error}"
        yield made(NoticeKind.CONFIGURATION, "reload", text)


def made(kind: NoticeKind, about: str, text: str, *, since: object = None) -> Condition:
    """
    A condition in printable words of bounded length.

    Args:
        kind: of what.
        about: which one.
        text: for a person; may hold a stranger's words.
        since: RFC 3339, where it is known.

    """
    at = None
    if isinstance(since, str):
        try:
            at = datetime.fromisoformat(since)
        except ValueError:
            at = None
    return Condition(
        kind=kind,
        about=excerpt(about, TEXT_CHARACTERS),
        text=excerpt(text, TEXT_CHARACTERS),
        since=at if at is not None and at.tzinfo is not None else None,
    )


def _items(value: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((str(name), _table(one)) for name, one in _table(value).items())


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%MZ")
