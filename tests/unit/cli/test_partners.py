"""
`cftpki partners list` and `show` over what a service has left on the disk.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from click.testing import CliRunner

from cftpki_cache.blocked import BlockFile
from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.sightings import Sightings
from cftpki_ext.checking.held import Partner
from cftpki_ext.checking.sightings import document_of, pack_chain
from cftpki_ext.cli import main
from cftpki_ext.config import load
from cftpki_ext.core.blocks import Block
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.evidence import encode
from cftpki_ext.looking.partners import overview_of
from cftpki_ext.ports.evidence import EvidenceEntry
from cftpki_ext.ports.partners import Sighting
from cftpki_ext.x509.certificate import parse_certificate
from tests.support import evidence_samples as samples

NOW = datetime.now(UTC).replace(microsecond=0)
PRINT = sha256(samples.LEAF.der).hexdigest()
ELSEWHERE = "ef" * 32


@pytest.fixture
def config(tmp_path):
    (tmp_path / "root.pem").write_bytes(samples.ROOT.pem)
    path = tmp_path / "c.toml"
    path.write_text(
        '[service]\nsocket = "s"\nstate = "state"\n[trust.partners]\nanchors = ["root.pem"]\npolicy = "mine"\n'
        '[policy.mine]\nbase = "strict"\n'
        + "".join(
            f'[[policy.mine.exception]]\nfingerprint = "{one}"\nuntil = 2099-01-01\nreason = "CA moves"\n'
            for one in (PRINT, ELSEWHERE)
        )
        + '[[rule]]\nname = "in"\ndirection = "server"\ntrust = "partners"\n'
    )
    return path


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def keep(state, *records):
    ledger = EvidenceLedger(state / "evidence")
    for number, (statements, moment) in enumerate(records):
        made = samples.record(*statements)
        evidence = replace(made.verdict.evidence, decided_at=moment)
        made = replace(made, verdict=replace(made.verdict, id=f"{number:032x}", evidence=evidence))
        stored = encode(made)
        ledger.append(
            [EvidenceEntry(id=made.verdict.id, kept_at=moment, document=stored.document, blobs=stored.blobs)]
        )
    ledger.close()


def remember(state, *partners):
    sightings = Sightings(state)
    sightings.write(
        [
            Sighting(name=name, seen=seen.timestamp(), document=document_of(one), chain=pack_chain(chain))
            for name, seen, one, chain in partners
        ],
        (),
    )
    sightings.close()


def partner(subject, name=b"n" * 32, seen=NOW):
    return Partner(
        name=name,
        rule="in",
        trust="partners",
        direction=Direction.SERVER,
        subject=subject,
        serial="01",
        ends=NOW + timedelta(days=30),
        ending=subject,
        seen=seen,
        held=(),
    )


def run(config, *arguments):
    return CliRunner().invoke(main, ["partners", *map(str, arguments), "--config", str(config)])


def told(config, *arguments):
    done = run(config, *arguments, "--json")
    assert 0 == done.exit_code, done.stderr
    return json.loads(done.stdout)


def block(state, what, **more):
    made = Block(what=what, reason="key stolen", by="root (uid 0)", at=NOW, **more)
    BlockFile(state).change(lambda book: book.with_block(made))


def test_before_anybody_came_nobody_is_known_and_exceptions_are_named(config):
    data = told(config, "list")
    assert ([], []) == (data["partners"], data["blocks"])
    assert sorted([ELSEWHERE, PRINT]) == sorted(one["fingerprint"] for one in data["exceptions"])
    done = run(config, "list")
    assert "0 partners; records looked at: none" in done.stdout
    assert "Exceptions of partners that were not seen:" in done.stdout


def test_partners_of_evidence_and_memory_are_listed_with_blocks_and_exceptions(config, state):
    keep(state, (samples.GOOD, NOW - timedelta(hours=3)), (samples.REVOKED, NOW - timedelta(hours=2)))
    other = partner("CN=other")
    remember(state, (b"o" * 32, NOW - timedelta(hours=1), replace(other, name=b"o" * 32), (samples.CA.der,)))
    block(state, "subject:CN=CA")
    block(state, f"fingerprint:{PRINT}", until=NOW - timedelta(days=1))
    data = told(config, "list")
    assert ["CN=other", "CN=partner"] == [one["subject"] for one in data["partners"]]
    ca, leaf = data["partners"]
    assert [("subject:CN=CA", True)] == [(one["what"], one["in_force"]) for one in ca["blocks"]]
    assert [(f"fingerprint:{PRINT}", False)] == [(one["what"], one["in_force"]) for one in leaf["blocks"]]
    assert [("mine", "CA moves", True)] == [
        (one["policy"], one["reason"], one["in_force"]) for one in leaf["exceptions"]
    ]
    assert ("refused", "revoked", 44) == tuple(leaf["last"][key] for key in ("status", "reason", "alert"))
    assert 2 == leaf["verdicts"] == data["records"]["looked_at"]
    done = run(config, "list")
    lines = done.stdout.splitlines()
    assert ["partner", "last", "seen", "verdict", "ends", "fingerprint", "notes"] == lines[0].split()
    assert "accepted" in lines[1]
    assert "blocked: key stolen" in lines[1]
    assert "refused 44 revoked" in lines[2]
    assert f"block ended {NOW - timedelta(days=1):%Y-%m-%d}; exception until 2099-01-02" in lines[2]
    assert "Blocked:" in done.stdout
    assert ["CN=other"] == [one["subject"] for one in told(config, "list", "--blocked")["partners"]]


def test_one_partner_is_shown_by_the_beginning_of_its_fingerprint_or_any_spelling(config, state):
    keep(state, (samples.GOOD, NOW))
    for who in (PRINT[:8], PRINT.upper(), f"sha256 Fingerprint={PRINT}", "cn=PARTNER", "CN=partner"):
        assert PRINT == told(config, "show", who)["fingerprint"]
    done = run(config, "show", PRINT)
    assert "last.verdict" in done.stdout
    for who, why in (("CN=nobody", "no partner that was seen is meant"), ("abcdef", "no partner")):
        done = run(config, "show", who)
        assert (1, True) == (done.exit_code, why in done.stderr)
    remember(state, (b"o" * 32, NOW, partner("CN=partner"), (samples.CA.der,)))
    assert 2 == run(config, "show", "partner").exit_code


def test_key_of_a_partner_that_only_the_evidence_knows_is_compared_and_shown(config, state):
    keep(state, (samples.GOOD, NOW))
    spki = sha256(parse_certificate(samples.LEAF.der).spki).hexdigest()
    assert spki == told(config, "show", "CN=partner")["spki"]
    assert PRINT == told(config, "show", f"spki:{spki}")["fingerprint"]
    block(state, f"spki:{spki}")
    (one,) = told(config, "list", "--blocked")["partners"]
    assert [f"spki:{spki}"] == [each["what"] for each in one["blocks"]]


def test_partner_that_was_refused_by_a_block_of_its_ca_shows_it_until_it_is_lifted(config, state):
    what = "subject:CN=CA"
    state.mkdir(mode=0o700)
    block(state, what)
    asked = replace(samples.record(*samples.GOOD).question, blocks=BlockFile(state).document())
    verdict = conclude(examine(replace(asked, at=NOW)), samples.GOOD, verdict_id="9" * 32)
    made = replace(samples.record(*samples.GOOD), question=asked, verdict=verdict)
    stored = encode(made)
    ledger = EvidenceLedger(state / "evidence")
    ledger.append([EvidenceEntry(id="9" * 32, kept_at=NOW, document=stored.document, blobs=stored.blobs)])
    ledger.close()
    (one,) = told(config, "list")["partners"]
    assert [what] == [each["what"] for each in one["blocks"]]
    BlockFile(state).change(lambda book: book.without(what, by="b", at=NOW, reason="r"))
    (one,) = told(config, "list")["partners"]
    assert [] == one["blocks"]


def test_hostile_names_are_shown_escaped(config, state):
    hostile = "CN=evil\x1b[2J\u202e\nrow"
    remember(state, (b"h" * 32, NOW, partner(hostile), (samples.LEAF.der,)))
    for call in (("list",), ("show", PRINT[:10])):
        done = run(config, *call)
        assert 0 == done.exit_code
        assert all(line.isprintable() for line in done.stdout.splitlines())
        assert r"CN=evil\x1b[2J\u202e\nrow" in done.stdout
    assert hostile == told(config, "show", PRINT[:10])["subject"]


def test_long_names_and_chains_of_many_partners_are_not_kept(config, state):
    """
    Nobody chooses what is in memory: 40 MB of names and chains are on the disk.
    """
    name = "CN=" + "x" * 50_000
    remember(
        state,
        *(
            (number.to_bytes(32), NOW, partner(f"{name}{number}"), (b"%050000d" % number,))
            for number in range(400)
        ),
    )
    settings = load(config, forgive_ended=True)
    tracemalloc.start()
    try:
        seen = overview_of(settings, None)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 400 == len(seen.partners)
    assert kept < 4_000_000
    assert {f"{name[:1024]}…"} == {one["subject"] for one in told(config, "list")["partners"]}


def test_ten_thousand_partners_cost_little_and_a_person_sees_the_newest(config, state):
    """
    In processor time, and with a certificate each that nobody can read.
    """
    remember(
        state,
        *(
            (number.to_bytes(32), NOW - timedelta(seconds=number), partner(f"CN={number}"), (b"%d" % number,))
            for number in range(10_000)
        ),
    )
    block(state, "subject:CN=77")
    begun = time.process_time()
    data = told(config, "list")
    spent = time.process_time() - begun
    assert 10_000 == len(data["partners"])
    assert ["CN=77"] == [one["subject"] for one in data["partners"] if one["blocks"]]
    assert spent < 30
    shown = run(config, "list", "--limit", 5).stdout.splitlines()
    assert ["CN=0", "CN=4"] == [shown[1].split()[0], shown[5].split()[0]]
    assert "and 9995 more: --limit 0 shows all" == shown[6]


def test_record_that_cannot_be_read_is_named_and_the_others_are_listed(config, state):
    keep(state, (samples.GOOD, NOW))
    ledger = EvidenceLedger(state / "evidence")
    ledger.append([EvidenceEntry(id="f" * 32, kept_at=NOW, document=b"{}", blobs={})])
    ledger.close()
    done = run(config, "list", "--json")
    assert 0 == done.exit_code
    assert 1 == len(json.loads(done.stdout)["partners"])
    assert "see cftpki audit verify" in done.stderr


def test_damaged_memory_or_list_is_an_error(config, state):
    keep(state, (samples.GOOD, NOW))
    (state / "partners.db").write_bytes(b"garbage" * 200)
    assert (1, True) == (
        (done := run(config, "list")).exit_code,
        "partners.db cannot be read" in done.stderr,
    )
    (state / "partners.db").unlink()
    block(state, "CN=a")
    (state / "blocked.json").write_bytes(b"{}")
    assert (1, True) == ((done := run(config, "list")).exit_code, "who is blocked" in done.stderr)
