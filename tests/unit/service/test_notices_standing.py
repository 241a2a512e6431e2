"""
What holds: from the service's state, from its settings, from its events.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.notify import Condition, NoticeKind
from cftpki_ext.core.policy import Action, PartnerException, Policy, Treatment
from cftpki_ext.core.settings import Settings, TrustSet
from cftpki_ext.service.notices.heard import MOST, READERS, Heard
from cftpki_ext.service.notices.standing import standing

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SINCE = "2026-06-01T11:00:00+00:00"
WELL = {
    "certificates": {"mft": {"alarm": None, "trouble": None}},
    "signers": {"mft": {"error": None}},
    "renewals": {"running": True, "fault": None},
    "sources": {"locations": [{"kind": "ocsp", "trust": "p", "location": "http://a/", "up": True}]},
    "refresh": {"troubles": []},
    "evidence": {"warning": None},
    "reloads": {"last_error": None},
}


def holds(**changed):
    return [(one.kind, one.about) for one in standing(WELL | changed, Settings(), now=NOW)]


def test_service_without_trouble_has_nothing_to_tell():
    assert [] == holds()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"certificates": {"mft": {"alarm": "ended", "trouble": "x"}}}, [(NoticeKind.IDENTITY, "mft ended")]),
        ({"signers": {"mft": {"error": "no token"}}}, [(NoticeKind.IDENTITY, "mft key")]),
        ({"renewals": {"running": False, "fault": "disk"}}, [(NoticeKind.IDENTITY, "renewals")]),
        (
            {
                "sources": {
                    "locations": [{"kind": "ocsp", "trust": "p", "location": "http://a/", "up": False}]
                }
            },
            [(NoticeKind.SOURCE_DOWN, "p ocsp http://a/")],
        ),
        ({"sources": {"locations": [{"up": None}]}}, []),
        (
            {"refresh": {"troubles": [{"location": "http://a/", "failures": 2}]}},
            [(NoticeKind.EVIDENCE_ENDS, "http://a/")],
        ),
        ({"refresh": {"troubles": [{"location": "http://a/", "failures": 1}]}}, []),
        ({"evidence": {"warning": "3 days"}}, [(NoticeKind.EVIDENCE_SHORT, "evidence")]),
        ({"reloads": {"last_error": "unknown key"}}, [(NoticeKind.CONFIGURATION, "reload")]),
    ],
)
def test_each_trouble_of_the_service_is_a_condition(changed, expected):
    assert expected == holds(**changed)


def test_condition_has_the_time_that_the_service_knows_and_printable_words():
    source = {
        "kind": "crl",
        "trust": "p",
        "location": "http://a/",
        "up": False,
        "since": SINCE,
        "cause": "timed_out",
    }
    source["detail"] = "no\nanswer " + "x" * 9999
    (found,) = standing(WELL | {"sources": {"locations": [source]}}, Settings(), now=NOW)
    assert (datetime(2026, 6, 1, 11, tzinfo=UTC), True) == (found.since, found.text.isprintable())
    assert found.text.startswith("source crl http://a/ of trust set p is down: timed_out: no\\nanswer x")
    assert 401 >= len(found.text)


def exceptions(days, *, action=Action.ACCEPT):
    until = NOW + days * DAY
    policy = Policy(
        name="x",
        exceptions=(PartnerException(fingerprint="ab" * 32, until=until, reason="ticket 7"),),
        treatments=MappingProxyType({Cause.UNREACHABLE: Treatment(action=action, until=until)}),
    )
    trusts = {name: TrustSet(name=name, anchors=(), policy=policy) for name in ("p", "q")}
    return [one.text for one in standing(WELL, Settings(trusts=MappingProxyType(trusts)), now=NOW)]


def test_exception_is_told_in_the_days_before_its_end_and_not_after_it():
    assert [
        f"exception of policy x for partner {'ab' * 32} (ticket 7) ends 2026-06-07 12:00Z: it is refused from then on",
        "policy x lets in for unreachable until 2026-06-07 12:00Z, and refuses from then on",
    ] == exceptions(6)
    assert ([], [], 1) == (exceptions(8), exceptions(0), len(exceptions(6, action=Action.REFUSE)))


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(WELL)), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(status=st.dictionaries(st.sampled_from(sorted(WELL)), ANY))
def test_state_of_another_version_is_read_as_far_as_it_goes(status):
    assert all(one.text.isprintable() for one in standing(status, Settings(), now=NOW))


REVOKED = {
    "status": "refused",
    "reason": "revoked",
    "partner": "CN=acme",
    "serial": "1a",
    "summary": "keyCompromise",
}


def test_revoked_partner_is_told_once_with_how_often_it_came_until_a_day_went_by():
    heard = Heard()
    assert heard.hear("verdict", REVOKED | {"remote": "192.0.2.7"}, NOW)
    assert not heard.hear("verdict", REVOKED | {"remote": "192.0.2.8"}, NOW + 2 * DAY / 24)
    (found,) = heard.conditions(NOW + DAY)
    assert (
        Condition(
            kind=NoticeKind.REVOKED_PARTNER,
            about="CN=acme 1a",
            text="2 times, last 2026-06-01 14:00Z: revoked partner CN=acme (serial 1a), which came from 192.0.2.8, "
            "was refused: keyCompromise",
            since=NOW,
        )
        == found
    )
    assert () == heard.conditions(NOW + 2 * DAY / 24 + DAY)


def test_revoked_partner_that_a_policy_only_audits_is_told_as_let_in():
    accepted = REVOKED | {"status": "accepted", "reason": None, "policy": "audit"}
    heard = Heard()
    assert not heard.hear(
        "verdict", accepted | {"warnings": ["audit: would have been refused 45 expired: x"]}, NOW
    )
    assert heard.hear(
        "verdict", accepted | {"warnings": ["audit: would have been refused 44 x: revoked"]}, NOW
    )
    (found,) = heard.conditions(NOW)
    assert "revoked partner CN=acme (serial 1a) was LET IN: policy audit only audits" == found.text


@pytest.mark.parametrize("reason", [None, "expired", "status_not_established", "no_path"])
def test_other_refusals_are_nobodys_alarm(reason):
    heard = Heard()
    assert not heard.hear("verdict", REVOKED | {"reason": reason}, NOW)
    assert () == heard.conditions(NOW)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("evidence_not_kept", NoticeKind.EVIDENCE_LOST),
        ("evidence_behind", NoticeKind.LEDGER),
        ("revocations_lost", NoticeKind.LEDGER),
        ("revocations_restored", NoticeKind.LEDGER),
    ],
)
def test_what_happens_to_evidence_and_memory_is_told(event, kind):
    heard = Heard()
    assert heard.hear(event, {"error": "disk full"}, NOW)
    assert [kind] == [one.kind for one in heard.conditions(NOW)]


@pytest.mark.parametrize("event", sorted(READERS))
def test_event_without_its_fields_is_no_fault(event):
    heard = Heard()
    heard.hear(event, {}, NOW)
    assert all(one.text.isprintable() for one in heard.conditions(NOW))


def test_crowd_of_revoked_partners_takes_bounded_room():
    heard = Heard()
    for number in range(3 * MOST):
        heard.hear("verdict", REVOKED | {"serial": f"{number:x}"}, NOW)
    assert MOST == len(heard.conditions(NOW))
    assert f"CN=acme {3 * MOST - 1:x}" == heard.conditions(NOW)[-1].about
    assert replace(heard.conditions(NOW)[0], text="") != heard.conditions(NOW)[1]
