"""
The enroller for EJBCA against a server that answers as its public OpenAPI document says; no real EJBCA is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime

import httpx
import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cftpki_connectors.ca.client import CaAnswer, CaError
from cftpki_connectors.ejbca import answers
from cftpki_connectors.ejbca.enroller import REASONS, EjbcaEnroller
from cftpki_connectors.ejbca.options import EjbcaOptions
from cftpki_connectors.ejbca.recognition import RECOGNITION
from cftpki_ext.bootstrap.finding import usable
from cftpki_ext.identity.enroller_port import Failed, Fault, Issued, Pending
from cftpki_ext.x509.reasons import REASON_CODES, REMOVE_FROM_CRL
from tests.support import pki
from tests.support.ca_ejbca import REVISION, ejbca
from tests.support.ca_servers import write_secret
from tests.support.exploring import Exploring
from tests.support.orders import KilledError, Saves, context, held, in_s, leaf_of, make_order

NAME = "mft.corp.example"
WAIT_S = 20.0
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def ca(tmp_path):
    with ejbca(tmp_path) as running:
        yield running


@pytest.fixture
async def make(tmp_path):
    made = []

    def enroller(options):
        made.append(EjbcaEnroller(EjbcaOptions(**options), context(tmp_path)))
        return made[-1]

    yield enroller
    for one in made:
        await one.aclose()


async def advance(enroller, order=None, saves=None):
    saves = saves or Saves()
    return await enroller.advance(order or make_order(NAME), saves.last, saves, deadline=in_s(WAIT_S))


async def issue(enroller, order=None, saves=None):
    progress = await advance(enroller, order, saves)
    assert isinstance(progress, Issued), progress
    return progress


async def refusal(enroller, order=None, saves=None):
    progress = await advance(enroller, order, saves)
    assert isinstance(progress, Failed), progress
    return progress


async def test_enrol_names_ca_profiles_and_end_entity_and_gives_chain_and_root(ca, make):
    order, saves = make_order(NAME), Saves()
    issued = await issue(make(ca.options()), order, saves)
    assert order.key.public_key() == leaf_of(issued).public_key()
    assert (ca.issuing.der, ca.root.der) == issued.certificates[1:]
    assert (ca.root.der,) == issued.extra
    (method, path, body), *_ = ca.asked
    assert ("POST", "/ejbca/ejbca-rest-api/v1/certificate/pkcs10enroll") == (method, path)
    assert body.pop("certificate_request").startswith("-----BEGIN CERTIFICATE REQUEST-----")
    assert {
        "certificate_authority_name": "Corp CA",
        "certificate_profile_name": "mft",
        "end_entity_profile_name": "mft",
        "username": "mft",
        "password": "enrolment code",
        "include_chain": True,
    } == body
    assert "enrolment code" not in json.dumps(saves.states)


async def test_end_entity_that_is_there_is_asked_for_without_profiles(ca, make):
    changes = {"request": "certificaterequest", "certificate_profile": None, "end_entity_profile": None}
    await issue(make(ca.options(username="mft01", **changes)))
    (_, path, body), *_ = ca.asked
    assert (True, "mft01", False) == (
        path.endswith("/certificate/certificaterequest"),
        body["username"],
        "certificate_profile_name" in body,
    )


async def test_order_that_somebody_has_to_approve_waits_and_is_finalized_once(ca, make):
    ca.approval = True
    enroller, order, saves = make(ca.options()), make_order(NAME), Saves()
    pending = await advance(enroller, order, saves)
    assert isinstance(pending, Pending), pending
    assert "Request ID: 1804289383" in pending.detail
    again = await advance(enroller, order, saves)
    assert isinstance(again, Pending), again
    assert 1 == len(ca.waiting)
    ca.approved |= set(ca.waiting)
    issued = await issue(enroller, order, saves)
    assert order.key.public_key() == leaf_of(issued).public_key()
    assert () == tuple(note for note in issued.notes if "orphan" in note)
    # What came is on the disk: it is not asked for again.
    await issue(enroller, order, saves)
    assert 1 == len(ca.issued)


async def test_order_that_was_rejected_or_whose_answer_was_lost_is_told(ca, make):
    ca.approval = True
    enroller, order, saves = make(ca.options()), make_order(NAME), Saves()
    await advance(enroller, order, saves)
    ca.rejected |= set(ca.waiting)
    failed = await refusal(enroller, order, saves)
    assert (Fault.REFUSED, True) == (failed.fault, "has been rejected" in failed.detail)
    ca.rejected.clear()
    ca.finalized |= set(ca.waiting)
    failed = await refusal(enroller, order, saves)
    assert (Fault.ORDER_LOST, True) == (failed.fault, "revoke it at the CA" in failed.detail)
    ca.waiting.clear()
    assert Fault.ORDER_LOST is (await refusal(enroller, order, saves)).fault


async def test_order_that_is_killed_at_any_step_goes_on_and_tells_of_orphans(ca, make):
    enroller, outcomes = make(ca.options()), []
    for step in range(3):
        saves, before = Saves(killed_at=step), len(ca.issued)
        with contextlib.suppress(KilledError):
            await issue(enroller, saves=saves)
        saves.killed_at = None
        issued = await issue(enroller, saves=saves)
        outcomes.append((len(ca.issued) - before, any("orphan" in note for note in issued.notes)))
    assert [(1, False), (2, True), (1, False)] == outcomes


async def test_revoke_names_issuer_serial_and_reason_as_ejbca_writes_them(ca, make):
    enroller, order = make(ca.options()), make_order(NAME)
    issued = await issue(enroller, order)
    for _ in range(2):  # the second is told 409: it is revoked already
        assert (
            await enroller.revoke(held(issued, order), reason="keyCompromise", deadline=in_s(WAIT_S)) is None
        )
    assert {leaf_of(issued).serial_number: "KEY_COMPROMISE"} == ca.revoked
    unknown = await enroller.revoke(held(issued, order), reason="boredom", deadline=in_s(WAIT_S))
    assert Fault.MISCONFIGURED is unknown.fault
    ca.say("/revoke", 202, {"status_code": 202, "info_message": "Waiting for Approval. Request ID: 5"})
    waits = await enroller.revoke(held(issued, order), reason="superseded", deadline=in_s(WAIT_S))
    assert (Fault.REFUSED, True) == (waits.fault, "somebody has to approve" in waits.detail)
    assert set(REASON_CODES) - {REMOVE_FROM_CRL} == set(REASONS)


@pytest.mark.parametrize(
    ("status", "words", "fault", "hint"),
    [
        (400, "User mft has status GENERATED", Fault.REFUSED, "its status must be NEW"),
        (403, "This REST API is not enabled.", Fault.MISCONFIGURED, "Protocol Configuration"),
        (
            403,
            "Error no client certificate or OAuth token received",
            Fault.MISCONFIGURED,
            "a proxy that ends TLS",
        ),
        (404, "CA does not exist.", Fault.MISCONFIGURED, "as EJBCA writes them"),
        (422, "Illegal validity", Fault.REFUSED, "HTTP 422"),
        (429, "slow down", Fault.RATE_LIMITED, "HTTP 429"),
        (503, "CA is offline", Fault.UNREACHABLE, "HTTP 503"),
    ],
)
async def test_error_is_told_with_what_helps_and_leaves_no_doubt(ca, make, status, words, fault, hint):
    enroller, saves = make(ca.options()), Saves()
    ca.say("pkcs10enroll", status, {"error_code": status, "error_message": words}, Retry_After="60")
    failed = await refusal(enroller, saves=saves)
    assert (fault, True, True) == (failed.fault, words in failed.detail, hint in failed.detail), failed
    ca.hush()
    assert () == tuple(note for note in (await issue(enroller, saves=saves)).notes if "orphan" in note)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {"error_code": 500, "error_message": "General failure."}),
        (502, b"<html>Bad gateway</html>"),
        (201, b""),
        (201, b"garbage"),
        (201, {}),
        (201, {"certificate": "MIIB"}),
        (201, {"certificate": "x" * 70000}),
        (201, {"certificate": "MIIB", "certificate_chain": ["MIIB"] * 100}),
        (202, {"info_message": "somebody has to look"}),
    ],
)
async def test_answer_that_is_none_leaves_a_possible_orphan_that_is_told(ca, make, status, body):
    enroller, saves = make(ca.options()), Saves()
    ca.say("pkcs10enroll", status, body)
    failed = await refusal(enroller, saves=saves)
    assert (Fault.UNREACHABLE, True) == (failed.fault, "may have issued" in failed.detail), failed
    ca.hush()
    notes = (await issue(enroller, saves=saves)).notes
    assert 1 == sum(note.startswith("possible orphan: pkcs10enroll at") for note in notes)


async def test_server_that_is_not_trusted_or_redirects_or_secrets_that_others_read_are_not_used(
    ca, make, tmp_path
):
    other = tmp_path / "other.pem"
    other.write_bytes(pki.make_root("Other").pem)
    assert "is not trusted" in (await refusal(make(ca.options(root_file=other)))).detail
    assert [] == ca.asked
    enroller = make(ca.options())
    ca.say("pkcs10enroll", 307, {}, Location="https://evil.example/")
    assert "not followed" in (await refusal(enroller)).detail
    ca.hush()
    (ca.folder / "code").chmod(0o644)
    assert "chmod 0600" in (await refusal(enroller)).detail
    write_secret(ca.folder / "code", b"wrong")
    assert "enrolment code" in (await refusal(enroller)).detail


async def test_check_tells_credentials_status_and_ca_and_enrols_nothing(ca, make):
    found = await make(ca.options()).check(deadline=in_s(WAIT_S))
    assert [("credentials", True), ("status", True), ("ca", True)] == [(one.what, one.good) for one in found]
    assert (REVISION in found[1].detail, "CN=EJBCA Issuing CA") == (True, found[2].detail)
    found = await make(ca.options(ca="Other CA")).check(deadline=in_s(WAIT_S))
    assert (False, "we see no CA 'Other CA'; there are: Corp CA") == (found[-1].good, found[-1].detail)
    (ca.folder / "ra.key").chmod(0o640)
    assert [("credentials", False)] == [
        (one.what, one.good)
        for one in await make(ca.options() | {"key_file": ca.folder / "code"}).check(deadline=in_s(WAIT_S))
    ]
    assert [] == ca.issued


def test_options_that_cannot_be_meant_are_refused(tmp_path):
    table = {
        "url": "https://ca",
        "root_file": "r",
        "chain_file": "c",
        "key_file": "k",
        "ca": "A",
        "password_file": "p",
    }
    profiles = {"certificate_profile": "a", "end_entity_profile": "b"}
    assert "https://ca/ejbca/ejbca-rest-api" == EjbcaOptions(**table, **profiles).url
    assert "https://ca/pki/rest" == EjbcaOptions(**(table | profiles | {"url": "https://ca/pki/rest/"})).url
    for changes, words in (
        ({}, "needs certificate_profile"),
        ({"request": "certificaterequest", **profiles}, "name none"),
        ({"system_roots": True, **profiles}, "exactly one of root_file"),
        ({"url": "http://ca", **profiles}, "https"),
    ):
        with pytest.raises(ValidationError, match=words):
            EjbcaOptions(**(table | changes))


def test_server_is_recognised_by_its_status_or_by_what_it_says_to_strangers():
    path = "/ejbca/ejbca-rest-api/v1/certificate/status"
    known = json.dumps({"status": "OK", "version": "1.0", "revision": REVISION}).encode()
    stranger = json.dumps({"error_code": 403, "error_message": "Error no client certificate"}).encode()
    for status, body, words in ((200, known, REVISION), (403, stranger, "wants to know who asks")):
        explorer = Exploring("https://ca.corp.example", {path: (status, body)})
        (one,) = asyncio.run(RECOGNITION.look(explorer))
        assert words in one.detail
        assert usable(one)
        options = EjbcaOptions(**{key.name: key.value for key in one.keys})
        assert "https://ca.corp.example/ejbca/ejbca-rest-api" == options.url
    for status, body in ((200, b"{}"), (200, b"[]"), (404, stranger), (403, b"<html>"), (403, b"{}")):
        assert () == asyncio.run(RECOGNITION.look(Exploring("https://ca", {path: (status, body)})))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "certificate",
                    "certificate_chain",
                    "info_message",
                    "error_message",
                    "certificate_authorities",
                    "name",
                    "subject_dn",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(
    _VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60),
    st.sampled_from([201, 202, 400, 500]),
)
def test_no_answer_raises_anything_but_what_is_promised(body, status):
    answer = CaAnswer(status=status, headers=httpx.Headers(), body=body, url="https://ca/")
    assert answers.error_of(answer, NOW).detail.isprintable()
    for read in (lambda: answers.enrolled(answer, NOW), lambda: answers.cas_of(answer)):
        with contextlib.suppress(CaError):
            read()


def test_issuers_name_is_the_one_that_ejbca_writes_in_whatever_order():
    from cftpki_connectors.ejbca.enroller import _as_written  # noqa: PLC0415  # white box

    name = x509.Name.from_rfc4514_string("CN=Corp CA,O=Corp,C=FR")
    assert "C=FR, O=Corp, CN=Corp CA" == _as_written(name, ("CN=Other", "C=FR, O=Corp, CN=Corp CA"))
    assert "CN=Corp CA,O=Corp,C=FR" == _as_written(name, ("CN=Other",))
