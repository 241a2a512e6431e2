"""
The ACME enroller against a real Pebble 2.10.1, with pebble-challtestsrv or BIND as its DNS.

More than 400 lines: one Pebble for most tests; another file would start one more.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_connectors.acme import PLUGIN
from cftpki_connectors.ca.client import CaClient
from cftpki_ext.identity.enroller_port import Failed, Fault, Held, Issued, Pending
from tests.support import pki
from tests.support.acme import WAIT_S, enroller, issue, listening, names_of
from tests.support.ca_pebble import Pebble, pebble
from tests.support.dns_servers import named, write_key
from tests.support.orders import KilledError, Saves, context, held, in_s, leaf_of, make_order
from tests.support.ports import free_port
from tests.support.servers import answer, evil, nginx, response, write_pem

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    with pebble(
        tmp_path_factory.mktemp("acme"),
        environment={"PEBBLE_ALTERNATE_ROOTS": "2", "PEBBLE_CHAIN_LENGTH": "2"},
        profiles={
            "default": {"description": "usual", "validityPeriod": 7776000},
            "shortlived": {"description": "six days", "validityPeriod": 518400},
        },
    ) as running:
        yield running


# -- accounts ------------------------------------------------------------------------------------------------


async def test_issue_with_most_nonces_refused_and_external_account_issues_once(tmp_path):
    environment = {"PEBBLE_WFE_NONCEREJECT": "60"}
    with pebble(tmp_path, environment=environment, externalAccountBindingRequired=True) as ca:
        options = ca.options(external_account=ca.external_account())
        async with enroller(tmp_path, options) as made:
            issued = await issue(made, "a.example", "b.example")
        assert isinstance(issued, Issued), issued
        assert {"a.example", "b.example"} == names_of(issued)
        assert (1, 1, 1) == (ca.accounts, ca.orders, ca.certificates)
        assert not listening(ca.http_port)


@pytest.mark.parametrize(
    ("secret", "kid", "expected"),
    [
        ("A" * 43, "kid-1", "unauthorized"),
        ("A" * 43, "kid-9", "unauthorized"),
        ("0123456789abcdef" * 4, "kid-1", "hexadecimal"),
        ("ab+/" * 11, "kid-1", "base64 with '+' or '/'"),
        (None, None, "asks for an external account"),
    ],
)
async def test_account_with_wrong_external_account_is_misconfigured(tmp_path, eab_ca, secret, kid, expected):
    external = None if secret is None else eab_ca.external_account(secret, kid)
    async with enroller(tmp_path, eab_ca.options(external_account=external)) as made:
        failed = await issue(made, "a.example")
    assert isinstance(failed, Failed)
    assert Fault.MISCONFIGURED == failed.fault
    assert expected in failed.detail
    assert 0 == eab_ca.orders


@pytest.fixture(scope="module")
def eab_ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    with pebble(tmp_path_factory.mktemp("eab"), externalAccountBindingRequired=True) as running:
        yield running


async def test_account_without_agreed_terms_is_misconfigured_and_tells_where_they_are(tmp_path, ca):
    async with enroller(tmp_path, ca.options(terms_agreed=False)) as made:
        failed = await issue(made, "a.example")
    assert Fault.MISCONFIGURED == failed.fault
    assert "terms_agreed" in failed.detail
    assert "data:text/plain" in failed.detail


async def test_account_wanted_by_two_processes_at_once_is_made_once(tmp_path, ca):
    before = ca.accounts
    options = ca.options(http01={"listen": f"127.0.0.1:{free_port()}"})
    async with enroller(tmp_path, options) as one, enroller(tmp_path, options) as other:
        outcomes = await asyncio.gather(
            one.roll_over_account_key(deadline=in_s(WAIT_S)),
            other._accounts(other._connected()).establish(deadline=in_s(WAIT_S)),
        )
    assert outcomes[0] is None
    assert 1 == ca.accounts - before


async def test_account_forgotten_by_the_ca_is_made_again_only_if_configured(tmp_path):
    with pebble(tmp_path, started=False) as ca:
        with ca.running():
            async with enroller(tmp_path, ca.options()) as made:
                assert isinstance(await issue(made, "a.example"), Issued)
        with ca.running():  # a CA set up anew
            async with enroller(tmp_path, ca.options()) as made:
                failed = await issue(made, "a.example")
            assert (Fault.MISCONFIGURED, True) == (failed.fault, "recreate_account" in failed.detail)
            async with enroller(tmp_path, ca.options(recreate_account=True)) as made:
                assert Fault.ORDER_LOST == (await issue(made, "a.example")).fault
                assert isinstance(await issue(made, "a.example"), Issued)


async def test_account_contact_changed_in_the_configuration_reaches_the_ca(tmp_path, ca):
    async with enroller(tmp_path, ca.options()) as made:
        assert isinstance(await issue(made, "a.example"), Issued)
    async with enroller(tmp_path, ca.options(contact=["mailto:other@corp.example"])) as made:
        session = made._connected()
        account = await made._accounts(session).establish(deadline=in_s(WAIT_S))
        seen = await session.post(account.url, None, signer=account.signer, deadline=in_s(WAIT_S))
    assert ["mailto:other@corp.example"] == json.loads(seen.body)["contact"]


async def test_account_key_changed_is_the_one_that_the_ca_takes(tmp_path, ca):
    before = ca.accounts
    async with enroller(tmp_path, ca.options()) as made:
        assert isinstance(await issue(made, "a.example"), Issued)
        old = made._store.load().key.thumbprint
        assert await made.roll_over_account_key(deadline=in_s(WAIT_S)) is None
        assert old != made._store.load().key.thumbprint
        assert isinstance(await issue(made, "a.example"), Issued)
    assert 1 == ca.accounts - before


@pytest.mark.parametrize("answered", [False, True])
async def test_account_key_change_cut_short_is_settled_by_asking_the_ca(tmp_path, ca, monkeypatch, answered):
    before = ca.accounts
    async with enroller(tmp_path, ca.options()) as made:
        assert isinstance(await issue(made, "a.example"), Issued)
        old = made._store.load().key.thumbprint
        real = CaClient.send

        async def killing(self, request, *, deadline):
            if "rollover" in request.url:
                if answered:
                    await real(self, request, deadline=deadline)
                raise KilledError
            return await real(self, request, deadline=deadline)

        monkeypatch.setattr(CaClient, "send", killing)
        with pytest.raises(KilledError):
            await made.roll_over_account_key(deadline=in_s(WAIT_S))
        monkeypatch.undo()
        pending = made._store.load().pending.thumbprint
    async with enroller(tmp_path, ca.options()) as made:
        assert isinstance(await issue(made, "a.example"), Issued)
        stored = made._store.load()
    assert ((pending if answered else old), None) == (stored.key.thumbprint, stored.pending)
    assert 1 == ca.accounts - before


async def test_account_key_older_than_configured_is_changed_before_an_order(tmp_path, ca):
    async with enroller(tmp_path, ca.options()) as made:
        assert isinstance(await issue(made, "a.example"), Issued)
        old = made._store.load().key.thumbprint
    later: Any = PLUGIN.make(
        PLUGIN.options(**ca.options(account_key_days=30)), context(tmp_path, ahead=timedelta(days=31))
    )
    await issue(later, "a.example")
    assert old != later._store.load().key.thumbprint
    await later.aclose()


# -- challenges ----------------------------------------------------------------------------------------------


async def test_tls_alpn_for_name_and_address_issues_for_both(tmp_path, ca):
    options = ca.options(http01=None, tlsalpn01={"listen": f"127.0.0.1:{ca.tls_port}"})
    async with enroller(tmp_path, options) as made:
        issued = await issue(made, "a.example", "127.0.0.1")
    assert isinstance(issued, Issued), issued
    assert {"a.example", "127.0.0.1"} == names_of(issued)
    assert not listening(ca.tls_port)


async def test_http_for_an_address_issues(tmp_path, ca):
    async with enroller(tmp_path, ca.options()) as made:
        issued = await issue(made, "127.0.0.1")
    assert {"127.0.0.1"} == names_of(issued)


async def test_webroot_is_served_by_a_web_server_and_left_clean(tmp_path):
    with pebble(tmp_path) as ca, nginx(tmp_path, {"index.html": b"hello"}, port=ca.http_port):
        root = tmp_path / f"nginx-{ca.http_port}" / "www"
        http01 = {"webroot": root, "check": f"http://127.0.0.1:{ca.http_port}"}
        async with enroller(tmp_path, ca.options(http01=http01)) as made:
            issued = await issue(made, "a.example")
        assert isinstance(issued, Issued), issued
        assert [] == list((root / ".well-known" / "acme-challenge").iterdir())


async def test_webroot_that_nobody_serves_is_not_shown_to_the_ca(tmp_path, ca):
    http01 = {"webroot": tmp_path / "www", "check": f"http://127.0.0.1:{free_port()}"}
    async with enroller(tmp_path, ca.options(http01=http01)) as made:
        saves = Saves()
        order = make_order("unserved.example")
        pending = await made.advance(order, {}, saves, deadline=in_s(3))
    assert isinstance(pending, Pending)
    assert "cannot be asked" in pending.detail
    assert "unserved.example:" not in ca.log_text().split("Attempting to validate")[-1]


HOOK = """
import json, os, sys, urllib.request
action, name, value = sys.argv[2:]
assert (action, name, value) == tuple(os.environ["CFTPKI_" + key] for key in ("ACTION", "NAME", "VALUE"))
assert "HOME" not in os.environ
body = {"host": name + ".", "value": value} if action == "present" else {"host": name + "."}
where = sys.argv[1] + ("set-txt" if action == "present" else "clear-txt")
urllib.request.urlopen(where, json.dumps(body).encode()).read()
"""


def dns_hook(folder: Path, ca: Pebble, script: str = HOOK) -> list[str]:
    path = folder / "hook.py"
    path.write_text(script)
    return [sys.executable, "-I", str(path), f"http://127.0.0.1:{ca.dns_management_port}/"]


async def test_dns_hook_for_a_wildcard_and_its_base_issues_for_both(tmp_path, ca):
    options = ca.options(http01=None, dns01={"hook": dns_hook(tmp_path, ca)})
    async with enroller(tmp_path, options) as made:
        issued = await issue(made, "wild.example", "*.wild.example")
    assert isinstance(issued, Issued), issued
    assert {"wild.example", "*.wild.example"} == names_of(issued)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("import sys; print('no key for the zone', file=sys.stderr); sys.exit(3)", "no key for the zone"),
        ("import time; time.sleep(60)", "did not end within 1 s"),
    ],
)
async def test_dns_hook_that_fails_is_tried_again_later_and_tells_why(tmp_path, ca, script, expected):
    dns01 = {"hook": dns_hook(tmp_path, ca, script), "hook_timeout_s": 1}
    async with enroller(tmp_path, ca.options(http01=None, dns01=dns01)) as made:
        pending = await issue(made, "hook.example")
    assert isinstance(pending, Pending)
    assert expected in pending.detail


async def test_dns_hook_that_is_missing_is_misconfigured(tmp_path, ca):
    dns01 = {"hook": [str(tmp_path / "nothing")]}
    async with enroller(tmp_path, ca.options(http01=None, dns01=dns01)) as made:
        failed = await issue(made, "hook.example")
    assert Fault.MISCONFIGURED == failed.fault


async def test_wildcard_without_dns_is_misconfigured_and_tells_what_is_offered(tmp_path, ca):
    async with enroller(tmp_path, ca.options()) as made:
        failed = await issue(made, "*.wild2.example")
    assert Fault.MISCONFIGURED == failed.fault
    assert "*.wild2.example" in failed.detail
    assert "dns-01" in failed.detail


ZONES = {
    "corp.example": (
        "mft IN A 127.0.0.1\n_acme-challenge.mft IN CNAME mft.acme.example.\n_acme-challenge IN TXT other\n"
    ),
    "acme.example": 'mft IN TXT "somebody else\'s"\n',
}


async def test_dns_update_follows_a_cname_waits_for_the_secondary_and_deletes_its_own_value(tmp_path):
    with (
        named(tmp_path, ZONES) as primary,
        named(tmp_path, ZONES, secondary_of=primary) as secondary,
        pebble(tmp_path, dns_port=secondary.port) as ca,
    ):
        dns01 = {
            "server": primary.address,
            "tsig_file": primary.key_file,
            "resolvers": [primary.address],
            "authoritative": [primary.address, secondary.address],
        }
        async with enroller(tmp_path, ca.options(http01=None, dns01=dns01)) as made:
            issued = await issue(made, "mft.corp.example", "*.corp.example", "corp.example")
        assert isinstance(issued, Issued), issued
        assert {"somebody else's"} == primary.texts("mft.acme.example.")
        assert {"other"} == primary.texts("_acme-challenge.corp.example.")
        assert () == issued.notes


async def test_dns_update_with_another_key_is_misconfigured(tmp_path):
    with named(tmp_path, ZONES) as primary, pebble(tmp_path, dns_port=primary.port) as ca:
        dns01 = {
            "server": primary.address,
            "tsig_file": write_key(tmp_path / "other.key"),
            "resolvers": [primary.address],
        }
        async with enroller(tmp_path, ca.options(http01=None, dns01=dns01)) as made:
            failed = await issue(made, "mft.corp.example")
        assert Fault.MISCONFIGURED == failed.fault
        assert "TSIG" in failed.detail


async def test_dns_update_that_a_server_never_gets_is_not_shown_to_the_ca(tmp_path):
    with named(tmp_path, ZONES) as primary, pebble(tmp_path, dns_port=primary.port) as ca:
        dns01 = {
            "server": primary.address,
            "tsig_file": primary.key_file,
            "resolvers": [primary.address],
            "authoritative": [primary.address, f"127.0.0.1:{free_port()}"],
            "wait_s": 1,
        }
        async with enroller(tmp_path, ca.options(http01=None, dns01=dns01)) as made:
            pending = await issue(made, "mft.corp.example")
        assert isinstance(pending, Pending)
        assert "cannot be asked" in pending.detail
        assert "Pulled a task" not in ca.log_text()


async def test_valid_authorizations_need_no_challenge_at_all(tmp_path):
    with pebble(tmp_path, environment={"PEBBLE_AUTHZREUSE": "100"}) as ca:
        async with enroller(tmp_path, ca.options()) as made:
            assert isinstance(await issue(made, "a.example"), Issued)
        async with enroller(tmp_path, ca.options(http01=None)) as made:
            assert isinstance(await issue(made, "a.example"), Issued)


async def test_challenge_that_the_ca_cannot_reach_is_refused_with_the_cas_words(tmp_path, ca):
    ca.dns("add-a", host="far.example", addresses=["127.0.0.9"])
    async with enroller(tmp_path, ca.options()) as made:
        failed = await issue(made, "far.example")
    assert Fault.REFUSED == failed.fault
    assert "http-01 for far.example: connection" in failed.detail
    assert not listening(ca.http_port)


async def test_identifier_that_the_ca_blocks_is_refused(tmp_path, ca):
    async with enroller(tmp_path, ca.options()) as made:
        failed = await issue(made, "blocked.example")
    assert (Fault.REFUSED, True) == (failed.fault, "rejectedIdentifier" in failed.detail)


async def test_port_that_somebody_holds_is_waited_for(tmp_path, ca):
    with socket.create_server(("127.0.0.1", free_port())) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        async with enroller(tmp_path, ca.options(http01={"listen": listen})) as made:
            pending = await issue(made, "held.example")
    assert isinstance(pending, Pending)
    assert "cannot be listened on" in pending.detail


# -- what is issued ------------------------------------------------------------------------------------------


async def test_alternate_chain_is_chosen_by_root_and_by_name_or_told_to_be_missing(tmp_path, ca):
    roots = [x509.load_pem_x509_certificate(ca.manage(f"roots/{index}")) for index in range(3)]
    file = tmp_path / "preferred.pem"
    file.write_bytes(roots[2].public_bytes(Encoding.PEM))
    name = roots[1].subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    seen = []
    for choice in ({"preferred_root_file": file}, {"preferred_issuer": name}, {"preferred_issuer": "Nobody"}):
        async with enroller(tmp_path, ca.options(**choice)) as made:
            issued = await issue(made, "a.example")
        top = x509.load_der_x509_certificate(issued.certificates[-1])
        seen.append(
            (
                next(index for index, root in enumerate(roots) if root.subject == top.issuer),
                len(issued.alternates),
            )
        )
    assert [(2, 2), (1, 2), (0, 2)] == seen
    assert any("preferred root" in note for note in issued.notes)


async def test_profile_is_asked_for_and_one_that_is_not_offered_is_misconfigured(tmp_path, ca):
    async with enroller(tmp_path, ca.options(profile="shortlived")) as made:
        leaf = leaf_of(await issue(made, "a.example"))
    assert timedelta(days=6) > leaf.not_valid_after_utc - leaf.not_valid_before_utc - timedelta(minutes=1)
    async with enroller(tmp_path, ca.options(profile="forever")) as made:
        failed = await issue(made, "a.example")
    assert Fault.MISCONFIGURED == failed.fault
    assert "default, shortlived" in failed.detail


async def test_renewal_hint_is_the_cas_window_and_none_where_it_is_malformed(tmp_path, ca):
    async with enroller(tmp_path, ca.options()) as made:
        order = make_order("a.example")
        mine = held(await made.advance(order, {}, Saves(), deadline=in_s(WAIT_S)), order)
        usual = await made.renewal_hint(mine, deadline=in_s(WAIT_S))
        pem = pki.pem(mine.chain[0]).decode()
        window = {"start": "2030-01-01T00:00:00Z", "end": "2030-01-02T00:00:00Z"}
        said = {"suggestedWindow": window, "explanationURL": "https://ca.example/why"}
        ca.manage("set-renewal-info/", {"Certificate": pem, "ARIResponse": json.dumps(said)})
        moved = await made.renewal_hint(mine, deadline=in_s(WAIT_S))
        ca.manage("set-renewal-info/", {"Certificate": pem, "ARIResponse": "<html>"})
        broken = await made.renewal_hint(mine, deadline=in_s(WAIT_S))
        stranger = Held(chain=(pki.issue(pki.make_root(), "stranger").der,), key=order.key)
        unknown = await made.renewal_hint(stranger, deadline=in_s(WAIT_S))
    assert usual is not None
    assert usual.start < usual.end
    assert (datetime(2030, 1, 1, tzinfo=UTC), "https://ca.example/why") == (moved.start, moved.explanation)
    assert timedelta(hours=5) < moved.ask_again_at - datetime.now(UTC) <= timedelta(hours=6)
    assert (None, None) == (broken, unknown)


async def test_renewal_names_what_it_replaces_once_and_goes_without_the_second_time(tmp_path, ca):
    async with enroller(tmp_path, ca.options()) as made:
        order = make_order("again.example")
        mine = held(await made.advance(order, {}, Saves(), deadline=in_s(WAIT_S)), order)
        first = await issue(made, "again.example", id="order-2", current=mine)
        replaced = ca.log_text().count("is a replacement of")
        second = await issue(made, "again.example", id="order-3", current=mine)
    assert 1 <= replaced
    assert () == first.notes
    assert isinstance(second, Issued)
    assert any("ordered without replaces" in note for note in second.notes)


async def test_renewal_of_another_accounts_certificate_does_not_name_it(tmp_path, ca):
    async with enroller(tmp_path, ca.options()) as made:
        order = make_order("again.example")
        mine = held(await made.advance(order, {}, Saves(), deadline=in_s(WAIT_S)), order)
    async with enroller(tmp_path, ca.options(), name="other") as made:
        issued = await issue(made, "again.example", current=mine)
    assert () == issued.notes


async def test_revoked_certificate_is_known_to_the_ca_and_revoking_again_is_done(tmp_path, ca):
    async with enroller(tmp_path, ca.options()) as made:
        order = make_order("gone.example")
        mine = held(await made.advance(order, {}, Saves(), deadline=in_s(WAIT_S)), order)
        assert await made.revoke(mine, reason="superseded", deadline=in_s(WAIT_S)) is None
        serial = f"{x509.load_der_x509_certificate(mine.chain[0]).serial_number:x}"
        status = json.loads(ca.manage(f"cert-status-by-serial/{serial}"))
        assert ("Revoked", 4) == (status["Status"], status.get("Reason", 4))
        assert await made.revoke(mine, reason="superseded", deadline=in_s(WAIT_S)) is None
        wrong = await made.revoke(mine, reason="boredom", deadline=in_s(WAIT_S))
        assert Fault.MISCONFIGURED == wrong.fault


async def test_revoking_a_strangers_certificate_fails(tmp_path, ca):
    stranger = pki.issue(pki.make_root(), "stranger")
    async with enroller(tmp_path, ca.options()) as made:
        failed = await made.revoke(
            Held(chain=(stranger.der,), key=stranger.key), reason="superseded", deadline=in_s(WAIT_S)
        )
    assert isinstance(failed, Failed)


# -- time, kills, restarts -----------------------------------------------------------------------------------


async def test_order_in_processing_is_pending_and_collected_by_another_process(tmp_path):
    with pebble(tmp_path, retryAfter={"authz": 1, "order": 5}) as ca:
        saves, order = Saves(), make_order("a.example")
        async with enroller(tmp_path, ca.options()) as made:
            pending = await made.advance(order, {}, saves, deadline=in_s(5))
        assert isinstance(pending, Pending), pending
        assert timedelta(seconds=2) < pending.retry_at - datetime.now(UTC) <= timedelta(seconds=5)
        async with enroller(tmp_path, ca.options()) as made:
            issued = await made.advance(order, saves.last, saves, deadline=in_s(WAIT_S))
        assert isinstance(issued, Issued)
        assert (1, 1) == (ca.orders, ca.certificates)


class SavesAndDies(Saves):
    """
    The state is on the disk, and then the process ends.
    """

    async def __call__(self, state: Any) -> None:
        self.states.append(dict(state))
        if self.killed_at == len(self.states) - 1:
            self.killed_at = None
            raise KilledError


async def resume(folder: Path, ca: Pebble, order: Any, saves: Saves) -> Any:
    async with enroller(folder, ca.options()) as made:
        return await made.advance(order, saves.last, saves, deadline=in_s(WAIT_S))


@pytest.mark.parametrize("kind", [Saves, SavesAndDies])
async def test_kill_at_any_save_leaves_one_order_and_one_certificate(tmp_path, ca, kind):
    killed = 0
    for number in range(50):
        folder = tmp_path / str(number)
        folder.mkdir()
        before = ca.orders, ca.certificates, ca.accounts
        order, saves = make_order(f"kill{number}.example"), kind(killed_at=number)
        try:
            issued = await resume(folder, ca, order, saves)
        except KilledError:
            killed += 1
            saves.killed_at = None
            issued = await resume(folder, ca, order, saves)
        else:
            break
        assert isinstance(issued, Issued), (number, issued)
        assert leaf_of(issued).public_key() == order.key.public_key()
        assert (1, 1, 1) == (ca.orders - before[0], ca.certificates - before[1], ca.accounts - before[2]), (
            number
        )
    assert 5 <= killed < 49


@pytest.mark.parametrize("heard", [False, True], ids=["request-lost", "answer-lost"])
async def test_kill_at_any_request_leaves_one_order_and_one_certificate(tmp_path, ca, monkeypatch, heard):
    real, left = CaClient.send, [0]

    async def killing(self, request, *, deadline):
        left[0] -= 1
        if left[0] == 0:
            if heard:
                await real(self, request, deadline=deadline)
            raise KilledError
        return await real(self, request, deadline=deadline)

    monkeypatch.setattr(CaClient, "send", killing)
    killed, lost = 0, []
    for number in range(1, 60):
        folder = tmp_path / str(number)
        folder.mkdir()
        before = ca.orders, ca.certificates, ca.accounts
        order, saves = make_order(f"cut{number}.example"), Saves()
        left[0] = number
        try:
            issued = await resume(folder, ca, order, saves)
        except KilledError:
            killed += 1
            issued = await resume(folder, ca, order, saves)
        else:
            break
        expected = (1, 1, 1)
        if isinstance(issued, Failed):
            # The CA came while nobody was there to answer: that order is dead, and a new one is right.
            assert Fault.ORDER_LOST == issued.fault, (number, issued)
            issued, expected = await resume(folder, ca, order, Saves()), (2, 1, 1)
            lost.append(number)
        assert isinstance(issued, Issued), (number, issued)
        assert expected == (ca.orders - before[0], ca.certificates - before[1], ca.accounts - before[2]), (
            number
        )
    assert 10 <= killed < 58
    assert len(lost) <= killed // 2


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"phase": "ordered", "finalized_at": None}, Fault.ORDER_LOST),
        # Finalized a moment ago: a machine of the CA may not know it yet, and there may be a certificate behind it.
        ({}, Fault.UNREACHABLE),
        ({"finalized_at": "2026-01-01T00:00:00+00:00"}, Fault.ORDER_LOST),
    ],
)
async def test_order_that_the_ca_does_not_know_is_lost(tmp_path, ca, changes, fault):
    saves = Saves()
    async with enroller(tmp_path, ca.options()) as made:
        assert isinstance(await issue(made, "a.example", saves=saves), Issued)
        state = {**saves.last, "order": ca.directory.replace("/dir", "/my-order/nothing"), **changes}
        failed = await made.advance(make_order("a.example"), state, saves, deadline=in_s(WAIT_S))
    assert fault == failed.fault


@pytest.mark.parametrize(
    "changed",
    [
        {"account": "https://elsewhere/1"},
        {"directory": "https://elsewhere/dir"},
        {"version": 9},
        {"phase": 1},
    ],
)
async def test_order_of_another_account_directory_or_program_is_lost(tmp_path, ca, changed):
    saves = Saves()
    async with enroller(tmp_path, ca.options()) as made:
        assert isinstance(await issue(made, "a.example", saves=saves), Issued)
        failed = await made.advance(
            make_order("a.example"), saves.last | changed, saves, deadline=in_s(WAIT_S)
        )
    assert Fault.ORDER_LOST == failed.fault


# -- a CA that is not there, or is none ----------------------------------------------------------------------


async def test_directory_that_does_not_exist_is_misconfigured(tmp_path, ca):
    async with enroller(tmp_path, ca.options(directory=ca.directory + "/nothing")) as made:
        failed = await issue(made, "a.example")
    assert (Fault.MISCONFIGURED, True) == (failed.fault, "404" in failed.detail)


async def test_server_that_is_down_is_unreachable(tmp_path, ca):
    async with enroller(tmp_path, ca.options(directory=f"https://127.0.0.1:{free_port()}/dir")) as made:
        failed = await issue(made, "a.example")
    assert Fault.UNREACHABLE == failed.fault


async def test_server_with_an_untrusted_certificate_is_misconfigured(tmp_path, ca):
    other = tmp_path / "other.pem"
    other.write_bytes(pki.make_root("Other Root").pem)
    async with enroller(tmp_path, ca.options(root_file=other)) as made:
        failed = await issue(made, "a.example")
    assert Fault.MISCONFIGURED == failed.fault


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (response(b"<html>", headers={"Content-Type": "text/html"}), Fault.UNREACHABLE),
        (
            response(b"<html>", status="502 Bad Gateway", headers={"Content-Type": "text/html"}),
            Fault.UNREACHABLE,
        ),
        (response(b"{}", headers={"Content-Type": "application/json"}), Fault.MISCONFIGURED),
        (response(b"[" * 100_000, headers={"Content-Type": "application/json"}), Fault.MISCONFIGURED),
    ],
    ids=["html", "html-502", "no-directory", "deep"],
)
async def test_directory_from_a_proxy_or_a_fool_is_no_directory(tmp_path, ca, raw, fault):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(write_pem(tmp_path / "tls.pem", pki.issue(ca.root, "", san=["ip:127.0.0.1"])))
    async with (
        evil(answer(raw), tls=tls) as server,
        enroller(tmp_path, ca.options(directory=server.url("/dir"))) as made,
    ):
        failed = await issue(made, "a.example")
    assert fault == failed.fault, failed


async def test_anchors_are_not_told_by_acme(tmp_path, ca):
    async with enroller(tmp_path, ca.options()) as made:
        assert () == await made.trust_anchors(deadline=in_s(WAIT_S))
