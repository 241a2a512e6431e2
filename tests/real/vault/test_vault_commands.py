"""
The command line and `doctor` on an identity that Vault's own PKI signs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from cftpki_ext.config import load
from cftpki_ext.identity.store.layout import site_of
from tests.support import forked
from tests.support.ca_servers import write_secret
from tests.support.ca_vault import Vault, vault

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    with vault(tmp_path_factory.mktemp("vault")) as running:
        yield running


@pytest.fixture
def config(ca: Vault, tmp_path: Path) -> Path:
    role = ca.approle()
    (tmp_path / "root.pem").write_bytes(ca.root.pem)
    path = tmp_path / "cftpki.toml"
    path.write_text(
        '[service]\nsocket = "s"\nstate = "state"\n[trust.own]\nanchors = ["root.pem"]\n'
        '[identity.mft]\nenrollers = ["corp"]\nnames = ["mft.corp.example"]\nkey = "p256"\ntrust = "own"\n'
        'lifetime = "2h"\nmin_interval = "1s"\n'
        f'[enroller.corp]\ntype = "vault"\nurl = "{ca.url}"\nroot_file = "{ca.roots}"\nrole = "mft"\n'
        f'approle = {{ role_id = "{role["role_id"]}", secret_id_file = "{role["secret_id_file"]}" }}\n'
    )
    return path


def run(config: Path, *arguments: str, status: int | None = 0) -> str:
    command = [*arguments, "--config", config]
    done = forked.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert status in {None, done.returncode}, done.stdout + done.stderr
    return done.stdout + ("" if "--json" in arguments else done.stderr)


def doctored(config: Path) -> dict[str, Any]:
    found = json.loads(run(config, "doctor", "--json", status=None))
    (one,) = [one for one in found if one["about"] == "enroller corp"]
    return one


def test_identity_is_issued_renewed_checked_and_revoked_at_the_ca(ca, config):
    run(config, "config", "check")
    run(config, "enroller", "check")
    assert 0 == ca.issued
    run(config, "identity", "issue", "mft")
    run(config, "identity", "renew", "mft", "--now")
    assert 2 == ca.issued
    settings = load(config)
    current = site_of(settings.service.state, settings.identities["mft"]).generations.current()
    assert 2 == current.number
    assert "ok" == doctored(config)["level"]
    run(config, "identity", "revoke", "mft", "--reason", "superseded")
    crl = x509.load_pem_x509_crl(ca.ask("pki/crl/pem")["raw"])
    assert current.leaf.serial in {one.serial_number for one in crl}
    state = Path(settings.service.state)
    held = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    assert b"hvs." not in held
    # Each command has given back its token.
    assert ca.log_text().count("auth/approle/login") == ca.log_text().count("auth/token/revoke-self")


def test_doctor_names_a_secret_that_is_not_taken_and_a_server_that_is_sealed(ca, config):
    run(config, "identity", "issue", "mft")
    secret = Path(load(config).enrollers["corp"].options.approle.secret_id_file)
    good = secret.read_bytes()
    write_secret(secret, b"11111111-2222-3333-4444-555555555555")
    one = doctored(config)
    assert ("warn", True) == (one["level"], "login by auth/approle" in one["detail"]), one
    write_secret(secret, good)
    ca.control(status=503)
    try:
        one = doctored(config)
        assert ("warn", True) == (one["level"], "is sealed" in one["detail"]), one
        assert "generation 1 stays in force" in run(config, "identity", "renew", "mft", "--now", status=1)
    finally:
        ca.control(status=200)
    assert "ok" == doctored(config)["level"]
