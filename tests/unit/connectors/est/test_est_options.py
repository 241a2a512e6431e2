"""
What the configuration of an EST server may say, and what is kept about an order.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cftpki_connectors.est import EstOptions
from cftpki_connectors.est.request import Operation
from cftpki_connectors.est.state import Attempt, resume
from cftpki_ext.identity.enroller_port import MAX_STATE_BYTES

URL = {"url": "https://est.corp.example:8443", "system_roots": True}


@pytest.mark.parametrize(
    "url",
    [
        "https://est.corp.example:8443",
        "https://est.corp.example:8443/",
        "https://est.corp.example:8443/.well-known/est",
        "https://est.corp.example:8443/.well-known/est/",
    ],
)
def test_url_is_taken_with_and_without_its_path(url):
    options = EstOptions(url=url, system_roots=True)

    assert "https://est.corp.example:8443/.well-known/est/" == options.base


def test_label_is_a_segment_before_the_operation():
    assert EstOptions(label="mft-1", **URL).base.endswith("/.well-known/est/mft-1/")


def test_fingerprint_is_taken_in_every_spelling():
    assert "ab" * 32 == EstOptions(url=URL["url"], fingerprint=":".join(["AB"] * 32)).fingerprint


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"url": "http://est.corp.example"}, "https"),
        ({"url": "https://est.corp.example/other"}, "label"),
        ({"url": "https://user@est.corp.example"}, "no user"),
        ({"url": "https://est.corp.example:99999"}, "ort"),
        ({"url": "est.corp.example"}, "https"),
        ({"label": "a/b"}, "segment"),
        ({"label": ".."}, "segment"),
        ({"label": "cacerts"}, "segment"),
        ({"system_roots": False}, "nothing says whom to trust"),
        ({"implicit_roots": "a.pem"}, "exclude each other"),
        ({"fingerprint": "00" * 31}, "64 hex digits"),
        ({"fingerprint": "00" * 32, "explicit_roots": "a.pem"}, "exclude each other"),
        (
            {"system_roots": False, "fingerprint": "00" * 32, "server_trust": "implicit"},
            "needs implicit_roots",
        ),
        ({"username": "a"}, "belong together"),
        ({"password_file": "a"}, "belong together"),
        ({"username": "a:b", "password_file": "a"}, "colon"),
        ({"identity_key_file": "a"}, "belong together"),
        ({"identity_password_file": "a"}, "needs identity_key_file"),
        ({"retry_s": 1}, "60"),
        ({"proxy": "http://user:word@proxy:3128"}, "without a password"),
        ({"passwort": "a"}, "xtra"),
    ],
)
def test_configuration_that_cannot_work_is_refused(changes, says):
    with pytest.raises(ValidationError, match=says):
        EstOptions(**(URL | changes))


def test_options_do_not_change():
    with pytest.raises(ValidationError):
        EstOptions(**URL).label = "other"


STATES = st.builds(
    Attempt,
    csr=st.just("b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"),
    operation=st.sampled_from([None, *Operation]),
    answered=st.integers(0, 9),
    unanswered=st.integers(0, 9),
    wishes_known=st.booleans(),
    channel_binding=st.booleans(),
    notes=st.lists(st.text(max_size=20), max_size=20).map(tuple),
    issued=st.lists(st.binary(max_size=50), max_size=5).map(tuple),
)


@given(STATES)
def test_attempt_survives_its_journal(attempt):
    text = json.dumps(attempt.document())

    assert attempt == resume(json.loads(text), b"foo\n")
    assert len(text) < MAX_STATE_BYTES


def test_answer_too_long_for_the_journal_is_left_out():
    attempt = Attempt(csr="x", issued=(b"\x00" * 40_000,), notes=("ü" * 300,) * 64)

    document = attempt.document()

    assert [] == document["issued"]
    assert len(json.dumps(document)) < MAX_STATE_BYTES


@pytest.mark.parametrize(
    "changes",
    [
        {"csr": "other"},
        {"operation": "fullcmc"},
        {"answered": -1},
        {"answered": "1"},
        {"unanswered": None},
        {"notes": "text"},
        {"notes": [1]},
        {"issued": ["*"]},
        {"issued": ["AA=="] * 65},
    ],
)
def test_state_of_something_else_begins_anew(changes):
    digest = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"
    attempt = Attempt(csr=digest, answered=3, operation=Operation.ENROLL)

    assert Attempt(csr=digest) == resume({**attempt.document(), **changes}, b"foo\n")
    assert Attempt(csr=digest) == resume({}, b"foo\n")
