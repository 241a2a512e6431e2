"""
What the core asks of status sources, which fetch what CAs say of a certificate. Each docstring is the contract of its adapters.

Ours are in `connectors/cftpki_connectors/status`. They are found through the entry point group `cftpki.status_sources`, and so
are those of third parties.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from cftpki_ext.core.large_lists import Spool
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.validators import Validators
from cftpki_ext.core.values import dataclass
from cftpki_ext.x509.outline import AskedAbout


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownVersion:
    """
    What a location sent before, and what it said of that version.
    """

    raw: bytes | LargeOctets
    validators: Validators


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusQuestion:
    """
    What a status source is asked: the certificate, its issuer, where, and until when (monotonic seconds).

    `hear_time` is told the origin of each server that answers over HTTP, and what time it says it is. Large answers go to
    `spool`, where there is one. A source that asks whether there is another version than `known`, and is told "no", answers with
    that very `known.raw`. `hear_validators` is told what was said of a version that came whole.
    """

    lookup: Lookup
    certificate: AskedAbout
    issuer: AskedAbout
    trust: TrustSet
    limits: Limits
    deadline: float
    hear_time: Callable[[str, datetime], None] | None = None
    spool: Spool | None = None
    known: KnownVersion | None = None
    hear_validators: Callable[[Validators], None] | None = None


class StatusSource(Protocol):
    """
    Fetches one statement from one location. Judges nothing: bytes come back as received.

    An adapter never raises for what the network does: failure is a `Statement` with its cause. It connects
    only where the trust set allows, keeps to the limits, and gives up at the deadline. Where a place holds several
    answers it may hand them all on (`Statement.also`).
    """

    async def ask(self, question: StatusQuestion) -> Statement:
        """
        Ask `question.lookup.url` for the status of `question.certificate`.
        """

    async def aclose(self) -> None:
        """
        Release connections.
        """
