"""
Whom we believe: the first contact, what /cacerts said since, and what happens when the CA changes its root.

Owns the use of the two trust anchor databases of RFC 7030 3.6 (implicit, explicit).
"""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from cftpki_connectors.ca import anchors
from cftpki_connectors.ca.anchors import Kept
from cftpki_connectors.ca.certs_only import MalformedBodyError
from cftpki_connectors.ca.client import CaAnswer, CaClient, CaError, fetch_pinned, fetch_unverified
from cftpki_connectors.ca.identity_files import roots_in
from cftpki_connectors.ca.said import first_line
from cftpki_connectors.est import answers, encoding
from cftpki_connectors.est.encoding import Certificates
from cftpki_connectors.est.options import EstOptions, ServerTrust
from cftpki_connectors.support import threads
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import EnrollerContext, Fault, Held
from cftpki_ext.support.logs import event_log

# Changes of roots that wait to be told with the next certificate.
MAX_EVENTS = 8

_CACERTS = "cacerts"
_IMPLICIT_HINT = (
    "if the server's TLS certificate comes from another CA than the one that it enrols for, set "
    'implicit_roots and server_trust = "implicit"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """
    A CA as far as it is known now.

    `server_roots` judge the server's TLS certificate (`None`: the system's). `roots` are the CA's anchors,
    `certificates` all of /cacerts. `fresh` says that the server itself said so just now.
    """

    server_roots: tuple[bytes, ...] | None
    roots: tuple[bytes, ...]
    certificates: tuple[bytes, ...]
    fresh: bool
    notes: tuple[str, ...] = ()


class Trust:
    """
    The trust in one EST server.

    By default the first /cacerts is believed because of the implicit roots or the pinned fingerprint; from
    then on its own roots judge the server, and every later change of them must come over a channel that the
    known ones verify, or be signed by one of them.
    """

    def __init__(self, options: EstOptions, context: EnrollerContext) -> None:
        self._options = options
        self._context = context
        # Kept certificates count for this server and this way of trusting it only.
        said = (options.base, options.fingerprint, str(options.implicit_roots), options.system_roots)
        self._source = hashlib.sha256(repr(said).encode()).hexdigest()
        self._events: tuple[str, ...] = ()
        self._log = event_log(enroller=context.name)

    async def domain(self, *, identity: Held | None, deadline: float) -> Domain:
        """
        Ask for /cacerts and learn what is new.

        Where the server does not answer that now, what is kept holds.

        Args:
            identity: shown to a verified server that wants a certificate of everybody (RFC 7030 4.1 does not).
            deadline: monotonic seconds.

        Raises:
            CaError: the server is not trusted or was not heard, and nothing is kept.

        """
        if self._options.explicit_roots is not None:
            found = await self._provisioned(self._options.explicit_roots, identity, deadline)
        else:
            kept = await threads.call(lambda: anchors.load(self._context.state, self._source))
            if kept is None:
                found = await self._first_contact(identity, deadline)
            else:
                found = await self._refresh(kept, identity, deadline)
        return replace(found, notes=tuple(dict.fromkeys((*self._events, *found.notes))))

    async def kept(self) -> tuple[bytes, ...]:
        """
        The CA's roots as they are known without asking the server.

        Raises:
            CaError: explicit_roots cannot be read.

        """
        path = self._options.explicit_roots
        if path is not None:
            return await threads.call(lambda: roots_in(path, "explicit_roots"))
        kept = await threads.call(lambda: anchors.load(self._context.state, self._source))
        return () if kept is None else kept.roots

    def told(self) -> None:
        """
        The notes of a domain have reached the operator: a change of roots need not be told again.
        """
        self._events = ()

    def _happened(self, *notes: str) -> None:
        for note in notes:
            self._log.warning("est.roots", what=note)
        self._events = tuple(dict.fromkeys((*self._events, *notes)))[-MAX_EVENTS:]

    async def _provisioned(self, path: Path, identity: Held | None, deadline: float) -> Domain:
        """
        The operator says which roots the CA has; /cacerts only completes chains.
        """
        roots = await threads.call(lambda: roots_in(path, "explicit_roots"))
        server_roots = await self._implicit() if self._stays_implicit else roots
        try:
            received = await self._fetch(server_roots, identity, deadline)
        except CaError as error:
            if error.untrusted:
                detail = f"{error.detail}; it is judged by explicit_roots; {_IMPLICIT_HINT}"
                raise CaError(Fault.MISCONFIGURED, detail, untrusted=True) from error
            note = f"/cacerts was not had: {error.detail}"
            return Domain(
                server_roots=server_roots, roots=roots, certificates=roots, fresh=False, notes=(note,)
            )
        now = self._context.clock.now()
        missing = [one for one in anchors.anchors(received.ders, now) if one not in roots]
        notes = [f"/cacerts has a root that explicit_roots lacks: {anchors.describe(one)}" for one in missing]
        return Domain(
            server_roots=server_roots,
            roots=roots,
            certificates=tuple(dict.fromkeys((*received.ders, *roots))),
            fresh=True,
            notes=(*received.notes, *notes),
        )

    async def _first_contact(self, identity: Held | None, deadline: float) -> Domain:
        """
        RFC 7030 4.1.1: the first /cacerts, by implicit trust or a fingerprint.
        """
        server_roots, pinned = await self._first_roots(deadline)
        received = await self._fetch(server_roots, identity, deadline)
        now = self._context.clock.now()
        roots = anchors.anchors(received.ders, now)
        if pinned is not None:
            roots = tuple(dict.fromkeys((pinned, *roots)))
        elif self._options.fingerprint is not None and not _has(received, self._options.fingerprint):
            detail = f"/cacerts holds no certificate with the fingerprint {self._options.fingerprint}"
            raise CaError(Fault.MISCONFIGURED, detail)
        if not roots:
            raise CaError(Fault.MISCONFIGURED, "/cacerts holds no CA certificate that is valid now")
        notes = [*received.notes]
        if not self._stays_implicit:
            if server_roots != roots:
                await self._prove(roots, identity, deadline)
            server_roots = roots
        shown = "; ".join(anchors.describe(one) for one in roots)
        self._happened(f"first contact: the CA's roots are believed from now on: {shown}")
        await self._keep(roots, received.ders)
        return Domain(
            server_roots=server_roots,
            roots=roots,
            certificates=received.ders,
            fresh=True,
            notes=tuple(notes),
        )

    async def _first_roots(self, deadline: float) -> tuple[tuple[bytes, ...] | None, bytes | None]:
        """
        What judges the server at the first contact, and the pinned certificate if one does.
        """
        fingerprint = self._options.fingerprint
        if fingerprint is None or self._stays_implicit:
            return await self._implicit(), None
        pinned = await fetch_pinned(
            answers.get(self._options, _CACERTS),
            fingerprint=fingerprint,
            certificates=lambda answer: _certificates(answer).ders,
            clock=self._context.clock,
            deadline=deadline,
            proxy=self._options.proxy,
        )
        return (pinned,), pinned

    async def _prove(self, roots: tuple[bytes, ...], identity: Held | None, deadline: float) -> None:
        """
        Make sure that we shall still talk to the server once these roots judge it.
        """
        try:
            await self._fetch(roots, identity, deadline)
        except CaError as error:
            if not error.untrusted:
                raise
            detail = f"{error.detail} by the roots in its own /cacerts, which judge it from now on; {_IMPLICIT_HINT}"
            raise CaError(Fault.MISCONFIGURED, detail, untrusted=True) from error

    async def _refresh(self, kept: Kept, identity: Held | None, deadline: float) -> Domain:
        """
        The same CA again, perhaps with another root.
        """
        believed = kept.roots
        server_roots = await self._implicit() if self._stays_implicit else believed
        try:
            received = await self._fetch(server_roots, identity, deadline)
        except CaError as error:
            if error.untrusted and not self._stays_implicit:
                believed = (*believed, *await self._vouched(believed, error, deadline))
                server_roots = believed
                received = await self._fetch(server_roots, identity, deadline)
            else:
                note = f"/cacerts was not had, what is kept holds: {error.detail}"
                return Domain(
                    server_roots=server_roots,
                    roots=kept.roots,
                    certificates=kept.certificates,
                    fresh=False,
                    notes=(note,),
                )
        now = self._context.clock.now()
        # Whoever lists no root at all is not believed to have dropped them.
        roots = anchors.anchors(received.ders, now) or believed
        notes = [*received.notes]
        if not self._stays_implicit:
            if set(roots) != set(believed) and not await self._judges(roots, identity, deadline):
                roots = tuple(dict.fromkeys((*roots, *believed)))
                notes.append("the server's TLS certificate is still from a former root, which is kept")
            server_roots = roots
        if roots != kept.roots or received.ders != kept.certificates:
            await self._keep(roots, received.ders)
            self._happened(*anchors.changes(kept.roots, roots, received.ders, now))
        return Domain(
            server_roots=server_roots,
            roots=roots,
            certificates=received.ders,
            fresh=True,
            notes=tuple(notes),
        )

    async def _vouched(
        self, believed: tuple[bytes, ...], error: CaError, deadline: float
    ) -> tuple[bytes, ...]:
        """
        The roots behind a server's certificate that we cannot verify, if a root that we know vouches for them.
        """
        answer = await fetch_unverified(
            answers.get(self._options, _CACERTS),
            clock=self._context.clock,
            deadline=deadline,
            proxy=self._options.proxy,
        )
        new = anchors.proven(believed, _certificates(answer).ders, self._context.clock.now())
        if not new:
            detail = (
                f"{error.detail}; it does not lead to the roots kept from /cacerts, and none of those signed a "
                f"new one. If the CA was set up anew, remove {self._context.state / anchors.FILE_NAME}; "
                f"{_IMPLICIT_HINT}"
            )
            raise CaError(Fault.MISCONFIGURED, detail, untrusted=True) from error
        return new

    async def _judges(self, roots: tuple[bytes, ...], identity: Held | None, deadline: float) -> bool:
        try:
            await self._fetch(roots, identity, deadline)
        except CaError as error:
            if error.untrusted:
                return False
            raise
        return True

    async def _fetch(
        self, server_roots: tuple[bytes, ...] | None, identity: Held | None, deadline: float
    ) -> Certificates:
        client = CaClient(
            clock=self._context.clock, roots=server_roots, identity=identity, proxy=self._options.proxy
        )
        async with aclosing(client):
            answer = await client.send(answers.get(self._options, _CACERTS), deadline=deadline)
        return _certificates(answer)

    async def _implicit(self) -> tuple[bytes, ...] | None:
        path = self._options.implicit_roots
        if path is None:
            return None
        return await threads.call(lambda: roots_in(path, "implicit_roots"))

    async def _keep(self, roots: tuple[bytes, ...], certificates: tuple[bytes, ...]) -> None:
        kept = Kept(source=self._source, roots=roots, certificates=certificates)
        try:
            await threads.call(lambda: anchors.save(self._context.state, kept))
        except StoreError as error:
            raise CaError(Fault.MISCONFIGURED, f"the CA's certificates cannot be kept: {error}") from error

    @property
    def _stays_implicit(self) -> bool:
        return self._options.server_trust is ServerTrust.IMPLICIT


def _certificates(answer: CaAnswer) -> Certificates:
    if answer.status != 200:
        said = first_line(answer)
        # A plain GET of what everybody may read: where that is wrong, an operator has to act.
        wrong = 400 <= answer.status < 500 and answer.status not in {408, 429}
        fault = Fault.MISCONFIGURED if wrong else Fault.UNREACHABLE
        hint = "; is the label right?" if answer.status == 404 else ""
        detail = f"/cacerts: HTTP {answer.status}{f': {said}' if said else ''}{hint}"
        raise CaError(fault, detail, sent=True)
    try:
        return encoding.certificates(answer.body)
    except MalformedBodyError as error:
        raise CaError(Fault.UNREACHABLE, f"/cacerts: {error}", sent=True) from error


def _has(received: Certificates, fingerprint: str) -> bool:
    return any(hashlib.sha256(one).hexdigest() == fingerprint for one in received.ders)
