"""
The question that the path engine answers, and its answer.

Owns `PathRequest`, `Purpose` and `PathResult`.
"""

from __future__ import annotations

import enum
from dataclasses import field
from datetime import datetime

from cftpki_ext.core.settings import Limits, PolicyInputs
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Fault
from cftpki_ext.core.vocabulary import Leniency
from cftpki_ext.core.work import Work
from cftpki_ext.x509.certificate import Certificate


class Purpose(enum.Enum):
    """
    What the leaf is to be used for. `ANY` looks at neither key usage nor extended key usage of the leaf.
    """

    TLS_CLIENT = "tls_client"
    TLS_SERVER = "tls_server"
    CRL_SIGNING = "crl_signing"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRequest:
    """
    A leaf with what was sent beside it, whom we trust, and the inputs of RFC 5280 6.1.1.

    `chain` is leaf first as presented; only the leaf's place matters, the rest is a pool like `intermediates`. `work`
    is where operations are counted; by default each search may cost `limits.work`.
    """

    chain: tuple[Certificate, ...]
    anchors: tuple[Certificate, ...]
    intermediates: tuple[Certificate, ...] = ()
    now: datetime
    purpose: Purpose
    inputs: PolicyInputs = field(default_factory=PolicyInputs)
    compat: frozenset[Leniency] = frozenset()
    limits: Limits = field(default_factory=Limits)
    work: Work | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathResult:
    """
    The best candidate path, leaf to anchor, and everything that is wrong with it.

    No faults means valid. `trusted` means that signatures and names chain up to an anchor through real CAs, so
    that what the certificates say (a location, say) may be believed, even where another fault refuses them.
    `valid_policies` is the user-constrained policy set of RFC 5280 6.1.6, in the terms of the anchor's domain.
    """

    path: tuple[Certificate, ...]
    faults: tuple[Fault, ...]
    trusted: bool
    valid_policies: frozenset[str] = frozenset()

    @property
    def valid(self) -> bool:
        """
        Whether the path is valid: it is there and nothing is wrong with it.
        """
        return bool(self.path) and not self.faults
