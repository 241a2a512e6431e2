"""
The driver of the phases: fetches what a decision needs, within one deadline, and answers with a frame.

Owns conversations (one per connection), counters and the rule that any exception becomes FAILED with alert 80.
Imports phases, wire, decide, evidence, keeper, key_use, identity, audit and ports; never connectors or cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from typing import Protocol, assert_never

from structlog.typing import FilteringBoundLogger

from cftpki_ext import decisions, phases
from cftpki_ext.audit import AuditSink
from cftpki_ext.decide import Question
from cftpki_ext.decisions import Fail, Final, NotHandled, Refuse, Reply
from cftpki_ext.errors import CftPkiError, InputError, KeyUnavailableError, WireError
from cftpki_ext.evidence import Record, Tally, row_of
from cftpki_ext.files import read_regular
from cftpki_ext.identity import HeldIdentity, IdentityProvider
from cftpki_ext.identity.choose import leads_to
from cftpki_ext.identity.keys import export_pkcs8, sign
from cftpki_ext.keeper import PATIENCE_S, EvidenceKeeper
from cftpki_ext.key_use import KeyUse, KeyUses
from cftpki_ext.model import Origin, SourceKind
from cftpki_ext.ports import Clock
from cftpki_ext.session import SessionContext, Stage, session_reference
from cftpki_ext.settings import Settings
from cftpki_ext.statement import Statement
from cftpki_ext.tls_formats import decode_ca_list
from cftpki_ext.verdict import Status, Verdict
from cftpki_ext.verdict_json import verdict_to_json
from cftpki_ext.wire import FIELDS, Frame, Message, Tag, Value, clip, encode
from cftpki_ext.x509.certificate import parse_certificate

# An RSA-2048 signature takes a millisecond of CPU outside the interpreter's lock; more threads than cores gain nothing.
SIGNING_THREADS = 2
# Of the call's time, what is left for the answer itself once the evidence is kept.
ANSWER_S = 0.1


class Checker(Protocol):
    """
    Judges chains (`cftpki_ext.checker.Checker`).
    """

    async def check_with_statements(
        self, question: Question, handed_in: Sequence[Statement] = ()
    ) -> tuple[Verdict, tuple[Statement, ...]]:
        """
        Judge one chain, and give the statements that the verdict rests on.
        """


class Service:
    """
    What all conversations share: settings, checker, identities, audit trail, counters. For one event loop.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        checker: Checker,
        identities: IdentityProvider,
        audit: AuditSink,
        keeper: EvidenceKeeper,
        log: FilteringBoundLogger,
        clock: Clock,
        certificates: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        self.settings = settings
        self.checker = checker
        self.identities = identities
        self.audit = audit
        self.keeper = keeper
        self.log = log
        self.clock = clock
        self.requests: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.verdicts = Tally()
        # By identity; names come from the configuration, so there are never many.
        self.key_uses: defaultdict[str, KeyUses] = defaultdict(KeyUses)
        self.sessions = 0
        self.signers = ThreadPoolExecutor(SIGNING_THREADS, thread_name_prefix="sign")
        self._certificates = certificates
        self._started = clock.monotonic()

    def status(self) -> dict[str, object]:
        """
        The service's own state, for STATUS.

        Returns:
            Plain data: version, seconds since start, open sessions, counters, names of what is configured.

        """
        return {
            "version": version("cftpki-ext"),
            "uptime_s": int(self.clock.monotonic() - self._started),
            "sessions": self.sessions,
            "max_sessions": self.settings.service.max_sessions,
            "requests": dict(self.requests),
            "results": dict(self.results),
            "verdicts": self.verdicts.counts(),
            "evidence": self.keeper.status(),
            "rules": [rule.name for rule in self.settings.rules],
            "trusts": sorted(self.settings.trusts),
            "identities": sorted(self.settings.identities),
            "key_uses": {
                name: uses.counts(at_s=self.clock.monotonic()) for name, uses in sorted(self.key_uses.items())
            },
            # Of those that enrollers keep: until when each can live without its CA, and what troubles it.
            "certificates": dict(self._certificates()),
        }

    async def warm(self) -> None:
        """
        Load every identity before the first handshake needs it; the provider logs those that cannot be used.
        """
        for name in self.settings.identities:
            with contextlib.suppress(KeyUnavailableError):
                await self.identities.current(name)

    def replace_settings(self, settings: Settings) -> None:
        """
        Take over a new configuration: rules, trust sets, policies, limits and identities from the next call on.

        A session keeps the rule that it was matched by; the trust set of that rule is looked up anew.

        Args:
            settings: checked.

        """
        self.settings = settings
        self.identities.replace(settings.identities)

    def close(self) -> None:
        """
        Let the signing threads end; operations under way are finished first.
        """
        self.signers.shutdown()


class Conversation:
    """
    One connection: at most one session, which lives exactly as long as this object is open.

    Calls to `answer` must not overlap.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._session: SessionContext | None = None
        self._held: HeldIdentity | None = None  # the generation whose chain was given, for CryptData

    @property
    def session(self) -> SessionContext | None:
        """
        What is known of the session; `None` before StartHandshake.
        """
        return self._session

    def close(self) -> None:
        """
        Forget the session: its connection is gone.
        """
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
        limit_s = (service.settings.limits.budget_ms + phases.CALL_SLACK_MS) / 1000
        try:
            async with asyncio.timeout(limit_s):
                final = await self._run(request)
            raw = encode(phases.answer(request.message, request.sequence, final))
        except TimeoutError:
            service.log.warning("call_timed_out", message=request.message.name, limit_s=limit_s)
            final = self._broken(f"no answer within {limit_s:g} s")
            raw = encode(phases.answer(request.message, request.sequence, final))
        except CftPkiError as error:
            # A broken world that we know: files, configuration. The message names it and holds no secrets.
            final = self._failed(request, type(error).__name__, detail=str(error))
            raw = encode(phases.answer(request.message, request.sequence, final))
        except Exception as error:  # noqa: BLE001 - the boundary: nothing of ours may look like an answer
            # A plain traceback as text: renderers that add local variables would print keys and passwords.
            final = self._failed(
                request, type(error).__name__, traceback="".join(traceback.format_exception(error))
            )
            raw = encode(phases.answer(request.message, request.sequence, final))
        service.results[type(final).__name__.lower()] += 1
        if final.session is not None:
            # A session ends with its connection and never before: messages outside sessions leave it as it is.
            service.sessions += before is None
            self._session = final.session
        return raw

    def _failed(self, request: Frame, error: str, **fields: str) -> Fail:
        reference = secrets.token_hex(4)
        self._service.log.error(
            "call_failed", message=request.message.name, reference=reference, error=error, **fields
        )
        return self._broken(f"internal error, see {reference} in the service's log")

    def _broken(self, detail: str) -> Fail:
        session = self._session
        return Fail(None if session is None else replace(session, stage=Stage.BROKEN), detail)

    async def _run(self, request: Frame) -> Final:
        service = self._service
        opening = request.message is Message.START_HANDSHAKE and self._session is None
        if opening and service.sessions >= service.settings.service.max_sessions:
            return Fail(None, f"{service.sessions} sessions are open, service.max_sessions allows no more")
        plan = phases.Plan(settings=service.settings, fresh=secrets.randbits(64) or 1)
        decision = phases.decide(plan, self._session, request)
        final: Final
        match decision:
            case Reply() | NotHandled() | Refuse() | Fail():
                final = decision
            case decisions.NeedPassword():
                final = Reply(None, {**decision.fields, Tag.PASSWORD: await self._password()})
            case decisions.NeedVerdict():
                return await self._judge(decision)
            case decisions.NeedChain():
                final = await self._chain(decision)
            case decisions.NeedCaList():
                trust = service.settings.trusts[decision.trust]
                names = tuple(
                    parse_certificate(der, compat=trust.compat).subject.der for der in trust.anchors
                )
                final = phases.after_ca_list(decision, names)
            case decisions.NeedSignature():
                final = await self._sign(decision)
            case decisions.NeedStatus():
                final = Reply(self._session, {Tag.JSON: json.dumps(service.status())})
            case _ as never:
                assert_never(never)
        self._record(request, final)
        return final

    async def _judge(self, need: decisions.NeedVerdict) -> Final:
        service = self._service
        settings, rule = service.settings, need.rule
        begun = service.clock.monotonic()
        now = service.clock.now()
        question = phases.question_of(settings, need, at=now)
        final: Reply | Refuse
        handed_in: tuple[Statement, ...] = ()
        if need.staple:
            handed_in = (
                Statement(
                    kind=SourceKind.OCSP, origin=Origin.STAPLED, received_at=now, hop=0, raw=need.staple
                ),
            )
        verdict, statements = await service.checker.check_with_statements(question, handed_in)
        elapsed_s = service.clock.monotonic() - begun
        record = Record(question=question, statements=statements, verdict=verdict, asked=need.asked)
        left_s = (settings.limits.budget_ms + phases.CALL_SLACK_MS) / 1000 - elapsed_s - ANSWER_S
        kept = await service.keeper.keep(record, patience_s=min(PATIENCE_S, left_s))
        service.audit.verdict(verdict, need.session, elapsed_ms=int(elapsed_s * 1000), record=kept)
        row = row_of(verdict, need.asked)
        if kept is None and settings.evidence.required:
            final = phases.after_unkept(need, verdict)
            row = replace(row, status=Status.REFUSED.value, reason=final.reason.value)
            service.audit.event(
                "verdict_refused_without_evidence", final.session, verdict_id=verdict.id, alert=final.alert
            )
        else:
            final = phases.after_verdict(need, verdict)
        service.verdicts.add(row)
        # A verdict that was overruled for want of evidence is not told as if it stood.
        if need.session is None and Tag.VERDICT_ID in final.fields:
            extra: dict[Tag, Value] = {
                Tag.RULE: clip(Tag.RULE, rule.name),
                Tag.POLICY: clip(Tag.POLICY, verdict.evidence.policy),
                Tag.JSON: verdict_to_json(verdict, octets=FIELDS[Tag.JSON].cap),
            }
            final = replace(final, fields={**final.fields, **extra})
        return final

    async def _chain(self, need: decisions.NeedChain) -> Final:
        held = await self._service.identities.current(need.identity)
        # An empty field is a list that was not sent; a list without names is `01 01 00 00`. Both mean any CA.
        names = decode_ca_list(need.ca_list) if need.ca_list else ()
        fits = leads_to(held.chain, names)
        self._held = held if fits else None
        ders = tuple(certificate.der for certificate in held.chain) if fits else ()
        return phases.after_chain(need, ders, held.generation)

    async def _sign(self, need: decisions.NeedSignature) -> Final:
        held = self._held
        if held is None:
            return self._broken("the presented identity is not at hand")
        if held.hand_over_key:
            return phases.after_signature(need, output=None, key=export_pkcs8(held.key))
        loop = asyncio.get_running_loop()
        try:
            output = await loop.run_in_executor(self._service.signers, sign, held.key, need.scheme, need.data)
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

    def _record(self, request: Frame, final: Final) -> None:
        audit = self._service.audit
        name = request.message.name.lower()
        match final:
            case Refuse() | Fail():
                reason = final.reason.value if isinstance(final, Refuse) else "failed"
                if isinstance(final, Refuse):
                    # Refused before any chain came: no rule applies.
                    self._service.verdicts.refused[final.reason.value] += 1
                audit.event(f"{name}_refused", final.session, reason=reason, detail=final.detail)
            case Reply():
                self._record_done(request, final)
            case NotHandled():
                pass
            case _ as never:
                assert_never(never)

    def _record_done(self, request: Frame, final: Reply) -> None:
        audit = self._service.audit
        match request.message:
            case Message.HANDSHAKE_ALERT:
                side = "host" if request.number(Tag.ALERT_SIDE) == 1 else "partner"
                audit.event("handshake_alert", final.session, alert=request.number(Tag.ALERT), side=side)
            case Message.HANDSHAKE_DONE:
                verdict_id = final.session.verdict_id if final.session else None
                audit.event("handshake_done", final.session, verdict_id=verdict_id)
            case Message.START_TASK | Message.END_TASK:
                audit.event(request.message.name.lower(), None, host_task=request.number(Tag.HOST_TASK))
            case Message.END_SESSION:
                # Its state went with its connection; the reference joins this line to the others.
                audit.event(
                    "end_session", None, session_ref=session_reference(request.number(Tag.SESSION) or 0)
                )
            case Message.GET_CERTIFICATE:
                presented = final.session.presented if final.session else None
                audit.event(
                    "certificate_given" if presented else "no_certificate_given",
                    final.session,
                    identity=presented.name if presented else None,
                    generation=presented.generation if presented else None,
                )
            case Message.CRYPT_DATA:
                self._record_key_use(request, final)
            case _:
                pass

    def _record_key_use(self, request: Frame, final: Reply) -> None:
        presented = final.session.presented if final.session else None
        if presented is None:
            return
        now_s = self._service.clock.monotonic()
        uses = self._service.key_uses[presented.name]
        use = KeyUse.HANDED_OVER if Tag.CRYPT_KEY in final.fields else KeyUse.SIGNED
        uses.add(use, at_s=now_s)
        self._service.audit.event(
            "key_used",
            final.session,
            identity=presented.name,
            generation=presented.generation,
            use=use.value,
            scheme=f"0x{request.number(Tag.CRYPT_SCHEME) or 0:04x}",
            uses_last_minute=uses.last_minute(at_s=now_s),
        )


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
