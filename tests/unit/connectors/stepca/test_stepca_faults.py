"""
The step-ca enroller against a CA (or what stands before it) that does not behave as step-ca does.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cftpki_connectors.stepca import PLUGIN
from cftpki_connectors.stepca.enroller import StepCaEnroller
from cftpki_ext.identity.enroller_port import Failed, Fault, Issued, Progress
from tests.support import pki
from tests.support.ca_servers import jwk, write_secret
from tests.support.orders import Saves, context, held, in_s, make_order
from tests.support.servers import Behaviour, Server, answer, asked, endless, evil, in_turn, response, silent

ROOT = pki.make_root("Root")
CA = pki.issue(ROOT, "CA", ca=True)
SERVER = pki.issue(CA, "server", san=["ip:127.0.0.1"], eku=["serverAuth"])
KEY = pki.key("ec", 930)
ORDER = make_order("a.example")
LEAF = pki.issue(CA, "a.example", private=ORDER.key, san=["dns:a.example"], eku=["clientAuth"])
WAIT_S = 30.0


def document(fields: object, *, status: str = "200 OK", **headers: str) -> Behaviour:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = {"Content-Type": "application/json"}
    return answer(response(json.dumps(fields).encode(), status=status, headers=kind | named))


def refused(status: str, message: str = "no", **headers: str) -> Behaviour:
    return document({"status": int(status[:3]), "message": message}, status=status, **headers)


def pem(entity: pki.Entity) -> str:
    return entity.pem.decode()


PROVISIONERS = {"provisioners": [{"type": "JWK", "name": "mft", "key": jwk(KEY)}], "nextCursor": ""}
GRANTED = document({"crt": pem(LEAF), "ca": pem(CA), "certChain": [pem(LEAF), pem(CA)]}, status="201 Created")
HTML = answer(response(b"<html>Please log in</html>", headers={"Content-Type": "text/html"}))


@dataclass(slots=True)
class Scripted:
    """
    A step-ca by script: a behaviour for each path, without the query.
    """

    server: Server
    folder: Path
    routes: dict[str, Behaviour] = field(default_factory=dict)

    def asked(self, path: str) -> list[bytes]:
        return [request for request in self.server.requests if path_of(request) == path]

    def enroller(self, **changes: Any) -> StepCaEnroller:
        options = {
            "url": self.server.url().rstrip("/"),
            "fingerprint": hashlib.sha256(ROOT.der).hexdigest(),
            "provisioner": "mft",
            "key_file": write_secret(self.folder / "key", pki.key_pem(KEY)),
        } | changes
        given = {name: value for name, value in options.items() if value is not None}
        return StepCaEnroller(PLUGIN.options(**given), context(self.folder))


def path_of(request: bytes) -> str:
    return request.split(b" ", 2)[1].decode().partition("?")[0]


@pytest.fixture
async def ca(tmp_path: Path) -> AsyncIterator[Scripted]:
    file = tmp_path / "server.pem"
    file.write_bytes(SERVER.pem + CA.pem + SERVER.key_pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    # Whoever shows a certificate is welcome.
    tls.verify_mode = ssl.CERT_OPTIONAL
    tls.load_verify_locations(cadata=ROOT.der)

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = path_of(asked.get())
        await scripted.routes.get(path, refused("404 Not Found"))(reader, writer)

    async with evil(behave, tls=tls) as server:
        scripted = Scripted(server, tmp_path)
        scripted.routes = {
            f"/root/{hashlib.sha256(ROOT.der).hexdigest()}": document({"ca": pem(ROOT)}),
            "/roots": document({"crts": [pem(ROOT)]}, status="201 Created"),
            "/provisioners": document(PROVISIONERS),
            "/health": document({"status": "ok"}),
            "/1.0/sign": GRANTED,
            "/1.0/renew": GRANTED,
            "/1.0/rekey": GRANTED,
            "/1.0/revoke": document({"status": "ok"}),
        }
        yield scripted


@asynccontextmanager
async def opened(enroller: StepCaEnroller) -> AsyncIterator[StepCaEnroller]:
    yield enroller
    await enroller.aclose()


async def advance(
    ca: Scripted, *, saves: Saves | None = None, wait_s: float = WAIT_S, order: Any = ORDER, **changes: Any
) -> Progress:
    saves = saves or Saves()
    async with opened(ca.enroller(**changes)) as enroller:
        return await enroller.advance(order, saves.last, saves, deadline=in_s(wait_s))


async def failure(ca: Scripted, **how: Any) -> Failed:
    progress = await advance(ca, **how)
    assert isinstance(progress, Failed), progress
    assert "\n" not in progress.detail
    return progress


async def test_issue_from_the_script(ca: Scripted) -> None:
    issued = await advance(ca)
    assert isinstance(issued, Issued)
    assert (LEAF.der, CA.der) == issued.certificates
    body = json.loads(ca.asked("/1.0/sign")[0].partition(b"\r\n\r\n")[2])
    assert {"csr", "ott"} == body.keys()
    payload = body["ott"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    digest = base64.urlsafe_b64encode(hashlib.sha256(ORDER.csr).digest()).decode().rstrip("=")
    assert ({"x5rt#S256": digest}, hashlib.sha256(ROOT.der).hexdigest()) == (claims["cnf"], claims["sha"])
    assert ("a.example", ["a.example"]) == (claims["sub"], claims["sans"])
    assert ca.server.url("/1.0/sign") == claims["aud"]


async def test_issue_without_a_chain_takes_certificate_and_ca(ca: Scripted) -> None:
    for chain in ({}, {"certChain": []}, {"certChain": None}):
        ca.routes["/1.0/sign"] = document({"crt": pem(LEAF), "ca": pem(CA), **chain})
        issued = await advance(ca)
        assert isinstance(issued, Issued)
        assert (LEAF.der, CA.der) == issued.certificates


UNANSWERED = {
    "silent": (silent(), "no whole answer within"),
    "html": (HTML, "HTTP 200 with an HTML page, perhaps of a proxy or a portal"),
    "bad gateway": (refused("502 Bad Gateway"), "HTTP 502: no"),
    "html 504": (
        answer(response(b"<html>", status="504 Timeout", headers={"Content-Type": "text/html"})),
        "HTTP 504: an HTML page, perhaps of a proxy or a portal",
    ),
    "cut": (answer(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{", close=True), "peer closed"),
    "huge": (endless(b"HTTP/1.1 201 Created\r\n\r\n", b"x" * 65536), "more than 1048576 bytes"),
    "no json": (answer(response(b"ok", headers={"Content-Type": "application/json"})), "is no JSON"),
    "deep json": (
        answer(response(b"[" * 100_000, headers={"Content-Type": "application/json"})),
        "is no JSON",
    ),
    "no object": (document([]), "is no JSON object"),
    "no certificate": (document({"crt": "x", "ca": "y"}), "something in it that is no certificate"),
    "no chain": (document({"certChain": "x"}), "the answer has 0 certificates"),
    "long chain": (document({"certChain": [pem(CA)] * 65}), "the answer has 65 certificates"),
}


@pytest.mark.parametrize("name", UNANSWERED)
async def test_sign_without_a_usable_answer_is_a_possible_orphan(ca: Scripted, name: str) -> None:
    ca.routes["/1.0/sign"], told = UNANSWERED[name]
    saves = Saves()
    failed = await failure(ca, saves=saves, wait_s=4.0)
    assert Fault.UNREACHABLE is failed.fault
    assert failed.detail.startswith("sign: ")
    assert told in failed.detail
    assert failed.detail.endswith("; the CA may have issued nevertheless")
    assert 1 == len(saves.last["unanswered"])
    ca.routes["/1.0/sign"] = GRANTED
    issued = await advance(ca, saves=Saves(states=[saves.last]))
    assert isinstance(issued, Issued)
    assert 1 == sum(note.startswith("possible orphan: sign at ") for note in issued.notes)
    tokens = {json.loads(one.partition(b"\r\n\r\n")[2])["ott"] for one in ca.asked("/1.0/sign")}
    assert len(ca.asked("/1.0/sign")) == len(tokens)


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        ("400 Bad Request", Fault.REFUSED),
        ("401 Unauthorized", Fault.REFUSED),
        ("403 Forbidden", Fault.REFUSED),
        ("404 Not Found", Fault.REFUSED),
        ("407 Proxy Authentication Required", Fault.MISCONFIGURED),
        ("429 Too Many Requests", Fault.RATE_LIMITED),
        ("501 Not Implemented", Fault.REFUSED),
    ],
)
async def test_sign_that_is_refused_leaves_no_orphan(ca: Scripted, status: str, fault: Fault) -> None:
    message = "bad\nthing. Please see the certificate authority logs for more info."
    ca.routes["/1.0/sign"] = refused(status, message, X_Request_Id="id-7", Retry_After="60")
    saves = Saves()
    failed = await failure(ca, saves=saves)
    assert fault is failed.fault
    assert f"sign: HTTP {status[:3]}: bad\\nthing. (X-Request-Id id-7)" in failed.detail
    assert [] == saves.last["unanswered"]
    if fault is Fault.RATE_LIMITED:
        assert failed.retry_at is not None
        assert abs(failed.retry_at - datetime.now(UTC) - timedelta(minutes=1)) < timedelta(seconds=5)


async def test_nothing_is_asked_before_it_is_written_down(ca: Scripted) -> None:
    async def refuse(state: object) -> None:
        raise OSError

    async with opened(ca.enroller()) as enroller:
        with pytest.raises(OSError):  # noqa: PT011  # the very one
            await enroller.advance(ORDER, {}, refuse, deadline=in_s(WAIT_S))
    assert [] == ca.asked("/1.0/sign")


async def test_renewal_without_an_answer_does_not_sign_too(ca: Scripted) -> None:
    current = held(Issued(certificates=(LEAF.der, CA.der)), ORDER)
    ca.routes["/1.0/renew"] = silent()
    failed = await failure(ca, order=replace(ORDER, current=current), wait_s=1)
    assert failed.detail.startswith("renew: no whole answer within")
    assert (1, 0) == (len(ca.asked("/1.0/renew")), len(ca.asked("/1.0/sign")))


CUT = answer(b"", close=True)


async def test_renewal_begins_with_a_greeting(ca: Scripted) -> None:
    current = held(Issued(certificates=(LEAF.der, CA.der)), ORDER)
    ca.routes["/health"] = CUT
    saves = Saves()
    failed = await failure(ca, order=replace(ORDER, current=current), saves=saves)
    assert Fault.UNREACHABLE is failed.fault
    assert ([], [], []) == (ca.asked("/1.0/renew"), ca.asked("/1.0/sign"), saves.states)


async def test_renewal_by_a_certificate_that_tls_does_not_take_signs_instead(ca: Scripted) -> None:
    current = held(Issued(certificates=(LEAF.der, CA.der)), ORDER)
    ca.routes["/health"] = in_turn(CUT, CUT, CUT, document({"status": "ok"}))
    issued = await advance(ca, order=replace(ORDER, current=current))
    assert isinstance(issued, Issued)
    not_taken = "renew was refused (the CA does not take the certificate for TLS (it ends the connection): "
    assert issued.notes[1].startswith(not_taken)
    assert [] == ca.asked("/1.0/renew")


async def test_renewal_that_is_refused_signs_instead(ca: Scripted) -> None:
    current = held(Issued(certificates=(LEAF.der, CA.der)), ORDER)
    ca.routes["/1.0/renew"] = refused("401 Unauthorized", "renewals are disabled")
    issued = await advance(ca, order=replace(ORDER, current=current))
    assert isinstance(issued, Issued)
    assert issued.notes[1] == "renew was refused (HTTP 401: renewals are disabled), asked by sign instead"
    assert (1, 1) == (len(ca.asked("/1.0/renew")), len(ca.asked("/1.0/sign")))


async def test_renewal_of_a_ca_that_is_too_busy_waits(ca: Scripted) -> None:
    current = held(Issued(certificates=(LEAF.der, CA.der)), ORDER)
    ca.routes["/1.0/renew"] = refused("429 Too Many Requests")
    failed = await failure(ca, order=replace(ORDER, current=current))
    assert Fault.RATE_LIMITED is failed.fault
    assert [] == ca.asked("/1.0/sign")


@pytest.mark.parametrize("behaviour", [HTML, silent(), refused("500 Internal Server Error")])
async def test_roots_that_cannot_be_looked_at_do_not_cost_the_certificate(
    ca: Scripted, behaviour: Behaviour
) -> None:
    ca.routes["/roots"] = behaviour
    issued = await advance(ca, wait_s=4.0)
    assert isinstance(issued, Issued)
    assert any(note.startswith("the CA's roots could not be looked at: ") for note in issued.notes)


async def test_roots_that_are_no_cas_are_not_taken(ca: Scripted) -> None:
    ca.routes["/roots"] = document({"crts": [pem(ROOT), pem(LEAF)]})
    issued = await advance(ca)
    assert isinstance(issued, Issued)
    assert (ROOT.der,) == issued.extra


async def test_roots_without_end_are_not_taken(ca: Scripted) -> None:
    many = [pki.make_root(f"Root {number}", private=KEY) for number in range(33)]
    ca.routes["/roots"] = document({"crts": [pem(one) for one in many]})
    issued = await advance(ca)
    assert isinstance(issued, Issued)
    assert (ROOT.der,) == issued.extra
    assert any("the CA lists 34 roots, 32 are taken" in note for note in issued.notes)


def kept(ca: Scripted) -> Path:
    return next((ca.folder / "state-corp").glob("roots-*.pem"))


async def test_kept_roots_are_used_and_not_asked_for_again(ca: Scripted) -> None:
    await advance(ca)
    ca.routes = {path: how for path, how in ca.routes.items() if not path.startswith("/root/")}
    assert isinstance(await advance(ca), Issued)
    assert 0o600 == kept(ca).stat().st_mode & 0o777


@pytest.mark.parametrize("fault", ["writable", "garbage", "empty", "another's"])
async def test_kept_roots_that_are_not_believed_are_got_again(ca: Scripted, fault: str) -> None:
    await advance(ca)
    stranger = pki.make_root("Stranger")
    data = {"garbage": b"garbage", "empty": b"", "another's": stranger.pem}
    kept(ca).write_bytes(data.get(fault, ROOT.pem + stranger.pem))
    kept(ca).chmod(0o620 if fault == "writable" else 0o600)
    ca.server.requests.clear()
    issued = await advance(ca)
    assert isinstance(issued, Issued)
    assert ROOT.der == issued.extra[0]
    assert 1 == sum(path_of(request).startswith("/root/") for request in ca.server.requests)
    if fault == "writable":
        assert (ROOT.der,) == issued.extra


async def test_fingerprint_of_another_answer_trusts_nobody(ca: Scripted) -> None:
    for path in ca.routes:
        if path.startswith("/root/"):
            ca.routes[path] = document({"ca": pem(pki.make_root("Root"))})
    failed = await failure(ca)
    assert Fault.MISCONFIGURED is failed.fault
    assert "no certificate with the configured fingerprint" in failed.detail
    assert [] == list((ca.folder / "state-corp").iterdir())
    assert 1 == len(ca.server.requests)


async def test_bootstrap_from_a_portal_is_unheard(ca: Scripted) -> None:
    for path in ca.routes:
        ca.routes[path] = HTML
    failed = await failure(ca)
    assert Fault.UNREACHABLE is failed.fault
    assert "before asking: HTTP 200 with an HTML page" in failed.detail


async def test_provisioners_without_end_are_refused(ca: Scripted) -> None:
    ca.routes["/provisioners"] = document({"provisioners": [], "nextCursor": "again"})
    failed = await failure(ca)
    assert "the list of provisioners has more than 50 pages" in failed.detail


async def test_provisioners_that_are_hidden_are_done_without(ca: Scripted) -> None:
    ca.routes["/provisioners"] = refused("403 Forbidden")
    issued = await advance(ca)
    assert isinstance(issued, Issued)
    hidden = await failure(ca, key_file=None, password_file=write_secret(ca.folder / "pw", b"pw"))
    assert "the CA does not list its provisioners: kid or key_file is needed" in hidden.detail


@pytest.mark.parametrize(
    "listed", [{}, {"provisioners": [7, {}]}, {"provisioners": None}, {"provisioners": {}}]
)
async def test_provisioners_of_strange_form_are_none(ca: Scripted, listed: object) -> None:
    ca.routes["/provisioners"] = document(listed)
    failed = await failure(ca)
    assert Fault.MISCONFIGURED is failed.fault
    assert "the CA has no provisioner 'mft'; it has: " in failed.detail


async def test_provisioner_with_several_keys_needs_a_kid(ca: Scripted) -> None:
    other = pki.key("ec", 931)
    entries = [{"type": "JWK", "name": "mft", "key": jwk(key)} for key in (KEY, other)]
    ca.routes["/provisioners"] = document({"provisioners": entries})
    password = {"key_file": None, "password_file": write_secret(ca.folder / "pw", b"pw")}
    failed = await failure(ca, **password)
    assert f"has 2 keys, kid must name one of: {jwk(KEY)['kid']}, {jwk(other)['kid']}" in failed.detail
    no_key = await failure(ca, **password, kid=jwk(KEY)["kid"])
    assert "the CA keeps no encrypted key of provisioner 'mft': key_file is needed" in no_key.detail
    assert isinstance(await advance(ca), Issued)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666])
async def test_secret_that_others_can_read_is_not_used(ca: Scripted, mode: int) -> None:
    enroller = ca.enroller()
    (ca.folder / "key").chmod(mode)
    async with opened(enroller):
        failed = await enroller.advance(ORDER, {}, Saves(), deadline=in_s(WAIT_S))
    assert isinstance(failed, Failed)
    assert Fault.MISCONFIGURED is failed.fault
    assert "can be read by others" in failed.detail


@pytest.mark.parametrize("option", ["key_file", "password_file", "root_file", "chain_file"])
async def test_file_that_is_missing_is_named(ca: Scripted, option: str) -> None:
    entry = {"type": "X5C", "name": "mft"}
    if option == "chain_file":
        ca.routes["/provisioners"] = document({"provisioners": [entry]})
    failed = await failure(ca, **{option: ca.folder / "nowhere"})
    assert Fault.MISCONFIGURED is failed.fault
    assert "nowhere: no such file" in failed.detail


async def test_chain_file_with_another_key_is_told(ca: Scripted) -> None:
    ca.routes["/provisioners"] = document({"provisioners": [{"type": "X5C", "name": "mft"}]})
    chain = ca.folder / "chain.pem"
    chain.write_bytes(LEAF.pem)
    failed = await failure(ca, chain_file=chain)
    assert "is not that of the first certificate" in failed.detail
    chain.write_bytes(b"")
    assert "chain_file" in (await failure(ca, chain_file=chain)).detail


async def test_revocation_that_was_done_before_is_done(ca: Scripted) -> None:
    ca.routes["/1.0/revoke"] = refused(
        "400 Bad Request", "certificate with serial number '1' is already revoked"
    )
    async with opened(ca.enroller()) as enroller:
        current = held(Issued(certificates=(LEAF.der, CA.der)), ORDER)
        assert None is await enroller.revoke(current, reason="superseded", deadline=in_s(WAIT_S))
    body = json.loads(ca.asked("/1.0/revoke")[0].partition(b"\r\n\r\n")[2])
    assert (str(LEAF.serial), 4, True) == (body["serial"], body["reasonCode"], body["passive"])


async def test_revocation_without_an_answer_is_unreachable(ca: Scripted) -> None:
    ca.routes["/1.0/revoke"] = refused("503 Service Unavailable")
    async with opened(ca.enroller()) as enroller:
        current = held(Issued(certificates=(LEAF.der, CA.der)), ORDER)
        failed = await enroller.revoke(current, reason="superseded", deadline=in_s(WAIT_S))
    assert failed is not None
    assert (Fault.UNREACHABLE, "revoke: HTTP 503: no") == (failed.fault, failed.detail)


async def test_clock_that_is_wrong_is_told_with_the_certificate(ca: Scripted) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    ca.routes["/1.0/sign"] = document({"certChain": [pem(LEAF), pem(CA)]}, Date=later)
    issued = await advance(ca)
    assert isinstance(issued, Issued)
    assert any("behind the CA's" in note for note in issued.notes)
