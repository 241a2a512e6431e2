"""
The process that keeps our own certificates: what it holds the front never does, and its end at any moment loses nothing.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import ssl
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs7

from cftpki_ext.protocol.codec import Message, Tag
from tests.support import pki, real_service
from tests.support.process_memory import forms_of, octets_in_memory
from tests.support.servers import asked, evil, response, write_pem
from tests.support.wall_clock import until
from tests.support.wire_client import WireClient

pytestmark = pytest.mark.real

NAME = "mft.corp.example"
# The manager looks four times a second, so that a test need not wait for its usual ten seconds.
SERVE = (
    sys.executable,
    "-c",
    "from cftpki_ext.identity.renewal import manager; manager.TICK_S = 0.25; from cftpki_ext.cli import main; main()",
)
CONFIG = """
[service]
socket = "{folder}/s"
state = "state"
log_format = "json"

[trust.corp]
anchors = ["roots.pem"]
"""
IDENTITY = """
[identity.mft]
enrollers = ["corp"]
names = ["{name}"]
min_interval = "1s"
{more}
"""
EST = """
[enroller.corp]
type = "est"
url = "https://localhost:{port}"
implicit_roots = "roots.pem"
identity_chain_file = "device.pem"
identity_key_file = "device.key"
csrattrs = false
"""
DROP = """
[enroller.corp]
type = "file"
chain = "chain.pem"
key = "key.pem"
"""


class EstCa:
    """
    An EST server that issues what is soon due again, and keeps whoever renews waiting until `release`.
    """

    def __init__(self, folder):
        self.root = pki.make_root("EST Root")
        self.ca = pki.issue(self.root, "EST Issuing CA", ca=True)
        self.device = pki.issue(self.root, "device", eku=["clientAuth"], private=pki.key("rsa", 3))
        tls = pki.issue(self.root, "localhost", san=["dns:localhost"], eku=["serverAuth"])
        (folder / "roots.pem").write_bytes(self.root.pem)
        (folder / "device.pem").write_bytes(self.device.pem)
        (folder / "device.key").write_bytes(self.device.key_pem)
        (folder / "device.key").chmod(0o600)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(write_pem(folder / "tls.pem", tls))
        self.tls.verify_mode = ssl.CERT_OPTIONAL
        self.tls.load_verify_locations(cadata=self.root.pem.decode())
        self.shown = []  # the subject that a client certificate had at each request that was kept waiting
        self.requests = []  # what was asked for then
        self.release = asyncio.Event()

    async def behave(self, _, writer):
        head, _, body = asked.get().partition(b"\r\n\r\n")
        operation = head.split(b" ", 2)[1].rpartition(b"/")[2].decode()
        if operation == "cacerts":
            answer = certs_only(self.ca.der, self.root.der)
        else:
            now = datetime.now(UTC)
            if operation == "simplereenroll":
                peer = writer.get_extra_info("ssl_object").getpeercert()
                self.shown.append(dict(part for (part,) in peer["subject"])["commonName"])
                self.requests.append(base64.b64decode(body))
                await self.release.wait()
                begins, ends = now - timedelta(minutes=1), now + timedelta(days=30)
            else:
                begins, ends = now - timedelta(hours=3), now + timedelta(seconds=60)
            answer = certs_only(self.issue(base64.b64decode(body), begins, ends))
        writer.write(answer)
        await writer.drain()
        writer.close()

    def issue(self, request, begins, ends):
        csr = x509.load_der_x509_csr(request)
        usage = {"serverAuth": "1.3.6.1.5.5.7.3.1", "clientAuth": "1.3.6.1.5.5.7.3.2"}.values()
        made = (
            x509.CertificateBuilder()
            .subject_name(csr.subject)
            .issuer_name(self.ca.certificate.subject)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(map(x509.ObjectIdentifier, usage)), critical=False)
        )
        return made.sign(self.ca.key, hashes.SHA256()).public_bytes(Encoding.DER)


def certs_only(*ders):
    bundle = pkcs7.serialize_certificates([x509.load_der_x509_certificate(one) for one in ders], Encoding.DER)
    headers = {
        "Content-Type": "application/pkcs7-mime; smime-type=certs-only",
        "Content-Transfer-Encoding": "base64",
    }
    return response(base64.encodebytes(bundle), headers=headers)


def configure(folder, *sections):
    config = folder / "cftpki.toml"
    config.write_text(CONFIG.format(folder=folder) + "".join(sections))
    return config


def identity(more=""):
    return IDENTITY.format(name=NAME, more=more)


@contextlib.asynccontextmanager
async def serving(config):
    """
    The service, begun and ended beside the event loop.
    """
    stack = contextlib.ExitStack()
    service = await asyncio.to_thread(stack.enter_context, real_service.running(config, program=SERVE))
    try:
        yield service
    finally:
        await asyncio.to_thread(stack.close)


async def reached(condition, service):
    await asyncio.to_thread(until, condition, told=service.log.read_text)


def is_other_key(path, known):
    content = path.read_bytes()
    return b"PRIVATE KEY" in content and content != known.read_bytes()


async def test_front_holds_no_key_of_an_attempt_and_a_killed_process_loses_nothing(tmp_path):
    ca = EstCa(tmp_path)
    async with evil(ca.behave, tls=ca.tls) as server:
        config = configure(tmp_path, identity('renew_at = "10%"'), EST.format(port=server.port))
        async with serving(config) as service:
            await reached(lambda: ca.requests, service)
            # The CA has the order, and was shown the key in force.
            assert [NAME] == ca.shown
            state = tmp_path / "state/identities/mft"
            in_force = state / "generations/0001/key.pem"
            (ordered,) = {path for path in state.rglob("*.pem") if is_other_key(path, in_force)}
            keys = {"in force": in_force, "ordered": ordered, "client": tmp_path / "device.key"}
            wanted = {
                form: octets
                for name, path in keys.items()
                for form, octets in forms_of(
                    name, load_pem_private_key(path.read_bytes(), None), path.read_bytes()
                ).items()
            }
            chain = x509.load_pem_x509_certificates((state / "generations/0001/chain.pem").read_bytes())
            wanted["public"] = chain[0].public_bytes(Encoding.DER)
            front = service.process.pid
            with contextlib.suppress(PermissionError):  # its memory is shown to whoever may trace anybody
                held = await asyncio.to_thread(octets_in_memory, service.child("renewals"), wanted)
                assert {"in force: p", "ordered: p"} <= held
            assert {"public"} == await asyncio.to_thread(octets_in_memory, front, wanted)

            before = service.child("renewals")
            os.kill(before, signal.SIGKILL)
            await reached(lambda: len(ca.requests) == 2, service)
            # The same order, with its key: nothing was begun anew.
            assert ca.requests[0] == ca.requests[1]
            assert before != service.child("renewals")
            ca.release.set()
            await reached(lambda: len(service.events("identity_activated")) == 2, service)
            assert [1, 2] == [one["generation"] for one in service.events("identity_activated")]
            assert {"public"} == await asyncio.to_thread(octets_in_memory, front, wanted)
        assert [] == service.failures()


def drop(folder):
    root = pki.make_root("Drop Root")
    (folder / "roots.pem").write_bytes(root.pem)
    leaf = pki.issue(root, NAME, san=[f"dns:{NAME}"], eku=["serverAuth", "clientAuth"])
    (folder / "chain.pem").write_bytes(leaf.pem)
    (folder / "key.pem").write_bytes(leaf.key_pem)
    (folder / "key.pem").chmod(0o600)


def program(folder, text):
    path = folder / "hook"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return path


def no_new_privileges(process):
    status = Path(f"/proc/{process}/status").read_text()
    return re.search(r"^NoNewPrivs:\s*(\d)$", status, re.MULTILINE)[1]


async def test_hook_begins_as_a_program_of_the_operator_and_ends_with_the_service(tmp_path):
    """
    Neither the signals that a child of ours ignores nor the limits of one are its own; and nobody leaves it behind.
    """
    drop(tmp_path)
    hook = program(
        tmp_path,
        f"cat /proc/self/status > {tmp_path}/status\nulimit -v > {tmp_path}/memory\n"
        f"echo $$ > {tmp_path}/pid.new\nmv {tmp_path}/pid.new {tmp_path}/pid\nexec sleep 1000",
    )
    config = configure(tmp_path, identity(f'trust = "corp"\nhooks = [["{hook}"]]'), DROP)
    async with serving(config) as service:
        await reached((tmp_path / "pid").exists, service)
        hooked = int((tmp_path / "pid").read_text())
        assert real_service.runs(hooked)
        told = dict(
            re.findall(r"^(SigIgn|NoNewPrivs):\s*(\w+)$", (tmp_path / "status").read_text(), re.MULTILINE)
        )
        ignored = {number for number in signal.Signals if int(told["SigIgn"], 16) >> (number - 1) & 1}
        ours = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
        assert set() == ignored & ours
        assert no_new_privileges("self") == told["NoNewPrivs"]
        assert "unlimited\n" == (tmp_path / "memory").read_text()
        assert 0 == await asyncio.to_thread(service.stop)
        await reached(lambda: not real_service.runs(hooked), service)


async def test_process_is_there_where_an_enroller_keeps_an_identity_and_follows_the_configuration(tmp_path):
    drop(tmp_path)
    config = configure(tmp_path)
    async with serving(config) as service:
        assert {} == await statuses(service)

        async def reload(*sections):
            before = len(service.events("reloaded"))
            configure(tmp_path, *sections)
            service.process.send_signal(signal.SIGHUP)
            await reached(lambda: len(service.events("reloaded")) > before, service)

        await reload(identity('trust = "corp"'), DROP)
        await reached(lambda: service.events("identity_activated"), service)
        pid = service.child("renewals")
        assert real_service.runs(pid)
        await settled(service, {"mft": "healthy"})
        # A reload is told to the one that is there.
        await reload(identity('trust = "corp"').replace(".mft]", ".hub]"), DROP)
        await reached(lambda: len(service.events("identity_activated")) == 2, service)
        await settled(service, {"hub": "healthy"})
        assert pid == service.child("renewals")
        await reload()
        await reached(lambda: not real_service.runs(pid), service)
        assert {} == await statuses(service)
        assert [] == service.failures()


async def settled(service, expected):
    """
    What is activated is shown after a moment.
    """
    begun = time.monotonic()
    while (told := await statuses(service)) != expected:
        assert time.monotonic() - begun < real_service.WAIT_S, told
        await asyncio.sleep(0.05)


async def statuses(service):
    """
    How each identity stands, by STATUS.
    """
    async with WireClient(service.socket) as client:
        answer = await client.ask(Message.STATUS)
    told = json.loads(str(answer.fields[Tag.JSON]))
    assert {"running": True, "fault": None} == told["renewals"]
    return {name: one["state"] for name, one in told["certificates"].items()}
