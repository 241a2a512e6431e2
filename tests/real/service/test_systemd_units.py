"""The units that we ship: systemd understands them, and they agree with the program."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cftpki_ext.cli.serving import serve
from cftpki_ext.core.settings import ServiceSettings
from cftpki_ext.service.daemon import STOP_S
from cftpki_ext.service.descriptors import SPARE_CONNECTIONS, connections_that_fit
from cftpki_ext.service.listener import BACKLOG

ROOT = Path(__file__).resolve().parents[3]
UNITS = ROOT / "deploy/systemd"


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
        text = re.sub(r"^Exec(Start|Reload)=.*$", r"Exec\1=/bin/true", path.read_text(), flags=re.MULTILINE)
        (tmp_path / path.name).write_text(text)
    units = [str(tmp_path / path.name) for path in sorted(UNITS.iterdir())]
    checked = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    )
    assert "cftpki" not in checked.stderr
    (tmp_path / "cftpki.service").write_text("[Service]\nExecStart=/bin/true\nNoSuchThing=yes\n")
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "cftpki.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "NoSuchThing" in checked.stderr


def test_unit_has_descriptors_for_the_sessions_that_are_allowed_by_default():
    wanted = ServiceSettings().max_sessions + SPARE_CONNECTIONS
    assert wanted == connections_that_fit(int(unit("cftpki.service")["Service"]["LimitNOFILE"]), wanted)


def test_unit_bounds_its_memory_and_is_begun_again_however_often_it_ends():
    service = unit("cftpki.service")
    assert ("0", "always") == (service["Unit"]["StartLimitIntervalSec"], service["Service"]["Restart"])
    assert "2G" == service["Service"]["MemoryMax"]


def test_unit_s_reload_is_the_program_s_own_on_the_configuration_that_it_was_started_with():
    service = unit("cftpki.service")["Service"]
    program, _, options = service["ExecStart"].partition(" serve ")
    (started,) = re.findall(r"--config \S+", options)
    assert f"{program} reload {started} --pid $MAINPID" == service["ExecReload"]


def test_units_name_documentation_that_the_guide_installs():
    guide = (ROOT / "docs/install.md").read_text()
    for name in ("cftpki.service", "cftpki.socket", "cftpki-metrics.service"):
        places = unit(name)["Unit"]["Documentation"].split()
        assert [] == [one for one in places if not (ROOT / "docs" / one.rpartition("/")[2]).is_file()]
        assert {"file:///usr/share/doc/cftpki"} == {one.rpartition("/")[0] for one in places}
    assert "sudo install -D -m 0644 docs/*.md -t /usr/share/doc/cftpki" in guide


def test_socket_has_a_group_that_no_key_has():
    group = unit("cftpki.socket")["Socket"]["SocketGroup"]
    assert group != unit("cftpki.service")["Service"]["Group"]
    assert f"groupadd --system {group}" in (ROOT / "docs/install.md").read_text()


def test_service_may_give_what_it_makes_beside_the_socket_to_the_socket_s_group():
    text = (UNITS / "cftpki.service").read_text()
    group = unit("cftpki.socket")["Socket"]["SocketGroup"]
    assert group in unit("cftpki.service")["Service"]["SupplementaryGroups"].split()
    # Of lines for system calls the last word counts: @privileged forbids @chown.
    filters = re.findall(r"^SystemCallFilter=(.*)$", text, flags=re.MULTILINE)
    assert filters.index("@chown setpriority") > filters.index("~@privileged @resources")
    assert "" == unit("cftpki.service")["Service"]["CapabilityBoundingSet"]


def test_metrics_outlive_the_service_which_leaves_them_to_their_unit_where_it_is_told():
    service, metrics = unit("cftpki.service"), unit("cftpki-metrics.service")
    assert "metrics --serve " in metrics["Service"]["ExecStart"]
    assert set() == {"requires", "bindsto", "partof"} & {key.lower() for key in metrics["Unit"]}
    assert service["Service"]["User"] == metrics["Service"]["User"]
    (option,) = [one for one in serve.params if one.name == "no_metrics"]
    assert f"Environment={option.envvar}=1" in (ROOT / "docs/monitoring.md").read_text()
