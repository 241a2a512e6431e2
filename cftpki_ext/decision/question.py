"""
What is asked of the decision: a chain and everything that it depends on, save what is heard about it. Pure.
"""

from __future__ import annotations

from datetime import datetime

from cftpki_ext.core.settings import Limits, Partners, TrustSet
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Fault
from cftpki_ext.core.vocabulary import Direction, Rules
from cftpki_ext.core.work import Work
from cftpki_ext.path import PathRequest, Purpose
from cftpki_ext.x509.certificate import Certificate

_PURPOSES = {Direction.SERVER: Purpose.TLS_CLIENT, Direction.CLIENT: Purpose.TLS_SERVER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """
    All that a decision depends on, save the statements. Certificates are DER, the chain leaf first.

    `path_only` leaves revocation out. `untrusted` are certificates that may help to build the path. `partners`
    are the rule's lists of whom it lets in, `None` where it lets in whoever is trusted. `blocks` are the partners that an
    operator has shut out (`core.blocks`), `None` where there are none.
    `message` is the handshake message itself where it could not be split into `chain`, which then is empty.
    `fault` was found before anything could be judged, and refuses by itself. `ask` is off where the caller wants
    nobody to be asked: then nobody's silence is held against anything.
    """

    chain: tuple[bytes, ...]
    direction: Direction
    trust: TrustSet
    limits: Limits
    at: datetime
    rule: str | None
    path_only: bool = False
    untrusted: tuple[bytes, ...] = ()
    partners: Partners | None = None
    blocks: bytes | None = None
    message: bytes | None = None
    fault: Fault | None = None
    ask: bool = True
    rules: Rules = Rules.ALL_HEARD


def path_request(
    question: Question,
    chain: tuple[Certificate, ...],
    anchors: tuple[Certificate, ...],
    helping: tuple[Certificate, ...],
    work: Work,
) -> PathRequest:
    """
    The search for a path that a question asks for.

    Args:
        question: what is asked.
        chain: presented certificates, the leaf first.
        anchors: where a path may end.
        helping: other certificates that may be on it.
        work: what the question may cost, and has cost so far.

    Returns:
        The request of a path for the question's direction, time, trust set and limits.

    """
    trust = question.trust
    return PathRequest(
        chain=chain,
        anchors=anchors,
        intermediates=helping,
        now=question.at,
        purpose=_PURPOSES[question.direction],
        inputs=trust.policy_inputs,
        compat=trust.compat,
        limits=question.limits,
        work=work,
    )
