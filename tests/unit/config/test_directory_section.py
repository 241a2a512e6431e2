"""
`[trust.NAME.directory]`: what it means, every fault by its key and line, and docs/directory.md as its truth.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cftpki_ext.config import load
from cftpki_ext.config.directory import DirectoryModel, RequireModel
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.source_settings import (
    Demand,
    DirectoryProfile,
    LdapAccess,
    Matching,
    Requirement,
    Scope,
    Several,
)
from cftpki_ext.directory.fields import NAMES
from tests.support.pki import make_root

TEXT = (Path(__file__).parents[3] / "docs" / "directory.md").read_text()
ROOT = make_root("Root")
GIVEN = {
    "servers": '["ldaps://dc1.example"]',
    "base": '"ou=partners,dc=example"',
    "filter": '"(cn={subject.CN})"',
}


def trust(folder: Path, *more: str, **keys: str):
    """
    The trust set of a file with these keys in its table, and whatever follows.
    """
    for name in ("partners-root.pem", "corp-root.pem"):
        (folder / name).write_bytes(ROOT.pem)
    (folder / "ldap-password").write_bytes(b"secret\n")
    (folder / "ldap-password").chmod(0o600)
    lines = [f"{key} = {value}" for key, value in {**GIVEN, **keys}.items() if value]
    path = folder / "c.toml"
    path.write_text(
        '[trust.partners]\nanchors = ["partners-root.pem"]\n[trust.partners.directory]\n'
        + "\n".join((*lines, *more))
    )
    return load(path).trusts["partners"]


def faults(folder: Path, *more: str, **keys: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        trust(folder, *more, **keys)
    return [fault.partition("[trust.partners.directory")[2] for fault in raised.value.faults]


def require(**keys: str) -> tuple[str, ...]:
    return ("[[trust.partners.directory.require]]", *(f"{key} = {value}" for key, value in keys.items()))


def test_documentation_names_exactly_the_keys():
    table = TEXT.partition("## Keys")[2].partition("Hosts and addresses")[0]
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert set(DirectoryModel.model_fields) == set(rows)


def test_documentation_names_exactly_the_keys_of_a_requirement():
    table = TEXT.partition("## Requirements")[2].partition("```toml")[0]
    assert set(RequireModel.model_fields) == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def test_documentation_names_every_field():
    table = TEXT.partition("## Templates")[2].partition("* **No value")[0]
    assert set(NAMES) <= set(re.findall(r"\{([\w.]+)\}", table))


def test_examples_of_the_documentation_load(tmp_path):
    first, second = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    trust(tmp_path)
    (tmp_path / "c.toml").write_text(first + second)
    expected = DirectoryProfile(
        access=LdapAccess(
            servers=("ldaps://dc1.corp.example", "ldaps://dc2.corp.example"),
            roots=(ROOT.der,),
            bind_dn="CN=cftpki,OU=Services,DC=corp,DC=example",
            password_file=tmp_path / "ldap-password",
        ),
        base="ou=partners,dc=corp,dc=example",
        filter="(&(objectClass=partner)(cn={subject.CN})(serialNumber={serial}))",
        requirements=(
            Requirement(
                demand=Demand.VALUE,
                attribute="accountActive",
                values=("TRUE",),
                matching=Matching.BOOLEAN,
            ),
            Requirement(
                demand=Demand.MEMBER,
                attribute="memberOf",
                group="cn=mft-partners,ou=groups,dc=corp,dc=example",
            ),
            Requirement(demand=Demand.ABSENT, attribute="pwdAccountLockedTime"),
            Requirement(
                demand=Demand.GROUP,
                base="ou=groups,dc=corp,dc=example",
                filter="(&(objectClass=groupOfNames)(cn=mft)(member={entry}))",
            ),
        ),
    )
    assert expected == load(tmp_path / "c.toml").trusts["partners"].directory


def test_every_key_is_read(tmp_path):
    found = trust(
        tmp_path,
        servers='["ldap://dc1.example"]',
        starttls="true",
        scope='"one"',
        several='"all"',
        certificate='"userCertificate;binary"',
    ).directory
    assert found is not None
    assert (Scope.ONE, Several.ALL, "userCertificate;binary", True) == (
        found.scope,
        found.several,
        found.certificate,
        found.access.starttls,
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"servers": ""}, ".servers] is missing: ldaps://host, or ldap://host with starttls = true"),
        ({"base": ""}, ".base] is missing: where the partners are, e.g. ou=partners,dc=example"),
        ({"filter": ""}, ".filter] is missing: by what they are found, e.g. (cn={subject.CN})"),
        (
            {"servers": '["ldap://dc1.example"]'},
            ".servers] an answer without TLS could be anybody's: write ldaps://, or set starttls = true",
        ),
        ({"filter": '"cn={subject.CN}"'}, ".filter] a parenthesis '(' is missing at character 1"),
        (
            {"filter": '"(cn=all)"'},
            ".filter] finds the same entry for every partner: name a field of the certificate, e.g. (cn={subject.CN})",
        ),
        (
            {"filter": '"(cn={subject.nobody})"'},
            ".filter] {subject.nobody}: nobody is no attribute type; write its dotted identifier",
        ),
        (
            {"base": '"ou=x,{subject.OU},dc=x"'},
            ".base] the field subject.OU stands where no value is: write attribute={subject.OU}",
        ),
        ({"scope": '"sub"'}, None),
        (
            {"certificate": '"user Certificate"'},
            ".certificate] 'user Certificate' is no attribute: a name or a dotted identifier, with ;binary or without",
        ),
        ({"bind_dn": '"cn=x"'}, ".password_file] is missing: a name without a password is nobody"),
        ({"filtre": '"x"'}, '.filtre] unknown key (did you mean "filter"?)'),
    ],
)
def test_fault_names_its_key(tmp_path, keys, expected):
    found = faults(tmp_path, **keys)
    assert 1 == len(found)
    assert expected is None or expected == found[0]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            {"attribute": '"a"'},
            ".require[1]] demands nothing: write one of equals, present, group, group_filter in each entry of require",
        ),
        (
            {"attribute": '"a"', "equals": '"x"', "present": "true"},
            ".require[1]] says equals and present: write one of equals, present, group, group_filter in each entry of require",
        ),
        ({"equals": '"x"'}, ".require[1].attribute] is missing: which attribute of the entry is compared"),
        ({"attribute": '"a"', "equals": "[]"}, ".require[1].equals] is empty: nothing would ever be equal"),
        (
            {"attribute": '"a"', "equals": '"yes"', "matching": '"boolean"'},
            ".require[1].equals[1]] 'yes' is none of TRUE and FALSE",
        ),
        (
            {"attribute": '"a"', "equals": '"1.5"', "matching": '"integer"'},
            ".require[1].equals[1]] '1.5' is no whole number",
        ),
        (
            {"attribute": '"a"', "present": "true", "matching": '"exact"'},
            ".require[1].matching] means nothing beside present",
        ),
        (
            {"group": '"mft"'},
            ".require[1].group] 'mft' is no distinguished name: write e.g. cn=mft,ou=groups,dc=example",
        ),
        (
            {"group_filter": '"(member={entry})"'},
            ".require[1].group_base] is missing: where the groups are, e.g. ou=groups,dc=example",
        ),
        (
            {"group_filter": '"(cn=mft)"', "group_base": '"dc=x"'},
            ".require[1].group_filter] finds the same group for every partner: name the entry, e.g. (&(cn=mft)(member={entry}))",
        ),
    ],
)
def test_fault_of_a_requirement_names_its_key(tmp_path, entry, expected):
    assert [expected] == faults(tmp_path, *require(**entry))


def test_line_of_a_fault_is_that_of_its_key(tmp_path):
    with pytest.raises(ConfigError) as raised:
        trust(tmp_path, *require(attribute='"a"', equals='"x"'), *require(attribute='"a b"', present="true"))
    (fault,) = raised.value.faults
    assert ":11: [trust.partners.directory.require[2].attribute]" in fault


def test_more_group_searches_than_a_handshake_has_time_for_are_a_fault(tmp_path):
    one = require(group_filter='"(member={entry})"', group_base='"dc=x"')
    (fault,) = faults(tmp_path, *one * 5)
    assert ".require] searches for 5 groups, at most 4 in one handshake" == fault


def test_directory_is_no_source_of_a_status(tmp_path):
    path = tmp_path / "c.toml"
    (tmp_path / "partners-root.pem").write_bytes(ROOT.pem)
    path.write_text('[trust.partners]\nanchors = ["partners-root.pem"]\nsources = ["ocsp", "directory"]\n')
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert "sources" in raised.value.faults[0]
