"""
Identities from files and tokens as they are shown: nobody renews them, so that somebody must be told in time.

Owns what is made of their chains and faults. By default a new chain is wanted as early as of an enroller's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from cftpki_ext.core.errors import KeyUnavailableError
from cftpki_ext.core.identity_settings import AnyIdentity, Identity, RenewalRules, TokenIdentity
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.renewal.overview import certificate_data, time_or_none
from cftpki_ext.identity.renewal.rows import blank
from cftpki_ext.identity.renewal.standing import Standing, alarm_of, by_time, standings
from cftpki_ext.identity.serving.files import load_chain, load_identity
from cftpki_ext.x509.certificate import Certificate

PlainIdentity = Identity | TokenIdentity
# Why an identity cannot be used, `None` where it can or where that cannot be told.
PlainFault = Callable[[PlainIdentity], Awaitable[str | None]]
_RULES = RenewalRules()


def is_plain(identity: AnyIdentity) -> bool:
    """
    Whether nobody renews it.
    """
    return isinstance(identity, Identity | TokenIdentity)


def kind_of(identity: PlainIdentity) -> str:
    """
    Where its key is, in a word.
    """
    return "token" if isinstance(identity, TokenIdentity) else "files"


class FileFault:
    """
    A `PlainFault` by the files, for programs without signers. A token is not asked, nor is anything as another user.
    """

    def __init__(self, state: Path) -> None:
        self._state = state

    async def __call__(self, identity: PlainIdentity) -> str | None:
        """
        Read chain and key as the service does.
        """
        return await asyncio.to_thread(self._look, identity)

    def _look(self, identity: PlainIdentity) -> str | None:
        if isinstance(identity, TokenIdentity) or identity.password_env is not None:
            return None
        try:
            if self._state.stat().st_uid != os.geteuid():
                return None
        except OSError:
            return None
        try:
            load_identity(identity, generation=1, environ={})
        except KeyUnavailableError as error:
            return str(error)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainOverview:
    """
    One identity that nobody renews. Without a `chain`, `fault` says why.
    """

    name: str
    kind: str
    where: Path
    chain: tuple[Certificate, ...]
    gone: bool  # there is no file
    fault: str | None
    now: datetime

    @property
    def runway(self) -> datetime | None:
        """
        Until when it can be used.
        """
        return min((one.not_after for one in self.chain), default=None)

    @property
    def due(self) -> datetime | None:
        """
        From when on somebody should put a new one in its place.
        """
        if self.runway is None:
            return None
        begins = self.chain[0].not_before
        return begins + (self.runway - begins) * _RULES.renew_at

    @property
    def words(self) -> tuple[Standing, ...]:
        """
        See `Row.words`.
        """
        if self.runway is None or self.due is None:
            return standings(Standing.MISSING, None if self.gone else Standing.DAMAGED)
        begins = self.chain[0].not_before
        floor = self.runway - (self.runway - begins) * _RULES.floor
        return standings(
            Standing.UNUSABLE if self.fault is not None else None,
            by_time(begins, self.runway, floor, self.now),
            Standing.DUE if self.due <= self.now else None,
        )

    @property
    def alarm(self) -> Standing | None:
        """
        See `Row.alarm`.
        """
        return alarm_of(self.words)

    @property
    def trouble(self) -> str | None:
        """
        See `Row.trouble`.
        """
        said = [] if self.fault is None else [self.fault]
        runway, due = self.runway, self.due
        if runway is not None and runway <= self.now:
            said.append("EXPIRED")
        if runway is not None and due is not None and due <= self.now:
            said.append(f"ends {time_or_none(runway)}, and nobody renews it: put a new one into {self.where}")
        return "; ".join(said) or None

    def data(self) -> dict[str, Any]:
        """
        See `Row.data`.
        """
        data = blank(self)
        if self.runway is not None:
            data |= {
                "certificate": certificate_data(self.chain[0]),
                "runway": time_or_none(self.runway),
                "runway_s": int((self.runway - self.now).total_seconds()),
                "next": {
                    "at": time_or_none(self.due),
                    "why": "by_hand",
                    "detail": f"put a new one into {self.where}",
                },
            }
        return data


def plain_overview(identity: PlainIdentity, fault: str | None, *, now: datetime) -> PlainOverview:
    """
    Look at an identity that nobody renews. Blocking.

    Args:
        identity: as configured.
        fault: why it cannot be used, where somebody has said so.
        now: the wall-clock time.

    Returns:
        The overview.

    """
    chain: tuple[Certificate, ...] = ()
    gone = False
    try:
        chain = load_chain(identity)
    except KeyUnavailableError as error:
        fault = fault or str(error)
        gone = not identity.chain_file.exists()
    return PlainOverview(
        name=identity.name,
        kind=kind_of(identity),
        where=identity.chain_file,
        chain=chain,
        gone=gone,
        fault=fault,
        now=now,
    )
