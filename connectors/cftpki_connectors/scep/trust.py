"""
Whom we believe: what the configuration names, what GetCACert adds to it, and the CA that follows.

Owns the files that are believed and the certificates that are kept. There is no trust on first use.
"""

from __future__ import annotations

import hashlib

from cftpki_connectors.ca import anchors
from cftpki_connectors.ca.anchors import Kept
from cftpki_connectors.ca.certs_only import MalformedBodyError, read_certificates
from cftpki_connectors.ca.client import CaClient, CaError
from cftpki_connectors.ca.identity_files import roots_in
from cftpki_connectors.ca.values import MAX_CERTIFICATES
from cftpki_connectors.scep import exchange
from cftpki_connectors.scep.authorities import Authorities, sort_out
from cftpki_connectors.scep.capabilities import parse_capabilities
from cftpki_connectors.scep.options import ScepOptions
from cftpki_connectors.scep.reading import AlgorithmError, MessageError, read_signed
from cftpki_connectors.scep.vocabulary import Capability
from cftpki_connectors.support import threads
from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.identity.enroller_port import EnrollerContext, Fault
from cftpki_ext.support import pem
from cftpki_ext.support.logs import event_log
from cftpki_ext.x509.certificate import Certificate

# Changes of CAs that wait to be told with the next certificate.
_MAX_EVENTS = 8
_LINE = 300
_PEM = b"-----BEGIN "


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """
    A server as far as it is known now.

    `came` is all of GetCACert (DER), `authorities` what of it is vouched for by `believed` (DER).
    """

    capabilities: frozenset[Capability]
    came: tuple[bytes, ...]
    believed: tuple[bytes, ...]
    authorities: Authorities
    notes: tuple[str, ...] = ()


class Trust:
    """
    The trust in one SCEP server.

    With `certificates`, the file says who is believed, and nobody else is. With `fingerprints`, the certificates that
    have them are taken from GetCACert and kept; the CA that follows is believed as well once the present one has
    announced it by GetNextCACert, under its own signature.
    """

    def __init__(self, options: ScepOptions, context: EnrollerContext) -> None:
        self._options = options
        self._context = context
        # What is kept counts for this server and these fingerprints only.
        said = (options.url, options.ca_identifier, sorted(options.fingerprints))
        self._source = hashlib.sha256(repr(said).encode()).hexdigest()
        self._events: tuple[str, ...] = ()
        self._log = event_log(enroller=context.name)

    async def domain(self, client: CaClient, *, deadline: float) -> Domain:
        """
        Ask the server for what everybody may know, and sort out what of it is believed.

        Raises:
            CaError: it was not heard, or nothing of what came is believed.

        """
        options, now = self._options, self._context.clock.now()
        body = await exchange.ask(client, options, exchange.CA_CERT, now, deadline=deadline)
        came, notes = certificates_of(body, exchange.CA_CERT)
        believed = await self._believed(came)
        authorities = sort_out(came, believed, now, options.legacy)
        if not authorities.anchors and not authorities.ras:
            detail = "no certificate that is configured or kept for this server is valid now"
            raise CaError(Fault.MISCONFIGURED, detail)
        capabilities, silent = await self._capabilities(client, deadline)
        domain = Domain(
            capabilities=capabilities,
            came=came,
            believed=believed,
            authorities=authorities,
            notes=(*notes, *silent),
        )
        if Capability.GET_NEXT_CA_CERT not in capabilities:
            return self._told_with(domain)
        try:
            return self._told_with(await self._with_next(client, domain, deadline))
        except (CaError, MessageError, AlgorithmError) as error:
            note = f"GetNextCACert: {excerpt(str(error), _LINE)}"
            return self._told_with(replace(domain, notes=(*domain.notes, note)))

    async def kept(self) -> tuple[bytes, ...]:
        """
        The certificates that are believed, without asking the server.

        Raises:
            CaError: the file cannot be read.

        """
        path = self._options.certificates
        if path is not None:
            return await threads.call(lambda: roots_in(path, "certificates"))
        found = await threads.call(lambda: anchors.load(self._context.state, self._source))
        return () if found is None else found.roots

    def told(self) -> None:
        """
        The notes of a domain have reached the operator: a change of CAs need not be told again.
        """
        self._events = ()

    def signers(self, domain: Domain, included: tuple[bytes, ...]) -> tuple[Certificate, ...]:
        """
        Who may sign an answer: of GetCACert, and of the certificates in the answer itself (DER).
        """
        known = domain.authorities
        if not set(included) <= {*domain.came, *domain.believed}:
            now = self._context.clock.now()
            known = sort_out((*domain.came, *included), domain.believed, now, self._options.legacy)
        return known.signers

    async def _believed(self, came: tuple[bytes, ...]) -> tuple[bytes, ...]:
        kept = await self.kept()
        if self._options.certificates is not None:
            return kept
        wanted = set(self._options.fingerprints)
        named = tuple(one for one in came if hashlib.sha256(one).hexdigest() in wanted)
        together = tuple(dict.fromkeys((*kept, *named)))
        if not together:
            seen = "; ".join(
                f"{anchors.describe(one)} is {hashlib.sha256(one).hexdigest()}" for one in came[:4]
            )
            detail = f"no certificate of GetCACert has one of the configured fingerprints: {seen}"
            raise CaError(Fault.MISCONFIGURED, detail)
        if together != kept:
            await self._keep(together)
        return together

    async def _capabilities(
        self, client: CaClient, deadline: float
    ) -> tuple[frozenset[Capability], tuple[str, ...]]:
        """
        An old server knows no GetCACaps (RFC 8894 3.5.1): then it lists nothing.
        """
        now = self._context.clock.now()
        try:
            body = await exchange.ask(client, self._options, exchange.CA_CAPS, now, deadline=deadline)
        except CaError as error:
            return frozenset(), (f"GetCACaps was not had: {excerpt(error.detail, _LINE)}",)
        return parse_capabilities(body), ()

    async def _with_next(self, client: CaClient, domain: Domain, deadline: float) -> Domain:
        """
        RFC 8894 4.7: the certificates that count from some day on, signed by the CA of today.
        """
        options, now = self._options, self._context.clock.now()
        body = await exchange.ask(client, options, exchange.NEXT_CA_CERT, now, deadline=deadline)
        # Not by an RA, nor by a CA below: who is an anchor is said by an anchor.
        message = read_signed(body, lambda _: domain.authorities.anchors, options.legacy)
        listed = _announced(message.content)
        new = [
            one
            for one in anchors.parsed(listed)
            if one.is_ca
            and now <= one.not_after
            and anchors.is_self_signed(one)
            and one.der not in domain.believed
        ]
        if not new:
            return domain
        shown = "; ".join(anchors.describe(one.der) for one in new)
        if options.certificates is not None:
            note = f"the CA announces its successor (GetNextCACert), which is not in certificates: {shown}"
            return replace(domain, notes=(*domain.notes, note))
        believed = tuple(dict.fromkeys((*domain.believed, *(one.der for one in new))))
        if len(believed) > MAX_CERTIFICATES:
            raise CaError(Fault.MISCONFIGURED, "the CA announces more successors than are kept")
        await self._keep(believed)
        self._happened(f"the CA has announced its successor, which is believed from now on: {shown}")
        return replace(
            domain, believed=believed, authorities=sort_out(domain.came, believed, now, options.legacy)
        )

    def _happened(self, note: str) -> None:
        self._log.warning("scep.cas", what=note)
        self._events = tuple(dict.fromkeys((*self._events, note)))[-_MAX_EVENTS:]

    def _told_with(self, domain: Domain) -> Domain:
        return replace(domain, notes=tuple(dict.fromkeys((*domain.notes, *self._events))))

    async def _keep(self, believed: tuple[bytes, ...]) -> None:
        kept = Kept(source=self._source, roots=believed, certificates=())
        try:
            await threads.call(lambda: anchors.save(self._context.state, kept))
        except StoreError as error:
            raise CaError(Fault.MISCONFIGURED, f"the CA's certificates cannot be kept: {error}") from error


def _announced(content: bytes) -> tuple[bytes, ...]:
    """
    The certificates in a signed GetNextCACert: PKCS#7 and nothing else.

    A CA's key signs much that others choose parts of (nonces, names). PEM would be found within any of it.
    """
    step = exchange.NEXT_CA_CERT
    try:
        found, odd = read_certificates(content)
    except MalformedBodyError as error:
        raise CaError(Fault.UNREACHABLE, f"{step}: {excerpt(str(error), _LINE)}") from error
    if odd is not None or not 0 < len(found) <= MAX_CERTIFICATES:
        raise CaError(Fault.UNREACHABLE, f"{step}: what is signed is no list of certificates")
    return tuple(dict.fromkeys(found))


def certificates_of(body: bytes, step: str) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """
    One certificate (application/x-x509-ca-cert) or a degenerate CMS (…-ca-ra-cert); types are not looked at.

    Args:
        body: as received.
        step: what was asked.

    Returns:
        The certificates (DER), and what was odd.

    Raises:
        CaError: UNREACHABLE: no such thing, none in it, or more than are read.

    """
    try:
        if _PEM in body[:1024]:
            found, note = pem.certificates(body, what="the answer"), "the server sends certificates in PEM"
        else:
            # A bare certificate, which is odd elsewhere, is right here.
            found, note = read_certificates(body)[0], ""
    except (MalformedBodyError, InputError) as error:
        raise CaError(Fault.UNREACHABLE, f"{step}: {excerpt(str(error), _LINE)}") from error
    if not found or len(found) > MAX_CERTIFICATES:
        raise CaError(Fault.UNREACHABLE, f"{step}: the answer holds {len(found)} certificates")
    return tuple(dict.fromkeys(found)), (f"{step}: {note}",) if note else ()
