"""
`cftpki trust add`: what was found with one partner is what the service needs, also of those that are revoked.
"""

from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from cftpki_ext.api import check_certificate
from cftpki_ext.cli import main
from cftpki_ext.config import load
from tests.support import pki, servers
from tests.support.ports import free_port

pytestmark = pytest.mark.real

NOW = datetime.now(UTC).replace(microsecond=0)
LIVES = {"not_before": NOW - pki.YEARS, "not_after": NOW + pki.YEARS}
RULE = '[[rule]]\nname = "in"\ndirection = "server"\ntrust = "acme"\n'


@pytest.mark.parametrize("revoked", [False, True])
def test_trust_set_that_works_is_written_and_the_rest_of_the_file_stays(tmp_path, revoked):
    port = free_port()
    root = pki.make_root("Root", **LIVES)
    urls = [f"http://127.0.0.1:{port}/root.crl"]
    leaf = pki.issue(root, "partner", eku=["clientAuth"], crl_urls=urls, **LIVES)
    other = pki.issue(root, "other", eku=["clientAuth"], crl_urls=urls, **LIVES)
    crl = pki.make_crl(
        root,
        [pki.Revoked(leaf.serial)] if revoked else [],
        this_update=NOW - timedelta(hours=1),
        next_update=NOW + pki.DAY,
    )
    (tmp_path / "root.pem").write_bytes(root.pem)
    (tmp_path / "partner.pem").write_bytes(leaf.pem)
    config = tmp_path / "cftpki.toml"
    paths = ("--socket", tmp_path / "s", "--state", tmp_path / "state")
    made = CliRunner().invoke(main, [*map(str, ("init", "--config", config, *paths))])
    assert 0 == made.exit_code, made.output
    with servers.nginx(tmp_path, {"root.crl": crl}, port=port):
        call = ("trust", "add", "acme", tmp_path / "root.pem", "--probe", tmp_path / "partner.pem", "--yes")
        done = CliRunner().invoke(main, [*map(str, (*call, "--config", config))])
        assert 0 == done.exit_code, done.output
        assert config.read_text().startswith("# The configuration of cftpki.")
        (trust,) = load(config).trusts.values()
        assert (("127.0.0.1",), ["127.0.0.1/32"], ["crl"]) == (
            trust.allow_hosts,
            [str(one) for one in trust.allow_networks],
            [kind.value for kind in trust.sources],
        )
        assert 0o644 == config.stat().st_mode & 0o777
        assert [] == [one for one in tmp_path.iterdir() if one.name.startswith(".")]
        # And so the service judges by it.
        config.write_text(config.read_text() + RULE)
        assert check_certificate(other.pem, config=config).accepted
        assert (not revoked) is check_certificate(leaf.pem, config=config).accepted
