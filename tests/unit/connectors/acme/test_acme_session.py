"""
Nonces, orders and hours of processing, against a CA that is a list of answers.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from cftpki_connectors.acme import PLUGIN
from cftpki_connectors.acme.account import Account
from cftpki_connectors.acme.jose import signing_key
from cftpki_connectors.acme.orders import OrderRequest, Orders
from cftpki_connectors.acme.resources import Identifier
from cftpki_connectors.acme.session import MAX_NONCE_TRIES, NONCE_LIFE_S, Session, Signer
from cftpki_connectors.ca.values import CaAnswer, CaError, CaRequest
from cftpki_ext.identity.enroller_port import EnrollerContext, Failed, Fault, Issued, Pending
from tests.support import pki
from tests.support.logs import captured_events
from tests.support.orders import Saves, make_order
from tests.support.scripted_ca import TestClock

CA = "https://ca.example"
DIRECTORY = {
    name: f"{CA}/{name}" for name in ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange")
}
START = datetime(2026, 11, 21, 12, tzinfo=UTC)


def reply(body: Any = None, status: int = 200, **headers: str) -> CaAnswer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"content-type": "application/json"} | {
        name.replace("_", "-"): text for name, text in headers.items()
    }
    return CaAnswer(status=status, headers=httpx.Headers(fields), body=content, url=CA)


def refusal(kind: str, status: int = 400, **headers: str) -> CaAnswer:
    return reply({"type": f"urn:ietf:params:acme:error:{kind}", "detail": "no"}, status, **headers)


@dataclass
class ListCa:
    """
    Answers by URL, the last one for ever; every answer brings a fresh nonce unless told otherwise.
    """

    routes: dict[str, list[CaAnswer | CaError] | Callable[[dict[str, Any]], CaAnswer]]
    nonces: bool = True
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    used: list[str] = field(default_factory=list)

    async def send(self, request: CaRequest, *, deadline: float) -> CaAnswer:
        del deadline
        self.requests.append((request.method, request.url))
        payload = {}
        if request.body:
            outer = json.loads(request.body)
            header, payload = (
                json.loads(_decoded(outer[part]) or b"{}") for part in ("protected", "payload")
            )
            assert request.url == header["url"]
            assert header["nonce"] not in self.used, "a nonce was used twice"
            self.used.append(header["nonce"])
            self.bodies.append(payload)
        route = self.routes[request.url]
        found = route(payload) if callable(route) else route.pop(0) if len(route) > 1 else route[0]
        if isinstance(found, CaError):
            raise found
        if self.nonces:
            found.headers["replay-nonce"] = f"n{len(self.requests)}"
        return CaAnswer(
            status=found.status, headers=httpx.Headers(found.headers), body=found.body, url=request.url
        )

    async def aclose(self) -> None:
        pass


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def session(ca: ListCa, clock: TestClock | None = None) -> Session:
    ca.routes.setdefault(f"{CA}/dir", [reply(DIRECTORY)])
    ca.routes.setdefault(f"{CA}/newNonce", [reply(b"", 204)])
    return Session(ca, f"{CA}/dir", clock or TestClock(START))


SIGNER = Signer(signing_key(pki.key("ec", 9)), f"{CA}/account/1")


async def test_nonce_of_every_answer_is_used_and_newest_first():
    ca = ListCa({f"{CA}/x": [reply({})]})
    made = session(ca)
    for _ in range(3):
        await made.post(f"{CA}/x", None, signer=SIGNER, deadline=0)
    assert [("GET", f"{CA}/dir"), *[("POST", f"{CA}/x")] * 3] == ca.requests


async def test_nonce_too_old_is_not_used():
    clock = TestClock(START)
    ca = ListCa({f"{CA}/x": [reply({})]})
    made = session(ca, clock)
    await made.post(f"{CA}/x", None, signer=SIGNER, deadline=0)
    clock.advance(timedelta(seconds=NONCE_LIFE_S + 1))
    await made.post(f"{CA}/x", None, signer=SIGNER, deadline=0)
    assert ("HEAD", f"{CA}/newNonce") == ca.requests[-2]


async def test_nonce_refused_is_replaced_by_that_of_the_refusal_at_once():
    ca = ListCa({f"{CA}/x": [*[refusal("badNonce") for _ in range(20)], reply({"a": 1})]})
    answer = await session(ca).post(f"{CA}/x", {}, signer=SIGNER, deadline=0)
    assert b'{"a": 1}' == answer.body
    assert 21 == len(ca.used)
    assert ("HEAD", f"{CA}/newNonce") not in ca.requests


async def test_nonce_storm_ends_unreachable():
    ca = ListCa({f"{CA}/x": [refusal("badNonce")]})
    with pytest.raises(CaError) as raised:
        await session(ca).post(f"{CA}/x", {}, signer=SIGNER, deadline=0)
    assert (Fault.UNREACHABLE, MAX_NONCE_TRIES) == (raised.value.fault, len(ca.used))


async def test_nonce_that_is_no_base64url_is_ignored_and_none_at_all_is_unreachable():
    ca = ListCa({f"{CA}/x": [reply({})], f"{CA}/newNonce": [reply(b"", replay_nonce="a b")]}, nonces=False)
    with pytest.raises(CaError, match="gave no nonce"):
        await session(ca).post(f"{CA}/x", {}, signer=SIGNER, deadline=0)
    assert [] == ca.used


async def test_request_refused_otherwise_is_sent_once():
    ca = ListCa({f"{CA}/x": [refusal("malformed"), reply({})]})
    with pytest.raises(CaError, match="malformed"):
        await session(ca).post(f"{CA}/x", {}, signer=SIGNER, deadline=0)
    assert 1 == len(ca.used)


def order(status: str, **changes: Any) -> dict[str, Any]:
    return {
        "status": status,
        "identifiers": [{"type": "dns", "value": "a.example"}],
        "authorizations": [f"{CA}/authz/1"],
        "finalize": f"{CA}/finalize/1",
    } | changes


def placed(ca: ListCa) -> Orders:
    return Orders(
        session(ca), Account(signer=SIGNER, url=SIGNER.kid or "", orders=f"{CA}/orders"), deadline=0
    )


REQUEST = OrderRequest(
    identifiers=frozenset({Identifier("dns", "a.example")}),
    profile=None,
    replaces="a.b",
    not_after=START + timedelta(days=1),
)


async def test_order_refused_is_placed_with_ever_fewer_wishes():
    def judge(payload: dict[str, Any]) -> CaAnswer:
        if "replaces" in payload:
            return refusal("alreadyReplaced", 409)
        return (
            refusal("malformed")
            if "notAfter" in payload
            else reply(order("pending"), 201, location=f"{CA}/order/1")
        )

    ca = ListCa({f"{CA}/newOrder": judge})
    seen, notes = await placed(ca).place(REQUEST)
    assert (f"{CA}/order/1", 2) == (seen.url, len(notes))
    assert ["replaces", "notAfter"] == [note.split()[2].rstrip(":") for note in notes]
    assert "2026-11-22T12:00:00Z" == ca.bodies[0]["notAfter"]


@pytest.mark.parametrize(
    ("refused", "fault"),
    [
        (refusal("rateLimited", 429, retry_after="60"), Fault.RATE_LIMITED),
        (refusal("rejectedIdentifier", 403), Fault.REFUSED),
        (refusal("serverInternal", 503), Fault.UNREACHABLE),
        (reply(b"<html>", 502, content_type="text/html"), Fault.UNREACHABLE),
    ],
)
async def test_order_refused_for_good_is_asked_once(refused, fault):
    ca = ListCa({f"{CA}/newOrder": [refused]})
    with pytest.raises(CaError) as raised:
        await placed(ca).place(REQUEST)
    assert (fault, 1) == (raised.value.fault, len(ca.used))
    assert (START + timedelta(seconds=60) if fault is Fault.RATE_LIMITED else None) == raised.value.retry_at


async def test_ca_that_fails_at_what_is_replaced_is_asked_once_more_without_it():
    ca = ListCa(
        {
            f"{CA}/newOrder": [
                refusal("serverInternal", 500),
                reply(order("pending"), 201, location=f"{CA}/order/1"),
            ]
        }
    )
    seen, notes = await placed(ca).place(REQUEST)
    assert (f"{CA}/order/1", 1) == (seen.url, len(notes))
    assert ["replaces" in body for body in ca.bodies] == [True, False]
    ca = ListCa({f"{CA}/newOrder": [refusal("serverInternal", 500), refusal("serverInternal", 500)]})
    with pytest.raises(CaError) as raised:
        await placed(ca).place(REQUEST)
    assert (Fault.UNREACHABLE, 2) == (raised.value.fault, len(ca.used))
    ca = ListCa({f"{CA}/newOrder": [refusal("serverInternal", 500)]})
    with pytest.raises(CaError):
        await placed(ca).place(replace(REQUEST, replaces=None))
    assert 1 == len(ca.used)


async def test_order_lost_is_found_on_a_later_page_of_the_list():
    ca = ListCa(
        {
            f"{CA}/orders": [reply({"orders": [f"{CA}/order/1"]}, link=f'<{CA}/orders/2>;rel="next"')],
            f"{CA}/orders/2": [reply({"orders": [f"{CA}/order/2", f"{CA}/order/3"]})],
            f"{CA}/order/1": [reply(order("pending", identifiers=[{"type": "dns", "value": "b.example"}]))],
            f"{CA}/order/2": [reply(order("ready"))],
            f"{CA}/order/3": [reply(order("valid", certificate=f"{CA}/cert/3"))],
        }
    )
    assert f"{CA}/order/2" == (await placed(ca).find(REQUEST, own=None, taken=())).url


@pytest.mark.parametrize(
    "answered", [refusal("malformed", 404), refusal("serverInternal", 501), reply([]), reply(b"<")]
)
async def test_order_lost_at_a_ca_without_a_list_is_not_found(answered):
    assert await placed(ListCa({f"{CA}/orders": [answered]})).find(REQUEST, own=None, taken=()) is None


async def test_finalize_that_was_done_already_reads_the_order_instead():
    ca = ListCa(
        {
            f"{CA}/order/1": [reply(order("ready")), reply(order("valid", certificate=f"{CA}/cert/1"))],
            f"{CA}/finalize/1": [refusal("orderNotReady", 403)],
        }
    )
    orders = placed(ca)
    assert "valid" == (await orders.finalize(await orders.read(f"{CA}/order/1"), b"csr")).order.status


def enroller(tmp_path: Any, ca: ListCa, clock: TestClock) -> Any:
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    made: Any = PLUGIN.make(
        PLUGIN.options(directory=f"{CA}/dir"), EnrollerContext(name="corp", state=state, clock=clock)
    )
    made._session = session(ca, clock)
    ca.routes[f"{CA}/newAccount"] = [reply({"status": "valid"}, 201, location=f"{CA}/account/1")]
    return made


async def test_processing_for_hours_across_restarts_ends_with_one_order_and_one_certificate(tmp_path):
    root = pki.make_root()
    chain = pki.issue(root, "", san=["dns:a.example"], private=pki.key("ec", 700)).pem
    clock, saves, wanted = TestClock(START), Saves(), make_order("a.example")
    waits = iter(["3600", "Sat, 21 Nov 2026 15:00:00 GMT", None, "99999999"])

    def state_of(_: dict[str, Any]) -> CaAnswer:
        wait = next(waits, "done")
        if wait == "done":
            return reply(order("valid", certificate=f"{CA}/cert/1"))
        return reply(order("processing"), **({"retry_after": wait} if wait else {}))

    ca = ListCa(
        {
            f"{CA}/newOrder": [reply(order("ready"), 201, location=f"{CA}/order/1")],
            f"{CA}/finalize/1": state_of,
            f"{CA}/order/1": state_of,
            f"{CA}/cert/1": [reply(chain, content_type="application/pem-certificate-chain")],
        }
    )
    seen = []
    for _ in range(10):
        made = enroller(tmp_path, ca, clock)
        outcome = await made.advance(wanted, saves.last, saves, deadline=clock.monotonic() + 10)
        await made.aclose()
        if not isinstance(outcome, Pending):
            break
        seen.append(outcome.retry_at - clock.now())
        clock.time = outcome.retry_at
    assert isinstance(outcome, Issued), outcome
    hour = timedelta(hours=1)
    assert [hour, 2 * hour, timedelta(minutes=10), timedelta(days=1)] == seen
    urls = [url for _, url in ca.requests]
    assert (1, 1, 1) == (
        urls.count(f"{CA}/newOrder"),
        urls.count(f"{CA}/finalize/1"),
        urls.count(f"{CA}/newAccount"),
    )


async def test_order_that_the_ca_gives_to_two_identities_is_the_firsts_until_it_is_over(tmp_path):
    """
    Some CAs answer newOrder with an open order for the same names (RFC 8555 7.4).
    """
    clock, one, two = TestClock(START), Saves(), Saves()
    ca = ListCa(
        {
            f"{CA}/newOrder": [reply(order("processing"), 201, location=f"{CA}/order/1", retry_after="60")],
            f"{CA}/order/1": [reply(order("processing"), retry_after="60")],
        }
    )
    made = enroller(tmp_path, ca, clock)
    first, second = make_order("a.example", identity="first"), make_order("a.example", identity="second")
    deadline = clock.monotonic() + 5
    assert isinstance(await made.advance(first, {}, one, deadline=deadline), Pending)
    told = await made.advance(second, {}, two, deadline=deadline)
    assert isinstance(told, Pending), told
    assert "the order that identity first has" in told.detail
    assert two.last["order"] is None
    # The first identity's next order may well be the one that it had.
    again = await made.advance(
        make_order("a.example", identity="first", id="o"), {}, Saves(), deadline=deadline
    )
    assert "processing" in again.detail
    ca.routes[f"{CA}/order/1"] = [reply(order("invalid"))]
    assert Fault.REFUSED == (await made.advance(first, one.last, one, deadline=deadline)).fault
    taken = await made.advance(second, two.last, two, deadline=deadline)
    assert f"{CA}/order/1" == two.last["order"], taken


async def test_claims_that_cannot_be_read_are_told_and_lapse_with_their_time(tmp_path):
    clock = TestClock(START)
    ca = ListCa({f"{CA}/newOrder": [reply(order("processing"), 201, location=f"{CA}/order/1")]})
    made = enroller(tmp_path, ca, clock)
    await made._accounts(made._session).establish(deadline=clock.monotonic() + 5)
    claims = next((tmp_path / "state").glob("*/account.json")).with_name("claims.json")
    for text in ('{"mft": 1}', '{"mft": {"order": "u", "until": "soon"}}', "["):
        claims.write_text(text)
        failed = await made.advance(make_order("a.example"), {}, Saves(), deadline=clock.monotonic() + 5)
        assert (Fault.MISCONFIGURED, True) == (failed.fault, "claims.json" in failed.detail)
    claims.write_text(json.dumps({"b": {"order": f"{CA}/order/1", "until": "2026-11-21T12:00:01+00:00"}}))
    assert {"b"} == set(made._store.claims())
    clock.advance(timedelta(seconds=1))
    assert {} == made._store.claims()


@pytest.mark.parametrize("text", ["", "[", '{"a":' * 10_000, "[1]"])
async def test_account_record_that_is_damaged_is_found_again_by_its_key(tmp_path, text):
    clock = TestClock(START)
    ca = ListCa({})
    made = enroller(tmp_path, ca, clock)
    before = await made._accounts(made._session).establish(deadline=clock.monotonic() + 5)
    record = next((tmp_path / "state").glob("*/account.json"))
    record.write_text(text)
    record.with_name("issued.json").write_text(text)
    ca.bodies.clear()
    with captured_events() as logs:
        after = await made._accounts(made._session).establish(deadline=clock.monotonic() + 5)
        assert () == made._store.issued()
    assert (before.url, before.signer.key.jwk) == (after.url, after.signer.key.jwk)
    assert [{"onlyReturnExisting": True}] == ca.bodies
    told = {Path(one["file"]).name for one in logs if one["event"] == "acme_record_damaged"}
    assert told == (set() if text == "[1]" else {"account.json", "issued.json"})


async def test_order_expired_while_we_were_away_is_lost(tmp_path):
    clock, saves = TestClock(START), Saves()
    ca = ListCa(
        {
            f"{CA}/newOrder": [reply(order("processing"), 201, location=f"{CA}/order/1", retry_after="60")],
            f"{CA}/order/1": [reply(order("pending", expires="2026-11-21T13:00:00Z"))],
        }
    )
    made = enroller(tmp_path, ca, clock)
    assert isinstance(
        await made.advance(make_order("a.example"), {}, saves, deadline=clock.monotonic() + 5), Pending
    )
    clock.advance(timedelta(hours=2))
    failed = await made.advance(make_order("a.example"), saves.last, saves, deadline=clock.monotonic() + 5)
    assert (Fault.ORDER_LOST, True) == (failed.fault, "expired" in failed.detail)


async def test_account_that_others_can_read_is_misconfigured(tmp_path):
    ca, clock = ListCa({}), TestClock(START)
    made = enroller(tmp_path, ca, clock)
    await made._accounts(made._session).establish(deadline=clock.monotonic() + 5)
    key = next((tmp_path / "state").glob("*/key.pem"))
    assert (0o600, 0o700) == (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777)
    key.chmod(0o644)
    failed = await made.advance(make_order("a.example"), {}, Saves(), deadline=clock.monotonic() + 5)
    assert isinstance(failed, Failed)
    assert Fault.MISCONFIGURED == failed.fault


async def test_account_whose_answer_was_lost_is_looked_up_before_it_is_made(tmp_path):
    clock = TestClock(START)
    ca = ListCa({})
    made = enroller(tmp_path, ca, clock)
    found = reply({"status": "valid"}, 200, location=f"{CA}/account/1")
    ca.routes[f"{CA}/newAccount"] = [CaError(Fault.UNREACHABLE, "cut", sent=True), found]
    failed = await made.advance(make_order("a.example"), {}, Saves(), deadline=clock.monotonic() + 5)
    assert Fault.UNREACHABLE == failed.fault
    account = await made._accounts(made._session).establish(deadline=clock.monotonic() + 5)
    assert f"{CA}/account/1" == account.url
    assert {"onlyReturnExisting": True} == ca.bodies[-1]
