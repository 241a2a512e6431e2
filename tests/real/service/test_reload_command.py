"""
`cftpki reload`: the service's word on a new configuration, and an exit status that a service manager believes.
"""

import json
import os
from typing import Any

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from cftpki_ext.service.monitoring.asking import ask_status
from tests.support import pki, real_service

pytestmark = pytest.mark.real

RULE = '[[rule]]\nname = "{name}"\ndirection = "{direction}"\ntrust = "partners"\n'


@pytest.fixture
def config(tmp_path):
    (tmp_path / "root.pem").write_bytes(pki.make_root("Root").pem)
    path = tmp_path / "c.toml"
    path.write_text(
        '[service]\nsocket = "s"\nstate = "state"\nlog_format = "json"\n[trust.partners]\nanchors = ["root.pem"]\n'
        + RULE.format(name="in", direction="server")
    )
    return path


def status(service) -> Any:
    return ask_status(service.socket)


def reload(config, *options):
    return CliRunner().invoke(main, ["reload", "--config", str(config), *options])


def test_reload_that_succeeds_is_waited_for_and_one_with_a_fault_changes_nothing_and_fails(config):
    with real_service.running(config) as service:
        before = config.read_text()
        config.write_text(before + RULE.format(name="out", direction="client"))
        done = reload(config)
        assert (0, "reloaded: 2 rules, 1 trust set\n") == (done.exit_code, done.output)
        told = status(service)
        assert (["in", "out"], 1) == (told["rules"], told["reloads"]["ok"])
        assert service.process.pid == told["pid"]
        # A fault of the file: it is named here, and the service is not even asked.
        config.write_text(before.replace('"partners"', '"nobody"'))
        done = reload(config)
        assert 2 == done.exit_code
        assert "[rule[1].trust]" in done.output
        assert 0 == status(service)["reloads"]["failed"]
        # One that the service alone sees, as it was started with other sources.
        rest = '\nsources = ["rest"]\n[trust.partners.rest]\nprofile = "vault"\nurl = "https://vault.example/v1/pki"\n'
        config.write_text(before.replace('anchors = ["root.pem"]\n', f'anchors = ["root.pem"]{rest}'))
        done = reload(config, "--pid", str(service.process.pid))
        assert 1 == done.exit_code
        assert (
            "cftpki: the service keeps the configuration of before: "
            f"{config}: sources rest are new: restart the service\n"
        ) == done.output
        told = status(service)
        assert (["in", "out"], 1, 1) == (told["rules"], told["reloads"]["ok"], told["reloads"]["failed"])
        config.write_text(before)
        done = reload(config, "--json")
        assert {"ok": 2, "failed": 1, "last_error": None}.items() <= json.loads(done.stdout)[
            "reloads"
        ].items()
        assert [] == service.failures()


def test_reload_without_a_service_or_of_another_process_fails(config):
    done = reload(config)
    assert 1 == done.exit_code
    assert "is the service running (cftpki serve)?" in done.output
    with real_service.running(config):
        gone = os.fork()
        if gone == 0:
            os._exit(0)
        os.waitpid(gone, 0)
        done = reload(config, "--pid", str(gone))
        assert (1, f"cftpki: process {gone} cannot be asked to reload: no such process\n") == (
            *(done.exit_code, done.output),
        )
