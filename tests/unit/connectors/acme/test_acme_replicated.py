"""
A CA of several machines, and one that writes what a client must read with some patience.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cftpki_connectors.acme import PLUGIN, validation
from cftpki_connectors.acme import orders as orders_of
from cftpki_connectors.acme.flow import Answer
from cftpki_connectors.acme.options import ChallengeKind
from cftpki_connectors.acme.pauses import Pauses
from cftpki_connectors.acme.resources import (
    Status,
    parse_authorization,
    parse_directory,
    parse_order,
    parse_order_list,
    resolved,
)
from cftpki_connectors.acme.validation import Validation
from cftpki_connectors.ca.values import CaAnswer, CaError
from cftpki_ext.identity.enroller_port import EnrollerContext, Failed, Fault, Held, Issued
from tests.support import pki
from tests.support.logs import captured_events
from tests.support.orders import Saves, make_order
from tests.support.scripted_ca import TestClock
from tests.unit.connectors.acme.test_acme_session import (
    CA,
    START,
    ListCa,
    enroller,
    order,
    placed,
    refusal,
    reply,
)

ROOT = pki.make_root()
LEAF = pki.issue(ROOT, "", san=["dns:a.example"], private=pki.key("ec", 700))
PEM = "application/pem-certificate-chain"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders_of, "_NOT_YET_S", (0.0, 0.0, 0.0, 0.0, 0.0))


def valid_authorization() -> CaAnswer:
    return reply({"status": "valid", "identifier": {"type": "dns", "value": "a.example"}, "challenges": []})


def routes(**changes: Any) -> dict[str, Any]:
    return {
        f"{CA}/newOrder": [reply(order("pending"), 201, location=f"{CA}/order/1")],
        f"{CA}/authz/1": [valid_authorization()],
        f"{CA}/finalize/1": [reply(order("processing"))],
        f"{CA}/order/1": [
            reply(order("ready")),
            reply(order("valid", certificate=f"{CA}/cert/1")),
        ],
        f"{CA}/cert/1": [reply(LEAF.pem + ROOT.pem, content_type=PEM)],
    } | {f"{CA}/{name.replace('_', '/')}": answers for name, answers in changes.items()}


async def attempt(tmp_path: Any, ca: ListCa, clock: TestClock, saves: Saves) -> Any:
    made = enroller(tmp_path, ca, clock)
    try:
        wanted = make_order("a.example")
        return await made.advance(wanted, saves.last, saves, deadline=clock.monotonic() + 600)
    finally:
        await made.aclose()


@pytest.mark.parametrize("name", ["order_1", "authz_1", "finalize_1", "cert_1", "newOrder"])
@pytest.mark.parametrize("kind", ["malformed", "accountDoesNotExist"])
async def test_what_one_machine_does_not_know_yet_is_asked_for_again_and_ordered_once(tmp_path, name, kind):
    url = f"{CA}/{name.replace('_', '/')}"
    ca, clock, saves = ListCa(routes()), TestClock(START), Saves()
    unknown = refusal(kind, 404 if kind == "malformed" else 400)
    ca.routes[url] = [unknown, unknown, *ca.routes[url]]  # type: ignore[misc] # a list here
    outcome = await attempt(tmp_path, ca, clock, saves)
    assert isinstance(outcome, Issued), outcome
    placed = [one for _, one in ca.requests].count(f"{CA}/newOrder")
    assert (3 if name == "newOrder" else 1) == placed


async def test_order_that_is_valid_stays_open_while_its_certificate_is_not_found(tmp_path):
    ca, clock, saves = ListCa(routes(cert_1=[refusal("malformed", 404)])), TestClock(START), Saves()
    for _ in range(3):
        failed = await attempt(tmp_path, ca, clock, saves)
        assert isinstance(failed, Failed)
        assert Fault.UNREACHABLE is failed.fault
        clock.advance(timedelta(hours=1))
    ca.routes[f"{CA}/cert/1"] = [reply(LEAF.pem, content_type=PEM)]
    assert isinstance(await attempt(tmp_path, ca, clock, saves), Issued)
    assert 1 == [url for _, url in ca.requests].count(f"{CA}/newOrder")


async def test_order_that_is_valid_and_has_expired_is_lost_with_its_certificate(tmp_path):
    ends = (START + timedelta(hours=2)).isoformat()
    found = order("valid", certificate=f"{CA}/cert/1", expires=ends)
    ca = ListCa(routes(cert_1=[refusal("malformed", 404)], order_1=[reply(order("ready")), reply(found)]))
    clock, saves = TestClock(START), Saves()
    assert Fault.UNREACHABLE is (await attempt(tmp_path, ca, clock, saves)).fault
    clock.advance(timedelta(hours=3))
    assert Fault.ORDER_LOST is (await attempt(tmp_path, ca, clock, saves)).fault


async def test_valid_order_whose_end_is_not_told_is_lost_with_its_certificate_after_a_day(tmp_path):
    found = order("valid", certificate=f"{CA}/cert/1")
    found.pop("expires", None)
    ca = ListCa(routes(cert_1=[refusal("malformed", 404)], order_1=[reply(order("ready")), reply(found)]))
    clock, saves = TestClock(START), Saves()
    assert Fault.UNREACHABLE is (await attempt(tmp_path, ca, clock, saves)).fault
    clock.advance(timedelta(hours=23))
    assert Fault.UNREACHABLE is (await attempt(tmp_path, ca, clock, saves)).fault
    clock.advance(timedelta(hours=2))
    assert Fault.ORDER_LOST is (await attempt(tmp_path, ca, clock, saves)).fault


async def test_order_that_was_finalized_lately_is_not_lost_at_once_and_an_hour_later_it_is(tmp_path):
    ca, clock, saves = ListCa(routes(cert_1=[refusal("serverInternal", 500)])), TestClock(START), Saves()
    await attempt(tmp_path, ca, clock, saves)
    ca.routes[f"{CA}/order/1"] = [refusal("malformed", 404)]
    assert Fault.UNREACHABLE is (await attempt(tmp_path, ca, clock, saves)).fault
    clock.advance(timedelta(hours=1))
    assert Fault.ORDER_LOST is (await attempt(tmp_path, ca, clock, saves)).fault


async def test_relative_addresses_and_other_content_types_are_read(tmp_path):
    relative = {
        "status": "pending",
        "authorizations": ["/authz/1"],
        "finalize": "finalize/1",
        "surplus": {"a": [1]},
    }
    ca = ListCa(
        routes(
            newOrder=[reply(relative, 201, location="/order/1", content_type="text/plain")],
            authz_1=[reply({"status": "valid"}, content_type="application/jose+json")],
            finalize_1=[reply({"status": "processing"})],
            order_1=[
                reply({"status": "ready", "finalize": "../finalize/1"}),
                reply({"status": "valid", "certificate": "/cert/1"}),
            ],
            cert_1=[
                reply(LEAF.pem, content_type="application/octet-stream", link='</cert/1/a>;rel="alternate"')
            ],
            cert_1_a=[reply(ROOT.pem, content_type="application/x-pem-file")],
        )
    )
    outcome = await attempt(tmp_path, ca, TestClock(START), Saves())
    assert isinstance(outcome, Issued), outcome
    assert ((LEAF.der,), ((ROOT.der,),)) == (outcome.certificates, outcome.alternates)


@pytest.mark.parametrize("location", ["/account/1", f"{CA}/account/1"])
async def test_account_may_be_named_relatively_and_its_object_hangs_on_nothing(tmp_path, location):
    ca, clock = ListCa(routes()), TestClock(START)
    made = enroller(tmp_path, ca, clock)
    ca.routes[f"{CA}/newAccount"] = [reply(b"created", 201, location=location, content_type="text/plain")]
    account = await made._accounts(made._session).establish(deadline=clock.monotonic() + 5)
    assert f"{CA}/account/1" == account.url


@pytest.mark.parametrize(
    ("refused", "signers"),
    [(None, ["kid"]), ("unauthorized", ["kid", "jwk"]), ("accountDoesNotExist", ["kid", "jwk"])],
)
async def test_revocation_is_signed_by_the_account_first_so_that_the_reason_counts(
    tmp_path, monkeypatch, refused, signers
):
    ca, clock = ListCa(routes()), TestClock(START)
    made = enroller(tmp_path, ca, clock)
    await made._accounts(made._session).establish(deadline=clock.monotonic() + 5)
    answers = [refusal(refused, 403)] if refused else []
    ca.routes[f"{CA}/revokeCert"] = [*answers, reply(b"", 200)]
    by, post = [], made._session.post

    async def noted(url: str, payload: Any, **more: Any) -> Any:
        if url.endswith("revokeCert"):
            by.append("jwk" if more["signer"].kid is None else "kid")
        return await post(url, payload, **more)

    monkeypatch.setattr(made._session, "post", noted)
    held = Held(chain=(LEAF.der,), key=LEAF.key)
    assert await made.revoke(held, reason="superseded", deadline=clock.monotonic() + 5) is None
    assert signers == by
    assert {4} == {body["reason"] for body in ca.bodies if "reason" in body}


async def test_reason_that_the_ca_does_not_take_is_told_and_not_lost(tmp_path):
    ca, clock = ListCa(routes(revokeCert=[refusal("badRevocationReason")])), TestClock(START)
    made = enroller(tmp_path, ca, clock)
    await made._accounts(made._session).establish(deadline=clock.monotonic() + 5)
    held = Held(chain=(LEAF.der,), key=LEAF.key)
    failed = await made.revoke(held, reason="superseded", deadline=clock.monotonic() + 5)
    assert "badRevocationReason" in failed.detail
    assert 1 == [url for _, url in ca.requests].count(f"{CA}/revokeCert")


async def test_roots_and_proxy_password_are_read_again_for_every_call(tmp_path):
    (tmp_path / "roots.pem").write_bytes(ROOT.pem)
    (tmp_path / "password").write_text("one\n")
    (tmp_path / "password").chmod(0o600)
    options = PLUGIN.options(
        directory=f"{CA}/dir",
        root_file=tmp_path / "roots.pem",
        proxy="http://me@127.0.0.1:3128",
        proxy_password_file=tmp_path / "password",
    )
    made: Any = PLUGIN.make(options, EnrollerContext(name="corp", state=tmp_path, clock=TestClock(START)))
    first = made._connected()
    assert first is made._connected()
    (tmp_path / "roots.pem").write_bytes(pki.make_root("New").pem)
    second = made._connected()
    assert first is not second
    (tmp_path / "password").write_text("two\n")
    assert second is not made._connected()
    (tmp_path / "roots.pem").write_bytes(b"nothing")
    with pytest.raises(CaError, match="root_file"):
        made._connected()
    await made.aclose()


async def test_revocation_without_an_account_is_signed_by_the_certificates_key(tmp_path):
    ca, clock = ListCa(routes(revokeCert=[reply(b"", 200)])), TestClock(START)
    made = enroller(tmp_path, ca, clock)
    held = Held(chain=(LEAF.der,), key=LEAF.key)
    assert await made.revoke(held, reason="superseded", deadline=clock.monotonic() + 5) is None
    assert 0 == [url for _, url in ca.requests].count(f"{CA}/newAccount")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("/a", f"{CA}/a"),
        ("a", f"{CA}/acme/a"),
        (f"{CA}/b", f"{CA}/b"),
        ("//other.example/c", "https://other.example/c"),
        ("http://ca.example/a", None),
        ("ftp:a", None),
        ("//[", None),
        ("", None),
        (None, None),
        (5, None),
        ("/" + "a" * 5000, None),
    ],
)
def test_addresses_are_resolved_against_where_they_came_from(found, expected):
    assert expected == resolved(f"{CA}/acme/order", found)


def test_objects_of_which_nothing_hangs_may_leave_out_what_they_like():
    seen = parse_order({"status": "processing"})
    assert (Status.PROCESSING, (), None) == (seen.status, seen.authorizations, seen.finalize)
    assert Status.VALID is parse_authorization({"status": "valid"}).status
    directory = parse_directory({"newNonce": "n", "newAccount": "a", "newOrder": "o"}, base=f"{CA}/dir")
    assert (f"{CA}/n", None, None) == (directory.new_nonce, directory.revoke, directory.key_change)
    assert (f"{CA}/o/1",) == parse_order_list(b'{"orders": ["/o/1", 5, "http://x"]}', base=f"{CA}/list")


async def test_validation_that_lasts_is_told_before_the_attempt_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "TOLD_AFTER", timedelta(seconds=-1))
    challenge = {"type": "http-01", "url": f"{CA}/chall/1", "token": "t", "status": "processing"}
    pending = {"status": "pending", "identifier": {"type": "dns", "value": "a.example"}}
    answer = Answer(
        authorization=parse_authorization(pending | {"challenges": [challenge]}),
        challenge=parse_authorization(pending | {"challenges": [challenge]}).challenges[0],
        kind=ChallengeKind.HTTP_01,
    )
    ca, clock = ListCa(routes(authz_1=[reply(pending | {"challenges": [challenge]})])), TestClock(START)
    orders = placed(ca)
    orders._deadline = clock.monotonic() + 5
    pauses = Pauses(clock=clock, deadline=clock.monotonic() + 0.5)
    with captured_events() as logs:
        waits = await Validation(orders, pauses, {f"{CA}/authz/1": answer}).run()
    assert waits is not None
    assert [("enroller_waits_for_validation", "the CA is looking at http-01 for a.example")] == [
        (one["event"], one["detail"]) for one in logs
    ]
