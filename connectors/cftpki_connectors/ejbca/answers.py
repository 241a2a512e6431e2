"""
What EJBCA's REST interface answers, read from JSON with nothing believed that is not there.

Owns statuses and what they mean. Pure; every input is bounded.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_connectors.ca.said import object_of
from cftpki_connectors.ca.values import CaAnswer, CaError, printable, status_fault
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault

MAX_CERTIFICATES = 64
# CAs of one EJBCA; more are not looked at.
MAX_CAS = 500
# An RSA-4096 certificate with fifty names has 6 KB.
_MAX_CERTIFICATE_CHARACTERS = 64 * 1024
_REQUEST_ID = re.compile(r"\bid\b\D{0,4}(\d{1,10})", re.IGNORECASE)
ACCEPTED = 202
_HINTS = {
    "is not enabled": "System Configuration, Protocol Configuration: the REST interface must be enabled",
    "no client certificate": "a proxy that ends TLS hides our certificate from EJBCA",
    "does not exist": "are `ca`, `certificate_profile`, `end_entity_profile` and `username` as EJBCA writes them?",
    "GENERATED": "the end entity has had its certificate: its status must be NEW, or its profile allow renewals",
    "Wrong username or password": "is password_file the end entity's enrolment code?",
}


class RestError(CaError):
    """
    EJBCA answered, with an error.
    """

    def __init__(
        self, fault: Fault, detail: str, *, status: int, sent: bool, retry_at: datetime | None
    ) -> None:
        super().__init__(fault, detail, sent=sent, retry_at=retry_at)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """
    A certificate with its chain (DER), as they came.
    """

    chain: tuple[bytes, ...]
    date: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """
    Somebody has to approve. `request` is what the answer is asked for by.
    """

    request: int
    detail: str
    retry_at: datetime | None


def enrolled(answer: CaAnswer, now: datetime) -> Enrolled | Waiting:
    """
    The answer of an enrolment.

    Args:
        answer: a success.
        now: for `Retry-After`.

    Raises:
        CaError: it holds no certificate, or waits for somebody by no number.

    """
    fields = fields_of(answer)
    if answer.status == ACCEPTED:
        said = printable(str(fields.get("info_message") or fields.get("error_message") or ""))
        found = _REQUEST_ID.search(said)
        if found is None:
            msg = f"somebody has to approve, and the answer names no request: {said}"
            raise CaError(Fault.UNREACHABLE, msg, sent=True)
        return Waiting(request=int(found[1]), detail=said, retry_at=answer.retry_at(now))
    above = fields.get("certificate_chain")
    texts = [fields.get("certificate"), *(above if isinstance(above, list) else [])]
    if len(texts) > MAX_CERTIFICATES:
        msg = f"the answer has {len(texts)} certificates, {MAX_CERTIFICATES} are read"
        raise CaError(Fault.UNREACHABLE, msg, sent=True)
    return Enrolled(chain=tuple(dict.fromkeys(map(_der, texts))), date=answer.date)


def error_of(answer: CaAnswer, now: datetime) -> RestError:
    """
    What an error means.

    Args:
        answer: no success.
        now: for `Retry-After`.

    Returns:
        The error, `sent` where the CA may have issued nevertheless.

    """
    fault, retry_at = status_fault(answer, now)
    try:
        said = printable(str(fields_of(answer).get("error_message") or "no reason told"))
    except CaError:
        said = "an answer that is none of EJBCA's, perhaps of a proxy or a portal"
    if answer.status in {401, 403, 404, 405}:
        fault = Fault.MISCONFIGURED
    hints = [hint for words, hint in _HINTS.items() if words.lower() in said.lower()]
    detail = "; ".join((f"HTTP {answer.status}: {said}", *hints))
    # 503 is an offline CA or token, and nothing was issued; a general failure may come later.
    sent = answer.status >= 500 and answer.status != 503
    return RestError(fault, detail, status=answer.status, sent=sent, retry_at=retry_at)


def cas_of(answer: CaAnswer) -> Mapping[str, str]:
    """
    The CAs by name, with their subjects as EJBCA writes them.
    """
    listed = fields_of(answer).get("certificate_authorities")
    entries = listed[:MAX_CAS] if isinstance(listed, list) else []
    return {
        str(entry["name"]): str(entry["subject_dn"])
        for entry in entries
        if isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("subject_dn"), str)
    }


def fields_of(answer: CaAnswer) -> Mapping[str, object]:
    """
    The JSON object of an answer.

    Raises:
        CaError: it is none.

    """
    return object_of(answer, "EJBCA's")


def _der(text: object) -> bytes:
    """
    A certificate: base64 of DER, on one line or many.
    """
    octets = (
        "".join(text.split()) if isinstance(text, str) and len(text) <= _MAX_CERTIFICATE_CHARACTERS else ""
    )
    try:
        der = base64.b64decode(octets, validate=True)
        return x509.load_der_x509_certificate(der).public_bytes(Encoding.DER)
    except (ValueError, x509.InvalidVersion) as error:  # what base64 cannot read is a ValueError too
        msg = "the answer has something in it that is no certificate"
        raise CaError(Fault.UNREACHABLE, msg, sent=True) from error
