"""
What a CA tells about itself by genm (RFC 9483 4.3): the certificates that complete chains, and the successor of a root.

Owns the questions and what may be made of the answers. Nothing here becomes an anchor.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from cftpki_connectors.ca.client import CaError
from cftpki_connectors.cmp import writing
from cftpki_connectors.cmp.bodies import (
    parse_certificates,
    parse_error,
    parse_general_reply,
    parse_root_update,
)
from cftpki_connectors.cmp.credentials import Credentials
from cftpki_connectors.cmp.options import CmpOptions
from cftpki_connectors.cmp.protection import Means
from cftpki_connectors.cmp.status import fault_of, words
from cftpki_connectors.cmp.transaction import Transaction, read
from cftpki_connectors.cmp.values import Kind, MalformedMessageError, RootUpdate
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault
from cftpki_ext.identity.issuance.leads import fault_of_path
from cftpki_ext.ports.clock import Clock
from cftpki_ext.x509.certificate import MalformedCertificateError, parse_certificate

_CA_CERTS = "1.3.6.1.5.5.7.4.17"
_ROOT_CA_KEY_UPDATE = "1.3.6.1.5.5.7.4.18"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class General:
    """
    Whom to ask, and how our questions are protected.
    """

    options: CmpOptions
    credentials: Credentials
    means: Means
    clock: Clock

    async def ca_certificates(self, *, deadline: float) -> tuple[bytes, ...]:
        """
        The CA certificates of the server (RFC 9483 4.3.1), DER and unverified; none where it tells none.

        Raises:
            CaError: it was not heard, or does not answer that.

        """
        value = await self._value(writing.wants_ca_certificates(), _CA_CERTS, "getcacerts", deadline)
        return () if value is None else _parsed(parse_certificates, value)

    async def root_update(self, root: bytes, *, deadline: float) -> RootUpdate | None:
        """
        The successor of a root (RFC 9483 4.3.2), unverified; `None` where there is none.

        Raises:
            CaError: it was not heard, or does not answer that.

        """
        question = writing.wants_root_update(root)
        value = await self._value(question, _ROOT_CA_KEY_UPDATE, "getrootupdate", deadline)
        return None if value is None else _parsed(parse_root_update, value)

    async def _value(self, question: bytes, kind: str, operation: str, deadline: float) -> bytes | None:
        transaction = Transaction(
            self.options,
            self.credentials,
            self.means,
            self.clock,
            recipient=self.credentials.addressed(),
            operation=operation,
        )
        answer = await transaction.ask_patiently(writing.general_message(question), deadline=deadline)
        if answer.kind is Kind.ERROR:
            status = read(parse_error, answer)
            raise CaError(fault_of(status), words(status), sent=True)
        if answer.kind is not Kind.GENP:
            raise CaError(
                Fault.UNREACHABLE, "the server answers with something that was not asked", sent=True
            )
        return next((one.value for one in read(parse_general_reply, answer) if one.kind == kind), None)


def link_fault(update: RootUpdate, roots: tuple[bytes, ...], now: datetime) -> str | None:
    """
    Why a new root is not proven by an old one, `None` where it is (NewWithOld, RFC 9810 4.4).

    Args:
        update: as the server sent it.
        roots: the anchors that are configured (DER).
        now: both must be valid then.

    """
    if update.new_with_old is None:
        return "no old root has signed it"
    try:
        new, link = parse_certificate(update.new), parse_certificate(update.new_with_old)
    except MalformedCertificateError as error:
        return str(error)
    if (new.spki, new.subject.key) != (link.spki, link.subject.key) or not new.is_ca:
        return "what the old root has signed is another CA"
    if fault_of_path(update.new, (), (update.new,), now) is not None:
        return "it is not valid now"
    return fault_of_path(update.new_with_old, (), roots, now)


def _parsed(reader: Callable[[bytes], _T], value: bytes) -> _T:
    try:
        return reader(value)
    except MalformedMessageError as error:
        raise CaError(
            Fault.UNREACHABLE, f"what the server tells cannot be read: {error}", sent=True
        ) from error
