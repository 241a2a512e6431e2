"""
`cftpki doctor` on an identity that a real step-ca keeps: well, then each trouble on the disk and at the CA.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from tests.support.ca_servers import StepCa, make_step_ca
from tests.support.pki import make_root

pytestmark = pytest.mark.real


def configured(folder: Path, ca: StepCa, anchor: bytes) -> Path:
    options = ca.options()
    (folder / "root.pem").write_bytes(anchor)
    config = folder / "c.toml"
    config.write_text(
        '[service]\nsocket = "s"\nstate = "state"\n[trust.hosts]\nanchors = ["root.pem"]\n'
        f'[enroller.corp]\ntype = "stepca"\nurl = "{ca.url}"\nfingerprint = "{ca.fingerprint}"\n'
        f'password_file = "{options["password_file"]}"\nprovisioner = "mft"\n'
        '[identity.mft]\nenrollers = ["corp"]\nnames = ["mft.corp.example"]\nkey = "p256"\nlifetime = "1h"\n'
        'trust = "hosts"\n'
    )
    return config


def cftpki(*arguments: object) -> Any:
    return CliRunner().invoke(main, list(map(str, arguments)))


def doctor(config: Path) -> tuple[int, dict[tuple[str, str], str]]:
    """
    Exit status, and (about, check's first word) → level of what concerns identities and enrollers.
    """
    done = cftpki("doctor", "--config", config, "--json")
    assert done.exit_code in {0, 1}, done.output
    found = json.loads(done.stdout)
    assert all(one["action"] for one in found if one["level"] in {"fail", "warn"}), found
    mine = [one for one in found if one["about"].startswith(("identity", "enroller"))]
    return done.exit_code, {(one["about"], one["check"].split()[0]): one["level"] for one in mine}


def test_identity_of_a_real_ca_from_well_to_each_trouble(tmp_path: Path) -> None:
    ca = make_step_ca(tmp_path)
    config = configured(tmp_path, ca, ca.root.pem)
    well = {("identity mft", "certificate"): "ok", ("enroller corp", "CA"): "ok"}
    with ca.running():
        # Before there is a state directory nobody is asked: what is made there is the service's.
        status, found = doctor(config)
        assert (1, "fail", "note") == (
            status,
            found["identity mft", "certificate"],
            found["enroller corp", "CA"],
        )
        assert not (tmp_path / "state").exists()
        assert 0 == cftpki("identity", "issue", "mft", "--config", config).exit_code
        assert (0, well) == doctor(config)

        key = tmp_path / "state" / "identities" / "mft" / "current" / "key.pem"
        key.chmod(0o640)
        # A key that cannot be used makes its certificate due at once.
        about_key = {("identity mft", "key"): "fail", ("identity mft", "place"): "warn"}
        exposed = well | about_key
        assert (1, exposed) == doctor(config)
        key.chmod(0o600)

        other = make_root("Another Root")
        (tmp_path / "root.pem").write_bytes(other.pem)
        assert (1, well | {("identity mft", "chain"): "fail"}) == doctor(config)
        (tmp_path / "root.pem").write_bytes(ca.root.pem)
        assert (0, well) == doctor(config)
    # The CA is down: the certificate is good for a while.
    status, found = doctor(config)
    assert (0, "ok") == (status, found["identity mft", "certificate"])
    assert {"warn"} == {level for (about, _), level in found.items() if about == "enroller corp"}


def test_doctor_leaves_the_places_of_identities_as_they_are(tmp_path: Path) -> None:
    ca = make_step_ca(tmp_path)
    config = configured(tmp_path, ca, ca.root.pem)
    with ca.running():
        assert 0 == cftpki("identity", "issue", "mft", "--config", config).exit_code
        place = tmp_path / "state" / "identities"
        before = {path: path.lstat().st_mtime_ns for path in (place, *place.rglob("*"))}
        assert 0 == doctor(config)[0]
        assert before == {path: path.lstat().st_mtime_ns for path in (place, *place.rglob("*"))}
        assert {"identities", "enrollers"} == {entry.name for entry in (tmp_path / "state").iterdir()}
