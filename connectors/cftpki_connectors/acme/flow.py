"""
The order as a state machine: what we know of it, what the CA says, and what comes next.

Owns the record that is saved before every step, and every decision about it. Pure: the time is an argument, and
nothing is sent or waited for here.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime, timedelta
from ipaddress import ip_address

from cftpki_connectors.acme.options import ChallengeKind
from cftpki_connectors.acme.problems import Problem, fault_of
from cftpki_connectors.acme.resources import Authorization, Challenge, Identifier, RemoteOrder, Status
from cftpki_connectors.ca.values import CaError, printable
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault, Names, OrderState

# A challenge that the CA cannot confirm for so long is given up: the next enroller shall have its chance.
CHALLENGE_PATIENCE = timedelta(hours=1)
# Polling where the CA names no time: soon at first, every ten minutes when it works for hours.
MIN_POLL = timedelta(seconds=0.5)
MAX_POLL = timedelta(minutes=10)
# A CA that says "now" means a second, one that says "next month" is asked tomorrow.
MIN_RETRY_AFTER = timedelta(seconds=1)
MAX_RETRY_AFTER = timedelta(days=1)
# step-ca validates inside the request and leaves the rest to us: told again after 1, 2, 4, … seconds.
MAX_RETRIGGER = timedelta(minutes=1)
# And after every attempt no sooner than it has lasted already: each is a failed validation at the CA.
MAX_RETRIGGER_ELAPSED = timedelta(minutes=10)
_VERSION = 1


class Phase(enum.StrEnum):
    """
    How far we have gone, written down before the CA can act on it.
    """

    ORDERING = "ordering"  # newOrder is under way, or its answer was lost
    ORDERED = "ordered"  # the order's URL is known
    FINALIZING = "finalizing"  # the CSR was sent, or is about to be


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """
    One challenge that we answer: what is published where. Nothing of it is secret.
    """

    kind: ChallengeKind
    identifier: Identifier
    token: str
    authorization: str  # the key authorization


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRecord:
    """
    What is saved of an order.

    `presented` is what has to be taken away again; `challenged_at` when the CA was first told to look;
    `finalized_at` when the CSR was first sent.
    """

    directory: str
    account: str
    phase: Phase
    order: str | None = None
    presented: tuple[Task, ...] = ()
    challenged_at: datetime | None = None
    finalized_at: datetime | None = None

    def to_state(self) -> OrderState:
        """
        As plain JSON values.
        """
        return {
            "version": _VERSION,
            "directory": self.directory,
            "account": self.account,
            "phase": self.phase.value,
            "order": self.order,
            "presented": [
                [task.kind.value, task.identifier.kind, task.identifier.value, task.token, task.authorization]
                for task in self.presented
            ],
            "challenged_at": self.challenged_at.isoformat() if self.challenged_at else None,
            "finalized_at": self.finalized_at.isoformat() if self.finalized_at else None,
        }


def load_record(state: OrderState) -> OrderRecord | None:
    """
    Read what was saved; `None` for an empty state.

    Raises:
        InputError: it was not written by this program.

    """
    if not state:
        return None
    try:
        presented, order = state["presented"], state["order"]
        if state["version"] != _VERSION or not isinstance(presented, list):
            why = "it is of another version"
            raise _unreadable(why)
        return OrderRecord(
            directory=str(state["directory"]),
            account=str(state["account"]),
            phase=Phase(str(state["phase"])),
            order=None if order is None else str(order),
            presented=tuple(
                Task(
                    kind=ChallengeKind(kind),
                    identifier=Identifier(str(name_kind), str(value)),
                    token=str(token),
                    authorization=str(authorization),
                )
                for kind, name_kind, value, token, authorization in presented
            ),
            challenged_at=_instant(state, "challenged_at"),
            finalized_at=_instant(state, "finalized_at"),
        )
    except InputError:
        raise
    except (KeyError, ValueError, TypeError) as error:
        why = "a field is missing or of another type"
        raise _unreadable(why) from error


def _unreadable(why: str) -> InputError:
    return InputError(f"the saved state of the order cannot be read: {why}")


class Step(enum.Enum):
    """
    What comes next for an order.
    """

    AUTHORIZE = enum.auto()
    FINALIZE = enum.auto()
    WAIT = enum.auto()
    DOWNLOAD = enum.auto()


def next_step(remote: RemoteOrder, now: datetime) -> Step:
    """
    Decide by the order's status (RFC 8555 7.1.6).

    Args:
        remote: as the CA had it.
        now: by the CA's clock, where that is known: an order ends by it.

    Raises:
        CaError: the order is dead.

    """
    match remote.status:
        case Status.PENDING:
            if remote.expires is not None and remote.expires <= now:
                raise CaError(Fault.ORDER_LOST, "the order has expired")
            return Step.AUTHORIZE
        case Status.READY:
            return Step.FINALIZE
        case Status.VALID if remote.certificate is not None:
            return Step.DOWNLOAD
        case Status.PROCESSING | Status.VALID | Status.UNKNOWN:
            if remote.expires is not None and remote.expires <= now:
                # Whatever it waits for, nothing comes of it any more: another order may begin.
                raise CaError(Fault.ORDER_LOST, f"the order has expired and is still {remote.status.value}")
            return Step.WAIT
    if remote.error is not None:
        raise problem_fault(remote.error, "the order is invalid")
    if remote.expires is not None and remote.expires <= now:
        raise CaError(Fault.ORDER_LOST, "the order has expired")
    raise CaError(Fault.REFUSED, f"the order is {remote.status.value}")


def same_order(remote: RemoteOrder, wanted: frozenset[Identifier], profile: str | None) -> bool:
    """
    Whether an order in the account's list is the one whose answer was lost.

    Only one that nobody has finalized yet: an order with a certificate is somebody's.
    """
    open_still = remote.status in {Status.PENDING, Status.READY}
    return (
        open_still and remote.identifiers == wanted and (profile is None or remote.profile in {None, profile})
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    The challenge that is to be answered for one authorization.
    """

    authorization: Authorization
    challenge: Challenge
    kind: ChallengeKind


def choose_challenge(authorization: Authorization, configured: tuple[ChallengeKind, ...]) -> Answer | None:
    """
    Decide what an authorization needs.

    Args:
        authorization: as the CA has it.
        configured: what we can answer, the preferred one first.

    Returns:
        The challenge to answer, `None` where the authorization is valid already.

    Raises:
        CaError: it is dead, or offers nothing that is configured.

    """
    if authorization.status is Status.VALID:
        return None
    if authorization.status is not Status.PENDING:
        raise dead_authorization(authorization)
    offered = {challenge.kind: challenge for challenge in authorization.challenges}
    # A challenge under way is gone on with: another one would be a second opinion that nobody asked for.
    by_progress = sorted(
        configured, key=lambda kind: kind not in offered or offered[kind].status is not Status.PROCESSING
    )
    for kind in by_progress:
        if kind in offered and (not authorization.wildcard or kind is ChallengeKind.DNS_01):
            return Answer(authorization=authorization, challenge=offered[kind], kind=kind)
    names = ", ".join(sorted(printable(kind) for kind in offered)) or "no challenge"
    ours = ", ".join(configured) or "none"
    detail = f"{authorization.name}: the CA offers {names}, configured: {ours}"
    raise CaError(Fault.MISCONFIGURED, detail)


def dead_authorization(authorization: Authorization) -> CaError:
    """
    Why an authorization came to nothing: in the words of the challenge that failed.
    """
    for challenge in authorization.challenges:
        if challenge.error is not None:
            return problem_fault(challenge.error, f"{challenge.kind} for {authorization.name}")
    detail = f"the authorization of {printable(authorization.name)} is {authorization.status.value}"
    return CaError(Fault.REFUSED, detail)


def problem_fault(problem: Problem, what: str) -> CaError:
    """
    A problem inside an order or a challenge as error: there, `unauthorized` speaks of the name, not of us.
    """
    fault = fault_of(problem.kind)
    if fault in {Fault.MISCONFIGURED, Fault.UNREACHABLE}:
        fault = Fault.REFUSED
    return CaError(fault, f"{printable(what)}: {problem}")


def check_names(names: Names) -> None:
    """
    Refuse what no ACME CA can issue, before it is asked.

    That a wildcard has no dns-01 is *not* refused here: its authorization may be valid already.

    Raises:
        CaError: no name, or a common name that is none of them.

    """
    if not names.dns and not names.addresses:
        raise CaError(Fault.MISCONFIGURED, "an ACME order needs at least one DNS name or address")
    if names.common_name is not None and names.common_name not in names.dns:
        try:
            known = ip_address(names.common_name) in names.addresses
        except ValueError:
            known = False
        if not known:
            detail = (
                f"the common name {printable(names.common_name)!r} is none of the names, ACME refuses that"
            )
            raise CaError(Fault.MISCONFIGURED, detail)


def poll_at(*, asked: datetime | None, since: datetime, now: datetime) -> datetime:
    """
    When to ask again for something that takes time.

    Args:
        asked: what `Retry-After` said.
        since: when the waiting began.
        now: wall-clock time.

    Returns:
        The CA's time between a second and a day from now; else a quarter of the time waited so far.

    """
    if asked is not None:
        return min(max(asked, now + MIN_RETRY_AFTER), now + MAX_RETRY_AFTER)
    return now + min(max((now - since) / 4, MIN_POLL), MAX_POLL)


def retrigger_pause(times: int, elapsed: timedelta = timedelta(0)) -> timedelta:
    """
    How long to wait before a challenge that stays pending with an error is triggered the next time.

    Args:
        times: how often it was, in this attempt.
        elapsed: since it was first, in all attempts.

    Returns:
        1, 2, 4 … seconds, at most a minute; but as long as it has lasted, at most ten minutes.

    """
    return max(
        min(timedelta(seconds=2 ** min(times, 10)), MAX_RETRIGGER), min(elapsed, MAX_RETRIGGER_ELAPSED)
    )


def out_of_patience(record: OrderRecord, now: datetime) -> bool:
    """
    Whether the challenges have had their time.
    """
    return record.challenged_at is not None and now - record.challenged_at >= CHALLENGE_PATIENCE


def forget_tasks(record: OrderRecord) -> OrderRecord:
    """
    The record after everything that was published has been taken away.
    """
    return dataclasses.replace(record, presented=())


def _instant(state: Mapping[str, object], key: str) -> datetime | None:
    value = state[key]
    return None if value is None else datetime.fromisoformat(str(value))
