"""
A look at a SCEP server without asking for a certificate: the password's file, GetCACert, GetCACaps.

Owns the words for the operator.
"""

from __future__ import annotations

from hashlib import sha256

from cftpki_connectors.ca.anchors import describe
from cftpki_connectors.ca.client import CaClient, CaError, printable
from cftpki_connectors.scep.capabilities import manner
from cftpki_connectors.scep.credentials import challenge_in
from cftpki_connectors.scep.exchange import CA_CAPS, CA_CERT
from cftpki_connectors.scep.options import ScepOptions
from cftpki_connectors.scep.trust import Domain, Trust
from cftpki_connectors.support import threads
from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.enroller_port import Finding

_CREDENTIALS = "credentials"


async def look(
    options: ScepOptions, trust: Trust, client: CaClient, *, deadline: float
) -> tuple[Finding, ...]:
    """
    Read the password, and learn who the CA is and what it can.

    Whether a password is right is known only when a certificate is asked for: a one-time password would be used up.

    Args:
        options: what is configured.
        trust: in the server; what is learned is kept, as with an order.
        client: to the server.
        deadline: monotonic seconds.

    Returns:
        One finding for each thing, the last ones missing where the server was not heard.

    """
    found: list[Finding] = []
    try:
        challenge = await threads.call(lambda: challenge_in(options.challenge_file))
        said = (
            "no password, only the certificate that is renewed"
            if challenge is None
            else "a challenge password"
        )
        found.append(Finding(what=_CREDENTIALS, detail=said))
    except InputError as error:
        found.append(Finding(what=_CREDENTIALS, detail=printable(str(error)), good=False))
    try:
        domain = await trust.domain(client, deadline=deadline)
    except CaError as error:
        return (*found, Finding(what=CA_CERT, detail=error.detail, good=False))
    return (*found, _certificates(domain), _capabilities(options, domain))


def _certificates(domain: Domain) -> Finding:
    authorities = domain.authorities
    encrypter = authorities.encrypter
    if encrypter is None:
        return Finding(what=CA_CERT, detail=authorities.objection(), good=False)
    kind = "RA" if encrypter in authorities.ras else "CA"
    parts = [
        f"{len(authorities.cas)} CAs and {len(authorities.ras)} RAs are believed",
        f"requests are encrypted to the {kind} {describe(encrypter.der)}",
    ]
    parts += [
        f"not believed, and not used: {describe(one.der)}, fingerprint {sha256(one.der).hexdigest()}"
        for one in authorities.strangers[:4]
    ]
    return Finding(what=CA_CERT, detail="; ".join((*parts, *domain.notes)))


def _capabilities(options: ScepOptions, domain: Domain) -> Finding:
    how, hints = manner(domain.capabilities, legacy=options.legacy, method=options.method)
    listed = ", ".join(sorted(one.value for one in domain.capabilities)) or "nothing"
    sent = "POST" if how.post else "GET"
    used = f"the server lists {listed}; requests use {how.cipher.value} and {how.digest.value}, by {sent}"
    return Finding(what=CA_CAPS, detail="; ".join((used, *hints)))
