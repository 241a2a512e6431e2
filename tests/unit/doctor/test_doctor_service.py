"""
What the doctor makes of STATUS, of silence, of policies, of the ledger and of places that cannot be written.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import pytest

from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.ledger_reader import LedgerReader
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import (
    AUDIT,
    RESILIENT,
    STRICT,
    Action,
    Depth,
    PartnerException,
    Policy,
    Treatment,
)
from cftpki_ext.core.settings import Rule, ServiceSettings, Settings, TrustSet
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.doctor import (
    Level,
    Silence,
    Unanswered,
    examine_ledger,
    examine_machine,
    examine_policies,
    examine_service,
    silence_of,
)
from tests.support.ledgers import edit, fill

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SOCKET = Path("/run/s")
WELL = {
    "version": "1",
    "uptime_s": 7,
    "sessions": 3,
    "max_sessions": 100,
    "processes": [{"role": "judge", "ready": True}, {"role": "judge", "ready": False}],
    "signers": {"mft": {"ready": True, "error": None}},
    "renewals": {"running": True, "fault": None},
    "evidence": {"kept": 5, "not_kept": 0, "required": False, "warning": None},
    "refresh": {"troubles": []},
    "board": {"ready": True},
}


def service(told, *, ran_before=True):
    found = examine_service(SOCKET, told, version="1", ran_before=ran_before)
    return [(one.level, one.check) for one in found if one.level is not Level.OK]


def test_service_that_answers_and_has_no_trouble_is_well():
    assert [] == service(WELL)


@pytest.mark.parametrize(
    ("changed", "level", "check"),
    [
        ({"version": "0"}, Level.WARN, "version"),
        ({"sessions": 90}, Level.WARN, "sessions"),
        ({"processes": [{"role": "judge", "ready": False}]}, Level.FAIL, "process judge"),
        ({"signers": {"mft": {"error": "no token"}}}, Level.FAIL, "signer of mft"),
        ({"renewals": {"running": False, "fault": "disk"}}, Level.WARN, "renewals"),
        ({"evidence": {"not_kept": 2, "required": True}}, Level.FAIL, "evidence"),
        ({"evidence": {"not_kept": 2, "required": False}}, Level.WARN, "evidence"),
        ({"evidence": {"warning": "max_size lasts 3 days"}}, Level.WARN, "evidence"),
        ({"refresh": {"troubles": [{"location": "http://a/"}]}}, Level.WARN, "evidence of http://a/"),
        ({"board": {"ready": False}}, Level.NOTE, "verdict board"),
        ({"reloads": {"last_error": "unknown key"}}, Level.WARN, "reload"),
        (
            {
                "sources": {
                    "locations": [{"kind": "ocsp", "location": "http://a/", "up": False}, {"up": None}]
                }
            },
            Level.WARN,
            "source ocsp http://a/",
        ),
    ],
)
def test_each_trouble_that_status_tells_is_a_finding(changed, level, check):
    assert [(level, check)] == service(WELL | changed)


@pytest.mark.parametrize("odd", [{}, dict.fromkeys(WELL), dict.fromkeys(WELL, 7), {key: [7] for key in WELL}])
def test_answer_of_another_version_is_read_as_far_as_it_goes(odd):
    examine_service(SOCKET, odd, version="1", ran_before=True)


@pytest.mark.parametrize(
    ("silence", "ran_before", "level"),
    [
        (Silence.NOBODY, True, Level.FAIL),
        (Silence.NOBODY, False, Level.WARN),
        (Silence.DENIED, True, Level.FAIL),
        (Silence.FROZEN, False, Level.FAIL),
        (Silence.OTHER, False, Level.FAIL),
    ],
)
def test_silence_is_told_by_its_kind(silence, ran_before, level):
    told = Unanswered(silence=silence, detail="no answer")
    assert [(level, "socket /run/s")] == service(told, ran_before=ran_before)


@pytest.mark.parametrize(
    ("cause", "silence"),
    [
        (FileNotFoundError(), Silence.NOBODY),
        (ConnectionRefusedError(), Silence.NOBODY),
        (PermissionError(), Silence.DENIED),
        (TimeoutError(), Silence.FROZEN),
        (BlockingIOError(), Silence.FROZEN),
        (ValueError(), Silence.OTHER),
        (None, Silence.OTHER),
    ],
)
def test_silence_is_known_by_what_the_system_said(cause, silence):
    error = RuntimeError("no answer")
    error.__cause__ = cause
    assert Unanswered(silence=silence, detail="no answer") == silence_of(error)


@pytest.mark.parametrize("cause", [BrokenPipeError(), ConnectionResetError()])
def test_service_that_hangs_up_at_once_says_whom_it_does_not_answer(cause):
    error = RuntimeError("broken pipe")
    error.__cause__ = cause
    told = silence_of(error)
    assert (Silence.OTHER, True) == (
        told.silence,
        "may not use this service (service.allow_users)" in told.detail,
    )


def policies(policy, shadows=None, *, used=True):
    trust = TrustSet(name="p", anchors=(), policy=policy)
    rules = (Rule(name="in", direction=Direction.SERVER, trust="p" if used else "q"),)
    settings = Settings(trusts=MappingProxyType({"p": trust}), rules=rules)
    found = examine_policies(settings, shadows or {}, now=NOW)
    assert all(one.action for one in found if one.level >= Level.WARN)
    return [(one.level, one.detail) for one in found]


def test_strict_policy_is_nothing_to_tell_and_one_that_audits_a_warning():
    assert [] == policies(STRICT)
    shadows = {"p": Counter(revoked=3, expired=1), "q": Counter(revoked=9)}
    assert [
        (
            Level.WARN,
            "only audits: nobody is refused, revoked partners neither; it let in 4 in the last days: 3 revoked, 1 expired",
        )
    ] == policies(AUDIT, shadows)
    assert [] == policies(AUDIT, used=False)


def test_soft_rows_are_named():
    ((level, detail),) = policies(RESILIENT)
    assert (Level.NOTE, True) == (
        level,
        detail.startswith("lets in: unreachable (accept_warn, 1 day, 0:00:00 at most)"),
    )
    assert [(Level.NOTE, "nobody looks whether CAs are revoked (depth = leaf)")] == policies(
        Policy(name="leaf", depth=Depth.LEAF)
    )


@pytest.mark.parametrize(
    ("days", "level"), [(-1, Level.NOTE), (0, Level.NOTE), (13, Level.WARN), (15, Level.NOTE)]
)
def test_exceptions_and_rows_that_end_are_told_before(days, level):
    until = NOW + days * DAY
    exception = PartnerException(fingerprint="ab" * 32, until=until, reason="ticket 7")
    assert [level] == [one for one, _ in policies(Policy(name="x", exceptions=(exception,)))]
    row = Treatment(action=Action.ACCEPT, until=until)
    told = policies(Policy(name="x", treatments=MappingProxyType({Cause.UNREACHABLE: row})))
    assert level is told[-1][0]


@pytest.fixture
def kept(tmp_path):
    with contextlib.closing(EvidenceLedger(tmp_path / "evidence")) as ledger:
        fill(ledger, 5)
    return tmp_path / "evidence"


def ledger(folder, *, monotonic=lambda: 0.0):
    (found,) = examine_ledger(lambda: LedgerReader(folder), monotonic=monotonic)
    return found.level, found.detail


def test_whole_ledger_is_well_and_a_changed_record_a_fault(kept):
    assert (Level.OK, "5 records are whole") == ledger(kept)
    edit(kept, "UPDATE record SET id = ? WHERE seq = 2", "f" * 32)
    level, detail = ledger(kept)
    assert (Level.FAIL, True) == (level, detail.startswith("is broken: record 2 "))


def test_ledger_that_cannot_be_opened_is_a_fault_and_none_is_none(kept):
    for file in kept.iterdir():
        file.unlink()
    (kept / "ledger.sqlite3").write_bytes(b"no database" * 100)
    assert Level.FAIL is ledger(kept)[0]
    assert () == examine_ledger(lambda: None, monotonic=lambda: 0.0)


def test_verifying_ends_in_time_and_says_how_far_it_came(kept):
    ticks = iter((0.0, 5.0, 30.0))
    level, detail = ledger(kept, monotonic=lambda: next(ticks))
    assert (Level.NOTE, "the first 2 of 5 records are looked at; there was no time for more") == (
        level,
        detail,
    )


def test_ledger_whose_disk_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("cftpki_ext.doctor.ledger._SPARE_S", 0.0)
    over = threading.Event()
    try:
        (found,) = examine_ledger(over.wait, monotonic=lambda: 0.0, within_s=0.05)
    finally:
        over.set()
    assert (Level.NOTE, True) == (found.level, found.detail.startswith("was not looked through within 0 s"))


@pytest.mark.parametrize(
    ("place", "mode"),
    [
        ("responses", 0o500),
        ("responses/cache.db", 0o400),
        ("evidence", 0o500),
        ("revocations.sqlite3", 0o400),
    ],
)
def test_place_that_its_owner_cannot_write_is_a_fault_whoever_looks(tmp_path, place, mode):
    state = tmp_path / "state"
    for folder in (state, state / "responses", state / "evidence"):
        folder.mkdir(mode=0o700)
    for file in ("responses/cache.db", "evidence/ledger.sqlite3", "revocations.sqlite3"):
        (state / file).touch(mode=0o600)
    settings = Settings(service=ServiceSettings(socket=tmp_path / "s", state=state, cache_bytes=1 << 20))
    assert [Level.OK] == [one.level for one in examine_machine(settings, now=NOW)]
    (state / place).chmod(mode)
    try:
        faults = [one for one in examine_machine(settings, now=NOW) if one.level is Level.FAIL]
    finally:
        (state / place).chmod(0o700)
    assert [True] == [one.check.endswith(str(state / place)) for one in faults]
    assert "cannot be written by its owner" in faults[0].detail
