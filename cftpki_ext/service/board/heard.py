"""
What is written of a session that the board answered: its record, its lines in the log; and whether it can be true.

Owns what is the same each time that a verdict is given again, so that it is made once. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cftpki_ext.checking.checker import new_verdict_id
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Rule
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Reason
from cftpki_ext.evidence import Row, row_of
from cftpki_ext.evidence.again import again
from cftpki_ext.evidence.writer import Repeat
from cftpki_ext.exit.rule_answers import without_check
from cftpki_ext.ports.evidence import Repeated
from cftpki_ext.protocol.codec import Ending
from cftpki_ext.service.audit import decided
from cftpki_ext.service.board.publisher import Given
from cftpki_ext.service.board.told import Told

# What the clocks of a host's process and of ours may differ by: they are one clock, read at two times.
_AHEAD = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Known:
    """
    What is the same each time that an entry's verdict is given.

    `begin` is when it began to hold, `line` what its line in the log says, `row` how it is counted.
    """

    given: Given
    begin: datetime
    line: dict[str, Any]
    row: Row
    repeated: Repeated


@dataclass(frozen=True, slots=True)
class Heard:
    """
    A session that can be true, its rule, and the entry that gave its verdict; `None`: none did.
    """

    told: Told
    rule: Rule
    known: Known | None


def known_by(told: Told, given: Given) -> Known:
    """
    What is the same each time.

    Args:
        told: the first session of it.
        given: the entry.

    """
    standing = given.standing
    return Known(
        given=given,
        # The board's times are in milliseconds.
        begin=standing.verdict.evidence.decided_at - timedelta(milliseconds=1),
        line=decided(standing.verdict),
        row=row_of(standing.verdict, told.asked),
        repeated=Repeated(id=standing.verdict.id, document=standing.document),
    )


def fault_of(told: Told, rule: Rule | None, known: Known | None, now: datetime) -> str | None:
    """
    Why what a host tells cannot be true.

    Args:
        told: by the host.
        rule: the one that it names, `None`: there is no such rule.
        known: the entry that it names, `None`: it names none, or there is no such entry.
        now: the time.

    Returns:
        The fault, `None` where there is none.

    """
    if rule is None:
        return f"no rule {printable(told.rule)!r}"
    if rule.direction is not told.direction:
        return f"rule {rule.name!r} is not for {told.direction.value} mode"
    at = told.at
    if told.entry is None:
        return None if at <= now + _AHEAD else f"a session of {at.isoformat()}, which is to come"
    if known is None:
        return f"no entry {told.entry} of board {told.board.hex()}"
    standing = known.given.standing
    if told.verdict_id != standing.verdict.id or rule.name != standing.question.rule:
        return f"entry {told.entry} of board {told.board.hex()} is another verdict's"
    if not known.begin <= at <= min(standing.until, now + _AHEAD):
        return f"entry {told.entry} of board {told.board.hex()} did not hold at {at.isoformat()}"
    return None


def lines_of(heard: Heard, about: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """
    What else is said of a session, as `service.trail` says it.

    Args:
        heard: the session.
        about: `told.about`.

    Returns:
        Names and fields of lines.

    """
    told, rule = heard.told, heard.rule
    lines: list[tuple[str, dict[str, Any]]] = []
    if told.generation is not None and rule.identity is not None:
        lines.append(
            ("certificate_given", {**about, "identity": rule.identity, "generation": told.generation})
        )
    match told.ending:
        case Ending.DONE if rule.require_check and told.verdict_id is None:
            # A callback of OpenSSL's cannot refuse a handshake that is over; the exit asks, and does.
            fields = {**about, "reason": Reason.NO_CERTIFICATE.value, "detail": without_check(rule)}
            lines.append(("handshake_done_refused", fields))
        case Ending.DONE:
            lines.append(("handshake_done", {**about, "verdict_id": told.verdict_id}))
        case Ending.ALERT:
            side = "host" if told.alert_side == 1 else "partner"
            lines.append(("handshake_alert", {**about, "alert": told.alert, "side": side}))
        case Ending.LEFT:
            lines.append(("session_lost", about))
    return lines


def repeat_of(told: Told, known: Known) -> Repeat:
    """
    The record of a verdict that a host gave again: an id of its own, at the host's time.
    """
    verdict_id = new_verdict_id(told.at_ms)
    stored = again(known.repeated, verdict_id=verdict_id, at=told.at, asked=told.asked)
    return Repeat(id=verdict_id, stored=stored)
