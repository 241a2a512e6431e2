"""
A look at a step-ca without ordering anything: trust, health, and whether the provisioner knows our credentials.

Owns the words for the operator.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cftpki_connectors.ca.client import CaError
from cftpki_connectors.ca.clocks import skew_notes
from cftpki_connectors.stepca.client import StepCaClient
from cftpki_connectors.stepca.credentials import Credentials
from cftpki_connectors.stepca.options import StepCaOptions
from cftpki_ext.identity.enroller_port import Finding
from cftpki_ext.ports.clock import Clock


async def look(
    options: StepCaOptions,
    connect: Callable[[], Awaitable[StepCaClient]],
    credentials: Callable[[StepCaClient], Awaitable[Credentials]],
    *,
    clock: Clock,
    deadline: float,
) -> tuple[Finding, ...]:
    """
    Connect, ask for health and roots, and make ready what a token is signed with.

    No token is sent: whether the CA takes it is known when something is signed.

    Args:
        options: what is configured.
        connect: gives a client that trusts the CA.
        credentials: reads the provisioner's, and compares them with the CA's list.
        clock: ours, to be compared with the CA's.
        deadline: monotonic seconds.

    Returns:
        One finding for each thing, the last ones missing where the CA was not heard.

    """
    what = "health"
    found: list[Finding] = []
    try:
        client = await connect()
        date = await client.health(deadline=deadline)
        skew = skew_notes(date, clock.now())
        said = "; ".join(("healthy, over TLS that the known roots verify", *skew))
        found.append(Finding(what=what, detail=f"{options.url} is {said}", good=not skew))
        what = "roots"
        roots = await client.roots(deadline=deadline)
        found.append(Finding(what=what, detail=f"the CA lists {len(roots)}"))
        what = "provisioner"
        ours = await credentials(client)
    except CaError as error:
        return (*found, Finding(what=what, detail=error.detail, good=False))
    kind = "X5C" if options.chain_file is not None else "JWK"
    said = f"{options.provisioner!r} is of type {kind}, and our credentials are its own"
    if ours.listed is None:
        said = f"the CA does not show {options.provisioner!r}; our credentials can be read"
    return (*found, Finding(what=what, detail=said))
