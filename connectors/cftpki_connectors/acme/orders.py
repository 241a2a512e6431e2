"""
One account's requests about orders: place, find again, read, finalize, download.

Owns bodies and what their errors mean. What comes when is `flow`'s and the enroller's business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Container, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import urljoin

from cftpki_connectors.acme.account import Account
from cftpki_connectors.acme.chains import Chain, parse_chain
from cftpki_connectors.acme.flow import same_order
from cftpki_connectors.acme.jose import base64url
from cftpki_connectors.acme.problems import ProblemError
from cftpki_connectors.acme.resources import (
    Authorization,
    Identifier,
    RemoteOrder,
    decode_object,
    links,
    parse_authorization,
    parse_order,
    parse_order_list,
    resolved,
)
from cftpki_connectors.acme.session import Session
from cftpki_connectors.ca.client import CaAnswer, CaError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault

# Of the list of an account's orders so many pages are read, and so many orders looked at.
MAX_PAGES = 20
MAX_LOOKED_AT = 50
# Chains for one certificate: one for each root that the CA is signed by.
MAX_ALTERNATES = 8
# A CA of several machines may not know yet on one what was made on another: asked again after so many seconds each.
_NOT_YET_S = (0.5, 1.0, 2.0, 4.0, 8.0)
# Where these are the reason, asking for less would not help.
_FINAL = frozenset(
    {
        "accountDoesNotExist",
        "caa",
        "externalAccountRequired",
        "invalidProfile",
        "rateLimited",
        "rejectedIdentifier",
        "serverInternal",
        "unsupportedIdentifier",
        "userActionRequired",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """
    What an order is to be: names, and three things that a CA need not grant.
    """

    identifiers: frozenset[Identifier]
    profile: str | None
    replaces: str | None
    not_after: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    An order as the CA had it a moment ago, `now` by its own clock, and when it would like to be asked again by ours.
    """

    url: str
    order: RemoteOrder
    retry_at: datetime | None
    now: datetime


class Orders:
    """
    The orders of one account.

    Args:
        session: to the CA.
        account: signs.
        deadline: monotonic seconds, for every request.

    """

    def __init__(self, session: Session, account: Account, *, deadline: float) -> None:
        self._session = session
        self._account = account
        self._deadline = deadline

    async def place(self, wanted: OrderRequest) -> tuple[Seen, tuple[str, ...]]:
        """
        Place a new order. Where the CA refuses, it is asked once more for each thing that it need not grant.

        Returns:
            The order, and what was left out, for the operator.

        Raises:
            CaError: refused, or not heard.

        """
        directory = await self._session.directory(deadline=self._deadline)
        if wanted.profile is not None and wanted.profile not in directory.profiles:
            offered = ", ".join(sorted(directory.profiles)) or "none"
            detail = f"the CA does not offer the profile {wanted.profile!r}; offered: {offered}"
            raise CaError(Fault.MISCONFIGURED, detail)
        payload: dict[str, object] = {
            "identifiers": [{"type": one.kind, "value": one.value} for one in sorted(wanted.identifiers)]
        }
        if wanted.profile is not None:
            payload["profile"] = wanted.profile
        if wanted.not_after is not None:
            payload["notAfter"] = wanted.not_after.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if wanted.replaces is not None:
            payload["replaces"] = wanted.replaces
        notes: list[str] = []
        while True:
            try:
                answer = await self._post(directory.new_order, payload)
                break
            except ProblemError as error:
                given_up = next((key for key in ("replaces", "notAfter") if key in payload), None)
                # A CA that does not know the certificate (its database was put back) may say that it is at fault itself:
                # what is only a hint must not end all renewals.
                is_of_a_hint = given_up == "replaces" and error.status == 500
                is_final = error.problem.kind in _FINAL or error.status >= 500
                if given_up is None or (is_final and not is_of_a_hint):
                    raise
                del payload[given_up]
                notes.append(f"ordered without {given_up}: {error.detail}")
        url = resolved(answer.url, answer.headers.get("location"))
        if url is None:
            raise CaError(Fault.UNREACHABLE, "the CA gave the order no URL", sent=True)
        return self._seen(url, answer), tuple(notes)

    async def find(self, wanted: OrderRequest, *, own: str | None, taken: Container[str]) -> Seen | None:
        """
        Find the open order whose URL was lost (RFC 8555 7.1.2.1); `None` where the CA has none, or no list.

        Args:
            wanted: what it must be for.
            own: the one that was taken up last, looked at first.
            taken: those of others, never looked at.

        Raises:
            CaError: not heard.

        """
        urls: list[str] = []
        page = self._account.orders
        for _ in range(MAX_PAGES):
            if page is None:
                break
            try:
                answer = await self._post(page, None, patient=False)
            except ProblemError as error:
                if error.fault in {Fault.UNREACHABLE, Fault.RATE_LIMITED} and error.status != 501:
                    raise
                break  # a list is offered and not kept
            urls += parse_order_list(answer.body, base=answer.url)
            page = resolved(answer.url, next(iter(links(answer.headers.get_list("link"), "next")), None))
        free = [url for url in urls if url not in taken and url != own][-MAX_LOOKED_AT:]
        for url in reversed(free if own is None else [*free, own]):
            with contextlib.suppress(ProblemError):
                seen = self._seen(url, await self._post(url, None, patient=False))
                if same_order(seen.order, wanted.identifiers, wanted.profile):
                    return seen
        return None

    async def read(self, url: str) -> Seen:
        """
        Read an order.

        Raises:
            CaError: not heard; `ProblemError` where the CA answers with an error.

        """
        return self._seen(url, await self._post(url, None))

    async def known(self, url: str) -> Seen:
        """
        Read an order that is ours.

        Raises:
            CaError: `ORDER_LOST` where the CA does not know it any more.

        """
        try:
            return await self.read(url)
        except ProblemError as error:
            lost = error.problem.kind in {"malformed", "unauthorized", "orderDoesNotExist"}
            if lost or error.status in {404, 410}:
                detail = f"the CA does not know the order any more: {error.detail}"
                raise CaError(Fault.ORDER_LOST, detail) from error
            raise

    async def authorization(self, url: str) -> tuple[Authorization, datetime | None]:
        """
        Read an authorization, and when the CA would like to be asked again.
        """
        answer = await self._post(url, None)
        found = parse_authorization(decode_object(answer.body, "authorization"), base=answer.url)
        return found, answer.retry_at(self._session.now())

    async def trigger(self, url: str) -> None:
        """
        Tell the CA to look at a challenge.
        """
        await self._post(url, {})

    async def deactivate(self, url: str) -> None:
        """
        Give an authorization up (RFC 8555 7.5.2); that the CA cannot do it, does no harm.
        """
        with contextlib.suppress(CaError):
            await self._post(url, {"status": "deactivated"})

    async def finalize(self, seen: Seen, csr: bytes) -> Seen:
        """
        Send the CSR. Where the order is not ready (any more), it is read instead.
        """
        if seen.order.finalize is None:
            raise CaError(Fault.UNREACHABLE, "the CA's order does not say where to finalize it", sent=True)
        try:
            answer = await self._post(seen.order.finalize, {"csr": base64url(csr)})
        except ProblemError as error:
            if error.problem.kind == "orderNotReady":
                return await self.known(seen.url)
            raise
        return self._seen(seen.url, answer)

    async def download(self, url: str) -> tuple[Sequence[Chain], tuple[str, ...]]:
        """
        The chain and its alternates, and what could not be had of them.

        Raises:
            CaError: the chain was not had.

        """
        answer = await self._post(url, None)
        chains, notes = [parse_chain(answer.body)], []
        for alternate in links(answer.headers.get_list("link"), "alternate")[:MAX_ALTERNATES]:
            try:
                other = await self._post(urljoin(answer.url, alternate), None)
                chains.append(parse_chain(other.body))
            except CaError as error:
                notes.append(f"an alternate chain was not had: {error.detail}")
        return chains, tuple(notes)

    def _seen(self, url: str, answer: CaAnswer) -> Seen:
        order = parse_order(decode_object(answer.body, "order"), base=answer.url)
        now = self._session.now()
        return Seen(url=url, order=order, retry_at=answer.retry_at(now), now=answer.date or now)

    async def _post(
        self, url: str, payload: Mapping[str, object] | None, *, patient: bool = True
    ) -> CaAnswer:
        """
        A request about what was made before. Where the CA does not know it, it may not know it *yet*: asked again.
        """
        for pause_s in _NOT_YET_S if patient else ():
            try:
                return await self._session.post(
                    url, payload, signer=self._account.signer, deadline=self._deadline
                )
            except ProblemError as error:
                unknown = error.status == 404 or error.problem.kind == "accountDoesNotExist"
                if not unknown or not self._session.has_time(pause_s, self._deadline):
                    raise
            await asyncio.sleep(pause_s)
        return await self._session.post(url, payload, signer=self._account.signer, deadline=self._deadline)
