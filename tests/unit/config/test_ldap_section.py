"""
`[trust.NAME.ldap]`: what it means, every fault by its key, and docs/ldap.md as its truth.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cftpki_ext.config import load
from cftpki_ext.config.ldap import LdapModel
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.source_settings import LdapAccess
from tests.support.pki import issue, make_root

TEXT = (Path(__file__).parents[3] / "docs" / "ldap.md").read_text()
ROOT = make_root("Root")
CLIENT = issue(ROOT, "client", eku=["clientAuth"])
TLS_ONLY = "is told by TLS only: write ldaps:// in servers, or set starttls = true"


def trust(folder: Path, *lines: str, crl: str = "[]", table: str = "[trust.partners.ldap]"):
    for name in ("root.pem", "corp-root.pem"):
        (folder / name).write_bytes(ROOT.pem)
    for name, data in (
        ("ldap-password", b"secret\n"),
        ("empty", b"\n"),
        ("client.pem", CLIENT.pem + CLIENT.key_pem),
    ):
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)
    (folder / "open").write_bytes(b"secret")
    (folder / "open").chmod(0o644)
    path = folder / "c.toml"
    path.write_text(f'[trust.partners]\nanchors = ["root.pem"]\ncrl = {crl}\n{table}\n' + "\n".join(lines))
    return load(path).trusts["partners"]


def faults(folder: Path, *lines: str, **options: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        trust(folder, *lines, **options)
    return [fault.partition("[trust.partners.")[2] for fault in raised.value.faults]


def test_documentation_names_exactly_the_keys():
    table = TEXT.partition("## Keys")[2].partition("Who we are is told")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    assert set(LdapModel.model_fields) == {key for row in rows for key in re.findall(r"`(\w+)`", row)}


def test_example_of_the_documentation_loads(tmp_path):
    (example,) = re.findall(r"```toml\n\[trust\.partners\.ldap\]\n(.*?)```", TEXT, re.DOTALL)
    expected = LdapAccess(
        servers=("ldaps://dc1.corp.example", "ldaps://dc2.corp.example"),
        roots=(ROOT.der,),
        bind_dn="CN=cftpki,OU=Services,DC=corp,DC=example",
        password_file=tmp_path / "ldap-password",
    )
    assert expected == trust(tmp_path, example).ldap


def test_ldap_is_not_allowed_without_a_table_and_is_with_an_empty_one(tmp_path):
    assert trust(tmp_path, table="").ldap is None
    assert LdapAccess() == trust(tmp_path).ldap


def test_client_certificate_takes_the_place_of_a_password(tmp_path):
    access = trust(
        tmp_path, 'servers = ["ldap://dc1"]\nstarttls = true\nclient_certificate = "client.pem"'
    ).ldap
    assert (True, tmp_path / "client.pem", None) == (
        access.starttls,
        access.client_certificate,
        access.bind_dn,
    )


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('server = "ldap://d"', ['ldap.server] unknown key (did you mean "servers"?)']),
        (
            'servers = ["dc1", "ldap://d/cn=x"]',
            [
                f"ldap.servers[{n}]] '{text}' is no directory server: ldap://host or ldaps://host, with a port or without"
                for n, text in ((1, "dc1"), (2, "ldap://d/cn=x"))
            ],
        ),
        (f"servers = {['ldap://d'] * 5}", ["ldap.servers] names 5 servers, at most 4"]),
        (
            'servers = ["ldaps://d"]\nbind_dn = "cn=a"',
            ["ldap.password_file] is missing: a name without a password is nobody"],
        ),
        ('password_file = "ldap-password"', ["ldap.password_file] without bind_dn means nothing"]),
        ('servers = ["ldaps://d"]\nbind_dn = ""', ["ldap.bind_dn] is empty: leave it out to be nobody"]),
        (
            'bind_dn = "cn=a"\npassword_file = "ldap-password"',
            ["ldap.bind_dn] is told to nobody: name the servers that may know it in servers"],
        ),
        (
            'servers = ["ldap://d"]\nbind_dn = "cn=a"\npassword_file = "ldap-password"',
            [f"ldap.bind_dn] {TLS_ONLY}"],
        ),
        (
            'servers = ["ldap://d"]\nclient_certificate = "client.pem"',
            [f"ldap.client_certificate] {TLS_ONLY}"],
        ),
        (
            'servers = ["ldaps://d"]\nbind_dn = "cn=a"\npassword_file = "ldap-password"\nclient_certificate = "client.pem"',
            ["ldap.bind_dn] is a second name beside client_certificate: keep one of them"],
        ),
        ('client_key = "client.pem"', ["ldap.client_key] without client_certificate means nothing"]),
        ('roots = ["nowhere.pem"]', ["ldap.roots"]),
        (
            'servers = ["ldaps://d"]\nbind_dn = "cn=a"\npassword_file = "open"',
            ["ldap.password_file] password"],
        ),
        (
            'servers = ["ldaps://d"]\nbind_dn = "cn=a"\npassword_file = "empty"',
            ["ldap.password_file] password"],
        ),
        ('starttls = "yes"', ["ldap.starttls] must be true or false"]),
    ],
)
def test_fault_is_named_by_its_key(tmp_path, lines, expected):
    found = faults(tmp_path, lines)
    assert [one[: len(wanted)] for one, wanted in zip(found, expected, strict=True)] == expected


def test_list_in_a_directory_needs_the_table_and_an_address(tmp_path):
    url = '["ldap:///CN=x?certificateRevocationList"]'
    assert ("ldap:///CN=x?certificateRevocationList",) == trust(tmp_path, crl=url).crl_urls
    assert ["crl[1]] is asked only with a table [trust.partners.ldap]"] == faults(tmp_path, crl=url, table="")
    assert ["crl[1]] 'ldap:///CN=a b' is no LDAP address (RFC 4516): write blanks as %20"] == faults(
        tmp_path, crl='["ldap:///CN=a b"]'
    )
