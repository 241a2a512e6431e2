"""
The SCEP enroller against step-ca, and micromdm's client against the same CA and against our own front.
"""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from cftpki_connectors.scep import PLUGIN, ScepEnroller
from cftpki_ext.identity.enroller_port import Failed, Fault, Held, Issued, Order
from tests.real.identity.test_enrolment_matrix import Site, assert_normal
from tests.support import pki
from tests.support.ca_scep import CHALLENGE, ScepSite, with_scep
from tests.support.ca_servers import make_step_ca, tool, write_secret
from tests.support.forked_command import forked_commands
from tests.support.orders import Saves, context, held, in_s, leaf_of, make_order
from tests.support.scep_front import make_front, serving

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("scep-stepca")]

NAME = "mft.corp.example"
RSA_KEY = pki.key("rsa", "scep identity")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScepSite]:
    made = with_scep(make_step_ca(tmp_path_factory.mktemp("scep")))
    with made.ca.running():
        yield made


def enroller(site: ScepSite, folder: Path, **changes: Any) -> ScepEnroller:
    return ScepEnroller(PLUGIN.options(**site.options(**changes)), context(folder))  # type: ignore[arg-type] # it is ScepOptions


def order(private: Any = None, **changes: Any) -> Order:
    return make_order(NAME, common_name=NAME, private=private, **changes)


async def advance(site: ScepSite, folder: Path, wanted: Order | None = None, **changes: Any) -> Any:
    one = enroller(site, folder, **changes)
    return await one.advance(wanted or order(), {}, Saves(), deadline=in_s(60))


@pytest.mark.parametrize("private", [None, RSA_KEY], ids=["ec", "rsa"])
@pytest.mark.parametrize("method", ["post", "get"])
async def test_first_request_issues_for_keys_of_both_kinds(site, tmp_path, private, method):
    wanted = order(private)

    outcome = await advance(site, tmp_path, wanted, method=method)

    assert isinstance(outcome, Issued), outcome
    assert wanted.key.public_key() == leaf_of(outcome).public_key()
    assert site.ca.intermediate.der in outcome.extra


async def test_server_is_reached_over_tls_that_the_configured_roots_verify(site, tmp_path):
    roots = tmp_path / "roots.pem"
    roots.write_bytes(site.ca.root.pem)
    url = site.url(tls=True)

    outcome = await advance(site, tmp_path, url=url, tls_roots=roots)
    untrusted = await advance(site, tmp_path, url=url)

    assert isinstance(outcome, Issued)
    assert isinstance(untrusted, Failed)
    assert Fault.MISCONFIGURED is untrusted.fault
    assert "not trusted" in untrusted.detail


async def test_renewal_signed_by_the_certificate_in_force_carries_the_password_where_it_is_wanted(
    site, tmp_path
):
    first = order(RSA_KEY)
    current = held(await advance(site, tmp_path, first), first)
    again = order(RSA_KEY, id="order-2", current=current)

    both = await advance(site, tmp_path, again)
    alone = await advance(site, tmp_path, again, renewal="certificate")
    bare = await advance(site, tmp_path, again, renewal="certificate", challenge_file=None)

    assert isinstance(both, Issued)
    assert ("renewal: RenewalReq, signed by this certificate",) == both.notes
    assert isinstance(alone, Issued)
    assert any("RenewalReq was refused: badRequest" in note for note in alone.notes)
    assert isinstance(bare, Failed)
    assert Fault.REFUSED is bare.fault


async def test_ca_with_an_rsa_key_does_without_an_ra(tmp_path):
    alone = with_scep(make_step_ca(tmp_path), ra=False)
    with alone.ca.running():
        outcome = await advance(alone, tmp_path)
        findings = {one.what: one.detail for one in await enroller(alone, tmp_path).check(deadline=in_s(60))}

    assert isinstance(outcome, Issued), outcome
    assert "2 CAs and 0 RAs are believed" in findings["GetCACert"]
    assert "encrypted to the CA 'CN=Step RSA Issuing CA'" in findings["GetCACert"]


async def test_wrong_password_is_refused_and_told_without_the_password(site, tmp_path):
    secret = write_secret(tmp_path / "wrong", b"something else\n")

    outcome = await advance(site, tmp_path, challenge_file=secret)

    assert isinstance(outcome, Failed)
    assert Fault.REFUSED is outcome.fault
    assert "badRequest, 'failed validating challenge password'" in outcome.detail
    assert "something else" not in outcome.detail


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"legacy": []}, "signed with SHA-1"), ({"provisioner": "old"}, '"encryptionAlgorithmIdentifier" to 2')],
    ids=["sha1", "des"],
)
async def test_older_algorithms_of_the_server_are_not_taken_and_told(site, tmp_path, changes, said):
    provisioner = changes.pop("provisioner", "scep")

    outcome = await advance(site, tmp_path, url=site.url(provisioner), **changes)

    assert isinstance(outcome, Failed)
    assert Fault.MISCONFIGURED is outcome.fault
    assert said in outcome.detail


async def test_provisioner_that_is_none_is_told(site, tmp_path):
    outcome = await advance(site, tmp_path, url=site.url("nobody"))

    assert isinstance(outcome, Failed)
    assert "GetCACert: HTTP 500" in outcome.detail


async def test_ra_that_is_not_named_gets_no_request(site, tmp_path):
    before = site.issued
    only = tmp_path / "root.pem"
    only.write_bytes(site.ca.root.pem)

    outcome = await advance(site, tmp_path, certificates=only)

    assert isinstance(outcome, Failed)
    assert Fault.MISCONFIGURED is outcome.fault
    assert "must be named" in outcome.detail
    assert before == site.issued


def test_commands_issue_renew_and_look_at_the_server(site, tmp_path):
    (tmp_path / "root.pem").write_bytes(site.ca.root.pem)
    table = {"type": "scep", **site.options()}
    commands = Site(tmp_path, {"corp": table}, anchors=["root.pem"], key="rsa2048", min_interval="1s")
    with forked_commands() as run:

        def command(*arguments, status=0):
            got, told = run([*arguments, "--config", commands.config])
            assert status == got, told
            return told

        looked = command("enroller", "check")
        command("identity", "issue", "mft")
        command("identity", "renew", "mft", "--now")
        refused = command("identity", "revoke", "mft", "--reason", "superseded", status=1)
        listed = command("enroller", "list")

    assert "requests are encrypted to the RA 'CN=SCEP Decrypter'" in looked
    assert 2 == commands.current().number
    assert_normal(commands, site.ca.root.pem)
    assert "SCEP has no revocation" in refused
    assert site.url() in listed


def test_find_names_the_provisioners_and_a_table_that_has_to_be_filled(site):
    with forked_commands() as run:
        got, told = run(["enroller", "find", f"http://127.0.0.1:{site.ca.crl_port}/scep/scep", "--json"])

    assert 0 == got, told
    (one,) = [one for one in json.loads(told)["found"] if one["type"] == "scep"]
    table = tomllib.loads(one["toml"])["enroller"]
    ((_, keys),) = table.items()
    assert site.url() == keys["url"]
    assert keys["certificates"].startswith("<PEM file")


# ---- a foreign client --------------------------------------------------------------------------------------


def foreign(folder: Path, url: str) -> tuple[bytes, Any]:
    """
    What micromdm's client gets: the certificate (DER) and its RSA key.
    """
    command: list[Any] = [tool("scepclient"), "-server-url", url, "-challenge", CHALLENGE]
    command += ["-private-key", folder / "key.pem", "-certificate", folder / "certificate.pem"]
    command += ["-cn", NAME, "-dnsname", NAME, "-key-encipherment-selector"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=folder)
    assert 0 == done.returncode, done.stdout + done.stderr
    certificate = x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())
    return certificate.public_bytes(Encoding.DER), load_pem_private_key(
        (folder / "key.pem").read_bytes(), None
    )


def test_foreign_client_enrols_at_our_front(tmp_path):
    with serving(make_front(passwords={CHALLENGE})) as front:
        der, key = foreign(tmp_path, front.url)

    assert [der] == front.issued
    assert key.public_key() == x509.load_der_x509_certificate(der).public_key()


async def test_certificate_of_a_foreign_client_is_renewed_by_ours(site, tmp_path):
    der, key = foreign(tmp_path, site.url())

    outcome = await advance(site, tmp_path, order(key, current=Held(chain=(der,), key=key)))

    assert isinstance(outcome, Issued), outcome
    assert ("renewal: RenewalReq, signed by this certificate",) == outcome.notes
