"""
What a Vault may be told to say in the configuration, and what it may answer: nothing is believed that is not there.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cftpki_connectors.ca.client import CaAnswer, CaError
from cftpki_connectors.vault import answers
from cftpki_connectors.vault.options import Keys, VaultOptions
from cftpki_connectors.vault.request import allowed, body_of, explained, path_of
from cftpki_ext.identity.enroller_port import Fault
from tests.support.orders import make_order
from tests.support.pki import issue, make_root, pem

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ROOT = make_root("Vault Root")
LEAF = issue(ROOT, "mft")
TABLE = {
    "url": "https://vault.corp.example:8200",
    "root_file": "r",
    "role": "mft",
    "token": {"token_file": "t"},
}


def answer(value: object, status: int = 200, **headers: str) -> CaAnswer:
    fields = httpx.Headers({name.replace("_", "-"): one for name, one in headers.items()})
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return CaAnswer(status=status, headers=fields, body=body, url="https://vault/")


def options(**changes: object) -> VaultOptions:
    table = TABLE | changes
    return VaultOptions(**{name: value for name, value in table.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "http://vault.corp.example"}, "https"),
        ({"url": "https://vault.corp.example/v1/"}, "without /v1"),
        ({"url": "https://vault.corp.example/?a=b"}, "no user, query or fragment"),
        ({"root_file": None}, "exactly one of root_file and system_roots"),
        ({"system_roots": True}, "exactly one of root_file and system_roots"),
        ({"token": None}, "exactly one of token, approle, certificate and kubernetes"),
        ({"kubernetes": {"role": "mft"}}, "exactly one of token, approle, certificate and kubernetes"),
        ({"mount": "../sys"}, "does not go up"),
        ({"mount": "pki?x"}, "names of letters"),
        *(({"role": role}, "a name has no /") for role in ("a/b", "mft/", "/mft", "/")),
        ({"issuer": "a b"}, "names of letters"),
        ({"namespace": "a\r\nX-Vault-Token: b"}, "names of letters"),
        ({"proxy_password_file": "p"}, "needs a proxy with a user"),
        ({"token": None, "approle": {"secret_id_file": "s"}}, "exactly one of role_id and role_id_file"),
        ({"token": None, "approle": {"role_id": "r", "content": "wrapped"}}, "needs secret_id_file"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        options(**changes)


def test_paths_are_those_of_the_role_its_issuer_and_who_makes_the_key():
    assert "pki/sign/mft" == path_of(options())
    assert "a/b/issuer/c/issue/mft" == path_of(options(mount="/a/b/", issuer="c", keys="server"))
    assert (
        Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
        == options(token=None, kubernetes={"role": "mft"}).kubernetes.jwt_file
    )


def test_body_has_the_names_for_roles_of_either_kind_and_the_lifetime():
    body = dict(body_of(make_order("a.example", "b.example", "10.0.0.1", lifetime_s=60), Keys.OURS))
    assert str(body.pop("csr")).startswith("-----BEGIN CERTIFICATE REQUEST-----")
    assert {
        "alt_names": "a.example,b.example",
        "ip_sans": "10.0.0.1",
        "common_name": "a.example",
        "exclude_cn_from_sans": False,
        "remove_roots_from_chain": True,
        "format": "pem",
        "ttl": "60s",
    } == body
    only = body_of(make_order("10.0.0.1", common_name="mft"), Keys.SERVER)
    assert ("mft", True, False) == (only["common_name"], only["exclude_cn_from_sans"], "csr" in only)
    assert "common_name" not in body_of(make_order(f"{'a' * 63}.{'b' * 10}"), Keys.OURS)


def test_refusals_and_roles_are_told_in_words():
    assert "x not allowed by this role; the role's allowed_domains" in explained("x not allowed by this role")
    assert "something else" == explained("something else")
    role = {
        "allowed_domains": ["a", "b"],
        "allow_subdomains": True,
        "client_flag": False,
        "max_ttl": 60,
        "ttl": 0,
    }
    assert "allowed_domains a b; allow_subdomains true; max_ttl 60" == allowed(role)
    assert "nothing is said of what it allows" == allowed({})


def test_granted_is_the_leaf_with_the_chain_or_the_issuer_and_warnings_that_matter():
    data = {"certificate": pem(LEAF.der).decode(), "issuing_ca": pem(ROOT.der).decode()}
    warnings = ["the alt_names field was provided but the role is set with x", "TTL is cut\x1b"]
    got = answers.granted(answer({"data": data, "warnings": warnings}))
    assert ((LEAF.der, ROOT.der), ("TTL is cut\\x1b",), None) == (got.chain, got.warnings, got.key)
    data |= {"ca_chain": [pem(ROOT.der).decode()], "private_key": LEAF.key_pem.decode()}
    got = answers.granted(answer({"data": data}))
    assert (LEAF.der, ROOT.der) == got.chain
    assert LEAF.key.public_key() == got.key.public_key()
    assert "PRIVATE" not in repr(got)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"certificate": None},
        {"certificate": "x"},
        {"certificate": pem(ROOT.der).decode() * 65},
        {"certificate": pem(ROOT.der).decode(), "private_key": "x"},
        {"certificate": pem(ROOT.der).decode(), "private_key": "-----BEGIN PRIVATE KEY-----" + "A" * 20000},
    ],
)
def test_granted_without_a_certificate_or_with_a_broken_key_is_an_error_that_leaves_doubt(data):
    with pytest.raises(CaError) as caught:
        answers.granted(answer({"data": data}))
    assert caught.value.sent


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (400, Fault.REFUSED),
        (403, Fault.REFUSED),
        (404, Fault.MISCONFIGURED),
        (405, Fault.MISCONFIGURED),
        (412, Fault.UNREACHABLE),
        (429, Fault.RATE_LIMITED),
        (472, Fault.UNREACHABLE),
        (473, Fault.UNREACHABLE),
        (500, Fault.UNREACHABLE),
        (501, Fault.UNREACHABLE),
        (502, Fault.UNREACHABLE),
        (503, Fault.UNREACHABLE),
    ],
)
def test_status_means_a_fault_and_retry_after_is_heard(status, fault):
    got, retry_at = answers.fault_of(answer({}, status, retry_after="60"), NOW)
    waits = fault in {Fault.UNREACHABLE, Fault.RATE_LIMITED}
    assert (fault, NOW + timedelta(seconds=60) if waits else None) == (got, retry_at)


def test_login_has_a_token_that_a_header_can_hold_and_a_bounded_lease():
    auth = {"client_token": "hvs.a", "lease_duration": 60, "renewable": True}
    assert (60.0, True) == (
        answers.login_of({"auth": auth}).lease_s,
        answers.login_of({"auth": auth}).renewable,
    )
    assert "hvs.a" not in repr(answers.login_of({"auth": auth}))
    for lease in (None, "60", True, -1, float("nan")):
        assert 0.0 == answers.login_of({"auth": auth | {"lease_duration": lease}}).lease_s
    assert 100 * 365 * 86400 == answers.login_of({"auth": auth | {"lease_duration": 1e300}}).lease_s
    assert 100 * 365 * 86400 == answers.login_of({"auth": auth | {"lease_duration": 10**400}}).lease_s
    assert 0.0 == answers.login_of({"auth": auth | {"lease_duration": -(10**400)}}).lease_s
    for token in (None, "", "a b", "a\r\nb", "ä", "a" * 20000, 5):
        with pytest.raises(CaError, match="no token"):
            answers.login_of({"auth": {"client_token": token}})


def test_words_are_the_servers_own_without_the_numbering_and_of_nobody_else():
    body = {"errors": ["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n", "b\x1b"]}
    assert ("permission denied, invalid token", "b\\x1b") == answers.words_of(answer(body, 403))
    assert () == answers.words_of(answer({"errors": []}, 404))
    assert () == answers.words_of(answer(b"", 404))
    for other in (b"<html>", b"[]", b"{" * 5000):
        (told,) = answers.words_of(answer(other, 502))
        assert "none of Vault's" in told


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "data",
                    "auth",
                    "errors",
                    "warnings",
                    "certificate",
                    "ca_chain",
                    "client_token",
                    "ttl",
                    "lease_duration",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@settings(deadline=None, max_examples=150)
@given(_VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
def test_no_answer_raises_anything_but_what_is_promised(body):
    got = answer(body)
    assert all(text.isprintable() for text in answers.words_of(got))
    for read in (answers.granted, lambda one: answers.login_of(answers.fields_of(one))):
        try:
            read(got)
        except CaError:
            continue
    try:
        allowed(answers.data_of(answers.fields_of(got)))
    except CaError:
        return
