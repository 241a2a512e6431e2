"""
How a certificate is asked for, and what a refusal means for the next attempt.

Pure: RenewalReq or PKCSReq, with the password or without; from failInfo to `enroller_port.Fault`.
"""

from __future__ import annotations

from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import rsa

from cftpki_connectors.scep.authorities import Authorities, issued
from cftpki_connectors.scep.reading import Reply
from cftpki_connectors.scep.vocabulary import Capability, FailInfo, MessageType, Renewal
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Failed, Fault, Order
from cftpki_ext.x509.certificate import Certificate, MalformedCertificateError, parse_certificate
from cftpki_ext.x509.extensions import KeyUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What to send. `reasons` says why a renewal is not signed by the certificate in force.
    """

    operation: MessageType
    challenge: bool
    reasons: tuple[str, ...] = ()


def plan(
    order: Order,
    renewal: Renewal,
    *,
    challenge: bool,
    capabilities: frozenset[Capability],
    authorities: Authorities,
    now: datetime,
) -> Plan:
    """
    Decide between a first request and a renewal (RFC 8894 2.3, 3.3.1).

    Args:
        order: with or without a certificate in force.
        renewal: the configured way.
        challenge: whether there is a password.
        capabilities: of the server; that it lists no Renewal counts only where there is another way.
        authorities: its CAs.
        now: aware.

    Returns:
        The plan.

    """
    first = Plan(operation=MessageType.PKCS_REQ, challenge=challenge)
    if order.current is None:
        return first
    if renewal is Renewal.PASSWORD:
        return first
    try:
        current = parse_certificate(order.current.chain[0])
    except (MalformedCertificateError, IndexError):
        reasons = ["the certificate in force cannot be read"]
    else:
        reasons = _obstacles(order, current, authorities, now)
    known = {Capability.RENEWAL, Capability.SCEP_STANDARD} & capabilities
    if not reasons and not known and challenge:
        reasons.append("the server lists neither Renewal nor SCEPStandard (GetCACaps)")
    if reasons:
        return Plan(operation=MessageType.PKCS_REQ, challenge=challenge, reasons=tuple(reasons))
    return Plan(operation=MessageType.RENEWAL_REQ, challenge=challenge and renewal is Renewal.BOTH)


def _obstacles(order: Order, current: Certificate, authorities: Authorities, now: datetime) -> list[str]:
    found = []
    if order.revoked:
        found.append("the certificate in force is revoked")
    if not current.not_before <= now <= current.not_after:
        found.append(f"the certificate in force is valid only until {current.not_after:%Y-%m-%d %H:%M} UTC")
    if order.current is not None and not isinstance(order.current.key, rsa.RSAPrivateKey):
        found.append("the key of the certificate in force is not RSA and cannot decrypt an answer")
    lacks = _usage_fault(current)
    if lacks is not None:
        found.append(f"the certificate in force {lacks}")
    if not any(issued(current, ca) for ca in authorities.cas):
        found.append("the certificate in force is from none of the server's CAs")
    return found


def _usage_fault(certificate: Certificate) -> str | None:
    usage = certificate.key_usage
    if usage is None or {KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT} <= usage:
        return None
    return "lacks digitalSignature or keyEncipherment in its key usage"


def outlook(leaf: bytes, order: Order, renewal: Renewal, *, challenge: bool) -> str:
    """
    How a certificate that was issued just now can be renewed, so that one that cannot be is known at once.

    Args:
        leaf: DER.
        order: whose key is that of the leaf.
        renewal: the configured way.
        challenge: whether there is a password.

    Returns:
        One clause.

    """
    why = ""
    if renewal is Renewal.PASSWORD:
        why = 'the configuration says renewal = "password"'
    elif not isinstance(order.key, rsa.RSAPrivateKey):
        why = "its key is not RSA"
    else:
        try:
            lacks = _usage_fault(parse_certificate(leaf))
        except MalformedCertificateError:
            lacks = "cannot be read"
        why = "" if lacks is None else f"it {lacks}"
    if not why:
        return "renewal: RenewalReq, signed by this certificate"
    if challenge:
        return f"renewal: PKCSReq with the password in challenge_file, since {why}; a one-time password has to be replaced before"
    return f"renewal: PKCSReq without a password, since {why} and no challenge_file is configured"


def refused(
    reply: Reply,
    sent: Plan,
    *,
    unanswered: int,
    hints: tuple[str, ...],
    now: datetime,
) -> Failed:
    """
    What a FAILURE means (RFC 8894 3.2.1.4).

    Args:
        reply: of the server.
        sent: what was asked.
        unanswered: earlier requests of this order that had no answer.
        hints: what might be wrong with algorithms.
        now: by our clock.

    Returns:
        The fault. SCEP has no word for "wrong password": servers say badRequest, NDES badMessageCheck too.

    """
    detail = f"{sent.operation.text} was refused: {reply.failure}"
    match reply.reason:
        case FailInfo.BAD_ALG:
            return Failed(fault=Fault.MISCONFIGURED, detail=_joined(detail, *hints))
        case FailInfo.BAD_TIME:
            clock = f"this host's clock says {now:%Y-%m-%d %H:%M:%S} UTC"
            return Failed(fault=Fault.MISCONFIGURED, detail=_joined(detail, clock))
        case FailInfo.BAD_CERT_ID if sent.operation is MessageType.CERT_POLL:
            return Failed(
                fault=Fault.ORDER_LOST, detail=_joined(detail, "the server does not know the order any more")
            )
        case _:
            pass
    if sent.operation is MessageType.PKCS_REQ:
        detail = _joined(detail, _password_hint(sent, unanswered))
    return Failed(fault=Fault.REFUSED, detail=_joined(detail, *hints))


def _password_hint(sent: Plan, unanswered: int) -> str:
    if not sent.challenge:
        return "the server may want a password: set challenge_file"
    used = (
        "; an earlier request of this order, whose answer was lost, may have used it up" if unanswered else ""
    )
    return (
        "the password may be wrong, expired or used up (NDES takes each once, within 60 minutes): put a new one into "
        f"challenge_file, which is read at each attempt{used}"
    )


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
