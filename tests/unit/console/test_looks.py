"""
What the child that looks gives: plain data of stores and configuration, in whatever state they are.
"""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cftpki_cache.blocked import BlockFile
from cftpki_ext.console import looks
from cftpki_ext.console.looks import Looker, affordable
from cftpki_ext.core.blocks import Block
from cftpki_ext.core.policy import AUDIT
from cftpki_ext.processes.frames import Message
from tests.support import evidence_samples as samples
from tests.support.console_site import HOSTILE, LONG, configure, keep, keep_hostile

ALL = {"q": "", "show": "all", "page": 1}
VERDICTS = {"q": "", "answer": "all", "page": 1}


def look(looker, name, **given):
    answer = looker.answer(Message({"look": name, "given": given})).value
    json.dumps(answer)
    return answer


def found(looker, name, **given):
    return look(looker, name, **given)["found"]


@pytest.fixture
def site(tmp_path):
    config = configure(tmp_path)
    keep(tmp_path / "state", 60, texts=("CN=good",))
    keep(tmp_path / "state", 3, texts=("CN=bad",), statements=samples.REVOKED)
    return Looker(config), tmp_path


def test_nothing_kept_yet_is_nothing_and_no_fault(tmp_path):
    looker = Looker(configure(tmp_path))
    assert ([], 0) == (
        found(looker, "partners", **ALL)["rows"],
        found(looker, "verdicts", **VERDICTS)["chosen"],
    )
    assert [] == found(looker, "sources")["series"]
    assert {"config": {"ok": True, "faults": []}, "records": 0}.items() <= found(looker, "health").items()
    assert [] == found(looker, "identities")["identities"]


def test_partners_are_counted_filtered_searched_and_paged(site):
    looker, _ = site
    first = found(looker, "partners", **ALL)
    assert (50, 63, 2, {"all": 63, "accepted": 60, "refused": 3}) == (
        len(first["rows"]),
        first["chosen"],
        first["pages"],
        {name: first["counts"][name] for name in ("all", "accepted", "refused")},
    )
    assert 13 == len(found(looker, "partners", **ALL | {"page": 2})["rows"])
    assert 3 == found(looker, "partners", **ALL | {"show": "refused"})["chosen"]
    assert 3 == found(looker, "partners", **ALL | {"q": "cn=BAD"})["chosen"]
    assert 1 == found(looker, "partners", **ALL | {"q": f"0c{2:062x}"[:64]})["chosen"]
    assert 0 == found(looker, "partners", **ALL | {"q": "nobody"})["chosen"]


def test_partner_has_all_that_is_known_of_it_and_one_that_was_not_seen_is_missing(site):
    looker, folder = site
    fingerprint = f"0c{0:062x}"
    block = Block(what=f"sha256:{fingerprint}", reason="key lost", by="root", at=datetime.now(UTC))
    BlockFile(folder / "state").change(lambda book: replace(book, blocks=(*book.blocks, block)))
    data = found(looker, "partner", fingerprint=fingerprint)
    assert ("CN=bad 0", "revoked", ["key lost"], 1) == (
        data["partner"]["subject"],
        data["partner"]["last"]["reason"],
        [one["reason"] for one in data["partner"]["blocks"]],
        len(data["verdicts"]),
    )
    assert 1 == found(looker, "partners", **ALL | {"show": "blocked"})["chosen"]
    assert {"is_missing": True}.items() <= look(looker, "partner", fingerprint="00" * 32).items()


def test_verdicts_are_the_newest_first_by_answer_and_by_partner(site):
    looker, _ = site
    data = found(looker, "verdicts", **VERDICTS)
    assert (50, 63, 63) == (len(data["rows"]), data["chosen"], data["looked"])
    assert 3 == found(looker, "verdicts", **VERDICTS | {"answer": "refused"})["chosen"]
    assert 60 == found(looker, "verdicts", **VERDICTS | {"q": "good"})["chosen"]


def test_one_verdict_has_what_explain_says_and_one_that_is_not_there_is_missing(site):
    looker, _ = site
    data = found(looker, "verdict", id=f"0c{0:030x}")
    assert ("REFUSED", "44 certificate_revoked") == (data["answer"], data["alert"])
    assert ["reason", "rule", "trust", "policy", "decided", "verdict"] == [
        name for name, _ in data["facts"][:6]
    ]
    assert "revoked" in {
        row[0] for one in data["certificates"] for each in one["statuses"] for row in each["sources"]
    }
    assert look(looker, "verdict", id="f" * 32)["is_missing"]


def test_sources_are_known_from_the_evidence_of_a_service_that_has_ended(site):
    looker, _ = site
    data = found(looker, "sources")
    assert ({"http://a/"}, 63) == ({one["location"] for one in data["series"]}, data["records"])
    assert all(len(one["points"]) > 0 and one["updates"] for one in data["series"])


def test_policy_that_is_tried_says_whom_it_would_refuse_and_changes_nothing(site):
    looker, folder = site
    ledger = folder / "state" / "evidence" / "ledger.sqlite3"
    before = ledger.read_bytes()
    assert {"partners": "strict"} == found(looker, "choices")["trusts"]
    data = found(looker, "trial", trust="partners", policy="audit", hours=24)
    assert (63, True, 0, 3) == (
        data["replayed"],
        data["whole"],
        data["refused"]["count"],
        data["let_in"]["count"],
    )
    assert before == ledger.read_bytes()


def test_partners_whom_a_policy_only_audited_would_be_refused_by_one_that_enforces(tmp_path):
    config = configure(tmp_path)
    config.write_text(config.read_text().replace('["root.pem"]\n', '["root.pem"]\npolicy = "audit"\n'))
    keep(tmp_path / "state", 2, texts=("CN=well",))
    keep(tmp_path / "state", 3, texts=("CN=audited",), statements=samples.REVOKED, policy=AUDIT)
    data = found(Looker(config), "trial", trust="partners", policy="strict", hours=24)
    assert (5, 3, 0) == (data["replayed"], data["refused"]["count"], data["let_in"]["count"])
    assert {f"CN=audited {number}" for number in range(3)} == {
        one["partner"] for one in data["refused"]["rows"]
    }
    assert ("accepted (audit: revoked)", "refused 44 revoked", 3) in [
        (one["recorded"], one["now"], one["times"]) for one in data["changes"]
    ]


@pytest.mark.parametrize(
    ("trust", "policy"), [("partners", "nope"), ("../partners", "strict"), (HOSTILE[0], "strict")]
)
def test_policy_or_trust_set_that_is_none_is_refused(site, trust, policy):
    assert "there is no" in look(site[0], "trial", trust=trust, policy=policy, hours=24)["error"]


def test_configuration_with_faults_is_told_and_the_evidence_is_shown_all_the_same(site):
    _, folder = site
    config = folder / "c.toml"
    config.write_text(config.read_text() + 'colour = "red"\n')
    looker = Looker(config)
    health = found(looker, "health")
    assert (False, True) == (health["config"]["ok"], "colour" in health["config"]["faults"][0])
    assert 63 == found(looker, "partners", **ALL)["chosen"]
    config.write_text('[service]\nstate = "state"\n]')
    assert 63 == found(Looker(config), "partners", **ALL)["chosen"]


def test_evidence_that_is_no_database_is_said_and_no_traceback(site):
    _, folder = site
    (folder / "state" / "evidence" / "ledger.sqlite3").write_bytes(b"no database" * 1000)
    looker = Looker(folder / "c.toml")
    assert "evidence" in look(looker, "partners", **ALL)["error"]
    assert "fail" in {one["level"] for one in found(looker, "health")["findings"]}


def test_exceptions_have_their_ends_and_who_is_meant(tmp_path):
    fingerprint = f"01{0:062x}"
    config = configure(
        tmp_path,
        '[policy.mine]\nbase = "audit"\n[[policy.mine.exception]]\n'
        f'fingerprint = "{fingerprint}"\nuntil = 2099-01-01\nreason = "CA moves"\n',
    )
    config.write_text(config.read_text().replace('["root.pem"]\n', '["root.pem"]\npolicy = "mine"\n'))
    keep(tmp_path / "state", 1)
    data = found(Looker(config), "exceptions")
    (one,) = data["exceptions"]
    assert ("CN=partner", True, ["partners"]) == (one["subject"], one["in_force"], data["audits"])


def test_hostile_and_long_names_come_through_every_look(tmp_path):
    config = configure(tmp_path)
    ids = keep_hostile(tmp_path / "state")
    looker = Looker(config)
    rows = found(looker, "partners", **ALL)["rows"]
    assert {text[:200] for text in (*HOSTILE, LONG)} == {row["subject"] for row in rows}
    for name in ids:
        assert found(looker, "verdict", id=name)["facts"][0][1] in (*HOSTILE, LONG)
    assert len(found(looker, "sources")["series"]) > 0
    assert 0 == found(looker, "trial", trust="partners", policy="audit", hours=1)["refused"]["count"]


def test_records_are_read_as_far_as_there_is_work_to_spare_for():
    read = []

    def reads(most):
        read.append(most)
        return most

    assert 5_000 == affordable(reads, worked=iter([0.0, 1.0, 1.0, 5.0, 5.0]).__next__)
    assert [1_000, 5_000] == read
    assert 20_000 == affordable(reads, worked=iter([0.0, 0.1, 0.1, 0.4, 0.4]).__next__)


def test_machine_that_is_busy_otherwise_shows_as_many_records(monkeypatch):
    monkeypatch.setattr(looks, "_AFFORDED_S", 0.05)

    def waits(most):
        time.sleep(0.02)
        return most

    assert 20_000 == affordable(waits)
