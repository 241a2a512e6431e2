"""
A look at an EST server without asking for a certificate: credentials, /cacerts, /csrattrs.

Owns the words for the operator.
"""

from __future__ import annotations

from contextlib import aclosing

from cftpki_connectors.ca.certs_only import MalformedBodyError
from cftpki_connectors.ca.client import CaClient, CaError
from cftpki_connectors.est import answers, attributes, encoding
from cftpki_connectors.est.credentials import Credentials, load
from cftpki_connectors.est.options import EstOptions
from cftpki_connectors.est.trust import Domain, Trust
from cftpki_connectors.support import threads
from cftpki_ext.identity.enroller_port import Failed, Finding
from cftpki_ext.ports.clock import Clock

_CSRATTRS = "csrattrs"


async def look(options: EstOptions, trust: Trust, clock: Clock, *, deadline: float) -> tuple[Finding, ...]:
    """
    Read the credentials, learn the CA's roots, and ask what a request should hold.

    Many servers let everybody ask for /csrattrs: whether they take our credentials is known when a certificate
    is asked for. The certificate that a renewal is authenticated with is not shown.

    Args:
        options: what is configured.
        trust: in the server; roots of a first contact are kept, as with an order.
        clock: for deadlines and the validity of our own certificate.
        deadline: monotonic seconds.

    Returns:
        One finding for each thing, the last ones missing where the server was not heard.

    """
    what = "credentials"
    found: list[Finding] = []
    try:
        credentials = await threads.call(lambda: load(options, clock.now()))
        found.append(Finding(what=what, detail=_who(credentials)))
        what = "cacerts"
        domain = await trust.domain(identity=credentials.identity, deadline=deadline)
        said = f"{len(domain.certificates)} certificates, {len(domain.roots)} of them roots"
        detail = "; ".join((said, *domain.notes))
        found.append(Finding(what=what, detail=detail, good=domain.fresh))
        if not options.csrattrs:
            return tuple(found)
        what = _CSRATTRS
        found.append(await _wishes(options, credentials, domain, clock, deadline))
    except CaError as error:
        return (*found, Finding(what=what, detail=error.detail, good=False))
    return tuple(found)


def _who(credentials: Credentials) -> str:
    ways = [] if credentials.username is None else [f"user {credentials.username!r} with a password"]
    if credentials.identity is not None:
        ways.append("a certificate of the connector's own")
    return " and ".join(ways) or "none besides the certificate that is renewed"


async def _wishes(
    options: EstOptions, credentials: Credentials, domain: Domain, clock: Clock, deadline: float
) -> Finding:
    client = CaClient(
        clock=clock, roots=domain.server_roots, identity=credentials.identity, proxy=options.proxy
    )
    async with aclosing(client):
        request = answers.get(options, _CSRATTRS)
        answer = await answers.ask(client, request, credentials, deadline=deadline)
    if answer.status in {204, 404} or (answer.status == 200 and not answer.body.strip()):
        return Finding(what=_CSRATTRS, detail="the server asks for no attributes")
    if answer.status != 200:
        failed: Failed = answers.failed(_CSRATTRS, answer, now=clock.now(), credentials=credentials)
        return Finding(what=_CSRATTRS, detail=failed.detail, good=False)
    try:
        data, _ = encoding.decode(answer.body)
        asked = attributes.parse_csr_attributes(data)
    except MalformedBodyError as error:
        # Advice only: an order goes on without it.
        return Finding(what=_CSRATTRS, detail=str(error))
    bound = (
        "; it wants requests bound to TLS, which this connector cannot do" if asked.channel_binding else ""
    )
    return Finding(
        what=_CSRATTRS, detail=f"the server asks for attributes{bound}", good=not asked.channel_binding
    )
