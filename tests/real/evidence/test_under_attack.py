"""
The evidence of a real service under attack: flooded by strangers, put back to an older copy, emptied, with a full disk.
"""

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import time

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_ext.cli import main
from cftpki_ext.evidence.sameness import KEPT
from cftpki_ext.protocol.codec import Message, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from tests.support import partners, real_service
from tests.support.wire_client import WireClient

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("evidence")]


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    with partners.company(tmp_path_factory.mktemp("ua")) as made:
        yield made


def message(company, partner):
    found = x509.load_pem_x509_certificates(company.path(f"{partner}.pem").read_bytes())
    return encode_chain(tuple(certificate.public_bytes(Encoding.DER) for certificate in found))


def configure(company, name, evidence=""):
    path = company.configure(name)
    path.write_text(path.read_text() + f"\n[evidence]\n{evidence}\n")
    return path, company.path(f"{name}.state")


def ask(service, *messages):
    """
    A session for each; the reasons for which they were refused.
    """

    async def one(number, raw):
        async with WireClient(service.socket) as client:
            await client.start(PROFILE="RSA", HOST_SESSION=number, REMOTE_PORT=1024 + number)
            return await client.ask(Message.CHECK_CERTIFICATE, CHAIN=raw)

    async def every():
        return [(await one(number, raw)).fields.get(Tag.REASON) for number, raw in enumerate(messages)]

    return asyncio.run(asyncio.wait_for(every(), 240))


def wait_for(service, event, count=1):
    """
    The lines of an event, once the log of all starts has so many.
    """
    end = time.monotonic() + 60
    while len(found := service.events(event)) < count:
        assert time.monotonic() < end, service.log.read_text()
        time.sleep(0.05)
    return found


def told(*arguments):
    done = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert done.stdout, (arguments, done.output)
    return done.exit_code, json.loads(done.stdout)


def test_flood_of_strangers_pushes_out_no_partner_and_fills_neither_disk_nor_log(company):
    config, state = configure(company, "flood", 'max_size = "1MiB"')
    good, revoked = message(company, "by-crl"), message(company, "revoked-by-crl")
    with real_service.running(config) as service:
        assert [None, "revoked"] == ask(service, good, revoked)
        # Each another one, none of them a chain; six times what they may take.
        junk = [os.urandom(20_000) for _ in range(40)]
        assert {"undecodable"} == set(ask(service, *junk))
        assert ["undecodable"] * 150 == ask(service, *[junk[0]] * 150)
        evidence = told("status", "--config", config)[1]["evidence"]
    assert (151 - KEPT, 0) == (evidence["counted"], evidence["not_kept"])
    assert sum(path.stat().st_size for path in (state / "evidence").rglob("*")) < 4 * 1024 * 1024
    code, rows = told("audit", "list", "--config", config)
    assert (0, {"CN=by-crl", "CN=revoked-by-crl"}) == (
        code,
        {row["partner"] for row in rows if row["serial"]},
    )
    code, report = told("audit", "verify", "--config", config)
    assert (0, [], 0) == (code, report["faults"], report["let_go_early"]["partners"])
    assert report["let_go_early"]["strangers"] > 0
    (note,) = report["notes"]
    assert f"{evidence['counted']} more refusals (undecodable)" in note


def rolled_back(state, old):
    shutil.rmtree(state / "evidence")
    shutil.copytree(old, state / "evidence")


def cut(state, _):
    with contextlib.closing(sqlite3.connect(state / "evidence" / "ledger.sqlite3")) as database, database:
        (last,) = database.execute("SELECT max(seq) FROM record").fetchone()
        database.execute("DELETE FROM record WHERE seq = ?", (last,))


def deleted(state, _):
    shutil.rmtree(state / "evidence")


@pytest.mark.parametrize("attack", [rolled_back, cut, deleted])
def test_ledger_that_was_attacked_is_told_at_each_start_and_for_ever(company, tmp_path, attack):
    config, state = configure(company, f"attacked-{attack.__name__}")
    good, revoked = message(company, "by-crl"), message(company, "revoked-by-crl")
    with real_service.running(config) as service:
        ask(service, good)
    shutil.copytree(state / "evidence", tmp_path / "old")
    with real_service.running(config) as service:
        ask(service, revoked, good)
    assert 0 == told("audit", "verify", "--config", config)[0]
    attack(state, tmp_path / "old")
    for start in (1, 2):
        with real_service.running(config) as service:
            ask(service, good)
            line = wait_for(service, "evidence_broken", start)[-1]
            _, status = told("status", "--config", config)
            assert ("error", 1) == (line["level"], status["evidence"]["breaks"])
            assert line["detail"] in status["evidence"]["warning"]
    code, report = told("audit", "verify", "--config", config)
    assert (1, [line["detail"]]) == (code, [fault["detail"] for fault in report["faults"]])


def test_revocations_that_are_emptied_while_the_service_runs_are_put_back(company):
    config, state = configure(company, "emptied")
    with real_service.running(config) as service:
        assert ["revoked"] == ask(service, message(company, "revoked-by-crl"))
        memory = sqlite3.connect(state / "revocations.sqlite3")
        with contextlib.closing(memory), memory:
            assert [(1,)] == memory.execute("SELECT count(*) FROM proof").fetchall()
            memory.execute("DELETE FROM proof")
        (gone,) = wait_for(service, "revocations_gone")
        (back,) = wait_for(service, "revocations_restored")
        assert (1, 1) == (gone["certificates"], back["restored"])
    assert 0 == told("audit", "verify", "--config", config)[0]


def test_emptied_memory_and_index_are_told_by_verify_and_restored_by_the_next_start(company):
    config, state = configure(company, "forgotten")
    with real_service.running(config) as service:
        assert ["revoked"] == ask(service, message(company, "revoked-by-crl"))
    for name, sql in (
        ("evidence/ledger.sqlite3", "DELETE FROM revoked"),
        ("revocations.sqlite3", "DELETE FROM proof"),
    ):
        with contextlib.closing(sqlite3.connect(state / name)) as database, database:
            database.execute(sql)
    code, report = told("audit", "verify", "--config", config)
    assert (1, 2) == (code, len(report["faults"]))
    with real_service.running(config) as service:
        assert 1 == len(wait_for(service, "revocation_index_restored"))
        assert 1 == len(wait_for(service, "revocations_restored"))
    assert 0 == told("audit", "verify", "--config", config)[0]
