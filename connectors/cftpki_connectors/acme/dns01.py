"""
dns-01 (RFC 8555 8.4): by dynamic update (RFC 2136) signed with TSIG (RFC 8945), or by a hook.

Owns finding the place, adding one value beside others, waiting for every server, and deleting that value only.
The protocol is dnspython's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.tsig
import dns.update

from cftpki_connectors.acme.flow import Task
from cftpki_connectors.acme.hook import Hook
from cftpki_connectors.acme.jose import base64url, digest
from cftpki_connectors.acme.options import Dns01, endpoint
from cftpki_connectors.acme.solver import Solver, SolverError
from cftpki_connectors.ca.client import printable
from cftpki_connectors.support.secret_files import secret_text
from cftpki_ext.core.errors import InputError
from cftpki_ext.ports.clock import Clock
from cftpki_ext.support.failures import reason_of

LABEL = "_acme-challenge"
# One question to one server.
QUERY_S = 5.0
# Delegation by CNAME goes one step, seldom two.
MAX_CNAMES = 8
_LOOK_AGAIN_S = 1.0
_KEY_FILE = re.compile(
    r'key\s+"?([^\s"{]+)"?\s*\{\s*algorithm\s+"?([\w.-]+?)\.?"?\s*;\s*secret\s+"?([A-Za-z0-9+/=]+)"?\s*;\s*\}\s*;'
)
_ALGORITHMS = {
    "hmac-sha224": dns.tsig.HMAC_SHA224,
    "hmac-sha256": dns.tsig.HMAC_SHA256,
    "hmac-sha384": dns.tsig.HMAC_SHA384,
    "hmac-sha512": dns.tsig.HMAC_SHA512,
}
Server = tuple[str, int]


def txt_value(task: Task) -> str:
    """
    What the TXT record holds.
    """
    return base64url(digest(task.authorization))


def challenge_name(task: Task) -> dns.name.Name:
    """
    Where the CA looks first; a wildcard is shown at the name that it stands below.
    """
    return dns.name.from_text(f"{LABEL}.{task.identifier.value}.")


def parse_key_file(text: str) -> dns.tsig.Key:
    """
    Read a TSIG key in the form of BIND's key files.

    Raises:
        InputError: it is none, or of an algorithm older than SHA-2. The message never holds the secret.

    """
    found = _KEY_FILE.search(text)
    if found is None:
        msg = 'no key "name" { algorithm hmac-sha256; secret "…"; }; was found'
        raise InputError(msg)
    algorithm = _ALGORITHMS.get(found[2].lower())
    if algorithm is None:
        msg = f"algorithm {found[2]!r}: one of {', '.join(_ALGORITHMS)} is needed"
        raise InputError(msg)
    try:
        return dns.tsig.Key(found[1], found[3], algorithm)
    except (ValueError, dns.exception.DNSException) as error:
        msg = "the key's name or secret cannot be read"
        raise InputError(msg) from error


class Zones:
    """
    Questions to the DNS.

    Args:
        options: resolvers and authoritative servers, where configured.
        clock: for deadlines.

    """

    def __init__(self, options: Dns01, clock: Clock) -> None:
        self._resolvers = options.resolvers
        self._authoritative = tuple(endpoint(one, default_port=53) for one in options.authoritative)
        self._clock = clock

    async def follow(self, name: dns.name.Name) -> dns.name.Name:
        """
        The name at the end of CNAMEs.

        Raises:
            SolverError: no answer, or a loop.

        """
        for _ in range(MAX_CNAMES):
            answer = await self._ask(name, "CNAME")
            if answer is None or answer.rrset is None:
                return name
            name = answer.rrset[0].target
        msg = f"{printable(str(name))}: more than {MAX_CNAMES} CNAMEs, one after the other"
        raise SolverError(msg, permanent=True)

    async def zone_of(self, name: dns.name.Name) -> dns.name.Name:
        """
        The zone that holds a name: the nearest one above it with a SOA record.

        Raises:
            SolverError: no answer.

        """
        candidate = name
        while candidate != dns.name.root:
            answer = await self._ask(candidate, "SOA")
            # The answer of a name below a CNAME speaks of another name.
            if answer is not None and answer.rrset is not None and answer.rrset.name == candidate:
                return candidate
            candidate = candidate.parent()
        msg = f"no zone holds {printable(str(name))}: dns01.resolvers names who knows it"
        raise SolverError(msg, permanent=True)

    async def wait_for(self, name: dns.name.Name, value: str, *, deadline: float) -> None:
        """
        Wait until every authoritative server has the value.

        Raises:
            SolverError: one had it not until the deadline.

        """
        servers: Sequence[Sequence[Server]] = [[one] for one in self._authoritative]
        if not servers:
            servers = await self._name_servers(await self.zone_of(name))
        while True:
            states = await asyncio.gather(*(self._has(addresses, name, value) for addresses in servers))
            lacking = [state for state in states if state is not None]
            if not lacking:
                return
            if self._clock.monotonic() + _LOOK_AGAIN_S >= deadline:
                msg = f"dns-01: {printable(str(name))} {'; '.join(lacking[:3])}"
                raise SolverError(msg)
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _has(self, addresses: Sequence[Server], name: dns.name.Name, value: str) -> str | None:
        """
        One name server: every address of it that answers has the value, and one does.
        """
        heard = False
        wrong = "has no address"
        for host, port in addresses:
            question = dns.message.make_query(name, "TXT")
            question.flags &= ~dns.flags.RD
            try:
                answer, _ = await dns.asyncquery.udp_with_fallback(question, host, timeout=QUERY_S, port=port)
            except (dns.exception.DNSException, OSError, EOFError) as error:
                wrong = f"cannot be asked at {host}: {reason_of(error)}"
                continue
            heard = True
            rrset = answer.get_rrset(answer.answer, name, dns.rdataclass.IN, dns.rdatatype.TXT)
            values = [b"".join(record.strings) for record in rrset or ()]
            if value.encode() not in values:
                return f"is not yet at {host}:{port}"
        return None if heard else wrong

    async def _name_servers(self, zone: dns.name.Name) -> list[list[Server]]:
        answer = await self._ask(zone, "NS")
        if answer is None or answer.rrset is None:
            msg = f"the zone {printable(str(zone))} names no servers"
            raise SolverError(msg)
        found: list[list[Server]] = []
        for record in answer.rrset:
            addresses: list[Server] = []
            for kind in ("A", "AAAA"):
                known = await self._ask(record.target, kind)
                if known is not None and known.rrset is not None:
                    addresses += [(address.address, 53) for address in known.rrset]
            found.append(addresses)
        return found

    async def _ask(self, name: dns.name.Name, kind: str) -> dns.resolver.Answer | None:
        try:
            return await self._resolver().resolve(
                name, kind, raise_on_no_answer=False, lifetime=QUERY_S, search=False
            )
        except dns.resolver.NXDOMAIN:
            return None
        except (dns.exception.DNSException, OSError) as error:
            detail = f"{kind} of {printable(str(name))}: {reason_of(error)}"
            raise SolverError(detail) from error

    def _resolver(self) -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=not self._resolvers)
        # No answer of before is kept: propagation is what we are waiting for.
        resolver.cache = None
        if self._resolvers:
            resolver.nameservers = [
                dns.nameserver.Do53Nameserver(*endpoint(one, default_port=53)) for one in self._resolvers
            ]
        return resolver


class UpdateSolver:
    """
    dns-01 by dynamic update over TCP.
    """

    def __init__(self, options: Dns01, server: str, clock: Clock) -> None:
        self._options = options
        self._server = endpoint(server, default_port=53)
        self._zones = Zones(options, clock)
        self._clock = clock

    async def present(self, task: Task, *, deadline: float) -> None:
        """
        Add the value; others at that name stay.
        """
        name = await self._zones.follow(challenge_name(task))
        update = await self._update(name)
        update.add(name, self._options.ttl, "TXT", f'"{txt_value(task)}"')
        await self._send(update, name, deadline)

    async def ready(self, task: Task, *, deadline: float) -> None:
        """
        Wait for every authoritative server.
        """
        until = min(deadline, self._clock.monotonic() + self._options.wait_s)
        name = await self._zones.follow(challenge_name(task))
        await self._zones.wait_for(name, txt_value(task), deadline=until)

    async def cleanup(self, task: Task, *, deadline: float) -> None:
        """
        Delete the value, and no other at that name.
        """
        name = await self._zones.follow(challenge_name(task))
        update = await self._update(name)
        update.delete(name, "TXT", f'"{txt_value(task)}"')
        await self._send(update, name, deadline)

    async def aclose(self) -> None:
        """
        Nothing is held.
        """

    async def _update(self, name: dns.name.Name) -> dns.update.UpdateMessage:
        zone = await self._zones.zone_of(name)
        key = None
        if self._options.tsig_file is not None:
            try:
                key = parse_key_file(secret_text(self._options.tsig_file, "tsig_file"))
            except InputError as error:
                detail = f"dns-01: tsig_file: {error}"
                raise SolverError(detail, permanent=True) from error
        return dns.update.UpdateMessage(
            zone,
            keyring=None if key is None else {key.name: key},
            keyname=None if key is None else key.name,
            keyalgorithm=dns.tsig.default_algorithm if key is None else key.algorithm,
        )

    async def _send(self, update: dns.update.UpdateMessage, name: dns.name.Name, deadline: float) -> None:
        host, port = self._server
        left_s = min(QUERY_S, max(deadline - self._clock.monotonic(), 0.001))
        try:
            answer = await dns.asyncquery.tcp(update, host, timeout=left_s, port=port)
        except (dns.tsig.PeerError, dns.tsig.BadSignature, dns.message.UnknownTSIGKey) as error:
            detail = f"dns-01: {host}:{port} does not take our TSIG key: {reason_of(error)}"
            raise SolverError(detail, permanent=True) from error
        except (dns.exception.DNSException, OSError, EOFError) as error:
            detail = f"dns-01: {host}:{port} does not answer: {reason_of(error)}"
            raise SolverError(detail) from error
        code = answer.rcode()
        if code != dns.rcode.NOERROR:
            refused = code in {dns.rcode.REFUSED, dns.rcode.NOTAUTH, dns.rcode.NOTZONE, dns.rcode.NOTIMP}
            detail = f"dns-01: {host}:{port} answers {dns.rcode.to_text(code)} to the update of {printable(str(name))}"
            raise SolverError(detail, permanent=refused)


class DnsHookSolver:
    """
    dns-01 by a program: `present|cleanup NAME VALUE`, the name without its final dot.

    CNAMEs are followed where `resolvers` is configured.
    """

    def __init__(self, options: Dns01, argv: tuple[str, ...], clock: Clock) -> None:
        self._options = options
        self._hook = Hook(argv, options.hook_timeout_s, clock)
        self._zones = Zones(options, clock)
        self._clock = clock

    async def present(self, task: Task, *, deadline: float) -> None:
        """
        Have it published.
        """
        await self._run("present", task, deadline)

    async def ready(self, task: Task, *, deadline: float) -> None:
        """
        Wait for the servers that are configured: which others there are, the program knows.
        """
        if self._options.authoritative:
            until = min(deadline, self._clock.monotonic() + self._options.wait_s)
            await self._zones.wait_for(await self._name(task), txt_value(task), deadline=until)

    async def cleanup(self, task: Task, *, deadline: float) -> None:
        """
        Have it taken away.
        """
        await self._run("cleanup", task, deadline)

    async def aclose(self) -> None:
        """
        Nothing is held.
        """

    async def _name(self, task: Task) -> dns.name.Name:
        name = challenge_name(task)
        return await self._zones.follow(name) if self._options.resolvers else name

    async def _run(self, action: str, task: Task, deadline: float) -> None:
        name = await self._name(task)
        await self._hook.run(
            action,
            name.to_text(omit_final_dot=True),
            txt_value(task),
            deadline=deadline,
            challenge=task.kind.value,
            identifier=task.identifier.value,
        )


def make_dns01(options: Dns01, clock: Clock) -> Solver:
    """
    The solver that the table asks for.
    """
    if options.server is not None:
        return UpdateSolver(options, options.server, clock)
    return DnsHookSolver(options, options.hook or (), clock)
