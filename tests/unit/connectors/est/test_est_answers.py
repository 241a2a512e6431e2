"""
The enroller against answers that no real server gives on request: errors in every dress, and worse.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import base64
import json
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from cftpki_connectors.est.encoding import encode
from cftpki_ext.identity.enroller_port import Failed, Fault, Held, Issued, Pending
from tests.support import pki
from tests.support.orders import Saves, in_s, make_order
from tests.support.servers import response
from tests.unit.connectors.est.conftest import bundle, certs_only

NAME = "mft.corp.example"
CHALLENGE_PASSWORD = base64.b64decode("MAsGCSqGSIb3DQEJBw==")


def order(**changes):
    return make_order(NAME, common_name=NAME, **changes)


async def advance(one, wanted=None, saves=None):
    saves = saves or Saves()
    wanted = wanted or order()
    return await one.advance(wanted, saves.last, saves, deadline=in_s(20))


# ---- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "content_type", "fault", "says"),
    [
        ("400 Bad Request", b"bad CSR\nsecond line", "text/plain", Fault.REFUSED, "HTTP 400: bad CSR"),
        ("403 Forbidden", b"\n\n  403 no such  names \n", "text/plain", Fault.REFUSED, "403 no such names"),
        ("403 Forbidden", b"", "", Fault.REFUSED, "HTTP 403"),
        (
            "422 Unprocessable",
            json.dumps({"type": "about:blank", "title": "Policy", "detail": "no wildcard"}).encode(),
            "application/problem+json",
            Fault.REFUSED,
            "no wildcard",
        ),
        ("400 Bad Request", b'{"error": "bad", "n": 1}', "", Fault.REFUSED, "bad"),
        ("400 Bad Request", b'{"error": [1]}', "application/json", Fault.REFUSED, '{"error": [1]}'),
        ("400 Bad Request", b'{"error": ', "application/json", Fault.REFUSED, '{"error":'),
        (
            "502 Bad Gateway",
            b"<html><head><style>b {}</style></head><body><h1>Bad\nGateway</h1></body></html>",
            "text/html",
            Fault.UNREACHABLE,
            "Bad",
        ),
        ("500 Internal Server Error", b"oops", "text/plain", Fault.UNREACHABLE, "oops"),
        ("503 Service Unavailable", b"", "", Fault.UNREACHABLE, "503"),
        ("404 Not Found", b"", "", Fault.MISCONFIGURED, "label"),
        ("405 Method Not Allowed", b"", "", Fault.MISCONFIGURED, "405"),
        ("501 Not Implemented", b"", "", Fault.MISCONFIGURED, "501"),
        ("401 Unauthorized", b"go away", "", Fault.MISCONFIGURED, "identity_chain_file"),
        ("400 Bad Request", b"\xff\x00\x1b[31mred", "text/plain", Fault.REFUSED, "HTTP 400"),
        ("400 Bad Request", b"\x1b[31mred \xc3\xa9", "text/plain", Fault.REFUSED, r"\x1b[31mred é"),
        ("204 No Content", b"", "", Fault.UNREACHABLE, "which EST does not know"),
    ],
)
async def test_error_becomes_one_line_and_a_fault(script, status, body, content_type, fault, says):
    async with script() as server:
        fields = {"Content-Type": content_type} if content_type else {}
        server.on("simpleenroll", response(body, status=status, headers=fields))
        outcome = await advance(server.enroller())

    assert isinstance(outcome, Failed)
    assert fault is outcome.fault
    assert says in outcome.detail
    assert outcome.detail.isprintable()


async def test_long_error_is_cut(script):
    async with script() as server:
        server.on("simpleenroll", response(b"x" * 100_000, status="400 Bad Request"))
        outcome = await advance(server.enroller())

    assert 250 > len(outcome.detail)


async def test_overload_names_when_to_come_back(script):
    async with script() as server:
        fields = {"Retry-After": "120"}
        server.on("simpleenroll", response(b"", status="429 Too Many Requests", headers=fields))
        outcome = await advance(server.enroller())

    assert Fault.RATE_LIMITED is outcome.fault
    assert timedelta(seconds=100) < outcome.retry_at - datetime.now(UTC) <= timedelta(seconds=120)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (response(b"<html>login</html>", headers={"Content-Type": "text/html"}), "HTML page"),
        (response(b"", headers={"Content-Type": "application/pkcs7-mime"}), "empty"),
        (response(b"nonsense!", headers={"Content-Type": "application/pkcs7-mime"}), "not base64"),
        (response(encode(b"\x30\x00")), "neither PKCS#7"),
        (response(b"x" * (1024 * 1024 + 1)), "1048576 allowed"),
    ],
    ids=["html", "empty", "text", "sequence", "oversize"],
)
async def test_success_that_is_none_is_unreachable_and_counts_as_unanswered(script, answer, says):
    """
    The CA may have issued: the next answer says that a certificate may be about.
    """
    async with script() as server:
        saves = Saves()
        wanted = order()
        server.on("simpleenroll", answer)
        outcome = await advance(server.enroller(), wanted, saves)
        server.on("simpleenroll", certs_only(server.leaf()))
        later = await advance(server.enroller(), wanted, saves)

    assert isinstance(outcome, Failed)
    assert Fault.UNREACHABLE is outcome.fault
    assert says in outcome.detail
    assert isinstance(later, Issued)
    assert any(note.startswith("1 earlier request") for note in later.notes)


async def test_clear_refusal_leaves_no_orphan(script):
    async with script() as server:
        saves = Saves()
        wanted = order()
        server.on("simpleenroll", response(b"", status="503 Service Unavailable"))
        await advance(server.enroller(), wanted, saves)
        server.on("simpleenroll", response(b"no", status="403 Forbidden"))
        await advance(server.enroller(), wanted, saves)
        server.on("simpleenroll", certs_only(server.leaf()))
        outcome = await advance(server.enroller(), wanted, saves)

    assert not any("earlier request" in note for note in outcome.notes)


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        ("multipart/mixed; boundary=x", "serverkeygen"),
        ('application/pkcs7-mime; smime-type="CMC-Response"', "full CMC"),
    ],
)
async def test_what_is_not_supported_is_named(script, content_type, says):
    async with script() as server:
        server.on("simpleenroll", response(b"x", headers={"Content-Type": content_type}))
        outcome = await advance(server.enroller())

    assert Fault.MISCONFIGURED is outcome.fault
    assert says in outcome.detail
    assert "not supported" in outcome.detail


async def test_redirected_request_is_not_followed(script):
    async with script() as server:
        server.on("simpleenroll", response(b"", status="307 Moved", headers={"Location": "https://other/"}))
        outcome = await advance(server.enroller())

    assert Fault.MISCONFIGURED is outcome.fault
    assert "not followed" in outcome.detail


# ---- answers -----------------------------------------------------------------------------------------------


async def test_request_is_what_every_server_reads(script):
    async with script() as server:
        server.on("simpleenroll", certs_only(server.leaf()))
        wanted = order()
        await advance(server.enroller(label="mft"), wanted)
        head, _, body = server.server.requests[-1].partition(b"\r\n\r\n")

    assert head.startswith(b"POST /.well-known/est/mft/simpleenroll HTTP/1.1")
    assert b"content-type: application/pkcs10" in head.lower()
    assert b"content-transfer-encoding: base64" in head.lower()
    assert encode(wanted.csr) == body
    assert ["cacerts", "csrattrs", "simpleenroll"] == server.asked


async def test_key_that_was_not_asked_for_is_handed_on_with_a_note(script):
    async with script() as server:
        leaf = server.leaf(pki.key("ec", 999))
        server.on("simpleenroll", certs_only(leaf))
        outcome = await advance(server.enroller())

    assert (leaf,) == outcome.certificates
    assert any("no certificate in the answer is for the key" in note for note in outcome.notes)


async def test_whole_chain_is_taken_as_it_comes(script):
    async with script() as server:
        leaf = server.leaf()
        server.on("simpleenroll", certs_only(server.root.der, server.ca.der, leaf))
        outcome = await advance(server.enroller())

    assert {server.root.der, server.ca.der, leaf} == set(outcome.certificates)
    assert () == outcome.extra


@pytest.mark.parametrize("body", ["one line", "der", "pem"])
async def test_odd_transfer_is_taken_with_a_note_where_it_is_odd(script, body):
    async with script() as server:
        data = bundle(server.leaf())
        forms = {"one line": base64.b64encode(data), "der": data, "pem": pki.pem(data, label="PKCS7")}
        server.on("simpleenroll", response(forms[body]))
        outcome = await advance(server.enroller())

    assert isinstance(outcome, Issued)
    assert (body != "one line") == any("the server sends" in note for note in outcome.notes)


async def test_http_10_without_length_is_read_to_its_end(script):
    async with script() as server:
        data = encode(bundle(server.leaf()))
        server.on(
            "simpleenroll",
            b"HTTP/1.0 200 OK\r\nStatus: 200 OK\r\nContent-Type: application/pkcs7-mime\r\n\r\n" + data,
        )
        outcome = await advance(server.enroller())

    assert isinstance(outcome, Issued)


async def test_clock_that_differs_is_told(script):
    async with script() as server:
        date = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
        server.on("simpleenroll", certs_only(server.leaf(), headers={"Date": date}))
        wrong = await advance(server.enroller())
        date = format_datetime(datetime.now(UTC), usegmt=True)
        server.on("simpleenroll", certs_only(server.leaf(), headers={"Date": date}))
        right = await advance(server.enroller(), order(id="order-2"))

    assert any("s apart" in note for note in wrong.notes)
    assert not any("s apart" in note for note in right.notes)


# ---- pending -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("90", 90),
        ("a date", 86400),  # a day from when the test runs, not from when it was collected
        ("", 900),
        ("soon", 900),
        ("99999999999", 30 * 86400),
    ],
    ids=["seconds", "date", "none", "nonsense", "for ever"],
)
async def test_pending_says_when_to_come_back(script, retry_after, seconds):
    if retry_after == "a date":
        retry_after = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    async with script() as server:
        fields = {"Retry-After": retry_after} if retry_after else {}
        server.on("simpleenroll", response(b"waiting for Alice", status="202 Accepted", headers=fields))
        outcome = await advance(server.enroller())

    assert isinstance(outcome, Pending)
    assert abs((outcome.retry_at - datetime.now(UTC)).total_seconds() - seconds) < 60
    assert outcome.detail.endswith("waiting for Alice")


async def test_pending_request_is_the_same_one_later_and_csrattrs_is_not_asked_again(script):
    async with script() as server:
        pending = response(b"", status="202 Accepted", headers={"Retry-After": "3600"})
        server.on("simpleenroll", pending, pending, certs_only(server.leaf()))
        saves, wanted = Saves(), order()
        outcomes = [await advance(server.enroller(), wanted, saves) for _ in range(3)]
        posts = [
            one.partition(b"\r\n\r\n")[2] for one in server.server.requests if b"simpleenroll" in one[:60]
        ]

    assert [Pending, Pending, Issued] == [type(one) for one in outcomes]
    assert [encode(wanted.csr)] * 3 == posts
    assert 1 == server.asked.count("csrattrs")


async def test_pending_renewal_stays_a_renewal(script):
    async with script() as server:
        current = Held(chain=(server.leaf(),), key=pki.key("ec", 700))
        pending = response(b"", status="202 Accepted")
        server.on("simplereenroll", pending, certs_only(server.leaf()))
        saves, wanted = Saves(), order(current=current)
        first = await advance(server.enroller(), wanted, saves)
        second = await advance(server.enroller(), wanted, saves)

    assert [Pending, Issued] == [type(first), type(second)]
    assert "simpleenroll" not in server.asked


async def test_server_that_breaks_off_at_the_certificate_gets_the_password_instead(script):
    """
    asyncio's TLS ends the connection without an alert, as some load balancers do.
    """
    vendor = pki.make_root("Vendor Root")
    async with script(client_roots=vendor.pem, verify=ssl.CERT_OPTIONAL) as server:
        server.on("simpleenroll", certs_only(server.leaf()))
        current = Held(chain=(server.leaf(),), key=pki.key("ec", 700))
        outcome = await advance(server.enroller(**server.password()), order(current=current))
        alone = await advance(server.enroller(), order(id="order-2", current=current))

    assert isinstance(outcome, Issued)
    assert any("simplereenroll was refused" in note for note in outcome.notes), outcome.notes
    assert not any("had no answer" in note for note in outcome.notes)
    assert isinstance(alone, Failed)
    assert "that is to be renewed" in alone.detail


async def test_pending_enrolment_stays_one_although_a_renewal_were_possible(script):
    async with script() as server:
        saves, wanted = Saves(), order()
        server.on("simpleenroll", response(b"", status="202 Accepted"), certs_only(server.leaf()))
        await advance(server.enroller(), wanted, saves)
        renewed = order(current=Held(chain=(server.leaf(),), key=pki.key("ec", 700)))
        again = make_order(NAME, common_name=NAME, csr=wanted.csr, current=renewed.current)
        outcome = await advance(server.enroller(), again, saves)

    assert isinstance(outcome, Issued)
    assert "simplereenroll" not in server.asked


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
