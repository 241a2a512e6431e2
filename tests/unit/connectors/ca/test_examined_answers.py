"""
What a CA, or whoever stands before it, can do with an answer: nothing but be refused, and at once.

Answers are read in the loop that also judges handshakes: the worst of the size that is read must not hold it up.
"""

import os
import time
from datetime import UTC, datetime

import httpx
import pytest

from cftpki_connectors.acme import resources
from cftpki_connectors.ca import anchors, certs_only
from cftpki_connectors.ca.certs_only import MalformedBodyError
from cftpki_connectors.ca.client import CaAnswer, CaClient, CaError, CaRequest, http_date, retry_after
from cftpki_connectors.ca.said import first_line
from cftpki_connectors.est import encoding
from cftpki_connectors.est.attributes import parse_csr_attributes
from cftpki_connectors.est.credentials import Credentials, authorization
from cftpki_connectors.est.options import HttpAuth
from cftpki_connectors.stepca import client as stepca
from cftpki_connectors.stepca.findings import go_seconds
from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.identity.enroller_port import Fault
from cftpki_ext.x509 import der
from tests.support.pki import integer, make_root, oid

# A slow machine takes a tenth of this; what is quadratic took minutes.
PATIENCE_S = 2.0
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MEGABYTE = 1024 * 1024
SIGNED_DATA = oid("1.2.840.113549.1.7.2")
DATA = oid("1.2.840.113549.1.7.1")


def answer(body: bytes = b"", **headers: str) -> CaAnswer:
    fields = httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return CaAnswer(status=200, headers=fields, body=body, url="https://ca/")


def indefinite(certificates: bytes) -> bytes:
    """
    A degenerate PKCS#7 in BER, as no DER parser reads it.
    """
    head = b"\x02\x01\x01\x31\x00\x30\x80" + DATA + b"\0\0"
    signed = b"\x30\x80" + head + b"\xa0\x80" + certificates + b"\0\0\x31\0\0\0"
    return b"\x30\x80" + SIGNED_DATA + b"\xa0\x80" + signed + b"\0\0\0\0"


def definite(certificates: bytes) -> bytes:
    content = der.encode(der.SEQUENCE, DATA)
    listed = der.encode(0xA0, certificates)
    signed = der.encode(der.SEQUENCE, integer(1), der.encode(der.SET), content, listed, der.encode(der.SET))
    return der.encode(der.SEQUENCE, SIGNED_DATA, der.encode(0xA0, signed))


@pytest.mark.parametrize(
    "body",
    [
        b"\0" * (MEGABYTE - 1) + b"A",
        b" \0" * (MEGABYTE // 2),
        b"-----BEGIN CMS-----" * (MEGABYTE // 19),
        b"-----BEGIN CMS-----AAAA\n" * (MEGABYTE // 24),
        b"-----BEGIN CERTIFICATE-----\n" * (MEGABYTE // 28),
        definite(b"\x30\x00" * (MEGABYTE // 2 - 100)),
        definite(b"\x30\x80" + b"\x04\x00" * (MEGABYTE // 2 - 100) + b"\0\0"),
        indefinite(b"\x30\x00" * (MEGABYTE // 2 - 100)),
        indefinite(b"\x30\x80" + b"\x04\x00" * (certs_only.MAX_BER_BYTES // 2 - 50) + b"\0\0"),
        indefinite(b"\x30\x80" * 5000 + b"\0\0" * 5000),
    ],
    ids=["nuls", "blanks", "cms", "cms-text", "pem", "many", "parts", "ber-many", "ber-parts", "ber-deep"],
)
def test_est_body_of_the_worst_kind_is_refused_at_once(body):
    begun = time.process_time()
    with pytest.raises(MalformedBodyError):
        encoding.certificates(body)
    assert time.process_time() - begun < PATIENCE_S


def test_est_bodies_in_every_form_are_still_read():
    root = make_root("Root").der
    for body in (definite(root), indefinite(root), encoding.encode(definite(root)) + b"\0"):
        assert encoding.certificates(body).ders == (root,)


def _attribute(kind: str, *values: bytes) -> bytes:
    return der.encode(der.SEQUENCE, oid(kind), der.encode(der.SET, *values))


def _nested(levels: int) -> bytes:
    inner = _attribute("1.2.840.113549.1.1.1", integer(2048))
    for _ in range(levels):
        template = der.encode(der.SEQUENCE, der.encode(0xA1, inner))
        inner = _attribute("1.2.840.113549.1.9.16.2.61", template)
    return inner


@pytest.mark.parametrize(
    "item",
    [
        _attribute("1.2.840.113549.1.1.1", b"\x02\x83\x0f\x00\x00" + b"\x7f" * 0xF0000),
        _attribute("1.2.840.113549.1.1.1", *[integer(1)] * 200_000),
        _attribute("1.2.840.113549.1.9.14", der.encode(der.SEQUENCE, *[b"\x30\x00"] * 200_000)),
        _nested(1000),
    ],
    ids=["huge-number", "many-values", "many-extensions", "deep"],
)
def test_csrattrs_of_the_worst_kind_are_refused_at_once(item):
    begun = time.process_time()
    with pytest.raises(MalformedBodyError):
        parse_csr_attributes(der.encode(der.SEQUENCE, item))
    assert time.process_time() - begun < PATIENCE_S


@pytest.mark.parametrize(
    "text",
    [
        "Fri, 31 Dec 9999 23:59:59 -0100",
        "Mon, 1 Jan 2026 99999999999999999999:1:1 +1",
        "Mon, 01 Jan 99999 00:00:00 GMT",
        "Mon, 01 Jan 2026 00:00:00 +99999999",
        "\u0663",
        "-1",
    ],
)
def test_date_that_no_clock_shows_is_none(text):
    assert http_date(text) is None
    assert retry_after(text, NOW) is None


CHALLENGES = [
    b"Digest",
    b"Digest foo",
    b"Digest =,=,=",
    b'Digest realm="a", nonce="b", qop=',
    b'Digest realm="a", nonce="b", algorithm=FOO',
    b'Digest realm="a", nonce="b", qop="auth-int"',
    b'Digest realm="\xe9", nonce="b"',
    b"Digest " + b'"' * 50_000,
]


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_digest_challenge_that_cannot_be_answered_is_told(challenge):
    asked = CaAnswer(
        status=401,
        headers=httpx.Headers([(b"www-authenticate", challenge), (b"www-authenticate", b"Basic realm=x")]),
        body=b"",
        url="https://ca/",
    )
    ours = Credentials(username="user", password="never shown")
    with pytest.raises(CaError, match="cannot be answered") as raised:
        authorization(ours, CaRequest(url="https://ca/"), asked)
    assert "never shown" not in str(raised.value)


def test_basic_is_not_sent_where_the_configuration_wants_digest():
    asked = CaAnswer(
        status=401, headers=httpx.Headers({"www-authenticate": "Basic realm=x"}), body=b"", url="https://ca/"
    )
    strict = Credentials(username="user", password="secret", http_auth=HttpAuth.DIGEST)
    with pytest.raises(CaError, match="forbids"):
        authorization(strict, CaRequest(url="https://ca/"), asked)
    assert "secret" not in repr(strict)


@pytest.mark.parametrize("value", ["<" * 8192, "<a>" * 2700, "<a>" + "; " * 4000, "<a>;" + " " * 8100])
def test_link_fields_of_the_worst_kind_are_read_at_once(value):
    begun = time.process_time()
    assert resources.links([value] * 64, "alternate") == ()
    assert time.process_time() - begun < PATIENCE_S


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 500_000,
        b'{"a":' + b"9" * 900_000 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"\xff\xfe{}",
        b"[]",
    ],
)
def test_json_bomb_is_no_answer(body):
    for read in (stepca._fields, lambda whole: resources.decode_object(whole.body, "order")):
        with pytest.raises(CaError):
            read(answer(body))
    assert resources.parse_order_list(body) == ()
    first_line(answer(body, content_type="application/json"))


class _Pages:
    """
    A CA that lists a hundred thousand provisioners on each page, and always has another page.
    """

    async def send(self, request: CaRequest, *, deadline: float) -> CaAnswer:
        del request, deadline
        return answer(b'{"nextCursor":"more","provisioners":[' + b"{}," * 100_000 + b"{}]}")


async def test_list_of_provisioners_without_end_is_refused():
    begun = time.process_time()
    with pytest.raises(CaError, match="pages"):
        await stepca.StepCaClient("https://ca", _Pages(), None).provisioners(deadline=1.0)
    assert time.process_time() - begun < 2 * PATIENCE_S


@pytest.mark.parametrize("text", ["1h" * 500_000, "9" * 1_000_000])
def test_duration_of_a_megabyte_is_none_at_once(text):
    begun = time.process_time()
    assert go_seconds(text) is None
    assert time.process_time() - begun < 0.1


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_kept_est_roots_that_others_can_write_are_not_believed(tmp_path, mode):
    root = make_root("Root").der
    anchors.save(tmp_path, anchors.Kept(source="s", roots=(root,), certificates=(root,)))
    assert anchors.load(tmp_path, "s") is not None
    (tmp_path / anchors.FILE_NAME).chmod(mode)
    assert anchors.load(tmp_path, "s") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_kept_est_roots_of_another_user_are_not_believed(tmp_path):
    root = make_root("Root").der
    anchors.save(tmp_path, anchors.Kept(source="s", roots=(root,), certificates=(root,)))
    os.chown(tmp_path / anchors.FILE_NAME, 65534, -1)
    assert anchors.load(tmp_path, "s") is None


# A CA names its resources, and redirects: `\ud800` comes as an escape in its JSON.
@pytest.mark.parametrize(
    "url",
    [
        "http://ca/",
        "https:///x",
        "https://127.0.0.1:99999/",
        "https://127.0.0.1:-1/",
        "https://xn--a/",
        "https://a#\ud800",
        "https://127.0.0.1/\r\nX: y",
        "https://[::1",
        "file:///etc/passwd",
    ],
)
async def test_url_of_the_ca_that_is_none_is_its_fault(url):
    client = CaClient(clock=SystemClock(), roots=(make_root("Root").der,))
    try:
        with pytest.raises(CaError) as told:
            await client.send(CaRequest(url=url), deadline=time.monotonic() + 5)
    finally:
        await client.aclose()
    assert told.value.fault is Fault.MISCONFIGURED
    assert not told.value.sent
