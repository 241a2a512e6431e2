"""
The processes of the service, ended and stopped at random moments under load: nobody is let in by it, nothing that was
answered is lost, and another process answers within a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_ext.cli import main
from cftpki_ext.protocol.codec import Message, Mode, Result, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from tests.support import partners, real_service
from tests.support.wire_client import WireClient

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("killed")]

# partner → the alert of its refusal, `None` where it is let in
PARTNERS = {"good": None, "by-crl": None, "revoked-by-crl": 44, "expired": 45, "stranger": 48}
AT_ONCE = 8
DIGEST = hashes.Hash(hashes.SHA256()).finalize()
# Each process that there is, by its role; the front is begun again as its supervisor would do.
KILLED = ("judge", "evidence", "signer rsa", "renewals", "nursery", "front", "evidence", "judge")
# What an enroller keeps, so that there is a process that does; its certificate is one that lies there.
KEPT = """
[identity.own]
enrollers = ["drop"]
names = ["localhost"]
trust = "partners"

[enroller.drop]
type = "file"
chain = "host-rsa.pem"
key = "host-rsa.key"

[evidence]
required = true
"""


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    with partners.company(tmp_path_factory.mktemp("killed")) as made:
        yield made


def message(company, partner):
    found = x509.load_pem_x509_certificates(company.path(f"{partner}.pem").read_bytes())
    return encode_chain([certificate.public_bytes(Encoding.DER) for certificate in found])


def told(*arguments):
    done = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    return done.exit_code, json.loads(done.stdout)


def processes(service):
    """
    Every process of the service but the front: role → ids.
    """
    found = {}
    for line in service.events("process_started"):
        found.setdefault(line["role"], set()).add(line["pid"])
    running = {role: {pid for pid in ids if real_service.runs(pid)} for role, ids in found.items()}
    children = {pid for ids in running.values() for pid in ids}
    parents = {int(state[1]) for pid in children if (state := real_service.stat(pid))}
    return running | {"nursery": parents - {1}}


async def check(service, chain):
    async with WireClient(service.socket) as client:
        return await client.ask(Message.CHECK, MODE=int(Mode.SERVER), PROFILE="RSA", CHAIN=chain)


async def until(condition):
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < real_service.WAIT_S
        await asyncio.sleep(0.01)


async def sign(service):
    """
    A session up to a signature, `None` where it came to none.
    """
    async with WireClient(service.socket) as client:
        await client.start(MODE=int(Mode.SERVER), PROFILE="RSA")
        await client.ask(Message.GET_CERTIFICATE)
        answer = await client.ask(Message.CRYPT_DATA, CRYPT_SCHEME=0x0401, CRYPT_INPUT=DIGEST)
    if answer.fields[Tag.RESULT] == Result.DONE:
        return answer.fields[Tag.CRYPT_OUTPUT]
    assert 80 == answer.fields[Tag.ALERT]
    return None


async def load(service, company, until, answers, signatures):
    """
    Handshakes until `until` is set; a front that is gone takes those that are under way with it.
    """
    chains = {partner: message(company, partner) for partner in PARTNERS}

    async def one(number):
        while not until.is_set():
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if number == 0:
                    signatures.append(await sign(service))
                    continue
                partner = random.choice(list(PARTNERS))  # noqa: S311 - no secret
                answer = await check(service, chains[partner])
                answers.append((partner, answer))
                continue
            await asyncio.sleep(0.01)

    await asyncio.gather(*(one(number) for number in range(AT_ONCE)))


async def kill(service, role):
    """
    End a process of a role, and begin the front again.
    """
    if role == "front":
        service.kill()
        await asyncio.to_thread(service.start)
        return
    await until(
        lambda: processes(service).get(role)
    )  # it may have been killed a moment ago, with its nursery
    os.kill(random.choice(sorted(processes(service)[role])), signal.SIGKILL)  # noqa: S311 - no secret


async def answered_again(service, company, partner="good"):
    """
    How long until a partner is let in again.
    """
    begun = time.monotonic()
    chain = message(company, partner)
    while (await check(service, chain)).fields[Tag.RESULT] != Result.DONE:
        assert time.monotonic() - begun < real_service.WAIT_S
        await asyncio.sleep(0.01)
    return time.monotonic() - begun


async def all_are_back(service):
    """
    Wait until each role has its process, and the key signs.
    """
    await until(lambda: all(processes(service).get(role) for role in KILLED if role != "front"))
    begun = time.monotonic()
    while await sign(service) is None:
        assert time.monotonic() - begun < real_service.WAIT_S
        await asyncio.sleep(0.01)


def judged_rightly(answers):
    """
    Each answer is the partner's own, or alert 80; who is refused is never let in.
    """
    for partner, answer in answers:
        alert = PARTNERS[partner]
        if answer.fields[Tag.RESULT] == Result.DONE:
            assert alert is None, partner
        else:
            assert answer.fields[Tag.ALERT] in {80, alert}, (partner, answer)


def test_killed_processes_let_nobody_in_and_lose_no_record(company):
    config = company.configure("killed")
    config.write_text(config.read_text() + KEPT)
    answers, signatures = [], []
    with real_service.running(config) as service:

        async def session():
            await answered_again(service, company)
            await all_are_back(service)
            until = asyncio.Event()
            running = asyncio.create_task(load(service, company, until, answers, signatures))
            for role in KILLED:
                await asyncio.sleep(random.uniform(0.2, 0.8))  # noqa: S311 - no secret
                await kill(service, role)
                await answered_again(service, company)
            until.set()
            await running
            await all_are_back(service)
            await answered_again(service, company)

        asyncio.run(asyncio.wait_for(session(), 240))
        begun = time.monotonic()
        while "own" not in (status := told("status", "--config", config)[1])["certificates"]:
            assert time.monotonic() - begun < real_service.WAIT_S
        ended = {one["role"] for one in service.events("process_ended")}
        assert 0 == service.stop()
    judged_rightly(answers)
    assert {partner for partner, alert in PARTNERS.items() if alert is None} <= {
        partner for partner, answer in answers if answer.fields[Tag.RESULT] == Result.DONE
    }
    public: Any = x509.load_pem_x509_certificate(company.path("host-rsa.pem").read_bytes()).public_key()
    good = [one for one in signatures if one is not None]
    assert good
    for signature in good:
        public.verify(signature, DIGEST, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
    assert set(KILLED) - {"nursery", "front"} <= ended
    assert ("healthy", True) == (status["certificates"]["own"]["state"], status["renewals"]["running"])
    # Everything that was answered with a verdict, refusals of our own included, is in the chain.
    names = {a.fields[Tag.VERDICT_ID] for _, a in answers if a.fields.get(Tag.REASON) != "internal_error"}
    code, rows = told("audit", "list", "--config", config)
    assert (0, set()) == (code, names - {row["id"] for row in rows})
    code, report = told("audit", "verify", "--config", config)
    assert (0, True) == (code, report["whole"])
    code, report = told("replay", "--recorded", "--config", config)
    assert (0, [], []) == (code, report["differing"], report["unreadable"])


def test_stopped_judge_costs_nobody_anything(company):
    config = company.configure("stopped")
    with real_service.running(config) as service:

        async def session():
            good = message(company, "good")
            await answered_again(service, company)
            stopped = sorted(processes(service)["judge"])
            for pid in stopped[:1]:
                os.kill(pid, signal.SIGSTOP)
            answers = []
            begun = time.monotonic()
            while real_service.runs(stopped[0]) and time.monotonic() - begun < real_service.WAIT_S:
                answers += await asyncio.gather(*(check(service, good) for _ in range(3)))
            return answers, time.monotonic() - begun

        answers, took_s = asyncio.run(asyncio.wait_for(session(), 120))
        _, status = told("status", "--config", config)
    # What it had was asked of another judge, within the call's own time.
    assert [Result.DONE] * len(answers) == [answer.fields[Tag.RESULT] for answer in answers]
    assert took_s < 10
    assert 1 == sum(one["restarts"] for one in status["processes"] if one["role"] == "judge")


def test_stopped_evidence_writer_keeps_nobody_waiting_beyond_its_patience(company):
    config = company.configure("stopped-writer")
    with real_service.running(config) as service:

        async def session():
            await answered_again(service, company)
            (pid,) = processes(service)["evidence"]
            os.kill(pid, signal.SIGSTOP)
            begun = time.monotonic()
            answer = await check(service, message(company, "good"))
            waited_s = time.monotonic() - begun
            os.kill(pid, signal.SIGCONT)
            return answer, waited_s

        answer, waited_s = asyncio.run(asyncio.wait_for(session(), 60))
        # Evidence is not required here: the verdict stands, and is told to have no record.
        assert Result.DONE == answer.fields[Tag.RESULT]
        assert 1 <= waited_s < 4
        assert service.events("evidence_not_kept")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_front(company, how):
    config = company.configure(f"front-{how.name}")
    with real_service.running(config) as service:
        asyncio.run(answered_again(service, company))
        everyone = {pid for ids in processes(service).values() for pid in ids}
        assert len(everyone) >= 5
        service.process.send_signal(how)
        service.process.wait(real_service.WAIT_S)
        end = time.monotonic() + 5
        while any(map(real_service.runs, everyone)) and time.monotonic() < end:
            time.sleep(0.01)
        assert [] == [pid for pid in everyone if real_service.runs(pid)]


def test_signals_to_the_whole_group_end_calls_under_way_in_order(company):
    """
    A terminal's Ctrl-C and a service manager's SIGTERM reach every process: the children leave them to the front.
    """
    config = company.configure("group")
    with real_service.running(config) as service:
        asyncio.run(answered_again(service, company))
        everyone = {pid for ids in processes(service).values() for pid in ids}
        for pid in everyone:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        assert Result.DONE == asyncio.run(check(service, message(company, "good"))).fields[Tag.RESULT]
        assert [] == [pid for pid in everyone if not real_service.runs(pid)]
        assert 0 == service.stop()
        assert [] == service.failures()
