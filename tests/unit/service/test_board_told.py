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
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.evidence import Asked, Door
from cftpki_ext.exit.session import session_reference
from cftpki_ext.protocol.codec import Ending, Frame, Message, encode
from cftpki_ext.service.board.told import MAX_OCTETS, Reader, Senders, read
from tests.support.board_host import told

BOARD = bytes(range(16))
VERDICT = {"ENTRY": 3, "VERDICT_ID": "a" * 32, "RESULT": 1}


def test_session_is_read_whole():
    one = read(told(BOARD, **VERDICT, AT_MS=1_780_000_000_123, PROFILE="RSA", TASK=5, NUMBER=8))
    assert ("in", Direction.SERVER, BOARD, 3, "a" * 32, Ending.DONE, 9, 8) == (
        *(one.rule, one.direction, one.board, one.entry, one.verdict_id, one.ending, one.sender, one.number),
    )
    assert datetime.fromtimestamp(1_780_000_000.123, UTC) == one.at
    asked = Asked(
        door=Door.EXIT,
        profile="RSA",
        remote="192.0.2.9",
        remote_port=40000,
        port=1762,
        host_task=1,
        host_session=2,
        session=session_reference(77),
    )
    assert (asked, None) == (one.asked, one.generation)
    assert {
        "session_ref": session_reference(77),
        "host_task": 1,
        "host_session": 2,
        "remote": "192.0.2.9",
        "remote_port": 40000,
        "session_rule": "in",
    } == one.about


def test_session_without_a_verdict_and_one_that_ended_by_an_alert_are_read():
    one = read(told(BOARD, ENDING=2, ALERT=42, ALERT_SIDE=2, MODE=2))
    assert (None, None, Ending.ALERT, Direction.CLIENT) == (
        one.entry,
        one.verdict_id,
        one.ending,
        one.direction,
    )
    assert (42, 2, 40000) == (one.alert, one.alert_side, one.asked.port)


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
            assert len(read(datagram).board) <= 16


def _outcome(reader, datagram):
    try:
        return reader(datagram)
    except WireError as error:
        return str(error)


# Of each layout one that a reader has seen.
SEEN = (
    told(BOARD, **VERDICT, PROFILE="RSA", GENERATION=4, AT_MS=1_780_000_000_123),
    told(BOARD, ENDING=2, ALERT=42, ALERT_SIDE=2, AT_MS=1_780_000_000_123),
    told(BOARD, TASK=9, TLS_MIN=0x303, SUITES=b"\x13\x01", AT_MS=1_780_000_000_123),
)


def _reader_that_has_seen_all():
    reader = Reader()
    for one in SEEN:
        reader.read(one)
    return reader


@pytest.mark.parametrize(
    "changes",
    [
        {"REMOTE_ADDRESS": "198.51.7"},
        {"REMOTE_ADDRESS": "192.0.2.\u00e9"},
        {"RULE": "ot"},
        {"RULE": ""},
        {"SESSION": 2**64 - 1},
        {"HOST_TASK": 0},
        {"MODE": 2},
        {"ENDING": 3},
        {"NUMBER": 2**63},
    ],
)
def test_reader_that_knows_a_layout_reads_what_is_read_without_it(changes):
    datagram = told(BOARD, **VERDICT | {"PROFILE": "RSA", "AT_MS": 1_780_000_000_999} | changes)
    assert read(datagram) == _reader_that_has_seen_all().read(datagram)


def test_reader_refuses_whatever_is_refused_of_a_layout_that_it_knows():
    reader = _reader_that_has_seen_all()
    refused = 0
    for good in SEEN:
        for position in range(len(good)):
            for octet in (0, 1, 4, 0x7F, 0xFF):
                datagram = good[:position] + bytes((octet,)) + good[position + 1 :]
                expected = _outcome(read, datagram)
                refused += isinstance(expected, str)
                assert expected == _outcome(reader.read, datagram)
    assert refused > 1000


@given(st.lists(st.tuples(st.sampled_from(SEEN), st.integers(0, 300), st.binary(max_size=8)), max_size=6))
def test_reader_says_what_is_said_without_layouts_whatever_came_before(changed):
    reader = Reader()
    for good, position, noise in changed:
        datagram = good[:position] + noise + good[position + len(noise) :]
        assert _outcome(read, datagram) == _outcome(reader.read, datagram)


def test_layouts_are_bounded():
    reader = Reader()
    for length in range(1, 65):
        for profile in range(1, 9):
            reader.read(told(BOARD, REMOTE_ADDRESS="a" * length, PROFILE="p" * profile))
            reader.read(told(BOARD, REMOTE_ADDRESS="a" * length, PROFILE="p" * profile, TASK=1))
    assert sum(map(len, reader._forms.values())) <= 4 * len(reader._forms) <= 4 * 256


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
