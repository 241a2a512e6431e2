"""
Habits of real ACME servers and of what stands before them: waits, limits, slow validations, and who may answer when.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cftpki_connectors.ca.client import CaAnswer, CaClient
from cftpki_ext.identity.enroller_port import Failed, Fault, Issued, Pending
from tests.support import pki
from tests.support.acme import WAIT_S, enroller, issue, listening, names_of
from tests.support.ca_pebble import Pebble, pebble
from tests.support.ca_servers import make_step_ca
from tests.support.dns_servers import named
from tests.support.orders import Saves, held, in_s, leaf_of, make_order
from tests.support.ports import free_port
from tests.support.servers import nginx

pytestmark = pytest.mark.real


@pytest.fixture
def heard(monkeypatch) -> list[CaAnswer]:
    """
    Every answer of a CA.
    """
    real, answers = CaClient.send, []

    async def hearing(self, request, *, deadline):
        answers.append(await real(self, request, deadline=deadline))
        return answers[-1]

    monkeypatch.setattr(CaClient, "send", hearing)
    return answers


# -- when to come back ---------------------------------------------------------------------------------------


async def test_retry_after_is_understood_in_both_forms(tmp_path, heard):
    forms: dict[bool, list[float]] = {True: [], False: []}
    with pebble(tmp_path, retryAfter={"authz": 1, "order": 40}) as ca:
        async with enroller(tmp_path, ca.options()) as made:
            for number in range(16):
                heard.clear()
                pending = await issue(made, f"wait{number}.example", id=f"o{number}", identity=f"i{number}")
                assert isinstance(pending, Pending), pending
                said = next(
                    one.headers["retry-after"] for one in reversed(heard) if "retry-after" in one.headers
                )
                forms[said.isdigit()].append((pending.retry_at - datetime.now(UTC)).total_seconds())
                if all(forms.values()):
                    break
    assert all(forms.values()), "Pebble has used one form only"
    assert all(37 < wait <= 40 for waits in forms.values() for wait in waits), forms


async def test_validation_that_takes_its_time_is_waited_for(tmp_path, heard):
    environment = {"PEBBLE_VA_NOSLEEP": "0", "PEBBLE_VA_SLEEPTIME": "3"}
    with pebble(tmp_path, environment=environment, retryAfter={"authz": 1, "order": 1}) as ca:
        async with enroller(tmp_path, ca.options()) as made:
            issued = await issue(made, *(f"slow{number}.example" for number in range(3)))
    assert isinstance(issued, Issued), issued
    assert 2 < len([one for one in heard if b'"pending"' in one.body and b'"challenges"' in one.body])


async def test_attempt_that_ends_within_a_slow_validation_is_taken_up_by_the_same_process(tmp_path):
    environment = {"PEBBLE_VA_NOSLEEP": "0", "PEBBLE_VA_SLEEPTIME": "12"}
    with pebble(tmp_path, environment=environment) as ca:
        saves, order = Saves(), make_order(*(f"slow{number}.example" for number in range(8)))
        async with enroller(tmp_path, ca.options()) as made:
            pending = await made.advance(order, {}, saves, deadline=in_s(4))
            assert isinstance(pending, Pending), pending
            # Nobody moves the order on now, and the CA comes.
            assert listening(ca.http_port)
            while isinstance(pending, Pending):
                await asyncio.sleep(max(0, (pending.retry_at - datetime.now(UTC)).total_seconds()))
                pending = await made.advance(order, saves.last, saves, deadline=in_s(WAIT_S))
        assert isinstance(pending, Issued), pending
        assert (1, 1) == (ca.orders, ca.certificates)
        assert not listening(ca.http_port)


# -- limits: Pebble has none, so a proxy before it has ---------------------------------------------------------


LIMITED = """
proxy_set_header Host $http_host;
location {what} {
    default_type application/problem+json;
    if (-f {flag}) {
        add_header Retry-After "{after}" always;
        return 429 '{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many of these"}';
    }
    proxy_pass https://127.0.0.1:{port};
}
location / { proxy_pass https://127.0.0.1:{port}; }
"""


@asynccontextmanager
async def limited(tmp_path: Path, words: str, **settings: Any) -> AsyncIterator[tuple[Pebble, str, Path]]:
    """
    Pebble, its directory through a proxy that has `words`, and the file as long as which these hold.
    """
    flag = tmp_path / "limited"
    flag.touch()
    with pebble(tmp_path, **settings) as ca:
        certificate = pki.issue(ca.root, "", san=["ip:127.0.0.1"])
        locations = words.replace("{flag}", str(flag)).replace("{port}", str(ca.port))
        with nginx(tmp_path, locations=locations, certificate=certificate) as proxy:
            yield ca, proxy.url("/dir"), flag


def refusing(what: str, after: str) -> str:
    """
    A proxy that refuses what begins with `what`.
    """
    return LIMITED.replace("{what}", what).replace("{after}", after)


@pytest.mark.parametrize("after", ["7200", "date"])
async def test_rate_limit_of_new_orders_is_told_with_its_end(tmp_path, after):
    end = datetime.now(UTC) + timedelta(hours=2)
    text = after if after.isdigit() else end.strftime("%a, %d %b %Y %H:%M:%S GMT")
    words = refusing("/order-plz", text)
    async with (
        limited(tmp_path, words) as (ca, url, flag),
        enroller(tmp_path, ca.options(directory=url)) as made,
    ):
        failed = await issue(made, "a.example")
        again = await issue(made, "a.example")
        assert isinstance(failed, Failed), failed
        assert (Fault.RATE_LIMITED, Fault.RATE_LIMITED) == (failed.fault, again.fault)
        assert "rateLimited" in failed.detail
        assert "too many of these" in failed.detail
        assert abs((failed.retry_at - end).total_seconds()) < 30
        flag.unlink()
        assert isinstance(await issue(made, "a.example"), Issued)
    assert (1, 1, 1) == (ca.accounts, ca.orders, ca.certificates)


@pytest.mark.parametrize("what", ["/my-order/", "/authZ/", "/chalZ/", "/finalize-order/", "/certZ/"])
async def test_rate_limit_in_the_middle_leaves_the_order_to_be_gone_on_with(tmp_path, what):
    saves, order = Saves(), make_order("a.example")
    async with (
        limited(tmp_path, refusing(what, "60")) as (ca, url, flag),
        enroller(tmp_path, ca.options(directory=url)) as made,
    ):
        failed = await made.advance(order, {}, saves, deadline=in_s(WAIT_S))
        assert isinstance(failed, Failed), failed
        assert Fault.RATE_LIMITED == failed.fault
        assert 50 < (failed.retry_at - datetime.now(UTC)).total_seconds() <= 60
        flag.unlink()
        issued = await made.advance(order, saves.last, saves, deadline=in_s(WAIT_S))
        assert isinstance(issued, Issued), issued
    assert (1, 1) == (ca.orders, ca.certificates)


async def test_rate_limit_of_renewal_information_harms_nobody(tmp_path):
    words = refusing("/draft-ietf-acme-ari-03/renewalInfo", "7200")
    async with (
        limited(tmp_path, words) as (ca, url, _),
        enroller(tmp_path, ca.options(directory=url)) as made,
    ):
        order = make_order("a.example")
        issued = await made.advance(order, {}, Saves(), deadline=in_s(WAIT_S))
        assert isinstance(issued, Issued), issued
        assert await made.renewal_hint(held(issued, order), deadline=in_s(WAIT_S)) is None
        assert 1 == ca.certificates


# -- hours of processing -------------------------------------------------------------------------------------


# Pebble issues within milliseconds: before it stands who says "processing" as long as a file is there.
PROCESSING = """
set $said valid;
if (-f {flag}) { set $said processing; }
proxy_set_header Host $http_host;
proxy_set_header Accept-Encoding "";
location / { proxy_pass https://127.0.0.1:{port}; }
location /my-order/ {
    proxy_pass https://127.0.0.1:{port};
    sub_filter_types application/json;
    sub_filter '"status": "valid"' '"status": "$said"';
}
"""


async def test_processing_for_hours_is_asked_for_by_every_process_and_ends_with_one_certificate(tmp_path):
    saves, order = Saves(), make_order("a.example")
    async with limited(tmp_path, PROCESSING, retryAfter={"authz": 1, "order": 60}) as (ca, url, flag):
        for hours in range(0, 24, 6):
            async with enroller(tmp_path, ca.options(directory=url), ahead=timedelta(hours=hours)) as made:
                pending = await made.advance(order, saves.last, saves, deadline=in_s(10))
            assert isinstance(pending, Pending), pending
            assert "processing" in pending.detail
        assert (1, 1) == (ca.orders, ca.certificates)
        flag.unlink()
        async with enroller(tmp_path, ca.options(directory=url), ahead=timedelta(hours=24)) as made:
            issued = await made.advance(order, saves.last, saves, deadline=in_s(10))
        assert isinstance(issued, Issued), issued
        assert leaf_of(issued).public_key() == order.key.public_key()
        assert (1, 1) == (ca.orders, ca.certificates)


# -- who answers, and when -----------------------------------------------------------------------------------


def fetched(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:  # our own
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


async def test_own_responder_is_there_only_while_an_order_is_pending_and_knows_nothing_else(
    tmp_path, heard, monkeypatch
):
    seen: dict[str, bool | int] = {}
    real = CaClient.send

    async def looking(self, request, *, deadline):
        if "chalZ" in request.url and "others" not in seen:
            seen["others"] = await asyncio.to_thread(
                fetched, ca.http_port, "/.well-known/acme-challenge/other"
            )
            seen["root"] = await asyncio.to_thread(fetched, ca.http_port, "/")
        seen.setdefault("before", listening(ca.http_port))
        return await real(self, request, deadline=deadline)

    with pebble(tmp_path) as ca:
        monkeypatch.setattr(CaClient, "send", looking)
        async with enroller(tmp_path, ca.options()) as made:
            assert not listening(ca.http_port)
            assert isinstance(await issue(made, "a.example"), Issued)
            assert not listening(ca.http_port)
    assert {"before": False, "others": 404, "root": 404} == seen


HOOK = """
import os, pathlib, sys
action, name, value = sys.argv[2:]
assert name == "/.well-known/acme-challenge/" + os.environ["CFTPKI_TOKEN"], name
assert os.environ["CFTPKI_CHALLENGE"] == "http-01" and os.environ["CFTPKI_IDENTIFIER"] == "a.example"
path = pathlib.Path(sys.argv[1] + name)
if action == "present":
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value)
else:
    path.unlink(missing_ok=True)
pathlib.Path(sys.argv[1], "calls").open("a").write(action + chr(10))
"""


async def test_http_hook_puts_the_answer_where_a_web_server_has_it_and_takes_it_away(tmp_path):
    script = tmp_path / "hook.py"
    script.write_text(HOOK)
    with pebble(tmp_path) as ca, nginx(tmp_path, port=ca.http_port):
        root = tmp_path / f"nginx-{ca.http_port}" / "www"
        http01 = {
            "hook": [sys.executable, "-I", str(script), str(root)],
            "check": f"http://127.0.0.1:{ca.http_port}",
        }
        async with enroller(tmp_path, ca.options(http01=http01)) as made:
            issued = await issue(made, "a.example")
        assert isinstance(issued, Issued), issued
        assert [] == list((root / ".well-known" / "acme-challenge").iterdir())
        assert ["present", "cleanup"] == (root / "calls").read_text().split()


async def test_dns_update_for_a_wildcard_at_step_ca_issues_and_deletes_its_own_value(tmp_path):
    zones = {
        "corp.example": "_acme-challenge IN CNAME corp.acme.example.\n",
        "acme.example": 'corp IN TXT "somebody else\'s"\n',
    }
    with named(tmp_path, zones) as dns:
        ca = make_step_ca(tmp_path, arguments=[f"--resolver={dns.address}"])
        options = {
            "directory": ca.acme_directory,
            "root_file": ca.folder / "root0.pem",
            "dns01": {
                "server": dns.address,
                "tsig_file": dns.key_file,
                "resolvers": [dns.address],
                "authoritative": [dns.address],
            },
        }
        with ca.running():
            async with enroller(tmp_path, options) as made:
                issued = await issue(made, "*.corp.example", "corp.example")
        assert isinstance(issued, Issued), issued
        assert {"*.corp.example", "corp.example"} == names_of(issued)
        assert {"somebody else's"} == dns.texts("corp.acme.example.")


async def test_address_of_the_sixth_version_is_validated_by_its_own_name(tmp_path):
    port = free_port()
    try:
        socket.create_server(("::1", port), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with pebble(tmp_path) as ca:
        async with enroller(tmp_path, ca.options(http01={"listen": f"[::1]:{ca.http_port}"})) as made:
            issued = await issue(made, "::1")
        assert isinstance(issued, Issued), issued
        assert {"::1"} == names_of(issued)
        tls = ca.options(http01=None, tlsalpn01={"listen": f"[::1]:{ca.tls_port}"})
        async with enroller(tmp_path, tls) as made:
            assert isinstance(await issue(made, "::1"), Issued)
