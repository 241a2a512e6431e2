"""
The states of sources where what they say is judged, where this process was late, and where there are many.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from prometheus_client.parser import text_string_to_metric_families

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import AUDIT, PartnerException, Policy, Treatment
from cftpki_ext.core.settings import Limits, Settings, TrustSet
from cftpki_ext.core.source_settings import RestProfile
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.verdict import (
    CertificateFinding,
    CertificateStatus,
    Evidence,
    SourceFinding,
    Status,
    Verdict,
)
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.ports.sources import StatusQuestion
from cftpki_ext.service.metrics import Seen, exposition
from cftpki_ext.service.monitoring.exceptions import exceptions_of
from cftpki_ext.service.monitoring.sources import SourceStates
from cftpki_ext.x509.certificate import parse_certificate
from tests.support import pki
from tests.support.logs import CapturedLog

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
ROOT = pki.make_root("Root")
LEAF = parse_certificate(pki.issue(ROOT, "leaf").der)
TRUST = TrustSet(name="t", anchors=(ROOT.der,))
URL = "http://ca/ocsp"


class Clock:
    def __init__(self):
        self.at = NOW

    def now(self):
        return self.at

    def monotonic(self):
        return 0.0


class World:
    def __init__(self, trust=TRUST):
        self.log, self.clock, self.trust = CapturedLog(), Clock(), trust
        self.states = SourceStates(self.log, self.clock, Settings(trusts={"t": trust}))

    def ask(self, url=URL, kind=SourceKind.OCSP, *, failure=None, seconds=1.0, late_s=0.0):
        question = StatusQuestion(
            lookup=Lookup(depth=0, kind=kind, url=url),
            certificate=LEAF,
            issuer=LEAF,
            trust=self.trust,
            limits=Limits(),
            deadline=0.0,
        )
        statement = Statement(
            kind=kind,
            origin=Origin.NETWORK,
            received_at=self.clock.at,
            raw=b"x" if failure is None else None,
            failure=failure,
            detail="" if failure is None else "why",
        )
        self.states.heard(self.states.asked(question), statement, seconds=seconds, late_s=late_s)

    def judge(self, url=URL, kind=SourceKind.OCSP, *, cause=None, origin=Origin.NETWORK):
        source = SourceFinding(
            kind=kind,
            origin=origin,
            url=url,
            status=CertificateStatus.GOOD if cause is None else CertificateStatus.UNDETERMINED,
            cause=cause,
            next_update=NOW + timedelta(hours=1),
        )
        finding = CertificateFinding(
            depth=0, subject="CN=leaf", serial="1", fingerprint="f", status=source.status, sources=(source,)
        )
        evidence = Evidence(
            decided_at=NOW,
            rule="r",
            trust="t",
            policy="strict",
            direction=Direction.SERVER,
            findings=(finding,),
        )
        self.states.judged(
            Verdict(id="v", status=Status.ACCEPTED, reason=None, alert=0, summary="", evidence=evidence)
        )

    def told(self):
        return [one.kwargs["event"] for one in self.log.calls]

    def shown(self):
        return self.states.status()["locations"]


def test_answer_that_nobody_can_use_is_down_until_one_can_be_used():
    world = World()
    world.ask()
    world.judge(cause=Cause.TRY_LATER)
    world.ask()
    assert ["source_down"] == world.told()
    assert (False, "try_later", None) == tuple(
        world.shown()[0][key] for key in ("up", "cause", "next_update")
    )
    world.clock.at += timedelta(seconds=90)
    world.judge()
    assert ["source_down", "source_up"] == world.told()
    assert 90 == world.log.calls[1].kwargs["down_s"]
    assert "2026-06-01T13:00:00+00:00" == world.shown()[0]["next_update"]


def test_what_is_wrong_with_one_certificate_is_not_the_source():
    world = World()
    world.ask()
    for cause in (Cause.UNKNOWN, Cause.WRONG_SCOPE, Cause.UNAUTHORIZED):
        world.judge(cause=cause)
    world.judge(cause=Cause.STALE, origin=Origin.CACHE)
    world.judge("http://never/asked", cause=Cause.STALE)
    assert ([], 1) == (world.told(), len(world.shown()))


def test_process_that_did_not_run_blames_no_source():
    world = World()
    world.ask(failure=Cause.TIMED_OUT, late_s=3.0)
    assert (None, []) == (world.shown()[0]["up"], world.told())
    world.ask(failure=Cause.TIMED_OUT, late_s=0.05)
    assert (False, ["source_down"]) == (world.shown()[0]["up"], world.told())


def test_lookup_of_a_ca_is_one_location_for_all_certificates():
    rest = RestProfile(name="ca", url="https://ca/status/{serial_hex}")
    world = World(replace(TRUST, rest=rest))
    for serial in ("01", "02"):
        world.ask(f"https://ca/status/{serial}", SourceKind.REST)
        world.judge(f"https://ca/status/{serial}", SourceKind.REST, cause=Cause.MALFORMED)
    assert ["https://ca/status/{serial_hex}"] == [one["location"] for one in world.shown()]
    assert ["source_down"] == world.told()


def test_locations_are_bounded_and_those_that_are_down_stay():
    world = World()
    world.ask("http://ca/down", failure=Cause.UNREACHABLE)
    for number in range(300):
        world.ask(f"http://ca/{number}")
    found = world.states.status()
    assert (256, 1, 64) == (found["known"], found["down"], len(found["locations"]))
    assert ["http://ca/down", "http://ca/299", "http://ca/298"] == [
        one["location"] for one in found["locations"][:3]
    ]
    world.clock.at += timedelta(days=8)
    world.ask("http://ca/new")
    assert ["http://ca/new"] == [one["location"] for one in world.shown()]


def test_locations_of_a_trust_set_that_is_gone_are_forgotten():
    world = World()
    world.ask()
    world.states.replace_settings(Settings(trusts={"t": TRUST}))
    assert 1 == len(world.shown())
    world.states.replace_settings(Settings())
    assert [] == world.shown()
    world.ask()  # by a handshake that was under way
    world.judge()


def samples(status):
    return {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(exposition(Seen(status=status, identities={})))
        for one in family.samples
    }


def test_sources_are_told_to_monitors():
    world = World()
    world.ask(seconds=0.004)
    world.judge()
    world.ask("http://ca/b.crl", SourceKind.CRL, failure=Cause.UNREACHABLE)
    world.states.hear_time("http://ca", NOW - timedelta(minutes=2))
    found = samples({"sources": world.states.status()})
    up, down = ("ocsp", URL, "t"), ("crl", "http://ca/b.crl", "t")
    assert {
        ("cftpki_sources_known",): 2,
        ("cftpki_sources_down",): 1,
        ("cftpki_source_up", *up): 1,
        ("cftpki_source_up", *down): 0,
        ("cftpki_source_since_timestamp_seconds", *down): NOW.timestamp(),
        ("cftpki_source_answered_timestamp_seconds", *up): NOW.timestamp(),
        ("cftpki_source_next_update_timestamp_seconds", *up): NOW.timestamp() + 3600,
        ("cftpki_source_answers_total", *up): 1,
        ("cftpki_source_failures_total", *down): 1,
        ("cftpki_source_seconds_count", "ocsp"): 1,
        ("cftpki_source_seconds_bucket", "ocsp", "0.0025"): 0,
        ("cftpki_source_seconds_bucket", "ocsp", "0.005"): 1,
        ("cftpki_source_seconds_bucket", "ocsp", "+Inf"): 1,
        ("cftpki_clock_offset_seconds", "http://ca"): -119.5,
    }.items() <= found.items()
    assert ("cftpki_source_answered_timestamp_seconds", *down) not in found


def test_exceptions_and_their_ends_are_told():
    def lets_in(number, days):
        return PartnerException(fingerprint=str(number) * 64, until=NOW + timedelta(days=days), reason="why")

    policy = Policy(
        name="p",
        exceptions=(lets_in(1, 20), lets_in(2, -1), lets_in(3, 3), lets_in(3, 5)),
        treatments=MappingProxyType({Cause.STALE: Treatment(until=NOW + timedelta(days=1))}),
    )
    trusts = {
        "a": replace(TRUST, policy=policy),
        "b": replace(TRUST, policy=policy),
        "c": replace(TRUST, policy=AUDIT),
    }
    told = exceptions_of(Settings(trusts=trusts), NOW)
    assert (3, 1, 2, 3) == (told["in_force"], told["ended"], told["within_7d"], told["within_30d"])
    assert ["3", "3", "1"] == [one["fingerprint"][0] for one in told["first"]]
    found = samples({"exceptions": told})
    assert {
        ("cftpki_exceptions", "in_force"): 3,
        ("cftpki_exceptions", "ended"): 1,
        ("cftpki_exceptions_ending", "7"): 2,
        ("cftpki_exceptions_ending", "30"): 3,
        ("cftpki_exception_end_timestamp_seconds", "3" * 64, "p"): (NOW + timedelta(days=3)).timestamp(),
        ("cftpki_exception_end_timestamp_seconds", "1" * 64, "p"): (NOW + timedelta(days=20)).timestamp(),
        ("cftpki_policy_row_end_timestamp_seconds", "stale", "p"): (NOW + timedelta(days=1)).timestamp(),
    }.items() <= found.items()
