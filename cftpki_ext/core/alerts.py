"""
THE table: reason → TLS alert, X509_V_ERR, and with it host result and CLI exit status. Nothing else maps.

The CLI's exit status for a refusal is the alert number; 0 is accepted, 2 usage. The host result of every
refusal is "processing error" with `iAlertReason_w` set. Alert numbers are those of "Checking a received
certificate" (Managing PKI exits) and RFC 5246 7.2; X509_V_ERR numbers those of OpenSSL's x509_vfy.h. A callback of
OpenSSL's chooses its alert by that number alone, so each is one that brings the row's alert (1.1.1 to 3.5 alike),
also where another would name the reason better; none brings 49 or 50 (docs/callbacks.md).
"""

from __future__ import annotations

import enum

from cftpki_ext.core.causes import REFUSED_BY_DIRECTORY, Cause
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Reason


class Alert(enum.IntEnum):
    """
    The certificate check error codes that the host documents.
    """

    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    EXPORT_RESTRICTION = 60
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    USER_CANCELED = 90


@dataclass(frozen=True, slots=True)
class Mapping:
    """
    One row: what the partner sees, and what an OpenSSL callback sets.
    """

    alert: Alert
    x509_v_err: int


ALERTS: dict[Reason, Mapping] = {
    Reason.REVOKED: Mapping(Alert.CERTIFICATE_REVOKED, 23),
    Reason.ON_HOLD: Mapping(Alert.CERTIFICATE_REVOKED, 23),
    Reason.EXPIRED: Mapping(Alert.CERTIFICATE_EXPIRED, 10),
    Reason.NOT_YET_VALID: Mapping(Alert.CERTIFICATE_EXPIRED, 10),
    Reason.NO_PATH: Mapping(Alert.UNKNOWN_CA, 20),
    Reason.BAD_SIGNATURE: Mapping(Alert.BAD_CERTIFICATE, 4),
    Reason.MALFORMED: Mapping(Alert.BAD_CERTIFICATE, 28),
    Reason.NAME_CHAINING: Mapping(Alert.BAD_CERTIFICATE, 28),
    Reason.BASIC_CONSTRAINTS: Mapping(Alert.BAD_CERTIFICATE, 28),
    Reason.PATH_LENGTH: Mapping(Alert.BAD_CERTIFICATE, 28),
    Reason.NAME_CONSTRAINTS: Mapping(Alert.BAD_CERTIFICATE, 28),
    Reason.CERTIFICATE_POLICY: Mapping(Alert.BAD_CERTIFICATE, 28),
    Reason.KEY_USAGE: Mapping(Alert.UNSUPPORTED_CERTIFICATE, 26),
    Reason.EXTENDED_KEY_USAGE: Mapping(Alert.UNSUPPORTED_CERTIFICATE, 26),
    Reason.UNSUPPORTED_ALGORITHM: Mapping(Alert.UNSUPPORTED_CERTIFICATE, 26),
    Reason.UNSUPPORTED_CRITICAL_EXTENSION: Mapping(Alert.UNSUPPORTED_CERTIFICATE, 26),
    Reason.WEAK_KEY: Mapping(Alert.UNSUPPORTED_CERTIFICATE, 26),
    Reason.WEAK_DIGEST: Mapping(Alert.UNSUPPORTED_CERTIFICATE, 26),
    Reason.STATUS_NOT_ESTABLISHED: Mapping(Alert.CERTIFICATE_UNKNOWN, 74),
    Reason.NOT_ALLOWED: Mapping(Alert.ACCESS_DENIED, 28),
    Reason.BLOCKED: Mapping(Alert.ACCESS_DENIED, 28),
    Reason.TOO_COMPLEX: Mapping(Alert.BAD_CERTIFICATE, 28),
    Reason.UNDECODABLE: Mapping(Alert.DECODE_ERROR, 28),
    Reason.NO_CERTIFICATE: Mapping(Alert.HANDSHAKE_FAILURE, 50),
    Reason.NO_RULE: Mapping(Alert.INTERNAL_ERROR, 1),
    Reason.INTERNAL_ERROR: Mapping(Alert.INTERNAL_ERROR, 1),
}


def reason_for(cause: Cause) -> Reason:
    """
    The reason of a refusal by a row of the policy table.

    Args:
        cause: of the row.

    Returns:
        That the partner may not in, where its directory said so; else that nothing was established.

    """
    return Reason.NOT_ALLOWED if cause in REFUSED_BY_DIRECTORY else Reason.STATUS_NOT_ESTABLISHED


def alert_for(reason: Reason | None) -> int:
    """
    The alert number of a reason; 0 for an acceptance.

    Args:
        reason: the deciding reason, or `None` when accepted.

    Returns:
        The TLS alert description code (RFC 5246 7.2), which is also the CLI's exit status.

    """
    return 0 if reason is None else int(ALERTS[reason].alert)
