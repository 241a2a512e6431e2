"""
The order as a state machine.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_connectors.acme.flow import (
    CHALLENGE_PATIENCE,
    OrderRecord,
    Phase,
    Step,
    Task,
    check_names,
    choose_challenge,
    dead_authorization,
    load_record,
    next_step,
    out_of_patience,
    poll_at,
    retrigger_pause,
    same_order,
)
from cftpki_connectors.acme.options import ChallengeKind
from cftpki_connectors.acme.problems import Problem
from cftpki_connectors.acme.resources import Authorization, Challenge, Identifier, RemoteOrder, Status
from cftpki_connectors.ca.values import CaError
from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.enroller_port import MAX_STATE_BYTES, Fault, Names

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NAME = Identifier("dns", "a.example")
ALL = tuple(ChallengeKind)


def remote(status: Status, **changes: object) -> RemoteOrder:
    fields = {
        "identifiers": frozenset({NAME}),
        "authorizations": (),
        "finalize": "https://ca/f",
        "certificate": None,
        "expires": None,
        "profile": None,
        "error": None,
    }
    return RemoteOrder(status=status, **(fields | changes))


def challenge(kind: str, status: Status = Status.PENDING, error: Problem | None = None) -> Challenge:
    return Challenge(kind=kind, url=f"https://ca/{kind}", token="t", status=status, error=error)


def authorization(
    *challenges: Challenge, status: Status = Status.PENDING, wildcard: bool = False
) -> Authorization:
    return Authorization(status=status, identifier=NAME, wildcard=wildcard, challenges=challenges)


times = st.datetimes(timezones=st.just(UTC))
tasks = st.builds(
    Task,
    kind=st.sampled_from(ALL),
    identifier=st.builds(Identifier, st.sampled_from(["dns", "ip"]), st.text()),
    token=st.text(),
    authorization=st.text(),
)


@given(
    st.builds(
        OrderRecord,
        directory=st.text(),
        account=st.text(),
        phase=st.sampled_from(Phase),
        order=st.none() | st.text(),
        presented=st.lists(tasks, max_size=3).map(tuple),
        challenged_at=st.none() | times,
        finalized_at=st.none() | times,
    )
)
def test_record_comes_back_from_json_as_it_was(record):
    assert record == load_record(json.loads(json.dumps(record.to_state())))


def test_record_with_the_most_names_is_small_enough_to_be_saved():
    task = Task(
        kind=ChallengeKind.TLS_ALPN_01,
        identifier=Identifier("dns", "x" * 253),
        token="t" * 64,
        authorization="a" * 108,
    )
    record = OrderRecord(directory="d", account="a", phase=Phase.ORDERED, presented=(task,) * 100)
    assert len(json.dumps(record.to_state())) < MAX_STATE_BYTES


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "version",
                "directory",
                "account",
                "phase",
                "order",
                "presented",
                "challenged_at",
                "finalized_at",
            ]
        ),
        st.sampled_from([1, None, "ordering", [], [[1]], "2026-01-01", {}]),
        min_size=1,
    )
)
def test_state_of_any_shape_is_a_record_or_refused(state):
    try:
        record = load_record(state)
    except InputError:
        return
    assert isinstance(record, OrderRecord)


def test_empty_state_is_no_record():
    assert load_record({}) is None


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (remote(Status.PENDING), Step.AUTHORIZE),
        (remote(Status.PENDING, expires=NOW + timedelta(seconds=1)), Step.AUTHORIZE),
        (remote(Status.READY), Step.FINALIZE),
        (remote(Status.PROCESSING), Step.WAIT),
        (remote(Status.VALID), Step.WAIT),
        (remote(Status.VALID, certificate="https://ca/c"), Step.DOWNLOAD),
        (remote(Status.UNKNOWN), Step.WAIT),
        (remote(Status.PROCESSING, expires=NOW + timedelta(seconds=1)), Step.WAIT),
        (remote(Status.VALID, certificate="https://ca/c", expires=NOW), Step.DOWNLOAD),
    ],
)
def test_next_step_is_told_by_the_status(order, expected):
    assert expected is next_step(order, NOW)


@pytest.mark.parametrize(
    ("order", "fault"),
    [
        (remote(Status.PENDING, expires=NOW), Fault.ORDER_LOST),
        (remote(Status.PROCESSING, expires=NOW), Fault.ORDER_LOST),
        (remote(Status.VALID, expires=NOW), Fault.ORDER_LOST),
        (remote(Status.UNKNOWN, expires=NOW), Fault.ORDER_LOST),
        (remote(Status.INVALID, expires=NOW), Fault.ORDER_LOST),
        (remote(Status.INVALID), Fault.REFUSED),
        (remote(Status.INVALID, error=Problem(kind="unauthorized", detail="no")), Fault.REFUSED),
        (remote(Status.INVALID, error=Problem(kind="serverInternal", detail="no")), Fault.REFUSED),
        (remote(Status.DEACTIVATED), Fault.REFUSED),
    ],
)
def test_dead_order_says_what_that_means(order, fault):
    with pytest.raises(CaError) as raised:
        next_step(order, NOW)
    assert fault == raised.value.fault


def test_order_in_a_list_is_ours_only_when_open_and_of_the_same_names():
    wanted = frozenset({NAME})
    assert same_order(remote(Status.PENDING), wanted, None)
    assert same_order(remote(Status.READY, profile="p"), wanted, "p")
    assert not same_order(remote(Status.VALID), wanted, None)
    assert not same_order(remote(Status.PROCESSING), wanted, None)
    assert not same_order(remote(Status.READY, profile="q"), wanted, "p")
    assert not same_order(remote(Status.PENDING), wanted | {Identifier("dns", "b.example")}, None)


def test_challenge_is_the_first_configured_that_is_offered_unless_one_is_under_way():
    offered = authorization(challenge("http-01"), challenge("dns-01"))
    dns_first = (ChallengeKind.DNS_01, ChallengeKind.HTTP_01)
    assert ChallengeKind.HTTP_01 is choose_challenge(offered, ALL).kind
    assert ChallengeKind.DNS_01 is choose_challenge(offered, dns_first).kind
    started = authorization(challenge("http-01", Status.PROCESSING), challenge("dns-01"))
    assert ChallengeKind.HTTP_01 is choose_challenge(started, dns_first).kind


def test_challenge_is_not_needed_where_the_authorization_is_valid():
    assert choose_challenge(authorization(status=Status.VALID), ()) is None


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (authorization(challenge("device-attest-01")), Fault.MISCONFIGURED),
        (authorization(challenge("http-01"), wildcard=True), Fault.MISCONFIGURED),
        (authorization(), Fault.MISCONFIGURED),
        (authorization(status=Status.DEACTIVATED), Fault.REFUSED),
        (authorization(status=Status.EXPIRED), Fault.REFUSED),
    ],
)
def test_challenge_that_cannot_be_answered_says_whose_business_it_is(found, fault):
    with pytest.raises(CaError) as raised:
        choose_challenge(found, ALL)
    assert fault == raised.value.fault


def test_dead_authorization_tells_of_the_challenge_that_failed_and_never_blames_the_account():
    failed = challenge("http-01", Status.INVALID, Problem(kind="unauthorized", detail="wrong content"))
    error = dead_authorization(authorization(challenge("dns-01"), failed, status=Status.INVALID))
    assert (Fault.REFUSED, True) == (
        error.fault,
        "http-01 for a.example: unauthorized: wrong content" in error.detail,
    )


def test_names_without_any_or_with_a_common_name_of_their_own_are_misconfigured():
    check_names(Names(common_name="a.example", dns=("a.example",)))
    check_names(Names(common_name=None, dns=("a.example",)))
    check_names(Names(common_name="10.0.0.1", addresses=(ip_address("10.0.0.1"),)))
    for names in (Names(common_name=None), Names(common_name="MFT 1", dns=("a.example",))):
        with pytest.raises(CaError) as raised:
            check_names(names)
        assert Fault.MISCONFIGURED == raised.value.fault


@pytest.mark.parametrize(
    ("asked", "since", "expected"),
    [
        (NOW - timedelta(days=1), NOW, timedelta(seconds=1)),
        (NOW + timedelta(minutes=5), NOW, timedelta(minutes=5)),
        (NOW + timedelta(days=30), NOW, timedelta(days=1)),
        (None, NOW, timedelta(seconds=0.5)),
        (None, NOW - timedelta(minutes=4), timedelta(minutes=1)),
        (None, NOW - timedelta(hours=9), timedelta(minutes=10)),
    ],
)
def test_poll_is_when_the_ca_says_within_bounds_or_ever_later(asked, since, expected):
    assert NOW + expected == poll_at(asked=asked, since=since, now=NOW)


def test_retrigger_is_ever_later_and_bounded():
    assert [1, 2, 4] == [retrigger_pause(times).total_seconds() for times in range(3)]
    assert timedelta(minutes=1) == retrigger_pause(10**9)


def test_patience_ends_an_hour_after_the_first_answer():
    record = OrderRecord(directory="d", account="a", phase=Phase.ORDERED, challenged_at=NOW)
    assert not out_of_patience(record, NOW + CHALLENGE_PATIENCE - timedelta(seconds=1))
    assert out_of_patience(record, NOW + CHALLENGE_PATIENCE)
