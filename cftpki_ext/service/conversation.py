"""
The driver of the phases: one conversation per connection, each call within one deadline, answered with a frame.

Owns the steps that a decision asks for, and the rule that any exception becomes FAILED with alert 80.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import traceback
from typing import assert_never

from cftpki_ext.core.errors import CftPkiError, InputError, WireError
from cftpki_ext.core.values import replace
from cftpki_ext.core.verdict import Status
from cftpki_ext.core.verdict_json import verdict_to_json
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Record, RecordBytes, row_of
from cftpki_ext.evidence.writer import PATIENCE_S, Counted, NotKept
from cftpki_ext.exit import phases, questions, steps
from cftpki_ext.exit.session import SessionContext, Stage
from cftpki_ext.exit.steps import Fail, Final, NotHandled, Refuse, Reply
from cftpki_ext.identity import HeldIdentity
from cftpki_ext.identity.serving.choose import leads_to
from cftpki_ext.identity.serving.keys import check, public_key
from cftpki_ext.protocol.codec import FIELDS, Frame, Message, Tag, Value, clip, encode
from cftpki_ext.protocol.tls_vectors import decode_ca_list
from cftpki_ext.service.deadline import Deadline
from cftpki_ext.service.judging.remote import Judged
from cftpki_ext.service.monitoring.fitting import fitting
from cftpki_ext.service.monitoring.measures import Tier, tier_of
from cftpki_ext.service.shared import Service
from cftpki_ext.support.files import read_regular

# Of the call's time, what is left for the answer itself once the evidence is kept.
ANSWER_S = 0.1
# What begins something gets a number that nobody can guess.
_BEGIN = frozenset({Message.START_TASK, Message.START_HANDSHAKE})


class Conversation:
    """
    One connection: at most one session, which lives exactly as long as this object is open.

    Calls to `answer` must not overlap.
    """

    def __init__(self, service: Service, deadline: Deadline) -> None:
        self._service = service
        self._deadline = deadline
        self._session: SessionContext | None = None
        self._held: HeldIdentity | None = None  # the generation whose chain was given, for CryptData
        self._begun = 0.0  # of the call under way
        self._descriptor: int | None = None  # that goes with the answer
        self._aside = False  # it was asked something that begins no session

    @property
    def session(self) -> SessionContext | None:
        """
        What is known of the session; `None` before StartHandshake.
        """
        return self._session

    @property
    def awaited(self) -> bool:
        """
        Whether the host is to say more: its handshake is under way, or about to begin.
        """
        return not self._aside if self._session is None else self._session.stage is Stage.HANDSHAKE

    def take_descriptor(self) -> int | None:
        """
        The descriptor that the last answer announces, now the caller's to send and close; `None`: it announces none.
        """
        descriptor, self._descriptor = self._descriptor, None
        return descriptor

    def close(self) -> None:
        """
        Forget the session: its connection is gone.
        """
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        session, self._session, self._held = self._session, None, None
        if session is None:
            return
        self._service.sessions -= 1
        if session.stage is Stage.HANDSHAKE:
            self._service.audit.event("session_lost", session)

    async def answer(self, request: Frame) -> bytes:
        """
        Answer one request. Never raises but for cancellation: whatever goes wrong is FAILED with alert 80.

        Args:
            request: of a decoded request frame.

        Returns:
            The response, encoded.

        """
        service = self._service
        service.requests[request.message.name.lower()] += 1
        before = self._session
        self._aside |= before is None and request.message is not Message.START_TASK
        limit_s = self._limit_s()
        self._begun = service.clock.monotonic()
        failed: Fail | None = None
        try:
            with self._deadline.within(limit_s):
                final = self._with_board(await self._run(request))
            raw = encode(phases.answer(request.message, request.sequence, final))
        except TimeoutError:
            service.log.warning("call_timed_out", message=request.message.name, limit_s=limit_s)
            failed = self._broken(f"no answer within {limit_s:g} s")
        except CftPkiError as error:
            # A broken world that we know: files, configuration. The message names it and holds no secrets.
            failed = self._failed(request, type(error).__name__, detail=str(error))
        except Exception as error:  # noqa: BLE001 - the boundary: nothing of ours may look like an answer
            # A plain traceback as text: renderers that add local variables would print keys and passwords.
            failed = self._failed(
                request, type(error).__name__, traceback="".join(traceback.format_exception(error))
            )
        if failed is not None:
            final = await self._account(request, failed)
            raw = encode(phases.answer(request.message, request.sequence, final))
        service.results[type(final).__name__.lower()] += 1
        service.measures.request(request.message.name.lower(), service.clock.monotonic() - self._begun)
        if final.session is not None:
            # A session ends with its connection and never before: messages outside sessions leave it as it is.
            service.sessions += before is None
            self._session = final.session
        return raw

    async def unreadable(self, error: WireError, sequence: int) -> bytes:
        """
        The one answer to bytes that are no request: FAILED, after which the connection is closed.

        Args:
            error: what is wrong with them.
            sequence: of the frame where it could be read, else 0.

        Returns:
            The response, encoded; its header carries our version. A session under way is refused by it, which
            is recorded.

        """
        self._begun = self._service.clock.monotonic()
        final = await self._account(None, self._broken(str(error)))
        if final.session is not None:
            self._session = final.session
        return encode(phases.answer(Message.UNREADABLE, sequence, final))

    def _failed(self, request: Frame, error: str, **fields: str) -> Fail:
        reference = secrets.token_hex(4)
        self._service.log.error(
            "call_failed", message=request.message.name, reference=reference, error=error, **fields
        )
        return self._broken(f"internal error, see {reference} in the service's log")

    def _broken(self, detail: str) -> Fail:
        session = self._session
        return Fail(None if session is None else replace(session, stage=Stage.BROKEN), detail)

    def _with_board(self, final: Final) -> Final:
        """
        An answer that announces a board, with its descriptor; where there is none any more, without either.
        """
        board = self._service.board
        if board is None or not isinstance(final, Reply) or Tag.BOARD not in final.fields:
            return final
        self._descriptor = board.hand_out()
        if self._descriptor is not None:
            return final
        fields: dict[Tag, Value] = {tag: value for tag, value in final.fields.items() if tag is not Tag.BOARD}
        return replace(final, fields=fields)

    async def _run(self, request: Frame) -> Final:
        service = self._service
        if request.message is Message.CHECK and self._session is None:
            known = service.known_checks.find(service.settings, request)
            if known is not None:
                return await self._judge(known)
        opening = request.message is Message.START_HANDSHAKE and self._session is None
        if opening and service.sessions >= service.settings.service.max_sessions:
            return Fail(None, f"{service.sessions} sessions are open, service.max_sessions allows no more")
        plan = phases.Plan(
            settings=service.settings,
            fresh=secrets.randbits(64) or 1 if request.message in _BEGIN else 0,
            board=service.board.format if service.board is not None else 0,
        )
        decision = phases.decide(plan, self._session, request)
        final: Final
        match decision:
            case Reply() | NotHandled() | Refuse() | Fail():
                final = decision
            case steps.NeedPassword():
                final = Reply(None, {**decision.fields, Tag.PASSWORD: await self._password()})
            case steps.NeedVerdict():
                return await self._judge(decision, request)
            case steps.NeedChain():
                final = await self._chain(decision)
            case steps.NeedCaList():
                final = phases.after_ca_list(decision, service.settings.trusts[decision.trust])
            case steps.NeedSignature():
                final = await self._sign(decision)
            case steps.NeedStatus():
                final = Reply(self._session, {Tag.JSON: fitting(service.status(), FIELDS[Tag.JSON].cap)})
            case _ as never:
                assert_never(never)
        service.trail.outcome(request, final)
        return await self._account(request, final) if isinstance(final, Refuse | Fail) else final

    async def _judge(self, need: steps.NeedVerdict, asked_by: Frame | None = None) -> Final:
        service = self._service
        settings, rule = service.settings, need.rule
        now = service.clock.now()
        question = questions.question_of(settings, need, at=now)
        final: Reply | Refuse
        judged, kept = await self._judge_and_keep(need, question)
        if kept is NotKept.GONE:
            judged, kept = await self._judge_and_keep(need, question)
        verdict = judged.verdict
        row = row_of(verdict, need.asked)
        if isinstance(kept, NotKept) and settings.evidence.required:
            final = phases.after_unkept(need, verdict)
            row = replace(row, status=Status.REFUSED.value, reason=final.reason.value)
            service.audit.event(
                "verdict_refused_without_evidence", final.session, verdict_id=verdict.id, alert=final.alert
            )
        else:
            final = phases.after_verdict(need, verdict)
        service.verdicts.add(row)
        service.measures.verdict(row, tier_of(judged), service.clock.monotonic() - self._begun)
        # A verdict that was overruled for want of evidence is not told as if it stood.
        if need.session is None and Tag.VERDICT_ID in final.fields:
            extra: dict[Tag, Value] = {
                Tag.RULE: clip(Tag.RULE, rule.name),
                Tag.POLICY: clip(Tag.POLICY, verdict.evidence.policy),
                Tag.JSON: _text(judged),
            }
            if verdict.accepted and asked_by is not None:
                service.known_checks.add(settings, asked_by, need)
            final = replace(final, fields={**final.fields, **extra})
        return final

    async def _judge_and_keep(
        self, need: steps.NeedVerdict, question: Question
    ) -> tuple[Judged, str | NotKept | Counted]:
        checker = self._service.checker
        judged = await checker.judge(question, questions.handed_in(need, at=question.at), asked=need.asked)
        record = Record(
            question=question, statements=judged.statements, verdict=judged.verdict, asked=need.asked
        )
        kept = await self._keep(record, need.session, stored=judged.stored)
        checker.recorded(judged, question, kept=not isinstance(kept, NotKept))
        if isinstance(kept, Counted):
            # Whoever looks for it finds the one that it is the same as.
            judged = replace(judged, verdict=replace(judged.verdict, id=kept.of), text=None)
        return judged, kept

    async def _keep(
        self,
        record: Record,
        session: SessionContext | None,
        *,
        stored: RecordBytes | None = None,
        over_s: float = 0.0,
    ) -> str | NotKept | Counted:
        """
        Keep a verdict's record and log it, before the verdict is answered.

        Args:
            record: of the verdict.
            session: whose it is.
            stored: its stored form, where the judge has made it.
            over_s: what may be taken beyond the call's own time: the exit waits a little longer.

        Returns:
            The record's hash, or why it is not known to be kept.

        """
        service = self._service
        elapsed_s = service.clock.monotonic() - self._begun
        left_s = self._limit_s() + over_s - elapsed_s - ANSWER_S
        kept = await service.keeper.keep(record, stored, patience_s=min(PATIENCE_S, left_s), large_s=left_s)
        if kept is NotKept.GONE or isinstance(kept, Counted):
            return (
                kept  # it is not given: the question is judged anew; or it is counted, and not told each time
            )
        digest = None if isinstance(kept, NotKept) else kept
        service.audit.verdict(record.verdict, session, elapsed_ms=int(elapsed_s * 1000), record=digest)
        return kept

    async def _account(self, request: Frame | None, refusal: Refuse | Fail) -> Refuse | Fail:
        """
        Keep the evidence of a refusal that no judgement led to, and put its id into the answer.

        Never raises: the refusal stands, whatever becomes of its record.
        """
        service = self._service
        try:
            found = questions.unjudged(
                service.settings, self._session, request, refusal, at=service.clock.now()
            )
            if found is None:
                return refusal
            question, asked = found
            verdict = (await service.checker.judge(question)).verdict
            record = Record(question=question, statements=(), verdict=verdict, asked=asked)
            kept = await self._keep(record, self._session, over_s=phases.EXIT_SLACK_MS / 1000)
            if isinstance(kept, Counted):
                verdict = replace(verdict, id=kept.of)
            row = row_of(verdict, asked)
            service.verdicts.add(row)
            service.measures.verdict(row, Tier.NONE)
        except Exception as error:  # noqa: BLE001 - as in `answer`: the refusal must be answered
            # No traceback: renderers that add local variables would print keys and passwords.
            service.log.error("refusal_not_recorded", error=repr(error), detail=refusal.detail)  # noqa: TRY400
            return refusal
        if isinstance(refusal, Fail):
            return replace(refusal, verdict_id=verdict.id)
        return replace(refusal, fields={**refusal.fields, Tag.VERDICT_ID: clip(Tag.VERDICT_ID, verdict.id)})

    def _limit_s(self) -> float:
        return (self._service.settings.limits.budget_ms + phases.CALL_SLACK_MS) / 1000

    async def _chain(self, need: steps.NeedChain) -> Final:
        held = await self._service.identities.current(need.identity)
        # An empty field is a list that was not sent; a list without names is `01 01 00 00`. Both mean any CA.
        names = decode_ca_list(need.ca_list) if need.ca_list else ()
        fits = leads_to(held.chain, names)
        self._held = held if fits else None
        ders = tuple(certificate.der for certificate in held.chain) if fits else ()
        return phases.after_chain(need, ders, held.generation)

    async def _sign(self, need: steps.NeedSignature) -> Final:
        held = self._held
        if held is None:
            return self._broken("the presented identity is not at hand")
        try:
            # Before any key is asked for it, or given away.
            check(public_key(held.chain[0].spki), need.scheme, need.data)
            if held.hand_over_key:
                return phases.after_signature(need, output=None, key=await held.key.export())
            output = await held.key.sign(need.scheme, need.data)
        except InputError as error:
            return self._broken(str(error))
        return phases.after_signature(need, output=output, key=None)

    async def _password(self) -> bytes:
        path = self._service.settings.service.datafile_password_file
        if path is None:
            return b""
        content = await asyncio.to_thread(
            read_regular, path, cap=FIELDS[Tag.PASSWORD].cap + 2, what="datafile password"
        )
        password = content.data.rstrip(b"\r\n")
        if not password or b"\0" in password or len(password) > FIELDS[Tag.PASSWORD].cap:
            msg = f"datafile password in {path}: 1 to {FIELDS[Tag.PASSWORD].cap} bytes without NUL expected"
            raise InputError(msg)
        return password


def _text(judged: Judged) -> str:
    most = FIELDS[Tag.JSON].cap
    if judged.text is not None and len(judged.text) <= most:
        return judged.text
    return verdict_to_json(judged.verdict, octets=most)


def unreadable(error: WireError, sequence: int) -> bytes:
    """
    The one answer to bytes that are no request: FAILED, after which the connection is closed.

    Args:
        error: what is wrong with them.
        sequence: of the frame where it could be read, else 0.

    Returns:
        The response, encoded; its header carries our version.

    """
    return encode(phases.answer(Message.UNREADABLE, sequence, Fail(None, str(error))))
