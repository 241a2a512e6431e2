"""
What Vault and OpenBao answer: tokens, certificates, errors, read from JSON with nothing believed that is not there.

Owns statuses and what they mean. Pure; every input is bounded.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cftpki_connectors.ca.certificates import certificates_in_pem
from cftpki_connectors.ca.said import object_of
from cftpki_connectors.ca.values import CaAnswer, CaError, printable, status_fault
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault, PrivateKey

_MAX_SAID = 3
# Tokens have a hundred characters, batch tokens and JWTs a few thousand.
_MAX_TOKEN = 16 * 1024
# An RSA-4096 key in PEM has 3.3 KB.
_MAX_KEY = 16 * 1024
# A lease is at most 32 days by default; a century is a mistake.
_MAX_LEASE_S = 100 * 365 * 86400
# Said where names come from the request, which has the same: they are sent twice, for roles of either kind.
_TAKEN_FROM_CSR = "was provided but the role is set with"
_NOT_THERE = ("unknown role", "unable to find PKI issuer")
# /sys/health answers with these where a server is there, but not ready (https://developer.hashicorp.com/vault/api-docs/system/health).
HEALTH_STATUSES = frozenset({200, 429, 472, 473, 501, 503})


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """
    A token of the server's. `lease_s` is what is left of its life, 0 for one that does not end; `whole_s` what it began with.
    """

    token: str = field(repr=False)
    lease_s: float
    whole_s: float
    renewable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """
    A certificate as it came (DER), its issuers, what the server warns of, and its clock.
    """

    chain: tuple[bytes, ...]
    warnings: tuple[str, ...]
    date: datetime | None
    key: PrivateKey | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """
    How the server says that it is.
    """

    initialized: bool
    sealed: bool
    standby: bool
    version: str
    date: datetime | None


def fault_of(answer: CaAnswer, now: datetime) -> tuple[Fault, datetime | None]:
    """
    What an error status of Vault's means.

    Args:
        answer: what came.
        now: for `Retry-After`.

    Returns:
        The fault, and when to come back where the server says so.

    """
    if answer.status in {412, 472, 473, 501}:
        return Fault.UNREACHABLE, answer.retry_at(now)
    if answer.status in {404, 405}:
        return Fault.MISCONFIGURED, None
    return status_fault(answer, now)


def is_configuration(texts: Sequence[str]) -> bool:
    """
    Whether an error says that something configured is not there, whatever its status: a missing issuer is a 500.
    """
    return any(words in text for text in texts for words in _NOT_THERE)


def granted(answer: CaAnswer) -> Granted:
    """
    The answer of `sign` and `issue`.

    Raises:
        CaError: it holds no certificate, or a key that cannot be used; there may be one at the server.

    """
    fields = fields_of(answer)
    data = data_of(fields)
    above = texts_of(data.get("ca_chain")) or texts_of([data.get("issuing_ca")])
    chain = certificates_in_pem([data.get("certificate"), *(text for text in above if text)])
    told = [text for text in texts_of(fields.get("warnings")) if _TAKEN_FROM_CSR not in text]
    warnings = tuple(printable(text) for text in told[:_MAX_SAID])
    return Granted(
        chain=tuple(dict.fromkeys(chain)),
        warnings=warnings,
        date=answer.date,
        key=_key(data.get("private_key")),
    )


def login_of(fields: Mapping[str, object]) -> Login:
    """
    The token in an answer.

    Raises:
        CaError: there is none.

    """
    auth = fields.get("auth")
    token = auth.get("client_token") if isinstance(auth, dict) else None
    if not isinstance(auth, dict) or not is_token(token):
        msg = "the answer to the login has no token"
        raise CaError(Fault.UNREACHABLE, msg)
    lease_s = lease(auth.get("lease_duration"))
    return Login(token=str(token), lease_s=lease_s, whole_s=lease_s, renewable=auth.get("renewable") is True)


def is_token(value: object) -> bool:
    """
    Whether a value can be a token, a secret or a role's identifier: visible ASCII, fit for a header field.
    """
    return isinstance(value, str) and 0 < len(value) <= _MAX_TOKEN and all("!" <= one <= "~" for one in value)


def fields_of(answer: CaAnswer) -> Mapping[str, object]:
    """
    The JSON object of an answer.

    Raises:
        CaError: it is none.

    """
    return object_of(answer, "Vault's")


def data_of(fields: Mapping[str, object]) -> Mapping[str, object]:
    """
    What an answer says besides its envelope.
    """
    data = fields.get("data")
    return data if isinstance(data, dict) else {}


def _key(text: object) -> PrivateKey | None:
    if text is None:
        return None
    key = None
    with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):
        pem = str(text).encode("utf-8", "replace")
        key = load_pem_private_key(pem, None) if len(pem) <= _MAX_KEY else None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        msg = "the key that came with the certificate is neither RSA nor ECDSA, or cannot be read"
        raise CaError(Fault.MISCONFIGURED, msg, sent=True)
    return key


def lease(value: object) -> float:
    """
    Seconds of a token's life; 0 for what is no number, and for a token that does not end.
    """
    # NaN is not above 0 either.
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0.0
    # Bounded before it is a float: JSON has whole numbers that no float holds.
    return float(min(value, _MAX_LEASE_S))


def texts_of(value: object) -> list[str]:
    """
    The texts in a list; none of what is no list.
    """
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def words_of(answer: CaAnswer) -> tuple[str, ...]:
    """
    The server's own words: `errors`, without the numbering that Go's multierror puts before them.
    """
    try:
        fields = json.loads(answer.body) if answer.body else {}
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return ("an answer that is none of Vault's, perhaps of a proxy or a portal",)
    told = []
    for text in texts_of(fields.get("errors"))[:_MAX_SAID]:
        lines = [line.strip(" \t*") for line in text.splitlines()]
        kept = [line for line in lines if line and not line.endswith("occurred:")]
        if kept:
            told.append(printable(", ".join(kept)))
    return tuple(told)
