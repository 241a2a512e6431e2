"""
Phases as values: order, configuration, and that nothing but an accepted verdict accepts.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.identity_settings import Identity
from cftpki_ext.core.settings import Limits, Rule, ServiceSettings, Settings, TrustSet, Unreachable
from cftpki_ext.core.verdict import Evidence, Reason, Status, Verdict
from cftpki_ext.core.vocabulary import Direction, PeerAddress, Phase
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.evidence import Asked, Door
from cftpki_ext.exit import phases, questions, steps
from cftpki_ext.exit.phases import Plan, answer, decide
from cftpki_ext.exit.session import Presented, SessionContext, Stage, session_reference
from cftpki_ext.exit.steps import Fail, NotHandled, Refuse, Reply
from cftpki_ext.protocol.codec import Frame, Message, Result, Tag, decode, encode
from cftpki_ext.protocol.tls_vectors import encode_ca_list, encode_chain
from tests.support import pki

SERVER_RULE = Rule(name="in", direction=Direction.SERVER, trust="partners", identity="mft")
ASKED = Asked(
    door=Door.EXIT,
    profile="SSLP",
    remote="192.0.2.1",
    remote_port=40000,
    port=1762,
    host_task=1,
    host_session=2,
    session=session_reference(77),
)
CLIENT_RULE = Rule(name="out", direction=Direction.CLIENT, trust="partners", identity="mft")
IDENTITY = Identity(name="mft", chain_file=Path("c"), key_file=Path("k"))
SETTINGS = Settings(
    trusts=MappingProxyType({"partners": TrustSet(name="partners", anchors=(b"anchor",))}),
    identities=MappingProxyType({"mft": IDENTITY}),
    rules=(SERVER_RULE, CLIENT_RULE),
)
IN_SESSION = (
    Message.GET_CERTIFICATE,
    Message.GET_CA_LIST,
    Message.CHECK_CERTIFICATE,
    Message.CRYPT_DATA,
    Message.HANDSHAKE_ALERT,
    Message.HANDSHAKE_DONE,
)


def session(**changes):
    rule = changes.pop("rule", SERVER_RULE)
    base = SessionContext(
        number=77,
        task=5,
        host_task=1,
        host_session=2,
        direction=rule.direction,
        peer=PeerAddress(host="192.0.2.1", port=40000),
        local_port=1762,
        profile="SSLP",
        rule=rule,
    )
    return replace(base, **changes)


def ask(message, current=None, settings=SETTINGS, **fields):
    request = Frame(
        message=message,
        response=False,
        sequence=1,
        fields={Tag[name]: value for name, value in fields.items()},
    )
    request, _ = decode(encode(request))
    decision = decide(Plan(settings=settings, fresh=99), current, request)
    if isinstance(decision, Reply | NotHandled | Refuse | Fail):
        encode(answer(message, 1, decision))
    return decision


def request_of(message, current, **more):
    fields = {
        Message.CHECK_CERTIFICATE: {"CHAIN": encode_chain([b"leaf"])},
        Message.CRYPT_DATA: {"CRYPT_SCHEME": 0, "CRYPT_INPUT": b"x" * 36},
        Message.HANDSHAKE_ALERT: {"ALERT": 42, "ALERT_SIDE": 2},
    }.get(message, {})
    return ask(message, current, **{"SESSION": 77, **fields, **more})


def start(settings=SETTINGS, **changes):
    fields = {
        "TASK": 5,
        "MODE": 1,
        "REMOTE_ADDRESS": "192.0.2.1",
        "REMOTE_PORT": 40000,
        "LOCAL_PORT": 1762,
        "HOST_TASK": 1,
        "HOST_SESSION": 2,
        "PROFILE": "SSLP",
    }
    current = changes.pop("current", None)
    return ask(Message.START_HANDSHAKE, current, settings, **{**fields, **changes})


def with_rule(**changes):
    return replace(SETTINGS, rules=(replace(SERVER_RULE, **changes),))


def with_service(**changes):
    return replace(SETTINGS, service=ServiceSettings(**changes))


def verdict(*, accepted=True, warnings=(), alert=44):
    evidence = Evidence(
        decided_at=datetime(2026, 1, 1, tzinfo=UTC),
        rule="in",
        trust="partners",
        policy="strict",
        direction=Direction.SERVER,
    )
    return Verdict(
        id="0123456789abcdef0123456789abcdef",
        status=Status.ACCEPTED if accepted else Status.REFUSED,
        reason=None if accepted else Reason.REVOKED,
        alert=0 if accepted else alert,
        summary="good" if accepted else "revoked since yesterday",
        evidence=evidence,
        warnings=warnings,
    )


# StartTask, EndTask, EndSession


def test_start_task_tells_mask_timeout_and_what_to_do_without_us():
    decision = ask(Message.START_TASK, HOST_TASK=1)
    expected = {
        Tag.TASK: 99,
        Tag.PHASE_MASK: 0x7FE,
        Tag.TIMEOUT_MS: 6000,
        Tag.UNREACHABLE: int(Result.REFUSED),
    }
    assert Reply(None, expected) == decision


def test_start_task_unreachable_not_handled_is_told():
    decision = ask(
        Message.START_TASK, settings=with_service(unreachable=Unreachable.NOT_HANDLED), HOST_TASK=1
    )
    assert int(Result.NOT_HANDLED) == decision.fields[Tag.UNREACHABLE]


def test_start_task_with_password_file_needs_the_password():
    decision = ask(Message.START_TASK, settings=with_service(datafile_password_file=Path("p")), HOST_TASK=1)
    assert isinstance(decision, steps.NeedPassword)


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (Message.START_TASK, {"HOST_TASK": 1}),
        (Message.END_TASK, {"TASK": 5}),
        (Message.END_SESSION, {"SESSION": 77}),
    ],
)
def test_task_phase_that_the_service_leaves_out_is_not_handled(message, fields):
    settings = with_service(phases=frozenset(Phase) - {Phase(message)})
    assert isinstance(ask(message, settings=settings, **fields), NotHandled)
    assert isinstance(ask(message, **fields), Reply)


# StartHandshake


def test_start_handshake_with_a_rule_opens_a_session():
    decision = start()
    expected = session(number=99)
    assert Reply(expected, {Tag.SESSION: 99, Tag.RULE: "in", Tag.PHASE_MASK: 0x7FE}) == decision


def test_start_handshake_without_rule_is_refused_with_80():
    decision = start(replace(SETTINGS, rules=(CLIENT_RULE,)))
    assert (Reason.NO_RULE, 80, None) == (decision.reason, decision.alert, decision.session)


def test_start_handshake_matches_listening_port_in_server_and_remote_port_in_client_mode():
    rules = (replace(SERVER_RULE, port=1762), replace(CLIENT_RULE, port=40000))
    settings = replace(SETTINGS, rules=rules)
    assert rules[0] == start(settings).session.rule
    assert rules[1] == start(settings, MODE=2, LOCAL_PORT=0).session.rule
    assert isinstance(start(settings, LOCAL_PORT=40000), Refuse)
    assert isinstance(start(settings, MODE=2, REMOTE_PORT=1762), Refuse)


def test_start_handshake_second_on_one_connection_breaks_the_session():
    decision = start(current=session())
    assert isinstance(decision, Fail)
    assert Stage.BROKEN is decision.session.stage


def test_start_handshake_rule_that_leaves_it_to_the_host_is_not_handled():
    decision = start(with_rule(not_handled=frozenset({Phase.START_HANDSHAKE})))
    assert isinstance(decision, NotHandled)
    assert decision.session is None


def test_start_handshake_mask_leaves_out_what_rule_and_service_leave_to_the_host():
    settings = replace(
        with_rule(not_handled=frozenset({Phase.CHECK_CERTIFICATE}), identity=None),
        service=ServiceSettings(phases=frozenset(Phase) - {Phase.HANDSHAKE_ALERT}),
    )
    mask = start(settings).fields[Tag.PHASE_MASK]
    left_out = {Phase.CHECK_CERTIFICATE, Phase.HANDSHAKE_ALERT, Phase.GET_CERTIFICATE, Phase.CRYPT_DATA}
    assert left_out == {phase for phase in Phase if not mask >> phase & 1}


@pytest.mark.parametrize(("profile", "expected"), [(0x0301, 0x0303), (0x0304, 0x0304)])
def test_start_handshake_min_tls_only_narrows(profile, expected):
    settings = with_rule(min_tls=0x0303)
    assert expected == start(settings, TLS_MIN=profile, TLS_MAX=0x0304).fields[Tag.TLS_MIN]


def test_start_handshake_min_tls_above_the_profile_fails():
    assert isinstance(start(with_rule(min_tls=0x0303), TLS_MAX=0x0302), Fail)
    assert isinstance(start(with_rule(min_tls=0x0303), TLS_MAX=0x0303), Reply)


def test_start_handshake_client_auth_is_told_in_server_mode_only():
    settings = replace(SETTINGS, rules=tuple(replace(r, client_auth=True) for r in SETTINGS.rules))
    assert 1 == start(settings).fields[Tag.CLIENT_AUTH]
    assert Tag.CLIENT_AUTH not in start(settings, MODE=2).fields


# Order


@pytest.mark.parametrize("message", IN_SESSION)
def test_phase_without_start_handshake_fails(message):
    decision = request_of(message, None)
    assert isinstance(decision, Fail)


@pytest.mark.parametrize("message", IN_SESSION)
def test_phase_with_another_sessions_number_fails_and_breaks_this_one(message):
    decision = request_of(message, session(), SESSION=78)
    assert isinstance(decision, Fail)
    assert Stage.BROKEN is decision.session.stage


@pytest.mark.parametrize("stage", [s for s in Stage if s is not Stage.HANDSHAKE])
@pytest.mark.parametrize("message", [m for m in IN_SESSION if m is not Message.HANDSHAKE_ALERT])
def test_phase_after_the_end_fails(message, stage):
    assert isinstance(request_of(message, session(stage=stage)), Fail)


@pytest.mark.parametrize("stage", list(Stage))
def test_alert_is_taken_at_any_stage_and_never_reopens(stage):
    decision = request_of(Message.HANDSHAKE_ALERT, session(stage=stage))
    expected = Stage.ALERTED if stage is Stage.HANDSHAKE else stage
    assert Reply(session(stage=expected)) == decision


@pytest.mark.parametrize("message", IN_SESSION)
def test_phase_that_the_rule_leaves_to_the_host_is_not_handled(message):
    rule = replace(SERVER_RULE, not_handled=frozenset({Phase(message)}))
    decision = request_of(
        message, session(rule=rule, presented=Presented(name="mft", generation=1, fingerprint=b""))
    )
    assert isinstance(decision, NotHandled)


def test_handshake_done_left_to_the_host_still_ends_the_session():
    rule = replace(SERVER_RULE, not_handled=frozenset({Phase.HANDSHAKE_DONE}))
    assert Stage.DONE is request_of(Message.HANDSHAKE_DONE, session(rule=rule)).session.stage


# GetCAList, GetCertificate, CryptData


def test_get_ca_list_in_client_mode_fails():
    assert isinstance(request_of(Message.GET_CA_LIST, session(rule=CLIENT_RULE)), Fail)
    assert steps.NeedCaList(session(), "partners") == request_of(Message.GET_CA_LIST, session())


def test_get_certificate_without_identity_is_the_hosts():
    rule = replace(SERVER_RULE, identity=None)
    assert isinstance(request_of(Message.GET_CERTIFICATE, session(rule=rule)), NotHandled)


def test_get_certificate_heeds_the_servers_list_in_client_mode_only():
    client, server = session(rule=CLIENT_RULE), session()
    assert steps.NeedChain(client, "mft", b"list") == request_of(
        Message.GET_CERTIFICATE, client, CA_LIST=b"list"
    )
    assert steps.NeedChain(server, "mft", None) == request_of(
        Message.GET_CERTIFICATE, server, CA_LIST=b"list"
    )


def test_after_chain_presents_this_generation():
    need = steps.NeedChain(session(), "mft", None)
    reply = phases.after_chain(need, (b"leaf", b"ca"), 3)
    presented = Presented(name="mft", generation=3, fingerprint=sha256(b"leaf").digest())
    assert Reply(session(presented=presented), {Tag.CHAIN: encode_chain([b"leaf", b"ca"])}) == reply


def test_after_chain_without_fitting_certificate_says_no_certificate():
    reply = phases.after_chain(steps.NeedChain(session(), "mft", b""), (), 3)
    assert b"\0\0\0" == reply.fields[Tag.CHAIN]
    assert reply.session.presented is None


def test_crypt_data_before_a_certificate_was_given_fails():
    decision = request_of(Message.CRYPT_DATA, session())
    assert isinstance(decision, Fail)
    assert Stage.BROKEN is decision.session.stage


def test_crypt_data_after_a_certificate_was_given_needs_that_key():
    presented = Presented(name="mft", generation=3, fingerprint=b"f")
    current = session(presented=presented)
    assert steps.NeedSignature(current, presented, 0, b"x" * 36) == request_of(Message.CRYPT_DATA, current)


@pytest.mark.parametrize("change", [{"identity": None}, {"not_handled": frozenset({Phase.GET_CERTIFICATE})}])
def test_crypt_data_where_the_certificate_is_the_hosts_is_not_handled(change):
    assert isinstance(
        request_of(Message.CRYPT_DATA, session(rule=replace(SERVER_RULE, **change))), NotHandled
    )


def test_after_signature_gives_exactly_one_of_output_and_key():
    need = steps.NeedSignature(session(), Presented(name="m", generation=1, fingerprint=b""), 0, b"")
    assert {Tag.CRYPT_OUTPUT: b"s"} == phases.after_signature(need, output=b"s", key=None).fields
    assert {Tag.CRYPT_KEY: b"k"} == phases.after_signature(need, output=None, key=b"k").fields


def test_after_ca_list_names_each_once():
    anchors = (pki.make_root("A"), pki.make_root("B"), pki.make_root("A"))
    trust = TrustSet(name="partners", anchors=tuple(one.der for one in anchors))
    reply = phases.after_ca_list(steps.NeedCaList(session(), "partners"), trust)
    names = tuple(one.certificate.subject.public_bytes() for one in anchors[:2])
    assert encode_ca_list(names) == reply.fields[Tag.CA_LIST]


@pytest.mark.parametrize(
    ("ours", "theirs", "told"), [(0, 1, None), (1, None, None), (1, 1, 1), (1, 2, 1), (2, 1, None)]
)
def test_start_task_announces_a_board_to_who_takes_it(ours, theirs, told):
    fields = {Tag.HOST_TASK: 7} | ({} if theirs is None else {Tag.BOARD: theirs})
    request = Frame(message=Message.START_TASK, response=False, sequence=1, fields=fields)
    reply = decide(Plan(settings=SETTINGS, fresh=99, board=ours), None, request)
    assert told == reply.fields.get(Tag.BOARD)


# CheckCertificate


def test_check_certificate_asks_for_a_verdict_on_leaf_first():
    decision = request_of(
        Message.CHECK_CERTIFICATE, session(), CHAIN=encode_chain([b"leaf", b"ca"]), STAPLE=b"s"
    )
    assert steps.NeedVerdict(session(), SERVER_RULE, (b"leaf", b"ca"), b"s", ASKED) == decision


def test_check_certificate_records_the_port_that_the_rule_was_chosen_by():
    asked = request_of(Message.CHECK_CERTIFICATE, session(rule=CLIENT_RULE)).asked
    assert replace(ASKED, port=40000) == asked


def judged(need):
    question = questions.question_of(SETTINGS, need, at=datetime(2026, 1, 1, tzinfo=UTC))
    return question, conclude(examine(question), (), verdict_id="ab" * 16)


@pytest.mark.parametrize(
    ("chain", "reason", "alert"),
    [
        (b"", Reason.UNDECODABLE, 50),
        (b"\0\0\1", Reason.UNDECODABLE, 50),
        (b"\0\0\5\0\0\3ab", Reason.UNDECODABLE, 50),
        (encode_chain([b"x"]) + b"y", Reason.UNDECODABLE, 50),
        (encode_chain([b"x"] * 65), Reason.UNDECODABLE, 50),
        (encode_chain([bytes(64 * 1024)]), Reason.UNDECODABLE, 50),
        (b"\0\0\0", Reason.NO_CERTIFICATE, 40),
    ],
)
def test_check_certificate_chain_that_is_none_is_refused(chain, reason, alert):
    need = request_of(Message.CHECK_CERTIFICATE, session(), CHAIN=chain)
    question, found = judged(need)
    decision = phases.after_verdict(need, found)
    assert (reason, alert, Stage.REFUSED) == (decision.reason, decision.alert, decision.session.stage)
    assert "ab" * 16 == decision.fields[Tag.VERDICT_ID]
    # The bytes themselves are in the question, and with it in the evidence.
    assert (chain if reason is Reason.UNDECODABLE else None) == question.message


@given(st.binary(max_size=200))
def test_check_certificate_any_bytes_never_accept(chain):
    need = request_of(Message.CHECK_CERTIFICATE, session(), CHAIN=chain)
    assert isinstance(phases.after_verdict(need, judged(need)[1]), Refuse)


def test_check_certificate_trust_set_gone_after_reload_fails():
    settings = replace(SETTINGS, trusts=MappingProxyType({}))
    decision = ask(Message.CHECK_CERTIFICATE, session(), settings, SESSION=77, CHAIN=encode_chain([b"x"]))
    assert isinstance(decision, Fail)


NEED = steps.NeedVerdict(session(), SERVER_RULE, (b"leaf",), None, ASKED)


def test_after_verdict_accepted_replies_with_its_id():
    decision = phases.after_verdict(NEED, verdict(warnings=("stale", "soon")))
    partner = sha256(b"leaf").digest()
    after = session(verdict_id=verdict().id, policy="strict", partner=partner)
    assert Reply(after, {Tag.VERDICT_ID: verdict().id, Tag.DETAIL: "stale; soon"}) == decision


def test_after_verdict_refused_ends_the_session():
    decision = phases.after_verdict(NEED, verdict(accepted=False))
    after = session(verdict_id=verdict().id, policy="strict", stage=Stage.REFUSED)
    expected = Refuse(after, Reason.REVOKED, 44, "revoked since yesterday", {Tag.VERDICT_ID: verdict().id})
    assert expected == decision


def test_after_verdict_refused_without_alert_still_sends_80():
    assert 80 == phases.after_verdict(NEED, verdict(accepted=False, alert=0)).alert


def test_after_verdict_accepted_without_a_chain_is_refused_with_80():
    decision = phases.after_verdict(replace(NEED, chain=()), verdict())
    assert (Reason.INTERNAL_ERROR, 80, Stage.REFUSED) == (
        decision.reason,
        decision.alert,
        decision.session.stage,
    )


def test_after_unkept_turns_an_acceptance_into_80_and_leaves_a_refusal():
    decision = phases.after_unkept(NEED, verdict())
    assert (Reason.INTERNAL_ERROR, 80, Stage.REFUSED) == (
        decision.reason,
        decision.alert,
        decision.session.stage,
    )
    refused = verdict(accepted=False)
    assert phases.after_verdict(NEED, refused) == phases.after_unkept(NEED, refused)


def test_check_outside_sessions_is_matched_and_judged():
    fields = {"MODE": 1, "CHAIN": encode_chain([b"x"]), "REMOTE_ADDRESS": "192.0.2.1"}
    asked = Asked(door=Door.SOCKET, remote="192.0.2.1")
    assert steps.NeedVerdict(None, SERVER_RULE, (b"x",), None, asked) == ask(Message.CHECK, **fields)
    nets = with_rule(networks=(ip_network("10.0.0.0/8"),))
    assert Reason.NO_RULE is ask(Message.CHECK, settings=nets, **fields).reason
    assert Reason.UNDECODABLE is judged(ask(Message.CHECK, **{**fields, "CHAIN": b"x"}))[1].reason


def test_check_on_the_connection_of_a_session_fails():
    assert isinstance(ask(Message.CHECK, session(), MODE=1, CHAIN=b""), Fail)


def test_what_is_told_by_datagram_is_refused_on_a_connection():
    fields = {
        "SESSION": 1,
        "MODE": 1,
        "REMOTE_ADDRESS": "",
        "REMOTE_PORT": 0,
        "LOCAL_PORT": 0,
        "HOST_TASK": 0,
        "HOST_SESSION": 0,
        "RULE": "in",
        "BOARD_ID": bytes(16),
        "SENDER": 0,
        "NUMBER": 1,
        "LOST": 0,
        "AT_MS": 0,
        "ENDING": 1,
    }
    assert "message 18 is a datagram" == ask(Message.SESSION_TOLD, **fields).detail


def test_status_needs_the_services_state():
    assert steps.NeedStatus() == ask(Message.STATUS)


# HandshakeDone


def test_handshake_done_fills_the_area():
    presented = Presented(name="mft", generation=258, fingerprint=b"")
    current = session(
        rule=CLIENT_RULE, verdict_id="0f" * 16, policy="strict", presented=presented, partner=bytes(range(32))
    )
    decision = request_of(Message.HANDSHAKE_DONE, current, TLS_MIN=0x0303)
    expected = (
        b"\x01\x07\0\0"
        + (258).to_bytes(4, "big")
        + b"\x0f" * 16
        + sha256(b"strict").digest()[:8]
        + bytes(range(16))
        + sha256(b"out").digest()[:8]
        + bytes(8)
    )
    assert 64 == len(expected)
    assert Reply(replace(current, stage=Stage.DONE), {Tag.GLOBAL_AREA: expected}) == decision


def test_handshake_done_of_a_resumed_session_claims_no_acceptance():
    area = request_of(Message.HANDSHAKE_DONE, session()).fields[Tag.GLOBAL_AREA]
    assert b"\x01" + bytes(47) + sha256(b"in").digest()[:8] + bytes(8) == area


@pytest.mark.parametrize("left", [frozenset(), frozenset({Phase.HANDSHAKE_DONE})])
def test_rule_that_requires_a_check_lets_no_handshake_end_without_one(left):
    rule = replace(SERVER_RULE, require_check=True, not_handled=left)
    refused = request_of(Message.HANDSHAKE_DONE, session(rule=rule))
    assert (Stage.REFUSED, Reason.NO_CERTIFICATE, 40) == (
        refused.session.stage,
        refused.reason,
        refused.alert,
    )
    assert isinstance(request_of(Message.HANDSHAKE_DONE, refused.session), Fail)
    checked = request_of(Message.HANDSHAKE_DONE, session(rule=rule, verdict_id="0f" * 16, policy="strict"))
    assert (isinstance(checked, NotHandled if left else Reply), Stage.DONE) == (True, checked.session.stage)


def test_answer_failed_always_carries_80():
    frame = answer(Message.CRYPT_DATA, 9, Fail(None, "x" * 5000))
    assert (4, 80, 1024) == (frame.fields[Tag.RESULT], frame.fields[Tag.ALERT], len(frame.fields[Tag.DETAIL]))


def test_limits_chain_cap_is_below_the_wires():
    assert Limits().chain_bytes <= 128 * 1024
