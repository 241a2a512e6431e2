"""
Distinguished names: compared as RFC 5280 7.1 asks, shown so that a log cannot be forged.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError
from cftpki_ext.x509.name import Name, name_with, parse_name
from tests.support.pki import name, oid

CN = "2.5.4.3"
O = "2.5.4.10"  # noqa: E741  # the attribute's own name
UTF8, PRINTABLE, BMP = der.UTF8_STRING, der.PRINTABLE_STRING, der.BMP_STRING


def of(*pairs: tuple[str, str, int]) -> Name:
    rdns = []
    for dotted, text, tag in pairs:
        value = der.encode(tag, text.encode("utf-16-be" if tag == BMP else "utf-8"))
        rdns.append(der.encode(der.SET, der.encode(der.SEQUENCE, oid(dotted), value)))
    return parse_name(der.encode(der.SEQUENCE, *rdns))


def cn(text: str, tag: int = UTF8) -> Name:
    return of((CN, text, tag))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (cn("Good CA"), cn("good ca", PRINTABLE)),
        (cn("  Good   CA "), cn("Good CA")),
        (cn("Straße"), cn("STRASSE")),
        (cn("ﬁne"), cn("fine")),
        (cn("Good CA"), cn("Good CA", BMP)),
        (cn("Caf\u00e9"), cn("Cafe\u0301")),
        (cn("Good\u00adCA"), cn("GoodCA")),
    ],
)
def test_names_that_differ_only_in_form_are_the_same(left, right):
    assert left.key == right.key


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (cn("Good CA"), cn("Good CB")),
        (cn("GoodCA"), cn("Good CA")),
        (cn("x"), of((O, "x", UTF8))),
        (name("CN=a,O=b"), name("O=b,CN=a")),
        (name("CN=a+O=b"), name("CN=a,O=b")),
        (name("CN=a"), name("CN=a,CN=a")),
    ],
)
def test_names_that_differ_are_not_the_same(left, right):
    first, second = (n if isinstance(n, Name) else parse_name(n.public_bytes()) for n in (left, right))
    assert first.key != second.key


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4))
def test_separators_in_values_cannot_make_two_names_one(values):
    """
    One value that holds another name's joined form never equals that name.
    """
    many = of(*((CN, v, UTF8) for v in values))
    joined = cn(many.key)
    assert len(values) == len(many.rdns)
    assert len(joined.rdns) == 1
    assert joined.key != many.key


def test_text_is_rfc4514_with_control_characters_escaped():
    assert "CN=a\\,b,O=x" == of((O, "x", UTF8), (CN, "a,b", UTF8)).text
    assert r"CN=a\1B[31m\0A\E2\80\AEb" == cn("a\x1b[31m\n\u202eb").text
    assert r"CN=\#a\+b\ " == cn("#a+b ").text


def test_value_that_is_no_string_is_shown_and_compared_as_hex():
    attribute = der.encode(der.SEQUENCE, oid("1.2.3"), b"\x02\x01\x05")
    found = parse_name(der.encode(der.SEQUENCE, der.encode(der.SET, attribute)))
    assert "1.2.3=#020105" == found.text
    assert () == found.attributes


@pytest.mark.parametrize(
    "encoded",
    [
        b"\x31\x00",
        b"\x30\x02\x31\x00",  # empty RDN
        der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, b"\x05\x00")),
        der.encode(der.SEQUENCE, der.encode(der.SET, der.encode(der.SEQUENCE, oid("2.5.4.3")))),
        der.encode(der.SEQUENCE, der.encode(der.SET, der.encode(der.SEQUENCE, oid("2.5.4.3"), b"\x0c\x00"))),
        der.encode(
            der.SEQUENCE, der.encode(der.SET, der.encode(der.SEQUENCE, oid("2.5.4.3"), b"\x0c\x01\xff"))
        ),
        der.encode(der.SEQUENCE, der.encode(der.SET, der.encode(der.SEQUENCE, oid("2.5.4.3"), b"\x1e\x01a"))),
        parse_name(name("x").public_bytes()).der + b"\x00",
    ],
)
def test_malformed_name_is_refused(encoded):
    with pytest.raises(DerError):
        parse_name(encoded)


def test_name_above_the_bound_is_refused_unread():
    assert cn("a" * 8000).key
    with pytest.raises(DerError, match="at most 8192 are read"):
        cn("a" * 8192)


def test_relative_name_is_joined_to_issuer():
    issuer = parse_name(name("O=x").public_bytes())
    relative = der.encode(der.SEQUENCE, oid("2.5.4.3"), b"\x0c\x01a")
    assert parse_name(name("CN=a,O=x").public_bytes()).key == name_with(issuer, relative).key
