"""
What the audit trail says of each phase besides verdicts, and how often each key was used.
"""

from __future__ import annotations

from collections import defaultdict
from typing import assert_never

from cftpki_ext.exit.session import session_reference
from cftpki_ext.exit.steps import Fail, Final, NotHandled, Refuse, Reply
from cftpki_ext.identity.serving.doors import DoorsHeard
from cftpki_ext.ports.clock import Clock
from cftpki_ext.protocol.codec import Frame, Message, Tag
from cftpki_ext.service.audit import AuditSink
from cftpki_ext.service.key_use import KeyUse, KeyUses


class Trail:
    """
    Tells an audit sink the outcome of requests.
    """

    def __init__(self, audit: AuditSink, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock
        # By identity; names come from the configuration, so there are never many.
        self._key_uses: defaultdict[str, KeyUses] = defaultdict(KeyUses)

    def key_uses(self) -> dict[str, object]:
        """
        The counts of each identity's key as plain data.
        """
        now_s = self._clock.monotonic()
        return {name: uses.counts(at_s=now_s) for name, uses in sorted(self._key_uses.items())}

    def outcome(self, request: Frame, final: Final) -> None:
        """
        Write what became of a request that asked for no verdict.

        Args:
            request: what was asked.
            final: the answer; what the host's own PKI is left to decide is not written.

        """
        audit = self._audit
        name = request.message.name.lower()
        match final:
            case Refuse() | Fail():
                reason = final.reason.value if isinstance(final, Refuse) else "failed"
                audit.event(f"{name}_refused", final.session, reason=reason, detail=final.detail)
            case Reply():
                self._done(request, final)
            case NotHandled():
                pass
            case _ as never:
                assert_never(never)

    def at_signer(self, heard: DoorsHeard) -> None:
        """
        Write what hosts did at a signer's own sockets.

        Args:
            heard: as the signer told it, shortly after.

        """
        lines = []
        for use in heard.uses:
            counted = self._counted(
                KeyUse(use.use), identity=use.identity, generation=use.generation, scheme=use.scheme
            )
            # Joins this line to the others of its session.
            about = {"session_ref": session_reference(use.session), "user": use.user}
            lines.append(("key_used", counted | about))
        if lines:
            self._audit.many(lines)
        now_s = self._clock.monotonic()
        if heard.untold:
            self._key_uses[heard.identity].add(KeyUse.SIGNED, at_s=now_s, count=heard.untold)
            self._audit.event("key_uses_not_told", None, identity=heard.identity, uses=heard.untold)
        for user, connections in sorted(heard.strangers.items()):
            self._audit.event(
                "signer_connection_refused", None, identity=heard.identity, user=user, connections=connections
            )

    def _done(self, request: Frame, final: Reply) -> None:
        audit = self._audit
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
                self._key_use(request, final)
            case _:
                pass

    def _key_use(self, request: Frame, final: Reply) -> None:
        presented = final.session.presented if final.session else None
        if presented is None:
            return
        use = KeyUse.HANDED_OVER if Tag.CRYPT_KEY in final.fields else KeyUse.SIGNED
        scheme = request.number(Tag.CRYPT_SCHEME) or 0
        fields = self._counted(use, identity=presented.name, generation=presented.generation, scheme=scheme)
        self._audit.event("key_used", final.session, **fields)

    def _counted(self, use: KeyUse, *, identity: str, generation: int, scheme: int) -> dict[str, object]:
        """
        Count a use; what its line says.
        """
        now_s = self._clock.monotonic()
        uses = self._key_uses[identity]
        uses.add(use, at_s=now_s)
        return {
            "identity": identity,
            "generation": generation,
            "use": use.value,
            "scheme": f"0x{scheme:04x}",
            "uses_last_minute": uses.last_minute(at_s=now_s),
        }
