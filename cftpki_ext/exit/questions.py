"""
From a request to what is asked of the decision: the rule's key, who asked, the question itself.

Also the question of a refusal that nobody judged (no rule applies, a phase out of order, a failure of ours): it holds
the fault that refuses, so that the refusal has evidence like any other. Pure.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Limits, Rule, Settings, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import replace
from cftpki_ext.core.verdict import Fault, Reason
from cftpki_ext.core.vocabulary import Direction, Origin, PeerAddress, SourceKind
from cftpki_ext.decision.question import Question
from cftpki_ext.decision.rules import RuleKey, match
from cftpki_ext.evidence import Asked, Door
from cftpki_ext.exit.session import SessionContext, Stage, session_reference
from cftpki_ext.exit.steps import Fail, NeedVerdict, Refuse
from cftpki_ext.protocol.codec import FIELDS, Frame, Message, Mode, Tag
from cftpki_ext.protocol.tls_vectors import decode_chain

# Of a refusal without a rule: nobody is trusted, and nothing is judged by it.
_NO_TRUST = TrustSet(name="none", anchors=())
# What refuses a partner when it fails. The host tells of an alert or an end, it asks for nothing there.
_REFUSING = frozenset(
    {
        Message.START_HANDSHAKE,
        Message.GET_CERTIFICATE,
        Message.GET_CA_LIST,
        Message.CHECK_CERTIFICATE,
        Message.CRYPT_DATA,
        Message.HANDSHAKE_DONE,
        Message.CHECK,
    }
)


def rule_key(request: Frame) -> tuple[RuleKey, PeerAddress]:
    """
    What the rule is chosen by.

    Args:
        request: StartHandshake or CHECK.

    Returns:
        The key, and the partner's address; the port is the listening one in server mode, else the partner's.

    """
    server = request.number(Tag.MODE) == Mode.SERVER
    peer = PeerAddress(host=request.text(Tag.REMOTE_ADDRESS) or "", port=request.number(Tag.REMOTE_PORT) or 0)
    port = (request.number(Tag.LOCAL_PORT) or 0) if server else peer.port
    key = RuleKey(
        direction=Direction.SERVER if server else Direction.CLIENT,
        profile=request.text(Tag.PROFILE) or None,
        remote=peer.host,
        port=port,
    )
    return key, peer


def need_verdict(limits: Limits, session: SessionContext | None, rule: Rule, request: Frame) -> NeedVerdict:
    """
    The chain of a request, to be judged.

    What is refused without a look at certificates is judged all the same: the refusal has evidence.

    Args:
        limits: bounds of a chain.
        session: `None` for CHECK.
        rule: whose trust set judges.
        request: CheckCertificate or CHECK.

    Returns:
        The need.

    """
    message = request.raw(Tag.CHAIN) or b""
    need = NeedVerdict(
        session,
        rule,
        (),
        request.raw(Tag.STAPLE),
        _asked(session, request),
        message,
        fault=_withheld(request, message),
        staple_length=request.number(Tag.STAPLE_LENGTH),
    )
    if need.fault is not None:
        return need
    try:
        chain = decode_chain(
            message, max_bytes=limits.chain_bytes, max_certificates=limits.chain_certificates
        )
    except InputError:
        return need
    return replace(need, chain=chain, message=None)


def question_of(settings: Settings, need: NeedVerdict, *, at: datetime) -> Question:
    """
    What is asked about the chain of a session, or of CHECK.

    Args:
        settings: those in force; the rule's trust set is one of theirs.
        need: the decision that asks for a verdict.
        at: the time of judgement.

    Returns:
        The question.

    """
    return Question(
        chain=need.chain,
        direction=need.rule.direction,
        trust=settings.trusts[need.rule.trust],
        limits=settings.limits,
        at=at,
        rule=need.rule.name,
        partners=need.rule.partners,
        message=need.message,
        fault=need.fault,
    )


def handed_in(need: NeedVerdict, *, at: datetime) -> tuple[Statement, ...]:
    """
    What came with the chain: the staple, or that it was too long to come.
    """
    if need.staple_length is not None:
        detail = f"staple of {need.staple_length} bytes, and the protocol carries {FIELDS[Tag.STAPLE].cap}"
        raw, failure = None, Cause.TOO_LARGE
    elif need.staple:
        raw, failure, detail = need.staple, None, ""
    else:
        return ()
    return (
        Statement(
            kind=SourceKind.OCSP,
            origin=Origin.STAPLED,
            received_at=at,
            depth=0,
            raw=raw,
            failure=failure,
            detail=detail,
        ),
    )


def unjudged(
    settings: Settings,
    session: SessionContext | None,
    request: Frame | None,
    refusal: Refuse | Fail,
    *,
    at: datetime,
) -> tuple[Question, Asked] | None:
    """
    The question of a refusal that no judgement led to.

    Args:
        settings: those in force.
        session: as it was before the request.
        request: what was asked; `None` where it could not be read.
        refusal: the answer.
        at: when.

    Returns:
        Question and who asked; `None` where no partner is refused by it: the session was refused before, or
        it is over, or there never was one.

    """
    if request is None:
        if session is None or session.stage is not Stage.HANDSHAKE:
            return None
    elif request.message not in _REFUSING or (
        session is not None and session.stage in {Stage.REFUSED, Stage.BROKEN}
    ):
        return None
    key = rule_key(request)[0] if request is not None and Tag.MODE in request.fields else None
    if session is not None:
        rule: Rule | None = session.rule
    else:
        rule = match(settings.rules, key) if key is not None else None
    direction = rule.direction if rule else key.direction if key else Direction.SERVER
    reason = refusal.reason if isinstance(refusal, Refuse) else Reason.INTERNAL_ERROR
    what = request.message.name if request is not None else "a frame that cannot be read"
    question = Question(
        chain=(),
        direction=direction,
        trust=settings.trusts.get(rule.trust, _NO_TRUST) if rule else _NO_TRUST,
        limits=settings.limits,
        at=at,
        rule=rule.name if rule else None,
        message=request.raw(Tag.CHAIN) if request is not None else None,
        fault=Fault(reason=reason, depth=None, rule=what, detail=printable(refusal.detail)),
    )
    return question, _asked(session, request)


def _withheld(request: Frame, beginning: bytes) -> Fault | None:
    """
    The fault of a chain that is longer than the wire carries; its leaf is named where the beginning has it.
    """
    length, count = request.number(Tag.CHAIN_LENGTH), request.number(Tag.CHAIN_CERTIFICATES)
    if length is None:
        return None
    detail = f"chain of {length} bytes"
    if count is not None:
        detail += f" in {count} certificates"
    detail += f" is over the {FIELDS[Tag.CHAIN].cap} that the protocol carries"
    leaf = beginning[6 : 6 + int.from_bytes(beginning[3:6], "big")]
    if leaf and len(beginning) >= 6 + len(leaf) and int.from_bytes(beginning[3:6], "big") == len(leaf):
        detail += f"; sha256 of its leaf {sha256(leaf).hexdigest()}"
    return Fault(reason=Reason.UNDECODABLE, depth=None, rule="docs/protocol.md", detail=detail)


def asked_in(session: SessionContext) -> Asked:
    """
    Who asks in a session.
    """
    server = session.direction is Direction.SERVER
    return Asked(
        door=Door.EXIT,
        profile=session.profile,
        remote=session.peer.host,
        remote_port=session.peer.port,
        port=session.local_port if server else session.peer.port,
        host_task=session.host_task,
        host_session=session.host_session,
        session=session.reference,
    )


def _asked(session: SessionContext | None, request: Frame | None) -> Asked:
    if session is not None:
        return asked_in(session)
    if request is None:
        return Asked(door=Door.SOCKET)
    key, peer = rule_key(request)
    number = request.number(Tag.SESSION)
    return Asked(
        door=Door.SOCKET if request.message is Message.CHECK else Door.EXIT,
        profile=key.profile,
        remote=key.remote,
        remote_port=peer.port,
        port=key.port,
        host_task=request.number(Tag.HOST_TASK),
        host_session=request.number(Tag.HOST_SESSION),
        session=session_reference(number) if number is not None else None,
    )
