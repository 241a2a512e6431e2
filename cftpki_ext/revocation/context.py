"""
What the judgement of revocation needs to know besides the statements themselves.

Owns `RevocationContext`. A value: the time is in it, and nothing here reads a clock or a file.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Rules
from cftpki_ext.x509.certificate import Certificate

IssuerPath = Callable[[Certificate, datetime], tuple[Certificate, ...] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationContext:
    """
    One trusted path and everything that may help to establish the status of its certificates.

    The path is taken as trusted: names and signatures of its certificates are not looked at again. `issuer_path`
    gives a path (the signer first, the anchor last) for a certificate that signed a CRL, valid at a time and ending
    at the *same anchor* as `path`, or `None`; it need not look at revocation, `judge_crls` does.
    """

    now: datetime
    path: tuple[Certificate, ...]  # leaf … anchor
    trust: TrustSet
    limits: Limits
    pool: tuple[Certificate, ...]  # everything that could have signed a CRL, or issued a delegate
    issuer_path: IssuerPath
    # Statements about other certificates: a CRL signer outside the path is looked up in these too, because its own issuer
    # is most often the CA one step above.
    statements: tuple[Statement, ...] = ()
    rules: Rules = Rules.ALL_HEARD
