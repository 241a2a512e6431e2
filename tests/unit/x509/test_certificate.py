"""
Certificates: every rule of the profile that the parse enforces, with the certificate that just keeps it.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cftpki_ext.core.verdict import Reason
from cftpki_ext.core.vocabulary import Form, Leniency
from cftpki_ext.x509 import MalformedCertificateError, der, parse_certificate
from cftpki_ext.x509.extensions import KeyUsage
from cftpki_ext.x509.general_name import GeneralName
from tests.support.pki import (
    NOW,
    Entity,
    integer,
    issue,
    key_usage,
    make_root,
    name,
    oid,
    raw_extension,
    rebuild,
    reserial,
    resign,
    tbs_fields,
    tbs_of,
    with_field,
)

ROOT = make_root("Root")


def leaf(**options: object) -> Entity:
    return issue(ROOT, "leaf", **options)


LEAF = leaf(san=["dns:a.example"])


def refusal(encoded: bytes, *compat: Leniency) -> tuple[Reason, str]:
    with pytest.raises(MalformedCertificateError) as caught:
        parse_certificate(encoded, compat=frozenset(compat), form=Form.STRICT)
    assert caught.value.fault.depth is None
    return caught.value.fault.reason, caught.value.fault.rule


def signed_with(index: int, value: bytes, base: Entity = LEAF) -> bytes:
    return with_field(base.der, index, value, ROOT.key)


def with_raw(dotted: str, value: bytes, *, critical: bool = False, **options: object) -> bytes:
    return leaf(extensions=[(raw_extension(dotted, value), critical)], **options).der


def test_certificate_gives_what_was_put_in():
    entity = leaf(
        serial=0x0ABC,
        san=[
            "dns:a.example",
            "ip:192.0.2.1",
            "email:u@example.org",
            "uri:http://h/x",
            "dir:CN=d",
            "rid:1.2.3",
        ],
        eku=["clientAuth", "serverAuth"],
        crl_urls=["http://c/1"],
        ocsp_urls=["http://o/"],
        issuer_urls=["http://i/"],
        must_staple=True,
        nocheck=True,
    )
    found = parse_certificate(entity.der)
    assert (3, 0x0ABC, "0abc") == (found.version, found.serial, found.serial_hex)
    assert ("CN=leaf", "CN=Root") == (found.subject.text, found.issuer.text)
    assert (entity.certificate.not_valid_before_utc, entity.certificate.not_valid_after_utc) == (
        found.not_before,
        found.not_after,
    )
    assert frozenset({KeyUsage.DIGITAL_SIGNATURE}) == found.key_usage
    assert frozenset({"1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"}) == found.extended_key_usage
    assert (GeneralName("dns", "a.example"), GeneralName("ip", b"\xc0\x00\x02\x01")) == (
        found.subject_alt_names[:2]
    )
    assert (("http://o/",), ("http://i/",)) == (found.ocsp_urls, found.ca_issuer_urls)
    assert (GeneralName("uri", "http://c/1"),) == found.distribution_points[0].full_names
    assert (frozenset({5}), True) == (found.tls_features, found.ocsp_nocheck)
    assert parse_certificate(ROOT.der).subject_key_id == found.authority_key_id
    assert memoryview(tbs_of(entity.der)) == found.signed.tbs
    assert entity.certificate.fingerprint(SHA256()) == found.digest


def test_certificates_are_equal_only_by_whole_bytes():
    one, other = leaf(serial=7), leaf(serial=7)
    assert parse_certificate(one.der) == parse_certificate(bytes(bytearray(one.der)))
    assert parse_certificate(one.der) != parse_certificate(other.der)
    assert one.der != parse_certificate(one.der)


@pytest.mark.parametrize(
    ("content", "leniency"),
    [
        (b"\xff", Leniency.NEGATIVE_SERIAL),
        (b"\x00", Leniency.ZERO_SERIAL),
        (b"\x01" * 21, Leniency.LONG_SERIAL),
        (b"\x00\xff" + b"\x01" * 19, Leniency.LONG_SERIAL),
    ],
)
def test_serial_outside_the_profile_is_refused_unless_compat_names_it(content, leniency):
    bent = reserial(LEAF, content, ROOT.key)
    assert (Reason.MALFORMED, "RFC 5280 4.1.2.2") == refusal(bent)
    assert (Reason.MALFORMED, "RFC 5280 4.1.2.2") == refusal(bent, *(set(Leniency) - {leniency}))
    found = parse_certificate(bent, compat=frozenset((leniency,)), form=Form.STRICT)
    assert int.from_bytes(content, "big", signed=True) == found.serial


def test_serial_of_20_octets_is_accepted_and_a_padded_one_refused():
    assert 2**159 - 1 == parse_certificate(reserial(LEAF, b"\x7f" + b"\xff" * 19, ROOT.key)).serial
    assert Reason.MALFORMED == refusal(reserial(LEAF, b"\x00\x01", ROOT.key))[0]


def test_trailing_byte_is_refused():
    parse_certificate(LEAF.der)
    assert Reason.MALFORMED == refusal(LEAF.der + b"\x00")[0]


def test_certificate_above_the_bound_is_refused_unread():
    assert (Reason.MALFORMED, "limits.certificate_bytes") == refusal(bytes(32 * 1024 + 1))


def test_inner_algorithm_unlike_outer_is_refused():
    inner = der.encode(der.SEQUENCE, oid("1.2.840.10045.4.3.3"))
    assert (Reason.MALFORMED, "RFC 5280 4.1.1.2") == refusal(signed_with(2, inner))


def test_algorithm_identifier_above_the_bound_is_refused_unread():
    long = der.encode(der.SEQUENCE, oid("1.2.840.10045.4.3.2"), der.encode(der.OCTET_STRING, bytes(300)))
    parts = der.children(LEAF.der, der.whole(LEAF.der))
    bent = der.encode(der.SEQUENCE, tbs_of(LEAF.der), long, der.encoded(LEAF.der, parts[2]))
    assert (Reason.MALFORMED, "RFC 5280 4.1.1.2") == refusal(bent)


def test_ecdsa_algorithm_with_null_parameters_is_refused():
    algorithm = der.encode(der.SEQUENCE, oid("1.2.840.10045.4.3.2"), b"\x05\x00")
    fields = tbs_fields(LEAF.der)
    fields[2] = algorithm
    tbs = der.encode(der.SEQUENCE, *fields)
    parts = der.children(LEAF.der, der.whole(LEAF.der))
    bent = der.encode(der.SEQUENCE, tbs, algorithm, der.encoded(LEAF.der, parts[2]))
    assert (Reason.MALFORMED, "RFC 5758 3.2") == refusal(bent)


def test_signature_with_unused_bits_is_refused():
    parts = der.children(LEAF.der, der.whole(LEAF.der))
    bent = der.encode(
        der.SEQUENCE, *(der.encoded(LEAF.der, p) for p in parts[:2]), der.encode(der.BIT_STRING, b"\x01\x00")
    )
    assert (Reason.MALFORMED, "RFC 5280 4.1.1.3") == refusal(bent)


@pytest.mark.parametrize("number", [0, 1, 3, -1])
def test_version_that_may_not_be_written_is_refused(number):
    assert Reason.MALFORMED == refusal(signed_with(0, der.encode(0xA0, integer(number))))[0]


def test_version_1_with_extensions_is_refused_and_without_any_accepted():
    fields = tbs_fields(LEAF.der)[1:]
    assert (Reason.MALFORMED, "RFC 5280 4.1.2.1") == refusal(rebuild(LEAF.der, fields, ROOT.key))
    assert 1 == parse_certificate(rebuild(LEAF.der, fields[:6], ROOT.key)).version


def test_unique_identifier_in_version_1_is_refused_and_in_version_3_accepted():
    fields = tbs_fields(LEAF.der)
    unique = der.encode(0x81, b"\x00\x01")
    assert (Reason.MALFORMED, "RFC 5280 4.1.2.1") == refusal(
        rebuild(LEAF.der, [*fields[1:7], unique], ROOT.key)
    )
    assert 3 == parse_certificate(rebuild(LEAF.der, [*fields[:7], unique, fields[7]], ROOT.key)).version


def test_empty_issuer_is_refused():
    assert (Reason.MALFORMED, "RFC 5280 4.1.2.4") == refusal(signed_with(3, b"\x30\x00"))


def test_validity_that_ends_before_it_begins_is_refused():
    swapped = der.encode(der.SEQUENCE, b"\x17\x0d300101000000Z", b"\x17\x0d290101000000Z")
    assert (Reason.MALFORMED, "RFC 5280 4.1.2.5") == refusal(signed_with(4, swapped))


def test_time_without_seconds_is_refused():
    short = der.encode(der.SEQUENCE, b"\x17\x0b2901010000Z", b"\x17\x0d300101000000Z")
    assert (Reason.MALFORMED, "RFC 5280 4.1.2.5") == refusal(signed_with(4, short))


def test_empty_subject_needs_a_critical_alternative_name():
    critical = issue(ROOT, "", san=["dns:a.example"], san_critical=True)
    assert () == parse_certificate(critical.der).subject.rdns
    assert (Reason.MALFORMED, "RFC 5280 4.1.2.6") == refusal(issue(ROOT, "", san=["dns:a.example"]).der)
    assert (Reason.MALFORMED, "RFC 5280 4.1.2.6") == refusal(issue(ROOT, "").der)


def test_ca_with_empty_subject_is_refused():
    ca = issue(ROOT, "", ca=True, san=["dns:a.example"], san_critical=True)
    assert (Reason.MALFORMED, "RFC 5280 4.1.2.6") == refusal(ca.der)


def test_extension_twice_is_refused():
    fields = tbs_fields(LEAF.der)
    listed = der.whole(fields[7], 0xA3)
    inner = der.children(fields[7], listed)[0]
    items = [der.encoded(fields[7], part) for part in der.children(fields[7], inner)]
    doubled = der.encode(0xA3, der.encode(der.SEQUENCE, *items, items[0]))
    assert (Reason.MALFORMED, "RFC 5280 4.2") == refusal(signed_with(7, doubled))


def test_criticality_written_out_as_false_is_refused():
    extension = der.encode(der.SEQUENCE, oid("1.2.3"), b"\x01\x01\x00", b"\x04\x00")
    bent = signed_with(7, der.encode(0xA3, der.encode(der.SEQUENCE, extension)))
    assert (Reason.MALFORMED, "RFC 5280 4.2") == refusal(bent)


def test_empty_list_of_extensions_is_refused():
    assert Reason.MALFORMED == refusal(signed_with(7, der.encode(0xA3, b"\x30\x00")))[0]


def test_key_cert_sign_without_ca_is_refused():
    assert (Reason.BASIC_CONSTRAINTS, "RFC 5280 4.2.1.9") == refusal(leaf(usage=["keyCertSign"]).der)
    assert parse_certificate(issue(ROOT, "ca", ca=True).der).is_ca


def test_path_length_without_key_cert_sign_is_refused():
    bent = issue(ROOT, "ca", ca=True, path_length=0, usage=["cRLSign"]).der
    assert (Reason.BASIC_CONSTRAINTS, "RFC 5280 4.2.1.9") == refusal(bent)


def test_name_constraints_in_a_leaf_are_refused():
    constraints = x509.NameConstraints([x509.DNSName("a.example")], None)
    bent = leaf(extensions=[(constraints, True)]).der
    assert (Reason.MALFORMED, "RFC 5280 4.2.1.10") == refusal(bent)


@pytest.mark.parametrize("dotted", ["2.5.29.35", "2.5.29.14"])
def test_key_identifier_that_is_critical_is_refused(dotted):
    value = b"\x30\x03\x80\x01a" if dotted == "2.5.29.35" else b"\x04\x01a"
    parse_certificate(with_raw(dotted, value, key_ids=False))
    assert (Reason.MALFORMED, "RFC 5280 4.2") == refusal(
        with_raw(dotted, value, critical=True, key_ids=False)
    )


SUBTREE_DNS = der.encode(der.SEQUENCE, der.encode(0x82, b"a.example"))


@pytest.mark.parametrize(
    ("dotted", "value", "rule"),
    [
        ("2.5.29.19", b"\x30\x03\x01\x01\x00", "RFC 5280 4.2.1.9"),  # cA FALSE written out
        ("2.5.29.19", b"\x30\x03\x02\x01\x00", "RFC 5280 4.2.1.9"),  # path length without CA
        ("2.5.29.19", b"\x30\x06\x01\x01\xff\x02\x01\xff", "RFC 5280 4.2.1.9"),  # negative
        ("2.5.29.19", b"\x30\x06\x02\x01\x00\x01\x01\xff", "RFC 5280 4.2.1.9"),  # order
        ("2.5.29.19", b"\x30\x00\x00", "RFC 5280 4.2.1.9"),
        ("2.5.29.37", b"\x30\x00", "RFC 5280 4.2.1.12"),
        ("2.5.29.17", b"\x30\x00", "RFC 5280 4.2.1.6"),
        ("2.5.29.17", b"\x30\x02\x82\x00", "RFC 5280 4.2.1.6"),
        ("2.5.29.17", b"\x30\x05\x82\x03a\x00b", "RFC 5280 4.2.1.6"),
        ("2.5.29.17", b"\x30\x05\x82\x03a b", "RFC 5280 4.2.1.6"),
        ("2.5.29.17", b"\x30\x04\x82\x02\xc3\xa9", "RFC 5280 4.2.1.6"),
        ("2.5.29.17", b"\x30\x05\x87\x03abc", "RFC 5280 4.2.1.6"),
        ("2.5.29.17", b"\x30\x02\x05\x00", "RFC 5280 4.2.1.6"),
        ("2.5.29.32", b"\x30\x00", "RFC 5280 4.2.1.4"),
        ("2.5.29.32", b"\x30\x08" + b"\x30\x02\x06\x00" * 2, "X.690 (DER)"),
        ("2.5.29.32", b"\x30\x0c" + b"\x30\x04\x06\x02\x2a\x03" * 2, "RFC 5280 4.2.1.4"),
        ("2.5.29.33", b"\x30\x00", "RFC 5280 4.2.1.5"),
        ("2.5.29.36", b"\x30\x00", "RFC 5280 4.2.1.11"),
        ("2.5.29.36", b"\x30\x03\x80\x01\xff", "RFC 5280 4.2.1.11"),
        ("2.5.29.54", b"\x02\x01\xff", "RFC 5280 4.2.1.14"),
        ("2.5.29.31", b"\x30\x00", "RFC 5280 4.2.1.13"),
        ("2.5.29.31", b"\x30\x02\x30\x00", "RFC 5280 4.2.1.13"),
        ("2.5.29.31", b"\x30\x06\x30\x04\x81\x02\x06\x40", "RFC 5280 4.2.1.13"),  # reasons alone
        ("1.3.6.1.5.5.7.1.1", b"\x30\x00", "RFC 5280 4.2.2.1"),
        ("1.3.6.1.5.5.7.1.1", b"\x04\x00", "RFC 5280 4.2.2.1"),
        ("1.3.6.1.5.5.7.48.1.5", b"", "RFC 6960 4.2.2.2.1"),
        ("1.3.6.1.5.5.7.1.24", b"\x04\x00", "RFC 7633 4"),
    ],
)
def test_malformed_extension_is_refused(dotted, value, rule):
    assert (Reason.MALFORMED, rule) == refusal(with_raw(dotted, value, key_ids=False, usage=[]))


def test_key_usage_with_trailing_zero_bits_is_refused_unless_compat_names_it():
    bent = with_raw("2.5.29.15", b"\x03\x03\x07\x80\x00", usage=[])
    assert (Reason.MALFORMED, "RFC 5280 4.2.1.3") == refusal(bent)
    lenient = parse_certificate(bent, compat=frozenset((Leniency.KEY_USAGE_NOT_MINIMAL,)), form=Form.STRICT)
    assert frozenset({KeyUsage.DIGITAL_SIGNATURE}) == lenient.key_usage


@pytest.mark.parametrize(
    "value", [b"\x03\x01\x00", b"\x03\x02\x00\x80", b"\x03\x03\x06\x80\x40", b"\x04\x00"]
)
def test_malformed_key_usage_is_refused(value):
    assert (Reason.MALFORMED, "RFC 5280 4.2.1.3") == refusal(with_raw("2.5.29.15", value, usage=[]))


@pytest.mark.parametrize(
    "value",
    [
        b"\x30\x00",
        der.encode(der.SEQUENCE, der.encode(0xA0)),
        der.encode(der.SEQUENCE, der.encode(0xA0, der.encode(der.SEQUENCE, b"\x82\x01a", b"\x80\x01\x01"))),
        der.encode(der.SEQUENCE, der.encode(0xA0, der.encode(der.SEQUENCE, b"\x82\x01a", b"\x81\x01\x01"))),
        der.encode(der.SEQUENCE, der.encode(0xA0, der.encode(der.SEQUENCE, b"\x82\x09.a.exampl"))),
        der.encode(der.SEQUENCE, der.encode(0xA0, der.encode(der.SEQUENCE, b"\x82\x05*.a.b"))),
        der.encode(der.SEQUENCE, der.encode(0xA0, der.encode(der.SEQUENCE, b"\x81\x05a@b@c"))),
        der.encode(der.SEQUENCE, der.encode(0xA0, der.encode(der.SEQUENCE, b"\x87\x04\x7f\x00\x00\x01"))),
        der.encode(
            der.SEQUENCE,
            der.encode(0xA0, der.encode(der.SEQUENCE, der.encode(0x87, b"\x0a\0\0\0\xff\x00\xff\x00"))),
        ),
        der.encode(der.SEQUENCE, der.encode(0xA1, SUBTREE_DNS), der.encode(0xA0, SUBTREE_DNS)),
    ],
)
def test_malformed_name_constraints_are_refused(value):
    bent = issue(ROOT, "ca", ca=True, extensions=[(raw_extension("2.5.29.30", value), True)])
    assert (Reason.MALFORMED, "RFC 5280 4.2.1.10") == refusal(bent.der)


def test_dns_constraint_with_leading_dot_is_refused_unless_compat_names_it():
    value = der.encode(der.SEQUENCE, der.encode(0xA0, der.encode(der.SEQUENCE, b"\x82\x04.a.b")))
    bent = issue(ROOT, "ca", ca=True, extensions=[(raw_extension("2.5.29.30", value), True)]).der
    assert (Reason.MALFORMED, "RFC 5280 4.2.1.10") == refusal(bent)
    lenient = parse_certificate(bent, compat=frozenset((Leniency.NAME_CONSTRAINT_LEADING_DOT,)))
    assert lenient.name_constraints is not None
    assert (GeneralName("dns", ".a.b"),) == lenient.name_constraints.permitted


def test_well_formed_name_constraints_are_read():
    value = der.encode(der.SEQUENCE, der.encode(0xA0, SUBTREE_DNS), der.encode(0xA1, SUBTREE_DNS))
    ca = issue(ROOT, "ca", ca=True, extensions=[(raw_extension("2.5.29.30", value), True)])
    found = parse_certificate(ca.der).name_constraints
    assert found is not None
    assert (GeneralName("dns", "a.example"),) == found.permitted == found.excluded


def test_key_that_is_none_of_its_algorithm_is_refused():
    fields = tbs_fields(LEAF.der)
    bent = bytearray(fields[6])
    bent[-1] ^= 1  # a point that is not on the curve
    assert (Reason.MALFORMED, "RFC 5280 4.1.2.7") == refusal(signed_with(6, bytes(bent)))


def test_pss_signature_and_key_usage_round_trip():
    root = make_root("pss", kind="rsa", rsa_padding=padding.PSS(padding.MGF1(SHA256()), 32))
    assert "1.2.840.113549.1.1.10" == parse_certificate(root.der).signed.algorithm.oid
    both = leaf(usage=[], extensions=[(key_usage("digitalSignature", "decipherOnly", "keyAgreement"), True)])
    assert KeyUsage.DECIPHER_ONLY in (parse_certificate(both.der).key_usage or ())


RICH = [
    leaf(
        san=["dns:a.example", "ip:192.0.2.1", "dir:CN=d"],
        eku=["clientAuth"],
        crl_urls=["http://c/"],
        ocsp_urls=["http://o/"],
    ).der,
    issue(
        ROOT,
        name("CN=ca,O=x,C=DE"),
        ca=True,
        path_length=1,
        kind="ed25519",
        extensions=[
            (x509.NameConstraints([x509.DNSName("a.example")], None), True),
            (x509.PolicyConstraints(0, 1), True),
            (x509.InhibitAnyPolicy(0), True),
        ],
    ).der,
]


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.sampled_from(RICH),
    st.lists(
        st.tuples(st.integers(min_value=0, max_value=2000), st.integers(0, 255)), min_size=1, max_size=4
    ),
    st.integers(min_value=0, max_value=2000),
    st.sampled_from([frozenset(), frozenset(Leniency)]),
    st.sampled_from(Form),
)
def test_mutated_certificate_is_parsed_or_refused_and_nothing_else(encoded, changes, cut, compat, form):
    bent = bytearray(encoded)
    for position, octet in changes:
        bent[position % len(bent)] = octet
    raw = bytes(bent) if cut >= len(bent) else bytes(bent[: len(bent) - cut])
    try:
        found = parse_certificate(raw, compat=compat, form=form)
    except MalformedCertificateError:
        return
    assert raw == found.der


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_as_malformed(data):
    with pytest.raises(MalformedCertificateError):
        parse_certificate(data, form=Form.COMMON)


@pytest.mark.parametrize("cut", range(1, 60))
def test_truncated_certificate_is_refused(cut):
    assert Reason.MALFORMED == refusal(LEAF.der[:-cut])[0]


def test_resigned_copy_with_the_same_fields_is_accepted():
    """
    The negative twin of everything above: the bending machinery itself breaks nothing.
    """
    again = parse_certificate(resign(LEAF.der, tbs_of(LEAF.der), ROOT.key))
    assert memoryview(tbs_of(LEAF.der)) == again.signed.tbs
    assert NOW - timedelta(days=1) == again.not_before


def rsa_key_info(modulus: int, exponent: int = 65537) -> bytes:
    key = der.encode(der.SEQUENCE, integer(modulus), integer(exponent))
    kind = der.encode(der.SEQUENCE, oid("1.2.840.113549.1.1.1"), b"\x05\x00")
    return der.encode(der.SEQUENCE, kind, der.encode(der.BIT_STRING, b"\0", key))


@pytest.mark.parametrize("exponent", [1, 2, 65536])
def test_rsa_key_with_an_exponent_that_anybody_can_undo_is_no_key(exponent):
    odd = (1 << 2047) + 1

    assert refusal(signed_with(6, rsa_key_info(odd, exponent))) == (Reason.MALFORMED, "RFC 5280 4.1.2.7")
    assert parse_certificate(signed_with(6, rsa_key_info(odd, 3))).key.bits == 2048


def test_rsa_key_with_even_modulus_is_no_key():
    even = (1 << 2047) + 2

    assert refusal(signed_with(6, rsa_key_info(even))) == (Reason.MALFORMED, "RFC 5280 4.1.2.7")
    assert parse_certificate(signed_with(6, rsa_key_info(even + 1))).key.bits == 2048
