"""The units that we ship: systemd understands them, and they agree with the program."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cftpki_ext.core.settings import ServiceSettings
from cftpki_ext.service.daemon import STOP_S
from cftpki_ext.service.listener import BACKLOG

UNITS = Path(__file__).resolve().parents[3] / "deploy/systemd"


def unit(name):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # as configparser documents it
    parser.read(UNITS / name)
    return parser


def test_socket_unit_has_the_programs_path_and_backlog():
    section = unit("cftpki.socket")["Socket"]
    assert (str(ServiceSettings().socket), str(BACKLOG), "0660") == (
        section["ListenStream"],
        section["Backlog"],
        section["SocketMode"],
    )


def test_service_unit_waits_longer_than_a_clean_stop_takes():
    assert float(unit("cftpki.service")["Service"]["TimeoutStopSec"].rstrip("s")) > STOP_S


def test_service_unit_state_directory_is_the_programs():
    directory = unit("cftpki.service")["Service"]["StateDirectory"]
    assert str(ServiceSettings().state) == f"/var/lib/{directory}"


@pytest.mark.real
def test_units_pass_systemd_analyze(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for path in UNITS.iterdir():
        text = re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", path.read_text(), flags=re.MULTILINE)
        (tmp_path / path.name).write_text(text)
    units = [str(tmp_path / path.name) for path in sorted(UNITS.iterdir())]
    checked = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    )
    assert "cftpki" not in checked.stderr
    (tmp_path / "cftpki.service").write_text("[Service]\nExecStart=/bin/true\nNoSuchThing=yes\n")
    checked = subprocess.run(
        ["systemd-analyze", "verify", units[0]], capture_output=True, text=True, check=False
    )
    assert "NoSuchThing" in checked.stderr
