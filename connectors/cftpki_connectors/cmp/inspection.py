"""
A look at a CMP server without asking for a certificate: credentials, the CA's certificates, successors of its roots.

Owns the words for the operator.
"""

from __future__ import annotations

from cftpki_connectors.ca.client import CaError, printable
from cftpki_connectors.cmp.chains import readable
from cftpki_connectors.cmp.credentials import Credentials, load
from cftpki_connectors.cmp.general import General, link_fault
from cftpki_connectors.cmp.options import CmpOptions
from cftpki_connectors.cmp.protection import ProtectionError
from cftpki_connectors.support import threads
from cftpki_ext.identity.enroller_port import Fault, Finding
from cftpki_ext.ports.clock import Clock

_NO_ANSWER = frozenset({Fault.REFUSED})
# Each costs a message; a rollover has two.
_MAX_ROOTS = 4


async def look(options: CmpOptions, clock: Clock, *, deadline: float) -> tuple[Finding, ...]:
    """
    Read the credentials, and ask the server, protected by them, what it tells about its CA.

    Nothing is asked where only the certificate in use protects requests: it is not shown here. A server that does
    not know these questions is none to worry about: they are optional.

    Args:
        options: what is configured.
        clock: for deadlines and the validity of certificates.
        deadline: monotonic seconds.

    Returns:
        One finding for each thing, the last ones missing where the server was not heard.

    """
    what = "credentials"
    found: list[Finding] = []
    try:
        credentials = await threads.call(lambda: load(options, clock.now()))
        means = credentials.means
        found.append(Finding(what=what, detail=_who(credentials)))
        if means is None:
            return tuple(found)
        general = General(options=options, credentials=credentials, means=means, clock=clock)
        what = "CA certificates"
        found.append(await _certificates(general, deadline))
        what = "root update"
        for root in credentials.believed.roots[:_MAX_ROOTS]:
            found += await _update(general, root, clock, deadline)
    except CaError as error:
        return (*found, Finding(what=what, detail=error.detail, good=False))
    except ProtectionError as error:
        return (*found, Finding(what=what, detail=printable(str(error)), good=False))
    return tuple(found)


def _who(credentials: Credentials) -> str:
    if credentials.secret is not None:
        key_id = credentials.secret.key_id
        name = "" if key_id is None else f" under the reference {key_id.decode(errors='replace')!r}"
        return f"a shared secret{name}"
    if credentials.identity is not None:
        return "a certificate of the connector's own"
    return "none besides the certificate that is renewed: the server is not asked now"


async def _certificates(general: General, deadline: float) -> Finding:
    what = "CA certificates"
    try:
        ders = await general.ca_certificates(deadline=deadline)
    except CaError as error:
        if error.fault not in _NO_ANSWER:
            raise
        return Finding(what=what, detail=f"the server answers, and does not tell them: {error.detail}")
    names = [certificate.subject.text[:80] for der in ders if (certificate := readable(der)) is not None]
    shown = ", ".join(map(repr, names[:4])) + (", …" if len(names) > 4 else "")
    return Finding(what=what, detail=f"{len(ders)}: {shown}" if ders else "the server tells none")


async def _update(general: General, root: bytes, clock: Clock, deadline: float) -> list[Finding]:
    what = "root update"
    try:
        update = await general.root_update(root, deadline=deadline)
    except CaError as error:
        return [Finding(what=what, detail=f"the server does not tell: {error.detail}")]
    if update is None or update.new in general.credentials.believed.roots:
        return []
    new = readable(update.new)
    if new is None:
        return [Finding(what=what, detail="the CA tells of a new root that cannot be read", good=False)]
    shown = f"{new.subject.text[:100]!r} (sha-256 {new.digest.hex()}, until {new.not_after:%Y-%m-%d})"
    fault = link_fault(update, general.credentials.believed.roots, clock.now())
    how = "which the old one has signed" if fault is None else f"which is not proven by the old one: {fault}"
    detail = f"the CA has a new root, {how}: {shown}; compare it with the CA, and add it to roots"
    return [Finding(what=what, detail=detail, good=False)]
