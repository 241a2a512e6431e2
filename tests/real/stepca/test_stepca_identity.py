"""
An identity kept fresh from a real step-ca, as the service does it: from the configuration file to the generation.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.store.generations import Generation
from tests.support import pki
from tests.support.ca_servers import StepCa, make_step_ca, write_secret
from tests.support.killed_stepca import make_manager

pytestmark = pytest.mark.real

WAIT_S = 15.0
PROGRAM = Path(__file__).parents[2] / "support" / "killed_stepca.py"
ROUNDS = 16


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StepCa]:
    with make_step_ca(tmp_path_factory.mktemp("ca")).running() as running:
        yield running


def configured(folder: Path, ca: StepCa, *lines: str) -> Path:
    """
    A configuration file with one identity, `mft`.
    """
    password = ca.options()["password_file"]
    table = [
        '[service]\nsocket = "s"\nstate = "state"\n[enroller.corp]\ntype = "stepca"',
        f'url = "{ca.url}"\nfingerprint = "{ca.fingerprint}"\npassword_file = "{password}"',
        *lines,
        '[identity.mft]\nenrollers = ["corp"]\nnames = ["mft.corp.example", "10.1.2.3"]\nkey = "p256"\nlifetime = "1h"',
    ]
    file = folder / "c.toml"
    file.write_text("\n".join(table))
    return file


def in_force(manager: Manager) -> Generation:
    current = manager._site("mft").generations.current()
    assert current is not None
    return current


def public_key(generation: Generation) -> bytes:
    return generation.key(None).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


async def renew(manager: Manager) -> Generation:
    done = await manager.renew("mft", force=True, wait_s=WAIT_S)
    assert (True, False) == (done.issued, done.failed), done.detail
    return in_force(manager)


async def test_identity_is_issued_renewed_and_replaced_after_revocation(ca: StepCa, tmp_path: Path) -> None:
    async with aclosing(make_manager(configured(tmp_path, ca, 'provisioner = "mft"'))) as manager:
        first = await renew(manager)
        assert any(note.startswith("asked by sign: ") for note in first.meta.notes)
        second = await renew(manager)
        assert any(note.startswith("asked by rekey: ") for note in second.meta.notes)
        assert public_key(first) != public_key(second)
        assert first.chain[1:] == second.chain[1:]
        assert None is await manager.revoke("mft", number=None, reason="keyCompromise", wait_s=WAIT_S)
        third = await renew(manager)
        assert "asked by sign: the certificate in use is revoked" in third.meta.notes
        assert 3 == len({public_key(one) for one in (first, second, third)})
        assert first.number == (await manager.rollback("mft", to=first.number, wait_s=WAIT_S)).number


async def test_identity_without_client_auth_is_not_put_in_force(ca: StepCa, tmp_path: Path) -> None:
    async with aclosing(make_manager(configured(tmp_path, ca, 'provisioner = "server-only"'))) as manager:
        done = await manager.renew("mft", force=True, wait_s=WAIT_S)
        assert (False, True, None) == (done.issued, done.failed, done.generation)
        assert "client" in done.detail


async def test_identity_in_force_stays_while_the_ca_is_down(tmp_path: Path) -> None:
    ca = make_step_ca(tmp_path)
    async with aclosing(make_manager(configured(tmp_path, ca, 'provisioner = "mft"'))) as manager:
        with ca.running():
            kept = await renew(manager)
        down = await manager.renew("mft", force=True, wait_s=WAIT_S)
        assert (kept.number, False) == (down.generation, down.issued)
        assert kept.number == in_force(manager).number
        with ca.running():
            assert kept.number < (await renew(manager)).number


def test_kill_at_any_moment_leaves_one_certificate_and_tells_what_was_lost(
    ca: StepCa, tmp_path: Path
) -> None:
    key_file = write_secret(tmp_path / "key", pki.key_pem(ca.key))
    file = configured(tmp_path, ca, f'provisioner = "mft"\nkey_file = "{key_file}"')
    command = [sys.executable, PROGRAM, file, ca.folder / "step-ca.log", str(ROUNDS), "20260601"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert 0 == done.returncode, done.stderr
    rounds = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert ROUNDS == len(rounds)
    assert sum(found["killed"] for found in rounds) >= 2
    for number, found in enumerate(rounds):
        assert (True, 0) == (found["key_fits"], found["open"]), (number, found)
        # What the CA issued is in force, or was told: never an order that is lost, never two in one round.
        assert 1 == found["new"], (number, found)
        assert found["new"] <= found["issued"] <= found["new"] + found["orphans"], (number, found)
