"""
What a CMP server's status means for the next attempt (RFC 9810 5.2.3).

Pure. Owns the mapping from PKIFailureInfo to `enroller_port.Fault`, and the words.
"""

from __future__ import annotations

from types import MappingProxyType

from cftpki_connectors.cmp.values import Outcome, Status
from cftpki_ext.core.escape import excerpt
from cftpki_ext.identity.enroller_port import Fault

_DETAIL_CHARACTERS = 300

FAILURES = MappingProxyType(
    dict(
        enumerate(
            (
                "badAlg",
                "badMessageCheck",
                "badRequest",
                "badTime",
                "badCertId",
                "badDataFormat",
                "wrongAuthority",
                "incorrectData",
                "missingTimeStamp",
                "badPOP",
                "certRevoked",
                "certConfirmed",
                "wrongIntegrity",
                "badRecipientNonce",
                "timeNotAvailable",
                "unacceptedPolicy",
                "unacceptedExtension",
                "addInfoNotAvailable",
                "badSenderNonce",
                "badCertTemplate",
                "signerNotTrusted",
                "transactionIdInUse",
                "unsupportedVersion",
                "notAuthorized",
                "systemUnavail",
                "systemFailure",
                "duplicateCertReq",
            )
        )
    )
)

CERT_REVOKED = 10
_TEMPORARY = frozenset({14, 24, 25})
# Who we are, what we may, and what is spoken: the same request says the same again.
_OPERATORS = frozenset({0, 1, 3, 6, 8, 12, 20, 22, 23})
# The server does not know the transaction, or not as we do.
_TRANSACTION = frozenset({2, 13, 18, 21})
_HINTS = MappingProxyType(
    {
        1: "are reference, secret_file or the certificate that protects the request those that the CA knows?",
        3: "are both clocks right?",
        6: "is recipient the CA that is to issue?",
        12: "does the CA want the request signed, or protected by a secret?",
        20: "the CA does not know the certificate that protects the request",
        23: "may this name have certificates at the CA?",
    }
)


def fault_of(status: Status, *, under_way: bool = False) -> Fault:
    """
    What a status that is no success means.

    Args:
        status: of a message that is believed.
        under_way: whether it answers a poll or a confirmation: then a server that does not know the transaction has
            lost the order.

    Returns:
        The fault; without any failure bit the CA refuses.

    """
    bits = status.failures
    if under_way and bits & _TRANSACTION:
        return Fault.ORDER_LOST
    if bits & _OPERATORS:
        return Fault.MISCONFIGURED
    if bits and bits <= _TEMPORARY | (frozenset() if under_way else frozenset({13, 18, 21})):
        return Fault.UNREACHABLE
    return Fault.REFUSED


def words(status: Status) -> str:
    """
    A status in one bounded line: outcome, failures by their names, what the server says, and a hint.
    """
    said = status.outcome.name.lower().replace("_", " ")
    names = [FAILURES.get(bit, f"bit {bit}") for bit in sorted(status.failures)]
    if names:
        said += f" ({', '.join(names)})"
    if status.texts:
        said += f": {'; '.join(status.texts)}"
    said = excerpt(said, _DETAIL_CHARACTERS)
    hints = [_HINTS[bit] for bit in sorted(status.failures) if bit in _HINTS]
    return "; ".join((said, *hints[:1]))


def granted(status: Status) -> bool:
    """
    Whether a certificate was issued.
    """
    return status.outcome in {Outcome.ACCEPTED, Outcome.GRANTED_WITH_MODS}


def revoked(status: Status) -> bool:
    """
    Whether a certificate is revoked by now, or about to be (RFC 9810 5.3.10).
    """
    done = {
        Outcome.ACCEPTED,
        Outcome.GRANTED_WITH_MODS,
        Outcome.REVOCATION_WARNING,
        Outcome.REVOCATION_NOTIFICATION,
    }
    return status.outcome in done or CERT_REVOKED in status.failures
