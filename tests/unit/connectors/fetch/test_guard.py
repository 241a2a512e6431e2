"""
The URL grammar and a trust set's permissions, against hostile URLs.
"""

from __future__ import annotations

import urllib.parse
from ipaddress import ip_address, ip_network

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cftpki_connectors.fetch.guard import Guard, guard_of, is_special
from cftpki_connectors.fetch.url import ForbiddenUrlError, parse_url
from cftpki_ext.core.settings import TrustSet
from tests.support.pki import issue, make_root

ROOT = make_root("Root")


def guard(**options: object) -> Guard:
    return guard_of(TrustSet(name="t", anchors=(), **options))


def allows(what: Guard, url: str, *addresses: str) -> bool:
    """
    Whether the URL passes, and then all addresses to which its host leads.
    """
    try:
        target = parse_url(url)
        what.check(target)
        for address in addresses or ([str(target.address)] if target.address else []):
            what.check_address(target.host, target.port, ip_address(address))
    except ForbiddenUrlError:
        return False
    return True


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://pki.example/ca.crl", ("http", "pki.example", 80, "/ca.crl")),
        ("HTTPS://PKI.Example", ("https", "pki.example", 443, "/")),
        ("http://pki.example:8080?a=b&c=%20", ("http", "pki.example", 8080, "/?a=b&c=%20")),
        ("http://under_score.example/a;b=(c)'d'", ("http", "under_score.example", 80, "/a;b=(c)'d'")),
        ("http://192.0.2.1/x", ("http", "192.0.2.1", 80, "/x")),
        ("http://[2001:DB8::0:1]:81/x", ("http", "2001:db8::1", 81, "/x")),
        ("http://xn--bcher-kva.example/", ("http", "xn--bcher-kva.example", 80, "/")),
        ("http://pki.example/a@b", ("http", "pki.example", 80, "/a@b")),
    ],
)
def test_url_of_the_grammar_is_taken_apart(url: str, parts: tuple[str, str, int, str]) -> None:
    target = parse_url(url)
    assert parts == (target.scheme, target.host, target.port, target.target)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://pki.example/x", "pki.example"),
        ("http://PKI.example:80/", "pki.example"),
        ("http://pki.example:443/", "pki.example:443"),
        ("https://pki.example:443/", "pki.example"),
        ("http://[2001:db8::1]:81/x", "[2001:db8::1]:81"),
        ("https://[2001:db8::1]/x", "[2001:db8::1]"),
    ],
)
def test_url_s_authority_is_what_httpx_sends_as_host(url: str, authority: str) -> None:
    assert authority == parse_url(url).authority
    assert authority == httpx.Request("GET", url).headers["host"]


def test_guard_of_two_trust_sets_that_allow_the_same_is_one() -> None:
    one, other, third = guard(allow_hosts=("a",)), guard(allow_hosts=("a",)), guard(allow_hosts=("b",))
    assert one is other
    assert (hash(one), True) == (hash(other), one != third)
    assert hash(one) == hash(Guard(names=frozenset({"a"})))


HOSTILE = [
    "",
    "http://",
    "http:///x",
    "//pki.example/",
    "pki.example/x",
    "ftp://pki.example/",
    "file:///etc/passwd",
    "gopher://pki.example/",
    "ldap://pki.example/cn=x",
    "javascript:alert(1)",
    "http://user@pki.example/",
    "http://user:pass@pki.example/",
    "http://pki.example@169.254.169.254/",
    "http://pki.example\\@169.254.169.254/",
    "http://pki.example\\.evil.example/",
    "http:\\\\pki.example/",
    "http:/pki.example/",
    "http:pki.example/",
    "http://pki.example#@evil.example/",
    "http://pki.example/#fragment",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://127.1/",
    "http://0177.0.0.1/",
    "http://127.0.0.01/",
    "http://127.0.0.1.2/",
    "http://1.2.3.0x4/",
    "http://[::ffff:127.0.0.1/",
    "http://::1/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[v1.fe80]/",
    "http://[pki.example]/",
    "http://pki.example./",
    "http://127.0.0.1./",
    "http://.pki.example/",
    "http://pki..example/",
    "http://-pki.example/",
    "http://pki-.example/",
    "http://bücher.example/",
    "http://pki。example/",
    "http://①②⑦.⓪.⓪.①/",
    "http://pki.example:0/",
    "http://pki.example:65536/",
    "http://pki.example:/",
    "http://pki.example:80:80/",
    "http://pki.example:+80/",
    "http://pki.example:８０/",  # noqa: RUF001  # full-width digits
    "http://pki.example:-1/",
    " http://pki.example/",
    "http://pki.example/ ",
    "http://pki.example/a b",
    "http://pki.example/\t",
    "http://pki\t.example/",
    "ht\ntp://pki.example/",
    "http://pki.example/\r\nHost: evil.example",
    "http://pki.example/\n",
    "http://pki.example/\x00",
    "http://pki.example/\x7f",
    "http://pki%2eexample/",
    "http://%31%32%37.0.0.1/",
    "http://pki.example,evil.example/",
    "http://pki.example/" + "a" * 2048,
    "http://" + "a" * 64 + ".example/",
    "http://" + "a." * 130 + "example/",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_url_outside_the_grammar_is_refused(url: str) -> None:
    with pytest.raises(ForbiddenUrlError):
        parse_url(url)


@settings(max_examples=500)
@given(
    st.one_of(
        st.from_regex(
            r"https?://([a-z0-9_-]{1,6}\.){0,3}[a-z0-9]{1,5}(:[0-9]{1,4})?(/[!-~]{0,9})?", fullmatch=True
        ),
        st.text(max_size=60),
        st.builds(
            "http{}://{}{}".format, st.sampled_from(["", "s"]), st.text(max_size=30), st.text(max_size=30)
        ),
        st.from_regex(r"http://[a-z0-9.\-\[\]:@\\/?#%_]{1,40}", fullmatch=True),
    )
)
@example("http://pki.example/[x]|y")
def test_url_that_passes_means_the_same_host_to_other_parsers(url: str) -> None:
    """
    What we checked is what urllib and httpx would connect to.
    """
    try:
        target = parse_url(url)
    except ForbiddenUrlError:
        return  # refused is always right
    split = urllib.parse.urlsplit(url)
    assert (target.host, target.scheme) == (str(split.hostname), split.scheme) or ":" in target.host
    assert target.host == httpx.URL(url).host or ":" in target.host
    assert target.port == (split.port or {"http": 80, "https": 443}[split.scheme])
    assert target == parse_url(str(target))
    assert str(target).isascii()


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104  # not bound to, refused
        "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.0.1", "168.63.129.16", "169.254.169.254",
        "172.16.0.1", "192.0.0.192", "192.0.2.1", "192.168.0.1", "198.18.0.1", "203.0.113.1", "224.0.0.1", "239.1.1.1",
        "240.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1",
        "64:ff9b:1::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
    ],
)  # fmt: skip
def test_address_that_is_not_public_unicast_is_special(address: str) -> None:
    assert is_special(ip_address(address))
    assert not allows(guard(allow_hosts=("pki.example",)), "http://pki.example/", address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111"])
def test_address_that_is_public_unicast_is_not_special(address: str) -> None:
    assert not is_special(ip_address(address))
    assert allows(guard(allow_hosts=("pki.example",)), "http://pki.example/", address)


def test_guard_of_an_empty_trust_set_allows_nothing() -> None:
    assert not allows(guard(), "http://pki.example/", "8.8.8.8")
    assert not allows(guard(), "http://8.8.8.8/")


def test_guard_name_is_matched_whole_and_without_case() -> None:
    one = guard(allow_hosts=("PKI.example",))
    assert allows(one, "http://pki.EXAMPLE/", "8.8.8.8")
    assert not allows(one, "http://a.pki.example/", "8.8.8.8")
    assert not allows(one, "http://evilpki.example/", "8.8.8.8")
    assert not allows(one, "http://pki.example.evil.example/", "8.8.8.8")


def test_guard_suffix_matches_below_it_only() -> None:
    below = guard(allow_hosts=("*.corp.example",))
    assert allows(below, "http://pki.corp.example/", "8.8.8.8")
    assert allows(below, "http://a.b.corp.example/", "8.8.8.8")
    assert not allows(below, "http://corp.example/", "8.8.8.8")
    assert not allows(below, "http://evilcorp.example/", "8.8.8.8")


@pytest.mark.parametrize("entry", ["*", "*.", "", "**.example", "10.0.0.0/99", "[bad", "http://pki.example/"])
def test_guard_entry_that_makes_no_sense_allows_nothing(entry: str) -> None:
    assert not allows(guard(allow_hosts=(entry,)), "http://pki.example/", "8.8.8.8")
    assert not allows(guard(allow_hosts=(entry,)), "http://10.0.0.1/")


def test_guard_one_bad_address_among_many_refuses() -> None:
    assert not allows(guard(allow_hosts=("pki.example",)), "http://pki.example/", "8.8.8.8", "127.0.0.1")


def test_guard_private_address_passes_only_where_allow_networks_holds_it() -> None:
    inside = guard(allow_hosts=("pki.example",), allow_networks=(ip_network("10.1.0.0/16"),))
    assert allows(inside, "http://pki.example/", "10.1.9.9")
    assert not allows(inside, "http://pki.example/", "10.2.0.1")
    assert not allows(inside, "http://10.1.9.9/")  # the host itself is not allowed


def test_guard_mapped_and_translated_addresses_count_as_what_they_carry() -> None:
    inside = guard(allow_hosts=("pki.example",), allow_networks=(ip_network("10.1.0.0/16"),))
    assert allows(inside, "http://pki.example/", "::ffff:10.1.0.1")
    assert allows(inside, "http://pki.example/", "64:ff9b::a01:1")
    assert not allows(inside, "http://pki.example/", "::ffff:10.2.0.1")
    assert not allows(inside, "http://pki.example/", "2002:7f00:1::")


def test_guard_literal_in_allow_hosts_needs_no_network_but_serves_no_name() -> None:
    literal = guard(allow_hosts=("127.0.0.1", "pki.example", "::1"))
    assert allows(literal, "http://127.0.0.1:8080/")
    assert allows(literal, "http://[::1]/")
    assert not allows(literal, "http://127.0.0.2:8080/")
    assert not allows(literal, "http://pki.example/", "127.0.0.1")
    assert not allows(literal, "http://[::ffff:127.0.0.1]/")


def test_guard_literal_in_a_configured_url_is_bound_to_its_port() -> None:
    configured = guard(ocsp_urls=("http://127.0.0.1:8080/ocsp",), crl_urls=("http://crl.example/x.crl",))
    assert allows(configured, "http://127.0.0.1:8080/other")
    assert not allows(configured, "http://127.0.0.1:6379/")
    assert allows(configured, "http://crl.example:81/", "8.8.8.8")
    assert not allows(configured, "http://crl.example/", "10.0.0.1")


def test_guard_range_covers_literals_and_names_that_lead_into_it() -> None:
    ranged = guard(allow_hosts=("8.8.8.0/24",))
    assert allows(ranged, "http://8.8.8.8/")
    assert allows(ranged, "http://any.example/", "8.8.8.1", "8.8.8.2")
    assert not allows(ranged, "http://any.example/", "8.8.8.1", "8.8.4.4")
    assert not allows(ranged, "http://8.8.4.4/")


def test_guard_wholly_private_range_allows_its_addresses_a_wide_one_does_not() -> None:
    assert allows(guard(allow_hosts=("10.1.0.0/16",)), "http://10.1.2.3/")
    assert not allows(guard(allow_hosts=("10.1.0.0/16",)), "http://10.2.2.3/")
    everything = guard(allow_hosts=("0.0.0.0/0", "::/0"))
    assert allows(everything, "http://8.8.8.8/")
    assert not allows(everything, "http://169.254.169.254/latest/meta-data/")
    assert not allows(everything, "http://any.example/", "127.0.0.1")
    assert not allows(everything, "http://[::1]/")


def test_guard_behind_a_proxy_checks_names_since_nothing_is_resolved() -> None:
    proxied = guard(allow_hosts=("pki.example", "8.8.8.0/24"), proxy="http://proxy.example:3128")
    assert allows(proxied, "http://pki.example/")
    assert not allows(proxied, "http://other.example/")
    assert not allows(proxied, "http://169.254.169.254/")


def test_guard_allows_hosts_that_its_own_ca_certificates_name_and_no_others() -> None:
    ca = issue(
        ROOT,
        "Issuing CA",
        ca=True,
        ocsp_urls=["http://ocsp.ca.example/"],
        crl_urls=["http://crl.ca.example/root.crl", "ldap://ldap.ca.example/cn=root"],
        issuer_urls=["http://10.0.0.7/root.cer"],
    )
    named = guard_of(TrustSet(name="t", anchors=(ROOT.der,), intermediates=(ca.der,)))
    assert allows(named, "http://ocsp.ca.example/any", "8.8.8.8")
    assert allows(named, "http://crl.ca.example/leaf.crl", "8.8.8.8")
    assert not allows(named, "http://ldap.ca.example/", "8.8.8.8")
    assert not allows(named, "http://leaf.example/", "8.8.8.8")
    assert not allows(named, "http://10.0.0.7/root.crl")  # private, and no administrator wrote it down
    assert not allows(guard_of(TrustSet(name="t", anchors=(ROOT.der,))), "http://ocsp.ca.example/", "8.8.8.8")


def test_guard_of_a_certificate_that_cannot_be_parsed_allows_nothing() -> None:
    assert not allows(
        guard_of(TrustSet(name="t", anchors=(b"\x30\x03abc",))), "http://ocsp.ca.example/", "8.8.8.8"
    )
