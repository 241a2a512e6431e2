"""
The Python interface: `check_certificate` judges one chain and says why.

    from cftpki_ext.api import check_certificate
    verdict = check_certificate(chain_pem, trust=[root_pem])
    if not verdict.accepted:
        print(verdict.alert, verdict.summary)

The same engine answers the exit, the socket and the command line; the same question gets the same answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from cftpki_ext.bootstrap.checker import make_checker
from cftpki_ext.checking.checker import Checker
from cftpki_ext.config import load
from cftpki_ext.config.units import is_ldap_server
from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.core.policy import PROFILES, Policy
from cftpki_ext.core.settings import Limits, Partners, PolicyInputs, Settings, TrustSet
from cftpki_ext.core.source_settings import LdapAccess
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.vocabulary import Direction, Leniency, Origin, SourceKind
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked, Door, Record
from cftpki_ext.support import pem
from cftpki_ext.x509.certificate import parse_certificate

__all__ = ["check_certificate", "check_certificate_async", "trust_set"]


def trust_set(
    anchors: Sequence[bytes],
    *,
    name: str = "given",
    policy: Policy | str = "strict",
    allow_hosts: Sequence[str] = (),
    allow_networks: Sequence[str] = (),
    ldap: LdapAccess | None = None,
    policy_inputs: PolicyInputs | None = None,
    compat: Sequence[str | Leniency] = (),
) -> TrustSet:
    """
    Make a trust set from anchors alone.

    Status is asked of OCSP, then CRL, at the locations that the certificates name, on hosts that the anchors
    name themselves or `allow_hosts` allows.

    Args:
        anchors: trusted certificates, each PEM (any number of blocks) or DER.
        name: how evidence calls it.
        policy: a policy, or the name of a built-in profile (`strict`, `resilient`, `audit`).
        allow_hosts: names, `*.suffix`, addresses or CIDRs that may be asked.
        allow_networks: private ranges that may be connected to, as CIDRs.
        ldap: how directories may be asked for CRLs; by default not at all.
        policy_inputs: the initial certificate policies of RFC 5280 6.1.1; any-policy by default.
        compat: leniencies for old CAs, by name.

    Returns:
        The trust set.

    Raises:
        InputError: no anchor, an unknown policy or leniency, a network that is none.

    """
    ders = tuple(der for data in anchors for der in pem.certificates(data, what="trust anchor"))
    if not ders:
        msg = "trust: no certificate was given to trust"
        raise InputError(msg)
    if isinstance(policy, str):
        if policy not in PROFILES:
            msg = f"policy {policy!r} is none of {', '.join(sorted(PROFILES))}"
            raise InputError(msg)
        policy = PROFILES[policy]
    networks = tuple(_network(network) for network in allow_networks)
    leniencies = frozenset(_leniency(item) for item in compat)
    return TrustSet(
        name=name,
        anchors=ders,
        policy=policy,
        allow_hosts=tuple(allow_hosts),
        allow_networks=networks,
        ldap=_checked(ldap),
        policy_inputs=policy_inputs or PolicyInputs(),
        compat=leniencies,
    )


async def check_certificate_async(
    chain: bytes | Sequence[bytes],
    *,
    trust: TrustSet | Sequence[bytes] | None = None,
    config: Settings | Path | str | None = None,
    direction: Direction | str = Direction.SERVER,
    crls: Sequence[bytes] = (),
    ocsp: Sequence[bytes] = (),
    staple: bytes | None = None,
    untrusted: Sequence[bytes] = (),
    at: datetime | None = None,
    fetch: bool = True,
    path_only: bool = False,
    limits: Limits | None = None,
    asked: Asked | None = None,
) -> Verdict:
    """
    Judge a partner's chain; see `check_certificate`.
    """
    (verdict,) = [
        verdict
        async for verdict in check_each_async(
            (chain,),
            trust=trust,
            config=config,
            direction=direction,
            crls=crls,
            ocsp=ocsp,
            staple=staple,
            untrusted=untrusted,
            at=at,
            fetch=fetch,
            path_only=path_only,
            limits=limits,
            asked=asked,
        )
    ]
    return verdict


async def check_each_async(
    chains: Iterable[bytes | Sequence[bytes]],
    *,
    trust: TrustSet | Sequence[bytes] | None = None,
    config: Settings | Path | str | None = None,
    direction: Direction | str = Direction.SERVER,
    crls: Sequence[bytes] = (),
    ocsp: Sequence[bytes] = (),
    staple: bytes | None = None,
    untrusted: Sequence[bytes] = (),
    at: datetime | None = None,
    fetch: bool = True,
    path_only: bool = False,
    limits: Limits | None = None,
    asked: Asked | None = None,
) -> AsyncGenerator[Verdict, None]:
    """
    Judge chains one after the other; see `check_certificate`. What was fetched for one serves the next.

    Yields:
        A verdict for each chain, in their order, whatever came of those before.

    """
    side = Direction(direction)
    settings = load(Path(config), forgive_ended=True) if isinstance(config, str | Path) else config
    rule, chosen, partners = _trust(trust, settings, side)
    if at is not None and at.tzinfo is None:
        msg = f"at: {at.isoformat()} has no time zone"
        raise InputError(msg)
    given = [
        (kind, origin, der)
        for kind, origin, ders in (
            (SourceKind.OCSP, Origin.STAPLED, [staple] if staple is not None else []),
            (SourceKind.OCSP, Origin.HANDED_IN, [d for o in ocsp for d in pem.ocsp_responses(o)]),
            (SourceKind.CRL, Origin.HANDED_IN, [d for c in crls for d in pem.crls(c)]),
        )
        for der in ders
    ]
    helping = tuple(d for u in untrusted for d in pem.certificates(u, what="untrusted"))
    asked = asked or Asked(door=Door.PYTHON)
    checker: Checker | None = None
    try:
        for chain in chains:
            moment = at or datetime.now(UTC)
            question = Question(
                chain=chain_of(chain),
                direction=side,
                trust=chosen,
                limits=limits or (settings.limits if settings else Limits()),
                at=moment,
                rule=rule,
                path_only=path_only,
                ask=fetch,
                untrusted=helping,
                partners=partners,
            )
            handed_in = [
                Statement(kind=kind, origin=origin, received_at=moment, raw=der)
                for kind, origin, der in given
            ]
            checker = checker or make_checker(settings, fetch=fetch and not path_only, trusts=(chosen,))
            if settings is not None:
                question = replace(question, blocks=_blocked(settings))
            verdict, statements = await checker.check_with_statements(question, handed_in)
            record = Record(question=question, statements=statements, verdict=verdict, asked=asked)
            yield verdict if settings is None else await _kept(record, settings)
    finally:
        if checker is not None:
            await checker.aclose()


async def _kept(record: Record, settings: Settings) -> Verdict:
    """
    The verdict of a record that is kept; one that could not be has a warning, unless evidence is required.
    """
    from cftpki_ext.bootstrap.kept import keep_record  # noqa: PLC0415 - only with a state directory (ADR 0030)

    try:
        await asyncio.to_thread(keep_record, settings, record)
    except StoreError as exc:
        if settings.evidence.required:
            raise
        return replace(record.verdict, warnings=(*record.verdict.warnings, f"without record: {exc}"))
    return record.verdict


def check_certificate(
    chain: bytes | Sequence[bytes],
    *,
    trust: TrustSet | Sequence[bytes] | None = None,
    config: Settings | Path | str | None = None,
    direction: Direction | str = Direction.SERVER,
    crls: Sequence[bytes] = (),
    ocsp: Sequence[bytes] = (),
    staple: bytes | None = None,
    untrusted: Sequence[bytes] = (),
    at: datetime | None = None,
    fetch: bool = True,
    path_only: bool = False,
    limits: Limits | None = None,
    asked: Asked | None = None,
) -> Verdict:
    """
    Judge a partner's chain: path (RFC 5280 section 6), then revocation of every certificate below the anchor, then policy.

    By default everything that could not be established refuses, statuses are fetched from the network, and
    nothing is cached unless `config` names a state directory. Host names are *not* compared: the host that
    opens the session knows whom it meant to reach.

    Args:
        chain: the chain as presented, leaf first: PEM or DER bytes, or one such per certificate.
        trust: anchors (PEM or DER), or a `TrustSet`; alternatively `config`.
        config: settings or their file; the rule for `direction` names the trust set.
        direction: our host's side; `server` means that the chain is a client's.
        crls: CRLs (PEM or DER) that count besides what is fetched.
        ocsp: OCSP responses (DER or PEM), likewise.
        staple: the OCSP response that came in the handshake.
        untrusted: intermediate certificates that may help to build the path.
        at: the time of judgement, aware; now by default.
        fetch: whether the network may be asked.
        path_only: leave revocation out; the verdict says so in its notes.
        limits: bounds; those of `config`, or the defaults.
        asked: who asked, for the record that is kept where `config` is given (docs/evidence.md).

    Returns:
        The verdict, accepted or refused, with its evidence. One whose record could not be kept has a warning.

    Raises:
        StoreError: the state directory of `config` cannot be used, its list of blocked partners cannot be read, or its
            evidence is required and not kept.
        InputError: what was handed in cannot be read at all (the chain itself never raises: it is refused).
        ConfigError: `config` has faults.

    """
    return asyncio.run(
        check_certificate_async(
            chain,
            trust=trust,
            config=config,
            direction=direction,
            crls=crls,
            ocsp=ocsp,
            staple=staple,
            untrusted=untrusted,
            at=at,
            fetch=fetch,
            path_only=path_only,
            limits=limits,
            asked=asked,
        )
    )


def chain_of(chain: bytes | Sequence[bytes]) -> tuple[bytes, ...]:
    """
    The certificates of a chain as it was handed in.

    Args:
        chain: PEM, DER or a PKCS#7 bundle, or one such per certificate.

    Returns:
        DER, the partner's own first as in the input; a bundle, which has no order, is put into it. What cannot be read
        at all is there as it is: the chain is refused like any other bad one, not reported as the caller's fault.

    """
    parts = [chain] if isinstance(chain, bytes) else chain
    try:
        return tuple(
            der
            for part in parts
            for der in leaf_first(pem.bundled(part, what="chain")) or pem.certificates(part, what="chain")
        )
    except InputError:
        return tuple(parts)


def leaf_first(bundle: Sequence[bytes]) -> tuple[bytes, ...]:
    """
    The certificates of a PKCS#7 bundle with the partner's own first: the one that issued none of the others.

    Args:
        bundle: DER, in any order, which in a bundle says nothing.

    Returns:
        The same, in their order where there is no such certificate or more than one.

    """
    if len(bundle) < 2:
        return tuple(bundle)
    try:
        read = [parse_certificate(der) for der in bundle]
    except InputError:
        return tuple(bundle)
    issuers = {one.issuer.key for one in read if not one.self_issued}
    leaves = [
        one.der for one in read if one.subject.key not in issuers and not (one.self_issued and one.is_ca)
    ]
    if len(leaves) != 1:
        return tuple(bundle)
    return (leaves[0], *(der for der in bundle if der != leaves[0]))


def _trust(
    trust: TrustSet | Sequence[bytes] | None, settings: Settings | None, direction: Direction
) -> tuple[str | None, TrustSet, Partners | None]:
    if isinstance(trust, TrustSet):
        return None, trust, None
    if trust is not None:
        return None, trust_set(trust), None
    if settings is None:
        msg = "neither trust anchors nor a configuration were given"
        raise InputError(msg)
    rules = [rule for rule in settings.rules if rule.direction is direction]
    if len(rules) != 1:
        names = ", ".join(rule.name for rule in rules) or "none"
        msg = f"{len(rules)} rules have direction {direction.value!r} ({names}): name the trust set instead"
        raise InputError(msg)
    return rules[0].name, settings.trusts[rules[0].trust], rules[0].partners


def _blocked(settings: Settings) -> bytes | None:
    """
    The partners that operators have shut out; raises `StoreError` where that cannot be read.
    """
    from cftpki_ext.stores import open_blocks  # noqa: PLC0415 - only with a state directory (ADR 0030)

    return open_blocks(settings.service).document()


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as exc:
        msg = f"allow_networks: {text!r} is no network: an address, /, prefix length, and no bits after the prefix"
        raise InputError(msg) from exc


def _checked(ldap: LdapAccess | None) -> LdapAccess | None:
    for server in () if ldap is None else ldap.servers:
        if not is_ldap_server(server):
            msg = f"ldap: {server!r} is no directory server: ldap://host or ldaps://host, with a port or without"
            raise InputError(msg)
    return ldap


def _leniency(name: str) -> Leniency:
    try:
        return Leniency(name)
    except ValueError as exc:
        msg = f"compat: {name!r} is none of {', '.join(sorted(Leniency))}"
        raise InputError(msg) from exc
