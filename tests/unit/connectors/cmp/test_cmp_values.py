"""
What the configuration of a CMP server may say, what a status means, and what is kept about an order.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cftpki_connectors.cmp import CmpOptions
from cftpki_connectors.cmp.state import Attempt, By, Phase, resume
from cftpki_connectors.cmp.status import FAILURES, fault_of, granted, revoked, words
from cftpki_connectors.cmp.values import Kind, Outcome, Status
from cftpki_ext.identity.enroller_port import MAX_STATE_BYTES, Fault

ROOTS = {"roots": Path("roots.pem"), "secret_file": Path("secret")}
CSR = b"a request"
DIGEST = hashlib.sha256(CSR).hexdigest()


@pytest.mark.parametrize(
    ("url", "more", "target"),
    [
        ("http://ca.example", {}, "http://ca.example/.well-known/cmp/initialization"),
        (
            "https://ca.example:8443/.well-known/cmp",
            {},
            "https://ca.example:8443/.well-known/cmp/initialization",
        ),
        ("http://ca.example", {"label": "mft"}, "http://ca.example/.well-known/cmp/p/mft/initialization"),
        (
            "http://ca.example",
            {"label": "mft", "operations": False},
            "http://ca.example/.well-known/cmp/p/mft",
        ),
        ("http://ca.example/pkix/", {}, "http://ca.example/pkix/"),
        ("http://ca.example/", {}, "http://ca.example/"),
    ],
)
def test_target_is_the_well_known_path_or_the_one_given(url, more, target):
    assert target == CmpOptions(url=url, **more, **ROOTS).target("initialization")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "ftp://ca.example"}, "an http or https URL"),
        ({"url": "http://ca.example/?a=b"}, "no user, query or fragment"),
        ({"url": "http://me@ca.example/"}, "no user, query or fragment"),
        ({"url": "http://ca.example/.well-known/cmp/p/mft"}, "belongs into `label`"),
        ({"url": "http://ca.example/a b"}, "characters that a URL does not have"),
        ({"url": "http://ca.example/pkix/", "label": "mft"}, "another path"),
        ({"label": "a/b"}, "one path segment"),
        ({"recipient": "not a name"}, "RFC 4514"),
        ({"secret_file": None, "reference": "mft01"}, "reference needs secret_file"),
        ({"identity_key_file": "k"}, "belong together"),
        ({"identity_key_file": "k", "identity_chain_file": "c"}, "exclude each other"),
        ({"secret_file": None, "identity_password_file": "p"}, "needs identity_key_file"),
        ({"tls_roots": "r"}, "needs an https URL"),
        ({"proxy": "http://p:1", "proxy_password_file": "f"}, "needs a proxy with a user"),
        ({"proxy": "http://u:secret@p:1"}, "belongs into proxy_password_file"),
        ({"mac": "md5"}, "pbm"),
        ({"secret": "shown"}, "Extra inputs"),
    ],
)
def test_options_that_contradict_each_other_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        CmpOptions(**({"url": "http://ca.example"} | ROOTS | changes))


def said(outcome=Outcome.REJECTION, *bits, texts=()):
    return Status(outcome=outcome, failures=frozenset(bits), texts=texts)


@pytest.mark.parametrize(
    ("bits", "fault"),
    [
        ((), Fault.REFUSED),
        ((19,), Fault.REFUSED),
        ((23,), Fault.MISCONFIGURED),
        ((23, 24), Fault.MISCONFIGURED),
        ((24,), Fault.UNREACHABLE),
        ((24, 25), Fault.UNREACHABLE),
        ((2, 24), Fault.REFUSED),
        ((21,), Fault.UNREACHABLE),
        ((2,), Fault.REFUSED),
    ],
)
def test_failure_bits_mean_faults(bits, fault):
    assert fault is fault_of(said(Outcome.REJECTION, *bits))


@pytest.mark.parametrize(
    ("bits", "fault"), [((2,), Fault.ORDER_LOST), ((13,), Fault.ORDER_LOST), ((24,), Fault.UNREACHABLE)]
)
def test_transaction_that_the_server_does_not_know_is_lost_where_one_is_under_way(bits, fault):
    assert fault is fault_of(said(Outcome.REJECTION, *bits), under_way=True)


def test_every_failure_has_its_name():
    assert (27, "badAlg", "duplicateCertReq") == (len(FAILURES), FAILURES[0], FAILURES[26])
    assert "rejection (badAlg, bit 99): no" == words(said(Outcome.REJECTION, 0, 99, texts=("no",)))
    assert words(said(Outcome.REJECTION, 23)).endswith("may this name have certificates at the CA?")


@pytest.mark.parametrize("outcome", list(Outcome))
def test_outcomes_that_grant_and_that_revoke(outcome):
    assert (outcome <= 1) is granted(said(outcome))
    assert (outcome in {0, 1, 4, 5}) is revoked(said(outcome))


def test_certificate_that_was_revoked_before_is_revoked():
    assert revoked(said(Outcome.REJECTION, 10))


def attempt(**changes):
    fields = {
        "csr": DIGEST,
        "phase": Phase.WAITING,
        "kind": Kind.KUR,
        "by": By.CURRENT,
        "transaction": b"t" * 16,
        "answered": b"n" * 16,
        "request": -1,
        "unanswered": 2,
        "doubts": 1,
        "notes": ("one", "two"),
    }
    return Attempt(**(fields | changes))


@pytest.mark.parametrize(
    "kept",
    [
        attempt(),
        attempt(phase=Phase.CONFIRMING, issued=(b"leaf", b"above")),
        attempt(phase=Phase.DONE, issued=(b"leaf",)),
        attempt(phase=Phase.ASKED),
    ],
)
def test_attempt_comes_back_as_it_was_kept(kept):
    assert kept == resume(json.loads(json.dumps(kept.document())), CSR)


def test_attempt_of_another_request_is_a_new_one():
    assert Attempt(csr=hashlib.sha256(b"another").hexdigest()) == resume(attempt().document(), b"another")


@pytest.mark.parametrize(
    "change",
    [
        {"phase": "somewhere"},
        {"phase": "done"},
        {"phase": "confirming"},
        {"transaction": ""},
        {"transaction": "zz"},
        {"transaction": "00" * 100},
        {"request": "1"},
        {"unanswered": -7},
        {"issued": ["?"]},
        {"notes": "none"},
        {"kind": "xyz"},
    ],
)
def test_attempt_that_cannot_be_read_is_a_new_one(change):
    assert Attempt(csr=DIGEST) == resume(attempt().document() | change, CSR)


@given(st.lists(st.binary(max_size=20_000), max_size=8))
def test_document_fits_into_the_journal(issued):
    kept = attempt(phase=Phase.DONE, issued=tuple(issued), notes=("x" * 500,) * 30).document()
    assert len(json.dumps(kept)) <= MAX_STATE_BYTES
