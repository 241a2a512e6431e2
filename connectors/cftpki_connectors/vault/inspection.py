"""
A look at a Vault without ordering anything: health, login, role, issuers.

Owns the words for the operator.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from cftpki_connectors.ca.client import CaError
from cftpki_connectors.ca.clocks import skew_notes
from cftpki_connectors.vault.client import VaultClient
from cftpki_connectors.vault.options import VaultOptions
from cftpki_connectors.vault.request import allowed
from cftpki_ext.identity.enroller_port import Fault, Finding
from cftpki_ext.ports.clock import Clock
from cftpki_ext.x509.certificate import MalformedCertificateError, parse_certificate

Role = Mapping[str, object]


async def look(
    options: VaultOptions,
    connect: Callable[[], Awaitable[VaultClient]],
    authorised: Callable[[Callable[[VaultClient, str], Awaitable[Role]]], Awaitable[Role]],
    *,
    clock: Clock,
    deadline: float,
) -> tuple[Finding, ...]:
    """
    Ask how the server is, log in, and read role and issuers.

    Whether the token may sign is known when something is signed: a policy need not let it read the role.

    Args:
        options: what is configured.
        connect: gives a client that trusts the server.
        authorised: asks with a token.
        clock: ours, to be compared with the server's.
        deadline: monotonic seconds.

    Returns:
        One finding for each thing, the last ones missing where the server was not heard.

    """
    what = "health"
    found: list[Finding] = []
    try:
        client = await connect()
        health = await client.health(deadline=deadline)
        skew = skew_notes(health.date, clock.now())
        state = "sealed" if health.sealed else "not initialized" if not health.initialized else "unsealed"
        standby = ", a standby" if health.standby else ""
        said = "; ".join((f"{options.url} is {state}{standby}, version {health.version or 'untold'}", *skew))
        ready = health.initialized and not health.sealed
        found.append(Finding(what=what, detail=said, good=ready and not skew))
        if not ready:
            return tuple(found)
        what = "login"
        found += await _role(options, authorised, deadline)
        if not found[-1].good:
            return tuple(found)
        what = "issuer"
        chain = await client.issuer_chain(options.mount, options.issuer or "default", deadline=deadline)
        found.append(_issuer(chain[0], clock))
    except CaError as error:
        return (*found, Finding(what=what, detail=error.detail, good=False))
    return tuple(found)


async def _role(
    options: VaultOptions,
    authorised: Callable[[Callable[[VaultClient, str], Awaitable[Role]]], Awaitable[Role]],
    deadline: float,
) -> tuple[Finding, ...]:
    reached = False

    async def ask(client: VaultClient, token: str) -> Role:
        nonlocal reached
        reached = True
        return await client.role(options.mount, options.role, token, deadline=deadline)

    try:
        role = await authorised(ask)
    except CaError as error:
        if not reached or error.fault not in {Fault.MISCONFIGURED, Fault.REFUSED}:
            return (Finding(what="login", detail=error.detail, good=False),)
        logged_in = Finding(what="login", detail=_who(options))
        if "no policy of the token allows" in error.detail:
            return logged_in, Finding(
                what="role",
                detail="the token may not read the role; whether it may sign is known when it does",
            )
        return logged_in, Finding(what="role", detail=f"{options.role}: {error.detail}", good=False)
    return (
        Finding(what="login", detail=_who(options)),
        Finding(what="role", detail=f"{options.role}: {allowed(role)}"),
    )


def _who(options: VaultOptions) -> str:
    if options.token is not None:
        return f"the server takes the token in {options.token.token_file}"
    if options.approle is not None:
        return f"the server takes our AppRole at auth/{options.approle.mount}"
    if options.kubernetes is not None:
        return f"the server takes our service account as {options.kubernetes.role} at auth/{options.kubernetes.mount}"
    return "the server takes our certificate"


def _issuer(der: bytes, clock: Clock) -> Finding:
    try:
        one = parse_certificate(der)
    except MalformedCertificateError as error:
        return Finding(what="issuer", detail=str(error), good=False)
    until = one.not_after.isoformat(timespec="seconds")
    return Finding(
        what="issuer", detail=f"{one.subject.text}, until {until}", good=clock.now() < one.not_after
    )
