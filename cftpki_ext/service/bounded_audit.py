"""
The audit trail where strangers come in a loop: some lines at once, then a few a minute, and how many were left out.

Owns whose lines are left out: those of refusals whose chain leads to no anchor, and those of sessions from an address that
begins many and ends none of them well. The line of a partner's verdict is always written. What is counted and left out is told
with the next line of its kind, and once a minute.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from cftpki_ext.core.line_budget import LineBudget
from cftpki_ext.core.verdict import Reason, Verdict
from cftpki_ext.exit.session import SessionContext
from cftpki_ext.ports.clock import Clock
from cftpki_ext.service.audit import AuditSink

# A day of one cause is then 9,000 lines, some megabytes.
BURST, EVERY_S = 256, 10.0
# Five lines a session, some hundred of them: a busy partner that is let in, or whose handshakes are done, begins anew.
PLACE_BURST = 1024
_DONE = "handshake_done"
TELL_S = 60.0
# Sessions of which lines were left out: their end names no address.
_MOST_SESSIONS = 4096
_IPV6_NETWORK = 64
_LEFT_OUT = "log_lines_left_out"
_DETAIL = "the same cause again and again; each verdict is in the evidence, or counted there"


class BoundedAudit:
    """
    An `AuditSink` before another one. For one event loop.

    Args:
        sink: writes.
        clock: the time.

    """

    def __init__(self, sink: AuditSink, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._verdicts = LineBudget(burst=BURST, every_s=EVERY_S)
        self._places = LineBudget(burst=PLACE_BURST, every_s=EVERY_S)
        self._left_out: OrderedDict[str, None] = OrderedDict()

    def verdict(
        self, verdict: Verdict, session: SessionContext | None, *, elapsed_ms: int, record: str | None
    ) -> None:
        """
        See `AuditSink`.
        """
        if verdict.accepted and session is not None:
            self._places.refund(_place(session))
        if not _is_strangers(verdict):
            self._sink.verdict(verdict, session, elapsed_ms=elapsed_ms, record=record)
            return
        reason = "" if verdict.reason is None else verdict.reason.value
        untold = self._verdicts.ask(f"verdict {reason}", self._clock.monotonic())
        if untold is not None:
            self._sink.verdict(verdict, session, elapsed_ms=elapsed_ms, record=record)
            self._tell(f"verdict {reason}", untold)

    def event(self, name: str, session: SessionContext | None, **fields: Any) -> None:
        """
        See `AuditSink`.
        """
        if session is None:
            if self._left_out.pop(str(fields.get("session_ref")), self) is not self:
                return
            self._sink.event(name, session, **fields)
            return
        place = _place(session)
        if name == _DONE:
            self._places.refund(place)
        untold = self._places.ask(place, self._clock.monotonic())
        if untold is None:
            self._left_out[session.reference] = None
            if len(self._left_out) > _MOST_SESSIONS:
                self._left_out.popitem(last=False)
            return
        self._sink.event(name, session, **fields)
        self._tell(place, untold)

    def many(self, events: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """
        See `AuditSink`: they are of known partners.
        """
        for place in {
            _place_of(str(fields.get("remote", ""))) for name, fields in events if name == "verdict"
        }:
            self._places.refund(place)
        self._sink.many(events)

    async def run(self) -> None:
        """
        Tell what was left out once a minute, until cancelled.
        """
        while True:
            await asyncio.sleep(TELL_S)
            self.tell()

    def tell(self) -> None:
        """
        Tell what was left out and not told of.
        """
        for budget in (self._verdicts, self._places):
            for cause, lines in budget.untold().items():
                self._tell(cause, lines)

    def _tell(self, cause: str, lines: int) -> None:
        if lines:
            self._sink.event(_LEFT_OUT, None, cause=cause, lines=lines, detail=_DETAIL)


def _is_strangers(verdict: Verdict) -> bool:
    """
    Whether a verdict refuses somebody whose chain leads to no anchor, or was not judged, or whom lists keep out.
    """
    if verdict.accepted:
        return False
    return not verdict.evidence.findings or verdict.reason is Reason.NOT_ALLOWED


def _place(session: SessionContext) -> str:
    """
    Where a session comes from: an address, or the network that one customer has.
    """
    return _place_of(session.peer.host)


def _place_of(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"sessions from {host[:64]}"
    if address.version == 6 and address.ipv4_mapped is None:
        return f"sessions from {ipaddress.ip_network((address, _IPV6_NETWORK), strict=False)}"
    return f"sessions from {address.ipv4_mapped if address.version == 6 else address}"
