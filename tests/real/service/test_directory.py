"""
A partner that a real directory must know, through every door of a real service: socket, command, record, replay, cache flush.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from cftpki_ext.protocol.codec import Message, Result, Tag
from tests.real.service.test_given_again import chain, check, given_again, judging, status
from tests.support import partners, pki, real_service
from tests.support.directory import SUFFIX, entry, slapd
from tests.support.wire_client import WireClient

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("given-again")]

ROOT = pki.make_root("Directory Root")
TLS = pki.issue(ROOT, "127.0.0.1", san=["ip:127.0.0.1"])
PARTNERS = f"ou=partners,{SUFFIX}"
TABLE = """
[trust.partners.directory]
servers = ["{server}"]
roots = ["directory-root.pem"]
base = "{base}"
filter = "(cn={{subject.CN}})"

[[trust.partners.directory.require]]
attribute = "title"
equals = "TRUE"
matching = "boolean"
"""


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    with partners.company(tmp_path_factory.mktemp("sd")) as made:
        (made.folder / "directory-root.pem").write_bytes(ROOT.pem)
        yield made


@pytest.fixture
def directory(tmp_path):
    people = [
        entry(f"cn={name},{PARTNERS}", ["person", "extensibleObject"], sn="x", title=title)
        for name, title in (("good", "TRUE"), ("by-crl", "FALSE"), ("revoked", "TRUE"))
    ]
    given = [entry(PARTNERS, ["organizationalUnit"]), *people]
    with slapd(tmp_path, given, certificate=TLS, clients=ROOT.pem) as running:
        yield running


@contextlib.contextmanager
def serving(company, directory, name):
    config = company.configure(name)
    table = TABLE.format(server=directory.tls_server, base=PARTNERS)
    config.write_text(config.read_text() + table)
    with real_service.running(config) as service:
        yield config, service
        assert [] == service.failures()


def lock(directory, name):
    """
    Somebody sets the partner's account to FALSE.
    """
    change = f"dn: cn={name},{PARTNERS}\nchangetype: modify\nreplace: title\ntitle: FALSE\n"
    ldif = directory.log.with_name("change.ldif")
    ldif.write_text(change)
    program = shutil.which("slapd", path=os.environ["PATH"] + ":/usr/sbin") or "slapd"
    # LMDB is made for several processes; the running server sees it with its next transaction.
    done = subprocess.run(
        [program, "-T", "modify", "-f", directory.log.with_name("slapd.conf"), "-l", ldif],
        text=True,
        check=False,
        capture_output=True,
    )
    assert 0 == done.returncode, done.stderr


async def test_partner_is_let_in_given_again_and_locked(company, directory):
    with serving(company, directory, "known") as (config, service):
        ids, again = await given_again(service, chain(company, "good"), 5)
        assert again >= 3
        explained = CliRunner().invoke(
            main, ["explain", ids[-1], "--replay", "--json", "--config", str(config)]
        )
        document = json.loads(explained.stdout)
        assert (True, "good") == (
            document["replay"]["agrees"],
            document["verdict"]["evidence"]["directory"]["status"],
        )
        kinds = {one["kind"] for one in (await status(service))["sources"]["locations"]}
        assert "directory" in kinds
        lock(directory, "good")
        flushed = CliRunner().invoke(main, ["cache", "flush", "--config", str(config)])
        assert 0 == flushed.exit_code, flushed.output
        for _ in range(200):
            answer = await check(service, chain(company, "good"))
            if answer.fields[Tag.RESULT] != Result.DONE:
                break
        assert 49 == answer.fields[Tag.ALERT]
        assert "title is FALSE, wanted is TRUE" in answer.fields[Tag.DETAIL]


async def test_partner_that_is_not_known_or_locked_is_refused_each_time(company, directory):
    with serving(company, directory, "unknown") as (config, service):
        for partner, words in (
            ("by-crl", "directory_assertion_failed"),
            ("good-ec", "directory_not_found"),
        ):
            for _ in range(2):
                answer = await check(service, chain(company, partner))
                assert 49 == answer.fields[Tag.ALERT]
                assert words in answer.fields[Tag.DETAIL]
        assert 0 == (await judging(service))["given_again"]
        revoked = await check(service, chain(company, "revoked"))
        assert 44 == revoked.fields[Tag.ALERT]
        command = ["check", str(company.path("by-crl.pem")), "--profile", "RSA", "--config", str(config)]
        done = await asyncio.to_thread(CliRunner().invoke, main, command)
        assert 49 == done.exit_code, done.output
        async with WireClient(service.socket) as client:
            assert Result.DONE == (await client.ask(Message.STATUS)).fields[Tag.RESULT]
