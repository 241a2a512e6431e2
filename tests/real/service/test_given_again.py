"""
A known partner is answered without a judge: with evidence of its own, and not a moment longer than it may be.

The real service; statuses come from `openssl ocsp` and nginx.
"""

import asyncio
import contextlib
import json
import signal
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cftpki_cache.revocations import RevocationMemory
from cftpki_ext.cli import main
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.protocol.codec import Message, Mode, Result, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from cftpki_ext.revocation.cache_key import certificate_key
from tests.support import partners, real_service
from tests.support.pki import Revoked, make_crl
from tests.support.wall_clock import until
from tests.support.wire_client import WireClient

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("given-again")]


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    with partners.company(tmp_path_factory.mktemp("ga")) as made:
        yield made


@contextlib.contextmanager
def serving(company, name, *, limits=""):
    config = company.configure(name)
    config.write_text(config.read_text() + f"\n[limits]\n{limits}\n")
    with real_service.running(config) as service:
        yield config, service
        assert [] == service.failures()


def chain(company, partner):
    found = x509.load_pem_x509_certificates(company.path(f"{partner}.pem").read_bytes())
    return encode_chain(tuple(one.public_bytes(Encoding.DER) for one in found))


async def check(service, message, **fields):
    async with WireClient(service.socket) as client:
        return await client.ask(
            Message.CHECK, **{"MODE": int(Mode.SERVER), "PROFILE": "RSA", "CHAIN": message, **fields}
        )


def leaf(company, partner):
    return x509.load_pem_x509_certificates(company.path(f"{partner}.pem").read_bytes())[0]


def remember(memory, issuing, serial):
    """
    A list of the CA that revokes a certificate, as another process got it.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    key = certificate_key(
        SourceKind.CRL,
        issuer_name=issuing.certificate.subject.public_bytes(),
        issuer_spki=issuing.certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        ),
        serial=serial,
        url="",
    )
    raw = make_crl(issuing, [Revoked(serial, at=now)], this_update=now, next_update=now + timedelta(days=1))
    memory.remember(key, Statement(kind=SourceKind.CRL, origin=Origin.NETWORK, received_at=now, raw=raw))


async def status(service):
    async with WireClient(service.socket) as client:
        answer = await client.ask(Message.STATUS)
    return json.loads(answer.fields[Tag.JSON])


async def judging(service):
    return (await status(service))["judging"]


def told(*arguments):
    done = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert done.stdout, (arguments, done.stderr)
    return done.exit_code, json.loads(done.stdout)


async def given_again(service, message, times=3, **fields):
    """
    Ask some times; the ids of the verdicts, and how many of them no judge gave.
    """
    before = (await judging(service))["given_again"]
    answers = [await check(service, message, **fields) for _ in range(times)]
    assert [Result.DONE] * times == [answer.fields[Tag.RESULT] for answer in answers]
    return [one.fields[Tag.VERDICT_ID] for one in answers], (await judging(service))["given_again"] - before


async def test_partner_that_comes_again_is_given_its_verdict_with_a_record_of_its_own(company):
    with serving(company, "again") as (config, service):
        ids, again = await given_again(service, chain(company, "good"), 6, REMOTE_ADDRESS="192.0.2.7")
        assert (6, 4) == (len(set(ids)), again)
        measures = (await status(service))["measures"]
        assert {"network": 1, "cache": 1, "standing": 4} == {
            row[3]: row[4] for row in measures["verdicts"] if row[1] == "accepted"
        }
        assert 4 == sum(measures["verdict_seconds"]["standing"]["counts"])
        records = {line["verdict_id"]: line["record"] for line in service.verdicts()}
        for number, verdict_id in enumerate(ids):
            code, explained = told("explain", verdict_id, "--replay", "--config", config)
            assert (0, True) == (code, explained["replay"]["agrees"])
            assert records[verdict_id] == explained["record"]["hash"]
            assert verdict_id == explained["verdict"]["id"]
            assert "192.0.2.7" == explained["asked"]["remote"]
            assert explained["verdict"]["evidence"]["decided_at"] == explained["question"]["at"], number
        _, rows = told("audit", "list", "--config", config)
        assert ids == [row["id"] for row in rows]
        assert [("accepted", rows[0]["partner"])] * 6 == [(row["status"], row["partner"]) for row in rows]
        code, verified = told("audit", "verify", "--config", config)
        assert (0, 6, []) == (code, verified["records"], verified["faults"])
        code, replayed = told("replay", "--recorded", "--config", config)
        assert (0, 6, []) == (code, replayed["replayed"], replayed["differing"])


async def test_raw_files_of_a_verdict_that_was_given_again_are_those_of_the_one_it_repeats(company, tmp_path):
    with serving(company, "raw") as (config, service):
        ids, again = await given_again(service, chain(company, "good"))
        assert 1 == again
        raw = tmp_path / "raw"
        done = CliRunner().invoke(main, ["explain", ids[2], "--raw", str(raw), "--config", str(config)])
        assert 0 == done.exit_code
        whole = json.loads((raw / "repeated.json").read_bytes())
        assert ids[1] == whole["verdict"]["id"]
        assert ids[2] == json.loads((raw / "record.json").read_bytes())["id"]
        assert {"chain-0.der", "anchor-0.der"} <= {one.name for one in raw.iterdir()}


async def test_partner_that_is_refused_is_judged_each_time(company):
    with serving(company, "refused") as (_, service):
        answers = [await check(service, chain(company, "revoked")) for _ in range(4)]
        assert [44] * 4 == [answer.fields[Tag.ALERT] for answer in answers]
        assert {"given_again": 0, "standing": 0}.items() <= (await judging(service)).items()


async def test_another_rule_or_another_chain_is_judged_by_itself(company):
    with serving(company, "other") as (_, service):
        good = chain(company, "good")
        await given_again(service, good)
        _, again = await given_again(service, good, 1, PROFILE="EC")
        assert 0 == again
        answer = await check(service, chain(company, "outside"))
        assert Result.REFUSED == answer.fields[Tag.RESULT]
        _, again = await given_again(service, good, 1)
        assert 1 == again


async def test_proof_of_a_revocation_that_another_process_keeps_ends_it_at_once(company):
    with serving(company, "proof") as (config, service):
        good = chain(company, "good")
        _, again = await given_again(service, good)
        assert 1 == again
        issuing = company.issuing
        with contextlib.closing(RevocationMemory(config.with_suffix(".state"))) as memory:
            remember(memory, issuing, leaf(company, "good-ec").serial_number)
            _, again = await given_again(service, good, 2)
            assert 2 == again  # of somebody else
            remember(memory, issuing, leaf(company, "good").serial_number)
        answer = await check(service, good)
        assert (44, "revoked") == (answer.fields[Tag.ALERT], answer.fields[Tag.REASON])


async def test_flush_by_a_command_reaches_the_service_that_runs(company):
    with serving(company, "flush") as (config, service):
        good = chain(company, "good")
        _, again = await given_again(service, good)
        assert 1 == again
        done = CliRunner().invoke(main, ["cache", "flush", "--config", str(config)])
        assert 0 == done.exit_code, done.output
        assert "the service has forgotten them, and judges every partner anew" in done.stdout
        assert 1 == (await judging(service))["flushes"] == len(service.events("cache_flushed"))
        assert 0 == (await judging(service))["standing"]
        asked = len(service.verdicts())
        await check(service, good)
        # Nothing was at hand: its sources were asked.
        assert "network" in service.verdicts()[asked]["source"]


async def test_reload_ends_it(company):
    with serving(company, "reload") as (config, service):
        good = chain(company, "good")
        _, again = await given_again(service, good)
        assert 1 == again
        config.write_text(
            config.read_text().replace(
                'profile = "RSA"\ntrust = "partners"\n',
                'profile = "RSA"\ntrust = "partners"\npartners = { subjects = ["CN=somebody else"] }\n',
            )
        )
        service.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(until, lambda: service.events("reloaded"))
        answer = await check(service, good)
        assert "not_allowed" == answer.fields[Tag.REASON]


async def test_it_ends_when_its_source_would_be_asked_again(company):
    with serving(company, "short", limits='ocsp_refresh = "4s"\ncrl_refresh = "4s"') as (_, service):
        good = chain(company, "good")
        _, again = await given_again(service, good)
        assert 1 == again
        await asyncio.sleep(4)
        _, again = await given_again(service, good, 1)
        assert 0 == again
