"""
The evidence of real verdicts: kept before they are answered, replayed to the same, whole after a kill.

The real service over a real ledger; the partners' statuses come from `openssl ocsp` and nginx.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

import asyncio
import contextlib
import json
import random
import resource
import shutil
import sqlite3

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_ext.api import check_certificate
from cftpki_ext.cli import main
from cftpki_ext.core.errors import StoreError
from cftpki_ext.protocol.codec import Message, Result, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from tests.support import forked, hostsim, partners, real_service
from tests.support.wire_client import WireClient

# One company for the file.
pytestmark = [pytest.mark.real, pytest.mark.xdist_group("evidence")]

LIBRARY = hostsim.BUILD / "libcftpkie.so"
AT_ONCE = 24
# partner, or the bytes that it sends → the reason, `None` where it is let in.
REASONS = {
    "good": None,
    "good-ec": None,
    "by-crl": None,
    "revoked": "revoked",
    "revoked-by-crl": "revoked",
    "below-withdrawn": "revoked",
    "held": "on_hold",
    "expired": "expired",
    "early": "not_yet_valid",
    "no-eku": "extended_key_usage",
    "outside": "name_constraints",
    "unheard": "status_not_established",
    "not-known": "status_not_established",
    "stranger": "no_path",
    "large": "undecodable",
}
MESSAGES = {b"\0\0\0": "no_certificate", b"GET / HTTP/1.1\r\n\r\n": "undecodable", b"": "undecodable"}


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    with partners.company(tmp_path_factory.mktemp("ev")) as made:
        yield made


def ders(company, partner):
    found = x509.load_pem_x509_certificates(company.path(f"{partner}.pem").read_bytes())
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in found)


def configure(company, name, *, evidence="", policy="strict"):
    path = company.configure(name)
    text = path.read_text().replace("[trust.partners]\n", f'[trust.partners]\npolicy = "{policy}"\n')
    path.write_text(text + f"\n[evidence]\n{evidence}\n")
    return path


def cftpki(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def told(*arguments):
    done = cftpki(*arguments, "--json")
    assert done.stdout, (arguments, done.stderr)
    return done.exit_code, json.loads(done.stdout)


async def handshake(service, message, number, *, profile="RSA"):
    """
    One session through the socket; the answer to CheckCertificate.
    """
    async with WireClient(service.socket) as client:
        await client.start(PROFILE=profile, HOST_SESSION=number, REMOTE_PORT=1024 + number)
        answer = await client.ask(Message.CHECK_CERTIFICATE, CHAIN=message)
        if answer.fields[Tag.RESULT] == Result.DONE:
            await client.ask(Message.HANDSHAKE_DONE)
        else:
            await client.ask(Message.HANDSHAKE_ALERT, ALERT=answer.fields[Tag.ALERT], ALERT_SIDE=1)
        return answer


async def handshakes(service, messages, **options):
    """
    Many sessions, `AT_ONCE` at a time; the answers in the order of the messages.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number, message):
        async with gate:
            return await handshake(service, message, number)

    return await asyncio.gather(*(one(number, message) for number, message in enumerate(messages)), **options)


@pytest.fixture(scope="module")
def mixed(company):
    """
    500 handshakes of every kind of partner; the service still runs. (configuration, service, answers by id)
    """
    kinds = {encode_chain(ders(company, partner)): reason for partner, reason in REASONS.items()} | MESSAGES
    messages = [list(kinds)[number % len(kinds)] for number in range(500)]
    random.Random(4).shuffle(messages)  # noqa: S311 - an order, no secret
    config = configure(company, "mixed")
    with real_service.running(config) as service:
        answers = asyncio.run(asyncio.wait_for(handshakes(service, messages), 240))
        expected = [kinds[message] for message in messages]
        assert expected == [answer.fields.get(Tag.REASON) for answer in answers]
        yield config, service, {answer.fields[Tag.VERDICT_ID]: answer for answer in answers}
        assert [] == service.failures()


def test_every_verdict_has_an_id_a_log_line_and_a_record_with_the_same_hash(mixed):
    config, service, answers = mixed
    logged = {line["verdict_id"]: line["record"] for line in service.verdicts()}
    assert 500 == len(answers)
    assert set(answers) == set(logged)
    code, rows = told("audit", "list", "--since", "1d", "--config", config)
    assert (0, set(answers)) == (code, {row["id"] for row in rows})
    for verdict_id in list(answers)[:20]:
        _, explained = told("explain", verdict_id, "--config", config)
        assert logged[verdict_id] == explained["record"]["hash"]


def test_replay_of_every_verdict_agrees(mixed):
    config, _, _ = mixed
    code, report = told("replay", "--since", "7d", "--recorded", "--config", config)
    assert (0, 500, [], [], []) == (
        code,
        report["replayed"],
        report["differing"],
        report["unreadable"],
        report["skipped"],
    )


def test_replay_under_the_same_configuration_agrees(mixed):
    """
    The rules are found anew by what is recorded of each session.
    """
    config, _, _ = mixed
    code, report = told("replay", "--config", config)
    assert (0, 500, []) == (code, report["replayed"], report["differing"])


def test_replay_under_a_policy_that_audits_lists_each_change(company, mixed):
    _, _, answers = mixed
    new = configure(company, "new", policy="audit")
    code, report = told("replay", "--since", "7d", "--config", new, "--state", company.path("mixed.state"))
    refused = {
        name
        for name, answer in answers.items()
        if answer.fields.get(Tag.REASON) not in {None, "undecodable", "no_certificate"}
    }
    assert 1 == code
    assert refused == {entry["id"] for entry in report["differing"]}
    changes = {(d["what"], d["recorded"], d["now"]) for e in report["differing"] for d in e["differences"]}
    assert ("status", "refused", "accepted") in changes
    assert ("reason", "revoked", "-") in changes
    human = cftpki("replay", "--config", new, "--state", company.path("mixed.state"))
    assert f"500 decided again, {len(refused)} differ" in human.stdout


def test_replay_under_a_configuration_without_their_rule_says_no_rule(company, mixed):
    config, _, _ = mixed
    new = company.path("norule.toml")
    new.write_text(config.read_text().replace('profile = "RSA"', 'profile = "OTHER"'))
    code, report = told("replay", "--config", new)
    assert (1, 500) == (code, len(report["differing"]))
    assert {"no_rule"} == {
        d["now"] for e in report["differing"] for d in e["differences"] if d["what"] == "reason"
    }


def test_audit_verify_is_whole_while_the_service_runs(mixed):
    config, _, _ = mixed
    code, report = told("audit", "verify", "--config", config)
    assert (0, True, 500, []) == (code, report["whole"], report["records"], report["faults"])


@pytest.mark.parametrize("reason", sorted({*filter(None, REASONS.values()), *MESSAGES.values()}))
def test_explain_tells_each_reason_with_its_bytes_and_agrees(mixed, tmp_path, reason):
    config, _, answers = mixed
    verdict_id = next(i for i, answer in answers.items() if answer.fields.get(Tag.REASON) == reason)
    human = cftpki("explain", verdict_id, "--replay", "--raw", tmp_path / "raw", "--config", config)
    alert = answers[verdict_id].fields[Tag.ALERT]
    assert 0 == human.exit_code
    assert human.stdout.startswith(f"REFUSED  {alert} ")
    assert "decided again from the stored bytes: the same" in human.stdout
    code, explained = told("explain", verdict_id[:20], "--replay", "--config", config)
    assert (0, reason, True) == (code, explained["verdict"]["reason"], explained["replay"]["agrees"])
    assert "exit" == explained["asked"]["door"]
    for finding in explained["verdict"]["evidence"]["hops"]:
        for source in finding["sources"]:
            if source["digest"]:
                assert source["digest"] in human.stdout
                assert list((tmp_path / "raw").glob(f"statement-*{source['digest'][:8]}*"))
    names = {path.name for path in (tmp_path / "raw").iterdir()}
    assert {"record.json", "anchor-0.der"} <= names
    assert ("message.bin" in names) == (reason == "undecodable")


def test_explain_of_an_accepted_partner_names_source_responder_and_times(mixed):
    config, _, _ = mixed
    _, rows = told("audit", "list", "--partner", "CN=good", "--config", config)
    text = cftpki("explain", rows[0]["id"], "--config", config).stdout
    assert text.startswith("ACCEPTED\n")
    for words in ("ocsp, ", "http://127.0.0.1:", "signed by CN=Company OCSP", "this update 2", "profile RSA"):
        assert words in text


@pytest.mark.parametrize("wrong", ["zz", "0123456789abcdef0123456789abcdef", "00" * 64, "12345", ""])
def test_explain_of_no_verdict_is_one_line(mixed, wrong):
    config, _, _ = mixed
    done = cftpki("explain", wrong, "--config", config)
    assert done.exit_code in {1, 2}
    assert ("", 1) == (done.stdout, len(done.stderr.splitlines()))


def test_audit_list_finds_the_refusals_of_one_partner(mixed):
    config, _, answers = mixed
    code, rows = told(
        "audit", "list", "--refused", "--reason", "revoked", "--partner", "below-w", "--config", config
    )
    expected = sum(REASONS["below-withdrawn"] == a.fields.get(Tag.REASON) for a in answers.values()) / 3
    assert (0, {"CN=below-withdrawn"}) == (code, {row["partner"] for row in rows})
    assert abs(len(rows) - expected) < 2
    assert [] == told("audit", "list", "--until", "1d", "--since", "2d", "--config", config)[1]


def test_status_counts_what_was_answered_and_what_is_recorded(mixed):
    config, _, answers = mixed
    _, status = told("status", "--config", config)
    refused: dict[str, int] = {}
    for answer in answers.values():
        if (reason := answer.fields.get(Tag.REASON)) is not None:
            refused[reason] = refused.get(reason, 0) + 1
    assert 500 - sum(refused.values()) == status["verdicts"]["accepted"] == status["recorded"]["accepted"]
    assert refused == status["verdicts"]["refused"] == status["recorded"]["refused"]
    assert {"kept": 500, "not_kept": 0, "required": False}.items() <= status["evidence"].items()


def test_one_touched_record_is_noticed(company, mixed):
    state = company.path("touched.state")
    shutil.copytree(company.path("mixed.state"), state)
    with contextlib.closing(sqlite3.connect(state / "evidence" / "ledger.sqlite3")) as database:
        # Repeats have a table of their own: the record in the middle may be one.
        ((touched,),) = database.execute("SELECT seq FROM record ORDER BY abs(seq - 250) LIMIT 1")
        database.execute(
            "UPDATE record SET document = CAST(document || ' ' AS BLOB) WHERE seq = ?", (touched,)
        )
        database.commit()
    code, report = told("audit", "verify", "--state", state)
    assert (1, False, [touched]) == (code, report["whole"], [fault["seq"] for fault in report["faults"]])


# The id's way to the host


@pytest.mark.parametrize(("partner", "alert"), [("good", 0), ("revoked", 44)])
def test_simulator_traces_the_verdict_id_that_explain_takes(company, mixed, tmp_path, partner, alert):
    config, service, _ = mixed
    expect = ("--expect", str(alert)) if alert else ()
    with hostsim.server(
        *("--lib", LIBRARY, "--client-auth", "--send-data", "--profile", "RSA", *expect),
        trace=tmp_path / "trace",
        env=service.environment,
    ) as simulator:
        hostsim.s_client(simulator.port, "-tls1_3", *company.s_client(partner))
        run = simulator.finish()
    assert 0 == run.status
    (checked,), (session,) = run.all("CheckCertificate"), run.sessions
    assert service.verdicts()[-1]["verdict_id"] == checked["verdict_id"] == session["verdict_id"]
    code, explained = told("explain", session["global"], "--config", config)
    assert (0, alert) == (code, explained["verdict"]["alert"])


# What is refused before a chain was read, and other doors


def test_check_of_no_chain_has_a_verdict_and_a_record(company):
    config = configure(company, "doors")
    with real_service.running(config) as service:

        async def ask(**fields):
            async with WireClient(service.socket) as client:
                return await client.ask(Message.CHECK, MODE=1, **fields)

        answer = asyncio.run(ask(CHAIN=b"\0\0\1", PROFILE="RSA"))
        assert ("undecodable", 50) == (answer.fields[Tag.REASON], answer.fields[Tag.ALERT])
        code, explained = told("explain", answer.fields[Tag.VERDICT_ID], "--replay", "--config", config)
        assert (0, "socket", {"$hex": "000001"}) == (
            code,
            explained["asked"]["door"],
            explained["question"]["message"],
        )
        nobody = asyncio.run(ask(CHAIN=b"\0\0\0", PROFILE="NOBODY"))
        assert ("no_rule", 80) == (nobody.fields[Tag.REASON], nobody.fields[Tag.ALERT])
        assert ["no_rule"] == [line["reason"] for line in service.events("check_refused")]
        assert {"undecodable": 1, "no_rule": 1} == told("status", "--config", config)[1]["verdicts"][
            "refused"
        ]


def test_other_doors_record_with_a_configuration_beside_a_running_service(company):
    config = configure(company, "beside")
    chain = ders(company, "by-crl")
    options = ("--config", config, "--profile", "RSA", "--no-fetch")
    with real_service.running(config) as service:

        async def both():
            session = handshakes(service, [encode_chain(chain)] * 40)
            program = asyncio.to_thread(
                lambda: [
                    forked.run(
                        ["check", company.path("revoked.pem"), *options],
                        capture_output=True,
                        check=False,
                        timeout=60,
                    ).returncode
                    for _ in range(4)
                ]
            )
            return await asyncio.gather(session, program)

        _, statuses = asyncio.run(both())
    assert {44} >= set(statuses) or {46} >= set(statuses)
    code, rows = told("audit", "list", "--config", config)
    assert {"exit": 40, "cli": 4} == {door: sum(r["door"] == door for r in rows) for door in ("exit", "cli")}
    assert (0, True) == (code, told("audit", "verify", "--config", config)[1]["whole"])


def test_python_door_records_with_a_configuration_only(company, tmp_path):
    config = configure(company, "python")
    text = config.read_text()
    config.write_text(text[: text.index("[[rule]]")] + '[[rule]]\ndirection = "server"\ntrust = "partners"\n')
    verdict = check_certificate(ders(company, "good"), config=config, direction="server")
    assert verdict.accepted
    assert "python" == told("explain", verdict.id, "--replay", "--config", config)[1]["asked"]["door"]
    check_certificate(ders(company, "good"), trust=[company.path("root.pem").read_bytes()], fetch=False)
    assert 1 == told("audit", "verify", "--config", config)[1]["records"]


@pytest.mark.parametrize("required", [False, True])
def test_python_door_without_a_ledger_says_so_or_refuses(company, required):
    config = configure(company, f"broken-{required}", evidence=f"required = {str(required).lower()}")
    text = config.read_text()
    rule = '[[rule]]\ndirection = "server"\ntrust = "partners"\n'
    config.write_text(text[: text.index("[[rule]]")] + rule + text[text.index("[evidence]") :])
    state = company.path(f"broken-{required}.state")
    (state / "evidence").mkdir(parents=True)
    (state / "evidence" / "ledger.sqlite3").write_bytes(b"no database " * 400)
    if required:
        with pytest.raises(StoreError, match="not a database"):
            check_certificate(ders(company, "good"), config=config, direction="server")
    else:
        verdict = check_certificate(ders(company, "good"), config=config, direction="server")
        assert verdict.accepted
        assert verdict.warnings[-1].startswith("without record: ")


# Trouble


def test_killed_service_has_every_record_that_it_reported(company):
    config = configure(company, "killed")
    messages = [encode_chain(ders(company, name)) for name in ("by-crl", "revoked-by-crl", "stranger")] * 100
    with real_service.running(config) as service:

        async def until_killed():
            running = asyncio.ensure_future(handshakes(service, messages, return_exceptions=True))
            while len(service.verdicts()) < 60:  # noqa: ASYNC110 - the log has no event to wait for
                await asyncio.sleep(0.01)
            service.kill()
            return await running

        answers = asyncio.run(asyncio.wait_for(until_killed(), 120))
        answered = {a.fields[Tag.VERDICT_ID] for a in answers if not isinstance(a, BaseException)}
        reported = {line["verdict_id"]: line["record"] for line in service.verdicts()}
        assert len(reported) < len(messages)
        assert answered <= set(reported)
        assert 0 == told("audit", "verify", "--config", config)[0]
        service.start()
        asyncio.run(handshake(service, messages[0], 999))
        _, rows = told("audit", "list", "--config", config)
        assert set(reported) <= {row["id"] for row in rows}
        for verdict_id in list(reported)[-10:]:
            assert (
                reported[verdict_id] == told("explain", verdict_id, "--config", config)[1]["record"]["hash"]
            )
        assert 0 == told("audit", "verify", "--config", config)[0]
        assert 0 == told("replay", "--recorded", "--config", config)[0]


@pytest.mark.parametrize("required", [False, True])
def test_full_disk_is_loud_and_accepts_nobody_without_evidence_where_it_is_required(company, required):
    config = configure(company, f"full-{required}", evidence=f"required = {str(required).lower()}")
    good, revoked = (encode_chain(ders(company, name)) for name in ("by-crl", "revoked-by-crl"))
    with real_service.running(config) as service:
        asyncio.run(handshakes(service, [good, revoked] * 10))
        wal = company.path(f"full-{required}.state") / "evidence" / "ledger.sqlite3-wal"
        limit = wal.stat().st_size
        assert limit > 2 * service.log.stat().st_size
        resource.prlimit(service.child("evidence"), resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        answers = asyncio.run(handshakes(service, [good, revoked]))
        assert (80 if required else None, 44) == tuple(a.fields.get(Tag.ALERT) for a in answers)
        lost = service.events("evidence_not_kept")
        assert 2 == len(lost)
        assert {required} == {line["required"] for line in lost}
        assert {None} == {line["record"] for line in service.verdicts()[-2:]}
        _, status = told("status", "--config", config)
        assert {"kept": 20, "not_kept": 2, "required": required}.items() <= status["evidence"].items()
        resource.prlimit(service.child("evidence"), resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        again = asyncio.run(handshake(service, good, 30))
        assert Result.DONE == again.fields[Tag.RESULT]
    code, report = told("audit", "verify", "--config", config)
    assert (0, 21) == (code, report["records"])
    (note,) = report["notes"]
    assert note.startswith("2 verdicts from 20")
    assert "were not kept (1 accepted, 1 refused): " in note


@pytest.mark.parametrize("required", [False, True])
def test_unusable_ledger_at_start_stops_the_service_only_where_evidence_is_required(company, required):
    config = configure(company, f"start-{required}", evidence=f"required = {str(required).lower()}")
    folder = company.path(f"start-{required}.state") / "evidence"
    folder.mkdir(parents=True)
    (folder / "ledger.sqlite3").write_bytes(b"no database " * 400)
    if required:
        done = forked.run(
            ["serve", "--config", config],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        starting, refused = done.stderr.splitlines()
        assert (1, "starting") == (done.returncode, json.loads(starting)["event"])
        assert "not a database" in refused
        return
    with real_service.running(config) as service:
        answer = asyncio.run(handshake(service, encode_chain(ders(company, "by-crl")), 1))
        assert Result.DONE == answer.fields[Tag.RESULT]
        assert service.events("evidence_unavailable")
        assert service.events("evidence_not_kept")


def test_policy_that_audits_tells_who_would_be_refused(company):
    config = configure(company, "shadow", policy="audit")
    names = ["revoked-by-crl", "by-crl", "revoked-by-crl", "no-eku", "stranger"]
    with real_service.running(config) as service:
        answers = asyncio.run(handshakes(service, [encode_chain(ders(company, name)) for name in names]))
        assert {Result.DONE} == {answer.fields[Tag.RESULT] for answer in answers}
        last = max(answers[n].fields[Tag.VERDICT_ID] for n in (0, 2))
        _, status = told("status", "--config", config)
        human = cftpki("status", "--config", config).stdout
    assert {"revoked": 2, "extended_key_usage": 1, "no_path": 1} == status["verdicts"]["would_be_refused"]
    found = {
        (s["partner"], s["reason"]): (s["times"], s["last_id"])
        for s in status["recorded"]["would_be_refused_partners"]
    }
    assert {
        ("CN=revoked-by-crl", "revoked"),
        ("CN=no-eku", "extended_key_usage"),
        ("CN=stranger", "no_path"),
    } == set(found)
    assert (2, last) == found["CN=revoked-by-crl", "revoked"]
    assert "Accepted only because their policy audits" in human
    assert last in human
    _, rows = told("audit", "list", "--refused", "--config", config)
    assert ["extended_key_usage", "no_path", "revoked", "revoked"] == sorted(
        row["would_refuse"] for row in rows
    )
