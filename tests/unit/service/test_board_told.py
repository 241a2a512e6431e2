"""
What a host tells of its sessions is read strictly, and what never came is counted.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.errors import WireError
from cftpki_ext.core.settings import Rule
from cftpki_ext.core.vocabulary import Direction, PeerAddress
from cftpki_ext.exit.session import Stage
from cftpki_ext.protocol.codec import Ending, Frame, Message, encode
from cftpki_ext.service.board.told import MAX_OCTETS, Senders, read
from tests.support.board_host import told

BOARD = bytes(range(16))
RULE = Rule(name="in", direction=Direction.SERVER, trust="partners")
VERDICT = {"ENTRY": 3, "VERDICT_ID": "a" * 32, "RESULT": 1}


def test_session_is_read_whole():
    one = read(told(BOARD, **VERDICT, AT_MS=1_780_000_000_123, PROFILE="RSA", TASK=5, NUMBER=8))
    assert ("in", Direction.SERVER, BOARD, 3, "a" * 32, Ending.DONE, 9, 8) == (
        *(one.rule, one.direction, one.board, one.entry, one.verdict_id, one.ending, one.sender, one.number),
    )
    assert datetime.fromtimestamp(1_780_000_000.123, UTC) == one.at
    session = one.session(RULE)
    assert (77, 5, 1, 2, PeerAddress(host="192.0.2.9", port=40000), 1762, "RSA", RULE, Stage.DONE) == (
        *(session.number, session.task, session.host_task, session.host_session, session.peer),
        *(session.local_port, session.profile, session.rule, session.stage),
    )


def test_session_without_a_verdict_and_one_that_ended_by_an_alert_are_read():
    one = read(told(BOARD, ENDING=2, ALERT=42, ALERT_SIDE=2, MODE=2))
    assert (None, None, Ending.ALERT, Direction.CLIENT) == (
        one.entry,
        one.verdict_id,
        one.ending,
        one.direction,
    )
    assert Stage.ALERTED is one.session(RULE).stage


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"x" * 40,
        told(BOARD)[:-1],
        told(BOARD) + b"\0",
        told(BOARD) + told(BOARD),
        bytes(MAX_OCTETS + 1),
        told(BOARD, ENTRY=3),
        told(BOARD, VERDICT_ID="a" * 32, RESULT=1),
        told(BOARD, **VERDICT | {"RESULT": 2, "ALERT": 44}),
        told(BOARD, ENDING=2),
        told(BOARD, ENDING=1, ALERT=42, ALERT_SIDE=1),
        told(BOARD, AT_MS=2**63),
        encode(Frame(message=Message.STATUS, response=False, sequence=0, fields={})),
    ],
    ids=range(13),
)
def test_anything_else_is_refused(datagram):
    with pytest.raises(WireError):
        read(datagram)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_octets_do_anything_but_be_read_or_refused(noise, position):
    good = told(BOARD, **VERDICT)
    for datagram in (noise, good[:position] + noise, good[:position] + noise + good[position + len(noise) :]):
        with contextlib.suppress(WireError):
            assert Message.SESSION_TOLD is read(datagram).frame.message


def test_numbers_that_are_left_out_are_missing_and_late_ones_are_not_any_more():
    senders = Senders()
    assert [0, 0, 2, 0] == [senders.hear(0, 9, number) for number in (1, 2, 5, 6)]
    assert (2, -1, -1, 0) == (senders.missing, senders.hear(0, 9, 4), senders.hear(0, 9, 3), senders.missing)
    assert [0, 0] == [senders.hear(0, 8, 50), senders.hear(7, 9, 30)]
    assert (0, 3) == (senders.missing, senders.count)
    assert 9 == senders.hear(0, 8, 60)


def test_counting_begins_with_the_first_that_is_heard_and_numbers_again_or_below_count_nothing():
    senders = Senders()
    assert [0, 0, 0] == [senders.hear(0, 9, number) for number in (10, 9, 10)]
    assert 0 == senders.missing


def test_senders_are_bounded():
    senders = Senders(most=3)
    for sender in range(10):
        senders.hear(0, sender, 1)
    assert 3 == senders.count
