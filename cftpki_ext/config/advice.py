"""
What is no fault of a configuration and will be trouble all the same: `config check` warns of it.

Owns the warnings. Reads the chains that the configuration names; decides nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from cftpki_ext.config.credentials import certificates_in
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.identity_settings import Identity, TokenIdentity
from cftpki_ext.core.settings import Settings, TrustSet
from cftpki_ext.core.vocabulary import Direction, Phase
from cftpki_ext.x509.certificate import Certificate, parse_certificate

# Whoever orders a new certificate by hand needs so long.
SOON = timedelta(days=30)


def warnings_of(settings: Settings, now: datetime) -> tuple[str, ...]:
    """
    What somebody should look at before partners do.

    Args:
        settings: a configuration without faults.
        now: what ends are compared with.

    Returns:
        Printable lines, each with the section that it is about.

    """
    found = [*_rules(settings)]
    for trust in settings.trusts.values():
        found += _trust(trust, now)
    for identity in settings.identities.values():
        if isinstance(identity, Identity | TokenIdentity):
            found += _identity(identity, settings, now)
    return tuple(dict.fromkeys(map(printable, found)))


def _rules(settings: Settings) -> Iterator[str]:
    if not settings.rules:
        yield "there is no [[rule]]: every session is refused with 80 (no_rule)"
        return
    for rule in settings.rules:
        handled = frozenset(settings.service.phases) - rule.not_handled
        if not handled - {Phase.START_TASK, Phase.START_HANDSHAKE, Phase.END_SESSION, Phase.END_TASK}:
            yield f"rule {rule.name!r} leaves every phase to the host: it does nothing"
        elif Phase.CHECK_CERTIFICATE not in handled:
            yield f"rule {rule.name!r} leaves the partner's certificate to the host: nobody's revocation is looked at"
        if rule.identity is None and rule.direction is Direction.SERVER and Phase.GET_CERTIFICATE in handled:
            yield f"rule {rule.name!r} has no identity: as a server it has no certificate to show"
    used = {rule.trust for rule in settings.rules}
    yield from (
        f"[trust.{name}] is named by no rule: nobody is judged by it"
        for name in sorted(settings.trusts.keys() - used)
        if not any(getattr(one, "trust", None) == name for one in settings.identities.values())
    )
    shown = {rule.identity for rule in settings.rules}
    yield from (
        f"[identity.{name}] is named by no rule: it is shown to nobody"
        for name in sorted(settings.identities.keys() - shown)
    )


def _trust(trust: TrustSet, now: datetime) -> Iterator[str]:
    where = f"[trust.{trust.name}]"
    for one in _read(trust.anchors):
        yield from _ending(f"{where} anchor {one.label}", one, now)
        if not one.is_ca and not one.self_issued:
            yield (
                f"{where} anchor {one.label} is no CA's certificate: it lets in itself and nobody else; name the root above"
                f" it ({one.issuer.text}) if its siblings are meant"
            )
        elif one.is_ca and not one.self_issued:
            yield (
                f"{where} anchor {one.label} is an intermediate CA's: what {one.issuer.text} says of its revocation is not"
                " asked"
            )
    for what, ders in (
        ("intermediate", trust.intermediates),
        ("responder's certificate", trust.ocsp_signers),
        ("root for https", trust.https_roots),
    ):
        for one in _read(ders):
            yield from _ending(f"{where} {what} {one.label}", one, now)


def _identity(identity: Identity | TokenIdentity, settings: Settings, now: datetime) -> Iterator[str]:
    where = f"[identity.{identity.name}]"
    try:
        chain = tuple(_read(certificates_in(identity.chain_file, what="chain")))
    except InputError:
        return  # a fault, and told as one
    for one in chain:
        yield from _ending(f"{where} {one.label}", one, now)
    if not chain or chain[-1].self_issued:
        return
    last = chain[-1]
    roots = {one.subject.key for trust in settings.trusts.values() for one in _read(trust.anchors)}
    if last.issuer.key not in roots and (len(chain) == 1 or not last.is_ca):
        yield (
            f"{where} the chain in {identity.chain_file} ends at {last.label}, and its issuer {last.issuer.text} is not in it:"
            " a partner that does not have that intermediate certificate cannot verify it"
        )


def _ending(who: str, one: Certificate, now: datetime) -> Iterator[str]:
    if one.not_after < now:
        yield f"{who} has expired ({one.not_after:%Y-%m-%d %H:%M}Z)"
    elif now < one.not_before:
        yield f"{who} is not valid before {one.not_before:%Y-%m-%d %H:%M}Z"
    elif one.not_after < now + SOON:
        yield f"{who} ends soon ({one.not_after:%Y-%m-%d %H:%M}Z)"


def _read(ders: Iterable[bytes]) -> Iterator[Certificate]:
    for der in ders:
        with contextlib.suppress(InputError):
            yield parse_certificate(der)
