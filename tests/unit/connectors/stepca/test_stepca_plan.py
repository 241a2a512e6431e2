"""
The pure parts of the step-ca enroller: which way to ask, what is written down, what is told.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cftpki_connectors.ca.clocks import skew_notes
from cftpki_connectors.ca.unanswered import MAX_UNANSWERED, Journal
from cftpki_connectors.stepca.client import ErrorAnswerError, Provisioner
from cftpki_connectors.stepca.credentials import Credentials
from cftpki_connectors.stepca.findings import explained, go_seconds
from cftpki_connectors.stepca.options import Renewal, StepCaOptions
from cftpki_connectors.stepca.planner import Way, alternatives, outlook, plan, subject
from cftpki_connectors.stepca.tokens import jwk_signer
from cftpki_ext.identity.enroller_port import Fault, Held
from tests.support import pki
from tests.support.orders import make_order

NOW = pki.NOW
DAY = timedelta(days=1)
ROOT = pki.make_root("Root")
CA = pki.issue(ROOT, "CA", ca=True)
KEY, NEW_KEY = pki.key("ec", 920), pki.key("rsa", 920)
NAMES = ("a.example", "10.1.2.3", "2001:db8::1")


def current(**changes: Any) -> Held:
    fields: dict[str, Any] = {
        "private": KEY,
        "san": ["dns:a.example", "ip:10.1.2.3", "ip:2001:db8::1"],
        "eku": ["serverAuth", "clientAuth"],
        "not_before": NOW - DAY,
        "not_after": NOW + DAY,
    }
    leaf = pki.issue(CA, "a.example", **(fields | changes))
    return Held(chain=(leaf.der, CA.der), key=KEY)


def way(
    held: Held | None, *, renewal: Renewal = Renewal.AUTO, private: Any = KEY, **order: Any
) -> tuple[Way, str]:
    wanted = make_order(*order.pop("names", NAMES), private=private, current=held, **order)
    planned = plan(wanted, roots=(ROOT.der,), renewal=renewal, now=NOW)
    return planned.way, planned.why


def test_plan_by_key_and_configuration() -> None:
    held = current()
    assert Way.RENEW is way(held)[0]
    assert Way.REKEY is way(held, private=NEW_KEY)[0]
    assert Way.RENEW_BY_TOKEN is way(held, renewal=Renewal.TOKEN)[0]
    new_by_token = (Way.SIGN, "there is a new key, and step-ca takes one by TLS only")
    assert new_by_token == way(held, renewal=Renewal.TOKEN, private=NEW_KEY)
    assert (Way.SIGN, "so it is configured") == way(held, renewal=Renewal.SIGN)
    assert (Way.SIGN, "there is no certificate yet") == way(None)
    assert (Way.SIGN, "the certificate in use is revoked") == way(held, revoked=True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"eku": None}, Way.RENEW),
        ({"eku": ["any"]}, Way.RENEW),
        ({"eku": ["serverAuth"]}, Way.SIGN),
        ({"not_before": NOW}, Way.RENEW),
        ({"not_before": NOW + timedelta(seconds=1)}, Way.SIGN),
        ({"not_after": NOW}, Way.SIGN),
        ({"not_after": NOW + timedelta(seconds=1)}, Way.RENEW),
        ({"san": ["dns:a.example", "ip:10.1.2.3"]}, Way.SIGN),
        ({"san": []}, Way.SIGN),
    ],
)
def test_plan_by_what_the_certificate_is(changes: dict[str, Any], expected: Way) -> None:
    assert expected is way(current(**changes))[0]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ({"names": NAMES[:2]}, Way.SIGN),
        ({"common_name": "a.example"}, Way.RENEW),
        ({"common_name": "b.example"}, Way.SIGN),
        ({"lifetime_s": 2 * 86400}, Way.RENEW),
        ({"lifetime_s": 2 * 86400 - 300}, Way.RENEW),
        ({"lifetime_s": 2 * 86400 - 301}, Way.SIGN),
        ({"lifetime_s": 86400}, Way.SIGN),
    ],
)
def test_plan_by_what_is_ordered(order: dict[str, Any], expected: Way) -> None:
    assert expected is way(current(), **order)[0]


def test_plan_for_a_certificate_of_another_ca_signs() -> None:
    other = pki.make_root("Root")  # the same name, another key
    foreign = pki.issue(other, "a.example", private=KEY, san=["dns:a.example"], eku=["clientAuth"])
    mixed = pki.issue(other, "CA", ca=True)
    expected = (Way.SIGN, "the certificate is another CA's")
    for chain in (
        (foreign.der, CA.der),
        (foreign.der,),
        (foreign.der, other.der),
        (current().chain[0],),
        (current().chain[0], mixed.der),
    ):
        assert expected == way(Held(chain=chain, key=KEY))
    with_root = Held(chain=(*current().chain, ROOT.der), key=KEY)
    assert Way.RENEW is way(with_root)[0]


def test_plan_for_a_certificate_that_cannot_be_read_signs() -> None:
    broken = pki.mutate_tbs(current().chain[0], b"a.example", b"\xff.example")
    for der in (b"", b"no certificate", broken):
        assert Way.SIGN is way(Held(chain=(der, CA.der), key=KEY))[0]
        told = outlook((der, CA.der), roots=(ROOT.der,), renewal=Renewal.AUTO, now=NOW)
        assert told.startswith("renewal by a new token of the provisioner: ")


@pytest.mark.parametrize(
    ("changes", "renewal", "told"),
    [
        ({}, Renewal.AUTO, "renewal by TLS with this certificate: it has clientAuth"),
        (
            {},
            Renewal.TOKEN,
            "renewal by a token that shows this certificate (same key), else by one of the provisioner",
        ),
        ({}, Renewal.SIGN, "renewal by a new token of the provisioner: so it is configured"),
        (
            {"eku": ["serverAuth"]},
            Renewal.AUTO,
            (
                "renewal by a new token of the provisioner: the certificate has no clientAuth, "
                "and step-ca renews only those that have"
            ),
        ),
    ],
)
def test_outlook_at_enrolment(changes: dict[str, Any], renewal: Renewal, told: str) -> None:
    assert told == outlook(current(**changes).chain, roots=(ROOT.der,), renewal=renewal, now=NOW)


def test_subject_is_the_common_name_of_the_request_or_the_first_name() -> None:
    assert "b.example" == subject(make_order(*NAMES, common_name="b.example"))
    assert "a.example" == subject(make_order(*NAMES))
    assert "10.1.2.3" == subject(make_order("10.1.2.3"))
    assert NAMES == alternatives(make_order(*NAMES))


def test_journal_of_a_lost_request_remembers_it() -> None:
    journal = Journal.of({})
    journal.begin("sign", token="abc", now=NOW)
    resumed = Journal.of(json.loads(json.dumps(journal.state())))
    assert ["sign at 2026-06-01T12:00:00+00:00, token abc"] == resumed.unanswered
    assert None is resumed.under_way
    resumed.begin("rekey", token=None, now=NOW)
    resumed.settle()
    assert 2 == resumed.requests
    assert 1 == len(Journal.of(resumed.state()).orphans())


def test_journal_without_a_lost_request_has_no_orphans() -> None:
    journal = Journal.of({})
    journal.begin("sign", token="abc", now=NOW)
    journal.settle()
    journal.lose()
    assert () == Journal.of(journal.state()).orphans()


def test_journal_keeps_the_last_few() -> None:
    journal = Journal()
    for number in range(MAX_UNANSWERED + 5):
        journal.begin("sign", token=str(number), now=NOW)
        journal.lose()
    assert MAX_UNANSWERED == len(journal.unanswered)
    assert journal.unanswered[-1].endswith(f"token {MAX_UNANSWERED + 4}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["requests", "under_way", "unanswered", "else"]), JSON))
def test_journal_of_any_state_can_be_taken_up(state: dict[str, Any]) -> None:
    journal = Journal.of(state)
    journal.begin("sign", token=None, now=NOW)
    assert json.loads(json.dumps(journal.state())) == journal.state()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("24h0m0s", 86400), ("1h30m", 5400), ("1.5h", 5400), ("100ms", 0.1), ("5s", 5), ("", None), ("1", None)],
)
def test_go_duration(text: str, expected: float | None) -> None:
    assert expected == go_seconds(text)


@given(st.text(max_size=40))
def test_go_duration_of_any_text_is_a_number_or_none(text: str) -> None:
    assert go_seconds(text) is None or go_seconds(text) >= 0


OPTIONS: dict[str, Any] = {
    "url": "https://ca.example/",
    "fingerprint": "AB:" * 31 + "AB",
    "provisioner": "mft",
    "password_file": Path("pw"),
}


def refusal(status: int, *, behind_s: float = 0, **about: Any) -> str:
    answer = ErrorAnswerError(
        Fault.REFUSED,
        f"HTTP {status}: no",
        status=status,
        sent=False,
        retry_at=None,
        date=NOW + timedelta(seconds=behind_s),
    )
    claims = {"maxTLSCertDuration": "24h0m0s"}
    credentials = Credentials(
        signer=jwk_signer(KEY, provisioner="mft", kid="k"),
        listed=Provisioner(kind="JWK", name="mft", key={}, claims=claims),
        until=about.get("until"),
    )
    order = make_order(*NAMES, lifetime_s=about.get("lifetime_s"))
    told = explained(answer, order, credentials, options=StepCaOptions(**OPTIONS), now=NOW)
    assert (Fault.REFUSED, False) == (told.fault, told.sent)
    return told.detail


def test_refusal_is_explained_by_what_we_see() -> None:
    host = "'ca.example' must be among the CA's dnsNames (option audience names another one)"
    assert "HTTP 403: no" == refusal(403, behind_s=500)
    assert f"HTTP 401: no; {host}" == refusal(401)
    assert f"HTTP 401: no; {host}" == refusal(401, behind_s=3)
    behind = "this host's clock is 4 s behind the CA's, and a token dated before the CA's start is refused: set the clock"
    assert f"HTTP 401: no; {behind}; {host}" == refusal(401, behind_s=4)
    assert f"HTTP 401: no; {host}" == refusal(401, behind_s=-30)
    assert f"HTTP 401: no; this host's clock is 31 s ahead of the CA's: set the clock; {host}" == refusal(
        401, behind_s=-31
    )
    assert "HTTP 403: no" == refusal(403, lifetime_s=86400)
    limit = "86401 s are asked for, the provisioner's limit is 86400 s"
    assert f"HTTP 403: no; {limit}" == refusal(403, lifetime_s=86401)
    ends = "60 s are asked for, the chain in chain_file ends in 59 s"
    assert f"HTTP 403: no; {ends}" == refusal(403, lifetime_s=60, until=NOW + timedelta(seconds=59))


def test_clock_of_the_ca_is_told_when_far_away() -> None:
    assert () == skew_notes(None, NOW) == skew_notes(NOW + timedelta(seconds=30), NOW)
    assert ("this host's clock is 31 s behind the CA's",) == skew_notes(NOW + timedelta(seconds=31), NOW)
    assert ("this host's clock is 3600 s ahead of the CA's",) == skew_notes(NOW - timedelta(hours=1), NOW)


def test_options_are_normalised() -> None:
    options = StepCaOptions(**OPTIONS)
    assert ("https://ca.example", "ab" * 32) == (options.url, options.fingerprint)
    assert Renewal.AUTO is options.renewal


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fingerprint": None}, "fingerprint or root_file is needed"),
        ({"fingerprint": "ab" * 31}, "64 hex digits"),
        ({"url": "http://ca.example"}, "an https URL is needed"),
        ({"url": "https://"}, "an https URL is needed"),
        ({"url": "https://u@ca.example"}, "no user, query or fragment"),
        ({"url": "https://ca.example?x"}, "no user, query or fragment"),
        ({"url": "https://ca.example:99999"}, "ort"),
        ({"url": "https://[::1"}, "IPv6"),
        ({"audience": "ca.example"}, "an https URL is needed"),
        ({"provisioner": ""}, "at least 1 character"),
        ({"password_file": None}, "key_file, or password_file"),
        ({"chain_file": Path("c")}, "chain_file needs its key_file"),
        ({"proxy": "socks5://p"}, "a proxy is http://"),
        ({"proxy": "http://u:p@proxy"}, "belongs into proxy_password_file"),
        ({"proxy": "http://proxy", "proxy_password_file": Path("p")}, "needs a proxy with a user"),
        ({"proxy_password_file": Path("p")}, "needs a proxy with a user"),
        ({"renewal": "never"}, "auto"),
        ({"passwort_file": Path("p")}, "Extra inputs are not permitted"),
    ],
)
def test_options_that_cannot_work_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        StepCaOptions(**{name: value for name, value in (OPTIONS | changes).items() if value is not None})
    assert told in str(caught.value)
