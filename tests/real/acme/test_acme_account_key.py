"""
The key of an ACME account is changed while processes are killed and others wait, at a real Pebble and a real step-ca.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cftpki_connectors.acme import store
from cftpki_connectors.ca.client import CaClient
from cftpki_ext.identity.enroller_port import Fault, Issued, Pending
from tests.support import killed_rollover
from tests.support.acme import WAIT_S, enroller, issue
from tests.support.ca_pebble import pebble
from tests.support.ca_servers import make_step_ca
from tests.support.orders import KilledError, Saves, in_s, make_order
from tests.support.ports import free_port
from tests.support.servers import nginx

pytestmark = pytest.mark.real

ROUNDS = 12


def killed(folder: Path, options: dict[str, Any]) -> list[dict[str, Any]]:
    (folder / "options.json").write_text(json.dumps(options, default=str))
    command = [sys.executable, killed_rollover.__file__, folder / "options.json", folder / "state-corp"]
    done = subprocess.run(
        [*command, str(ROUNDS), "3"], capture_output=True, text=True, check=False, timeout=120
    )
    assert 0 == done.returncode, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def test_process_killed_while_it_changes_the_key_loses_no_account(tmp_path):
    with pebble(tmp_path) as ca:
        rounds = await asyncio.to_thread(killed, tmp_path, ca.options())
        assert ROUNDS == len(rounds)
        assert 6 <= sum(one["killed"] for one in rounds)
        assert {("valid", False)} == {(one["status"], one["open"]) for one in rounds}
        assert 1 == len({one["account"] for one in rounds})
        # Whoever was not killed has changed it.
        assert all(detail is None for one in rounds for detail in one["told"])
        assert 4 <= len({one["key"] for one in rounds})
        async with enroller(tmp_path, ca.options()) as made:
            assert isinstance(await issue(made, "a.example"), Issued)
        assert 1 == ca.accounts


async def test_process_killed_while_step_ca_refuses_the_change_keeps_account_and_key(tmp_path):
    port = free_port()
    ca = make_step_ca(tmp_path, arguments=["--insecure", f"--acme-http-port={port}"])
    options = {
        "directory": ca.acme_directory,
        "root_file": ca.folder / "root0.pem",
        "http01": {"listen": f"127.0.0.1:{port}"},
    }
    with ca.running():
        rounds = await asyncio.to_thread(killed, tmp_path, options)
        assert 6 <= sum(one["killed"] for one in rounds)
        assert {("valid", False)} == {(one["status"], one["open"]) for one in rounds}
        assert (1, 1) == (len({one["account"] for one in rounds}), len({one["key"] for one in rounds}))
        said = {detail for one in rounds for detail in one["told"] if detail is not None}
        assert {"account key: the CA cannot change keys"} == said
        async with enroller(tmp_path, options) as made:
            assert isinstance(await issue(made, "localhost"), Issued)


@pytest.fixture
def waiting(monkeypatch) -> asyncio.Event:
    """
    Set as soon as somebody finds a lock taken.
    """
    seen, real = asyncio.Event(), store._taken

    def taken(descriptor: int, *, shared: bool) -> bool:
        got = real(descriptor, shared=shared)
        if not got:
            seen.set()
        return got

    monkeypatch.setattr(store, "_taken", taken)
    return seen


async def test_change_killed_while_another_waits_for_it_is_settled_by_that_one(
    tmp_path, waiting, monkeypatch
):
    real, others = CaClient.send, []
    with pebble(tmp_path) as ca:
        async with enroller(tmp_path, ca.options()) as one, enroller(tmp_path, ca.options()) as other:
            assert isinstance(await issue(one, "a.example"), Issued)

            async def killing(self, request, *, deadline):
                answer = await real(self, request, deadline=deadline)
                if "rollover" in request.url and not others:
                    # The CA has the new key; before we know, another process wants a change, too.
                    work = other.roll_over_account_key(deadline=in_s(WAIT_S))
                    others.append(asyncio.create_task(work))
                    await asyncio.wait_for(waiting.wait(), WAIT_S)
                    raise KilledError
                return answer

            monkeypatch.setattr(CaClient, "send", killing)
            with pytest.raises(KilledError):
                await one.roll_over_account_key(deadline=in_s(WAIT_S))
            pending = one._store.load().pending.thumbprint
            assert await others[0] is None
            stored = other._store.load()
            assert (pending, None) == (stored.key.thumbprint, stored.pending)
            assert isinstance(await issue(other, "a.example"), Issued)
        assert 1 == ca.accounts


async def test_change_waits_for_an_attempt_of_another_process(tmp_path, waiting, monkeypatch):
    real, changes, sent = CaClient.send, [], []
    with pebble(tmp_path) as ca:
        async with enroller(tmp_path, ca.options()) as one, enroller(tmp_path, ca.options()) as other:
            assert isinstance(await issue(one, "a.example"), Issued)

            async def watching(self, request, *, deadline):
                sent.append((self, request.url))
                if "order-plz" in request.url and not changes:
                    work = other.roll_over_account_key(deadline=in_s(WAIT_S))
                    changes.append(asyncio.create_task(work))
                    await asyncio.wait_for(waiting.wait(), WAIT_S)
                return await real(self, request, deadline=deadline)

            monkeypatch.setattr(CaClient, "send", watching)
            assert isinstance(await issue(one, "b.example"), Issued)
            ordering, _ = next(request for request in sent if "order-plz" in request[1])
            last = max(place for place, (client, _) in enumerate(sent) if client is ordering)
            assert await changes[0] is None
            (changed,) = [place for place, (_, url) in enumerate(sent) if "rollover" in url]
            assert changed > last
            assert isinstance(await issue(one, "c.example"), Issued)


async def test_order_that_waits_for_its_web_server_survives_a_change_of_key(tmp_path):
    with pebble(tmp_path) as ca:
        http01 = {"webroot": tmp_path / "www", "check": f"http://127.0.0.1:{ca.http_port}"}
        options, saves, order = ca.options(http01=http01), Saves(), make_order("a.example")
        async with enroller(tmp_path, options) as made:
            assert isinstance(await made.advance(order, {}, saves, deadline=in_s(3)), Pending)
            assert await made.roll_over_account_key(deadline=in_s(WAIT_S)) is None
        with nginx(tmp_path, port=ca.http_port) as server:
            root = tmp_path / f"nginx-{server.port}" / "www" / ".well-known"
            root.symlink_to(tmp_path / "www" / ".well-known")
            async with enroller(tmp_path, options) as made:
                issued = await made.advance(order, saves.last, saves, deadline=in_s(WAIT_S))
        assert isinstance(issued, Issued), issued
        assert (1, 1) == (ca.orders, ca.certificates)


async def test_account_that_was_deactivated_is_told_and_made_again_when_its_folder_is_gone(tmp_path):
    with pebble(tmp_path) as ca:
        async with enroller(tmp_path, ca.options(recreate_account=True)) as made:
            assert isinstance(await issue(made, "a.example"), Issued)
            session = made._connected()
            account = await made._accounts(session).establish(deadline=in_s(WAIT_S))
            ended = {"status": "deactivated"}
            await session.post(account.url, ended, signer=account.signer, deadline=in_s(WAIT_S))
            failed = await issue(made, "a.example")
            assert (Fault.MISCONFIGURED, True) == (failed.fault, "deactivated" in failed.detail)
            (bad,) = [one for one in await made.check(deadline=in_s(WAIT_S)) if not one.good]
            assert ("account", True) == (bad.what, "deactivated" in bad.detail)
            assert "deactivated" in (await made.roll_over_account_key(deadline=in_s(WAIT_S))).detail
        (folder,) = (tmp_path / "state-corp").glob("account-*")
        shutil.rmtree(folder)
        async with enroller(tmp_path, ca.options()) as made:
            assert isinstance(await issue(made, "a.example"), Issued)
        assert 2 == ca.accounts
