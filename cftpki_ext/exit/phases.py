"""
What each phase does, decided as a value: `decide(plan, session, request)` names the answer or what it needs.

Owns the order of the phases and the wording of answers. Pure: no I/O, no clock, no randomness; the driver
(`cftpki_ext.service.conversation`) fetches what a decision needs and comes back through the `after_…` functions. The only
way to an accepted CheckCertificate leads through `after_verdict` with an accepted verdict of that very call.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import assert_never

from cftpki_ext.core.alerts import Alert, alert_for
from cftpki_ext.core.settings import Rule, Settings, TrustSet, Unreachable
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Reason, Verdict
from cftpki_ext.core.vocabulary import Direction, Phase
from cftpki_ext.decision.rules import RuleKey, match
from cftpki_ext.exit.global_area import global_area
from cftpki_ext.exit.questions import need_verdict, rule_key
from cftpki_ext.exit.rule_answers import ca_list_of, mask_of, phases_of, without_check
from cftpki_ext.exit.session import Presented, SessionContext, Stage
from cftpki_ext.exit.steps import (
    Decision,
    Fail,
    Final,
    NeedCaList,
    NeedChain,
    NeedPassword,
    NeedSignature,
    NeedStatus,
    NeedVerdict,
    NotHandled,
    Refuse,
    Reply,
)
from cftpki_ext.protocol.codec import Frame, Message, Result, Tag, Value, clip
from cftpki_ext.protocol.tls_vectors import encode_chain

# On top of the budget of the decision: what the service itself may take (queueing, signing, disk).
CALL_SLACK_MS = 500
# On top of that: what the exit waits longer than the service works, so that it hears "too late" from us.
EXIT_SLACK_MS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What else a decision depends on: `fresh` is a random number for a new id, `board` the format that hosts can have (0: none).
    """

    settings: Settings
    fresh: int
    board: int = 0


def decide(plan: Plan, session: SessionContext | None, request: Frame) -> Decision:
    """
    The next step for one request.

    Args:
        plan: settings and a random number.
        session: the connection's session, `None` before StartHandshake.
        request: a request frame that passed `codec.decode_payload`.

    Returns:
        A final answer, or what the driver must fetch first.

    """
    message = request.message
    match message:
        case Message.START_TASK:
            return _start_task(plan, request)
        case Message.END_TASK:
            return _handled(plan, Phase.END_TASK) or Reply(session)
        case Message.END_SESSION:
            # Session state ended with its connection: this is only for the audit trail.
            return _handled(plan, Phase.END_SESSION) or Reply(session)
        case Message.START_HANDSHAKE:
            return _start_handshake(plan, session, request)
        case Message.CHECK:
            return _check(plan, session, request)
        case Message.STATUS:
            return NeedStatus()
        case (
            Message.GET_CERTIFICATE
            | Message.GET_CA_LIST
            | Message.CHECK_CERTIFICATE
            | Message.CRYPT_DATA
            | Message.HANDSHAKE_ALERT
            | Message.HANDSHAKE_DONE
        ):
            if session is None:
                return Fail(None, f"{message.name} without StartHandshake on this connection")
            if request.number(Tag.SESSION) != session.number:
                return _broken(session, f"{message.name} for a session that is not this connection's")
            if session.stage is not Stage.HANDSHAKE and message is not Message.HANDSHAKE_ALERT:
                return _broken(session, f"{message.name} after the session was {session.stage.value}")
            return _in_handshake(plan, session, request, Phase(message.value))
        case Message.SESSION_TOLD:
            return Fail(session, "message 18 is a datagram")
        case Message.UNREADABLE:
            return Fail(session, "message 127 is never a request")
        case _ as never:
            assert_never(never)


def _in_handshake(plan: Plan, session: SessionContext, request: Frame, phase: Phase) -> Decision:
    if phase is Phase.HANDSHAKE_DONE and session.rule.require_check and session.verdict_id is None:
        return _refused(session, Reason.NO_CERTIFICATE, without_check(session.rule))
    unhandled = _handled(plan, phase, session)
    if phase is Phase.HANDSHAKE_ALERT:
        ended = session if session.stage is not Stage.HANDSHAKE else replace(session, stage=Stage.ALERTED)
        return unhandled or Reply(ended)
    if unhandled is not None:
        ended = replace(session, stage=Stage.DONE) if phase is Phase.HANDSHAKE_DONE else session
        return replace(unhandled, session=ended)
    match phase:
        case Phase.GET_CA_LIST:
            if session.direction is not Direction.SERVER:
                return _broken(session, "GetCAList in client mode")
            return NeedCaList(session, session.rule.trust)
        case Phase.GET_CERTIFICATE:
            if session.rule.identity is None:
                return NotHandled(session, f"rule {session.rule.name!r} names no identity")
            ca_list = request.raw(Tag.CA_LIST) if session.direction is Direction.CLIENT else None
            return NeedChain(session, session.rule.identity, ca_list)
        case Phase.CHECK_CERTIFICATE:
            return _judge(plan, session, session.rule, request)
        case Phase.CRYPT_DATA:
            return _crypt_data(plan, session, request)
        case Phase.HANDSHAKE_DONE:
            return Reply(replace(session, stage=Stage.DONE), {Tag.GLOBAL_AREA: global_area(session)})
        case _:
            return _broken(session, f"{phase.name} inside a handshake")


def _start_task(plan: Plan, request: Frame) -> Decision:
    unhandled = _handled(plan, Phase.START_TASK)
    if unhandled is not None:
        return unhandled
    service, limits = plan.settings.service, plan.settings.limits
    refuses = service.unreachable is Unreachable.REFUSE
    fields: dict[Tag, Value] = {
        Tag.TASK: plan.fresh,
        Tag.PHASE_MASK: mask_of(service.phases),
        Tag.TIMEOUT_MS: limits.budget_ms + CALL_SLACK_MS + EXIT_SLACK_MS,
        Tag.UNREACHABLE: int(Result.REFUSED if refuses else Result.NOT_HANDLED),
    }
    if 0 < plan.board <= (request.number(Tag.BOARD) or 0):
        fields[Tag.BOARD] = plan.board
    return Reply(None, fields) if service.datafile_password_file is None else NeedPassword(fields)


def _start_handshake(plan: Plan, session: SessionContext | None, request: Frame) -> Decision:
    if session is not None:
        return _broken(session, "second StartHandshake on one connection")
    unhandled = _handled(plan, Phase.START_HANDSHAKE)
    if unhandled is not None:
        return unhandled
    key, peer = rule_key(request)
    rule = match(plan.settings.rules, key)
    if rule is None:
        return Refuse(None, Reason.NO_RULE, alert_for(Reason.NO_RULE), _no_rule(key))
    new = SessionContext(
        number=plan.fresh,
        task=request.number(Tag.TASK) or 0,
        host_task=request.number(Tag.HOST_TASK) or 0,
        host_session=request.number(Tag.HOST_SESSION) or 0,
        direction=key.direction,
        peer=peer,
        local_port=request.number(Tag.LOCAL_PORT) or 0,
        profile=key.profile,
        rule=rule,
    )
    unhandled = _handled(plan, Phase.START_HANDSHAKE, new)
    if unhandled is not None:
        return replace(unhandled, session=None)
    fields: dict[Tag, Value] = {
        Tag.SESSION: new.number,
        Tag.RULE: clip(Tag.RULE, rule.name),
        Tag.PHASE_MASK: mask_of(phases_of(plan.settings.service, rule)),
    }
    if rule.min_tls is not None:
        least = max(rule.min_tls, request.number(Tag.TLS_MIN) or 0)
        most = request.number(Tag.TLS_MAX) or 0
        if most and least > most:
            return Fail(
                None, f"rule {rule.name!r} asks for TLS 0x{least:04x}, the profile ends at 0x{most:04x}"
            )
        fields[Tag.TLS_MIN] = least
    if rule.client_auth is not None and new.direction is Direction.SERVER:
        fields[Tag.CLIENT_AUTH] = int(rule.client_auth)
    return Reply(new, fields)


def _check(plan: Plan, session: SessionContext | None, request: Frame) -> Decision:
    if session is not None:
        return _broken(session, "CHECK on the connection of a session")
    key, _ = rule_key(request)
    rule = match(plan.settings.rules, key)
    if rule is None:
        return Refuse(None, Reason.NO_RULE, alert_for(Reason.NO_RULE), _no_rule(key))
    return _judge(plan, None, rule, request)


def _judge(plan: Plan, session: SessionContext | None, rule: Rule, request: Frame) -> Decision:
    if rule.trust not in plan.settings.trusts:
        return _broken(session, f"trust set {rule.trust!r} of rule {rule.name!r} is not configured")
    return need_verdict(plan.settings.limits, session, rule, request)


def _crypt_data(plan: Plan, session: SessionContext, request: Frame) -> Decision:
    rule = session.rule
    if session.presented is None:
        if rule.identity is None or _handled(plan, Phase.GET_CERTIFICATE, session) is not None:
            return NotHandled(session, "the certificate of this session is the host's own")
        return _broken(session, "CryptData before a certificate was given in GetCertificate")
    return NeedSignature(
        session, session.presented, request.number(Tag.CRYPT_SCHEME) or 0, request.raw(Tag.CRYPT_INPUT) or b""
    )


def after_verdict(need: NeedVerdict, verdict: Verdict) -> Reply | Refuse:
    """
    The answer to CheckCertificate or CHECK, once the chain has been judged.

    Args:
        need: the decision that asked for it.
        verdict: of this very call.

    Returns:
        A reply only for an accepted verdict; everything else refuses, with an alert that is never 0.

    """
    session = need.session
    policy = verdict.evidence.policy
    if verdict.accepted and need.chain:
        fields: dict[Tag, Value] = {Tag.VERDICT_ID: clip(Tag.VERDICT_ID, verdict.id)}
        if verdict.warnings:
            fields[Tag.DETAIL] = clip(Tag.DETAIL, "; ".join(verdict.warnings))
        if session is not None:
            partner = sha256(need.chain[0]).digest()
            session = replace(session, verdict_id=verdict.id, policy=policy, partner=partner)
        return Reply(session, fields)
    if session is not None:
        session = replace(session, stage=Stage.REFUSED, verdict_id=verdict.id, policy=policy)
    return Refuse(
        session,
        verdict.reason or Reason.INTERNAL_ERROR,
        verdict.alert or int(Alert.INTERNAL_ERROR),
        verdict.summary,
        {Tag.VERDICT_ID: clip(Tag.VERDICT_ID, verdict.id)},
    )


def after_unkept(need: NeedVerdict, verdict: Verdict) -> Refuse:
    """
    The answer where evidence is required and the verdict's record could not be kept.

    Args:
        need: the decision that asked for the verdict.
        verdict: of this very call; a refusal stays what it is, an acceptance becomes alert 80.

    Returns:
        A refusal.

    """
    given = after_verdict(need, verdict)
    if isinstance(given, Refuse):
        return given
    return _refused(
        need.session,
        Reason.INTERNAL_ERROR,
        "the evidence of the verdict could not be kept (evidence.required)",
    )


def after_chain(need: NeedChain, chain: tuple[bytes, ...], generation: int) -> Reply:
    """
    The answer to GetCertificate.

    Args:
        need: the decision that asked for it.
        chain: leaf first; empty for "no certificate", because no CA of the server's list issued any of it.
        generation: of the identity that the chain is of.

    Returns:
        The reply; with an empty chain the session presents nothing, and CryptData will fail.

    """
    if not chain:
        return Reply(
            replace(need.session, presented=None),
            {
                Tag.CHAIN: encode_chain(()),
                Tag.DETAIL: clip(Tag.DETAIL, f"no CA of the server's list issued identity {need.identity!r}"),
            },
        )
    presented = Presented(name=need.identity, generation=generation, fingerprint=sha256(chain[0]).digest())
    return Reply(replace(need.session, presented=presented), {Tag.CHAIN: encode_chain(chain)})


def after_ca_list(need: NeedCaList, trust: TrustSet) -> Reply:
    """
    The answer to GetCAList.

    Args:
        need: the decision that asked for it.
        trust: the trust set that it names.

    Raises:
        InputError: an anchor cannot be read.

    """
    return Reply(need.session, {Tag.CA_LIST: ca_list_of(trust)})


def after_signature(need: NeedSignature, *, output: bytes | None, key: bytes | None) -> Reply:
    """
    The answer to CryptData: the signature, or the key where the identity's configuration hands it over.
    """
    if key is not None:
        return Reply(need.session, {Tag.CRYPT_KEY: key})
    return Reply(need.session, {Tag.CRYPT_OUTPUT: output or b""})


def _handled(plan: Plan, phase: Phase, session: SessionContext | None = None) -> NotHandled | None:
    if phase not in plan.settings.service.phases:
        return NotHandled(session, f"the service leaves {phase.name} to the host")
    if session is not None and phase in session.rule.not_handled:
        return NotHandled(session, f"rule {session.rule.name!r} leaves {phase.name} to the host")
    return None


def _no_rule(key: RuleKey) -> str:
    return (
        f"no rule for direction {key.direction.value}, profile {key.profile!r}, "
        f"remote {key.remote or 'unknown'!r}, port {key.port}"
    )


def _refused(session: SessionContext | None, reason: Reason, detail: str) -> Refuse:
    after = None if session is None else replace(session, stage=Stage.REFUSED)
    return Refuse(after, reason, alert_for(reason), detail)


def _broken(session: SessionContext | None, detail: str) -> Fail:
    return Fail(None if session is None else replace(session, stage=Stage.BROKEN), detail)


def answer(request: Message, sequence: int, decision: Final) -> Frame:
    """
    The response frame of a final decision.

    Args:
        request: the request's message.
        sequence: the request's sequence.
        decision: final; FAILED always carries alert 80.

    Returns:
        A frame that `codec.encode` takes.

    """
    fields: dict[Tag, Value]
    match decision:
        case Reply():
            fields = {Tag.RESULT: int(Result.DONE), **decision.fields}
        case NotHandled():
            fields = {Tag.RESULT: int(Result.NOT_HANDLED), Tag.DETAIL: clip(Tag.DETAIL, decision.detail)}
        case Refuse():
            fields = {
                **decision.fields,
                Tag.RESULT: int(Result.REFUSED),
                Tag.ALERT: decision.alert,
                Tag.REASON: decision.reason.value,
                Tag.DETAIL: clip(Tag.DETAIL, decision.detail),
            }
        case Fail():
            fields = {
                Tag.RESULT: int(Result.FAILED),
                Tag.ALERT: int(Alert.INTERNAL_ERROR),
                Tag.DETAIL: clip(Tag.DETAIL, decision.detail),
            }
            if decision.verdict_id is not None:
                fields |= {
                    Tag.REASON: Reason.INTERNAL_ERROR.value,
                    Tag.VERDICT_ID: clip(Tag.VERDICT_ID, decision.verdict_id),
                }
        case _ as never:
            assert_never(never)
    return Frame(message=request, response=True, sequence=sequence, fields=fields)
