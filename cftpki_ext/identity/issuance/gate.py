"""
Issued against requested: every difference as a value, before a certificate is put to use. Pure.

Owns what counts as a difference. Trust was decided by `normalise`.
"""

from __future__ import annotations

import enum
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography.hazmat.primitives.serialization import load_der_public_key

from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import KeyKind, Usage
from cftpki_ext.identity.enroller_port import Names
from cftpki_ext.identity.issuance.normalise import Chain
from cftpki_ext.identity.store.private_keys import key_kind
from cftpki_ext.path.request import Purpose
from cftpki_ext.path.usage import extended_key_usage_violation, key_usage_violation
from cftpki_ext.x509.certificate import Certificate

# Two certificates that a CA caps by the same end (of its own, say) may differ by what its backdating rounds.
END_TOLERANCE = timedelta(minutes=5)
# A CA's clock may be ahead, and some date tomorrow; what begins later is no successor of what ends meanwhile.
LONGEST_HOLD = timedelta(days=1)
# The usual reason: a public CA issues for servers alone, and without a word `usages` asks for both.
_USAGES = "change the profile at the CA, or usages here"
_PURPOSES = {Usage.SERVER: Purpose.TLS_SERVER, Usage.CLIENT: Purpose.TLS_CLIENT}


class Aspect(enum.StrEnum):
    """
    In what respect a certificate is not what was asked for.
    """

    NAMES = "names"
    KEY = "key"
    LIFETIME = "lifetime"
    EXPIRED = "expired"
    USAGE = "usage"
    ISSUER = "issuer"
    POLICY = "policy"
    CA = "ca"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """
    One respect in which the issued certificate differs from the one requested, with both sides.
    """

    aspect: Aspect
    wanted: str
    got: str

    def __str__(self) -> str:
        """
        One line for the operator.
        """
        return f"{self.aspect.value}: wanted {self.wanted}, got {self.got}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """
    What was asked for, and what is in force now. `ends` is the end of the chain in force while it can be used.
    """

    names: Names
    usages: frozenset[Usage]
    key: KeyKind | None  # `None` where somebody else makes the key
    lifetime: timedelta | None = None
    lifetime_share: float = 0.9
    issuers: frozenset[bytes] = frozenset()  # SubjectPublicKeyInfo of those that may issue; empty = any
    policies: frozenset[str] = frozenset()
    ends: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """
    The answer of the gate: nothing differs, perhaps not yet to be used; or the differences.
    """

    differences: tuple[Difference, ...]
    hold_until: datetime | None = None


def compare(wanted: Wanted, chain: Chain, *, now: datetime) -> Passage:
    """
    Compare a certificate with what was asked for.

    By default names are compared as sets and exactly: one more is as wrong as one less. Without a lifetime
    asked for, the new chain must not end before the one in force. An expired chain never passes.

    Args:
        wanted: what was asked for.
        chain: normalised, so it is for our key and leads to an anchor.
        now: the wall-clock time.

    Returns:
        Every difference; `hold_until` where the certificate is not valid yet, but soon.

    """
    leaf = chain.leaf
    found = [*_names(wanted.names, leaf), *_key(wanted, leaf), *_lifetime(wanted, chain, now)]
    for usage in sorted(wanted.usages):
        purpose = _PURPOSES[usage]
        clauses = [key_usage_violation(leaf, purpose)]
        clauses += [extended_key_usage_violation(c, purpose) for c in (*chain.certificates, chain.anchor)]
        found += [
            Difference(aspect=Aspect.USAGE, wanted=usage.value, got=f"{clause} ({_USAGES})")
            for clause in clauses
            if clause
        ][:1]
    above = chain.certificates[1] if len(chain.certificates) > 1 else chain.anchor
    if wanted.issuers and above.spki not in wanted.issuers:
        found.append(
            Difference(aspect=Aspect.ISSUER, wanted="one of the configured CAs", got=above.subject.text)
        )
    missing = wanted.policies - set(leaf.policies or ())
    if missing:
        got = ", ".join(leaf.policies or ()) or "none"
        found.append(Difference(aspect=Aspect.POLICY, wanted=", ".join(sorted(missing)), got=got))
    if leaf.is_ca:
        found.append(Difference(aspect=Aspect.CA, wanted="an end entity", got="a CA certificate"))
    hold = leaf.not_before if leaf.not_before > now else None
    return Passage(differences=tuple(found), hold_until=hold)


def _names(wanted: Names, leaf: Certificate) -> list[Difference]:
    expected = {f"dns:{name}" for name in wanted.dns} | {f"ip:{address}" for address in wanted.addresses}
    got = set()
    for name in leaf.subject_alt_names:
        if name.kind == "dns" and isinstance(name.value, str):
            got.add(f"dns:{name.value.lower().rstrip('.')}")
        elif name.kind == "ip" and isinstance(name.value, bytes) and len(name.value) in {4, 16}:
            got.add(f"ip:{ip_address(name.value)}")
        else:
            got.add(f"{name.kind}:…")
    if expected == got:
        return []
    missing, more = sorted(expected - got), sorted(got - expected)
    said = "; ".join(
        f"{what} {', '.join(names)}" for what, names in (("without", missing), ("also", more)) if names
    )
    return [Difference(aspect=Aspect.NAMES, wanted=", ".join(sorted(expected)), got=said)]


def _key(wanted: Wanted, leaf: Certificate) -> list[Difference]:
    got = key_kind(load_der_public_key(leaf.spki))
    if wanted.key is None or got == wanted.key.value:
        return []
    return [Difference(aspect=Aspect.KEY, wanted=wanted.key.value, got=got)]


def _lifetime(wanted: Wanted, chain: Chain, now: datetime) -> list[Difference]:
    leaf = chain.leaf
    if chain.ends <= now:
        return [
            Difference(aspect=Aspect.EXPIRED, wanted="a valid one", got=f"ended {chain.ends.isoformat()}")
        ]
    # RFC 5280 4.1.2.5: both ends belong to the period.
    issued = leaf.not_after - leaf.not_before + timedelta(seconds=1)
    if leaf.not_before > now + LONGEST_HOLD:
        return [
            Difference(
                aspect=Aspect.LIFETIME,
                wanted=f"one that is valid within {LONGEST_HOLD}",
                got=f"one that begins {leaf.not_before.isoformat()}",
            )
        ]
    if wanted.lifetime is not None:
        least = wanted.lifetime * wanted.lifetime_share
        if issued < least:
            return [Difference(aspect=Aspect.LIFETIME, wanted=f"{least} at least", got=str(issued))]
    elif wanted.ends is not None and chain.ends < wanted.ends - END_TOLERANCE:
        return [
            Difference(
                aspect=Aspect.LIFETIME,
                wanted=f"until {wanted.ends.isoformat()}, the end of the chain in force",
                got=chain.ends.isoformat(),
            )
        ]
    return []
