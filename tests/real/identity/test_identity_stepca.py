"""An identity kept by a real step-ca through the configuration and the command line: issued, renewed, revoked."""

import json
import os

import pytest

from tests.support import forked
from tests.support.ca_servers import make_step_ca

pytestmark = pytest.mark.real


class Site:
    def __init__(self, folder, ca, **identity):
        self.config = folder / "cftpki.toml"
        lines = ['[service]\nsocket = "s"\nstate = "state"\n', "[identity.mft]", 'enrollers = ["corp"]']
        table = {"names": ["mft.corp.example", "10.1.2.3"], "key": "p256", **identity}
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        lines += ["[enroller.corp]", 'type = "stepca"']
        lines += [f"{key} = {json.dumps(str(value))}" for key, value in ca.options().items()]
        self.config.write_text("\n".join(lines) + "\n")

    def run(self, *arguments, status=0):
        done = forked.run(
            ["identity", *arguments],
            env={**os.environ, "CFTPKI_CONFIG": str(self.config)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert status == done.returncode, done.stdout + done.stderr
        return done.stdout + done.stderr

    def data(self, *arguments):
        return json.loads(self.run(*arguments, "--json"))


def test_identity_lives_with_a_real_ca_and_without_it(tmp_path):
    ca = make_step_ca(tmp_path)
    site = Site(tmp_path, ca, lifetime="12h")
    with ca.running():
        assert "mft: issued; generation 1 is in force" in site.run("issue", "mft")
        first = site.data("show", "mft")
        shown = site.run("show", "mft")
        assert "{" not in shown
        assert all(name in shown for name in first["generation"]["names"])
        assert (1, None, []) == (first["generation"]["number"], first["trouble"], first["orphans"])
        site.run("renew", "mft", "--now")
        second = site.data("show", "mft")["generation"]
        assert first["generation"]["serial"] != second["serial"]
        assert "; generation 2 stays in force" in site.run("revoke", "mft", "--generation", "1")
        assert "the service renews it now" in site.run("revoke", "mft", "--reason", "superseded")
        assert "REVOKED" in site.run("list")
        # A successor of a revoked certificate is due at once.
        assert "renewed" in site.run("renew", "mft")
        third = site.data("show", "mft")
        assert (3, None) == (third["generation"]["number"], third["trouble"])
    assert "generation 3 stays in force" in site.run("renew", "mft", "--now", status=1)
    told = site.data("show", "mft")
    assert "unreachable" in told["trouble"]
    assert third["runway"] == told["runway"]
    with ca.running():
        site.run("renew", "mft", "--now")
    told = site.data("history", "mft")
    assert [1, 2, 3, 4] == [one["number"] for one in told["generations"]]
    assert {"activated"} == {one["outcome"] for one in told["orders"]}
    assert ["issue", "renew", "revoke", "revoke", "renew"] == [
        one["command"] for one in told["actions"] if one["step"] == "begun"
    ][:5]


def test_lifetime_that_the_ca_does_not_give_is_told(tmp_path):
    ca = make_step_ca(tmp_path)
    site = Site(tmp_path, ca, lifetime="90d")
    with ca.running():
        said = site.run("issue", "mft", status=1)
    assert said.rstrip().endswith("172800 s; no certificate yet")
    (told,) = site.data("list")
    assert ("missing", "refused") == (told["alarm"], told["last_failure"]["fault"])


@pytest.mark.parametrize("more", [[], ["mft.corp.example"]])
def test_name_of_more_than_64_characters_makes_no_common_name(tmp_path, more):
    long = "transfers-with-partners-of-the-northern-and-southern-regions.mft.corp.example"
    ca = make_step_ca(tmp_path)
    site = Site(tmp_path, ca, names=[long, *more])
    with ca.running():
        assert "mft: issued; generation 1 is in force" in site.run("issue", "mft")
    shown = site.data("show", "mft")["generation"]
    assert {long, *more} == set(shown["names"])
    assert f"CN={more[0] if more else 'mft'}" == shown["subject"]
