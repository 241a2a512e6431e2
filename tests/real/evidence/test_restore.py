"""
The memory of revocations deleted, emptied, or put back from an older day, under a real service.

`openssl ocsp` says revoked, and then nothing any more; the policy lets in whoever is not known to be revoked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from cftpki_ext.protocol.codec import Message, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from tests.support import forked, real_service
from tests.support.pki import issue, make_crl, make_root
from tests.support.servers import nginx, openssl_ocsp
from tests.support.wire_client import WireClient

pytestmark = pytest.mark.real

NOW = datetime.now(UTC).replace(microsecond=0)
FRESH = {"this_update": NOW - timedelta(hours=1), "next_update": NOW + timedelta(days=1)}
ROOT = make_root("Root")
CA = issue(ROOT, "Issuing CA", ca=True)
LEAF, OTHER, FINE = (issue(CA, name, eku=["clientAuth"]) for name in ("revoked", "other", "fine"))
PROOFS, LEDGER = "revocations.sqlite3", "evidence/ledger.sqlite3"
BESIDES = ("", "-wal", "-shm")


@contextlib.contextmanager
def place(folder: Path) -> Iterator[tuple[Path, Path]]:
    """
    A configuration and its state, in which LEAF and OTHER were seen revoked; nobody answers any more.
    """
    with nginx(folder, {"root.crl": make_crl(ROOT, **FRESH)}) as lists:
        with openssl_ocsp(
            folder,
            issuer=CA,
            known=[FINE],
            revoked={LEAF.serial: "keyCompromise", OTHER.serial: "superseded"},
        ) as responder:
            config = folder / "c.toml"
            (folder / "root.pem").write_bytes(ROOT.pem)
            config.write_text(
                '[service]\nsocket = "s.sock"\nstate = "state"\nlog_format = "json"\n'
                f'[trust.p]\nanchors = ["root.pem"]\nocsp = ["{responder.url()}"]\n'
                f'crl = ["{lists.url("/root.crl")}"]\nallow_networks = ["127.0.0.0/8"]\npolicy = "soft"\n'
                '[policy.soft]\nbase = "strict"\n'
                + "".join(
                    f'{cause} = {{ action = "accept" }}\n'
                    for cause in ("unreachable", "no_source", "wrong_scope")
                )
                + '[[rule]]\nname = "in"\ndirection = "server"\ntrust = "p"\n'
                '[evidence]\nkeep = "30d"\n'
            )
            with real_service.running(config) as service:
                assert [44, 44, 0] == [alert(service, leaf) for leaf in (LEAF, OTHER, FINE)]
        # The cache knows them revoked as well, for as long as an answer lives.
        shutil.rmtree(folder / "state" / "responses")
        yield config, folder / "state"


def alert(service: real_service.Service, leaf: Any) -> int:
    async def ask() -> int:
        async with WireClient(service.socket) as client:
            answer = await client.ask(Message.CHECK, MODE=1, CHAIN=encode_chain((leaf.der, CA.der)))
            return answer.number(Tag.ALERT) or 0

    return asyncio.run(ask())


def forget(state: Path, name: str = PROOFS) -> None:
    for besides in BESIDES:
        (state / f"{name}{besides}").unlink(missing_ok=True)


def empty(state: Path) -> None:
    forget(state)
    (state / PROOFS).touch()


def clear(state: Path) -> None:
    with contextlib.closing(sqlite3.connect(state / PROOFS, isolation_level=None)) as database:
        database.executescript("DELETE FROM proof; DELETE FROM blob;")


def doctor(config: Path) -> tuple[int, list[dict[str, Any]]]:
    done = CliRunner().invoke(main, ["doctor", "--config", str(config), "--json"])
    assert done.exit_code in {0, 1}, done.output
    found = [one for one in json.loads(done.stdout) if one["about"] == "service"]
    # No service runs at these moments, which is told as well.
    (down,) = (one for one in found if one["check"].startswith("socket "))
    assert down["level"] in {"fail", "warn"}
    found.remove(down)
    return sum(one["level"] == "fail" for one in found), [
        one for one in found if one["check"] == "memory of revocations"
    ]


@pytest.mark.parametrize("lose", [forget, empty, clear])
def test_memory_that_was_lost_is_restored_at_the_start_and_told(
    lose: Callable[[Path], None], tmp_path: Path
) -> None:
    with place(tmp_path) as (config, state):
        lose(state)
        failed, (finding,) = doctor(config)
        assert (1, "fail", 2) == (failed, finding["level"], finding["facts"]["missing"])
        with real_service.running(config) as service:
            (told,) = service.events("revocations_restored")
            assert ("warning", 2, 2) == (told["level"], told["restored"], told["known"])
            assert [44, 44, 0] == [alert(service, leaf) for leaf in (LEAF, OTHER, FINE)]
            sources = [one["source"] for one in service.verdicts() if one["alert"] == 44]
            assert ["ocsp, network"] * 2 + ["ocsp, known_revoked"] * 2 == sources
        assert (0, "ok") == (doctor(config)[0], doctor(config)[1][0]["level"])
        with real_service.running(config) as service:
            assert 1 == len(service.events("revocations_restored"))


def test_older_copy_gets_what_it_lacks_and_nothing_else(tmp_path: Path) -> None:
    with place(tmp_path) as (config, state):
        with contextlib.closing(sqlite3.connect(state / PROOFS, isolation_level=None)) as database:
            assert (
                1
                == database.execute(
                    "DELETE FROM proof WHERE certificate = (SELECT min(certificate) FROM proof)"
                ).rowcount
            )
        with real_service.running(config) as service:
            (told,) = service.events("revocations_restored")
            assert (1, 2) == (told["restored"], told["known"])
            assert [44, 44, 0] == [alert(service, leaf) for leaf in (LEAF, OTHER, FINE)]


def test_memory_without_loss_is_not_spoken_of(tmp_path: Path) -> None:
    with place(tmp_path) as (config, _), real_service.running(config) as service:
        assert [44, 0] == [alert(service, leaf) for leaf in (LEAF, FINE)]
        assert [] == [*service.events("revocations_restored"), *service.events("revocations_lost")]


def test_memory_and_evidence_lost_together_is_what_the_policy_makes_of_it(tmp_path: Path) -> None:
    """
    The negative twin: without either nobody knows, and the soft policy lets the partner in.
    """
    with place(tmp_path) as (config, state):
        forget(state)
        shutil.rmtree(state / "evidence")
        with real_service.running(config) as service:
            assert 0 == alert(service, LEAF)


def test_record_that_was_tampered_with_restores_nothing_and_is_told_as_lost(tmp_path: Path) -> None:
    with place(tmp_path) as (config, state):
        forget(state)
        with contextlib.closing(sqlite3.connect(state / LEDGER, isolation_level=None)) as database:
            database.execute("UPDATE blob SET raw = CAST('x' || raw AS BLOB)")
        failed, (finding,) = doctor(config)
        assert (1, 2, 2) == (failed, finding["facts"]["missing"], finding["facts"]["lost"])
        with real_service.running(config) as service:
            (told,) = service.events("revocations_lost")
            assert (2, 2) == (told["lost"], len(told["records"]))
            assert [] == service.events("revocations_restored")


def test_index_that_names_an_innocent_s_record_proves_nothing_against_it(tmp_path: Path) -> None:
    """
    The ledger's word alone is never believed: who was not revoked by a signed statement is let in.
    """
    with place(tmp_path) as (config, state):
        with contextlib.closing(sqlite3.connect(state / LEDGER, isolation_level=None)) as database:
            (innocent,) = database.execute("SELECT id FROM record ORDER BY seq DESC LIMIT 1").fetchone()
            database.execute("UPDATE revoked SET record = ?", (innocent,))
        forget(state)
        with real_service.running(config) as service:
            assert 0 == alert(service, FINE)
            assert 2 == service.events("revocations_lost")[0]["lost"]


def test_evidence_that_was_deleted_is_told(tmp_path: Path) -> None:
    with place(tmp_path) as (config, state):
        shutil.rmtree(state / "evidence")
        _, (finding,) = doctor(config)
        assert ("warn", "younger than the evidence") == (finding["level"], finding["detail"][-25:])
        with real_service.running(config) as service:
            assert 1 == len(service.events("evidence_behind"))
            assert 44 == alert(service, LEAF)


def test_corrupt_memory_keeps_the_service_down_until_it_is_moved_away(tmp_path: Path) -> None:
    with place(tmp_path) as (config, state):
        for besides in BESIDES[1:]:
            (state / f"{PROOFS}{besides}").unlink(missing_ok=True)
        os.truncate(state / PROOFS, 5000)
        failed, (finding,) = doctor(config)
        assert 1 == failed
        assert "move" in finding["action"]
        ended = forked.run(
            ["serve", "--config", config],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert 0 != ended.returncode
        assert "revocations" in ended.stderr
        (state / PROOFS).rename(state / "damaged")
        with real_service.running(config) as service:
            assert 2 == service.events("revocations_restored")[0]["restored"]
            assert 44 == alert(service, LEAF)


def test_start_that_was_killed_in_the_middle_is_taken_up_by_the_next(tmp_path: Path) -> None:
    with place(tmp_path) as (config, state):
        for _ in range(6):
            forget(state)
            starting = forked.Popen(["serve", "--config", config], stderr=subprocess.DEVNULL)
            until = time.monotonic() + real_service.WAIT_S
            while not (state / PROOFS).exists():
                assert time.monotonic() < until
                time.sleep(0.001)
            starting.kill()
            starting.wait()
            with real_service.running(config) as service:
                assert [44, 44, 0] == [alert(service, leaf) for leaf in (LEAF, OTHER, FINE)]


def test_two_doors_restore_at_once(tmp_path: Path) -> None:
    chain = tmp_path / "leaf.pem"
    chain.write_bytes(LEAF.pem + CA.pem)
    with place(tmp_path) as (config, state):
        forget(state)
        doors = [
            forked.Popen(
                ["check", chain, "--config", config, "--direction", "server"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(3)
        ]
        said = "".join(door.communicate(timeout=60)[1] for door in doors)
        assert [44, 44, 44] == [door.returncode for door in doors]
        assert "revocations_restored restored=" in said
        assert "cannot" not in said
