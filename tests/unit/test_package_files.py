"""
What the packages are made of agrees with itself: users, folders, units, the sample configuration.
"""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "deploy/package"
SAMPLE = PACKAGE / "cftpki.toml"
SCRIPTS = sorted([*PACKAGE.glob("deb/p*"), *PACKAGE.glob("rpm/*")])


class Unit(configparser.RawConfigParser):
    def optionxform(self, optionstr):
        return optionstr


def unit(name):
    found = Unit(strict=False, interpolation=None)
    found.read_string((ROOT / "deploy/systemd" / name).read_text())
    return found


def entries(name):
    return [line.split() for line in (PACKAGE / name).read_text().splitlines() if line and line[0] != "#"]


def check(path):
    return CliRunner().invoke(main, ["config", "check", "--config", str(path)])


def test_users_and_groups_are_those_of_the_units():
    service, socket = unit("cftpki.service")["Service"], unit("cftpki.socket")["Socket"]
    made = {(line[0], line[1]) for line in entries("sysusers.conf")}
    wanted = {("u", service["User"]), ("g", service["SupplementaryGroups"])}
    assert (wanted, service["Group"], service["SupplementaryGroups"], service["User"]) == (
        made,
        service["User"],  # a user's own group has its name: sysusers.d(5)
        socket["SocketGroup"],
        socket["SocketUser"],
    )


def test_folders_are_those_of_the_units():
    service, socket = unit("cftpki.service")["Service"], unit("cftpki.socket")["Socket"]
    assert [
        ["d", str(Path(socket["ListenStream"]).parent), socket["DirectoryMode"], "root", "root", "-"],
        [
            "d",
            f"/var/lib/{service['StateDirectory']}",
            service["StateDirectoryMode"],
            service["User"],
            service["Group"],
            "-",
        ],
    ] == entries("tmpfiles.conf")


def test_the_service_runs_what_the_package_brings_and_reads_the_configuration_that_it_brings():
    brought = set(re.findall(r"(?:src|dst): (\S+)", (PACKAGE / "nfpm.yaml").read_text()))
    words = unit("cftpki.service")["Service"]["ExecStart"].split()
    assert ["/opt/cftpki/bin/cftpki", "serve", "--config", "/etc/cftpki/cftpki.toml"] == words
    assert {words[0], words[-1]} <= brought


def test_sample_configuration_has_no_fault_as_it_stands_and_lets_nobody_in(tmp_path):
    tmp_path.joinpath("cftpki.toml").write_text(SAMPLE.read_text())
    result = check(tmp_path / "cftpki.toml")
    told = f"{tmp_path}/cftpki.toml: ok, 0 trust sets, 0 identities, 0 rules\n"
    assert (0, told, True) == (result.exit_code, result.stdout, "no [[rule]]" in result.stderr)


def filled_in():
    """
    The sample with everything that it offers: each comment that is TOML.
    """
    offered = re.sub(r"^# (?=\[|[a-z_]+ = )", "", SAMPLE.read_text(), flags=re.MULTILINE)
    return offered.replace('["mft"]', '["root"]')


def test_everything_that_the_sample_offers_is_known(tmp_path):
    path = tmp_path / "cftpki.toml"
    path.write_text(filled_in())
    missing = [f"{name}: no such file" for name in ("partners-root.pem", "mft.pem", "mft.key")]
    faults = check(path).output.splitlines()
    assert [True] * 3 == [any(name.split(":")[0] in fault for fault in faults) for name in missing]
    assert 3 == len(faults)


def test_a_key_that_nobody_knows_would_be_named(tmp_path):
    path = tmp_path / "cftpki.toml"
    path.write_text(filled_in().replace("allow_users", "allow_user"))
    assert 1 == sum("allow_user" in fault for fault in check(path).output.splitlines())


def test_description_has_no_line_that_is_too_long_for_a_terminal():
    text = (PACKAGE / "nfpm.yaml").read_text()
    (description,) = re.findall(r"^description: \|\n((?:  .*\n|\n)+)", text, re.MULTILINE)
    assert [] == [line for line in description.splitlines() if len(line.strip()) > 79]


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("deb/postinst", 'units="(.*)"'),
        ("deb/postrm", 'units="(.*)"'),
        ("deb/prerm", "deb-systemd-invoke stop (.*) >"),
        ("rpm/preun", "disable --now (.*) \\|\\|"),
    ],
)
def test_every_unit_is_known_to_the_scripts(script, line):
    (units,) = re.findall(line, (PACKAGE / script).read_text())
    assert sorted(path.name for path in (ROOT / "deploy/systemd").iterdir()) == sorted(units.split())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_scripts_are_posix_shell(script):
    subprocess.run(["sh", "-n", script], check=True)
    assert ("#!/bin/sh", True) == (script.read_text().splitlines()[0], bool(script.stat().st_mode & 0o111))


def test_no_script_removes_what_the_service_keeps():
    removing = [
        line for path in SCRIPTS for line in path.read_text().splitlines() if re.match(r"\s*rm ", line)
    ]
    assert ["    rm -rf /run/cftpki"] == removing
