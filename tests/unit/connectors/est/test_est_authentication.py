"""
The EST enroller against answers that no real server gives on request: challenges, identities, csrattrs, /cacerts.
"""

from __future__ import annotations

import base64

import pytest

from cftpki_connectors.est.encoding import encode
from cftpki_ext.identity.enroller_port import Failed, Fault, Issued
from tests.support import pki
from tests.support.est_orders import advance, order
from tests.support.orders import Saves, in_s
from tests.support.servers import response
from tests.unit.connectors.est.conftest import certs_only

CHALLENGE_PASSWORD = base64.b64decode("MAsGCSqGSIb3DQEJBw==")


# ---- authentication ----------------------------------------------------------------------------------------


def guarded(challenge: str, good: bytes):
    """
    Ask for a password, and answer whoever has an `Authorization`.
    """

    def answer(request: bytes) -> bytes:
        if b"\r\nauthorization:" in request.lower():
            return good
        return response(b"", status="401 Unauthorized", headers={"WWW-Authenticate": challenge})

    return answer


def sent(server) -> list[bytes]:
    lines = server.server.requests[-1].split(b"\r\n")
    return [line.partition(b":")[2].strip() for line in lines if line.lower().startswith(b"authorization:")]


@pytest.mark.parametrize(
    ("challenge", "scheme"),
    [
        ('Basic realm="est"', b"Basic "),
        ("basic", b"Basic "),
        ('Digest realm="est", nonce="n", qop="auth"', b"Digest "),
        ('Digest realm="est", nonce="n", algorithm=SHA-256, qop="auth"', b"Digest "),
        ('Digest qop="auth", realm="est", nonce="n"', b"Digest "),
        ('Basic realm="est", Digest realm="est", nonce="n", qop="auth"', b"Digest "),
        ('Bearer realm="est", Basic realm="est"', b"Basic "),
    ],
)
async def test_challenge_is_answered_by_the_best_scheme(script, challenge, scheme):
    async with script() as server:
        server.on("simpleenroll", guarded(challenge, certs_only(server.leaf())))
        outcome = await advance(server.enroller(**server.password()))
        (authorization,) = sent(server)

    assert isinstance(outcome, Issued)
    assert authorization.startswith(scheme)
    if scheme == b"Basic ":
        assert b"operator:secret-word" == base64.b64decode(authorization[6:])
    else:
        assert b"secret-word" not in authorization


@pytest.mark.parametrize(
    ("challenge", "options", "says"),
    [
        ('Bearer realm="est"', {}, "not accepted"),
        ('Digest realm="est"', {}, "Digest challenge cannot be answered"),
        ('Digest realm="est", nonce="n", algorithm=ROT13', {}, "Digest challenge cannot be answered"),
        ('Digest realm="est", nonce="n", qop="auth-int"', {}, "Digest challenge cannot be answered"),
        ('Basic realm="est"', {"http_auth": "digest"}, "forbids"),
    ],
)
async def test_challenge_that_cannot_be_answered_sends_nothing(script, challenge, options, says):
    async with script() as server:
        server.on("simpleenroll", guarded(challenge, certs_only(server.leaf())))
        outcome = await advance(server.enroller(**server.password(), **options))

    assert Fault.MISCONFIGURED is outcome.fault
    assert says in outcome.detail
    assert [] == sent(server)


async def test_password_is_not_sent_unasked(script):
    async with script() as server:
        server.on("simpleenroll", certs_only(server.leaf()))
        await advance(server.enroller(**server.password()))

    assert not any(b"authorization" in one.lower() for one in server.server.requests)


async def test_password_does_not_follow_a_redirect(script):
    async with script() as server:
        elsewhere = f"https://localhost:{server.server.port}/.well-known/est/elsewhere"
        moved = response(b"", status="302 Found", headers={"Location": elsewhere})
        server.on("csrattrs", guarded('Basic realm="est"', moved))
        server.on("simpleenroll", certs_only(server.leaf()))
        outcome = await advance(server.enroller(**server.password()))

    assert isinstance(outcome, Issued)
    assert "elsewhere" not in server.asked
    assert any("csrattrs: HTTP 302" in note for note in outcome.notes), outcome.notes


async def test_change_of_roots_is_told_although_the_attempt_fails(script):
    async with script() as server:
        server.on("simpleenroll", certs_only(server.leaf()))
        await advance(server.enroller())
        new = pki.make_root("Another Root")
        server.on("cacerts", certs_only(server.ca.der, server.root.der, new.der))
        server.on("simpleenroll", response(b"", status="202 Accepted"), certs_only(server.leaf()))
        saves, wanted = Saves(), order(id="order-2")
        await advance(server.enroller(), wanted, saves)
        outcome = await advance(server.enroller(), wanted, saves)

    assert any("has a new root, told over the authenticated channel" in note for note in outcome.notes)


async def test_change_of_roots_found_while_asking_for_anchors_is_told_once(script):
    async with script() as server:
        server.on("simpleenroll", certs_only(server.leaf()))
        one = server.enroller()
        await one.trust_anchors(deadline=in_s(20))
        first = await advance(one)
        second = await advance(one, order(id="order-2"))

    assert 1 == sum(note.startswith("first contact") for note in first.notes)
    assert not any(note.startswith("first contact") for note in second.notes)


async def test_password_that_others_can_read_is_misconfigured(script):
    async with script() as server:
        options = server.password()
        options["password_file"].chmod(0o644)
        outcome = await advance(server.enroller(**options))

    assert Fault.MISCONFIGURED is outcome.fault
    assert "chmod 0600" in outcome.detail
    assert [] == server.asked


async def test_tls_that_wants_a_certificate_of_everybody_gets_it_for_cacerts_too(script):
    vendor = pki.make_root("Vendor Root")
    async with script(client_roots=vendor.pem) as server:
        entity = pki.issue(vendor, "connector", eku=["clientAuth"])
        (server.folder / "identity.pem").write_bytes(entity.pem)
        (server.folder / "identity.key").write_bytes(pki.key_pem(entity.key, b"key-word"))
        (server.folder / "identity.key").chmod(0o600)
        (server.folder / "key-word").write_text("key-word\n")
        (server.folder / "key-word").chmod(0o600)
        server.on("simpleenroll", certs_only(server.leaf()))
        options = {
            "identity_chain_file": server.folder / "identity.pem",
            "identity_key_file": server.folder / "identity.key",
            "identity_password_file": server.folder / "key-word",
        }
        outcome = await advance(server.enroller(**options))
        (server.folder / "key-word").write_text("another")
        wrong = await advance(server.enroller(**options), order(id="order-2"))

    assert isinstance(outcome, Issued)
    assert Fault.MISCONFIGURED is wrong.fault
    assert "its password is missing or wrong" in wrong.detail
    assert "another" not in wrong.detail


@pytest.mark.parametrize("which", ["other key", "expired", "no chain", "ed25519", "garbage"])
async def test_identity_that_cannot_work_is_told_before_anything_is_sent(script, which):
    vendor = pki.make_root("Vendor Root")
    async with script() as server:
        key = pki.key("ed25519" if which == "ed25519" else "ec", 5)
        fields = {"not_after": pki.NOW} if which == "expired" else {}
        entity = pki.issue(vendor, "connector", eku=["clientAuth"], private=key, **fields)
        chain = {"no chain": b"", "garbage": b"\x30\x00"}.get(which, entity.pem)
        (server.folder / "identity.pem").write_bytes(chain)
        key = pki.key("ec", 6) if which == "other key" else key
        (server.folder / "identity.key").write_bytes(pki.key_pem(key))
        (server.folder / "identity.key").chmod(0o600)
        outcome = await advance(
            server.enroller(
                identity_chain_file=server.folder / "identity.pem",
                identity_key_file=server.folder / "identity.key",
            )
        )

    assert isinstance(outcome, Failed)
    assert Fault.MISCONFIGURED is outcome.fault
    assert "identity_" in outcome.detail
    assert [] == server.asked


# ---- csrattrs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        (response(b"", status="204 No Content"), None),
        (response(b"", status="404 Not Found"), None),
        (response(b"\r\n", headers={"Content-Type": "application/csrattrs"}), None),
        (response(encode(b"\x30\x00")), None),
        (response(b"\x30\x00"), "DER without base64"),
        (response(b"oops", status="500 Internal Server Error"), "csrattrs: HTTP 500: oops"),
        (response(b"nonsense!"), "csrattrs: the body is not base64"),
        (response(encode(b"\x02\x01\x00")), "csrattrs cannot be read"),
        (response(b"<html>", headers={"Content-Type": "text/html"}), "csrattrs: HTTP 200 with an HTML page"),
        (response(b"", status="302 Found", headers={"Location": "http://other/"}), "csrattrs"),
    ],
)
async def test_csrattrs_is_advice_and_never_stops_an_enrolment(script, answer, note):
    async with script() as server:
        server.on("csrattrs", answer)
        server.on("simpleenroll", certs_only(server.leaf()))
        outcome = await advance(server.enroller())

    assert isinstance(outcome, Issued)
    assert (note is not None) == any("csrattrs" in one for one in outcome.notes)
    assert note is None or any(note in one for one in outcome.notes)


async def test_refusal_is_explained_by_what_the_request_lacks(script):
    async with script() as server:
        server.on("csrattrs", response(encode(base64.b64decode("MAcGBSuBBAAi"))))  # P-384
        server.on("simpleenroll", response(b"no", status="403 Forbidden"))
        outcome = await advance(server.enroller())

    assert Fault.REFUSED is outcome.fault
    assert "curve P-384" in outcome.detail


async def test_channel_binding_is_tried_without_and_explained_when_refused(script):
    async with script() as server:
        server.on("csrattrs", response(encode(CHALLENGE_PASSWORD)))
        server.on("simpleenroll", certs_only(server.leaf()))
        fine = await advance(server.enroller())
        server.on("simpleenroll", response(b"no", status="403 Forbidden"))
        refused = await advance(server.enroller(), order(id="order-2"))

    assert any("lists challengePassword" in note for note in fine.notes)
    assert Fault.MISCONFIGURED is refused.fault
    assert "cannot do" in refused.detail


# ---- /cacerts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "fault", "says"),
    [
        (response(b"", status="404 Not Found"), Fault.MISCONFIGURED, "label"),
        (response(b"no certificate", status="400 Bad"), Fault.MISCONFIGURED, "HTTP 400: no certificate"),
        (response(b"", status="500 Oops"), Fault.UNREACHABLE, "/cacerts: HTTP 500"),
        (response(b"nonsense!"), Fault.UNREACHABLE, "/cacerts: the body is not base64"),
        (response(b"<html>", headers={"Content-Type": "text/html"}), Fault.UNREACHABLE, "HTML"),
    ],
)
async def test_first_contact_without_cacerts_fails_and_later_ones_do_not(script, answer, fault, says):
    async with script() as server:
        server.on("simpleenroll", certs_only(server.leaf()))
        server.on("cacerts", answer)
        first = await advance(server.enroller("new"))
        server.on("cacerts", certs_only(server.ca.der, server.root.der))
        await advance(server.enroller("known"))
        server.on("cacerts", answer)
        later = await advance(server.enroller("known"), order(id="order-2"))

    assert isinstance(first, Failed)
    assert fault is first.fault
    assert says in first.detail
    assert isinstance(later, Issued)
    assert any("what is kept holds" in note for note in later.notes)
    assert {server.ca.der, server.root.der} == set(later.extra)


async def test_first_contact_with_no_valid_ca_is_misconfigured(script):
    async with script() as server:
        server.on("cacerts", certs_only(server.leaf()))
        outcome = await advance(server.enroller())

    assert Fault.MISCONFIGURED is outcome.fault
    assert "no CA certificate" in outcome.detail


async def test_list_without_any_root_does_not_forget_the_known_ones(script):
    async with script() as server:
        server.on("simpleenroll", certs_only(server.leaf()))
        await advance(server.enroller())
        server.on("cacerts", certs_only(server.leaf()))
        one = server.enroller()
        outcome = await advance(one, order(id="order-2"))

        assert isinstance(outcome, Issued)
        assert (server.root.der,) == await one.trust_anchors(deadline=in_s(20))


async def test_trust_anchors_of_an_unknown_server_are_none(script):
    async with script() as server:
        server.on("cacerts", response(b"", status="500 Oops"))

        assert () == await server.enroller().trust_anchors(deadline=in_s(20))


async def test_deadline_that_is_over_is_unreachable(script):
    async with script() as server:
        outcome = await server.enroller().advance(order(), {}, Saves(), deadline=in_s(-1))

    assert Fault.UNREACHABLE is outcome.fault
    assert [] == server.asked
