"""
The audit trail's port and its plain adapter: one structured log line per verdict and per event of a session.

Owns what is written about a call. Never writes chains, keys, passwords or session numbers (they are secrets).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from cftpki_ext.core.log import Log
from cftpki_ext.core.verdict import Verdict, deciding_source
from cftpki_ext.exit.session import SessionContext

# What ends in an outage where nobody looks.
_ERRORS = frozenset(
    {"identity_alarm", "renewals_not_started", "own_certificate_revoked", "own_chain_revoked"}
)
# What is tried again, and should not be.
_WARNINGS = frozenset(
    {
        "identity_not_kept",
        "identity_attempt_failed",
        "identity_renewal_moved",
        "own_status_failed",
        "renewal_hint_failed",
        "enroller_broken",
        "key_uses_not_told",
        "signer_connection_refused",
        "verdict_refused_without_evidence",
        "evidence_not_renewed",
        "log_lines_left_out",
        "partner_ends",
        "partner_refused_ahead",
        "partners_end",
    }
)


class AuditSink(Protocol):
    """
    Where verdicts and session events are recorded before they are answered.

    A sink that cannot record raises: the call then fails closed.
    """

    def verdict(
        self, verdict: Verdict, session: SessionContext | None, *, elapsed_ms: int, record: str | None
    ) -> None:
        """
        One chain was judged; `session` is `None` outside sessions, `record` where its evidence is not kept.
        """

    def event(self, name: str, session: SessionContext | None, **fields: Any) -> None:
        """
        Something else happened that an operator or auditor wants to see.
        """

    def many(self, events: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """
        Many things happened, as by `event`: names, and all that is said of each.
        """


class LogAudit:
    """
    The audit trail as log lines.

    Args:
        logger: writes them.
        many: writes many of them; by default `logger` does, one by one.

    """

    def __init__(
        self, logger: Log, *, many: Callable[[Sequence[tuple[str, Mapping[str, Any]]]], object] | None = None
    ) -> None:
        self._logger = logger
        self._many = many

    def verdict(
        self, verdict: Verdict, session: SessionContext | None, *, elapsed_ms: int, record: str | None
    ) -> None:
        """
        Log one verdict: refusals and acceptances with warnings as warnings.
        """
        write = self._logger.info if verdict.accepted and not verdict.warnings else self._logger.warning
        write(
            "verdict",
            verdict_id=verdict.id,
            # The hash of its record in the ledger's chain: a log kept elsewhere vouches for the ledger.
            record=record,
            **decided(verdict),
            elapsed_ms=elapsed_ms,
            **_about(session),
        )

    def event(self, name: str, session: SessionContext | None, **fields: Any) -> None:
        """
        Log one event, those that somebody has to look at as a warning or an error.
        """
        write = self._logger.info
        if name in _ERRORS:
            write = self._logger.error
        elif name in _WARNINGS:
            write = self._logger.warning
        write(name, **_about(session), **fields)

    def many(self, events: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """
        Log many events, by their names as `event` does.
        """
        if self._many is not None and not any(name in _ERRORS or name in _WARNINGS for name, _ in events):
            self._many(events)
            return
        for name, fields in events:
            self.event(name, None, **fields)


def decided(verdict: Verdict) -> dict[str, Any]:
    """
    What a verdict's line says of all that was decided: the same each time that it is given again.

    Args:
        verdict: the verdict.

    Returns:
        The fields, without its id, its record and the session.

    """
    evidence = verdict.evidence
    source = deciding_source(verdict)
    return {
        "status": verdict.status.value,
        "reason": verdict.reason.value if verdict.reason else None,
        "alert": verdict.alert,
        "summary": verdict.summary,
        "warnings": list(verdict.warnings),
        "policy_rows": [
            {
                "depth": row.depth,
                "cause": row.cause.value,
                "action": row.action.value,
                "excepted": row.excepted,
            }
            for row in evidence.rows
        ],
        "rule": evidence.rule,
        "trust": evidence.trust,
        "policy": evidence.policy,
        "source": f"{source.kind.value}, {source.origin.value}" if source else None,
        "direction": evidence.direction.value,
        "partner": evidence.path[0].subject if evidence.path else None,
        "serial": evidence.path[0].serial if evidence.path else None,
    }


def _about(session: SessionContext | None) -> dict[str, Any]:
    if session is None:
        return {}
    return {
        "session_ref": session.reference,
        "host_task": session.host_task,
        "host_session": session.host_session,
        "remote": session.peer.host,
        "remote_port": session.peer.port,
        "session_rule": session.rule.name,
    }
