"""What is asked about a request: chains and staples that did not come whole, and refusals that nobody judged."""

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import Enforcement
from cftpki_ext.core.settings import Limits, Rule, Settings, TrustSet
from cftpki_ext.core.verdict import Fault, Reason, Status
from cftpki_ext.core.vocabulary import Direction, PeerAddress
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Door
from cftpki_ext.exit import questions
from cftpki_ext.exit.session import SessionContext, Stage, session_reference
from cftpki_ext.exit.steps import Fail, Refuse
from cftpki_ext.protocol.codec import Frame, Message, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain

AT = datetime(2026, 1, 1, tzinfo=UTC)
RULE = Rule(name="in", direction=Direction.SERVER, trust="partners")
SETTINGS = Settings(trusts={"partners": TrustSet(name="partners", anchors=(b"anchor",))}, rules=(RULE,))
SESSION = SessionContext(
    number=77,
    task=5,
    host_task=1,
    host_session=2,
    direction=Direction.SERVER,
    peer=PeerAddress(host="192.0.2.1", port=40000),
    local_port=1762,
    profile="SSLP",
    rule=RULE,
)
FAILED = Fail(None, "it fell over")


def request(message, **fields):
    by_tag = {Tag[name]: value for name, value in fields.items()}
    return Frame(message, response=False, sequence=1, fields=by_tag)


def need(**fields):
    return questions.need_verdict(
        Limits(), SESSION, RULE, request(Message.CHECK_CERTIFICATE, SESSION=77, **fields)
    )


def judged(question):
    return conclude(examine(question), (), verdict_id="0" * 32)


@given(beginning=st.binary(max_size=64), count=st.none() | st.integers(0, 2**32 - 1))
def test_chain_told_by_its_length_is_never_accepted_whatever_its_beginning_is(beginning, count):
    told = {} if count is None else {"CHAIN_CERTIFICATES": count}
    asked = need(CHAIN=beginning, CHAIN_LENGTH=200_000, **told)
    verdict = judged(questions.question_of(SETTINGS, asked, at=AT))
    assert ((), beginning) == (asked.chain, asked.message)
    assert (Reason.UNDECODABLE, 50) == (verdict.reason, verdict.alert)


@pytest.mark.parametrize(("cut", "named"), [(0, True), (1, False)])
def test_leaf_of_a_long_chain_is_named_where_the_beginning_has_all_of_it(cut, named):
    beginning = encode_chain([b"leaf"])
    detail = need(CHAIN=beginning[: len(beginning) - cut], CHAIN_LENGTH=200_000).fault.detail
    assert named is (sha256(b"leaf").hexdigest() in detail)


@pytest.mark.parametrize("reason", list(Reason))
def test_fault_that_came_before_any_judgement_refuses_also_where_the_policy_audits(reason):
    trust = SETTINGS.trusts["partners"]
    asked = Question(
        chain=(),
        direction=Direction.SERVER,
        trust=replace(trust, policy=replace(trust.policy, enforcement=Enforcement.AUDIT)),
        limits=Limits(),
        at=AT,
        rule=None,
        fault=Fault(reason=reason, depth=None, rule="test", detail="before"),
    )
    verdict = judged(asked)
    assert (Status.REFUSED, reason) == (verdict.status, verdict.reason)


def test_good_chain_has_no_fault():
    assert None is need(CHAIN=encode_chain([b"leaf"])).fault
    assert (b"leaf",) == need(CHAIN=encode_chain([b"leaf"])).chain


def test_staple_is_handed_in_as_it_came_or_as_a_failure():
    chain = encode_chain([b"leaf"])
    assert () == questions.handed_in(need(CHAIN=chain), at=AT)
    (whole,) = questions.handed_in(need(CHAIN=chain, STAPLE=b"staple"), at=AT)
    assert (b"staple", None) == (whole.raw, whole.failure)
    (told,) = questions.handed_in(need(CHAIN=chain, STAPLE_LENGTH=70_000), at=AT)
    assert (None, Cause.TOO_LARGE) == (told.raw, told.failure)


def unjudged(session, asked, refusal=FAILED):
    return questions.unjudged(SETTINGS, session, asked, refusal, at=AT)


def test_failure_in_a_session_is_asked_as_that_session_and_refused_by_its_fault():
    question, asked = unjudged(SESSION, request(Message.CHECK_CERTIFICATE, SESSION=77, CHAIN=b"bytes"))
    verdict = judged(question)
    assert (Reason.INTERNAL_ERROR, 80, "in", "partners") == (
        verdict.reason,
        verdict.alert,
        verdict.evidence.rule,
        verdict.evidence.trust,
    )
    assert (b"bytes", "192.0.2.1", SESSION.reference) == (question.message, asked.remote, asked.session)
    assert "it fell over" in verdict.summary


def test_phase_of_a_session_that_is_not_known_is_recorded_by_its_reference():
    question, asked = unjudged(None, request(Message.CHECK_CERTIFICATE, SESSION=9, CHAIN=b""))
    assert (Door.EXIT, session_reference(9)) == (asked.door, asked.session)
    assert (None, 80) == (judged(question).evidence.rule, judged(question).alert)


def test_refusal_without_a_rule_keeps_its_reason():
    start = request(
        Message.CHECK,
        MODE=2,
        CHAIN=b"bytes",
        REMOTE_ADDRESS="192.0.2.9",
        REMOTE_PORT=443,
    )
    question, asked = unjudged(None, start, Refuse(None, Reason.NO_RULE, 80, "no rule"))
    assert (Reason.NO_RULE, 80, Direction.CLIENT) == (
        judged(question).reason,
        judged(question).alert,
        question.direction,
    )
    assert (Door.SOCKET, "192.0.2.9", 443) == (asked.door, asked.remote, asked.port)


@pytest.mark.parametrize("stage", [Stage.REFUSED, Stage.BROKEN])
def test_session_that_was_refused_before_is_not_recorded_again(stage):
    ended = replace(SESSION, stage=stage)
    assert None is unjudged(ended, request(Message.CHECK_CERTIFICATE, SESSION=77, CHAIN=b""))
    assert None is unjudged(ended, None)


def test_frame_that_cannot_be_read_refuses_a_handshake_under_way_alone():
    question, _ = unjudged(SESSION, None)
    assert 80 == judged(question).alert
    assert None is unjudged(None, None)
    assert None is unjudged(replace(SESSION, stage=Stage.DONE), None)


@pytest.mark.parametrize("message", [Message.START_TASK, Message.HANDSHAKE_ALERT, Message.END_SESSION])
def test_message_that_refuses_nobody_is_not_recorded(message):
    assert None is unjudged(SESSION, request(message))
