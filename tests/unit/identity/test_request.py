"""Names in their one form, and the request that carries them."""

from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.vocabulary import Usage
from cftpki_ext.identity.issuance.request import make_request, normalise_dns, normalise_names
from tests.support import pki


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MFT.Corp.Example.", "mft.corp.example"),
        ("*.Corp.Example", "*.corp.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        (" host ", "host"),
        ("_acme.example", "_acme.example"),
    ],
)
def test_dns_name_is_normalised(text, expected):
    assert expected == normalise_dns(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        "-a.example",
        "a-.example",
        "a b.example",
        "a*.example",
        "*",
        "x" * 64,
        "a." * 130 + "b",
        "a/b",
    ],
)
def test_what_is_no_host_name_is_refused(text):
    with pytest.raises(InputError, match="no host name"):
        normalise_dns(text)


@given(st.text(max_size=80))
def test_dns_name_is_either_refused_or_stays_as_it_is(text):
    try:
        name = normalise_dns(text)
    except InputError:
        return
    assert name == normalise_dns(name)
    assert name.isascii()


def test_names_are_parted_into_hosts_and_addresses_each_once():
    names = normalise_names(
        ["B.example", "10.1.2.3", "a.example", "b.example.", "[2001:DB8::1]", "2001:db8:0::1"]
    )
    assert ("b.example", "a.example") == names.dns
    assert (ip_address("10.1.2.3"), ip_address("2001:db8::1")) == names.addresses
    assert "b.example" == names.common_name


def test_common_name_is_left_out_where_no_name_fits_in_it():
    assert normalise_names([f"{'a' * 60}.{'b' * 10}.example"]).common_name is None
    assert normalise_names(["10.1.2.3"]).common_name is None


@pytest.mark.parametrize(
    ("texts", "common_name"), [([], None), (["a"] * 3, "x" * 65), (["a"], ""), (["a"], "a\nb")]
)
def test_names_that_no_certificate_can_carry_are_refused(texts, common_name):
    with pytest.raises(InputError):
        normalise_names(texts, common_name=common_name)


def test_too_many_names_are_refused():
    with pytest.raises(InputError, match="101 names"):
        normalise_names(f"n{number}.example" for number in range(101))


def test_request_carries_names_and_usages_and_is_signed():
    names = normalise_names(["mft.corp.example", "10.1.2.3"])
    request = x509.load_der_x509_csr(make_request(pki.key("ec", "request"), names, frozenset(Usage)))
    assert request.is_signature_valid
    assert "CN=mft.corp.example" == request.subject.rfc4514_string()
    alternatives = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert ["mft.corp.example"] == alternatives.value.get_values_for_type(x509.DNSName)
    assert [ip_address("10.1.2.3")] == alternatives.value.get_values_for_type(x509.IPAddress)
    assert not alternatives.critical
    usages = request.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} == set(usages)


def test_request_without_subject_has_critical_names():
    request = x509.load_der_x509_csr(
        make_request(pki.key("ec", "request"), normalise_names(["10.1.2.3"]), frozenset())
    )
    assert request.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
