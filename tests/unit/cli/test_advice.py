"""
What `check` says to do about a refusal: each hint names what to write, and is not given where it would not help.
"""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from tests.support import pki

AT = pki.NOW.isoformat()
HTTP = "http://crl.partner.example/ca.crl"
PRIVATE = "http://10.1.2.3/ca.crl"
AD_CS = (
    "ldap:///CN=CA,CN=CDP,DC=corp,DC=example?certificateRevocationList?base?objectClass=cRLDistributionPoint"
)
DIRECTORY = "ldap://dir.partner.example/cn=CA?certificateRevocationList;binary"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """
    One CA, and a partner for each kind of location.
    """
    at = tmp_path_factory.mktemp("advice")
    root = pki.make_root("Advice Root")
    ca = pki.issue(root, "Advice CA", ca=True)
    (at / "root.pem").write_bytes(root.pem)
    (at / "ca.pem").write_bytes(ca.pem)
    (at / "root.crl").write_bytes(pki.make_crl(root))
    locations = {"http": HTTP, "private": PRIVATE, "ad-cs": AD_CS, "directory": DIRECTORY}
    for name, url in locations.items():
        leaf = pki.issue(ca, name, eku=["clientAuth"], crl_urls=[url])
        (at / f"{name}.pem").write_bytes(pki.pem(leaf.der, ca.der))
    leaf = pki.issue(ca, "partner", eku=["clientAuth"], issuer_urls=["http://aia.example/ca.cer"])
    (at / "alone.pem").write_bytes(leaf.pem)
    (at / "turned.pem").write_bytes(pki.pem(ca.der, leaf.der))
    (at / "table.toml").write_text(
        '[trust.partners]\nanchors = ["root.pem"]\n[[rule]]\ndirection = "server"\ntrust = "partners"\n'
    )
    (at / "office.toml").write_text((at / "table.toml").read_text() + 'networks = ["192.0.2.0/24"]\n')
    return at


@pytest.fixture
def hints(folder, monkeypatch, tmp_path):
    """
    Call `cftpki check` there: its exit status, and what it says on standard error.
    """
    monkeypatch.chdir(folder)
    monkeypatch.delenv("CFTPKI_CONFIG", raising=False)
    state = tmp_path / "state"
    for name in ("table", "office"):
        text = (folder / f"{name}.toml").read_text()
        (folder / f"{name}-at.toml").write_text(f'[service]\nstate = "{state}"\n{text}')

    def call(*arguments):
        done = CliRunner().invoke(main, ["check", *arguments, "--crl", "root.crl", "--at", AT])
        return done.exit_code, done.stderr

    return call


GIVEN = ("--trust", "root.pem")
OURS = ("--config", "table-at.toml")


@pytest.mark.parametrize(
    ("chain", "where", "expected"),
    [
        (
            "http.pem",
            GIVEN,
            (
                f"{HTTP} may not be asked (host 'crl.partner.example' is not in allow_hosts): allow it with"
                " --allow-host crl.partner.example, and a private address of it with --allow-network CIDR"
            ),
        ),
        (
            "http.pem",
            OURS,
            (
                f"{HTTP} may not be asked (host 'crl.partner.example' is not in allow_hosts): allow it with"
                " crl.partner.example under allow_hosts in [trust.partners], and a private address of it with"
                " allow_networks"
            ),
        ),
        (
            "private.pem",
            GIVEN,
            (
                f"{PRIVATE} may not be asked (address 10.1.2.3 is not in allow_hosts): allow it with"
                " --allow-host 10.1.2.3, and a private address of it with --allow-network CIDR"
            ),
        ),
        (
            "ad-cs.pem",
            GIVEN,
            (
                f"{AD_CS} may not be asked (LDAP is not allowed: a table [trust.given.ldap] permits it): permit LDAP"
                " with --allow-ldap; it names no server, so name one with --ldap-server ldap://HOST"
            ),
        ),
        (
            "ad-cs.pem",
            OURS,
            (
                f"{AD_CS} may not be asked (LDAP is not allowed: a table [trust.partners.ldap] permits it): permit"
                ' LDAP with a table [trust.partners.ldap]; it names no server, so name one with servers = ["ldap://HOST"]'
                " in it"
            ),
        ),
        (
            "directory.pem",
            GIVEN,
            (
                f"{DIRECTORY} may not be asked (LDAP is not allowed: a table [trust.given.ldap] permits it): permit LDAP"
                " with --allow-ldap; allow its server with --allow-host dir.partner.example, and a private address of it"
                " with --allow-network CIDR"
            ),
        ),
        (
            "directory.pem",
            OURS,
            (
                f"{DIRECTORY} may not be asked (LDAP is not allowed: a table [trust.partners.ldap] permits it): permit"
                " LDAP with a table [trust.partners.ldap]; allow its server with dir.partner.example under allow_hosts in"
                " [trust.partners], and a private address of it with allow_networks"
            ),
        ),
        (
            "ad-cs.pem",
            (*GIVEN, "--allow-ldap"),
            (
                f"{AD_CS} may not be asked (names no server, and none is configured: set servers in [trust.given.ldap]):"
                " permit LDAP with --allow-ldap; it names no server, so name one with --ldap-server ldap://HOST"
            ),
        ),
    ],
)
def test_location_that_may_not_be_asked_is_named_with_what_allows_it(hints, chain, where, expected):
    assert (46, f"cftpki: {expected}\n") == hints(chain, *where)


def test_location_is_no_matter_where_nothing_is_fetched(hints):
    assert (46, "") == hints("http.pem", *GIVEN, "--no-fetch")


@pytest.mark.parametrize("server", ["dc1", "ldap://d/cn=x", "http://d"])
def test_server_that_is_none_is_a_wrong_call(hints, server):
    status, said = hints("ad-cs.pem", *GIVEN, "--ldap-server", server)
    assert (
        2,
        f"cftpki: ldap: '{server}' is no directory server: ldap://host or ldaps://host, with a port or without\n",
    ) == (
        status,
        said,
    )


@pytest.mark.parametrize(("option", "value"), [("--allow-ldap", ()), ("--ldap-server", ("ldap://d",))])
def test_directories_of_a_configuration_are_its_own(hints, option, value):
    status, said = hints("ad-cs.pem", *OURS, option, *value)
    assert 2 == status
    assert f"{option} goes with --trust; a trust set has a table ldap of its own" in said


def test_missing_address_of_the_partner_is_named(hints):
    status, said = hints("http.pem", "--config", "office-at.toml")
    assert (
        80,
        (
            "cftpki: no rule of the configuration applies to direction server; its rules ask for the partner's"
            " address: name it with --remote ADDRESS\n"
        ),
    ) == (status, said)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--config", "office-at.toml", "--remote", "198.51.100.1"),  # named, and in no rule's networks
        ("--config", "table-at.toml", "--direction", "client"),  # no rule asks for it
    ],
)
def test_address_that_would_not_help_is_not_asked_for(hints, arguments):
    status, said = hints("http.pem", *arguments)
    assert 80 == status
    assert "--remote" not in said


def test_missing_intermediate_is_named_with_the_option_and_where_it_is(hints):
    status, said = hints("alone.pem", *GIVEN)
    assert 48 == status
    assert (
        "if the certificate of CN=Advice CA is an intermediate one that the partner does not send, hand it in with"
        " --untrusted FILE (or name it under intermediates in the trust set); CN=partner says that it is at"
        " http://aia.example/ca.cer"
    ) in said
    assert "--untrusted" not in hints("alone.pem", *GIVEN, "--untrusted", "ca.pem")[1]


def test_chain_that_begins_with_the_ca_is_said_to_be_turned(hints):
    _, said = hints("turned.pem", *GIVEN)
    assert "the partner's own certificate comes first; it looks like number 2 of the file" in said
