"""
What comes from an ACME server: directory, order, authorization, problems, renewal information, chains.
"""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from cftpki_connectors.acme.ari import certificate_id, parse_renewal_info
from cftpki_connectors.acme.chains import parse_chain, preferred
from cftpki_connectors.acme.problems import problem_error
from cftpki_connectors.acme.resources import (
    Identifier,
    Status,
    decode_object,
    links,
    parse_authorization,
    parse_challenge,
    parse_directory,
    parse_order,
    parse_order_list,
)
from cftpki_connectors.ca.values import CaAnswer, CaError
from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.enroller_port import Fault
from tests.support import pki

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
JSON = "application/problem+json; charset=utf-8"


def answer(status: int, body: object, **headers: str) -> CaAnswer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"content-type": JSON} | {name.replace("_", "-"): value for name, value in headers.items()}
    return CaAnswer(status=status, headers=httpx.Headers(fields), body=raw, url="https://ca.example/")


def problem(kind: str, **more: object) -> dict[str, object]:
    return {"type": f"urn:ietf:params:acme:error:{kind}", "detail": "because"} | more


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("accountDoesNotExist", Fault.MISCONFIGURED),
        ("alreadyReplaced", Fault.REFUSED),
        ("badCSR", Fault.REFUSED),
        ("badNonce", Fault.UNREACHABLE),
        ("badPublicKey", Fault.MISCONFIGURED),
        ("badSignatureAlgorithm", Fault.MISCONFIGURED),
        ("caa", Fault.REFUSED),
        ("connection", Fault.REFUSED),
        ("dns", Fault.REFUSED),
        ("externalAccountRequired", Fault.MISCONFIGURED),
        ("invalidContact", Fault.MISCONFIGURED),
        ("invalidProfile", Fault.MISCONFIGURED),
        ("malformed", Fault.REFUSED),
        ("orderNotReady", Fault.REFUSED),
        ("rejectedIdentifier", Fault.REFUSED),
        ("serverInternal", Fault.UNREACHABLE),
        ("somethingNew", Fault.REFUSED),
        ("unauthorized", Fault.MISCONFIGURED),
        ("userActionRequired", Fault.MISCONFIGURED),
    ],
)
def test_problem_type_decides_whatever_the_status(kind, fault):
    for status in (400, 403, 500):
        error = problem_error(answer(status, problem(kind)), NOW)
        assert (fault, kind, None) == (error.fault, error.problem.kind, error.retry_at)
        assert f"{kind}: because" == error.detail


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        ("120", NOW + timedelta(minutes=2)),
        ("Sat, 21 Nov 2026 14:00:00 GMT", NOW + timedelta(hours=2)),
        ("nonsense", NOW + timedelta(hours=1)),
        ("", NOW + timedelta(hours=1)),
    ],
)
def test_rate_limit_says_when_in_both_forms_or_an_hour(retry_after, expected):
    error = problem_error(answer(429, problem("rateLimited"), retry_after=retry_after), NOW)
    assert (Fault.RATE_LIMITED, expected) == (error.fault, error.retry_at)


def test_problem_with_subproblems_is_one_bounded_line_without_control_characters():
    sub = [
        problem("caa", detail="no\x1b[31m\n" * 100, identifier={"value": f"n{i}.example"}) for i in range(9)
    ]
    detail = problem_error(answer(403, problem("compound", subproblems=sub)), NOW).detail
    assert detail.isprintable()
    assert len(detail) <= 201
    assert "n0.example" in detail


def test_problem_that_asks_for_action_tells_where():
    error = problem_error(
        answer(403, problem("userActionRequired", instance="https://ca.example/terms")), NOW
    )
    assert "https://ca.example/terms" in error.detail


@pytest.mark.parametrize(
    ("status", "content_type", "fault", "expected"),
    [
        (502, "text/html", Fault.UNREACHABLE, "HTML"),
        (404, "text/html", Fault.REFUSED, "HTTP 404"),
        (302, "text/html", Fault.MISCONFIGURED, "HTTP 302"),
        (429, "text/plain", Fault.RATE_LIMITED, "HTTP 429"),
        (407, "text/html", Fault.MISCONFIGURED, "HTTP 407"),
        (400, JSON, Fault.REFUSED, "HTTP 400"),
    ],
)
def test_error_without_problem_document_is_told_by_its_status(status, content_type, fault, expected):
    error = problem_error(answer(status, b"<html>" * 50, content_type=content_type), NOW)
    assert (fault, "") == (error.fault, error.problem.kind)
    assert expected in error.detail


# -- resources -----------------------------------------------------------------------------------------------

DIRECTORY = {
    "newNonce": "https://ca.example/a",
    "newAccount": "https://ca.example/b",
    "newOrder": "https://ca.example/c",
    "revokeCert": "https://ca.example/d",
}
ORDER = {
    "status": "pending",
    "identifiers": [{"type": "ip", "value": "2001:DB8::0:1"}, {"type": "dns", "value": "A.example"}],
    "authorizations": ["https://ca.example/1"],
    "finalize": "https://ca.example/f",
}


def test_directory_without_meta_has_no_terms_profiles_or_renewal_information():
    directory = parse_directory(DIRECTORY)
    assert (None, None, None, False, frozenset()) == (
        directory.terms,
        directory.key_change,
        directory.renewal_info,
        directory.external_account,
        directory.profiles,
    )


@pytest.mark.parametrize(
    "broken", [{"newNonce": None}, {"newOrder": "http://ca.example/"}, {"newAccount": 7}]
)
def test_directory_that_lacks_a_resource_is_misconfigured(broken):
    with pytest.raises(CaError) as raised:
        parse_directory(DIRECTORY | broken)
    assert Fault.MISCONFIGURED == raised.value.fault


def test_order_has_its_names_as_a_set_in_canonical_form():
    expected = {Identifier("dns", "a.example"), Identifier("ip", "2001:db8::1")}
    assert expected == parse_order(ORDER).identifiers


@pytest.mark.parametrize(
    "broken",
    [
        {"identifiers": "a"},
        {"identifiers": [{"type": "ip", "value": "x"}]},
        {"authorizations": ["ftp://x"]},
        {"authorizations": ["https://ca.example/1"] * 301},
        {"finalize": ""},
        {"certificate": "file:///etc/passwd"},
    ],
)
def test_order_that_is_none_is_not_read(broken):
    with pytest.raises(CaError):
        parse_order(ORDER | broken)


def test_order_with_a_status_of_tomorrow_is_unknown():
    assert Status.UNKNOWN is parse_order(ORDER | {"status": "thinking"}).status


@pytest.mark.parametrize("token", ["", "../../etc/passwd", "a/b", "a b", "x" * 600, None, "é"])
def test_challenge_with_a_token_that_is_no_base64url_is_left_out(token):
    value = {"type": "http-01", "url": "https://ca.example/9", "token": token, "status": "pending"}
    assert parse_challenge(value) is None
    assert parse_challenge(value | {"token": "abc-_9"}) is not None


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from([*DIRECTORY, *ORDER, "meta", "challenges", "identifier", "error", "expires"]), values
    )
)
def test_objects_of_any_shape_are_read_or_refused_and_nothing_else(value):
    for parse in (parse_directory, parse_order, parse_authorization):
        with contextlib.suppress(CaError):
            assert parse(value) is not None


@given(st.binary(max_size=200))
def test_bodies_of_any_bytes_are_read_or_refused_and_nothing_else(body):
    parse_order_list(body)
    with contextlib.suppress(CaError):
        assert isinstance(decode_object(body, "thing"), dict)


@pytest.mark.parametrize("body", [b'{"orders": ["https://a/1", 7]}', b'["https://a/1"]'])
def test_order_list_is_read_with_and_without_its_object(body):
    assert ("https://a/1",) == parse_order_list(body)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (['<https://a/1>;rel="alternate"', "<https://a/2>; rel=alternate"], ("https://a/1", "https://a/2")),
        (['<https://a/1>;rel="index", <https://a/2>;title=x;rel="alternate"'], ("https://a/2",)),
        (['<https://a/1>;rel="alternates"'], ()),
        ([], ()),
        (["<<<>>>;;;rel=alternate"], ()),
    ],
)
def test_links_of_one_relation_are_found_in_several_fields(values, expected):
    assert expected == links(values, "alternate")


# -- renewal information -------------------------------------------------------------------------------------


def test_certificate_id_is_that_of_rfc_9773():
    key_id = bytes.fromhex("69885b6b87464041e1b37b847ba0ae2cde01c8d4")
    value = x509.AuthorityKeyIdentifier(key_id, None, None)
    certificate = SimpleNamespace(
        serial_number=0x87654321,
        extensions=SimpleNamespace(get_extension_for_class=lambda _: SimpleNamespace(value=value)),
    )
    assert "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE" == certificate_id(certificate)
    certificate.serial_number = 0x7F
    assert certificate_id(certificate).endswith(".fw")


def test_certificate_without_key_identifier_has_no_id():
    with pytest.raises(InputError):
        certificate_id(pki.issue(pki.make_root(), "leaf", key_ids=False).certificate)


WINDOW = {"start": "2026-12-01T00:00:00Z", "end": "2026-12-02T00:00:00+01:00"}


@pytest.mark.parametrize(
    ("retry_at", "expected"),
    [
        (None, timedelta(hours=6)),
        (NOW, timedelta(minutes=1)),
        (NOW + timedelta(days=30), timedelta(days=1)),
        (NOW + timedelta(hours=3), timedelta(hours=3)),
    ],
)
def test_renewal_information_is_asked_again_within_bounds(retry_at, expected):
    hint = parse_renewal_info({"suggestedWindow": WINDOW}, retry_at=retry_at, now=NOW)
    assert (NOW + expected, None) == (hint.ask_again_at, hint.explanation)


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"suggestedWindow": {}},
        {"suggestedWindow": {"start": WINDOW["end"], "end": WINDOW["start"]}},
        {"suggestedWindow": WINDOW | {"start": "2026-12-01T00:00:00"}},
        {"suggestedWindow": WINDOW | {"end": 7}},
    ],
)
def test_renewal_information_without_a_window_is_none(value):
    assert parse_renewal_info(value, retry_at=None, now=NOW) is None


# -- chains --------------------------------------------------------------------------------------------------


def test_chain_is_preferred_by_root_by_issuer_or_not_at_all():
    one, two = pki.make_root("Root One"), pki.make_root("Root Two")
    chains = [(pki.issue(root, "leaf").certificate,) for root in (one, two)]
    assert 1 == preferred(chains, root=two.certificate, issuer=None)
    assert 1 == preferred(chains, root=None, issuer="Root Two")
    namesake = pki.make_root("Root Two", private=pki.key("ec", 77))
    assert preferred(chains, root=namesake.certificate, issuer=None) is None
    assert preferred(chains, root=None, issuer="Root") is None
    assert preferred(chains, root=None, issuer=None) is None


@pytest.mark.parametrize("pem", [b"", b"nothing", pki.pem(b"\x30\x00"), pki.make_root().pem * 17])
def test_chain_that_is_none_is_not_read(pem):
    with pytest.raises(CaError):
        parse_chain(pem)
