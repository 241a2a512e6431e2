"""
The grammar of LDAP URLs, against hostile ones, and which directories a trust set may ask.
"""

from __future__ import annotations

import contextlib
import urllib.parse
from ipaddress import ip_address

import pytest
import sansldap
from hypothesis import given
from hypothesis import strategies as st

from cftpki_connectors.fetch.guard import guard_of
from cftpki_connectors.fetch.ldap_url import (
    FILTER_BYTES,
    Published,
    Scope,
    is_ldap,
    parse_ldap_url,
    parse_server,
    target_of,
)
from cftpki_connectors.fetch.url import ForbiddenUrlError, parse_url
from cftpki_ext.core.settings import TrustSet
from cftpki_ext.core.source_settings import LdapAccess
from tests.support.pki import issue, make_root

ROOT = make_root("Root")
AD_CS = (
    "ldap:///CN=Corp%20Issuing%20CA,CN=dc1,CN=CDP,CN=Public%20Key%20Services,CN=Services,CN=Configuration,"
    "DC=corp,DC=example?certificateRevocationList?base?objectClass=cRLDistributionPoint"
)
LIST = ("certificateRevocationList;binary",)


def parts(url, wanted=Published.LISTS):
    found = parse_ldap_url(url, wanted)
    return str(found.at) if found.at else None, found.dn, found.attributes, found.scope, str(found.filter)


def test_url_as_ad_cs_writes_it_is_taken_apart():
    dn = (
        "CN=Corp Issuing CA,CN=dc1,CN=CDP,CN=Public Key Services,CN=Services,CN=Configuration,"
        "DC=corp,DC=example"
    )
    expected = (None, dn, ("certificateRevocationList",), Scope.BASE, "(objectClass=cRLDistributionPoint)")
    assert expected == parts(AD_CS)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ldap://dir.example", ("ldap://dir.example:389", "", LIST, Scope.BASE, "(objectClass=*)")),
        ("LDAPS://Dir.Example/", ("ldaps://dir.example:636", "", LIST, Scope.BASE, "(objectClass=*)")),
        (
            "ldap://dir.example:3890/cn=a?deltaRevocationList;binary",
            (
                "ldap://dir.example:3890",
                "cn=a",
                ("deltaRevocationList;binary",),
                Scope.BASE,
                "(objectClass=*)",
            ),
        ),
        (
            "ldaps://[2001:DB8::0:1]/cn=a??sub?(&(cn=a)(!(cn=b)))",
            ("ldaps://[2001:db8::1]:636", "cn=a", LIST, Scope.SUB, "(&(cn=a)(!(cn=b)))"),
        ),
        (
            "ldap://192.0.2.1/cn=a?authorityRevocationList,certificateRevocationList?one",
            (
                "ldap://192.0.2.1:389",
                "cn=a",
                ("authorityRevocationList", "certificateRevocationList"),
                Scope.ONE,
                "(objectClass=*)",
            ),
        ),
        (
            "ldap://d/cn=%C3%BC%5C,x?2.5.4.39;binary?BASE??x-harmless=1",
            ("ldap://d:389", "cn=ü\\,x", ("2.5.4.39;binary",), Scope.BASE, "(objectClass=*)"),
        ),
    ],
)
def test_url_of_the_grammar_is_taken_apart(url, expected):
    assert expected == parts(url)


def test_url_of_a_ca_certificate_is_one_of_certificates_only():
    url = "ldap:///cn=a?cACertificate?base?objectClass=certificationAuthority"
    assert ("cACertificate",) == parts(url, Published.CERTIFICATES)[2]
    with pytest.raises(
        ForbiddenUrlError, match="cACertificate' is none in which CAs publish revocation lists"
    ):
        parts(url)
    with pytest.raises(ForbiddenUrlError):
        parts(AD_CS, Published.CERTIFICATES)


HOSTILE = [
    "",
    "ldap:",
    "ldap:/",
    "ldap//d/cn=a",
    "http://d/cn=a",
    "ldapi:///cn=a",
    "cldap://d/cn=a",
    "ldap://:389/cn=a",
    "ldap://user@d/cn=a",
    "ldap://user:pass@d/cn=a",
    "ldap://d\\@169.254.169.254/cn=a",
    "ldap://d#@evil.example/cn=a",
    "ldap://d/cn=a#x",
    "ldap://d?cn",
    "ldap://2130706433/cn=a",
    "ldap://0x7f.1/cn=a",
    "ldap://d./cn=a",
    "ldap://[::1/cn=a",
    "ldap://[fe80::1%25eth0]/cn=a",
    "ldap://d:0/cn=a",
    "ldap://d:65536/cn=a",
    "ldap://d:/cn=a",
    "ldap://bücher.example/cn=a",
    "ldap://d/cn=a b",
    "ldap://d/cn=a\r\nx",
    "ldap://d/cn=a%0a",
    "ldap://d/cn=a%00",
    "ldap://d/cn=a%7f",
    "ldap://d/cn=a%C2%85",
    "ldap://d/cn=a%ff",
    "ldap://d/cn=a%",
    "ldap://d/cn=a%4",
    "ldap://d/cn=a%zz",
    "ldap://d/cn=a\\2c",
    "ldap://d/cn=<a>",
    'ldap://d/cn="a"',
    "ldap://d/cn=a?userPassword",
    "ldap://d/cn=a?*",
    "ldap://d/cn=a?userCertificate;binary",
    "ldap://d/cn=a?certificateRevocationList;lang-de",
    "ldap://d/cn=a?certificateRevocationList;binary;x",
    "ldap://d/cn=a?,",
    "ldap://d/cn=a?" + ",".join(f"certificateRevocationList;{'bBiInNaA'[n]}inary" for n in range(8)),
    "ldap://d/cn=a??children",
    "ldap://d/cn=a???(cn=a",
    "ldap://d/cn=a???(cn=a)(cn=b)",
    "ldap://d/cn=a???()",
    "ldap://d/cn=a???x",
    "ldap://d/cn=a???(cn=%00)",
    "ldap://d/cn=a???" + "(!" * 20 + "(cn=a)" + ")" * 20,
    "ldap://d/cn=a???(cn=" + "a" * FILTER_BYTES + ")",
    "ldap://d/cn=a????!bindname=x",
    "ldap://d/cn=a????x,!y",
    "ldap://d/cn=a????%21y",
    "ldap://d/cn=a?????",
    "ldap://d/" + "a" * 2048,
]


@pytest.mark.parametrize("url", HOSTILE)
def test_hostile_url_is_refused(url):
    with pytest.raises(ForbiddenUrlError):
        parse_ldap_url(url, Published.LISTS)


@given(
    st.text(max_size=80),
    st.sampled_from(["ldap://", "ldaps://", "ldap:///", "ldap://d/", "ldap://d/cn=a?", ""]),
)
def test_any_text_is_taken_apart_or_refused(text, before):
    with contextlib.suppress(ForbiddenUrlError):
        found = parse_ldap_url(before + text, Published.LISTS)
        assert not any(character < " " for character in found.dn)
        assert isinstance(found.filter, sansldap.LDAPFilter)
        assert is_ldap(before + text)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=40))
def test_any_name_comes_out_as_it_was(dn):
    assert dn == parse_ldap_url("ldap://d/" + urllib.parse.quote(dn, safe=""), Published.LISTS).dn


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ldap://dc1.corp.example", "ldap://dc1.corp.example:389"),
        ("LDAPS://DC1/", "ldaps://dc1:636"),
        ("ldap://[::1]:3890", "ldap://[::1]:3890"),
    ],
)
def test_server_is_taken_apart(text, expected):
    assert expected == str(parse_server(text))


@pytest.mark.parametrize(
    "text", ["ldap:///", "ldap://d/cn=a", "ldap://d?x", "d", "http://d", "ldap://u@d", ""]
)
def test_server_that_is_none_is_refused(text):
    with pytest.raises(ForbiddenUrlError):
        parse_server(text)


# -- permission ------------------------------------------------------------------------------------------------------


def trust(**options):
    return TrustSet(name="t", anchors=(), **options)


def allows(of, url, *addresses):
    target = target_of(url)
    guard = guard_of(of).of_directories
    try:
        guard.check(target)
        for address in addresses:
            guard.check_address(target.host, target.port, ip_address(address))
    except ForbiddenUrlError:
        return False
    return guard_of(of).directories is not None


def test_ldap_is_not_allowed_without_a_table():
    assert guard_of(trust(allow_hosts=("d",))).directories is None
    assert not allows(trust(allow_hosts=("d",)), "ldap://d/")
    assert allows(trust(allow_hosts=("d",), ldap=LdapAccess()), "ldap://d/", "8.8.8.8")


def test_directory_may_be_asked_where_a_ca_certificate_or_a_setting_names_it_and_by_ldap_alone():
    named = issue(ROOT, "CA", ca=True, crl_urls=["ldap://ldap.ca.example/cn=root"])
    of = trust(
        intermediates=(named.der,),
        crl_urls=("ldap://lists.example/cn=a",),
        ldap=LdapAccess(servers=("ldaps://dc1.example",)),
    )
    for host in ("ldap.ca.example", "lists.example", "dc1.example"):
        assert allows(of, f"ldap://{host}/", "8.8.8.8")
        assert not allows(of, f"ldap://{host}/", "8.8.8.8", "10.0.0.1")
        with pytest.raises(ForbiddenUrlError):
            guard_of(of).check(target_of(f"ldap://{host}/"))
    assert not allows(of, "ldap://other.example/")


def test_server_written_as_an_address_is_allowed_at_its_port():
    of = trust(ldap=LdapAccess(servers=("ldap://127.0.0.1:3890",)))
    assert allows(of, "ldap://127.0.0.1:3890/", "127.0.0.1")
    assert not allows(of, "ldap://127.0.0.1:389/")


def test_directory_is_asked_directly_and_its_addresses_are_checked_also_with_a_proxy():
    of = trust(allow_hosts=("d.example",), proxy="http://proxy.example:3128", ldap=LdapAccess())
    assert guard_of(of).of_directories.proxy is None
    assert allows(of, "ldap://d.example/", "8.8.8.8")
    assert not allows(of, "ldap://d.example/", "10.0.0.1")


@pytest.mark.parametrize("where", ["ldap_servers", "crl_urls"])
def test_address_of_a_directory_is_no_permission_for_http(where):
    url = "ldap://10.0.0.5:8080"
    of = (
        trust(ldap=LdapAccess(servers=(url,)))
        if where == "ldap_servers"
        else trust(ldap=LdapAccess(), crl_urls=(f"{url}/cn=x",))
    )
    guard = guard_of(of)
    guard.of_directories.check(parse_server(url))
    for other in (parse_url("http://10.0.0.5:8080/"), parse_server("ldap://10.0.0.5:389")):
        with pytest.raises(ForbiddenUrlError, match=r"address 10.0.0.5 is not in allow_hosts"):
            (guard if other.scheme == "http" else guard.of_directories).check(other)


def test_address_of_a_directory_is_no_permission_at_all_without_the_table():
    guard = guard_of(trust(crl_urls=("ldap://10.0.0.5:8080/cn=x",)))
    with pytest.raises(ForbiddenUrlError, match=r"address 10.0.0.5 is not in allow_hosts"):
        guard.check(parse_url("http://10.0.0.5:8080/"))
