"""
The log beside a stranger in a loop: some lines, then a few with the number of the others; a partner's are all there.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cftpki_ext.core.settings import TrustSet
from cftpki_ext.core.verdict import Reason
from cftpki_ext.core.vocabulary import Direction, PeerAddress
from cftpki_ext.exit.session import SessionContext, session_reference
from cftpki_ext.service.audit import LogAudit
from cftpki_ext.service.bounded_audit import BURST, EVERY_S, PLACE_BURST, BoundedAudit
from tests.support import evidence_samples as samples
from tests.support.logs import CapturedLog
from tests.support.pki import NOW


class Clock:
    seconds = 0.0

    def now(self):
        return NOW

    def monotonic(self):
        return self.seconds


class World:
    def __init__(self):
        self.logs, self.clock = CapturedLog(), Clock()
        self.audit = BoundedAudit(LogAudit(self.logs), self.clock)

    def lines(self, event):
        return [call.kwargs for call in self.logs.calls if call.kwargs["event"] == event]

    def verdict(self, verdict, session=None):
        self.audit.verdict(verdict, session, elapsed_ms=1, record=None)


def session(number, host="192.0.2.1"):
    return SessionContext(
        number=number,
        task=1,
        host_task=1,
        host_session=number,
        direction=Direction.SERVER,
        peer=PeerAddress(host=host, port=4000),
        local_port=1762,
        profile=None,
        rule=samples.RULE,
    )


@pytest.fixture
def world():
    return World()


STRANGER = samples.record(trust=TrustSet(name="partners", anchors=())).verdict
REFUSED = samples.record(*samples.REVOKED).verdict
ACCEPTED = samples.record(*samples.GOOD).verdict


def test_stranger_in_a_loop_fills_no_log_and_the_number_of_the_others_is_told(world):
    for step in range(10 * BURST):
        world.clock.seconds = step / 1000
        world.verdict(STRANGER)
    assert BURST == len(world.lines("verdict"))
    world.clock.seconds += EVERY_S
    world.verdict(STRANGER)
    assert BURST + 1 == len(world.lines("verdict"))
    (told,) = world.lines("log_lines_left_out")
    assert ("verdict no_path", 9 * BURST) == (told["cause"], told["lines"])


def test_what_was_left_out_is_told_when_nobody_comes_any_more(world):
    for _ in range(BURST + 7):
        world.verdict(STRANGER)
    world.audit.tell()
    world.audit.tell()
    assert [7] == [line["lines"] for line in world.lines("log_lines_left_out")]
    assert ["warning"] == [
        call.method_name for call in world.logs.calls if call.kwargs["event"] == "log_lines_left_out"
    ]


@pytest.mark.parametrize("verdict", [ACCEPTED, REFUSED])
def test_line_of_a_partners_verdict_is_always_written_also_beside_a_stranger(world, verdict):
    for _ in range(2 * BURST):
        world.verdict(STRANGER)
        world.verdict(verdict)
    assert 2 * BURST == sum(
        line["status"] == verdict.status and line["reason"] != "no_path" for line in world.lines("verdict")
    )


def test_each_cause_has_its_own_lines(world):
    for _ in range(2 * BURST):
        world.verdict(STRANGER)
    world.verdict(replace(STRANGER, reason=Reason.UNDECODABLE))
    assert "undecodable" == world.lines("verdict")[-1]["reason"]


def test_address_that_only_begins_sessions_is_told_of_seldom(world):
    for number in range(1, 2000):
        for event in ("certificate_given", "key_used"):
            world.audit.event(event, session(number))
        world.audit.event("end_session", None, session_ref=session_reference(number))
    assert PLACE_BURST == sum(len(world.lines(one)) for one in ("certificate_given", "key_used"))
    assert PLACE_BURST // 2 == len(world.lines("end_session"))
    # Others are told of as ever.
    world.audit.event("key_used", session(5000, "192.0.2.2"))
    assert "192.0.2.2" == world.lines("key_used")[-1]["remote"]
    world.audit.tell()
    (told,) = world.lines("log_lines_left_out")
    assert ("sessions from 192.0.2.1", 2 * 1999 - PLACE_BURST) == (told["cause"], told["lines"])


@pytest.mark.parametrize("well", ["accepted", "done"])
def test_address_of_a_busy_partner_is_told_of_in_full(world, well):
    for number in range(1, 1500):
        one = session(number)
        world.audit.event("certificate_given", one)
        if well == "accepted":
            world.verdict(ACCEPTED, one)
        else:
            world.audit.event("handshake_done", one)
    assert 1499 == len(world.lines("certificate_given"))
    assert [] == world.lines("log_lines_left_out")


@pytest.mark.parametrize(
    ("hosts", "places"),
    [
        ([f"2001:db8::{n:x}" for n in range(1, 20)], 1),
        ([f"2001:db8:0:{n:x}::1" for n in range(1, 20)], 19),
        (["::ffff:192.0.2.7", "192.0.2.7"], 1),
        (["host\x1b", "another", ""], 3),
    ],
)
def test_place_is_an_address_or_one_customers_network(world, hosts, places):
    for host in hosts:
        for number in range(1, PLACE_BURST + 2):
            world.audit.event("key_used", session(number, host))
    world.audit.tell()
    causes = {line["cause"] for line in world.lines("log_lines_left_out")}
    assert places == len(causes)


def test_sessions_that_are_remembered_are_bounded(world):
    for number in range(1, 20_000):
        world.audit.event("key_used", session(number))
    world.audit.event("end_session", None, session_ref=session_reference(19_999))
    world.audit.event("end_session", None, session_ref=session_reference(PLACE_BURST + 1))
    assert 1 == len(world.lines("end_session"))
