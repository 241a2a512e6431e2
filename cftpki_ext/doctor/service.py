"""
The running service: what it answers to STATUS, and what it means that it does not answer. Pure.

Whether somebody listens says little: a service that is stopped by a signal, or hangs, still has its socket.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cftpki_ext.core.values import dataclass
from cftpki_ext.doctor.findings import Fact, Finding, Level

# As many sessions as this share of `max_sessions` are open only where something does not end them.
_CROWDED = 0.9
_HUNG_UP = (
    "the service hung up at once: this user may not use this service (service.allow_users), or it is ending"
)
_START = "start the service: cftpki serve (systemctl start cftpki)"


class Silence(enum.Enum):
    """
    Why there is no answer to STATUS.
    """

    NOBODY = "nobody listens"
    DENIED = "this user may not use the socket"
    FROZEN = "somebody listens and does not answer"
    OTHER = "the answer is none of ours"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """
    STATUS was asked in vain.
    """

    silence: Silence
    detail: str


def silence_of(error: Exception) -> Unanswered:
    """
    What an exchange that failed says.

    Args:
        error: raised by the exchange; its cause is what the system said.

    Returns:
        The kind of silence.

    """
    cause = error.__cause__
    if isinstance(cause, BrokenPipeError | ConnectionResetError):
        # It refuses before it is asked, and who writes meanwhile does not get to read that.
        return Unanswered(silence=Silence.OTHER, detail=_HUNG_UP)
    kind = Silence.OTHER
    if isinstance(cause, PermissionError):
        kind = Silence.DENIED
    elif isinstance(cause, TimeoutError | BlockingIOError):  # the latter: its queue is full
        kind = Silence.FROZEN
    elif isinstance(cause, FileNotFoundError | ConnectionRefusedError | NotADirectoryError):
        kind = Silence.NOBODY
    return Unanswered(silence=kind, detail=str(error))


def examine_service(
    socket: Path, told: Mapping[str, Any] | Unanswered, *, version: str, ran_before: bool
) -> tuple[Finding, ...]:
    """
    What the service says of itself.

    Args:
        socket: where it was asked.
        told: its answer, or why there is none.
        version: the one that is installed.
        ran_before: whether there is evidence of a service that ran: one that is not begun yet is no outage.

    Returns:
        Findings.

    """
    check = f"socket {socket}"
    if isinstance(told, Unanswered):
        return (_unanswered(check, told, ran_before=ran_before),)
    return (_of(Level.OK, check, "the service answers", uptime_s=told.get("uptime_s")), *_told(told, version))


def _unanswered(check: str, told: Unanswered, *, ran_before: bool) -> Finding:
    match told.silence:
        case Silence.NOBODY:
            level = Level.FAIL if ran_before else Level.WARN
            refuses = ": hosts refuse whom the board does not know" if ran_before else ""
            return _of(level, check, f"nobody listens{refuses}", _START)
        case Silence.DENIED:
            action = "see why: cftpki probe --as-user USER; name the host's user in service.allow_users"
            return _of(Level.FAIL, check, "may not be used by this user", action)
        case Silence.FROZEN:
            detail = (
                "the service does not answer: it is stopped (SIGSTOP), hangs, or the machine is overloaded"
            )
            return _of(
                Level.FAIL, check, detail, "look at its log and its processes; systemctl restart cftpki"
            )
        case _:
            return _of(Level.FAIL, check, told.detail, "see who listens there, and service.allow_users")


def _told(told: Mapping[str, Any], version: str) -> Iterator[Finding]:
    ours = told.get("version")
    if isinstance(ours, str) and ours != version:
        detail = f"runs version {ours}, installed is {version}"
        yield _of(Level.WARN, "version", detail, "restart the service")
    sessions, most = told.get("sessions"), told.get("max_sessions")
    if isinstance(sessions, int) and isinstance(most, int) and sessions >= most * _CROWDED:
        detail = f"{sessions} of {most} sessions are open"
        yield _of(
            Level.WARN, "sessions", detail, "raise service.max_sessions, or see which host leaves them open"
        )
    yield from _processes(_list(told.get("processes")))
    for name, signer in sorted(_table(told.get("signers")).items()):
        error = _table(signer).get("error")
        if error is not None:
            yield _of(
                Level.FAIL,
                f"signer of {name}",
                f"its key cannot be used: {error}",
                "see cftpki identity list",
            )
    renewals = _table(told.get("renewals"))
    if renewals.get("running") is False:
        yield _of(
            Level.WARN,
            "renewals",
            f"nobody renews our certificates: {renewals.get('fault')}",
            "mend it; they are begun again by themselves",
        )
    error = _table(told.get("reloads")).get("last_error")
    if error is not None:
        detail = f"the configuration in force is not the file: the last reload failed: {error}"
        yield _of(Level.WARN, "reload", detail, "cftpki config check, repair, reload")
    for one in map(_table, _list(_table(told.get("sources")).get("locations"))):
        if one.get("up") is False:
            detail = (
                f"is down for the service since {one.get('since')}: {one.get('cause')}: {one.get('detail')}"
            )
            check = f"source {one.get('kind')} {one.get('location')}"
            yield _of(Level.WARN, check, detail, "see that this machine reaches it, or ask its operator")
    yield from _evidence(_table(told.get("evidence")))
    for one in _list(_table(told.get("refresh")).get("troubles")):
        trouble = _table(one)
        detail = f"cannot be renewed since {trouble.get('since')}, ends {trouble.get('ends')}: {trouble.get('detail')}"
        yield _of(
            Level.WARN,
            f"evidence of {trouble.get('location')}",
            detail,
            f"see that this machine reaches it: {trouble.get('partners')} partners rest on it",
            ends_in_s=trouble.get("ends_in_s"),
        )
    board = told.get("board")
    if isinstance(board, Mapping) and board.get("ready") is False:
        yield _of(Level.NOTE, "verdict board", "hosts have none: they ask for every session", "see the log")


def _processes(processes: Sequence[Any]) -> Iterator[Finding]:
    ready: dict[str, int] = {}
    for one in map(_table, processes):
        role = str(one.get("role"))
        ready[role] = ready.get(role, 0) + int(bool(one.get("ready")))
    for role, count in sorted(ready.items()):
        if not count:
            yield _of(
                Level.FAIL, f"process {role}", "none takes calls", "look at the service's log, or restart it"
            )


def _evidence(evidence: Mapping[str, Any]) -> Iterator[Finding]:
    lost = evidence.get("not_kept")
    if isinstance(lost, int) and lost:
        level = Level.FAIL if evidence.get("required") else Level.WARN
        detail = f"{lost} records could not be kept since the service began"
        yield _of(
            level, "evidence", detail, "look at its disk and at the log (evidence_not_kept)", not_kept=lost
        )
    warning = evidence.get("warning")
    if warning is not None:
        yield _of(
            Level.WARN, "evidence", f"does not last: {warning}", "raise evidence.max_size, or lower keep"
        )


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _of(level: Level, check: str, detail: str, action: str = "", **facts: Fact) -> Finding:
    return Finding(level=level, about="service", check=check, detail=detail, action=action, facts=facts)
