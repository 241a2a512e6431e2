"""
The process that indexes a large list, killed in the middle of it: nobody is let in or refused by that, partners are answered by
the list that is there, and another process finishes.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_ext.protocol.codec import Message, Mode, Result, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from cftpki_ext.x509 import der
from tests.support import partners, real_service
from tests.support.wire_client import WireClient

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("killed")]

# Some ten megabytes: whoever indexes them takes half a second at least.
ENTRIES = 300_000
RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
REVOKED = 44
RENEWED = """
[limits]
crl_refresh = "6s"
budget_ms = 60000
request_ms = 60000
"""


def large_list(issuer, revoked, *, number):
    """
    A signed list of many random serial numbers, and some of partners.
    """
    chance, now = random.Random(number), datetime.now(UTC)  # noqa: S311 - no secret
    serials = [chance.getrandbits(126) | 1 << 126 for _ in range(ENTRIES)]
    since = der.encode(der.UTC_TIME, b"260101000000Z")
    entries = b"".join(
        der.encode(der.SEQUENCE, der.encode(der.INTEGER, serial.to_bytes(20, "big").lstrip(b"\0")), since)
        for serial in (*serials, *revoked)
    )
    crl_number = der.encode(
        der.SEQUENCE,
        bytes.fromhex("0603551d14"),
        der.encode(0x04, der.encode(der.INTEGER, bytes((number,)))),
    )
    tbs = der.encode(
        der.SEQUENCE,
        der.encode(der.INTEGER, b"\x01"),
        RSA_SHA256,
        issuer.certificate.subject.public_bytes(),
        der.encode(der.UTC_TIME, f"{now - timedelta(minutes=5):%y%m%d%H%M%SZ}".encode()),
        der.encode(der.UTC_TIME, f"{now + timedelta(days=7):%y%m%d%H%M%SZ}".encode()),
        der.encode(der.SEQUENCE, entries),
        der.encode(0xA0, der.encode(der.SEQUENCE, crl_number)),
    )
    signature = issuer.key.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
    return der.encode(der.SEQUENCE, tbs, RSA_SHA256, der.encode(der.BIT_STRING, b"\0", signature))


def leaf(company, partner):
    return x509.load_pem_x509_certificates(company.path(f"{partner}.pem").read_bytes())


async def check(service, chain):
    async with WireClient(service.socket) as client:
        answer = await client.ask(Message.CHECK, MODE=int(Mode.SERVER), PROFILE="RSA", CHAIN=chain)
    return None if answer.fields[Tag.RESULT] == Result.DONE else answer.fields[Tag.ALERT]


async def until(condition):
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < real_service.WAIT_S
        await asyncio.sleep(0.005)


def indexers(service):
    return [one["pid"] for one in service.events("process_started") if one["role"] == "indexer"]


def indexed(service):
    return [one["digest"] for one in service.events("list_indexed")]


def test_killed_indexer_changes_no_answer_and_another_one_finishes(tmp_path):
    with partners.company(tmp_path) as company:
        chains = {
            name: encode_chain([one.public_bytes(Encoding.DER) for one in leaf(company, name)])
            for name in ("by-crl", "revoked-by-crl")
        }
        serials = {name: leaf(company, name)[0].serial_number for name in chains}
        (served,) = tmp_path.glob("nginx-*/www/issuing.crl")

        def serve(content):
            new = served.with_name("new")
            new.write_bytes(content)
            new.replace(served)

        serve(large_list(company.issuing, [serials["revoked-by-crl"]], number=2))
        config = company.configure("indexed")
        config.write_text(config.read_text() + RENEWED)
        with real_service.running(config) as service:

            async def session():
                # The first list: whoever waits for its index is answered by it, whatever becomes of the process.
                asking = asyncio.create_task(check(service, chains["by-crl"]))
                await until(lambda: indexers(service))
                os.kill(indexers(service)[0], signal.SIGKILL)
                assert (None, 1) == (await asking, len(indexed(service)))
                assert REVOKED == await check(service, chains["revoked-by-crl"])
                # The next one says that the partner is revoked; it is renewed ahead.
                before = len(indexers(service))
                serve(large_list(company.issuing, list(serials.values()), number=3))
                answers = []
                await until(lambda: len(indexers(service)) > before)
                os.kill(indexers(service)[before], signal.SIGKILL)
                while len(indexed(service)) < 2:
                    answers.append(await check(service, chains["by-crl"]))
                    assert REVOKED == await check(service, chains["revoked-by-crl"])
                begun = time.monotonic()
                while await check(service, chains["by-crl"]) != REVOKED:
                    assert time.monotonic() - begun < real_service.WAIT_S
                return answers

            answers = asyncio.run(asyncio.wait_for(session(), 240))
            ended = [one for one in service.events("process_ended") if one["role"] == "indexer"]
            again = service.events("list_indexed_again")
            assert 0 == service.stop()
        assert (2, 2) == (len(ended), len(again))
        assert {None} == set(answers) - {REVOKED}
        assert ["done", "done"] == [one["result"] for one in service.events("list_indexed")]
