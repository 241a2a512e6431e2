"""
The enroller for EJBCA: ask, wait for who has to approve, write down, tell.

Owns the order of the steps and what is told to the operator.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

from cryptography import x509

from cftpki_connectors.ca.certificates import is_root
from cftpki_connectors.ca.client import CaError, printable
from cftpki_connectors.ca.clocks import skew_notes
from cftpki_connectors.ca.connections import Connections, Surroundings, with_password_in
from cftpki_connectors.ca.identity_files import client_identity_in, roots_in
from cftpki_connectors.ca.unanswered import Journal
from cftpki_connectors.ca.values import unknown_reason
from cftpki_connectors.ejbca.answers import ACCEPTED, RestError, Waiting
from cftpki_connectors.ejbca.client import EjbcaClient
from cftpki_connectors.ejbca.options import EjbcaOptions
from cftpki_connectors.support import threads
from cftpki_connectors.support.secret_files import secret_text
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import replace
from cftpki_ext.identity.enroller_port import (
    EnrollerContext,
    Failed,
    Fault,
    Finding,
    Held,
    Issued,
    Order,
    OrderState,
    Pending,
    Progress,
    Relation,
    RenewalHint,
    SaveState,
)

# As RevocationReasons of EJBCA has the names of RFC 5280 5.3.1.
REASONS = {
    "unspecified": "UNSPECIFIED",
    "keyCompromise": "KEY_COMPROMISE",
    "cACompromise": "CA_COMPROMISE",
    "affiliationChanged": "AFFILIATION_CHANGED",
    "superseded": "SUPERSEDED",
    "cessationOfOperation": "CESSATION_OF_OPERATION",
    "certificateHold": "CERTIFICATE_HOLD",
    "privilegeWithdrawn": "PRIVILEGES_WITHDRAWN",
    "aACompromise": "AA_COMPROMISE",
}
_REQUEST = "request"
_BAD_REQUEST, _CONFLICT = 400, 409


class EjbcaEnroller:
    """
    One CA of one EJBCA, by its REST interface.

    Args:
        options: the table `[enroller.NAME]`.
        context: name, folder and clock.

    """

    protocol = "ejbca"

    def __init__(self, options: EjbcaOptions, context: EnrollerContext) -> None:
        self.name = context.name
        self._options = options
        self._clock = context.clock
        self._connections = Connections(context.clock)

    async def advance(self, order: Order, state: OrderState, save: SaveState, *, deadline: float) -> Progress:
        """
        Ask, or ask again whether somebody has approved.
        """
        journal = Journal.of(state)
        waiting = state.get(_REQUEST)
        request = waiting if isinstance(waiting, int) else None
        try:
            return await self._issue(order, journal, request, save, deadline)
        except CaError as error:
            failed = journal.fail(error, lost=request is None)
            if journal.requests:  # nothing was asked yet: there is nothing to write down
                await save({**journal.state(), _REQUEST: request})
            if request is not None and isinstance(error, RestError) and error.status == _BAD_REQUEST:
                return _ended(error, failed)
            return failed

    async def revoke(self, held: Held, *, reason: str, deadline: float) -> Failed | None:
        """
        Revoke by issuer and serial number.
        """
        theirs = REASONS.get(reason)
        if theirs is None:
            return unknown_reason(reason, REASONS)
        try:
            leaf = x509.load_der_x509_certificate(held.chain[0])
            client = await self._speaker()
            issuer = _as_written(leaf.issuer, tuple((await client.cas(deadline=deadline)).values()))
            answer = await client.revoke(issuer, leaf.serial_number, theirs, deadline=deadline)
        except CaError as error:
            if isinstance(error, RestError) and error.status == _CONFLICT:
                return None  # it is revoked already
            return error.failed("revoke")
        if answer.status == ACCEPTED:
            return Failed(fault=Fault.REFUSED, detail="revoke: somebody has to approve it at the CA")
        return None

    async def renewal_hint(self, held: Held, *, deadline: float) -> RenewalHint | None:  # noqa: ARG002  # the port's signature
        """
        `None`: the CA has no opinion.
        """
        return None

    async def trust_anchors(self, *, deadline: float) -> tuple[bytes, ...]:
        """
        The root above the CA; empty where it is not heard.
        """
        with contextlib.suppress(CaError):
            client = await self._speaker()
            subject = (await client.cas(deadline=deadline)).get(self._options.ca)
            if subject is not None:
                chain = await client.ca_chain(subject, deadline=deadline)
                return tuple(der for der in chain if is_root(der))
        return ()

    async def relation(self) -> Relation:
        """
        Where we ask; nothing is kept of the server.
        """
        return Relation(where=f"{self._options.url}, CA {self._options.ca}")

    async def check(self, *, deadline: float) -> tuple[Finding, ...]:
        """
        Read our files, ask for status and CAs; nothing is enrolled.
        """
        what, found = "credentials", list[Finding]()
        try:
            client = await self._speaker()
            await self._password()
            found.append(Finding(what=what, detail="our certificate and the enrolment code can be read"))
            what = "status"
            version = await client.status(deadline=deadline)
            found.append(Finding(what=what, detail=f"{self._options.host} takes our certificate: {version}"))
            what = "ca"
            cas = await client.cas(deadline=deadline)
        except CaError as error:
            return (*found, Finding(what=what, detail=error.detail, good=False))
        there = self._options.ca in cas
        shown = printable(", ".join(sorted(cas))) or "none"
        said = cas[self._options.ca] if there else f"we see no CA {self._options.ca!r}; there are: {shown}"
        return (*found, Finding(what=what, detail=printable(said), good=there))

    async def aclose(self) -> None:
        """
        Close connections.
        """
        await self._connections.aclose()

    async def _issue(
        self, order: Order, journal: Journal, request: int | None, save: SaveState, deadline: float
    ) -> Progress:
        chain, notes = journal.chain(), list(journal.notes)
        if not chain:
            client, password = await self._speaker(), await self._password()
            if request is None:
                journal.begin(self._options.request.value, token=None, now=self._clock.now())
                await save({**journal.state(), _REQUEST: None})
                username = self._options.username or order.identity
                got = await client.enrol(order.csr, username, password, deadline=deadline)
            else:
                got = await client.finalize(request, password, deadline=deadline)
            journal.settle()
            if isinstance(got, Waiting):
                # A later answer's number is another request's, if at all: the first one counts.
                number = got.request if request is None else request
                await save({**journal.state(), _REQUEST: number})
                retry_at = got.retry_at or self._clock.now() + timedelta(seconds=self._options.retry_s)
                return Pending(retry_at=retry_at, detail=f"request {number}: {got.detail}")
            chain = got.chain
            notes = list(skew_notes(got.date, self._clock.now()))
            journal.keep(chain, notes)
            await save({**journal.state(), _REQUEST: request})
        notes += journal.orphans()
        roots = await self.trust_anchors(deadline=deadline)
        return Issued(certificates=chain, extra=roots, notes=tuple(notes))

    async def _speaker(self) -> EjbcaClient:
        surroundings = await threads.call(lambda: self._surroundings(self._clock.now()))
        return EjbcaClient(self._options, self._connections.by(surroundings), self._clock)

    async def _password(self) -> str:
        try:
            return await threads.call(lambda: secret_text(self._options.password_file, "password_file"))
        except InputError as error:
            raise CaError(Fault.MISCONFIGURED, str(error)) from error

    def _surroundings(self, now: datetime) -> Surroundings:
        options = self._options
        roots = None if options.root_file is None else roots_in(options.root_file, "root_file")
        try:
            proxy = with_password_in(options.proxy, options.proxy_password_file)
            identity = client_identity_in(
                options.chain_file, options.key_file, options.key_password_file, now=now
            )
        except InputError as error:
            raise CaError(Fault.MISCONFIGURED, str(error)) from error
        return Surroundings(roots=roots, identity=identity, proxy=proxy)


def _ended(error: RestError, failed: Failed) -> Failed:
    """
    What has become of a request that somebody had to approve, by what EJBCA says of it.
    """
    if "has already been finalized" in error.detail:
        lost = "; the certificate was handed out in an answer that was lost: revoke it at the CA"
        return replace(failed, fault=Fault.ORDER_LOST, detail=failed.detail + lost)
    if "Could not find request" in error.detail or "has expired" in error.detail:
        return replace(failed, fault=Fault.ORDER_LOST)
    return failed


def _as_written(issuer: x509.Name, subjects: tuple[str, ...]) -> str:
    """
    The issuer's name as EJBCA has it: its order of the parts is the CA's own, and a name in another order is unknown.
    """
    ours = issuer.rfc4514_string()
    wanted = sorted(part.strip().casefold() for part in ours.split(","))
    for subject in subjects:
        if sorted(part.strip().casefold() for part in subject.split(",")) == wanted:
            return subject
    return ours
