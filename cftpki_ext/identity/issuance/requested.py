"""
What the configuration asks for, in the gate's terms. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from cryptography.exceptions import UnsupportedAlgorithm

from cftpki_ext.core.identity_settings import ManagedIdentity
from cftpki_ext.identity.enroller_port import Names
from cftpki_ext.identity.issuance.gate import Wanted, compare
from cftpki_ext.identity.issuance.normalise import Chain
from cftpki_ext.identity.issuance.request import public_key_of
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.journal import OrderRecord
from cftpki_ext.x509.certificate import parse_certificate


def names_of(identity: ManagedIdentity) -> Names:
    """
    The names that the configuration asks for.
    """
    return Names(common_name=identity.common_name, dns=identity.dns, addresses=identity.addresses)


def wanted_of(
    identity: ManagedIdentity, current: Generation | None, now: datetime, *, own_key: bool
) -> Wanted:
    """
    What the gate compares with.

    Args:
        identity: the configuration.
        current: what the new chain must outlive; once it has ended anything that is valid is better.
        now: the wall-clock time.
        own_key: whether we made the key.

    Returns:
        What to ask for.

    """
    return Wanted(
        names=names_of(identity),
        usages=identity.usages,
        key=identity.key if own_key else None,
        lifetime=identity.lifetime,
        lifetime_share=identity.lifetime_share,
        issuers=frozenset(parse_certificate(der).spki for der in identity.issuers),
        policies=identity.policies,
        ends=current.ends if current is not None and current.ends > now else None,
    )


def changed(identity: ManagedIdentity, current: Generation, now: datetime) -> bool:
    """
    Whether what is in force would not pass the gate for what is configured now. Its age is the schedule's business.
    """
    wanted = wanted_of(identity, None, now, own_key=current.meta.own_key)
    wanted = replace(wanted, lifetime=None, issuers=frozenset())
    chain = Chain(certificates=current.chain, anchor=current.chain[-1])
    within = min(max(now, current.leaf.not_before), current.ends - timedelta(seconds=1))
    return bool(compare(wanted, chain, now=within).differences)


def still_wanted(
    record: OrderRecord, identity: ManagedIdentity, *, revoked: bool, current: Generation | None
) -> bool:
    """
    Whether what was ordered is what the configuration asks for; never with the key of a revoked certificate.
    """
    try:
        key = public_key_of(record.csr)
    except (ValueError, UnsupportedAlgorithm):
        return False  # a record that was damaged: nobody can be asked for that
    if revoked and current is not None and key == current.leaf.spki:
        return False
    return (
        record.names == names_of(identity)
        and record.key == identity.key
        and frozenset(record.usages) == identity.usages
    )
