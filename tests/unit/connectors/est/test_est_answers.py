"""
The EST enroller against answers that no real server gives on request: errors, odd transfers, "come back later".
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
from tests.support.est_orders import NAME, advance, order
from tests.support.orders import Saves, make_order
from tests.support.servers import response
from tests.unit.connectors.est.conftest import bundle, certs_only

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

    assert any("this host's clock" in note for note in wrong.notes)
    assert not any("this host's clock" in note for note in right.notes)


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
