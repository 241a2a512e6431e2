"""
What the doctor makes of the last days, from a real ledger: whom to ask for, who is refused, what changed.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cftpki_cache.ledger_reader import LedgerReader
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.policy import AUDIT, STRICT
from cftpki_ext.core.settings import TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.doctor import (
    Level,
    chain_of,
    examine_past,
    key_of,
    left_out,
    look_back,
    to_ask_for,
    untrusted_now,
)
from cftpki_ext.evidence import Door
from tests.support.past_ledger import PastLedger
from tests.support.pki import issue, key, make_crl

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
OLD = NOW - 30 * DAY
ROOT = issue(None, "Root", ca=True, not_before=OLD)
G1, G2 = (issue(ROOT, f"G{n}", ca=True, not_before=OLD) for n in (1, 2))
OTHER_ROOT = issue(None, "Other Root", ca=True, not_before=OLD)
STRANGE = issue(OTHER_ROOT, "G3", ca=True, not_before=OLD)
TRUST = TrustSet(name="p", anchors=(ROOT.der,), sources=(SourceKind.CRL,))
ACME = issue(G1, "acme", eku=["clientAuth"], not_before=OLD)
SKEW = timedelta(minutes=5)


def crl(issuer, depth, *revoked, at=NOW, url=None):
    raw = make_crl(issuer, list(revoked), this_update=at - HOUR, next_update=at + DAY)
    where = url or f"http://crl.example/{issuer.certificate.subject.rfc4514_string()}"
    return Statement(
        kind=SourceKind.CRL, origin=Origin.NETWORK, received_at=at, depth=depth, url=where, raw=raw
    )


def good(issuer, at):
    return crl(issuer, 0, at=at), crl(ROOT, 1, at=at)


def silent(at):
    return Statement(
        kind=SourceKind.CRL,
        origin=Origin.NETWORK,
        received_at=at,
        depth=0,
        url="http://crl.example/CN=G1",
        failure=Cause.UNREACHABLE,
        detail="refused",
    ), crl(ROOT, 1, at=at)


@pytest.fixture
def ledger(tmp_path):
    with contextlib.closing(PastLedger(tmp_path / "state")) as made:
        yield made


@contextlib.contextmanager
def looking(tmp_path, *, since=NOW - 7 * DAY, now=NOW, monotonic=lambda: 0.0):
    with contextlib.closing(LedgerReader(tmp_path / "state" / "evidence")) as reader:
        yield look_back(reader, now=now, since=since, monotonic=monotonic), reader


def findings(past, reader, *, now=NOW):
    return examine_past(past, now=now, skew=SKEW, key_of=lambda seen: key_of(seen, reader))


def told(found, check):
    return [(one.level, one.detail) for one in found if one.check == check]


def test_chain_of_a_partner_of_the_last_days_is_asked_for_and_an_older_one_not(ledger, tmp_path):
    late = issue(G1, "late", eku=["clientAuth"], not_before=OLD)
    ledger.decide((late.der, G1.der), TRUST, *good(G1, NOW - 8 * DAY), at=NOW - 8 * DAY)
    ledger.decide((ACME.der, G1.der), TRUST, *good(G1, NOW - 2 * DAY), at=NOW - 2 * DAY)
    with looking(tmp_path) as (past, reader):
        asked = to_ask_for(past, now=NOW)
        assert [(ACME.der, G1.der)] == [chain_of(seen, reader) for seen in asked]
        assert [(Level.OK, {"partners": 1, "asked": 1})] == [
            (one.level, dict(one.facts)) for one in left_out(past, len(asked))
        ]
        assert () == findings(past, reader)


def test_partner_of_a_new_ca_is_told_with_what_changed(ledger, tmp_path):
    yesterday, later = NOW - DAY, NOW - 20 * MINUTE
    old = issue(G1, "acme", eku=["clientAuth"], not_before=OLD, private=key("ec", 1))
    new = issue(STRANGE, "acme", eku=["clientAuth"], not_before=OLD, private=key("ec", 2))
    ledger.decide((old.der, G1.der), TRUST, *good(G1, yesterday), at=yesterday)
    ledger.decide((new.der, STRANGE.der), TRUST, at=later)
    with looking(tmp_path) as (past, reader):
        found = findings(past, reader)
        said = "last accepted yesterday at 12:00Z, refused today at 11:40Z (no_path); since then"
        assert [
            (
                Level.WARN,
                f"{said}: issuer CN=G1 -> CN=G3, new certificate (serial {old.serial:x} -> {new.serial:x}), key changed",
            )
        ] == told(found, "what changed")
        assert ["its new CA is in no trust set: make sure of it, and add it"] == [
            one.action for one in found if one.check == "what changed"
        ]
        # It is refused for what no source can change.
        assert () == to_ask_for(past, now=NOW)


def test_partner_with_a_new_certificate_over_the_same_key_is_told_so(ledger, tmp_path):
    yesterday, later = NOW - DAY, NOW - 20 * MINUTE
    old, new = (
        issue(by, "acme", eku=["clientAuth"], not_before=OLD, private=key("ec", 1)) for by in (G1, STRANGE)
    )
    ledger.decide((old.der, G1.der), TRUST, *good(G1, yesterday), at=yesterday)
    ledger.decide((new.der, STRANGE.der), TRUST, at=later)
    with looking(tmp_path) as (past, reader):
        ((_, detail),) = told(findings(past, reader), "what changed")
    assert detail.endswith("the same key")


def test_refusals_for_a_silent_source_are_an_outage_until_the_partner_is_let_in_again(ledger, tmp_path):
    for minutes in (30, 20):
        at = NOW - minutes * MINUTE
        ledger.decide((ACME.der, G1.der), TRUST, *silent(at), at=at)
    with looking(tmp_path) as (past, reader):
        ((level, detail),) = told(findings(past, reader), "status_not_established")
        assert Level.FAIL is level
        assert detail.startswith("2 in the last hour (unreachable), the newest 2026-06-01 11:40Z: CN=acme: ")
        # Whoever was refused because nobody answered is asked for.
        assert [ACME.der] == [chain_of(seen, reader)[0] for seen in to_ask_for(past, now=NOW)]
    ledger.decide((ACME.der, G1.der), TRUST, *good(G1, NOW - MINUTE), at=NOW - MINUTE)
    with looking(tmp_path) as (past, reader):
        ((level, detail),) = told(findings(past, reader), "status_not_established")
    assert (Level.WARN, True) == (level, detail.endswith("let in again since"))


def test_refusals_of_more_than_an_hour_ago_are_not_counted(ledger, tmp_path):
    at = NOW - 61 * MINUTE
    ledger.decide((ACME.der, G1.der), TRUST, *silent(at), at=at)
    with looking(tmp_path) as (past, reader):
        assert [] == told(findings(past, reader), "status_not_established")


def test_revoked_partner_is_refused_rightly(ledger, tmp_path):
    at = NOW - MINUTE
    heard = (crl(G1, 0, ACME.serial, at=at), crl(ROOT, 1, at=at))
    ledger.decide((ACME.der, G1.der), TRUST, *good(G1, NOW - DAY), at=NOW - DAY)
    ledger.decide((ACME.der, G1.der), TRUST, *heard, at=at)
    with looking(tmp_path) as (past, reader):
        found = findings(past, reader)
        assert {Level.NOTE} == {one.level for one in found}
        assert ["revoked", "what changed"] == [one.check for one in found]
        assert () == to_ask_for(past, now=NOW)


@pytest.mark.parametrize(("door", "refusals"), [(Door.SOCKET, 1), (Door.CLI, 0), (Door.REFRESH, 0)])
def test_only_what_hosts_asked_counts(ledger, tmp_path, door, refusals):
    at = NOW - MINUTE
    ledger.decide((ACME.der, G1.der), TRUST, *silent(at), at=at, door=door)
    with looking(tmp_path) as (past, _):
        assert (refusals, refusals) == (len(past.refusals), len(past.partners))


def test_newest_chain_of_a_partner_is_asked_for_and_one_that_ended_not(ledger, tmp_path):
    old, new = (issue(G1, "acme", eku=["clientAuth"], not_before=OLD) for _ in range(2))
    short = issue(G1, "short", eku=["clientAuth"], not_before=OLD, not_after=NOW - MINUTE)
    for certificate, at in ((old, NOW - 3 * DAY), (new, NOW - 2 * DAY), (short, NOW - HOUR)):
        ledger.decide((certificate.der, G1.der), TRUST, *good(G1, at), at=at)
    with looking(tmp_path) as (past, reader):
        assert [new.der] == [chain_of(seen, reader)[0] for seen in to_ask_for(past, now=NOW)]


def test_one_partner_of_each_ca_is_asked_for_first(ledger, tmp_path):
    other = issue(G2, "of G2", eku=["clientAuth"], not_before=OLD)
    ledger.decide((other.der, G2.der), TRUST, *good(G2, NOW - 2 * DAY), at=NOW - 2 * DAY)
    for number in range(3):
        at = NOW - HOUR + number * MINUTE
        leaf = issue(G1, f"of G1 {number}", eku=["clientAuth"], not_before=OLD)
        ledger.decide((leaf.der, G1.der), TRUST, *good(G1, at), at=at)
    with looking(tmp_path) as (past, _):
        names = [seen.row.partner for seen in to_ask_for(past, now=NOW)]
    assert ["CN=of G1 2", "CN=of G2", "CN=of G1 1", "CN=of G1 0"] == names


def test_reading_ends_in_time_with_the_last_hour_first(ledger, tmp_path):
    for at in (NOW - 2 * DAY, NOW - 3 * HOUR, NOW - MINUTE):
        leaf = issue(G1, f"at {at:%H%M}", eku=["clientAuth"], not_before=OLD)
        ledger.decide((leaf.der, G1.der), TRUST, *good(G1, at), at=at)
    ticks = iter(range(0, 60, 6))
    with looking(tmp_path, monotonic=lambda: float(next(ticks))) as (past, reader):
        assert (["CN=at 1159"], NOW - HOUR) == (list(past.partners), past.read_to)
        ((level, detail),) = told(findings(past, reader), "records")
    assert (Level.NOTE, "1 records were read, back to 2026-06-01 11:00Z; there was no time for more") == (
        level,
        detail,
    )


@pytest.mark.parametrize(
    ("ahead", "level"),
    [(1, None), (60, Level.WARN), (299, Level.WARN), (301, Level.FAIL), (86_400, Level.FAIL)],
)
def test_clock_that_was_set_back_behind_the_newest_record_is_told(ledger, tmp_path, ahead, level):
    at = NOW + timedelta(seconds=ahead)
    ledger.decide((ACME.der, G1.der), TRUST, *good(G1, at), at=at)
    with looking(tmp_path) as (past, reader):
        levels = [level for level, _ in told(findings(past, reader), "this machine")]
    assert ([] if level is None else [level]) == levels


def test_whom_an_auditing_policy_let_in_is_counted(ledger, tmp_path):
    at = NOW - MINUTE
    for policy in (AUDIT, STRICT):
        ledger.decide((ACME.der, G1.der), replace(TRUST, policy=policy), *silent(at), at=at)
    with looking(tmp_path) as (past, _):
        assert {"p": Counter({"status_not_established": 1})} == past.shadows


def test_certificate_that_is_gone_or_changed_is_no_chain(ledger, tmp_path):
    ledger.decide((ACME.der, G1.der), TRUST, *good(G1, NOW - HOUR), at=NOW - HOUR)

    class Holey:
        def __init__(self, raw):
            self.raw = raw

        def blob(self, _):
            return self.raw

    with looking(tmp_path) as (past, _):
        (seen,) = to_ask_for(past, now=NOW)
        assert [None, None] == [chain_of(seen, Holey(raw)) for raw in (None, b"other")]
        assert [None, None] == [key_of(seen, Holey(raw)) for raw in (None, b"other")]
        assert Level.FAIL is untrusted_now(seen).level


def test_record_that_cannot_be_read_is_counted_and_the_rest_told(ledger, tmp_path, monkeypatch):
    ledger.decide((ACME.der, G1.der), TRUST, *good(G1, NOW - HOUR), at=NOW - HOUR)

    def broken(*_):
        msg = "another format"
        raise StoreError(msg)

    monkeypatch.setattr("cftpki_ext.doctor.past.row_from", broken)
    with looking(tmp_path) as (past, reader):
        assert [(Level.WARN, "1 records cannot be read")] == told(findings(past, reader), "records")
